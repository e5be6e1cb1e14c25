"""An observatory with something to see on every screen: services, training jobs, dead letters, a server, an archive."""

import os
from pathlib import Path

from msgspec import structs

from bench.replayed import Replayed, seal_all
from schemas.codec import encode
from schemas.common import Probabilities
from schemas.documentation.examples import examples
from schemas.operations import DeadLetter, DeadLetterRetried
from schemas.training import (
    DataAssessed,
    DataReport,
    Gain,
    Recipe,
    SanityCheck,
    StackerFitted,
    StackerRejected,
    StackerRequested,
    SymbolData,
    TrainingCompleted,
    TrainingEvent,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)
from services.observatory.doctor import Doctor
from shared.log import Owner, StreamKey
from shared.runtime.clock import ProcessClock, ServerClock
from shared.settings import Archive, Installation, Redis, Settings
from tests.services.observatory.conftest import Served
from tests.services.observatory.events import A

RECIPE = Recipe("nhits", "classic-18", {"epochs": 40, "batch": 32, "dropout": 0.1}, 12, 0.4, 1)
CLASSES: Probabilities = (0.31, 0.38, 0.31)


def request(at: int, model: str = "nhits", cause: str = "operator", reason: str = "a new month") -> TrainingRequested:
    evidence = "ab" * 16 if cause in {"drift", "decay"} else None
    return TrainingRequested(
        model=model, recipe=RECIPE, cause=cause, evidence=evidence, actor="ada",  # type: ignore[arg-type]  # a word
        reason=reason, at=at, window_ms=30 * 86_400_000,
    )  # fmt: skip


def started(job: str, at: int, attempt: int = 1, model: str = "nhits") -> TrainingStarted:
    return TrainingStarted(
        request=job, model=model, attempt=attempt, first=at - 30 * 86_400_000, last=at, ends=(),
        worker="trainer 4711", at=at,
    )  # fmt: skip


def assessed(job: str, at: int, model: str = "nhits") -> DataAssessed:
    report = DataReport(
        interval_ms=300_000, first=at - 30 * 86_400_000, last=at, rows=12_408,
        symbols={"BTCUSDT": SymbolData(8_640, 8_600, 6_204, 2, 7), "ETHUSDT": SymbolData(8_640, 8_600, 6_204, 0, 0)},
        parts={"train": 8_685, "validation": 1_861, "test": 1_862}, classes=CLASSES, kappa=0.42, constant=(),
        duplicated=(), drifted=("rsi_14", "volatility_20"), drift=0.11, against=A, bars_digest=A, vectors_digest=A,
    )  # fmt: skip
    return DataAssessed(request=job, model=model, report=report, at=at)


def step(job: str, number: int, of: int, at: int, *, flat: bool = False, model: str = "nhits") -> TrainingProgressed:
    fall = 0.0 if flat else 0.16 * (1 - 0.93**number)
    rise = 0.0 if flat else 0.00004 * number * number
    held = 1.0986 - 0.7 * fall + rise
    return TrainingProgressed(
        request=job, model=model, stage="fitting", number=number, of=of, at=at, train_loss=1.0988 - fall,
        held_loss=held, skill=1 - held / 1.0986,
    )  # fmt: skip


def completed(job: str, at: int, artifact: str, model: str = "logistic") -> TrainingCompleted:
    return TrainingCompleted(
        request=job, model=model, artifact=artifact, rows={"train": 8_685}, log_loss=1.0312, prior_log_loss=1.0986,
        gains=(Gain("the class prior", 67.4, 41.0, 93.8), Gain("the champion", 4.1, -9.2, 17.4, "same test part")),
        sanity=(SanityCheck("largest_class", True, 0.46, 0.7), SanityCheck("spread", False, 0.018, 0.02)),
        seconds=24.9, peak_mb=412.0, version=9, shadow=True, at=at,
    )  # fmt: skip


def rejected(job: str, at: int) -> TrainingRejected:
    return TrainingRejected(
        request=job, model="nhits", reason="constant", seconds=24.9, at=at,
        evidence="its predictions do not move with its inputs: standard deviation 0.0000, 2 different predictions, "
        "HOLD in 100 % of 1,862 rows",
        quarantine="var/trainer/quarantine/0f3a",
    )  # fmt: skip


async def make_busy(served: Served, replayed: Replayed, redis_url: str, folder: Path) -> None:
    """Write what there is to see to the log, and read it."""
    projection = served.site.projection
    log, now = projection.log, projection.now
    server_ms = await log.time()
    projection.clock = ServerClock(ProcessClock(wall_ns=lambda: (server_ms + 12) * 1_000_000))
    count = 0

    async def write(stream: str, event: TrainingEvent | DeadLetter | DeadLetterRetried) -> str:
        nonlocal count
        encoded, count = encode(stream, event), count + 1
        assert await log.append_at(StreamKey(stream), f"{now}-{count}", encoded.data)
        return encoded.envelope.id.hex()

    artifact = projection.newest.model("logistic").champion
    assert artifact is not None
    done = await write("training", request(now - 9_000_000, "logistic", "drift", "drift of 3 features"))
    for event in (started(done, now - 8_990_000, model="logistic"), assessed(done, now - 8_980_000, "logistic")):
        await write("training", event)
    for number in range(1, 31):
        await write("training", step(done, number, 40, now - 8_970_000 + number, model="logistic"))
    await write("training", completed(done, now - 8_900_000, artifact))
    flat = await write("training", request(now - 5_000_000))
    await write("training", started(flat, now - 4_990_000))
    for number in range(1, 16):
        await write("training", step(flat, number, 15, now - 4_980_000 + number, flat=True))
    await write("training", rejected(flat, now - 4_900_000))
    runs = await write("training", request(now - 60_000, reason="more epochs, after the refusal"))
    for event in (started(runs, now - 50_000), assessed(runs, now - 40_000)):
        await write("training", event)
    for number in range(1, 23):
        await write("training", step(runs, number, 40, now - 30_000 + number))
    await write("training", request(now - 10_000, "lightgbm", "schedule", "every 168 h"))
    ends = [each.envelope.event for each in examples()]
    for number, end in enumerate(each for each in ends if isinstance(each, StackerFitted | StackerRejected)):
        fit = StackerRequested(cause="operator", actor="ada", reason="a month of rounds", at=now - 9_000 + number)
        await write("training", structs.replace(end, request=await write("training", fit), at=now - 8_000))
    letter = DeadLetter(
        service="feed", source="BTCUSDT.csv:1204", reason="not_finite", detail="close is nan, expected a number",
        raw="1704067200000,42000.1,42010.0,41990.5,nan,12.5",
    )  # fmt: skip
    await write("dead", letter)
    at = f"conclave:training@{now}-1"
    letter = DeadLetter(
        service="trainer", source=at, reason="unreadable", detail="expected `int`, got `str` - at `$.at`", raw="7b22"
    )
    name = await write("dead", letter)
    await write(
        "dead", DeadLetterRetried(letter=name, source=at, entry=f"{now}-9", actor="ada", reason="a new release", at=now)
    )
    for group, reads in (("feature-builder", ["market"]), ("ensemble-voter", ["predictions"]), ("feed", [])):
        claim = await log.claim(group, reads, 0, Owner("vps", os.getpid(), f"{group} {os.getpid()}"))
        if group == "feed":
            await log.release(claim)
    seal_all(replayed, folder / "archive")
    settings = Settings(
        redis=Redis(url=redis_url, ephemeral=True),
        installation=Installation(state=str(folder)),
        archive=Archive(path=str(folder / "archive")),
    )
    served.site.settings, served.site.doctor = settings, Doctor(projection, settings)
    (folder / "artifacts").symlink_to(replayed.store.path)
    count_sealed_files(served, settings)
    projection._looked_at = 0.0
    for _ in range(4):
        await served.turn()


def count_sealed_files(served: Served, settings: Settings) -> None:
    """Let what-ifs read the archive of the settings, without a server."""
    served.site.computations._settings, served.site.computations._archive = settings, settings.archive.path


def no_server() -> Settings:
    """Settings with an address at which no server answers."""
    from bench.installation import free_port

    return Settings(redis=Redis(url=f"redis://127.0.0.1:{free_port()}"))
