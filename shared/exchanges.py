"""Ask an exchange through ccxt (the extra ``exchange``), and read the keys of an account there."""

import os
import re
import tomllib
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import anyio

from shared.settings import SettingsError

TIMEOUT_S: Final = 10.0
"""How long one answer may take."""
BANNED: Final = re.compile(r"(?:banned until|retry after)\D{0,3}(\d{13})", re.IGNORECASE)
SIGNATURE: Final = re.compile(r"(signature=)[^&\s]+")
KEY: Final = "CONCLAVE_EXCHANGE_KEY"
SECRET: Final = "CONCLAVE_EXCHANGE_SECRET"  # noqa: S105  # the name of a variable
PASSWORD: Final = "CONCLAVE_EXCHANGE_PASSWORD"  # noqa: S105  # the name of a variable
CREDENTIALS_FILE: Final = "CONCLAVE_EXCHANGE_CREDENTIALS_FILE"

T = TypeVar("T")


class BusyError(Exception):
    """The exchange refuses for the number of requests. ``wait_s``: how long it asks to wait; ``until_ms``: until which
    time of its clock. Each is 0 if it does not say."""

    def __init__(self, detail: str, wait_s: float, until_ms: int) -> None:
        super().__init__(detail)
        self.wait_s = wait_s
        self.until_ms = until_ms


class UnreachableError(Exception):
    """The exchange did not answer, or with an error that may pass."""


class Credentials(NamedTuple):
    """The key of an account at an exchange, its secret, and its passphrase where there is one. None is shown."""

    key: str
    secret: str
    password: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"


async def asked(client: Any, request: Awaitable[T], *errors_passed: type[Exception]) -> T:
    """Return the answer to a request of a client of ccxt. Raises ``BusyError``, ``UnreachableError``, and those errors
    of ccxt that are named."""
    from ccxt.base import errors  # noqa: PLC0415  # an extra

    try:
        with anyio.fail_after(2 * TIMEOUT_S):
            return await request
    except (errors.RateLimitExceeded, errors.DDoSProtection) as error:
        until = BANNED.search(str(error))
        raise BusyError(shown(client, error), _stated_wait(client), int(until[1]) if until else 0) from None
    except errors_passed:
        raise
    except (errors.BaseError, OSError, TimeoutError, ValueError) as error:
        raise UnreachableError(f"{type(error).__name__}: {shown(client, error)}") from None


def shown(client: Any, error: Exception) -> str:
    """Return the text of an error, cut, and without keys and signatures: addresses of requests are part of it."""
    text = SIGNATURE.sub(r"\1...", str(error))
    for secret in (getattr(client, name, "") for name in ("apiKey", "secret", "password")):
        text = text.replace(secret, "...") if secret else text
    return text[:500]


def turned(addresses: Any, local: str) -> Any:
    """Return addresses turned to a local exchange: the host becomes the first part of the path."""
    if isinstance(addresses, dict):
        return {name: turned(each, local) for name, each in addresses.items()}
    if not isinstance(addresses, str):
        return addresses
    scheme, _, rest = addresses.partition("://")
    own = urlsplit(local)
    scheme = own.scheme.replace("http", "ws") if scheme in {"ws", "wss"} else own.scheme
    return f"{scheme}://{own.netloc}/{rest}"


def read_credentials(environ: Mapping[str, str] = os.environ) -> Credentials:
    """Return the credentials in the variables ``KEY`` and ``SECRET``, or in the TOML file that ``CREDENTIALS_FILE``
    names, with ``key``, ``secret``, and ``password`` where the exchange gives one. Raises
    ``SettingsError``, which shows nothing of them."""
    key, secret, password, file = (environ.get(name, "") for name in (KEY, SECRET, PASSWORD, CREDENTIALS_FILE))
    if file and (key or secret or password):
        raise SettingsError(f"both ${CREDENTIALS_FILE} and ${KEY} or ${SECRET} are set; keep one")
    if file:
        try:
            document = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"${CREDENTIALS_FILE}: cannot read {file}: {error}") from None
        except tomllib.TOMLDecodeError:
            raise SettingsError(f"${CREDENTIALS_FILE}: {file} is not a readable TOML file") from None
        key, secret, password = (str(document.get(name, "")) for name in ("key", "secret", "password"))
    if not key or not secret:
        where = (
            f"{file} (${CREDENTIALS_FILE}) lacks key or secret"
            if file
            else f"${KEY} or ${SECRET} is not set, nor is ${CREDENTIALS_FILE}"
        )
        raise SettingsError(f"orders at an exchange need its keys: {where}")
    return Credentials(key, secret, password)


def _stated_wait(client: Any) -> float:
    """Return how many seconds the header of the last answer asks to wait; 0 if it does not."""
    headers = {name.lower(): value for name, value in (client.last_response_headers or {}).items()}
    try:
        return float(headers.get("retry-after", 0))
    except ValueError:
        return 0.0
