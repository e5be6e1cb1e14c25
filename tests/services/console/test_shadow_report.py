"""The report as a person asks for it."""

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from bench.recorded import CANDIDATE, CHAMPION, checked, market, record, scored, unscored, verdict
from schemas.control import SetGatePolicy
from services.console.evidence.shadow import read_report
from services.console.output import terminal, terminal_table
from shared.gates.policies import default_policy
from shared.gates.policy import DefaultPolicy
from shared.log import StreamKey
from shared.log.memory import MemoryLog
from shared.report.tables import TextTable


def events() -> list[Any]:
    rows: list[Any] = list(market(60))
    voter = scored(0, "SYN0", (0.2, 0.5, 0.3), 1, role="voting", artifact=CHAMPION, incumbent_artifact=None)
    return [*rows, voter, unscored(rows[0]), checked(rows[0], 60, 60)]


@pytest.mark.anyio
async def test_the_report_reads_scores_and_verdicts_of_all_partitions() -> None:
    log = MemoryLog()
    rows = events()
    await record(log, "scores", [one for one in rows if one.symbol < "SYN4"], 0)
    await record(log, "scores", [one for one in rows if one.symbol >= "SYN4"], 1)
    (name,) = await record(log, "gates", [verdict("passed")], 1)
    last = (await log.extent(StreamKey("scores"))).last
    await log.append_at(StreamKey("scores"), f"{int(last.split('-')[0]) + 1}-0", b"nothing")
    found = await read_report(log, 2)
    (candidate,), (member,) = found.candidates, found.members
    assert (candidate.rows, candidate.artifact, candidate.unscored) == (480, CANDIDATE.hex(), {"gap": 1})
    assert (member.rows, member.artifact) == (1, CHAMPION.hex())
    assert candidate.verdict is not None
    assert candidate.verdict.id == name
    assert (found.interference.checked, found.interference.equal, found.unreadable) == (60, 60, 1)


def test_the_policy_in_force_gives_the_error_rate() -> None:
    asked = SetGatePolicy("default", {"alpha": 0.01, "automatic": True})
    assert default_policy(asked) == DefaultPolicy(alpha=0.01)
    assert default_policy(SetGatePolicy("classic", {"least_passed": 2})) == DefaultPolicy()
    assert default_policy(None) == DefaultPolicy()


def test_the_command_prints_a_table_json_and_a_page(two: Any, tmp_path: Path) -> None:
    two.with_log(lambda log: record(log, "scores", events()))
    two.issue(SetGatePolicy("default"))  # version 7, under which the scores are
    file = tmp_path / "report.html"
    ended = two("shadow", "report", "--html", str(file))
    assert ended.code == 0
    assert "SYNTHETIC: all 481 scores are of generated bars" in ended.out
    assert "60 of 60 decisions with shadow ballots" in ended.out
    assert "3 bars are missing" in ended.out
    assert f"written: {file}" in ended.err
    assert file.read_text().startswith("<!doctype html>")
    assert "Voting policy in force: 085c1cb3442e (defaults)." in ended.out
    assert "Voting policy in force: 085c1cb3442e (defaults)." in file.read_text()
    told = json.loads(two("shadow", "report", "-o", "json").out)
    assert told["candidates"][0]["over_prior"]["rows"] == 480
    assert told["origins"] == {"synthetic": 481}


def test_nothing_scored_is_inconclusive(two: Any) -> None:
    ended = two("shadow", "report", "--model", "a")
    assert ended.code == 3
    assert "Nothing was scored yet." in ended.out


def test_without_the_extra_one_sentence_names_the_command(
    two: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    ended = two("shadow", "report", "--html", str(tmp_path / "report.html"))
    assert ended.code == 2
    assert "a page with charts needs Matplotlib: pip install 'conclave-signals[report]'" in ended.err
    assert "Traceback" not in ended.err
    assert two("shadow", "report").code == 3, "tables need no extra"


def test_square_brackets_of_a_reason_are_no_markup_on_a_terminal() -> None:
    shown = terminal()
    shown.file = StringIO()
    shown.print(terminal_table(TextTable("[/prod]", ("[bold]why", "verdict"), [("[/prod] <b>", "passed")]), "[/x]"))
    written = shown.file.getvalue()
    assert written.count("[/prod]") == 2
    assert "[bold]why" in written
    assert "[/x]" in written


def test_a_page_that_cannot_be_written_is_wrong_usage(two: Any, tmp_path: Path) -> None:
    assert two("shadow", "report", "--html", str(tmp_path)).code == 2


def test_start_and_stop_are_where_they_were(two: Any) -> None:
    why = ("--reason", "a test", "--actor", "ada")
    assert two("shadow", "start", "a", "a2", *why).code == 0
    assert two("shadow", "stop", "a", "a2", *why).code == 0
