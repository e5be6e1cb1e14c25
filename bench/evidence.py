"""Check that the same bars have the same scores, whether the shadow-recorder keeps up, starts late, or is killed.

Two voting tree models and a shadow of one of them run on the embedded server, each service as a process. The same
installation is copied for each case, and the same bars are fed:

- at a rate at which the recorder keeps up;
- as fast as the pipeline reads them, with a recorder that is suspended until all bars are decided;
- with a recorder that is suspended for six seconds in the middle and then killed;
- while other processes load the processor.

In each case the same predictions must be scored, with the same probabilities and outcomes, and the verdicts on the
shadow must be equal. Gates about latency are not compared, since they depend on the speed of the case.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from os import kill
from pathlib import Path
from typing import NamedTuple

import anyio

from bench.harness import Figure
from bench.installation import Installation, all_entries, running, wait_until
from schemas.codec import decode
from schemas.common import Action
from schemas.gates import VerdictReached
from schemas.scores import PredictionScored, PredictionUnscored
from shared.log import StreamKey

MODELS = ("xgboost", "lightgbm")
SHADOW = "lightgbm"
SYMBOLS = 4
TRAINED = 4000
"""Bars of each symbol before those that are fed. The models are trained on all bars, since their skill is not measured
here."""
SOURCE = ("--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", str(TRAINED + 2500))
EXTRA = "\n[training]\nfree_gb = 0.0\n\n[feed]\nwindow = 1000000\n"
"""A large window keeps the feed from waiting for the slowest group, which may be a suspended recorder."""
GROUP = "shadow-recorder"
BUSY = 4
SUSPENDED_S = 6.0


class Recorded(NamedTuple):
    """The output of one case: the predictions with their scores, those without a score by reason, and the values of the
    gates in each verdict, by artifact and number of scores."""

    scored: dict[tuple[str, int, bytes], tuple[float, float, Action]]
    unscored: dict[str, int]
    predictions: int
    verdicts: dict[tuple[str, int], tuple[tuple[str, float | None, int], ...]]


async def recorded(installation: Installation) -> Recorded:
    """Read the events on ``scores`` about predictions, and all verdicts."""
    log = installation.log()
    try:
        scored, unscored = {}, dict[str, int]()
        for entry in await all_entries(log, StreamKey("scores")):
            event = decode("scores", entry.data).event
            if isinstance(event, PredictionScored):
                key = (event.symbol, event.open_time, event.artifact)
                scored[key] = (event.log_loss, event.forward_return, event.outcome)
            elif isinstance(event, PredictionUnscored):
                unscored[event.reason] = unscored.get(event.reason, 0) + 1
        verdicts = {}
        for entry in await all_entries(log, StreamKey("gates")):
            event = decode("gates", entry.data).event
            if isinstance(event, VerdictReached):
                values = tuple((gate.name, gate.value, gate.samples) for gate in event.gates if gate.name != "latency")
                verdicts[event.artifact, event.scores] = values
        return Recorded(scored, unscored, (await log.extent(StreamKey("predictions"))).length, verdicts)
    finally:
        await log.close()


async def lags(installation: Installation) -> dict[str, int]:
    """Return the lag of each group in entries."""
    log = installation.log()
    try:
        return {view.group: sum(view.lag.values()) for view in await log.groups(0)}
    finally:
        await log.close()


def caught_up(installation: Installation, *, without: str = "") -> bool:
    """Return whether the lag of all groups, except ``without``, is 0."""
    return not any(lag for group, lag in anyio.run(lags, installation).items() if group != without)


def scores_at_least(installation: Installation, count: int) -> bool:
    """Return whether ``scores`` has at least ``count`` events."""

    async def length() -> int:
        log = installation.log()
        try:
            return (await log.extent(StreamKey("scores"))).length
        finally:
            await log.close()

    return anyio.run(length) >= count


class Feed:
    """The bars of all cases, sent by the console."""

    def __init__(self, installation: Installation, bars: int) -> None:
        self.installation = installation
        self.words = (*SOURCE, "--skip", str(SYMBOLS * TRAINED), "--limit", str(bars))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start to send in the background, and return the process."""
        return self.installation.start("feed", *self.words, *words)

    def send(self, *words: str) -> None:
        """Send all bars, and wait until they are sent."""
        finished(self.start(*words))


def finished(feed: subprocess.Popen[str]) -> None:
    """Wait until a feed has sent all bars. Raises ``AssertionError`` if it failed."""
    shown, errors = feed.communicate()
    assert feed.returncode == 0, f"the feed ended with {feed.returncode}: {shown}{errors}"


def keeps_pace(installation: Installation, feed: Feed) -> None:
    """Feed bars at a rate at which the recorder keeps up."""
    feed.send("--speed", "250")


def starts_late(installation: Installation, feed: Feed) -> None:
    """Suspend the recorder until all other groups have read all entries except its scores."""
    pid = installation.owners()[GROUP]
    kill(pid, signal.SIGSTOP)
    try:
        feed.send()
        wait_until(lambda: caught_up(installation, without=GROUP), 300, 0.5)
    finally:
        kill(pid, signal.SIGCONT)


def stops_for_a_while(installation: Installation, feed: Feed) -> None:
    """Suspend the recorder in the middle, then kill it; its supervisor restarts it."""
    sending = feed.start()
    wait_until(lambda: scores_at_least(installation, 500), 120)
    pid = installation.owners()[GROUP]
    kill(pid, signal.SIGSTOP)
    time.sleep(SUSPENDED_S)
    kill(pid, signal.SIGKILL)
    finished(sending)


def under_load(installation: Installation, feed: Feed) -> None:
    """Feed bars while other processes load the processor."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        feed.send()
        wait_until(lambda: caught_up(installation), 600, 0.5)
    finally:
        for process in busy:
            process.kill()
            process.wait()


CASES: dict[str, Callable[[Installation, Feed], None]] = {
    "paced": keeps_pace,
    "late": starts_late,
    "stopped": stops_for_a_while,
    "loaded": under_load,
}


def prepare(folder: Path) -> None:
    """Create an installation with two voting models and a shadow, and stop it."""
    installation = Installation(folder, models=MODELS, extra=EXTRA)
    with running(installation):
        installation.train_all(*SOURCE)
        words = ("--seed", "2", "--shadow", "--reason", "a shadow")
        installation.conclave("train", "files", "--model", SHADOW, "--family", SHADOW, *SOURCE, *words)


def measure(folder: Path, case: Callable[[Installation, Feed], None], bars: int) -> Recorded:
    """Run a case on the installation in ``folder``, and return its output."""
    installation = Installation(folder, models=MODELS, extra=EXTRA)
    with running(installation):
        wait_until(lambda: GROUP in installation.owners())
        case(installation, Feed(installation, bars))
        wait_until(lambda: caught_up(installation), 600, 0.5)
        return anyio.run(recorded, installation)


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    bars = SYMBOLS * (400 if quick else 2000)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name) / "base")
        for case, drive in CASES.items():
            folder = shutil.copytree(Path(name) / "base", Path(name) / case)
            found[case] = measure(folder, drive, bars)
            shutil.rmtree(folder)
    paced = found["paced"]
    figures = {"paced": Figure(len(paced.scored), "scores", "", f"of {paced.predictions} answers; {paced.unscored}")}
    for case in ("late", "stopped", "loaded"):
        other = found[case]
        figures[case] = Figure(len(other.scored), "scores", f">= {len(paced.scored)}", str(other.unscored))
        differences = len(paced.scored.items() ^ other.scored.items())
        figures[f"{case}_differences"] = Figure(differences, "scores that the other has not, or otherwise", "<= 0")
        verdicts = paced.verdicts.keys() & other.verdicts.keys()
        unlike = sum(paced.verdicts[each] != other.verdicts[each] for each in verdicts)
        figures[f"{case}_verdicts"] = Figure(unlike, "verdicts with other values", "<= 0", f"of {len(verdicts)}")
    return figures
