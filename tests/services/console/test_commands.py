"""Commands as a person types them: what is printed, and how each ends."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest
import redis
from msgspec.structs import replace

from bench.recorded import record, verdict
from schemas.common import ACTIONS
from schemas.control import Backtest, Halt, RegisterArtifact
from services.console.cli import MODULES, Commands
from shared.control import State
from shared.control.changes import words
from shared.control.issuing import current
from shared.gates.policies import digest_of
from tests.services.console.conftest import A1, A2, TWO_MODELS, register

ROOT = Path(__file__).parents[3]
WHY = ("--reason", "a test", "--actor", "ada")


def state(desk: Any) -> State:
    found: State = desk.with_log(current)
    return found


def test_every_command_there_is_can_be_imported() -> None:
    group = Commands()
    for name in MODULES:
        command = group.get_command(None, name)  # type: ignore[arg-type]  # the context is unused
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize(
    "words",
    [
        ("halt",),
        ("resume",),
        ("weights", "a=1"),
        ("promote", "a", "a1"),
        ("rollback",),
        ("retire", "a", "a1"),
        ("shadow", "start", "a", "a2"),
        ("policy", "voting", "edge=0.2"),
        ("ladder", "step", "a"),
    ],
)
def test_nothing_is_changed_without_a_reason(two: Any, words: tuple[str, ...]) -> None:
    ended = two(*words)
    assert ended.code == 2
    assert "--reason" in ended.err
    assert state(two).version == 6


def test_a_halt_is_recorded_with_who_and_why(two: Any) -> None:
    ended = two("halt", "--reason", "exchange outage", "--actor", "ada")
    assert (ended.code, ended.out[:28]) == (0, "halt: is version 7, head " + state(two).head[:3])
    assert state(two).halted
    assert "halted already" in two("halt", *WHY).err
    assert two("resume", *WHY).code == 0
    assert not state(two).halted


def test_what_the_decider_refuses_ends_with_1_and_changes_nothing(two: Any) -> None:
    ended = two("weights", "a=0.6", "b=0.6", *WHY)
    assert ended.code == 1
    assert "sum to 1.2" in ended.err
    assert state(two).version == 6


def test_words_that_say_nothing_end_with_2(two: Any) -> None:
    assert two("weights", "a", *WHY).code == 2
    assert two("policy", "voting", "edges=1", *WHY).code == 2
    assert two("policy", "voting", "edge=most", *WHY).code == 2
    assert two("shadow", "begin", "a", "a2", *WHY).code == 2


def test_a_promotion_names_its_evidence(two: Any) -> None:
    two.say_ready("a", two.A2)
    assert two("promote", "a", "a2", "--force", *WHY).code == 0
    assert state(two).models["a"].champion == two.A2
    entry = json.loads(two("history", "-o", "json").out.splitlines()[-1])
    assert (len(entry["command"]["ready"]), entry["command"]["forced"]) == (1, True)


def test_a_promotion_of_what_is_not_ready_is_refused_with_the_way_out(two: Any) -> None:
    two.say_ready("a", two.A1)
    ended = two("promote", "a", "a2", "--verdict", "ab" * 16, *WHY)
    assert ended.code == 1
    assert "model-worker.a, partition 0: not loaded; start it in shadow first" in ended.err
    assert state(two).models["a"].champion == two.A1


@pytest.mark.parametrize(
    ("judged", "why"),
    [
        (None, "there is no verdict on it; start it in shadow"),
        ({"overall": "failed"}, "failed after 4800 scores"),
        ({"champion": "b1" * 32}, "it passed against another champion"),
        ({"policy_digest": "2a" * 32}, "it passed under another gate policy"),
    ],
)
def test_a_promotion_without_a_verdict_that_holds_is_refused(two: Any, judged: Any, why: str) -> None:
    two.say_ready("a", two.A2)
    if judged is not None:
        judge(two, **judged)
    ended = two("promote", "a", "a2", *WHY)
    assert ended.code == 1
    assert "no passing gate verdict" in ended.err
    assert why in ended.err
    assert state(two).models["a"].champion == two.A1


def test_a_promotion_finds_the_verdict_that_lets_it_and_names_it(two: Any) -> None:
    two.say_ready("a", two.A2)
    name = judge(two)
    other = two("promote", "a", "a2", "--verdict", "ab" * 16, *WHY)
    assert other.code == 1
    assert f"is not the valid one, {name}" in other.err
    assert two("promote", "a", "a2", *WHY).code == 0
    entry = json.loads(two("history", "-o", "json").out.splitlines()[-1])
    assert (entry["command"]["verdict"], entry["command"].get("forced", False)) == (name, False)


def judge(desk: Any, overall: str = "passed", **other: Any) -> str:
    said = {"model": "a", "artifact": desk.A2, "champion": desk.A1, "policy_digest": digest_of(None), **other}
    name: str = desk.with_log(lambda log: record(log, "gates", [verdict(overall, **said)]))[0]
    return name


def test_an_artifact_nobody_registered_is_refused_with_those_there_are(two: Any) -> None:
    ended = two("promote", "a", "ff", *WHY)
    assert ended.code == 1
    assert "a1a1a1a1a1a1, a2a2a2a2a2a2" in ended.err
    assert two("promote", "a", "a", *WHY).code == 1


def test_a_dry_run_shows_the_difference_and_appends_nothing(two: Any) -> None:
    ended = two("weights", "a=0.6", "b=0.4", "--dry-run", *WHY)
    assert ended.code == 0
    assert "would be version 7" in ended.out
    assert [line.split() for line in ended.out.splitlines() if "weight" in line and "would" not in line] == [
        ["│", "a", "weight", "│", "50.00%", "│", "60.00%", "│"],
        ["│", "b", "weight", "│", "50.00%", "│", "40.00%", "│"],
    ]
    assert state(two).version == 6
    assert two("weights", "a=0.6", "--dry-run", *WHY).code == 1


def test_an_answer_as_json_holds_version_head_and_changes(two: Any) -> None:
    found = json.loads(two("weights", "a=0.6", "b=0.4", "-o", "json", *WHY).out)
    assert (found["command"], found["version"], found["head"]) == ("set_weights", 7, state(two).head)
    assert {"what": "a weight", "before": "50.00%", "after": "60.00%"} in found["changes"]


def test_what_is_expected_must_be_what_is(two: Any) -> None:
    ended = two("halt", "--expect", "5", *WHY)
    assert ended.code == 1
    assert "6" in ended.err
    assert two("halt", "--expect", "6", *WHY).code == 0


def test_a_command_issued_twice_does_nothing_the_second_time(two: Any) -> None:
    assert two("halt", "--command-id", "once", *WHY).code == 0
    again = two("halt", "--command-id", "once", *WHY)
    assert (again.code, "already issued, as version 7" in again.out) == (0, True)
    assert state(two).version == 7


def test_a_policy_keeps_what_is_not_named(two: Any) -> None:
    assert two("policy", "voting", "edge=0.2", *WHY).code == 0
    assert two("policy", "voting", "quorum_count=1", *WHY).code == 0
    policy = state(two).policy
    assert (policy.edge, policy.quorum_count, policy.rule) == (0.2, 1, "logpool")


def test_gates_take_the_parameters_of_their_policy_alone(two: Any) -> None:
    assert two("policy", "gates", "classic", "least_passed=2", "automatic=true", *WHY).code == 0
    gate = state(two).gate
    assert gate is not None
    assert (gate.name, gate.parameters) == ("classic", {"least_passed": 2, "automatic": True})
    ended = two("policy", "gates", "classic", "window=200", *WHY)
    assert ended.code == 2
    assert "has no parameter window; it has act_confirm" in ended.err


def test_a_model_climbs_the_ladder_step_by_step(two: Any) -> None:
    assert two("ladder", "set", "0.25", "0.5", "0.75", *WHY).code == 0
    assert two("ladder", "step", "a", *WHY).code == 0
    assert state(two).models["a"].weight == pytest.approx(0.75)
    assert two("ladder", "step", "a", "--down", *WHY).code == 0
    assert state(two).models["a"].weight == pytest.approx(0.5)


def test_a_rollback_goes_back_to_who_voted_before(two: Any) -> None:
    assert two("promote", "a", "a2", "--force", *WHY).code == 0
    assert two("rollback", *WHY).code == 0
    assert state(two).models["a"].champion == two.A1
    assert two("rollback", "--to", "7", "--model", "a", *WHY).code == 0
    assert state(two).models["a"].champion == two.A2


def test_a_probation_ends_by_confirmation(two: Any) -> None:
    assert two("promote", "a", "a2", "--force", "--probation", "50", *WHY).code == 0
    assert "on probation for 50 decisions" in two("status").out
    assert two("confirm", "a", *WHY).code == 0
    assert two("confirm", "a", *WHY).code == 1
    assert two("confirm", "z", *WHY).code == 1


def test_a_shadow_is_started_stopped_and_retired(two: Any) -> None:
    assert two("shadow", "start", "a", "a2", *WHY).code == 0
    assert state(two).models["a"].shadows == (two.A2,)
    assert two("shadow", "stop", "a", "a2", *WHY).code == 0
    assert two("retire", "a", "a2", *WHY).code == 0
    assert two("promote", "a", "a2", "--force", *WHY).code == 1


def test_without_an_installation_every_command_says_how_to_begin_one(desk: Any) -> None:
    ended = desk("halt", *WHY)
    assert ended.code == 1
    assert "conclave found" in ended.err
    assert desk("found", *WHY).code == 0
    assert state(desk).version == 1
    assert desk("found", *WHY).code == 1


def test_history_says_who_when_what_and_why(two: Any) -> None:
    two.issue(Halt())
    lines = two("history").out.splitlines()
    assert "halt" in lines[-2]
    assert "ada" in lines[-2]
    assert "a test" in lines[-2]
    assert "promote model=a artifact=a1a1a1a1a1a1 forced=True weight=1.0" in two("history").out


ODD: Final = "see [jira-812], back [/prod] :smile: [red]x[/] \\[y]"
"""Text of a person in which rich would find markup."""


@pytest.mark.parametrize(
    "write",
    [("halt", "--actor", "ada [ops]"), ("policy", "training", "schedule_hours=5"), ("shadow", "start", "a", A2)],
)
def test_what_people_write_is_shown_as_they_wrote_it(two: Any, write: tuple[str, ...]) -> None:
    assert two(*write, "--reason", ODD).code == 0
    shown = two("history")
    assert shown.code == 0
    assert ODD in " ".join(re.sub("[\u2502\u2503]", " ", shown.out).split()), shown.out
    assert "--actor" not in write or "ada [ops]" in shown.out


def test_a_reason_cannot_control_the_terminal(two: Any) -> None:
    assert two("halt", "--reason", "a\x1b[2Jb\x07").code == 0
    out = two("history").out
    assert "\x1b" not in out
    assert r"a\x1b[2Jb\x07" in out


def test_there_is_one_console_that_takes_nothing_for_markup() -> None:
    files = [*(ROOT / "services").rglob("*.py"), *(ROOT / "shared").rglob("*.py")]
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        if file.name != "output.py":
            assert not re.search(r"\bConsole\(|from rich import|from_markup|\.status\(f\"", text), file
        columns = re.findall(r"TextColumn\([^)]*\)", text)
        assert all("markup=False" in column for column in columns), file


def test_a_command_that_makes_decisions_impossible_says_so_and_so_does_status(desk: Any) -> None:
    desk.issue(*TWO_MODELS[:2])  # found, register
    promoted = desk("promote", "a", A1, "--force", "--weight", "1", *WHY)
    assert promoted.code == 0
    assert "every decision will be no_quorum: 1 of the 2 models vote that a quorum needs" in promoted.err
    assert "quorum_count=1" in " ".join(desk("status").out.split())
    assert json.loads(desk("status", "-o", "json").out)["undecidable"].startswith("every decision")
    assert "no_quorum" not in desk("halt", *WHY).err, "it is not the cause"
    assert "no_quorum" not in desk("policy", "voting", "quorum_count=1", *WHY).err
    assert json.loads(desk("status", "-o", "json").out)["undecidable"] == ""


def test_history_does_not_fill_pages_with_what_gates_compare_with() -> None:
    prior = (0.25, 0.5, 0.25)
    command = RegisterArtifact(
        model="m",
        artifact="a1" * 32,
        family="xgboost",
        feature_set="b2" * 32,
        feature_set_name="core-28",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=prior,
        prior=prior,
    )
    backtest = Backtest(0.0625, 0.25, ((-0.5, 0.5),), ((10.0, 20.0, 10.0),), 4.0)
    assert words(replace(command, backtest=backtest)) == words(command)


def test_history_of_a_log_that_was_changed_ends_with_2(two: Any) -> None:
    async def cut(log: Any) -> None:
        with redis.Redis.from_url(two.url) as client:
            client.xdel("conclave:control", "3-0")

    two.with_log(cut)
    ended = two("history")
    assert ended.code == 2
    assert "control entry 4" in ended.err


def test_an_entry_past_the_door_is_told_and_does_not_count(two: Any) -> None:
    with redis.Redis.from_url(two.url) as client:
        client.xadd("conclave:control", {"d": b'{"command": "halt"}'}, id="7-0")
    ended = two("history")
    assert ended.code == 0
    assert "entry 7-0 does not count" in ended.err
    report = json.loads(two("doctor", "-o", "json").out)
    assert report["not written by a control writer"] == 1
    assert report["control"].startswith("version 6, chain intact")
    assert two("halt", *WHY).code == 0
    assert state(two).version == 7


def test_the_doctor_finds_a_log_that_is_not_the_one_that_was_noted(two: Any) -> None:
    checkpoints = two.settings.parent / "var" / "checkpoints"
    checkpoints.mkdir(parents=True)
    line = {"log_id": "log-of-a-test", "version": 6, "head": "0" * 64, "at": 1}
    (checkpoints / "control.jsonl").write_text(json.dumps(line) + "\n")
    ended = two("doctor")
    assert ended.code == 2
    assert "at version 6, found" in ended.err


def test_diff_names_members_weights_policy_and_features(two: Any) -> None:
    other = RegisterArtifact(
        model="a",
        artifact="a3" * 32,
        family="prior",
        feature_set="ee" * 32,
        feature_set_name="t",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=(-1.1,) * 3,
        prior=(0.25, 0.5, 0.25),
        features=("macd", "atr_14"),
    )
    two.issue(other)
    assert two("promote", "a", "a3", "--force", "--accept-changes", *WHY).code == 0
    assert two("policy", "voting", "edge=0.2", *WHY).code == 0
    found = {each["what"]: each for each in json.loads(two("diff", "6", "9", "-o", "json").out)["changes"]}
    assert (found["a champion"]["before"], found["a champion"]["after"]) == ("a1" * 6, "a3" * 6)
    assert (found["a features"]["before"], found["a features"]["after"]) == ("s: rsi_14", "t: atr_14")
    assert found["a shadow a1a1a1a1a1a1"]["after"] == "in shadow"
    assert (found["policy edge"]["before"], found["policy edge"]["after"]) == ("0.1", "0.2")
    assert "versions 9 and 9 are equal" in two("diff", "9", "9").out
    assert two("diff", "8", "99").code == 2


def test_status_shows_any_version_and_any_time(two: Any) -> None:
    two.issue(Halt())
    now, then = json.loads(two("status", "-o", "json").out), json.loads(two("status", "--at", "5", "-o", "json").out)
    assert (now["version"], now["halted"], then["version"], then["halted"]) == (7, True, 5, False)
    assert "groups" not in then
    assert list(then["models"]) == ["a"]
    assert json.loads(two("status", "--at", "2020-01-01", "-o", "json").out)["version"] == 0
    assert json.loads(two("status", "--at", "2999-01-01T00:00+02:00", "-o", "json").out)["version"] == 7
    assert two("status", "--at", "yesterday").code == 2
    assert two("status", "--at", "99").code == 2


def test_history_and_diff_are_given_as_of_any_version_or_time(two: Any) -> None:
    assert len(two("history", "--from", "2", "--to", "4", "-o", "json").out.splitlines()) == 2
    assert two("history", "--to", "2001-01-01", "-o", "json").out == ""
    by_time = json.loads(two("diff", "2001-01-01", "6", "-o", "json").out)
    assert (by_time["from"], by_time["to"]) == (0, 6)
    assert json.loads(two("diff", "2", "2100-01-01T00:00", "-o", "json").out)["to"] == 6
    assert two("diff", "yesterday").code == 2


def test_what_cannot_be_verified_asked_or_blamed_ends_with_a_code_and_a_sentence(two: Any) -> None:
    assert two("verify", "--jobs", "1").code == 0  # a chain and nothing else is the same
    assert two("whatif").code == 3
    ended = two("blame", "0123456789")
    assert (ended.code, "no decision begins with" in ended.err) == (2, True)
    ended = two("proof", "1")
    assert (ended.code, "not a promotion" in ended.err) == (2, True)
    assert two("proof", "check", str(two.settings)).code == 1


def options_of(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Parameter]]:
    """Every option of a command and of the commands below it."""
    yield from ((" ".join(path), parameter) for parameter in command.params)
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from options_of(each, (*path, name))


def test_every_number_that_a_command_takes_has_bounds() -> None:
    group = Commands()
    commands = {name: group.get_command(None, name) for name in MODULES}  # type: ignore[arg-type]  # unused
    unbounded = [
        f"{path} {parameter.name}"
        for name, command in commands.items()
        if command is not None
        for path, parameter in options_of(command, (name,))
        if isinstance(parameter.type, (type(click.INT), type(click.FLOAT)))
        and not isinstance(parameter.type, (click.IntRange, click.FloatRange))
    ]
    assert unbounded == []


@pytest.mark.parametrize(
    "words",
    [
        ("promote", "c", "c1", "--force", "--weight", "0.1"),
        ("shadow", "start", "c", "c1"),
        ("train", "files", "--model", "c", "--family", "prior", "--register"),
        ("train", "files", "--model", "c", "--family", "prior", "--promote", "--weight", "0.1"),
        ("train", "request", "--model", "c", "--family", "prior"),
    ],
    ids=" ".join,
)
def test_a_model_that_no_worker_serves_is_refused_before_any_work(two: Any, words: tuple[str, ...]) -> None:
    two.issue(register("c", "c1" * 32))
    before = state(two).version
    ended = two(*words, *WHY)
    assert (ended.code, state(two).version) == (1, before)
    assert "no worker serves the model 'c'" in ended.err
    assert "Served are: a, b" in ended.err
    assert not (two.settings.parent / "var" / "artifacts").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--promote", "--weight", "1"), "weight 1 would leave nothing for b"),
        (("--promote",), "'c' has no weight yet"),
    ],
)
def test_a_promotion_that_would_be_refused_is_refused_before_training(
    two: Any, words: tuple[str, ...], why: str
) -> None:
    two.say_ready("c", A1)
    model = "c" if len(words) == 1 else "a"
    ended = two("train", "files", "--model", model, "--family", "prior", *words, *WHY)
    assert (ended.code, why in ended.err) == (1, True)
    assert "nothing is trained" in ended.err
    assert not (two.settings.parent / "var" / "artifacts").exists()


def test_a_voting_model_without_a_worker_is_named_by_status_and_doctor(two: Any) -> None:
    assert json.loads(two("status", "-o", "json").out)["unserved"] == []  # no service runs
    two.say_ready("a", A1)
    assert json.loads(two("status", "-o", "json").out)["unserved"][0].startswith("b votes, and no worker serves it")
    assert "b votes, and no worker serves it" in two("status").out
    report = json.loads(two("doctor", "-o", "json").out)
    workers = [check for check in report["on this machine"] if check["what"] == "workers"]
    assert [(check["verdict"], check["found"][:8]) for check in workers] == [("wrong", "b votes,")]


def test_train_files_looks_for_the_server_before_it_trains(tmp_path: Path, desk: Any) -> None:
    desk.settings.write_text(desk.settings.read_text().replace(desk.url, f"unix://{tmp_path}/nobody.sock"))
    for then in ("--register", "--shadow", "--promote"):
        ended = desk("train", "files", "--model", "a", "--family", "prior", then, *WHY)
        assert (ended.code, "no server at" in ended.err) == (2, True)
    assert not (tmp_path / "var" / "artifacts").exists()
