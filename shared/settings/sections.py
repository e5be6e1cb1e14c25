"""The sections of the settings file, each a struct with the type, the default and the meaning of its keys."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, inspect

from schemas.common import Name

Mode = Literal["single", "sentinel", "cluster"]
URL_SCHEMES: Final[Mapping[str, Mode]] = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
"""The mode that an address is for, by its scheme."""
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Redis(Struct, frozen=True, forbid_unknown_fields=True):
    """The Redis servers of the log."""

    mode: Annotated[
        Mode,
        Meta(description="`single`: one server. `sentinel`: a master under Sentinels. `cluster`: several masters."),
    ] = "single"
    url: Annotated[
        str,
        Meta(
            description="One server: redis://, rediss://, unix://. Sentinels: redis+sentinel://host:port,.../SERVICE. "
            "Nodes of a cluster to ask first: redis+cluster://host:port,... A user name is allowed, a password is not."
        ),
    ] = "redis://127.0.0.1:6399/0"
    ca: Annotated[
        str, Meta(description="Certificate (PEM) that signed the server's, for TLS. Empty: the system's.")
    ] = ""
    sentinel_user: Annotated[str, Meta(description="User name at the Sentinels. Empty: none.")] = ""
    sentinel_tls: Annotated[
        Literal["same", "yes", "no"],
        Meta(description="TLS to the Sentinels. `same`: if `url` is one of TLS (rediss+sentinel://)."),
    ] = "same"
    sentinel_ca: Annotated[
        str, Meta(description="Certificate (PEM) that signed those of the Sentinels. Empty: `ca`.")
    ] = ""
    ephemeral: Annotated[
        bool, Meta(description="Accept a server that may lose or evict what was written. For tests and trials.")
    ] = False


class Installation(Struct, frozen=True, forbid_unknown_fields=True):
    """The number of partitions, and the state folder."""

    partitions: Annotated[
        int, Meta(ge=1, le=1024, description="Partitions of the symbol streams; fixed by the first control entry.")
    ] = 1
    state: Annotated[
        str, Meta(min_length=1, description="Folder for data, artifacts, process ids and logs of this machine.")
    ] = "var"


class Features(Struct, frozen=True, forbid_unknown_fields=True):
    """The feature sets that the feature-builder computes."""

    sets: Annotated[
        tuple[Name, ...], Meta(min_length=1, description="Names of the feature sets to compute, each for every bar.")
    ] = ("core-28",)
    bridge: Annotated[
        int,
        Meta(
            ge=0, le=1000, description="Longest gap (bars) filled with flat bars. After a longer one, state restarts."
        ),
    ] = 3


class Feed(Struct, frozen=True, forbid_unknown_fields=True):
    """The source of bars, and the speed of the feed."""

    path: Annotated[
        str,
        Meta(description="File or folder of bars, or `NAME://...` of an installed feed. Empty: the synthetic market."),
    ] = ""
    inputs: Annotated[
        str,
        Meta(description="File or folder of inputs for the bars of `path`: funding rates, open interest and so on."),
    ] = ""
    symbol: Annotated[
        str, Meta(max_length=32, description="Symbol of a file that does not name one. Empty: from its name.")
    ] = ""
    interval: Annotated[
        str,
        Meta(pattern=r"^$|^[1-9][0-9]*(s|m|h|d|w)$", description="Bar length, such as 1m or 4h. Empty: from the bars."),
    ] = ""
    speed: Annotated[
        float,
        Meta(ge=0.0, le=1e9, description="Bars per second over all symbols. 0: as fast as the pipeline takes them."),
    ] = 0.0
    window: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Most bars the feed may be ahead of the slowest reader.")
    ] = 2000


class ExchangeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The exchanges of live bars. With a market in `markets` the feed reads them in place of `feed.path`."""

    markets: Annotated[
        tuple[str, ...],
        Meta(description='What to read: exchange (as ccxt names it), market, intervals, as "binance BTC/USDT 1m 15m".'),
    ] = ()
    history: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Bars of a new series that are read from before the first start.")
    ] = 1000
    grace_ms: Annotated[
        int,
        Meta(ge=0, le=60_000, description="After a close, how long the stream may take before REST is asked (ms)."),
    ] = 500
    live_ms: Annotated[
        int,
        Meta(ge=1000, le=600_000, description="A bar that comes later than this after its close is not live (ms)."),
    ] = 10_000
    clock_ms: Annotated[
        int,
        Meta(
            ge=100, le=60_000, description="If an exchange's clock is further from the server's, no bar is live (ms)."
        ),
    ] = 5000
    no_empty_bars: Annotated[
        tuple[str, ...],
        Meta(description="Exchanges that publish no bar for an interval without trades. Others publish an empty one."),
    ] = ("coinbase",)
    open_stamped: Annotated[
        tuple[str, ...],
        Meta(description="Further exchanges whose rows have the time at which their bar opened."),
    ] = ()
    end_stamped: Annotated[
        tuple[str, ...], Meta(description="Exchanges whose rows have the time at which their bar ended.")
    ] = ()
    local: Annotated[
        str,
        Meta(description="Address of a local exchange that is asked in place of all others, as http://127.0.0.1:8090."),
    ] = ""


class Models(Struct, frozen=True, forbid_unknown_fields=True):
    """The models for which this machine starts workers. Which of them vote is a matter of the stream ``control``."""

    names: Annotated[
        tuple[Name, ...], Meta(description="Models for each of which `conclave up` starts a worker process.")
    ] = ("xgboost", "lightgbm")


class Archive(Struct, frozen=True, forbid_unknown_fields=True):
    """The archive of sealed files."""

    path: Annotated[
        str,
        Meta(description="Folder of sealed files, or a URL. Empty: `archive` in the state folder."),
    ] = ""
    copy: Annotated[
        str,
        Meta(description="Second archive, as s3://bucket/prefix. Only entries that are in both are trimmed."),
    ] = ""
    every_s: Annotated[
        int, Meta(ge=1, le=86_400, description="Seconds between two rounds. At most this much is lost with a server.")
    ] = 3600


class TrainingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a training process on this machine, and the backend of sweeps."""

    memory_mb: Annotated[int, Meta(ge=256, description="Memory limit of a training process (MiB).")] = 6144
    free_gb: Annotated[
        float, Meta(ge=0.0, description="Free disk space that a training needs in the state folder to start (GiB).")
    ] = 5.0
    backend: Annotated[
        Literal["sequential", "loky", "dask", "ray"],
        Meta(description="Where `conclave train sweep` runs its trials: a backend of joblib."),
    ] = "loky"
    address: Annotated[
        str, Meta(description="Scheduler of the dask or ray backend, as tcp://10.0.0.5:8786. Empty: a local one.")
    ] = ""


class TelemetrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The destination of traces and metrics."""

    endpoint: Annotated[
        str,
        Meta(
            description="Base URL of an OTLP/HTTP collector, as http://127.0.0.1:4318. "
            "Empty: $OTEL_EXPORTER_OTLP_ENDPOINT; without either, nothing is exported."
        ),
    ] = ""
    sample: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Share of bars that are traced from the feed to the decision.")
    ] = 0.01
    service_prefix: Annotated[Name, Meta(description="Prefix of `service.name`, as in conclave.ensemble-voter.")] = (
        "conclave"
    )
    export_ms: Annotated[
        int, Meta(ge=100, le=3_600_000, description="Milliseconds between two exports of metrics.")
    ] = 10_000


class ObservatorySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The pages and the API that show the installation. They need the extra `observatory`, and change nothing until
    a person may sign in (`conclave observatory user add`)."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address that it listens at. Without people who sign in, everybody who reaches it can look: an "
            "address other than loopback is for a container, or for a proxy that asks for a sign-in.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="Port that it listens at. 0: `conclave up` does not start it.")
    ] = 8420
    names: Annotated[
        tuple[str, ...],
        Meta(
            description="Host names under which people reach it, besides `host` and those of loopback. A request for "
            "any other host is refused."
        ),
    ] = ()
    days: Annotated[
        int,
        Meta(
            ge=1,
            le=3_650,
            description="Days of bars, decisions and scores that it reads when it starts without a snapshot.",
        ),
    ] = 7
    session_hours: Annotated[
        int, Meta(ge=1, le=720, description="Hours after the last request at which a session ends.")
    ] = 12
    proxy: Annotated[
        str,
        Meta(
            description="IP address of a proxy that signs people in and names them in `proxy_header`. From any other "
            "address the header is ignored. Cookies are then for HTTPS only. Empty: no proxy."
        ),
    ] = ""
    proxy_header: Annotated[str, Meta(min_length=1, description="Header in which the proxy names the person.")] = (
        "X-Forwarded-User"
    )


class PhoneSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The bot for a phone. It needs the extra `phone`, and its token from `$CONCLAVE_PHONE_TOKEN` or
    `$CONCLAVE_PHONE_TOKEN_FILE`."""

    persons: Annotated[
        tuple[str, ...],
        Meta(
            description='Who may use the bot: chat id and actor, as "123456789 ada". The bot answers in private chats '
            "alone. Empty: `conclave up` does not start it."
        ),
    ] = ()
    keys: Annotated[
        str,
        Meta(
            description="Folder of the private keys that this server holds for these persons, each ACTOR.pem. Empty: "
            "`phone` in the state folder."
        ),
    ] = ""
    api: Annotated[
        str, Meta(description="Server of Telegram's bot protocol; http:// is for one on this machine alone.")
    ] = "https://api.telegram.org"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings. In the settings that ``load`` returns, paths are absolute."""

    redis: Redis = Redis()
    installation: Installation = Installation()
    features: Features = Features()
    feed: Feed = Feed()
    exchange: ExchangeSettings = ExchangeSettings()
    models: Models = Models()
    archive: Archive = Archive()
    training: TrainingSettings = TrainingSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    observatory: ObservatorySettings = ObservatorySettings()
    phone: PhoneSettings = PhoneSettings()


class Setting(NamedTuple):
    """One row of the reference page. ``default`` is written as in TOML."""

    section: str
    key: str
    default: str
    meaning: str


def address_of(observatory: ObservatorySettings) -> str:
    """Return the address of the observatory, for a browser."""
    host = f"[{observatory.host}]" if ":" in observatory.host else observatory.host
    return f"http://{host}:{observatory.port}/"


def persons_of(phone: PhoneSettings) -> dict[str, str]:
    """Return the actor of each chat id."""
    return {chat: actor for chat, _, actor in (person.partition(" ") for person in phone.persons)}


def describe() -> list[Setting]:
    """Return every setting, in the order of the structs, for ``docs/reference/settings.md``."""
    return [
        Setting(section, field.name, _toml(field.default), _meaning(kind, field.name))
        for section, kind in sections().items()
        for field in msgspec.structs.fields(kind)
    ]


def sections() -> dict[str, Any]:
    """Return the struct of each section."""
    return {field.name: field.type for field in msgspec.structs.fields(Settings)}


def _meaning(kind: Any, key: str) -> str:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    field = next(field.type for field in info.fields if field.name == key)
    extra = field.extra_json_schema if isinstance(field, inspect.Metadata) else None
    return str((extra or {}).get("description", ""))


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return msgspec.json.encode(value).decode()
