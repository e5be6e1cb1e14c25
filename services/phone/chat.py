"""What a chat is to the bot. ``services.phone.telegram`` speaks to one; another takes a class like it."""

from collections.abc import Sequence
from typing import Protocol

from services.phone.messages import Received, Reply


class TryLaterError(RuntimeError):
    """The chat does not answer, or does not accept more now. ``wait_s``: how long to wait before the next attempt;
    None: the chat did not say."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class UndeliverableError(RuntimeError):
    """The chat will never accept this answer: the person blocked the bot, or the chat is gone."""


class Chat(Protocol):
    """The server of a chat. Messages of errors hold no secret."""

    async def updates(self, after: int | None) -> Sequence[Received]:
        """Wait for updates, and return those after number ``after`` (None: all that there are), in any order. Those up
        to ``after`` need not be kept by the server. Raises ``TryLaterError``."""
        ...

    async def send(self, reply: Reply) -> None:
        """Send an answer. Raises ``TryLaterError``, ``UndeliverableError``."""
        ...
