"""A whole installation in a folder of its own, driven by its console: for benchmarks and for tests
that look at the running system from outside."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio

from schemas.codec import Envelope, decode
from schemas.decisions import DecisionMade
from services.console.run.processes import console_command
from shared.log import START, Entry, GroupView, Log, StreamKey
from shared.log.redis import RedisLog
from shared.runtime.process import ONE_THREAD

TREES = ("xgboost", "lightgbm")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Installation:
    """``conclave`` in ``folder``, with its own server on a free port."""

    def __init__(self, folder: Path, *, models: Sequence[str] = TREES, partitions: int = 1, extra: str = "") -> None:
        self.folder = folder
        self.models = tuple(models)
        self.url = f"redis://127.0.0.1:{free_port()}/0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "conclave.toml").write_text(
            f'[redis]\nurl = "{self.url}"\n\n[installation]\npartitions = {partitions}\n\n'
            f"[models]\nnames = {json.dumps(list(self.models))}\n{extra}"
        )

    def command(self, *words: str) -> list[str]:
        """A console command as an argument list."""
        return console_command(*words)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A console command in the background."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def conclave(self, *words: str, code: int = 0) -> str:
        """Runs a console command and gives what it printed; fails unless it ends with ``code``."""
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != code:
            raise AssertionError(
                f"conclave {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout if code == 0 else done.stderr

    def train(self, model: str, *words: str, family: str = "", weight: float = 1.0) -> str:
        """Trains, registers and promotes a model; its artifact's digest."""
        shown = self.conclave(
            "train", "files", "--model", model, "--family", family or model, *words,
            "--promote", "--weight", str(weight), "--reason", "a first model",
        )  # fmt: skip
        return str(re.findall(r"^[0-9a-f]{64}$", shown, re.MULTILINE)[0])

    def train_all(self, *words: str) -> None:
        """Trains every model on the same bars; all weigh the same. None is trained again of itself."""
        for number, model in enumerate(self.models, 1):
            self.train(model, *words, weight=1 / number)
        self.retrain_on_request_alone()

    def retrain_on_request_alone(self) -> None:
        """A job that nobody asked for would take a core from what is looked at, and change the configuration."""
        causes = ("schedule_hours=0", "on_drift=false", "on_decay=false")
        self.conclave("policy", "training", *causes, "--reason", "nothing happens by itself here")

    def owners(self) -> dict[str, int]:
        """The pid behind each living group of partition 0."""
        found = {}
        for view in anyio.run(self._groups):
            pid = re.search(r"pid (\d+)", view.owner)
            if view.alive and pid:
                found[view.group] = int(pid[1])
        return found

    async def _groups(self) -> list[GroupView]:
        log = self.log()
        try:
            return await log.groups(0)
        finally:
            await log.close()

    def decisions(self) -> list[DecisionMade]:
        """Every decision of partition 0."""

        async def read() -> list[DecisionMade]:
            log = self.log()
            try:
                return [envelope.event for envelope in await all_decisions(log)]
            finally:
                await log.close()

        return anyio.run(read)

    def log(self) -> RedisLog:
        """Its log; to be closed by the caller."""
        return RedisLog(self.url)

    def _environment(self) -> dict[str, str]:
        root = str(Path(__file__).parent.parent)
        return {**os.environ, **ONE_THREAD, "CONCLAVE_SETTINGS": str(self.folder / "conclave.toml"), "PYTHONPATH": root}


@contextmanager
def running(installation: Installation) -> Iterator[Installation]:
    """The installation, up; down at the end, whatever happens."""
    installation.conclave("up", "--detach")
    try:
        yield installation
    finally:
        installation.conclave("down")


async def all_entries(log: Log, place: StreamKey) -> list[Entry]:
    """A whole stream."""
    entries: list[Entry] = []
    while page := await log.scan(place, after=entries[-1].id if entries else START):
        entries += page
    return entries


async def all_decisions(log: Log, partition: int = 0) -> list[Envelope[DecisionMade]]:
    """Every decision of a partition, in the order in which they were written."""
    envelopes = [decode("decisions", entry.data) for entry in await all_entries(log, StreamKey("decisions", partition))]
    return [envelope for envelope in envelopes if isinstance(envelope.event, DecisionMade)]


def wait_until(
    condition: Callable[[], object], limit_s: float = 90.0, every_s: float = 0.1, told: object = "it did not get there"
) -> None:
    """Looks until a condition holds. ``AssertionError``, with ``told`` as it then stands, where it does not within the
    limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, told
        time.sleep(every_s)


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)
