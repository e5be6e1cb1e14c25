"""Settings of one installation: addresses, paths and resources. One TOML file; unknown keys are refused.

No setting changes a vote: artifacts, weights, policies and halts are commands of the stream ``control``, and the
feature set and the gap policy are recorded in every vector. Two machines with different settings and the same control
stream reach the same decisions, or none.

Secrets are read from the environment only: ``CONCLAVE_REDIS_PASSWORD``, or ``CONCLAVE_REDIS_PASSWORD_FILE`` with the
path of a file; those of Sentinels from ``CONCLAVE_SENTINEL_PASSWORD`` or ``CONCLAVE_SENTINEL_PASSWORD_FILE``. A secret
in the settings file is refused. ``CONCLAVE_REDIS_USER`` is the Redis user of a process, where
several processes share a file. ``OTEL_EXPORTER_OTLP_ENDPOINT`` of OpenTelemetry is used if the file names no endpoint.
"""

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import SplitResult, quote, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Meta, Struct, ValidationError, inspect

from schemas.common import Name

FILE: Final = "conclave.toml"
VARIABLE: Final = "CONCLAVE_SETTINGS"
USER: Final = "CONCLAVE_REDIS_USER"
PASSWORD: Final = "CONCLAVE_REDIS_PASSWORD"  # noqa: S105  # a variable's name
SENTINEL_PASSWORD: Final = "CONCLAVE_SENTINEL_PASSWORD"  # noqa: S105  # a variable's name
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
PASSWORD_FILE: Final = "CONCLAVE_REDIS_PASSWORD_FILE"  # noqa: S105  # a variable's name
SECRET_WORDS: Final = ("password", "passwd", "secret", "token", "credential", "api_key", "apikey")
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


class SettingsError(ValueError):
    """Settings cannot be used. The message names the file, section and key, what was expected and what was found."""


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
    """The pages and the API that show the installation. They need the extra `observatory`, and change nothing."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address that it listens at. There is no sign-in: an address other than loopback is for a "
            "container, or for a proxy that asks for one.",
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


class Setting(NamedTuple):
    """One row of the reference page. ``default`` is written as in TOML."""

    section: str
    key: str
    default: str
    meaning: str


def find(path: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the absolute path of the settings file: ``path``, else ``$CONCLAVE_SETTINGS``, else ``./conclave.toml``,
    else None. Raises ``SettingsError`` if a named file does not exist."""
    named = path if path is not None else environ.get(VARIABLE) or None
    if named is None:
        here = Path(FILE).absolute()
        return here if here.is_file() else None
    chosen = Path(named).absolute()
    if not chosen.is_file():
        by = "the given path" if path is not None else f"${VARIABLE}"
        raise SettingsError(f"no settings file at {chosen} (named by {by}); create it or name another")
    return chosen


def load(path: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in the file of ``find``; the defaults if there is no file. Relative paths are relative to the
    folder of the file, or to the working directory without a file. Raises ``SettingsError``."""
    file = find(path, environ)
    if file is None:
        return _anchored(_with_endpoint(Settings(), environ), Path.cwd())
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: not a readable TOML file: {error}") from None
    _refuse_unknown(document, file)
    try:
        settings = msgspec.convert(document, Settings)
    except ValidationError as error:
        raise SettingsError(f"{file}: {_placed(error, document)}") from None
    settings = _with_endpoint(settings, environ)
    _refuse_values(settings, file)
    return _anchored(settings, file.parent)


def redis_url_with_password(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the server with the password from the environment and the path of the certificate, for a
    client. Do not print it. Raises ``SettingsError``."""
    redis, password = settings.redis, _password(environ, PASSWORD)
    options = {"ssl_ca_certs": redis.ca}
    if redis.mode == "sentinel":
        options |= {
            "sentinel_username": redis.sentinel_user,
            "sentinel_password": _password(environ, SENTINEL_PASSWORD),
            "sentinel_tls": "" if redis.sentinel_tls == "same" else redis.sentinel_tls,
            "sentinel_ca_certs": redis.sentinel_ca,
        }
    parts = urlsplit(redis.url)
    query = urlencode({name: value for name, value in options.items() if value})
    parts = parts._replace(query="&".join(filter(None, (parts.query, query))))
    if not password:
        return urlunsplit(parts) if query else redis.url
    user, _, place = parts.netloc.rpartition("@")
    user = quote(environ.get(USER, ""), safe="") or user
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))


def address_of(observatory: ObservatorySettings) -> str:
    """Return the address of the observatory, for a browser."""
    host = f"[{observatory.host}]" if ":" in observatory.host else observatory.host
    return f"http://{host}:{observatory.port}/"


def describe() -> list[Setting]:
    """Return every setting, in the order of the structs, for ``docs/reference/settings.md``."""
    return [
        Setting(section, field.name, _toml(field.default), _meaning(kind, field.name))
        for section, kind in _sections().items()
        for field in msgspec.structs.fields(kind)
    ]


def _with_endpoint(settings: Settings, environ: Mapping[str, str]) -> Settings:
    endpoint = settings.telemetry.endpoint or environ.get(ENDPOINT, "")
    telemetry = msgspec.structs.replace(settings.telemetry, endpoint=endpoint)
    return msgspec.structs.replace(settings, telemetry=telemetry)


def _sections() -> dict[str, Any]:
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


def _refuse_unknown(document: Mapping[str, Any], file: Path) -> None:
    sections = _sections()
    for section, values in document.items():
        if section not in sections:
            raise SettingsError(f"{file}: unknown section [{section}]{_nearest(section, list(sections))}")
        if not isinstance(values, dict):
            raise SettingsError(f"{file}: expected a section [{section}], found the value {values!r}")
        known = [field.name for field in msgspec.structs.fields(sections[section])]
        for key in values:
            _refuse_key(section, key, known, file)


def _refuse_key(section: str, key: str, known: list[str], file: Path) -> None:
    if key in known:
        return
    if any(word in key.lower() for word in SECRET_WORDS):
        raise SettingsError(
            f"{file}: {key!r} in [{section}] looks like a secret, and secrets are not kept in this file;"
            f" remove it and set ${PASSWORD} or ${PASSWORD_FILE}"
        )
    raise SettingsError(f"{file}: unknown key {key!r} in [{section}]{_nearest(key, known)}")


def _nearest(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"


def _placed(error: ValidationError, document: Mapping[str, Any]) -> str:
    """Rewrite ``Expected `int` <= 1024 - at `$.feed.x` `` with section and key, and add the value that was found."""
    what, _, where = str(error).partition(" - at `$.")
    section, _, key = where.rstrip("`").partition(".")
    found = document[section][key.partition("[")[0]]
    return f"{key} in [{section}]: {what[0].lower()}{what[1:]}, found {found!r}"


def _refuse_values(settings: Settings, file: Path) -> None:
    """Check what the types cannot express. Raises ``SettingsError``."""
    parts = _url(settings.redis.url, "url in [redis]", file)
    if parts.scheme not in URL_SCHEMES:
        raise SettingsError(
            f"{file}: url in [redis]: expected {'://, '.join(URL_SCHEMES)}://, found {parts.scheme or 'no scheme'!r}"
        )
    if parts.password is not None or "password=" in parts.query:
        raise SettingsError(
            f"{file}: url in [redis] holds a password; take it out and set ${PASSWORD} or ${PASSWORD_FILE}"
        )
    _refuse_mode(settings.redis, file)
    _refuse_address(settings.redis.url, file)
    if settings.redis.ca and not parts.scheme.startswith("rediss"):
        raise SettingsError(f"{file}: ca in [redis] is for a server that speaks TLS; url begins with {parts.scheme}://")
    endpoint = _url(settings.telemetry.endpoint, "endpoint in [telemetry]", file)
    if settings.telemetry.endpoint and (endpoint.scheme not in {"http", "https"} or not endpoint.hostname):
        raise SettingsError(f"{file}: endpoint in [telemetry]: expected http://host:port or https://host:port")
    if endpoint.password is not None:
        raise SettingsError(
            f"{file}: endpoint in [telemetry] holds a password; take it out and set $OTEL_EXPORTER_OTLP_HEADERS"
        )
    for section, key, names in (
        ("features", "sets", settings.features.sets),
        ("models", "names", settings.models.names),
    ):
        if len(set(names)) != len(names):
            raise SettingsError(f"{file}: {key} in [{section}]: a name is given twice: {', '.join(names)}")


def _url(text: str, name: str, file: Path) -> SplitResult:
    """Return the parts of an address. Raises ``SettingsError``, which shows nothing of a password."""
    try:
        parts = urlsplit(text)
        if "," not in parts.netloc:  # of several servers, each has its port
            _ = parts.port
    except ValueError as error:
        if "@" in text:  # a user or password with a slash ends the host too early
            raise SettingsError(
                f"{file}: {name}: what stands before @ is no user name. Write a / in it as %2F, and keep the password "
                f"out of this file: ${PASSWORD} or ${PASSWORD_FILE}"
            ) from None
        raise SettingsError(f"{file}: {name}: {text!r} is no address: {error}") from None
    return parts


def _refuse_address(url: str, file: Path) -> None:
    from shared.log.address import parse_address  # noqa: PLC0415  # imports a client

    try:
        parse_address(url)
    except ValueError as error:
        raise SettingsError(f"{file}: url in [redis]: {error}") from None


def _refuse_mode(redis: Redis, file: Path) -> None:
    """Check that the mode fits the address and the other settings of the section. Raises ``SettingsError``."""
    parts = urlsplit(redis.url)
    mode = URL_SCHEMES[parts.scheme]
    if mode != redis.mode:
        schemes = " or ".join(f"{scheme}://" for scheme, for_mode in URL_SCHEMES.items() if for_mode == redis.mode)
        what = {"single": "one server", "sentinel": "Sentinels", "cluster": "nodes of a cluster"}[mode]
        raise SettingsError(
            f"{file}: url in [redis] begins with {parts.scheme}://, which names {what}, and mode is "
            f'"{redis.mode}"; write mode = "{mode}", or a url that begins with {schemes}'
        )
    if redis.mode == "sentinel" and not parts.path.strip("/"):
        raise SettingsError(
            f"{file}: url in [redis] does not name the service that the Sentinels watch; write it after them, as "
            f"{parts.scheme}://host:port,host:port/SERVICE"
        )
    own = {"sentinel_user": redis.sentinel_user, "sentinel_ca": redis.sentinel_ca}
    given = [*filter(own.get, own), *(["sentinel_tls"] if redis.sentinel_tls != "same" else [])]
    if given and redis.mode != "sentinel":
        raise SettingsError(f'{file}: {given[0]} in [redis] is for mode = "sentinel", found mode = "{redis.mode}"')
    tls = redis.sentinel_tls == "yes" or (redis.sentinel_tls == "same" and parts.scheme.startswith("rediss"))
    if redis.sentinel_ca and not tls:
        raise SettingsError(f"{file}: sentinel_ca in [redis] is for Sentinels that speak TLS; see sentinel_tls")


def _anchored_path(folder: Path, path: str) -> str:
    """Return a path below ``folder``; a URL and an empty text unchanged."""
    return str(folder / path) if path and "://" not in path else path


def _anchored(settings: Settings, folder: Path) -> Settings:
    """Return the settings with absolute paths: they stay valid if the working directory changes."""
    replace = msgspec.structs.replace
    state = str(folder / settings.installation.state)
    redis = settings.redis
    if redis.ca:
        redis = replace(redis, ca=str(folder / redis.ca))
    if redis.sentinel_ca:
        redis = replace(redis, sentinel_ca=str(folder / redis.sentinel_ca))
    archive = settings.archive
    archive = replace(archive, path=_anchored_path(folder, archive.path), copy=_anchored_path(folder, archive.copy))
    return replace(
        settings,
        redis=redis,
        installation=replace(settings.installation, state=state),
        feed=replace(settings.feed, path=_anchored_path(folder, settings.feed.path)),
        archive=archive,
    )


def _password(environ: Mapping[str, str], variable: str) -> str:
    """Return the password in a variable, or in the file that ``<variable>_FILE`` names; empty if there is none."""
    by_file = f"{variable}_FILE"
    given, file = environ.get(variable, ""), environ.get(by_file, "")
    if given and file:
        raise SettingsError(f"both ${variable} and ${by_file} are set; keep one")
    if not file:
        return given
    try:
        password = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"${by_file}: cannot read {file}: {error}") from None
    if not password:
        raise SettingsError(f"${by_file}: {file} is empty")
    return password
