"""Measure what looking costs: the time of a page, the decisions while 50 people look, and the memory after a day.

Pages: ``conclave run observatory`` as a process, on a server with 500 symbols, 20 models with a shadow each (40 ballots
a decision), their scores, and 10,000 control entries; some symbols have all that is kept of one. Each page and each
answer of the API is asked for again and again, by one client.

Updates: on the same server, the time from the append of an event to the patch of an open page (``bench.updates``):
alone, with 50 more open pages, and while 50 people also load pages.

Viewers: an installation of processes with two models gets 50 bars a second. Phases in which 50 people look (a stream
of updates each, and a page every few seconds) alternate with phases without them. The ratio is that of their p99, as
medians over the rounds. The people are one process of the lowest priority: their browsers run elsewhere.

Memory: the projections alone fold a day of 500 symbols at one minute, faster than time, in a process of their own: bars
and decisions with 40 ballots, and scores of all artifacts as often as needed to fill what is kept. Quick: 50 symbols.
"""

import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import anyio
import httpx
import numpy as np
import redis
from msgspec import structs

from bench.harness import Figure
from bench.installation import Installation, free_port, running, wait_until
from bench.latency import WARM, Market, bars_by_time, caught_up, paced
from bench.recorded import scored
from bench.recorded_rounds import MINUTE, START_MS, THIRD, control, digest, probabilities
from bench.updates import SEARCH, Close, delays
from schemas.codec import encode
from schemas.common import ACTIONS
from schemas.control import Command, Found, Promote, RegisterArtifact, SetVotingPolicy, SetWeights, StartShadow
from schemas.decisions import CountedBallot, DecisionMade, ShadowBallot
from schemas.market import BarClosed
from schemas.scores import PredictionScored
from shared.log import StreamKey
from shared.runtime.process import owner
from shared.server.embedded import EmbeddedServer

SYMBOLS: Final = 500
MODELS: Final = tuple(f"model{number:02}" for number in range(20))
COMMANDS: Final = 10_000
FULL: Final = 300
"""Bars and decisions of the symbols that have all that is kept of one."""
FULL_SYMBOLS: Final = 3
VIEWERS: Final = 50
EVERY_S: Final = 5.0
"""A person loads a page every so many seconds."""
RATE: Final = 50.0
DAY: Final = 1440
OTHERS: Final = 7
"""Decisions of a template are shared by so many bars in a row: only their bar differs."""


def commands(count: int) -> Iterator[Command]:
    """Yield commands that make 20 champions with a shadow each, and then change weights."""
    yield Found(1, "log-of-a-bench")
    for number, model in enumerate(MODELS, 1):
        for each in range(2):
            yield RegisterArtifact(
                model=model, artifact=digest(model, each), family="prior", feature_set="5e" * 32,
                feature_set_name="core-28", interval_ms=MINUTE, classes=ACTIONS, centre=THIRD, prior=(0.3, 0.4, 0.3),
            )  # fmt: skip
        yield Promote(model, digest(model), forced=True, weight=1 / number)
        yield StartShadow(model, digest(model, 1))
    yield SetVotingPolicy(edge=0.1)
    made = 4 * len(MODELS) + 2
    for number in range(count - made):
        first = 0.05 + 0.0001 * (number % 100)
        rest = (1.0 - first) / (len(MODELS) - 1)
        yield SetWeights({model: first if model == MODELS[0] else rest for model in MODELS})


def decision(symbol: str, number: int, head: str, draw: random.Random) -> DecisionMade:
    """Return a decision with a counted ballot and one in shadow of each model."""
    drawn = [probabilities(draw) for _ in MODELS]
    counted = tuple(
        CountedBallot(
            model=model, artifact=digest(model), event=f"{number:032x}", action="BUY", confidence=max(each),
            probabilities=each, weight=1 / len(MODELS), effect=0.01, pivotal=False,
        )
        for model, each in zip(MODELS, drawn, strict=True)
    )  # fmt: skip
    shadow = tuple(
        ShadowBallot(model, digest(model, 1), f"{number:032x}", "HOLD", each)
        for model, each in zip(MODELS, drawn, strict=True)
    )
    return DecisionMade(
        symbol=symbol, interval_ms=MINUTE, open_time=START_MS + number * MINUTE, origin="live",
        control_version=COMMANDS, control_head=head, policy="logpool", status="decided", action="BUY",
        confidence=0.6, probabilities=(0.1, 0.3, 0.6), consensus_count=20, total_models=20, counted=counted,
        absent=(), shadow=shadow, closed_by="complete", intent="issued", decided_at=START_MS + (number + 1) * MINUTE,
    )  # fmt: skip


def bar(symbol: str, number: int) -> BarClosed:
    """Return a bar of a symbol."""
    close = 100.0 + number % 17
    return BarClosed(
        symbol=symbol, interval_ms=MINUTE, open_time=START_MS + number * MINUTE, open=close, high=close + 1,
        low=close - 1, close=close, volume=5.0, origin="live",
    )  # fmt: skip


def decisions(symbol: str, count: int, head: str, draw: random.Random) -> Iterator[DecisionMade]:
    """Yield the decisions of a symbol, oldest first."""
    template = decision(symbol, 0, head, draw)
    for number in range(count):
        if number % OTHERS == 0:
            template = decision(symbol, number, head, draw)
        yield structs.replace(template, open_time=START_MS + number * MINUTE)


def scores(rows: int, symbols: int, draw: random.Random) -> Iterator[PredictionScored]:
    """Yield scored predictions of every artifact."""
    for row, model, each in itertools.product(range(rows), MODELS, range(2)):
        yield scored(
            row // symbols, f"S{row % symbols:03}", probabilities(draw), draw.randrange(3), model=model,
            artifact=bytes.fromhex(digest(model, each)), role="shadow" if each else "voting",
            incumbent_artifact=bytes.fromhex(digest(model)),
        )  # fmt: skip


class Filling:
    """Writes streams to a server as fast as it takes them: entries, as the services write them, one second apart."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._pipe = self._client.pipeline(transaction=False)
        self._count = 0

    def add(self, stream: str, event: Any, entry: str) -> None:
        """Write an event."""
        self._pipe.xadd(StreamKey(stream).key, {"e": encode(stream, event).data}, id=entry)
        self._count += 1
        if self._count % 2000 == 0:
            self._pipe.execute()

    def close(self) -> None:
        """Write what is left."""
        self._pipe.execute()
        self._client.close()


def fill(url: str, rows: int, bars: int) -> None:
    """Write the streams of a large installation. ``rows``: scores of each artifact. ``bars``: of each symbol."""
    filling, draw, now = Filling(url), random.Random(3), time.time_ns() // 1_000_000 - 3_600_000
    entries, state = control(list(commands(COMMANDS)))
    for entry in entries:
        filling.add("control", entry, f"{entry.version}-0")
    names = [f"S{number:03}" for number in range(SYMBOLS)]
    made = {name: decisions(name, FULL, state.head, draw) for name in names}
    for number in range(FULL):
        chosen = names if number >= FULL - bars else names[:FULL_SYMBOLS]
        for sequence, name in enumerate(chosen):
            filling.add("market", bar(name, number), f"{now + 1000 * number}-{sequence}")
            event = next(made[name])
            event = structs.replace(event, open_time=START_MS + number * MINUTE)
            filling.add("decisions", event, f"{now + 1000 * number + 20}-{sequence}")
    for sequence, score in enumerate(scores(rows, SYMBOLS, draw)):
        filling.add("scores", score, f"{now + 1000 * FULL}-{sequence}")
    filling.close()


@contextmanager
def served(installation: Installation, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run an observatory alone, and wait until it has read the streams."""
    process = installation.start("run", "observatory")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:

            def is_ready() -> bool:
                assert process.poll() is None, process.communicate()
                try:
                    return bool(client.get("/api/v1/status").json()["caught_up"])
                except httpx.TransportError:
                    return False

            wait_until(is_ready, 300, 0.2, "it does not read the streams to their end")
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def memory_of(pid: int) -> float:
    """Return the proportional set size of a process (MB)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def pages_of(client: httpx.Client) -> list[str]:
    """Return the paths of all pages, and of the answers of the API."""
    series = client.get("/api/v1/symbol?name=S000.60000").json()
    made, artifact = series["decisions"][-1]["id"], digest(MODELS[0], 1)
    return [
        "/", "/?page=9", "/?search=S4", "/symbol?name=S000.60000", f"/decision/{made}", "/models",
        f"/models/{artifact}", "/history", "/history?page=200&version=5000", "/training", "/health", "/api/v1/now",
        "/api/v1/symbol?name=S000.60000", "/api/v1/models", "/api/v1/history", "/api/v1/versions/9000",
        "/api/v1/health", "/api/v1/doctor",
    ]  # fmt: skip


def pages(folder: Path, quick: bool) -> dict[str, Figure]:
    """Return how long pages take in a large installation, and the memory of the process that serves them."""
    port = free_port()
    with EmbeddedServer(folder / "server", die_with_parent=True) as server:
        fill(server.url, 20 if quick else 200, 4 if quick else 40)
        extra = f"\n[observatory]\nport = {port}\n"
        installation = Installation(folder, url=server.url, extra=extra)
        begun = time.monotonic()
        with served(installation, port) as process:
            started_s = time.monotonic() - begun
            took: dict[str, list[float]] = {}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
                paths = pages_of(client)
                for path in paths * (5 if quick else 30):
                    at = time.perf_counter()
                    answer = client.get(path)
                    assert answer.status_code == 200, (path, answer.text[:300])
                    took.setdefault(path.partition("?")[0], []).append(time.perf_counter() - at)
            memory = memory_of(process.pid)
            shown = updates(server.url, port, 6 if quick else 40)
    slowest = max(took, key=lambda path: float(np.percentile(took[path], 95)))
    every = [second for seconds in took.values() for second in seconds]
    return {
        "pages_p95": Figure(
            1000 * float(np.percentile(every, 95)), "ms", "< 1000", f"{len(every)} of {len(took)} kinds"
        ),
        "slowest_page_p95": Figure(1000 * float(np.percentile(took[slowest], 95)), "ms", "< 1000", slowest),
        "start": Figure(started_s, "s to read the streams", "", f"{COMMANDS:,} commands"),
        "memory": Figure(memory, "MB", "", f"{SYMBOLS} symbols"),
        **shown,
    }


def updates(url: str, port: int, rounds: int) -> dict[str, Figure]:
    """Return how long an event takes to an open page: alone, with 50 open pages, and with 50 people who load some."""
    measured = {"alone": anyio.run(delays, url, port, list(closes(0, rounds)), 1)}
    for number, (name, every_s) in enumerate((("with_50_pages", 0.0), ("with_50_viewers", EVERY_S)), 1):
        with looking(port, every_s):
            measured[name] = anyio.run(delays, url, port, list(closes(number * rounds, rounds)), 1 + number)
    found = {}
    for name, seconds in measured.items():
        for share in (50, 95, 99):
            value = 1000 * float(np.percentile(seconds, share))
            found[f"update_p{share}_{name}"] = Figure(
                value, "ms", "< 1000", f"{len(seconds)} events, {SYMBOLS} symbols"
            )
    return found


def closes(first: int, rounds: int) -> Iterator[list[Close]]:
    """Yield what follows from each closed bar of all symbols."""
    draw, head = random.Random(first), "0" * 64
    names = [f"S{number:03}" for number in range(SYMBOLS)]
    for number in range(FULL + first, FULL + first + rounds):
        made = {name: decision(name, number, head, draw) for name in names}
        yield [
            Close(encode("market", bar(name, number)), encode("decisions", event), name.startswith(SEARCH))
            for name, event in made.items()
        ]


@contextmanager
def looking(port: int, every_s: float = EVERY_S) -> Iterator[None]:
    """Let 50 people look, as one process of the lowest priority. ``every_s``: between two pages that one loads, on
    average (0: they keep the one that is open)."""
    words = ["nice", "-n", "19", sys.executable, "-m", "bench.viewers", str(port), str(VIEWERS), str(every_s)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        yield
    finally:
        process.communicate(timeout=30)


async def alternated(installation: Installation, port: int, rounds: int, bars: int) -> tuple[list[float], list[float]]:
    """Return the p99 latencies (ms) of the phases without viewers, and of those with them."""
    log, sender = installation.log(), installation.log()
    market = Market(log, await sender.claim("bench", (), 0, owner("bench")))
    market.send = Market(sender, market.claim).send  # type: ignore[method-assign]  # a connection of its own
    moments = bars_by_time(("SOLO",), WARM + 2 * rounds * bars)
    await market.warm(moments[:WARM])
    alone: list[float] = []
    watched: list[float] = []
    at = WARM
    for number in range(rounds):
        for with_viewers in (False, True) if number % 2 == 0 else (True, False):
            await caught_up(log)
            part, at = moments[at : at + bars], at + bars
            if with_viewers:
                with looking(port):
                    watched.append(float(np.percentile(await paced(market, part, RATE), 99)))
            else:
                alone.append(float(np.percentile(await paced(market, part, RATE), 99)))
    await log.close()
    await sender.close()
    return alone, watched


def viewers(folder: Path, quick: bool) -> dict[str, Figure]:
    """Return what 50 viewers do to the latency from bar to decision."""
    port = free_port()
    installation = Installation(folder, extra=f"\n[observatory]\nport = {port}\n")
    rounds, bars = (3, 300) if quick else (8, 1000)
    with running(installation):
        installation.train_all("--synthetic", "sequence", "--symbols", "2", "--count", "3000")
        options = {"use_uvloop": True}
        alone, watched = anyio.run(alternated, installation, port, rounds, bars, backend_options=options)
    ratio = median(watched) / median(alone)
    return {
        "decision_p99_alone": Figure(median(alone), "ms"),
        "decision_p99_with_50_viewers": Figure(median(watched), "ms"),
        "viewers_ratio": Figure(ratio, "times", "<= 1.1", f"alone {median(alone):.2f} ms, {rounds} rounds"),
    }


def day(symbols: int) -> None:
    """Fold a day, and print the memory (MB) of this process after each quarter of it, and how long a snapshot takes."""
    from services.observatory import core

    state, draw, head = core.State(), random.Random(5), "0" * 64
    for sequence, score in enumerate(scores(400, symbols, draw)):
        core.apply(state, StreamKey("scores"), f"{START_MS}-{sequence}", encode("scores", score).envelope)
    names = [f"S{number:03}" for number in range(symbols)]
    templates = {name: [decision(name, each, head, draw) for each in range(3)] for name in names}
    envelope = encode("decisions", templates[names[0]][0]).envelope
    sizes, begun = [], time.perf_counter()
    for minute in range(DAY):
        at = START_MS + (minute + 1) * MINUTE
        for sequence, name in enumerate(names):
            closed = structs.replace(envelope, event=bar(name, minute))
            core.apply(state, StreamKey("market"), f"{at}-{sequence}", closed)
            event = structs.replace(templates[name][minute % 3], open_time=START_MS + minute * MINUTE)
            name_of = (minute * symbols + sequence).to_bytes(16)
            made = structs.replace(envelope, id=name_of, event=event)
            core.apply(state, StreamKey("decisions"), f"{at + 20}-{sequence}", made)
        if minute % (DAY // 4) == DAY // 4 - 1:
            sizes.append(memory_of_self())
    folded_s = time.perf_counter() - begun
    pauses, size = [], 0
    begun = time.perf_counter()
    pieces = core.pieces(state)
    pauses.append(time.perf_counter() - begun)
    while True:
        begun = time.perf_counter()
        piece = next(pieces, None)
        pauses.append(time.perf_counter() - begun)
        if piece is None:
            break
        size += len(piece)
    shown = {"sizes": sizes, "events_s": 2 * DAY * symbols / folded_s, "pause_s": max(pauses), "file_mb": size / 2**20}
    print(json.dumps(shown))


def memory_of_self() -> float:
    """Return the proportional set size of this process (MB)."""
    import os

    return memory_of(os.getpid())


def memory(quick: bool) -> dict[str, Figure]:
    """Return the memory of the projections over a day."""
    symbols = 50 if quick else SYMBOLS
    code = f"from bench.observatory import day; day({symbols})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    sizes = found["sizes"]
    return {
        "memory_after_a_day": Figure(sizes[-1], "MB", "", f"{symbols} symbols at one minute, 40 ballots"),
        "growth_over_the_second_half": Figure(sizes[-1] / sizes[1], "times", "< 1.05", f"{sizes[1]:.0f} MB at noon"),
        "folded": Figure(found["events_s"], "events/s"),
        "file": Figure(found["file_mb"], "MB"),
        "longest_pause_of_a_save": Figure(1000 * found["pause_s"], "ms", "< 100"),
    }


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    with tempfile.TemporaryDirectory(prefix="conclave-observatory-") as name:
        return pages(Path(name) / "pages", quick) | viewers(Path(name) / "viewers", quick) | memory(quick)
