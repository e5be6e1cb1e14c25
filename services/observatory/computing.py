"""Compute what a page asks for, one thing at a time, each as a child process: a what-if, a proof pack, the money.

A result is kept, so that its address can be opened again. What runs can be cancelled."""

import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar, Final

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Struct, field

from schemas.codec import UNDECODABLE
from services.observatory.projection import Projection
from shared.audit.computing import (
    ComputeFailed,
    ComputeLine,
    ComputeProgress,
    ComputeRequest,
    MoneyCounted,
    MoneyWork,
    PackWritten,
    ProofWork,
    WhatifComputed,
    WhatifWork,
)
from shared.audit.proof import pack_name
from shared.audit.whatif import Changes, WhatifResult
from shared.money.recorded import MoneyReport
from shared.processes import module_command
from shared.settings import Settings

CHILD: Final = module_command("services.console.audit.computing")
"""The console is the program, which hosts the core of every service."""
KEPT: Final = 8
SHOWN_S: Final = 0.4
"""Between two reports of progress that pages show."""
LONGEST: Final = 32 * 2**20
"""Bytes of the longest line of a child."""
_line: Final = msgspec.json.Decoder(ComputeLine).decode


class AskedWhatif(Struct, frozen=True):
    """A what-if: other champions and weights by model, other fields of the voting policy, and the range (ms, 0: no
    limit)."""

    changes: Changes = field(default_factory=Changes)
    since: int = 0
    until: int = 0

    @property
    def name(self) -> str:
        """Its name in addresses, equal for equal questions."""
        return blake2b(msgspec.json.encode(self, order="deterministic"), digest_size=8).hexdigest()


class AskedPack(Struct, frozen=True):
    """The proof pack of a version."""

    version: int

    @property
    def name(self) -> str:
        """Its name in addresses."""
        return pack_name(self.version)


class AskedMoney(Struct, frozen=True):
    """The money of every line, in all and by symbol, over all that was recorded."""

    name: ClassVar[str] = "money"


Question = AskedWhatif | AskedPack | AskedMoney


class Computation(Struct):
    """Something that is computed. ``state``: waiting, running, done, failed or cancelled. ``began`` and ``ended`` are
    times (ms)."""

    asked: Question
    began: int
    state: str = "waiting"
    progress: ComputeProgress | None = None
    result: WhatifResult | PackWritten | MoneyReport | None = None
    reason: str = ""
    ended: int = 0


class BusyError(RuntimeError):
    """Something else is computed."""


class Computations:
    """What one observatory computes. ``serve`` runs it."""

    def __init__(self, projection: Projection, settings: Settings, archive: str = "") -> None:
        self._projection = projection
        self._settings = settings
        self._archive = archive
        self._kept: dict[str, Computation] = {}
        self._asked = anyio.Event()
        self._process: Process | None = None
        self._closed = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def running(self) -> Computation | None:
        """What is computed, or is about to be; None if nothing is."""
        return next((each for each in self._kept.values() if each.state in {"waiting", "running"}), None)

    def find(self, name: str) -> Computation | None:
        """Return what was asked by this name; None if it was not asked lately."""
        return self._kept.get(name)

    def file(self, name: str, suffix: str) -> Path | None:
        """Return the file of a proof pack that is written; None if it is not."""
        kept = self._kept.get(name)
        if kept is None or not isinstance(kept.result, PackWritten) or self._folder is None:
            return None
        return Path(self._folder.name, f"{name}.{suffix}")

    def start(self, asked: Question, *, again: bool = False) -> Computation:
        """Start to compute what is asked, or return what runs or is done of the same question. ``again``: compute again
        what is done. Raises ``BusyError``."""
        kept = self._kept.get(asked.name)
        if kept is not None and (kept.state in {"waiting", "running"} or (kept.state == "done" and not again)):
            return kept
        if (running := self.running) is not None:
            raise BusyError(f"{_words(running.asked)}: wait for it, or cancel it")
        if kept is not None:
            self._forget(asked.name)
        started = self._kept[asked.name] = Computation(asked, self._projection.now)
        while len(self._kept) > KEPT:
            self._forget(next(iter(self._kept)))
        self._asked.set()
        self._changed()
        return started

    def _forget(self, name: str) -> None:
        for suffix in ("json", "html"):
            if (file := self.file(name, suffix)) is not None:
                file.unlink(missing_ok=True)  # who downloads it now still gets all of it
        del self._kept[name]

    def cancel(self) -> None:
        """End what is computed."""
        running = self.running
        if running is not None:
            self._end(running, "cancelled")
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """End what is computed, and ``serve``."""
        self._closed = True
        self.cancel()
        self._asked.set()

    async def serve(self) -> None:
        """Compute what is asked, one after another, until ``close``."""
        try:
            while not self._closed:
                await self._asked.wait()
                self._asked = anyio.Event()
                running = self.running
                if running is not None:
                    await self._run(running)
        finally:
            if self._folder is not None:
                self._folder.cleanup()

    async def _run(self, running: Computation) -> None:
        request = ComputeRequest(
            settings=self._settings,
            work=self._work(running.asked),
            now=self._projection.now,
            parent=os.getpid(),
            archive=self._archive,
        )
        running.state = "running"
        self._changed()
        try:
            async with await anyio.open_process(CHILD, stderr=None) as process:
                self._process = process
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.send(msgspec.json.encode(request))
                await process.stdin.aclose()
                await self._follow(running, BufferedByteReceiveStream(process.stdout))
                await process.wait()
        except (OSError, anyio.BrokenResourceError) as error:
            self._end(running, "failed", str(error))
        finally:
            self._process = None

    def _work(self, asked: Question) -> WhatifWork | ProofWork | MoneyWork:
        match asked:
            case AskedWhatif(changes=changes, since=since, until=until):
                return WhatifWork(changes, since, until)
            case AskedPack(version=version):
                if self._folder is None:
                    self._folder = tempfile.TemporaryDirectory(prefix="conclave-observatory-")
                return ProofWork(version, self._folder.name)
            case AskedMoney():
                return MoneyWork()

    async def _follow(self, running: Computation, lines: BufferedByteReceiveStream) -> None:
        shown_at = 0.0
        while running.state == "running":
            try:
                line: ComputeLine = _line(await lines.receive_until(b"\n", LONGEST))
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound, *UNDECODABLE):
                why = "the process ended without a result; the log of the observatory has why"
                self._end(running, "failed", why)
                return
            match line:
                case ComputeProgress():
                    running.progress = line
                    if time.monotonic() - shown_at > SHOWN_S:  # every page is drawn again when something changed
                        shown_at = time.monotonic()
                        self._changed()
                case WhatifComputed():
                    running.result = line.result
                    self._end(running, "done")
                case PackWritten():
                    running.result = line
                    self._end(running, "done")
                case MoneyCounted():
                    running.result = line.report
                    self._end(running, "done")
                case ComputeFailed():
                    self._end(running, "failed", line.reason)

    def _end(self, ended: Computation, state: str, reason: str = "") -> None:
        if ended.state in {"waiting", "running"}:
            ended.state, ended.reason, ended.ended = state, reason, self._projection.now
            self._changed()

    def _changed(self) -> None:
        self._projection.mark("computing")


def _words(asked: Question) -> str:
    match asked:
        case AskedWhatif():
            return "a what-if runs"
        case AskedPack():
            return "a proof pack is made"
        case AskedMoney():
            return "the money is counted"


def asked_of(
    champions: Iterable[tuple[str, str]],
    weights: Iterable[tuple[str, str]],
    without: Sequence[str],
    policy: Iterable[tuple[str, str]],
    since: int = 0,
    until: int = 0,
) -> AskedWhatif:
    """Return a what-if from pairs of name and value; a value that is empty changes nothing. ``without``: models whose
    ballots count for nothing. Raises ``ValueError``."""
    given = {name: float(value) for name, value in weights if value} | dict.fromkeys(without, 0.0)
    changes = Changes(
        champions={name: value for name, value in sorted(champions) if value},
        weights=dict(sorted(given.items())),
        policy={name: value for name, value in sorted(policy) if value},
    )
    return AskedWhatif(changes, since, until)
