"""The how-to pages of someone who runs models, typed on one installation that lives through them all.

Its champion learned from a market without a signal, so that each candidate passes its gates within eighty days of
hourly bars. The test of a page brings what the page takes for granted, and takes back what the next one would stumble
over. Bars go on in the background, since ``--wait`` returns with the first decision under a new version."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
import torch

from bench import old_models
from bench.installation import all_entries, wait_until
from schemas.codec import decode
from schemas.documentation.examples import examples
from schemas.training import TrainingRequested
from services.console.context import INTERRUPTED
from shared.bars.rows import Good
from shared.log import Entry, Log, StreamKey
from shared.log.redis import RedisLog
from shared.runtime.entries import dead_letter
from shared.settings import load
from shared.synthetic import SyntheticMarket
from tests.pages.reader import Reader
from tests.pages.reading import ROOT
from tests.pages.test_commands import StandsFor, read

pytestmark = pytest.mark.stack

HOUR_MS: Final = 3_600_000
SYMBOLS: Final = ("SYN1", "SYN2")
TRAINED: Final = 12_000
"""Rows of the history on which the models are trained. The others are fed."""
PIECE: Final = 2_000
MOST_PIECES: Final = 6
"""Rows that are fed at once until a candidate has passed, and how often."""
WHY: Final = '--reason "before the page"'
HISTORY: Final = f"--bars history --skip {TRAINED}"
FIT: Final = f"conclave train files --rows {TRAINED} --horizon 4 {WHY}"
SETTINGS: Final = """
[models]
names = ["xgboost", "lightgbm", "nhits"]

[features]
sets = ["core-28", "user-18"]

[archive]
every_s = 2

[training]
free_gb = 0.0
"""
UNDECIDED: Final = {"conclave gates": (0, 3), "conclave gates watch": (0, INTERRUPTED)}


class Desk:
    """An installation with two voting models, and bars that go on."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._candidates = 0
        self._going: subprocess.Popen[bytes] | None = None
        history = SyntheticMarket(SYMBOLS, interval_ms=HOUR_MS)
        _write(reader.file("quiet"), SyntheticMarket(SYMBOLS, "null", interval_ms=HOUR_MS), TRAINED)
        _write(reader.file("history"), history, TRAINED + 25 * PIECE)
        _write(reader.file("bars"), history, 3_000)
        self._begin = next(row.bar.open_time for row in history.rows() if isinstance(row, Good))
        reader.must("conclave up --one-process --detach")
        reader.must("conclave policy training schedule_hours=0 on_drift=false on_decay=false " + WHY)
        reader.must(f"{FIT} --model xgboost --family logistic --bars quiet --promote --weight 1")
        self.champion = self.digest()
        reader.must(f"{FIT} --model lightgbm --family lightgbm --bars history --promote --weight 0.5")
        self.other = self.digest()
        reader.must("conclave keys new ada.pem")
        self.feed(600)
        self.founded = datetime.now(UTC)

    def digest(self) -> str:
        return self.reader.last(r"^([0-9a-f]{64})$")

    def candidate(self) -> str:
        """Train and register a better model than the champion, and return its digest."""
        for row in json.loads(self.reader.type("conclave gates -o json").out):  # those of a model share its error rate
            self.reader.type(f"conclave shadow stop {row['model']} {row['artifact'][:12]} {WHY}")
        self._candidates += 1
        self.reader.must(f"{FIT} --model xgboost --family logistic --bars history --register --seed {self._candidates}")
        return self.digest()

    def feed(self, rows: int) -> None:
        """Send so many rows more, then go on slowly."""
        if self._going:
            self._going.terminate()
            self._going.wait()
        self.reader.must(f"conclave feed {HISTORY} --limit {self._sent() + rows}")
        self._going = self.reader.begin(f"conclave feed {HISTORY} --speed 4")

    def judged(self, artifact: str) -> str:
        """Feed until the artifact in shadow has passed its gates; return the id of the verdict."""
        ids: list[str] = []

        def passed() -> bool:
            rows = json.loads(self.reader.type("conclave gates -o json").out)
            ids[:] = [row["verdict"] for row in rows if (row["artifact"], row["overall"]) == (artifact, "passed")]
            return bool(ids)

        for _ in range(MOST_PIECES):
            self.feed(PIECE)
            with suppress(AssertionError):
                wait_until(passed, 20, every_s=2)
                return ids[-1]
        raise AssertionError(f"no verdict passed {artifact} in {MOST_PIECES * PIECE:,} rows")

    def with_log(self, work: Any) -> Any:
        async def run() -> Any:
            log = RedisLog(load(self.reader.file("conclave.toml")).redis.url)
            try:
                return await work(log)
            finally:
                await log.close()

        return anyio.run(run)

    def _sent(self) -> int:
        """Return how many rows of the history were sent, by the time of the last: those before it may be sealed."""

        async def market(log: Log) -> list[Entry]:
            return await all_entries(log, StreamKey("market"))

        if not (entries := self.with_log(market)):
            return 0
        hours = (decode("market", entries[-1].data).event.open_time - self._begin) // HOUR_MS + 1
        return int(hours) * len(SYMBOLS) - TRAINED

    def decision(self) -> str:
        """Return the id of a decision that was sealed since."""
        shown = self.reader.must("conclave decisions -n 200 -o json").out
        return str(json.loads(shown.splitlines()[0])["id"])

    def promoted(self) -> str:
        """Return the version of the newest promotion."""
        lines = self.reader.must("conclave history -o json").out.splitlines()
        commands = [json.loads(line) for line in lines]
        return str([row["version"] for row in commands if "promote" in json.dumps(row["command"])][-1])

    def version(self, back: int = 0) -> str:
        return str(json.loads(self.reader.must("conclave status -o json").out)["version"] - back)

    def moment(self, seconds: int = 0) -> str:
        """Return a time so many seconds after the installation had its models."""
        return (self.founded + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def _write(folder: Path, market: SyntheticMarket, rows: int) -> None:
    """Write the market's first rows, a file for each symbol, as an exchange would give them."""
    folder.mkdir()
    files = {symbol: ["open_time,open,high,low,close,volume"] for symbol in SYMBOLS}
    for row in islice(market.rows(), rows):
        assert isinstance(row, Good)
        bar = row.bar
        files[bar.symbol].append(f"{bar.open_time},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}")
    for symbol, lines in files.items():
        (folder / f"{symbol}-1h.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    reader = Reader(tmp_path_factory.mktemp("operating"), settings=SETTINGS)
    try:
        yield Desk(reader)
    finally:
        reader.close()


def shadowed(desk: Desk) -> StandsFor:
    """What the examples of a page stand for that takes a candidate into shadow, and then has a verdict on it."""
    candidate = desk.candidate()
    verdict = cache(partial(desk.judged, candidate))
    return {"4be1c2": candidate[:12], "7f3a": verdict}


def test_judge_a_candidate(desk: Desk) -> None:
    text = (ROOT / "docs/how-to/judge-a-candidate.md").read_text(encoding="utf-8")
    [strict] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    desk.reader.file("strict.json").write_text(strict)
    codes = {**UNDECIDED, "conclave gates replay --policy strict": (1,), "conclave gates replay --policy classic": (1,)}
    read(desk.reader, "docs/how-to/judge-a-candidate.md", shadowed(desk), codes)
    desk.reader.must(f"conclave rollback {WHY}")


def test_promote_and_roll_back(desk: Desk) -> None:
    versions: StandsFor = {"12": partial(desk.version, 1), "13": desk.version}
    read(desk.reader, "docs/how-to/promote-and-roll-back.md", {**shadowed(desk), **versions}, UNDECIDED)


def test_retrain(desk: Desk) -> None:
    def job() -> str:
        jobs = json.loads(desk.reader.must("conclave train status -o json").out)["jobs"]
        desk.reader.must(
            f"conclave train request --model lightgbm --force {WHY}"
        )  # so that one runs when it is watched
        return str(jobs[-1]["id"])

    desk.feed(2_000)

    def trained() -> str:
        jobs = json.loads(desk.reader.must("conclave train status -o json").out)["jobs"]
        return next(str(job["ended"]["artifact"]) for job in jobs if job["state"] == "completed")

    read(desk.reader, "docs/how-to/retrain.md", {"3f9a1c": job, "18a3aca17075": trained})


def test_look_into_refused_input(desk: Desk) -> None:
    async def refuse(log: Log) -> str:
        [request, *_] = [each for each in examples() if isinstance(each.envelope.event, TrainingRequested)]
        entry = Entry(StreamKey("training"), "1-0", request.data)
        letter = dead_letter("trainer", entry, "unreadable", "a field of a newer release")
        await log.append_at(StreamKey("dead"), "*", letter.data)
        return letter.envelope.id.hex()

    read(desk.reader, "docs/how-to/look-into-refused-input.md", {"3f9a1c": desk.with_log(refuse)})


def test_audit(desk: Desk) -> None:
    reader = desk.reader
    (reader.folder / "deploy").symlink_to(ROOT / "deploy")
    stands_for: StandsFor = {
        "xgboost=4be1c2": f"xgboost={desk.champion[:12]}",
        "/mnt/archive": "var/archive",
        "/mnt/artifacts": "var/artifacts",
        "--archive archive": "--archive var/archive",
        "4be1c2...": desk.other,
        "4be1c2": desk.other[:12],
        "FOLDER": "var/artifacts",
        "8d31f0a2": desk.decision,
        "2026-01-31T12:00": desk.moment,
        "2026-02-01": partial(desk.moment, 60),
        "make 12": f"make {desk.promoted()}",
        "proofs/proof-12.json": f"proofs/proof-{desk.promoted()}.json",
        "5f0c...": lambda: reader.last(r"^([0-9a-f]{64})$"),
    }
    read(reader, "docs/how-to/audit.md", stands_for, {"conclave verify": (3,), "conclave blame": (3,)})


def test_write_a_gate_policy(desk: Desk) -> None:
    text = (ROOT / "docs/how-to/write-a-gate-policy.md").read_text(encoding="utf-8")
    [strict] = re.findall(r"^(\{.*\})$", text, re.MULTILINE)
    desk.reader.file("strict.json").write_text(strict)
    read(desk.reader, "docs/how-to/write-a-gate-policy.md", codes={"conclave gates replay": (1,)})


def test_upgrade(desk: Desk) -> None:
    later: StandsFor = {"2026-02-01": desk.moment, "2026-02-14T12:00": partial(desk.moment, 60)}
    incomplete = {"conclave doctor": (3,), "conclave verify": (3,)}  # a model was not loaded yet for some bars
    read(desk.reader, "docs/how-to/upgrade.md", later, incomplete)


def test_add_a_model(desk: Desk) -> None:
    read(desk.reader, "docs/how-to/add-a-model.md", {"9c01d4": desk.digest})
    desk.reader.must(f"conclave rollback {WHY}")


def test_import_a_model(desk: Desk) -> None:
    torch.manual_seed(5)
    torch.save(old_models.v5_nhits(), desk.reader.file("nhits_v5.pth"))
    desk.reader.file("scaler_v5.json").write_text(json.dumps({"mean": [0.0] * 18, "scale": [10.0] * 18}))
    read(desk.reader, "docs/how-to/import-a-model.md")


def test_change_the_configuration_and_trade_at_an_exchange(desk: Desk) -> None:
    """One after the other: from the first trusted key on every command must be signed, as the second page does."""
    desk.reader.file("command.json").write_text(
        '{"command": {"type": "halt"}, "actor": "watchdog", "reason": "spread over 2 %", "command_id": "spread"}'
    )
    desk.reader.file("ada.pem").unlink()
    stands_for: StandsFor = {
        **shadowed(desk),
        "<public>": desk.digest,
        "12": partial(desk.version, 3),
        "15": desk.version,
        "2026-01-31T12:00": desk.moment,
    }
    read(desk.reader, "docs/how-to/change-the-configuration.md", stands_for)
    read(desk.reader, "docs/how-to/trade-at-an-exchange.md")


def test_restore_from_the_archive(desk: Desk) -> None:
    desk.reader.must("conclave down")
    shutil.move(desk.reader.file("var/redis"), desk.reader.file("lost"))
    read(desk.reader, "docs/how-to/restore-from-archive.md")
