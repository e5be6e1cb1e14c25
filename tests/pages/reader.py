"""A person who types the commands of pages, in a folder of their own."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from bench.installation import free_port
from services.console.context import INTERRUPTED
from shared.processes import module_command
from shared.runtime.process import ONE_THREAD
from tests.pages.reading import ROOT, Command, absent

ENDLESS: Final = re.compile(r"--follow\b|\bwatch$")
"""Commands that end by Ctrl-C. It is pressed at their first output, or after a while: some draw on terminals alone."""
SILENT_S: Final = 10.0
LIMIT_S: Final = 180.0


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Reader:
    """A shell in ``home/clone``, in which ``.venv/bin/conclave`` is this tree's console. Each folder in which the
    reader works has a settings file with free ports, since others may use those of the defaults."""

    def __init__(self, home: Path, settings: str = "") -> None:
        self.folder = home / "clone"
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, words in {
            "conclave": module_command("services.console.cli"),
            "python": [sys.executable],
        }.items():
            file = programs / name
            file.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            file.chmod(0o755)
        self._home = home
        self._groups: list[int] = []
        self._begun: list[subprocess.Popen[bytes]] = []
        self._settled: list[Path] = []
        self._environment = {
            **os.environ,
            **ONE_THREAD,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "COLUMNS": "200",
        }
        self.settings = settings
        """Settings of each new folder, besides the ports."""
        self.brought = home / "brought"
        """Files that the reader puts into each new folder."""
        self.brought.mkdir()
        self.typed: list[Ended] = []
        self._settle()

    def _settle(self) -> None:
        """Put a settings file with free ports, and what was brought, into the present folder."""
        self._settled.append(self.folder)
        port, screens = free_port(), free_port()
        sections = f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\n\n[observatory]\nport = {screens}\n\n{self.settings}'
        self.file("conclave.toml").write_text(sections)
        for own in self.brought.iterdir():
            self.file(own.name).symlink_to(own)

    def file(self, name: str) -> Path:
        return self.folder / name

    def type(self, text: str) -> Ended:
        """Run a command in the present folder. A changed folder stays."""
        # Each has files of its own: what an earlier one left in the background goes on writing to those that it has.
        out, err, at = (self._home / f"{name}-{len(self.typed)}" for name in ("out", "err", "at"))
        script = f"set -e -o pipefail\ncd {shlex.quote(str(self.folder))}\n{text}\npwd > {shlex.quote(str(at))}\n"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            shell = self._shell(script, stdout, stderr)
            if ENDLESS.search(_bare(text)):
                _interrupt(shell, out)
            code = shell.wait(LIMIT_S)
        if code == 0 and at.exists() and (now := Path(at.read_text().strip())) != self.folder:
            self.folder = now
            if not self.file("conclave.toml").exists():
                self._settle()
        self.typed.append(Ended(code, out.read_text(), err.read_text()))
        return self.typed[-1]

    def _shell(self, script: str, stdout: IO[bytes], stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
        shell = subprocess.Popen(
            ["bash", "-c", script],
            stdout=stdout,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,
        )
        self._groups.append(shell.pid)
        return shell

    def begin(self, text: str) -> "subprocess.Popen[bytes]":
        """Start a command in the present folder that goes on by itself."""
        with (self._home / "background").open("ab") as output:
            shell = self._shell(f"cd {shlex.quote(str(self.folder))}\nexec {text}\n", output, output)
        self._begun.append(shell)
        return shell

    def must(self, text: str) -> Ended:
        """Run a command that a page takes for granted."""
        ended = self.type(text)
        assert ended.code == 0, f"{text}\n{ended.out}{ended.err}"
        return ended

    def last(self, printed: str) -> str:
        """Return the newest text that a command printed and that matches: its first group."""
        for ended in reversed(self.typed):
            if found := re.findall(printed, ended.out, re.MULTILINE):
                return str(found[-1])
        raise AssertionError(f"no command printed {printed}")

    def follow(
        self, command: Command, stands_for: Mapping[str, str | Callable[[], str]], codes: Container[int] = (0,)
    ) -> list[str]:
        """Type a command of a page, with what its examples stand for. Return what is wrong with how it ended."""
        text = command.text
        for example, own in stands_for.items():
            begun = re.compile(rf"(?<![\w/.-]){re.escape(example)}(?![\w-])")
            if begun.search(text):
                value = own if isinstance(own, str) else own()
                text = begun.sub(value, text)
        ended = self.type(text)
        shown = f"{text}\nended with {ended.code}:\n{ended.out}{ended.err}"[-4000:]
        pressed = (INTERRUPTED, -signal.SIGINT) if ENDLESS.search(_bare(text)) else ()  # at its end by itself, too
        if ended.code not in codes and ended.code not in pressed:
            return [shown]
        missing = absent(command.shown, ended.out + ended.err)
        return [f"does not show\n{missing}\nbut {shown}"] if missing else []

    def close(self) -> None:
        """End what still runs of what was typed: programs in the background, then installations."""
        self._signal(signal.SIGTERM)
        for folder in self._settled:
            self.folder = folder
            if self.file("var/up.json").exists():
                self.type("conclave down")
        self._signal(signal.SIGKILL)  # a feed without a server waits for it
        for shell in self._begun:
            shell.wait()

    def _signal(self, number: signal.Signals) -> None:
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, number)


def _bare(text: str) -> str:
    return text.partition("#")[0].strip()


def _interrupt(shell: "subprocess.Popen[bytes]", out: Path) -> None:
    deadline = time.monotonic() + SILENT_S
    while not out.stat().st_size and shell.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if shell.poll() is None:
        os.killpg(shell.pid, signal.SIGINT)
