"""The scores of the same bars, whatever becomes of the shadow-recorder while they are recorded.

Two voting tree models and a shadow of one of them over the embedded server, each service a process of its own. The same
installation is copied for each case, and the same bars are fed: at a pace that the recorder keeps; as fast as the
pipeline takes them, with a recorder that is suspended until all bars are decided; with one that is suspended for six
seconds in the middle and then killed; and beside processes that take the processor. Each case must have the same
predictions scored, with the same probabilities and the same outcome, and the same verdicts on the shadow. Gates about
latency are left out of the comparison: they are about how fast the case ran.
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
"""Bars of each symbol before those that are fed. The models are trained on all: how good they are is not the point."""
SOURCE = ("--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", str(TRAINED + 2500))
EXTRA = "\n[training]\nfree_gb = 0.0\n\n[feed]\nwindow = 1000000\n"
"""The feed waits for whoever is behind, a recorder that is suspended too, unless it is told not to."""
GROUP = "shadow-recorder"
BUSY = 4
SUSPENDED_S = 6.0


class Recorded(NamedTuple):
    """What one case wrote: the predictions with a score and what it says of them; the unscored by reason; and the
    values of the gates in each verdict, by artifact and number of scores."""

    scored: dict[tuple[str, int, bytes], tuple[float, float, Action]]
    unscored: dict[str, int]
    predictions: int
    verdicts: dict[tuple[str, int], tuple[tuple[str, float | None, int], ...]]


async def recorded(installation: Installation) -> Recorded:
    """Everything on ``scores`` that is about a prediction, and every verdict."""
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
    """How many entries each group has still to read."""
    log = installation.log()
    try:
        return {view.group: sum(view.lag.values()) for view in await log.groups(0)}
    finally:
        await log.close()


def caught_up(installation: Installation, *, without: str = "") -> bool:
    """Whether all groups, or all but one, have read everything."""
    return not any(lag for group, lag in anyio.run(lags, installation).items() if group != without)


def scores_at_least(installation: Installation, count: int) -> bool:
    """Whether so many events are on ``scores``."""

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
        """Begin to send."""
        return self.installation.start("feed", *self.words, *words)

    def send(self, *words: str) -> None:
        """Send all."""
        finished(self.start(*words))


def finished(feed: subprocess.Popen[str]) -> None:
    """Wait until a feed has sent all; fails where it could not."""
    shown, told = feed.communicate()
    assert feed.returncode == 0, f"the feed ended with {feed.returncode}: {shown}{told}"


def keeps_pace(installation: Installation, feed: Feed) -> None:
    """Bars come at a pace that the recorder keeps."""
    feed.send("--speed", "250")


def starts_late(installation: Installation, feed: Feed) -> None:
    """The recorder reads nothing until everybody else has read everything but its scores."""
    pid = installation.owners()[GROUP]
    kill(pid, signal.SIGSTOP)
    try:
        feed.send()
        wait_until(lambda: caught_up(installation, without=GROUP), 300, 0.5)
    finally:
        kill(pid, signal.SIGCONT)


def stops_for_a_while(installation: Installation, feed: Feed) -> None:
    """The recorder is suspended in the middle, then killed; its supervisor starts it again."""
    sending = feed.start()
    wait_until(lambda: scores_at_least(installation, 500), 120)
    pid = installation.owners()[GROUP]
    kill(pid, signal.SIGSTOP)
    time.sleep(SUSPENDED_S)
    kill(pid, signal.SIGKILL)
    finished(sending)


def under_load(installation: Installation, feed: Feed) -> None:
    """Other processes take the processor."""
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
    """An installation with two voting models and a shadow, down."""
    installation = Installation(folder, models=MODELS, extra=EXTRA)
    with running(installation):
        installation.train_all(*SOURCE)
        words = ("--seed", "2", "--shadow", "--reason", "a shadow")
        installation.conclave("train", "files", "--model", SHADOW, "--family", SHADOW, *SOURCE, *words)


def measure(folder: Path, case: Callable[[Installation, Feed], None], bars: int) -> Recorded:
    """What is recorded of a case, in the copy of the installation in ``folder``."""
    installation = Installation(folder, models=MODELS, extra=EXTRA)
    with running(installation):
        wait_until(lambda: GROUP in installation.owners())
        case(installation, Feed(installation, bars))
        wait_until(lambda: caught_up(installation), 600, 0.5)
        return anyio.run(recorded, installation)


def run(quick: bool) -> dict[str, Figure]:
    """See the module."""
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
