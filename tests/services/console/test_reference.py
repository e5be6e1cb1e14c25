"""The page of commands says what the commands say, and every page shows only commands and options that there are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from services.console.cli import cli
from services.console.reference import PAGE, page

ROOT: Final = Path(__file__).parents[3]
PAGES: Final = sorted(
    each
    for each in [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "systemd/README.md"))]
    if each != PAGE and "adr" not in each.parts
)
SHOWN: Final = re.compile(r"(?:^ *(?:\$ )?|[`;(|&] *|bin/)conclave +((?:--?[a-z]|[a-z])[^\n`|>&;#]*)", re.MULTILINE)
"""A command as a page shows it, up to the end of the code or an operator of the shell."""


def test_the_page_of_commands_is_fresh() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def shown(text: str) -> Iterator[list[str]]:
    """The words after ``conclave`` of each command in the code of a page."""
    text = text.replace("\\\n", " ")
    fenced = "\n".join(re.findall(r"^ *```.*?^ *```$", text, re.MULTILINE | re.DOTALL))
    inline = "\n".join(re.findall(r"`[^`\n]+`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)))
    for code in (fenced, inline):
        for match in SHOWN.finditer(code):
            yield match[1].split()


def fault(words: list[str]) -> str:
    """What is wrong with a command; nothing if a person may type it."""
    command: click.Command = cli
    options, named = known(cli), False
    for word in words:
        if word.startswith("-") and re.match(r"--?[a-z]", word):
            if word.partition("=")[0].rstrip(",.)") not in options:
                return f"no option {word}"
            named = True
        elif isinstance(command, click.Group) and not named and re.fullmatch(r"[a-z-]+", word):
            context = click.Context(command)
            found = command.get_command(context, word)
            if found is None:
                return f"no command {word}"
            command = found
            options |= known(found)
    return ""


def known(command: click.Command) -> set[str]:
    parameters = command.get_params(click.Context(command))
    return {name for each in parameters for name in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_shows_only_commands_and_options_that_there_are(path: Path) -> None:
    commands = list(shown(path.read_text(encoding="utf-8")))
    assert [(" ".join(words), fault(words)) for words in commands if fault(words)] == []


def test_a_command_and_an_option_that_there_are_not_are_found() -> None:
    assert [fault(words) for words in shown("`conclave proof 12 --key a.pem`")] == ["no option --key"]
    assert [fault(words) for words in shown("```\nconclave status --verbose | tail\n```")] == ["no option --verbose"]
    assert [fault(words) for words in shown("`conclave shadow begin a a2`")] == ["no command begin"]
    assert [fault(words) for words in shown("`conclave train files --set core-28 \\\n    --reason x`")] == [""]
