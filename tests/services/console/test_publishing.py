"""A command as a JSON file: published, or refused with what would do."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.control import State
from shared.control.issuing import current

HALT = {"command": {"type": "halt"}, "actor": "ada", "reason": "exchange outage", "command_id": "outage-7"}


def publish(desk: Any, tmp_path: Path, content: object, *words: str) -> Any:
    file = tmp_path / "command.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return desk("issue", str(file), *words)


def state(desk: Any) -> State:
    found: State = desk.with_log(current)
    return found


def test_a_file_is_issued_once_however_often_it_is_published(two: Any, tmp_path: Path) -> None:
    assert publish(two, tmp_path, HALT).code == 0
    assert state(two).halted
    assert publish(two, tmp_path, HALT).code == 0
    assert state(two).version == 7


def test_a_file_with_every_kind_of_field_is_read(two: Any, tmp_path: Path) -> None:
    command = {"type": "promote", "model": "a", "artifact": two.A2, "forced": True, "probation": 20}
    assert publish(two, tmp_path, {**HALT, "command": command, "expects": 6}, "--dry-run").code == 0
    assert state(two).version == 6
    assert publish(two, tmp_path, {**HALT, "command": command, "expects": 5}).code == 1
    assert publish(two, tmp_path, {**HALT, "command": command, "expects": 6}).code == 0
    assert state(two).models["a"].champion == two.A2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "expected a JSON object with command, actor, reason, command_id and, optionally, expects"),
        ({**HALT, "why": "x"}, "unknown field `why`"),
        ({name: value for name, value in HALT.items() if name != "command_id"}, "`command_id`"),
        ({**HALT, "command": {}}, "no command of type None; there are: found, register_artifact"),
        ({**HALT, "command": {"type": "stop"}}, "no command of type 'stop'; there are"),
        (
            {**HALT, "command": {"type": "promote", "wieght": 1}},
            "promote has no field wieght; its fields: model, artifact",
        ),
        ({**HALT, "command": {"type": "promote", "model": "a"}}, "promote: Object missing required field `artifact`"),
        ({**HALT, "command": {"type": "set_weights", "weights": {"a": 2}}}, "set_weights: Expected `float` <= 1.0"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_what_would_do(
    two: Any, tmp_path: Path, content: object, says: str
) -> None:
    ended = publish(two, tmp_path, content)
    assert ended.code == 2
    assert says in " ".join(ended.err.split())
    assert state(two).version == 6
