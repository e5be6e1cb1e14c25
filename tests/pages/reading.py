"""Read the commands of a page: fenced blocks of shell, command by command, with the output that the page shows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
SHELL: Final = {"", "sh"}
"""The languages of a fence whose lines are typed into a shell; no language counts as shell."""
ELSEWHERE: Final = {
    "apt-get": "it needs root",
    "deploy/partitions": "Docker",
    "docker": "Docker",
    "export": "Docker",
    "git": "it needs a server of the repository",
    "journalctl": "systemd",
    "make": "it installs, or builds images; CI runs `make test` and `make demo`'s tests",
    "pip": "it needs a package registry",
    ".venv/bin/pip": "it needs a package registry",
    "PIP_NO_INDEX=1": "Docker",
    "redis-cli": "Conclave installs no such client",
    "ssh": "it needs a second machine",
    "systemctl": "systemd",
    "systemd/install.sh": "systemd",
}
"""Why a command that starts with this word is not run."""
FENCE: Final = re.compile(
    r"(?:^ *<!-- not run: (?P<why>[^\n]+?) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
ID: Final = r"\b(?=[a-f]*\d)[0-9a-f]{6,}\b"
WHOLE: Final = re.compile(r"^<!-- nothing here is run: (.+?) -->$", re.MULTILINE)


class Command(NamedTuple):
    """A command as it is typed, the output that the page shows for it, and why it is not run, if so."""

    text: str
    shown: str = ""
    not_run: str = ""


class Block(NamedTuple):
    """A fenced block of shell, and the number of its first line."""

    line: int
    commands: tuple[Command, ...]


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of shell of a page, in its order."""
    whole = WHOLE.search(text)
    for found in FENCE.finditer(text):
        if found["kind"] not in SHELL:
            continue
        indent = len(found["indent"])
        lines = [line[indent:] for line in found["body"].splitlines()]
        why = whole[1] if whole else found["why"] or ""
        yield Block(text.count("\n", 0, found.start("body")) + 1, tuple(_commands(lines, why)))


def _commands(lines: list[str], why: str) -> Iterator[Command]:
    """Yield each command with the lines that continue it. Where a block has prompts, its other lines are output."""
    prompts = any(line.startswith("$ ") for line in lines)
    commands: list[list[str]] = []
    for line in lines:
        continued = bool(commands) and (_open(commands[-1][0]) or (prompts and not line.startswith("$ ")))
        if not continued and (not line.strip() or line.startswith("#")):
            continue
        if not continued:
            commands.append([line.removeprefix("$ "), ""])
        elif _open(commands[-1][0]):
            commands[-1][0] += "\n" + line
        else:
            commands[-1][1] += line + "\n"
    for text, shown in commands:
        yield Command(text, shown, why or ELSEWHERE.get(text.split()[0].removeprefix("../"), ""))


def _open(text: str) -> bool:
    """Whether a command goes on in the next line: after a backslash, or within a here-document."""
    here = re.search(r"<<'(\w+)'", text)
    return text.endswith("\\") or (here is not None and not re.search(rf"^{here[1]}$", text, re.MULTILINE))


def _plain(line: str) -> str:
    return " ".join(re.sub(r"[│┃]", " ", line).split())


def pattern(shown: str) -> re.Pattern[str]:
    """Return what a shown line matches: numbers and ids of any value, any width of space, anything for ``...``."""
    parts = []
    for word in re.findall(rf" ?\.\.\. ?|{ID}|\d+|[^\d.]|.", _plain(shown)):
        if word.strip() == "...":
            parts.append(".*")
        elif re.fullmatch(ID, word):
            parts.append("[0-9a-f]+")
        else:
            parts.append(r"\d+" if word.isdigit() else re.escape(word))
    return re.compile("".join(parts))


def absent(shown: str, came: str) -> str:
    """Return the first shown line that the output does not have after the one before it; nothing if it has all."""
    lines = iter([_plain(line) for line in came.splitlines()])
    for line in shown.splitlines():
        if line.strip() and not any(pattern(line).search(each) for each in lines):
            return line
    return ""
