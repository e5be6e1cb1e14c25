"""Run a whole installation in a folder through its console, for benchmarks and tests of the running system."""

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
from shared.settings import URL_SCHEMES

TREES = ("xgboost", "lightgbm")
ONE_PROCESS = "--one-process"
"""For a test of what services do together, where nothing happens to one of them alone: it starts in a fifth of the
time."""


def free_port() -> int:
    """Return a free TCP port on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Installation:
    """``conclave`` in ``folder``, with its own server on a free port, or with the servers at ``url``."""

    def __init__(
        self, folder: Path, *, models: Sequence[str] = TREES, partitions: int = 1, extra: str = "", url: str = ""
    ) -> None:
        self.folder = folder
        self.models = tuple(models)
        self.partitions = partitions
        self.url = url or f"redis://127.0.0.1:{free_port()}/0"
        mode = URL_SCHEMES[self.url.partition("://")[0]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "conclave.toml").write_text(
            f'[redis]\nmode = "{mode}"\nurl = "{self.url}"\n\n'
            f"[installation]\npartitions = {partitions}\n\n"
            f"[models]\nnames = {json.dumps(list(self.models))}\n{extra}"
            + ("" if "[observatory]" in extra else "\n[observatory]\nport = 0\n")
        )

    def command(self, *words: str) -> list[str]:
        """Return a console command as a list of arguments."""
        return console_command(*words)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a console command in the background."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a console command, and return its exit code and output."""
        return subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment(), capture_output=True, text=True, check=False
        )

    def conclave(self, *words: str, code: int = 0) -> str:
        """Run a console command and return its output. Raises ``AssertionError`` unless it exits with ``code``."""
        done = self.run(*words)
        if done.returncode != code:
            raise AssertionError(
                f"conclave {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout if code == 0 else done.stderr

    def train(self, model: str, *words: str, family: str = "", weight: float = 1.0) -> str:
        """Train, register and promote an artifact of a model, and return its digest."""
        shown = self.conclave(
            "train", "files", "--model", model, "--family", family or model, *words,
            "--promote", "--weight", str(weight), "--reason", "a first model",
        )  # fmt: skip
        return str(re.findall(r"^[0-9a-f]{64}$", shown, re.MULTILINE)[0])

    def train_all(self, *words: str) -> None:
        """Train every model on the same bars, with equal weights. Automatic retraining is switched off."""
        for number, model in enumerate(self.models, 1):
            self.train(model, *words, weight=1 / number)
        self.retrain_on_request_alone()

    def retrain_on_request_alone(self) -> None:
        """Switch off automatic retraining, since a job takes processor time and can change the configuration."""
        causes = ("schedule_hours=0", "on_drift=false", "on_decay=false")
        self.conclave("policy", "training", *causes, "--reason", "nothing happens by itself here")

    def owners(self) -> dict[str, int]:
        """Return the process id of the owner of each group of partition 0 that has a living one."""
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
        """Return every decision of partition 0."""

        async def read() -> list[DecisionMade]:
            log = self.log()
            try:
                return [envelope.event for envelope in await all_decisions(log)]
            finally:
                await log.close()

        return anyio.run(read)

    def log(self) -> RedisLog:
        """Open its log. The caller must close it."""
        return RedisLog(self.url)

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        root = str(Path(__file__).parent.parent)
        return {**os.environ, **ONE_THREAD, "CONCLAVE_SETTINGS": str(self.folder / "conclave.toml"), "PYTHONPATH": root}


@contextmanager
def running(installation: Installation, *words: str) -> Iterator[Installation]:
    """Start the installation, with more words of ``conclave up``, and stop it at the end of the block, also after an
    error."""
    installation.conclave("up", "--detach", *words)
    try:
        yield installation
    finally:
        installation.conclave("down")


async def all_entries(log: Log, place: StreamKey) -> list[Entry]:
    """Return all entries of a stream."""
    entries: list[Entry] = []
    while page := await log.scan(place, after=entries[-1].id if entries else START):
        entries += page
    return entries


async def all_decisions(log: Log, partition: int = 0) -> list[Envelope[DecisionMade]]:
    """Return every decision of a partition, in the order of the stream."""
    envelopes = [decode("decisions", entry.data) for entry in await all_entries(log, StreamKey("decisions", partition))]
    return [envelope for envelope in envelopes if isinstance(envelope.event, DecisionMade)]


def wait_until(
    condition: Callable[[], object], limit_s: float = 90.0, every_s: float = 0.1, told: object = "it did not get there"
) -> None:
    """Wait until a condition holds, and check it every ``every_s`` seconds.

    Raises ``AssertionError`` with the text of ``told`` if it does not hold within ``limit_s`` seconds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, told
        time.sleep(every_s)


def kill(pid: int) -> None:
    """Kill a process with SIGKILL."""
    os.kill(pid, signal.SIGKILL)
