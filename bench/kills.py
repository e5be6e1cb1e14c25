"""Kill the processes of a running installation at chosen steps of a commit, while commands are issued.

Everything runs as in production, each service as a process under ``conclave up``, with a proxy (``bench.proxy``)
between them and their server. Bars arrive at a steady rate, from a feed that is started again when it was killed. An
operator promotes, rolls back, changes weights, starts and stops shadows, halts and resumes at random moments. The
victims take turns: each service, the feed and the server, at each step of a commit; a service that commits rarely is
killed at a random moment. One kill in twelve is a suspension beyond the lease, one a SIGTERM. In between, their
connections are disturbed: some are left half open, all are slow, all are closed again and again, the server pauses, is
out of memory, accepts half as many connections or becomes a replica, and a service has no file descriptor left for a
new connection.

At the end the feed stops and everything drains. ``verify`` recomputes all layers: whatever was lost, doubled or made
under two configurations is a difference. Bars are compared with the source. The time to be live is measured from the
signal until another process owns the group.

``SEED=<number>`` chooses other moments, ``TORCH=1`` adds an N-HiTS model.
"""

import os
import random
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import numpy as np
import redis
from rich.progress import Progress

from bench.harness import Figure
from bench.installation import Installation, all_entries, free_port, running, wait_until
from bench.proxy import STEPS, Proxy, Step
from schemas.codec import decode
from schemas.control import Command, Halt, Promote, Resume, Rollback, SetWeights, StartShadow, StopShadow
from schemas.market import BarClosed
from services.console.run.up_file import running as running_up
from shared.control.issuing import ControlWriter, RefusedError
from shared.log import GroupView, StreamKey
from shared.log.redis import RedisLog
from shared.server.embedded import EmbeddedServer

KILLS: Final = 1000
QUICK_KILLS: Final = 40
RATE: Final = 40.0
"""Bars a second, over all symbols."""
SYMBOLS: Final = 4
MODELS: Final = ("xgboost", "logistic")
FIRST_ROWS: Final = 8000
STRIKE_WITHIN_S: Final = 1.5
LIVE_WITHIN_S: Final = 60.0
SUSPENDED_S: Final = 11.0
"""Longer than a lease."""
PAUSES_S: Final = (0.1, 1.0)
RARE: Final = ("archiver", "trainer", "guard")
"""Services that seldom commit."""
DISTURBED_S: Final = 3.0
"""How long connections are slow, or the server takes no writes."""
SLOW_S: Final = 0.05
MOVED: Final = 40
"""When so many decisions were made after a disturbance of connections, and every group got on, it is over."""
CONNECTIONS: Final = ("half_open", "no_descriptor", "slow", "closed", "paused", "no_memory", "no_clients", "replica")
COMMITTING: Final = ("feature-builder", "ensemble-voter", "executor", "shadow-recorder", "gate-evaluator", "feed")


class Recovery(NamedTuple):
    """One disturbance: of what, at which step, and the seconds until another process was live."""

    victim: str
    step: str
    seconds: float


class Feed:
    """The feed of the bench: a process that is started again whenever it ends with an error."""

    def __init__(self, installation: Installation, rate: float) -> None:
        self._installation = installation
        self._words = [
            "feed", "--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", "200000",
            "--skip", str(FIRST_ROWS), "--speed", str(rate),
        ]  # fmt: skip
        self._stop = threading.Event()
        self.process = installation.start(*self._words)
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(0.05):
            if self.process.poll() is not None:
                self.process.communicate()
                self.process = self._installation.start(*self._words)

    def stop(self) -> None:
        """End it in order."""
        self._stop.set()
        self._thread.join()
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.communicate(timeout=60)


class Operator:
    """Issues commands at random moments until it is stopped."""

    def __init__(self, url: str, artifacts: dict[str, list[str]], seed: int) -> None:
        self.issued: Counter[str] = Counter()
        self._url, self._artifacts, self._dice = url, artifacts, random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: anyio.run(self._run), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the current command."""
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        log = RedisLog(self._url, name="bench:operator")
        writer = ControlWriter(log)
        while not self._stop.is_set():
            command = self._command()
            try:
                await writer.issue(command, actor="bench", reason="a random command")
                self.issued[type(command).__name__] += 1
            except RefusedError:
                self.issued["refused"] += 1
            except Exception as error:  # the server is killed
                self.issued[type(error).__name__] += 1
            await anyio.sleep(self._dice.uniform(0.3, 2.0))
        with suppress(Exception):
            await writer.issue(Resume(), actor="bench", reason="the end")
        await log.close()

    def _command(self) -> Command:
        dice = self._dice
        model = dice.choice(list(self._artifacts))
        artifact = dice.choice(self._artifacts[model])
        parts = [dice.random() + 0.1 for _ in self._artifacts]
        commands: Sequence[Callable[[], Command]] = (
            lambda: Promote(model, artifact, forced=True, accept_changes=True),
            lambda: Rollback(model=model),
            lambda: StartShadow(model, artifact),
            lambda: StopShadow(model, artifact),
            lambda: SetWeights({name: part / sum(parts) for name, part in zip(self._artifacts, parts, strict=True)}),
            Halt,
            Resume,
        )
        return dice.choices(commands, (4, 2, 3, 1, 2, 1, 2))[0]()


class Bench:
    """A running installation and what is done to it."""

    def __init__(self, installation: Installation, server: EmbeddedServer, proxy: Proxy, feed: Feed, seed: int) -> None:
        self.installation, self.server, self.proxy, self.feed = installation, server, proxy, feed
        self.dice = random.Random(seed)
        self.recoveries: list[Recovery] = []
        self.stuck: list[str] = []
        workers = tuple(f"model-worker.{model}" for model in installation.models)
        names = (*COMMITTING, *workers)
        steps = [(name, step) for step in STEPS for name in names] + [(name, "random") for name in (*RARE, "server")]
        steps += [("connections", kind) for kind in CONNECTIONS]
        self.dice.shuffle(steps)
        self.plan: Iterator[tuple[str, str]] = cycle(steps)

    def pids(self) -> dict[str, int]:
        """Return the process id of each service that lives now."""
        running_now = running_up(self.installation.folder / "var")
        assert running_now is not None, "the installation does not run"
        up, found = running_now.pid, {"feed": self.feed.process.pid}
        children = Path(f"/proc/{up}/task/{up}/children").read_text().split()
        for pid in children:
            with suppress(FileNotFoundError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "--model" in words:
                    found[f"model-worker.{words[words.index('--model') + 1]}"] = int(pid)
                else:
                    name = next((word for word in words if word in {*COMMITTING, *RARE, "watcher"}), "")
                    found[name] = int(pid)
        return found

    def disturb(self) -> None:
        """Disturb the next victim of the plan, and wait until another process does its work."""
        victim, step = next(self.plan)
        if victim == "server":
            begun = time.monotonic()
            self.server.kill()
            self.server.start()
            self._until_live(victim, step, 0, begun)
        elif victim == "connections":
            self._disturb_connections(step)
        else:
            wait_until(lambda: victim in self.pids(), LIVE_WITHIN_S, told=f"{victim} does not run")
            self._signal(victim, step)
        time.sleep(self.dice.uniform(*PAUSES_S))

    def _disturb_connections(self, kind: str) -> None:
        begun, decisions = time.monotonic(), self.extent()
        before = {view.group: view.positions for view in self.views()}
        client = redis.Redis(port=self.proxy.target)
        victim = self.dice.choice([name for name in self.pids() if name in COMMITTING])
        match kind:
            case "half_open":
                self.proxy.silence(f"conclave:{victim}")
            case "no_descriptor":
                pid = self.pids()[victim]
                used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, used))
                for each in client.client_list():
                    if each["name"].startswith(f"conclave:{victim}"):
                        client.client_kill_filter(_id=each["id"])
            case "slow":
                self.proxy.delay_s = SLOW_S
                time.sleep(DISTURBED_S)
                self.proxy.delay_s = 0.0
            case "closed":
                for _ in range(10):
                    client.client_kill_filter(_type="normal")
                    time.sleep(DISTURBED_S / 10)
            case "paused":
                client.client_pause(int(DISTURBED_S * 1000))
            case "no_memory":
                client.config_set("maxmemory", 1)
                time.sleep(DISTURBED_S)
                client.config_set("maxmemory", 0)
            case "no_clients":
                most = str(client.config_get("maxclients")["maxclients"])
                client.config_set("maxclients", len(client.client_list()) // 2)
                client.client_kill_filter(_type="normal")
                time.sleep(DISTURBED_S)
                client.config_set("maxclients", most)
            case _:
                client.replicaof("127.0.0.1", 1)
                time.sleep(DISTURBED_S)
                client.replicaof("NO", "ONE")
        client.close()
        try:
            wait_until(lambda: self._goes_on(decisions + MOVED, before), LIVE_WITHIN_S, 0.1)
        except AssertionError:
            self.stuck.append(f"{victim} after {kind}")
            return
        self.recoveries.append(Recovery(victim, kind, time.monotonic() - begun))

    def extent(self) -> int:
        """Return the number of entries on ``decisions``."""
        with redis.Redis(port=self.proxy.target) as client:
            return int(client.xlen(StreamKey("decisions").key))

    def _goes_on(self, decisions: int, before: Mapping[str, object]) -> bool:
        """Return whether there are so many decisions, and every group has read on or everything."""
        with suppress(Exception):  # the server may not answer yet
            if self.extent() >= decisions:
                return all(
                    view.positions != before.get(view.group) or not any(view.lag.values()) for view in self.views()
                )
        return False

    def views(self) -> Sequence[GroupView]:
        """Return the groups that feed decisions and evidence."""

        async def read() -> list[GroupView]:
            log = self.installation.log()
            try:
                return [view for view in await log.groups(0) if view.group != "archiver"]
            finally:
                await log.close()

        return anyio.run(read)

    def _signal(self, victim: str, step: str) -> None:
        pid, dice = self.pids()[victim], self.dice.random()
        kind = signal.SIGSTOP if dice < 1 / 12 else signal.SIGTERM if dice < 2 / 12 else signal.SIGKILL
        moments: list[float] = []

        def strike() -> None:
            moments.append(time.monotonic())
            with suppress(ProcessLookupError):
                os.kill(pid, kind)

        named: dict[str, Step] = {each: each for each in STEPS}
        if step in named:
            self.proxy.arm(f"conclave:{victim}", named[step], strike)
            if not self.proxy.struck.wait(STRIKE_WITHIN_S):
                step = "random" if self.proxy.disarm() else step
        if step == "random":
            strike()
        else:
            self.proxy.struck.wait()
        if kind == signal.SIGSTOP:
            time.sleep(SUSPENDED_S)
            os.kill(pid, signal.SIGCONT)
        else:
            self._until_live(victim, step if kind == signal.SIGKILL else kind.name, pid, moments[0])

    def _until_live(self, victim: str, step: str, pid: int, begun: float) -> None:
        def live() -> bool:
            try:
                owners = self.installation.owners()
            except Exception:  # the server is killed
                return False
            if victim == "server":
                return {"ensemble-voter", "feature-builder"} <= owners.keys()
            if victim in {"guard", "feed"}:
                return self.pids().get(victim, pid) != pid
            return owners.get(victim, pid) != pid

        try:
            wait_until(live, LIVE_WITHIN_S, 0.02, victim)
        except AssertionError:
            self.stuck.append(f"{victim} after {step}")
            return
        self.recoveries.append(Recovery(victim, step, time.monotonic() - begun))


@contextmanager
def prepared(folder: Path, models: Sequence[str]) -> Iterator[tuple[Installation, EmbeddedServer, Proxy]]:
    """Yield an installation that does not run yet, its server, and the proxy between them."""
    installation = Installation(folder, models=models)
    port = int(installation.url.rsplit(":", 1)[1].split("/")[0])
    behind = free_port()
    proxy = Proxy(behind)
    with (
        EmbeddedServer(folder / "var" / "redis", port=behind, fsync="always", die_with_parent=True) as server,
        proxy.listening(port),
    ):
        yield installation, server, proxy


def artifacts_of(installation: Installation) -> dict[str, list[str]]:
    """Train and promote two artifacts of each model, one after the other."""
    found: dict[str, list[str]] = {}
    bars = ["--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", "4000", "--rows", str(FIRST_ROWS)]
    for number, model in enumerate(installation.models, 1):
        seeds = [["--seed", "1"], ["--seed", "2"]] if model != "logistic" else [["--hold", "0.4"], ["--hold", "0.5"]]
        more = ["--param", "epochs=2"] if model == "nhits" else []
        first = installation.train(model, *bars, *seeds[0], *more, weight=1 / number)
        second = installation.train(model, *bars, *seeds[1], *more, weight=1 / number)
        found[model] = [first, second]
    installation.retrain_on_request_alone()
    return found


async def _bars(installation: Installation) -> tuple[int, int, int]:
    """Return the numbers of bars, of doubled bars, and of missing bars on ``market``."""
    log = installation.log()
    try:
        events = [decode("market", entry.data).event for entry in await all_entries(log, StreamKey("market"))]
    finally:
        await log.close()
    times: dict[str, list[int]] = {}
    interval = 1
    for bar in events:
        if isinstance(bar, BarClosed):
            times.setdefault(bar.symbol, []).append(bar.open_time)
            interval = bar.interval_ms
    doubled = sum(len(each) - len(set(each)) for each in times.values())
    missing = sum((max(each) - min(each)) // interval + 1 - len(set(each)) for each in times.values())
    return sum(map(len, times.values())), doubled, missing


def _drained(installation: Installation) -> bool:
    async def lags() -> int:
        log = installation.log()
        try:
            return sum(sum(view.lag.values()) for view in await log.groups(0) if view.group != "archiver")
        finally:
            await log.close()

    with suppress(Exception):
        return anyio.run(lags) == 0
    return False


def _verify(installation: Installation, folder: Path) -> dict[str, object]:
    """Return what ``verify`` reports, with its exit code."""
    done = subprocess.run(
        installation.command("verify", "-o", "json"),
        cwd=folder, env=installation.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {"code": done.returncode, "text": done.stdout[-4000:] + done.stderr[-1000:]}


def run(quick: bool) -> dict[str, Figure]:
    """Return the counts and the times to be live."""
    kills = int(os.environ.get("KILLS", QUICK_KILLS if quick else KILLS))
    seed = int(os.environ.get("SEED", "1"))
    models = (*MODELS, "nhits") if os.environ.get("TORCH") == "1" else MODELS
    with (
        tempfile.TemporaryDirectory(prefix="conclave-kills-") as name,
        prepared(Path(name), models) as (installation, server, proxy),
    ):
        folder = Path(name)
        with running(installation):
            artifacts = artifacts_of(installation)
            feed = Feed(installation, RATE)
            operator = Operator(f"redis://127.0.0.1:{proxy.target}/0", artifacts, seed)
            bench = Bench(installation, server, proxy, feed, seed)
            wait_until(lambda: len(installation.decisions()) > 10 * SYMBOLS, 120, 0.5, "no decisions")
            with Progress() as progress:
                task = progress.add_task("kills", total=kills)
                for _ in range(kills):
                    try:
                        bench.disturb()
                    except AssertionError:
                        print((folder / "var" / "log" / "up.log").read_text()[-4000:])
                        raise
                    progress.advance(task)
            operator.stop()
            feed.stop()
            wait_until(lambda: _drained(installation), 300, 0.5, "it does not drain")
            decided = len(installation.decisions())
            bars, doubled, missing = anyio.run(_bars, installation)
            verified = _verify(installation, folder)
    print(dict(operator.issued))
    if verified["code"] != 0:
        print(verified["text"])
    return _figures(bench, verified["code"] == 0, bars, doubled, missing, decided)


def _figures(bench: Bench, clean: bool, bars: int, doubled: int, missing: int, decided: int) -> dict[str, Figure]:
    figures = {
        "disturbances": Figure(len(bench.recoveries) + len(bench.stuck), "times"),
        "bars": Figure(bars, "bars"),
        "bars_doubled": Figure(doubled, "bars", "<= 0"),
        "bars_lost": Figure(missing, "bars", "<= 0"),
        "decisions": Figure(decided, "decisions"),
        "verify_clean": Figure(float(clean), "", ">= 1"),
        "stuck": Figure(len(bench.stuck), "services", "<= 0"),
    }
    torch = {name for name in bench.installation.models if name in {"nhits", "patchtst"}}
    for label, goal, with_torch in (("live_without_torch", "< 2", False), ("live_with_torch", "< 4", True)):
        seconds = [
            each.seconds
            for each in bench.recoveries
            if (each.victim.rpartition(".")[2] in torch) == with_torch and each.step not in {"SIGTERM", *CONNECTIONS}
        ]
        if seconds:
            figures[f"{label}_p50"] = Figure(float(np.median(seconds)), "s")
            figures[f"{label}_p99"] = Figure(float(np.quantile(seconds, 0.99)), "s", goal)
    slowest = sorted(bench.recoveries, key=lambda each: -each.seconds)[:8]
    print("slowest:", ", ".join(f"{each.victim} {each.step} {each.seconds:.1f} s" for each in slowest))
    for each in bench.stuck:
        print("stuck:", each)
    return figures
