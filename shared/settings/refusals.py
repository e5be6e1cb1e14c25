"""Refuse settings that cannot be used, with what was expected, what was found, and what to write."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec
from msgspec import ValidationError

from shared.settings.environment import PASSWORD, PASSWORD_FILE, PHONE_TOKEN, SettingsError
from shared.settings.sections import LOOPBACK, URL_SCHEMES, PhoneSettings, Redis, Settings, sections

PERSON: Final = re.compile(r"[1-9][0-9]{0,19} [A-Za-z0-9][A-Za-z0-9._-]{0,39}")
OF_SECTION: Final = {
    "redis": f" and set ${PASSWORD} or ${PASSWORD_FILE}",
    "archive": " and set the variable that its client reads, as $FSSPEC_SFTP_PASSWORD for sftp://",
    "exchange": " and set $CONCLAVE_EXCHANGE_CREDENTIALS_FILE, or $CONCLAVE_EXCHANGE_KEY and $CONCLAVE_EXCHANGE_SECRET",
    "telemetry": " and set $OTEL_EXPORTER_OTLP_HEADERS",
    "phone": f" and set ${PHONE_TOKEN} or ${PHONE_TOKEN}_FILE",
}
"""What to do with the secrets of a section, where it needs any."""
SECRET_WORDS: Final = ("password", "passwd", "secret", "token", "credential", "api_key", "apikey")


def refuse_unknown(document: Mapping[str, Any], file: Path) -> None:
    """Refuse sections and keys that do not exist, and secrets. Raises ``SettingsError``."""
    known_sections = sections()
    for section, values in document.items():
        if section not in known_sections:
            raise SettingsError(f"{file}: unknown section [{section}]{_nearest(section, list(known_sections))}")
        if not isinstance(values, dict):
            raise SettingsError(f"{file}: expected a section [{section}], found the value {values!r}")
        known = [field.name for field in msgspec.structs.fields(known_sections[section])]
        for key in values:
            _refuse_key(section, key, known, file)


def placed(error: ValidationError, document: Mapping[str, Any]) -> str:
    """Rewrite ``Expected `int` <= 1024 - at `$.feed.x` `` with section and key, and add the value that was found."""
    what, _, where = str(error).partition(" - at `$.")
    section, _, key = where.rstrip("`").partition(".")
    found = document[section][key.partition("[")[0]]
    return f"{key} in [{section}]: {what[0].lower()}{what[1:]}, found {found!r}"


def refuse_values(settings: Settings, file: Path) -> None:
    """Check what the types cannot express. Raises ``SettingsError``."""
    _refuse_secrets(settings, file)
    parts = _url(settings.redis.url, "url in [redis]", file)
    if parts.scheme not in URL_SCHEMES:
        raise SettingsError(
            f"{file}: url in [redis]: expected {'://, '.join(URL_SCHEMES)}://, found {parts.scheme or 'no scheme'!r}"
        )
    _refuse_mode(settings.redis, file)
    _refuse_address(settings.redis.url, file)
    if settings.redis.ca and not parts.scheme.startswith("rediss"):
        raise SettingsError(f"{file}: ca in [redis] is for a server that speaks TLS; url begins with {parts.scheme}://")
    endpoint = _url(settings.telemetry.endpoint, "endpoint in [telemetry]", file)
    if settings.telemetry.endpoint and (endpoint.scheme not in {"http", "https"} or not endpoint.hostname):
        raise SettingsError(f"{file}: endpoint in [telemetry]: expected http://host:port or https://host:port")
    _refuse_phone(settings.phone, file)
    for section, key, names in (
        ("features", "sets", settings.features.sets),
        ("models", "names", settings.models.names),
    ):
        if len(set(names)) != len(names):
            raise SettingsError(f"{file}: {key} in [{section}]: a name is given twice: {', '.join(names)}")


def _refuse_secrets(settings: Settings, file: Path) -> None:
    """Refuse a password in any address, since errors, logs and pages show addresses. Raises ``SettingsError``."""
    for section in sections():
        for key, value in msgspec.structs.asdict(getattr(settings, section)).items():
            if not isinstance(value, str) or "://" not in value:
                continue
            parts = _url(value, f"{key} in [{section}]", file, OF_SECTION.get(section, ""))
            words = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
            named = any(word in name for name in words for word in SECRET_WORDS if name != "credential_provider")
            slashed = re.search(r":[^/@]+@", parts.path)  # a user name with a slash
            if parts.password is not None or named or slashed:
                raise SettingsError(
                    f"{file}: {key} in [{section}] holds a password; take it out{OF_SECTION.get(section, '')}"
                )


def _refuse_phone(phone: PhoneSettings, file: Path) -> None:
    """Check the persons and the address of the bot. Raises ``SettingsError``."""
    for person in phone.persons:
        if not PERSON.fullmatch(person):
            raise SettingsError(
                f'{file}: persons in [phone]: expected the id of a private chat and an actor, as "123456789 ada"; '
                f"found {person!r}. The actor is also the name of a key file: letters, digits, . _ -"
            )
    chats = [person.partition(" ")[0] for person in phone.persons]
    if twice := sorted({chat for chat in chats if chats.count(chat) > 1}):
        raise SettingsError(f"{file}: persons in [phone]: a chat is of one person; given twice: {', '.join(twice)}")
    api = _url(phone.api, "api in [phone]", file)
    if api.username:
        raise SettingsError(f"{file}: api in [phone] holds a secret; take it out{OF_SECTION['phone']}")
    if not api.hostname or not (api.scheme == "https" or (api.scheme == "http" and api.hostname in LOOPBACK)):
        raise SettingsError(
            f"{file}: api in [phone]: expected https://host, or http:// to a server on loopback, since each address "
            f"that is asked holds the token; found {phone.api!r}"
        )


def _refuse_key(section: str, key: str, known: list[str], file: Path) -> None:
    if key in known:
        return
    if any(word in key.lower() for word in SECRET_WORDS):
        raise SettingsError(
            f"{file}: {key!r} in [{section}] looks like a secret, and secrets are not kept in this file;"
            f" remove it{OF_SECTION.get(section, '')}"
        )
    raise SettingsError(f"{file}: unknown key {key!r} in [{section}]{_nearest(key, known)}")


def _nearest(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"


def _url(text: str, name: str, file: Path, instead: str = "") -> SplitResult:
    """Return the parts of an address. Raises ``SettingsError``, which shows nothing of a password."""
    try:
        parts = urlsplit(text)
        if "," not in parts.netloc:  # of several servers, each has its port
            _ = parts.port
    except ValueError as error:
        if "@" in text:  # a user or password with a slash ends the host too early
            raise SettingsError(
                f"{file}: {name}: what is written before @ is no user name. Write a / in it as %2F; if it is a "
                f"password, take it out{instead}"
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
