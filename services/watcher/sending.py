"""Send notices with Apprise (https://github.com/caronc/apprise): webhook, Telegram, Slack, mail and others.

An address is a secret, since it holds a token. Addresses are read from the environment alone: ``CONCLAVE_NOTIFY``, or
``CONCLAVE_NOTIFY_FILE`` with the path of a file that has one address a line. Lines that begin with ``#`` are comments.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.watcher.state import Notice
from shared.distribution import install_command
from shared.settings import SettingsError

if TYPE_CHECKING:
    from apprise import Apprise

NOTIFY: Final = "CONCLAVE_NOTIFY"
NOTIFY_FILE: Final = "CONCLAVE_NOTIFY_FILE"
RANK: Final = {"info": 0, "warning": 1, "critical": 2}
MOST: Final = 20
"""Notices that one message lists; it states the number of the others."""


def addresses(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the addresses that notices are sent to; none if neither variable is set, or the file is missing or empty.

    Raises ``SettingsError`` if both variables are set, or the file cannot be read."""
    given, file = environ.get(NOTIFY, ""), environ.get(NOTIFY_FILE, "")
    if given and file:
        raise SettingsError(f"both ${NOTIFY} and ${NOTIFY_FILE} are set; keep one")
    if file:
        try:
            given = Path(file).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"${NOTIFY_FILE}: cannot read {file}: {error}") from None
    lines = [line.strip() for line in given.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


class Channels:
    """The addresses that notices are sent to. Raises ``SettingsError`` for one that Apprise does not support."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._channels = [_channel(number, url) for number, url in enumerate(urls, 1)]

    @property
    def names(self) -> list[str]:
        """The kind of each address, as ``Telegram``, without its secrets."""
        return [next(iter(channel)).__class__.__name__.removeprefix("Notify") for channel in self._channels]

    def send(self, number: int, title: str, body: str, severity: str) -> bool:
        """Send to one address, and return whether it accepted. Blocks meanwhile. No word is taken for markup: a notice
        quotes people and files."""
        from apprise import NotifyFormat, NotifyType  # noqa: PLC0415  # slow to import

        kinds = {"info": NotifyType.INFO, "warning": NotifyType.WARNING, "critical": NotifyType.FAILURE}
        channel = self._channels[number]
        return bool(channel.notify(body, title, kinds[severity], body_format=NotifyFormat.TEXT))


def _channel(number: int, url: str) -> "Apprise":
    try:
        from apprise import Apprise  # noqa: PLC0415  # slow to import
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"${NOTIFY} names addresses, but {error.name} is not installed: {install_command('notify')}"
        ) from None
    logging.getLogger("apprise").setLevel(logging.ERROR)  # its warnings repeat those of the watcher
    channel = Apprise()
    if not channel.add(url):
        scheme = url.partition(":")[0][:20]
        raise SettingsError(
            f"${NOTIFY}: address {number} ({scheme}://...) is not one that Apprise supports; expected, for example, json://host/path,"
            " tgram://token/chat, slack://token-a/token-b/token-c/#channel"
        )
    return channel


def message(notices: Sequence[Notice]) -> tuple[str, str, str]:
    """Return title, body and severity of one message about all ``notices``, the most severe first."""
    ordered = sorted(notices, key=lambda notice: -RANK[notice.severity])
    first = ordered[0]
    title = f"conclave: {first.alert} {first.kind}" + (f" and {len(notices) - 1} more" if notices[1:] else "")
    lines = [line(notice) for notice in ordered[:MOST]]
    if len(ordered) > MOST:
        lines.append(f"and {len(ordered) - MOST} more; see the log of the watcher")
    return title, "\n".join(lines), first.severity


def line(notice: Notice) -> str:
    """Return a notice as one line."""
    more = f" ({notice.more} more like it)" if notice.more else ""
    return f"[{notice.severity}] {notice.alert} {notice.kind}: {notice.text}{more}"
