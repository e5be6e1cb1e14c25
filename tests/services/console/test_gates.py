"""Gates as a person asks for them: the table, the words, the exit codes."""

import json
from typing import Any

import msgspec
import pytest

from bench.recorded import record, verdict
from schemas.common import ACTIONS
from schemas.control import Found, Promote, RegisterArtifact, Retire, StartShadow, StopShadow
from schemas.gates import ContributionsMeasured, EvidenceRestarted, GateVerdict, VerdictReached, Worth
from services.console.evidence import gates as console_gates
from services.console.evidence.gates import code_of, followed_statuses
from services.console.evidence.questions import what_would_change, what_would_change_overall
from shared.control.issuing import current, history, issue
from shared.gates.policies import digest_of
from shared.log.memory import MemoryLog
from tests.services.console.conftest import register

A1, A2 = "a1" * 32, "a2" * 32
THIRD = (-1.1, -1.1, -1.1)


def judged(overall: Any, **other: Any) -> VerdictReached:
    usual = {"model": "a", "artifact": A2, "champion": A1, "policy_digest": digest_of(None)}
    return verdict(overall, **{**usual, **other})


def write(desk: Any, *events: Any) -> list[str]:
    found: list[str] = desk.with_log(lambda log: record(log, "gates", events))
    return found


@pytest.fixture
def shadowed(two: Any) -> Any:
    """Two voting models, with A2 in shadow beside A1."""
    two.issue(StartShadow("a", A2))
    return two


@pytest.mark.parametrize(("overall", "code"), [("passed", 0), ("failed", 1), ("inconclusive", 3)])
def test_the_exit_code_says_what_the_gates_say(shadowed: Any, overall: str, code: int) -> None:
    write(shadowed, judged("inconclusive"), judged(overall))
    ended = shadowed("gates")
    assert ended.code == code
    assert f"a a2a2a2a2a2a2  {overall} by default" in ended.out
    assert "skill" in ended.out
    assert "0.01 to 0.05" in ended.out


def test_nothing_to_judge_is_not_settled(two: Any) -> None:
    ended = two("gates")
    assert ended.code == 3
    assert "nothing is in shadow" in ended.out


def test_a_candidate_without_a_verdict_is_not_settled(shadowed: Any) -> None:
    assert shadowed("gates").code == 3
    (told,) = json.loads(shadowed("gates", "-o", "json").out)
    assert (told["overall"], told["note"], told["verdict"]) == ("inconclusive", "no verdict yet", None)


def test_a_verdict_on_what_is_no_longer_in_shadow_is_not_shown(shadowed: Any) -> None:
    write(shadowed, judged("failed"))
    assert shadowed("gates").code == 1
    shadowed.issue(StopShadow("a", A2))
    assert shadowed("gates").code == 3


def test_evidence_that_began_anew_is_not_settled(shadowed: Any) -> None:
    write(
        shadowed,
        judged("passed"),
        EvidenceRestarted(
            model="a",
            artifact=A2,
            changed=("champion",),
            policy="default",
            policy_digest="2a" * 32,
            scores=4800,
            control_version=8,
        ),
    )
    ended = shadowed("gates")
    assert ended.code == 3
    assert "the evidence was restarted (champion changed; 4,800 scores were discarded)" in ended.out


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"champion": "b1" * 32}, "its verdict (passed) compared it with champion b1b1b1b1b1b1, which no longer votes"),
        ({"policy_digest": "2a" * 32}, "its verdict (passed) used another gate policy (default)"),
    ],
)
def test_a_verdict_against_another_champion_or_by_another_policy_is_not_settled(
    shadowed: Any, other: dict[str, str], words: str
) -> None:
    write(shadowed, judged("passed", **other))
    ended = shadowed("gates")
    assert ended.code == 3
    assert words in ended.out


def test_the_json_has_the_whole_verdict(shadowed: Any) -> None:
    (name,) = write(shadowed, judged("passed"))
    (told,) = json.loads(shadowed("gates", "-o", "json").out)
    assert (told["verdict"], told["overall"], told["policy"]) == (name, "passed", "default")
    assert told["gates"][1]["low"] == 0.01


def test_shadows_that_the_gates_failed_are_retired_with_their_verdicts(shadowed: Any) -> None:
    other = "a3" * 32
    shadowed.issue(register("a", other), StartShadow("a", other))
    write(shadowed, judged("failed", artifact=other), judged("inconclusive"))
    _, failed = write(shadowed, judged("passed", artifact=other), judged("failed"))
    ended = shadowed("retire", "a", "--failed", "--reason", "the sweep is over", "-o", "json")
    assert ended.code == 0, ended.err
    (done,) = json.loads(ended.out)
    assert done["command"] == "retire"
    state = shadowed.with_log(current)
    assert set(state.retired) == {A2}
    assert state.model("a").shadows == (other,)
    newest = shadowed.with_log(history)[-1]
    assert newest.command == Retire("a", A2, failed)
    assert newest.reason == "the sweep is over"
    assert "nothing to retire" in shadowed("retire", "a", "--failed", "--reason", "again").out


def test_a_retirement_of_one_artifact_names_its_verdict_if_there_is_one(shadowed: Any) -> None:
    (name,) = write(shadowed, judged("inconclusive"))
    assert shadowed("retire", "a", A2[:6], "--reason", "too slow").code == 0
    assert shadowed.with_log(history)[-1].command == Retire("a", A2, name)


@pytest.mark.parametrize("words", [("--failed", A2), (), ("--failed", "--expect", "3")])
def test_a_retirement_is_of_one_artifact_or_of_all_that_failed(shadowed: Any, words: tuple[str, ...]) -> None:
    assert shadowed("retire", "a", *words, "--reason", "x").code == 2


def test_one_failed_candidate_is_enough_to_fail() -> None:
    assert code_of(["passed", "inconclusive", "failed"]) == 1
    assert code_of(["passed", "inconclusive"]) == 3
    assert code_of(["passed", "passed"]) == 0
    assert code_of([]) == 3


def test_a_verdict_is_explained_by_the_beginning_of_its_id(shadowed: Any) -> None:
    first, _ = write(shadowed, judged("inconclusive", advice="wait for more blocks"), judged("passed"))
    ended = shadowed("gates", "explain", first[:8])
    assert ended.code == 0
    assert "Is it better than the class prior?" in ended.out
    stands = "24.5, compared with 2.996, on 31 samples; mean gain +0.03, interval 0.01 to 0.05"
    assert stands in " ".join(ended.out.split())
    assert "wait for more blocks" in ended.out
    assert "1a" * 16 in ended.out
    told = json.loads(shadowed("gates", "explain", first, "-o", "json").out)
    assert told["overall"] == "inconclusive"
    assert [gate["name"] for gate in told["gates"]] == ["distinct", "skill"]


def test_an_id_that_names_none_or_two_is_refused(shadowed: Any) -> None:
    write(shadowed, judged("inconclusive"), judged("passed"))
    none, both = shadowed("gates", "explain", "zz"), shadowed("gates", "explain", "")
    assert (none.code, both.code) == (1, 1)
    assert "0 verdicts have an id that begins with 'zz', expected one" in none.err
    assert "2 verdicts" in both.err


def gate(name: str, judgement: Any, value: float | None, threshold: float, samples: int) -> GateVerdict:
    return GateVerdict(name, judgement, "needed", value, threshold, samples, None, None)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (gate("skill", "inconclusive", 1.5, 3.0, 30), "at the rate so far that takes about 30 more blocks"),
        (gate("skill", "inconclusive", 0.0, 3.0, 30), "20.1 times the largest evidence so far; so far"),
        (
            gate("skill", "inconclusive", 3.5, 3.0, 12),
            "more blocks: the threshold is crossed, but 12 blocks are too few",
        ),
        (gate("skill", "passed", 3.5, 3.0, 30), "nothing until the evidence restarts: a threshold"),
        (gate("skill", "failed", 0.1, 3.0, 30), "the opposite hypothesis crossed the threshold"),
        (gate("distinct", "inconclusive", 3.0, 50.0, 60), "it has 60, by default it needs 200 (`least_rows`)"),
        (gate("distinct", "failed", 3.0, 50.0, 600), "when the value rises to 50; the value is 3"),
        (gate("distinct", "passed", 812.0, 50.0, 600), "when the value falls below 50; the value is 812"),
        (gate("longest_run", "failed", 900.0, 50.0, 600), "when the value falls to 50"),
        (gate("calibration", "inconclusive", None, 0.03, 0), "it has no value yet, after 0 samples"),
    ],
)
def test_what_would_change_a_verdict_is_described(one: GateVerdict, words: str) -> None:
    assert words in what_would_change("default", one)


def test_what_would_change_the_whole_verdict_names_the_gates() -> None:
    skill, drift = gate("skill", "inconclusive", 1.0, 3.0, 30), gate("loss_drift", "failed", 200.0, 100.0, 30)
    soft = msgspec.structs.replace(drift, kind="soft")
    assert what_would_change_overall(judged("inconclusive", gates=(skill, soft))) == (
        "these gates must pass but are inconclusive: skill; soft gates that failed: loss_drift"
    )
    assert (
        what_would_change_overall(judged("failed", gates=(skill, drift)))
        == "these gates must pass but failed: loss_drift"
    )
    assert what_would_change_overall(judged("passed")).startswith("it fails when a critical or needed gate fails")
    few = (gate("spread", "passed", 0.1, 0.05, 300), gate("diversity", "failed", 0.9, 0.7, 300))
    said = what_would_change_overall(judged("failed", policy="classic", gates=few))
    assert said == "it passes with at least 3 of its gates (by default); passed now: spread"


@pytest.mark.anyio
async def test_a_watcher_sees_a_new_verdict_and_a_new_candidate() -> None:
    log = MemoryLog()
    registered = RegisterArtifact(
        model="a",
        artifact=A2,
        family="prior",
        feature_set="5e" * 32,
        feature_set_name="s",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=THIRD,
        prior=(0.25, 0.5, 0.25),
    )
    champion = msgspec.structs.replace(registered, artifact=A1)
    for command in (Found(1, "log-of-a-test"), registered, champion, Promote("a", A1, forced=True, weight=1.0)):
        await issue(log, command, actor="ada", reason="a test")
    seen = followed_statuses(log, 1, block_ms=20)
    assert await anext(seen) == []
    await issue(log, StartShadow("a", A2), actor="ada", reason="a test")
    (waiting,) = await anext(seen)
    assert (waiting.overall, waiting.note) == ("inconclusive", "no verdict yet")
    await record(log, "gates", [judged("passed")])
    (settled,) = await anext(seen)
    assert settled.overall == "passed"
    await seen.aclose()


def test_watching_ends_in_peace_when_interrupted(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(console_gates, "_watch", interrupted)
    assert two("gates", "watch").code == 0


def test_a_promotion_may_name_the_verdict_that_is_shown(shadowed: Any) -> None:
    (name,) = write(shadowed, judged("passed"))
    shadowed.issue(Promote("a", A2, verdict=name, ready=("0a" * 16,), accept_changes=True))
    assert shadowed("gates").out.count(A2[:12]) == 0


def test_contributions_show_the_newest_measure(two: Any) -> None:
    assert two("gates", "contributions").code == 3
    worths = {"a": Worth(0.0125, 0.005), "b": Worth(0.0075, -0.001)}
    write(two, ContributionsMeasured({"a": Worth(0.0, 0.0)}, 256, "1c" * 16, 6), judged("passed"))
    write(two, ContributionsMeasured(worths, 512, "1c" * 16, 6))
    shown = two("gates", "contributions")
    assert shown.code == 0
    assert "over 512 rounds" in shown.out
    assert [line.split()[1::2] for line in shown.out.splitlines() if "mnat" not in line and "+" in line] == [
        ["a", "+12.50", "+5.00"], ["b", "+7.50", "-1.00"],
    ]  # fmt: skip
    assert json.loads(two("gates", "contributions", "-o", "json").out)["members"]["b"]["leave_one_out"] == -0.001
