"""What settings take from the environment: the file to read, the user, and passwords, which no settings file holds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from shared.settings.sections import Settings

VARIABLE: Final = "CONCLAVE_SETTINGS"
USER: Final = "CONCLAVE_REDIS_USER"
PASSWORD: Final = "CONCLAVE_REDIS_PASSWORD"  # noqa: S105  # a variable's name
SENTINEL_PASSWORD: Final = "CONCLAVE_SENTINEL_PASSWORD"  # noqa: S105  # a variable's name
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
PHONE_TOKEN: Final = "CONCLAVE_PHONE_TOKEN"  # noqa: S105  # a variable's name
PASSWORD_FILE: Final = "CONCLAVE_REDIS_PASSWORD_FILE"  # noqa: S105  # a variable's name


class SettingsError(ValueError):
    """Settings cannot be used. The message names the file, section and key, what was expected and what was found."""


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


def phone_token(environ: Mapping[str, str] = os.environ) -> str:
    """Return the token of the bot for a phone, from the environment or from a file; empty if there is none. Do not
    print it. Raises ``SettingsError``."""
    return _password(environ, PHONE_TOKEN)


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
