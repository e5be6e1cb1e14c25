"""Measure the speed and memory of ``verify``, and its false alarms on runs without tampering.

The speed is that of recomputing decisions and of scoring predictions again. Memory is measured on a short and on a long
range."""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from bench.chaos import World, worker_of
from bench.harness import Figure
from bench.recorded_rounds import commands, control_entries, recorded, rounds
from bench.replayed import record
from schemas.codec import decode
from schemas.predictions import PredictionMade
from services.console.audit.tasks import CHECKS, KINDS, Task, Where
from services.console.audit.verify import audited
from services.shadow_recorder.core import Recorder
from shared.artifacts import ArtifactStore
from shared.audit.ballots import check_ballots
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.source import Bounded, EntryRange
from shared.audit.votes import check_votes
from shared.log import Entry, StreamKey

PARTITIONS: Final = 2
HISTORY: Final = 140
"""Bars at the start of some runs of ``bench.chaos``, so that they have scores: volatility needs a hundred."""
CHAOS_STEPS: Final = 500
BLOCK: Final = 5_000
"""Number of distinct rounds in a file. Repeated reads are from the disk each time."""


class Filed:
    """Recorded entries in files, which are read ``times`` times, so that a long range needs little disk space."""

    def __init__(self, folder: Path, times: int) -> None:
        self.folder, self.times = folder, times

    def entries(self, place: StreamKey, after: str = "0-0", until: str = "+") -> Iterator[Entry]:
        """See ``Source``. Ranges are ignored."""
        path = self.folder / f"{place.stream}-{place.partition}"
        if not path.exists():
            return
        for _ in range(1 if place.stream == "control" else self.times):
            decoder = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
            for line in sorted(path.iterdir()):
                yield from (Entry(place, entry, data) for entry, data in decoder.decode(line.read_bytes()))

    def whole(self, place: StreamKey) -> bool:
        """Return True: no stream is trimmed."""
        return True


def write(folder: Path, blocks: int, partition: int) -> None:
    """Write ``blocks`` blocks of rounds of one partition."""
    kept: dict[str, list[tuple[str, bytes]]] = {"decisions": [], "intents": []}
    for number, one in enumerate(rounds(blocks * BLOCK, partition=partition), 1):
        for sealed in one.outputs:
            kept[sealed.stream].append((f"{number}-0", sealed.data))
        if number % BLOCK == 0:
            for stream, rows in kept.items():
                path = folder / f"{stream}-{partition}" / f"{number:09}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(msgspec.msgpack.encode(rows))
                rows.clear()


def verify(folder: str, times: int, partition: int) -> tuple[int, int, int, float]:
    """Return the numbers of decisions and differences of one partition, and the peak memory (KiB) and processor time
    (s) of the process."""
    begun = time.process_time()
    source = Filed(Path(folder), times)
    found = check_votes(source, Configurations(source, Findings()), partition, EntryRange())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found.equal["decisions"], found.count, peak, time.process_time() - begun


def votes(folder: Path, times: int) -> tuple[float, int, int, int, float]:
    """Return wall time (s), decisions, differences, peak memory (KiB) and processor time (s), with one process for each
    partition, including their start."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(PARTITIONS, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(verify, str(folder), times, partition) for partition in range(PARTITIONS)]
        found = [part.result() for part in parts]
    took = time.perf_counter() - begun
    decisions, differences, peaks, spent = zip(*found, strict=True)
    return took, sum(decisions), sum(differences), max(peaks), sum(spent)


def rescored(families: tuple[str, ...], fed: int) -> tuple[float, int]:
    """Return the predictions of these families scored again per second, and the number of differences. Failed
    predictions are not counted."""
    with tempfile.TemporaryDirectory() as folder:
        made = record(Path(folder), families, fed)
        configurations = Configurations(made.source, Findings())
        where = Where("", "", str(ArtifactStore(Path(folder)).path))
        begun = time.perf_counter()
        parts = [
            CHECKS["predictions"](made.source, configurations, where, EntryRange(), Task("predictions", 0, family))
            for family in families
        ]
        took = time.perf_counter() - begun
        answers = sum(
            isinstance(decode("predictions", entry.data).event, PredictionMade)
            for entry in made.source.entries(StreamKey("predictions"))
        )
        return answers / took, sum(part.count for part in parts)


def ballots(count: int) -> tuple[float, int]:
    """Return the decisions compared with ``predictions`` per second on one core, and the number of differences."""
    source = recorded(count)
    configurations = Configurations(source, Findings())
    begun = time.process_time()
    found = check_ballots(source, configurations, 0, EntryRange())
    return found.equal["ballots"] / (time.process_time() - begun), found.count


def chaos(seed: int) -> tuple[int, int]:
    """Return the number of decisions of one run of ``bench.chaos``, and the number of differences that are found during
    and after the run."""
    world = World(seed, [Recorder()], HISTORY if seed % 10 == 0 else 0)
    world.run(2 * CHAOS_STEPS if seed % 10 == 0 else CHAOS_STEPS)
    kinds = [kind for kind in KINDS if kind != "gates"]
    count = 0
    for source in (Bounded(world.source, world.ends()), world.source):
        found = audited(source, Path("nowhere"), kinds, worker=worker_of)
        if found.count:
            print(f"seed {seed}: {found.first}")
        count += found.count
    return len(world.source.places.get(StreamKey("decisions"), ())), count


def run(quick: bool) -> dict[str, Figure]:
    """Return the figures: votes over two partitions on a range and on one ten times as long; trees and PatchTST scored
    again."""
    blocks, times = (1, 4) if quick else (10, 10)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "control-0").mkdir()
        control = [(entry.id, entry.data) for entry in control_entries(commands())]
        (folder / "control-0" / "0").write_bytes(msgspec.msgpack.encode(control))
        with ProcessPoolExecutor(PARTITIONS, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(write, [folder] * PARTITIONS, [blocks] * PARTITIONS, range(PARTITIONS)))
        short = votes(folder, 1)
        long = votes(folder, times)
    trees, wrong = rescored(("lightgbm", "xgboost"), 2_000 if quick else 10_000)
    cast, left_out = ballots(5_000 if quick else 50_000)
    runs = 40 if quick else 1_000
    with ProcessPoolExecutor(PARTITIONS, mp_context=multiprocessing.get_context("spawn")) as pool:
        unruly = list(pool.map(chaos, range(runs), chunksize=10))
    networks, odd = rescored(("patchtst",), 1_000 if quick else 2_000)
    return {
        "decisions": Figure(long[1], "recomputed, four members and a shadow"),
        "votes": Figure(long[1] / long[0], "decisions/s on two cores", ">= 50000"),
        "differences": Figure(short[2] + long[2] + wrong + odd + left_out, "found where none is", "<= 0"),
        "processor": Figure(1e6 * long[4] / long[1], "us of one core a decision, start included", "< 40"),
        "memory": Figure(
            long[3] / short[3], f"x over a range {times} times as long", "< 1.1", f"{short[3] / 1024:.0f} MiB"
        ),
        "ballots": Figure(cast, "decisions/s held against predictions, one core", ">= 3000"),
        "honest runs": Figure(
            sum(accused > 0 for _, accused in unruly),
            f"of {runs} accused, each twice, {sum(decided for decided, _ in unruly):,} decisions",
            "<= 0",
        ),
        "trees": Figure(trees, "predictions/s scored again, one core", ">= 1000"),
        "patchtst": Figure(networks, "predictions/s scored again, one core, default size", ">= 300"),
    }
