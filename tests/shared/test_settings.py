"""The settings file is read strictly, and every setting is in the reference."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import pytest

from shared.log.address import SCHEMES, parse_address
from shared.settings import (
    PHONE_TOKEN,
    URL_SCHEMES,
    Settings,
    SettingsError,
    describe,
    find,
    load,
    phone_token,
    redis_url_with_password,
)
from shared.settings.sections import sections

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
Written = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(text: str) -> Path:
        path = tmp_path / "conclave.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {})
    assert settings.redis.url == "redis://127.0.0.1:6399/0"
    assert settings.installation.state == str(tmp_path / "var")
    assert settings.feed.path == ""


def test_a_given_path_comes_before_the_environment_and_that_before_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("conclave.toml", "variable.toml", "given.toml"):
        (tmp_path / name).write_text(f'[telemetry]\nservice_prefix = "{name}"\n')
    environ = {"CONCLAVE_SETTINGS": "variable.toml"}
    assert load("given.toml", environ).telemetry.service_prefix == "given.toml"
    assert load(None, environ).telemetry.service_prefix == "variable.toml"
    assert load(None, {}).telemetry.service_prefix == "conclave.toml"
    assert find(None, environ) == tmp_path / "variable.toml"


def test_a_named_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml \(named by \$CONCLAVE_SETTINGS\)"):
        load(None, {"CONCLAVE_SETTINGS": str(tmp_path / "nowhere.toml")})
    with pytest.raises(SettingsError, match="the given path"):
        load(tmp_path / "nowhere.toml", {})


def test_every_value_of_a_file_is_taken(written: Written) -> None:
    path = written(
        """
        [redis]
        mode = "sentinel"
        url = "rediss+sentinel://reader@log.example:26380/trading/2"
        ca = "/etc/conclave/ca.crt"
        sentinel_user = "watcher"
        sentinel_tls = "yes"
        sentinel_ca = "/etc/conclave/sentinels.crt"
        ephemeral = true
        [installation]
        partitions = 16
        state = "/srv/conclave"
        [features]
        sets = ["core-28", "user-8"]
        bridge = 0
        [feed]
        path = "bars"
        inputs = "inputs"
        symbol = "BTCUSDT"
        interval = "1m"
        speed = 50
        window = 100
        [exchange]
        markets = ["binance BTC/USDT 1m"]
        history = 10
        grace_ms = 100
        live_ms = 5000
        clock_ms = 1000
        no_empty_bars = []
        open_stamped = ["bitfinex"]
        end_stamped = ["other"]
        local = "http://127.0.0.1:8090"
        [models]
        names = []
        [archive]
        path = "/srv/sealed"
        copy = "s3://bucket/desk"
        every_s = 60
        [training]
        memory_mb = 2048
        free_gb = 0.5
        backend = "dask"
        address = "tcp://10.0.0.5:8786"

        [telemetry]
        endpoint = "http://127.0.0.1:4318"
        sample = 1
        service_prefix = "desk"
        export_ms = 1000
        [observatory]
        host = "0.0.0.0"
        port = 8421
        names = ["conclave.example.org"]
        days = 30
        session_hours = 8
        proxy = "10.0.0.7"
        proxy_header = "X-Auth-Request-User"
        [phone]
        persons = ["123456789 ada"]
        keys = "keys-of-persons"
        api = "http://127.0.0.1:8081"
        """
    )
    settings = load(path, {})
    assert settings.installation.state == "/srv/conclave"
    assert settings.feed.path == str(path.parent / "bars")
    assert settings.feed.inputs == str(path.parent / "inputs")
    assert settings.features.sets == ("core-28", "user-8")
    defaults, found = msgspec.to_builtins(Settings()), msgspec.to_builtins(settings)
    assert not [key for section in found for key in found[section] if found[section][key] == defaults[section][key]]


def test_an_unknown_key_is_named_with_its_section_and_the_nearest_known_key(written: Written) -> None:
    message = refusal(written("[installation]\npartitons = 4\n"))
    assert "'partitons' in [installation]; did you mean 'partitions'?" in message


def test_an_unknown_section_is_named_with_the_nearest_known_section(written: Written) -> None:
    assert "[telemetri]; did you mean 'telemetry'?" in refusal(written("[telemetri]\nsample = 1\n"))


def test_a_key_that_resembles_none_gets_the_list(written: Written) -> None:
    assert "'zzz' in [models]; there are: names" in refusal(written("[models]\nzzz = 4\n"))


def test_a_value_outside_any_section_is_refused(written: Written) -> None:
    assert "unknown section [partitions]" in refusal(written("partitions = 4\n"))
    assert "expected a section [redis], found the value 'x'" in refusal(written('redis = "x"\n'))


@pytest.mark.parametrize("key", ["password", "redis_password", "auth_token", "API_KEY"])
def test_a_secret_in_the_file_is_refused_and_never_repeated(written: Written, key: str) -> None:
    message = refusal(written(f'[redis]\n{key} = "hunter2"\n'))
    assert "CONCLAVE_REDIS_PASSWORD" in message
    assert "hunter2" not in message


ADDRESSES = [
    (section, key, address)
    for section, key, address in (
        ("redis", "url", "redis://{}@localhost/0"),
        ("redis", "url", "unix:///tmp/s?password=hunter2"),
        ("feed", "path", "ours://{}@host/bars"),
        ("exchange", "local", "http://{}@127.0.0.1:8090"),
        ("archive", "path", "sftp://{}@host/archive"),
        ("archive", "copy", "s3://{}@bucket/prefix"),
        ("archive", "copy", "https://host/prefix?api_key=hunter2"),
        ("training", "address", "tcp://{}@10.0.0.5:8786"),
        ("telemetry", "endpoint", "http://{}@localhost:4318"),
        ("telemetry", "endpoint", "http://localhost:4318/?token=hunter2"),
        ("phone", "api", "https://{}@telegram.example.org"),
    )
]


def test_every_setting_that_may_be_an_address_is_among_the_addresses() -> None:
    described = {
        (section, field.name)
        for section, struct in sections().items()
        for field in msgspec.structs.fields(struct)
        if "://" in str(field.type) or "URL" in str(field.type)
    }
    assert described - {("redis", "sentinel_tls")} <= {(section, key) for section, key, _ in ADDRESSES}


@pytest.mark.parametrize(("section", "key", "address"), ADDRESSES)
@pytest.mark.parametrize("person", ["me:hunter2", "me/x:hunter2", "me:hun/ter2"])
def test_a_password_inside_any_address_is_refused_and_never_repeated(
    written: Written, section: str, key: str, address: str, person: str
) -> None:
    message = refusal(written(f'[{section}]\n{key} = "{address.format(person)}"\n'))
    assert f"{key} in [{section}]" in message
    assert "hun" not in message
    if section != "redis":
        assert "CONCLAVE_REDIS" not in message


@pytest.mark.parametrize(
    ("section", "variable"),
    [("phone", "CONCLAVE_PHONE_TOKEN"), ("exchange", "CONCLAVE_EXCHANGE_KEY"), ("redis", "CONCLAVE_REDIS_PASSWORD")],
)
def test_the_variable_for_a_secret_is_that_of_its_section(written: Written, section: str, variable: str) -> None:
    message = refusal(written(f'[{section}]\nsecret_token = "hunter2"\n'))
    assert variable in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[installation]\npartitions = 0", "partitions in [installation]: expected `int` >= 1, found 0"),
        ("[installation]\npartitions = 1025", "<= 1024, found 1025"),
        ('[installation]\npartitions = "4"', "expected `int`, got `str`, found '4'"),
        ("[telemetry]\nsample = 1.5", "<= 1.0, found 1.5"),
        ("[telemetry]\nsample = nan", "sample in [telemetry]"),
        ("[feed]\nspeed = inf", "speed in [feed]"),
        ('[feed]\ninterval = "fast"', "interval in [feed]"),
        ("[features]\nsets = []", "sets in [features]"),
        ('[features]\nsets = ["core-28", "Core"]', "sets[1] in [features]"),
        ('[models]\nnames = ["xgboost", "xgboost"]', "a name is given twice"),
        ('[redis]\nurl = "http://localhost"', "found 'http'"),
        ('[redis]\nurl = ""', "found 'no scheme'"),
        ('[telemetry]\nendpoint = "localhost:4318"', "expected http://host:port"),
        ('[telemetry]\nendpoint = "http://me:hunter2@localhost:4318"', "OTEL_EXPORTER_OTLP_HEADERS"),
        ("[redis\nurl = 1", "not a readable TOML file"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_place(written: Written, text: str, says: str) -> None:
    assert says in refusal(written(text))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "conclave.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a readable TOML file" in refusal(path)


@pytest.mark.parametrize(
    ("url", "complete"),
    [
        ("redis://127.0.0.1:6399/0", "redis://:p%40ss%2F@127.0.0.1:6399/0"),
        ("redis://me@127.0.0.1:6399/0", "redis://me:p%40ss%2F@127.0.0.1:6399/0"),
        ("unix:///run/redis.sock?db=1", "unix://:p%40ss%2F@/run/redis.sock?db=1"),
    ],
)
def test_the_password_of_the_environment_enters_the_url(
    written: Written, tmp_path: Path, url: str, complete: str
) -> None:
    settings = load(written(f'[redis]\nurl = "{url}"\n'), {})
    (tmp_path / "secret").write_text("p@ss/\n")
    assert redis_url_with_password(settings, {}) == url
    assert redis_url_with_password(settings, {"CONCLAVE_REDIS_PASSWORD": "p@ss/"}) == complete
    assert redis_url_with_password(settings, {"CONCLAVE_REDIS_PASSWORD_FILE": str(tmp_path / "secret")}) == complete


def test_the_certificate_enters_the_url_from_the_settings_folder(written: Written, tmp_path: Path) -> None:
    settings = load(written('[redis]\nurl = "rediss://redis:6379/0"\nca = "ca.crt"\n'), {})
    expected = urlencode({"ssl_ca_certs": str(tmp_path / "ca.crt")})
    assert redis_url_with_password(settings, {}) == f"rediss://redis:6379/0?{expected}"
    secret = {"CONCLAVE_REDIS_USER": "feed", "CONCLAVE_REDIS_PASSWORD": "x"}
    assert redis_url_with_password(settings, secret) == f"rediss://feed:x@redis:6379/0?{expected}"


def test_the_certificate_joins_the_options_of_the_url(written: Written, tmp_path: Path) -> None:
    settings = load(
        written('[redis]\nmode = "cluster"\nurl = "rediss+cluster://a:1,b:2?protocol=2"\nca = "ca.crt"\n'), {}
    )
    secret = {"CONCLAVE_REDIS_USER": "feed", "CONCLAVE_REDIS_PASSWORD": "x"}
    expected = urlencode({"ssl_ca_certs": str(tmp_path / "ca.crt")})
    assert redis_url_with_password(settings, secret) == f"rediss+cluster://feed:x@a:1,b:2?protocol=2&{expected}"


def test_the_login_of_the_sentinels_enters_the_url(written: Written, tmp_path: Path) -> None:
    text = '[redis]\nmode = "sentinel"\nurl = "redis+sentinel://a,b/trading"\nsentinel_user = "watcher"\n'
    settings = load(written(f'{text}sentinel_tls = "yes"\nsentinel_ca = "ca.crt"\n'), {})
    secret = {"CONCLAVE_REDIS_PASSWORD": "x", "CONCLAVE_SENTINEL_PASSWORD": "y"}
    options = {"sentinel_username": "watcher", "sentinel_password": "y", "sentinel_tls": "yes"}
    query = urlencode({**options, "sentinel_ca_certs": str(tmp_path / "ca.crt")})
    url = redis_url_with_password(settings, secret)
    assert url == f"redis+sentinel://:x@a,b/trading?{query}"
    address = parse_address(url)
    login = {"username": "watcher", "password": "y"}
    assert address.sentinel == {**login, "ssl": True, "ssl_ca_certs": str(tmp_path / "ca.crt")}
    assert (address.tls, address.options["password"]) == (False, "x")


@pytest.mark.parametrize(
    ("url", "mode"), [("redis+sentinel://a/trading", "sentinel"), ("rediss+cluster://a", "cluster")]
)
def test_an_address_of_another_mode_is_refused_with_the_line_to_write(written: Written, url: str, mode: str) -> None:
    for other in ("", 'mode = "single"\n', 'mode = "sentinel"\n', 'mode = "cluster"\n'):
        text = f'[redis]\nurl = "{url}"\n{other}'
        if mode in other:
            assert load(written(text), {}).redis.mode == mode
        else:
            assert f'write mode = "{mode}"' in refusal(written(text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('mode = "sentinel"\nurl = "redis+sentinel://a,b"', "does not name the service"),
        ('mode = "double"', "mode in [redis]"),
        ('mode = "cluster"\nurl = "redis+cluster://a"\nsentinel_user = "me"', 'is for mode = "sentinel"'),
        ('sentinel_tls = "yes"', 'is for mode = "sentinel"'),
        ('mode = "sentinel"\nurl = "redis+sentinel://a/b"\nsentinel_ca = "x"', "Sentinels that speak TLS"),
        ('mode = "cluster"', 'write mode = "single"'),
    ],
)
def test_settings_of_one_mode_are_refused_in_another(written: Written, text: str, says: str) -> None:
    assert says in refusal(written(f"[redis]\n{text}\n"))


def test_every_form_of_an_address_may_stand_in_the_settings() -> None:
    kinds = {"server": "single", "sentinel": "sentinel", "cluster": "cluster"}
    assert {scheme: kinds[kind] for scheme, kind in SCHEMES.items()} == URL_SCHEMES


def test_a_certificate_for_plain_text_is_refused(written: Written) -> None:
    assert "redis://" in refusal(written('[redis]\nurl = "redis://redis/0"\nca = "ca.crt"\n'))


def test_a_password_file_that_is_missing_empty_or_one_too_many_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for environ, says in (
        ({"CONCLAVE_REDIS_PASSWORD_FILE": str(tmp_path / "nowhere")}, "cannot read"),
        ({"CONCLAVE_REDIS_PASSWORD_FILE": str(tmp_path / "empty")}, "is empty"),
        ({"CONCLAVE_REDIS_PASSWORD_FILE": str(tmp_path / "empty"), "CONCLAVE_REDIS_PASSWORD": "x"}, "keep one"),
    ):
        with pytest.raises(SettingsError, match=says):
            redis_url_with_password(Settings(), environ)


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        load(None, {}).feed.speed = 1.0  # type: ignore[misc]  # that is tested


def test_every_setting_has_its_heading_default_and_meaning_in_the_reference_and_no_other_has() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    parts = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    documented = {part.partition("\n")[0].strip(): part for part in parts}
    assert list(documented) == [f"`{row.section}.{row.key}`" for row in describe()]
    for row in describe():
        part = documented[f"`{row.section}.{row.key}`"]
        assert f"Default: `{row.default}`" in part, f"{row.section}.{row.key}: the default differs"
        assert row.meaning, f"{row.section}.{row.key} has no description"
        assert row.meaning in part, f"{row.section}.{row.key}: the meaning differs"


def test_the_variable_of_opentelemetry_stands_in_for_an_endpoint_that_the_file_leaves_empty(tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    file = tmp_path / "conclave.toml"
    file.write_text("")
    assert load(file, environ).telemetry.endpoint == "http://collector:4318"
    file.write_text('[telemetry]\nendpoint = "http://mine:4318"\n')
    assert load(file, environ).telemetry.endpoint == "http://mine:4318"
    file.write_text("")
    with pytest.raises(SettingsError, match="expected http://host:port"):
        load(file, {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector"})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('persons = ["ada"]', "as \"123456789 ada\"; found 'ada'"),
        ('persons = ["1 ada\\n"]', "persons in [phone]"),
        ('persons = ["-100123 ada"]', "persons in [phone]"),
        ('persons = ["1 ../ada"]', "persons in [phone]"),
        ('persons = ["1 ada", "2 ben", "1 cyd"]', "a chat is of one person; given twice: 1"),
        ('api = "http://telegram.example.org"', "expected https://host, or http:// to a server on loopback"),
        ('api = "telegram.example.org"', "expected https://host"),
        ('api = "https://word@telegram.example.org"', "holds a secret"),
        ('token = "1:x"', "looks like a secret"),
    ],
)
def test_a_phone_that_cannot_be_meant_is_refused(written: Written, lines: str, expected: str) -> None:
    message = refusal(written(f"[phone]\n{lines}\n"))
    assert expected in message
    assert "word" not in message


def test_the_token_of_the_bot_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("1:x\n")
    assert phone_token({}) == ""
    assert phone_token({PHONE_TOKEN: "1:y"}) == "1:y"
    assert phone_token({f"{PHONE_TOKEN}_FILE": str(file)}) == "1:x"
    with pytest.raises(SettingsError, match="both"):
        phone_token({PHONE_TOKEN: "1:y", f"{PHONE_TOKEN}_FILE": str(file)})
