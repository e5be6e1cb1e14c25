"""What arrives from a chat and what is answered, the same for every chat. Pure."""

from msgspec import Struct


class Received(Struct, frozen=True):
    """An update of a chat: a message of a person, or a tap on a button.

    ``update``: its number; those of later updates are higher. ``sender``: who sent it, as the chat identifies persons.
    ``chat``: where answers go. ``private``: it is of a chat between this person and the bot alone. ``own``: the person
    wrote it; it is not forwarded, and not of another bot. ``text``: the message. ``data``: what the button carries;
    ``tap``: the id by which the tap is answered."""

    update: int
    sender: str = ""
    chat: str = ""
    private: bool = False
    own: bool = False
    text: str = ""
    data: str = ""
    tap: str = ""


class Line(Struct, frozen=True):
    """A line of an answer: a label or a sentence, and a value. A chat shows both as they are, never as markup. It makes
    no link or command of the value, which may contain words of other persons."""

    words: str
    value: str = ""


class Button(Struct, frozen=True):
    """A button under an answer, and what it sends (at most 64 bytes)."""

    words: str
    data: str


class Reply(Struct, frozen=True):
    """An answer. ``tap``: the tap that it answers, if any."""

    chat: str
    title: str
    lines: tuple[Line, ...] = ()
    buttons: tuple[Button, ...] = ()
    tap: str = ""
