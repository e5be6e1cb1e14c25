"""Run what-ifs for the page, one at a time, each as a child process: recorded ballots counted under other rules.

A result is kept, so that its address can be opened again. What runs can be cancelled."""

import os
import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Struct, field

from schemas.codec import UNDECODABLE
from services.observatory.projection import Projection
from shared.audit.rerun import RerunFailed, RerunLine, RerunProgress, RerunRequest, RerunResult
from shared.audit.whatif import Changes, WhatifResult
from shared.processes import module_command
from shared.settings import Settings

CHILD: Final = module_command("services.console.research.rerun")
"""The console is the program, which hosts the core of every service."""
KEPT: Final = 8
SHOWN_S: Final = 0.4
"""Between two reports of progress that pages show."""
LONGEST: Final = 4 * 2**20
"""Bytes of the longest line of a child."""
_line: Final = msgspec.json.Decoder(RerunLine).decode


class Asked(Struct, frozen=True):
    """What is asked: other champions and weights by model, other fields of the voting policy, and the range (ms, 0: no
    limit)."""

    changes: Changes = field(default_factory=Changes)
    since: int = 0
    until: int = 0

    @property
    def name(self) -> str:
        """Its name in addresses, equal for equal questions."""
        return blake2b(msgspec.json.encode(self, order="deterministic"), digest_size=8).hexdigest()


class Trial(Struct):
    """One what-if. ``state``: waiting, running, done, failed or cancelled. ``began`` and ``ended`` are times (ms)."""

    asked: Asked
    began: int
    state: str = "waiting"
    progress: RerunProgress | None = None
    result: WhatifResult | None = None
    reason: str = ""
    ended: int = 0


class BusyError(RuntimeError):
    """Another what-if runs."""


class Trials:
    """The what-ifs of one observatory. ``serve`` runs them."""

    def __init__(self, projection: Projection, settings: Settings, archive: str = "") -> None:
        self._projection = projection
        self._settings = settings
        self._archive = archive
        self._kept: dict[str, Trial] = {}
        self._asked = anyio.Event()
        self._process: Process | None = None
        self._closed = False

    @property
    def running(self) -> Trial | None:
        """The what-if that runs, or is about to; None if there is none."""
        return next((trial for trial in self._kept.values() if trial.state in {"waiting", "running"}), None)

    def find(self, name: str) -> Trial | None:
        """Return the trial of the question with this name; None if it was not asked lately."""
        return self._kept.get(name)

    def start(self, asked: Asked) -> Trial:
        """Start a what-if, or return the one of the same question that runs or is done. Raises ``BusyError``."""
        trial = self._kept.get(asked.name)
        if trial is not None and trial.state in {"waiting", "running", "done"}:
            return trial
        if self.running is not None:
            raise BusyError("another what-if runs: wait for it, or cancel it")
        trial = Trial(asked, self._projection.now)
        self._kept.pop(asked.name, None)
        self._kept[asked.name] = trial
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        self._asked.set()
        self._changed()
        return trial

    def cancel(self) -> None:
        """End the what-if that runs."""
        trial = self.running
        if trial is not None:
            self._end(trial, "cancelled")
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """End the what-if that runs, and ``serve``."""
        self._closed = True
        self.cancel()
        self._asked.set()

    async def serve(self) -> None:
        """Run what is asked, one after another, until ``close``."""
        while not self._closed:
            await self._asked.wait()
            self._asked = anyio.Event()
            trial = self.running
            if trial is not None:
                await self._run(trial)

    async def _run(self, trial: Trial) -> None:
        request = RerunRequest(
            settings=self._settings,
            changes=trial.asked.changes,
            since=trial.asked.since,
            until=trial.asked.until,
            now=self._projection.now,
            parent=os.getpid(),
            archive=self._archive,
        )
        trial.state = "running"
        self._changed()
        try:
            async with await anyio.open_process(CHILD, stderr=None) as process:
                self._process = process
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.send(msgspec.json.encode(request))
                await process.stdin.aclose()
                await self._follow(trial, BufferedByteReceiveStream(process.stdout))
                await process.wait()
        except (OSError, anyio.BrokenResourceError) as error:
            self._end(trial, "failed", str(error))
        finally:
            self._process = None

    async def _follow(self, trial: Trial, lines: BufferedByteReceiveStream) -> None:
        shown_at = 0.0
        while trial.state == "running":
            try:
                line: RerunLine = _line(await lines.receive_until(b"\n", LONGEST))
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound, *UNDECODABLE):
                self._end(trial, "failed", "the process ended without a result; the log of the observatory has why")
                return
            match line:
                case RerunProgress():
                    trial.progress = line
                    if time.monotonic() - shown_at > SHOWN_S:  # every page is drawn again when something changed
                        shown_at = time.monotonic()
                        self._changed()
                case RerunResult():
                    trial.result = line.result
                    self._end(trial, "done")
                case RerunFailed():
                    self._end(trial, "failed", line.reason)

    def _end(self, trial: Trial, state: str, reason: str = "") -> None:
        if trial.state in {"waiting", "running"}:
            trial.state, trial.reason, trial.ended = state, reason, self._projection.now
            self._changed()

    def _changed(self) -> None:
        self._projection.mark("whatif")


def asked_of(
    champions: Iterable[tuple[str, str]],
    weights: Iterable[tuple[str, str]],
    without: Sequence[str],
    policy: Iterable[tuple[str, str]],
    since: int = 0,
    until: int = 0,
) -> Asked:
    """Return a question from pairs of name and value; a value that is empty changes nothing. ``without``: models whose
    ballots count for nothing. Raises ``ValueError``."""
    given = {name: float(value) for name, value in weights if value} | dict.fromkeys(without, 0.0)
    changes = Changes(
        champions={name: value for name, value in sorted(champions) if value},
        weights=dict(sorted(given.items())),
        policy={name: value for name, value in sorted(policy) if value},
    )
    return Asked(changes, since, until)
