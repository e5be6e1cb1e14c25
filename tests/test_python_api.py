"""The page on the Python API names what there is."""

import ast
import inspect
import re
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest

from bench.recorded import record, verdict
from shared.gates.policies import digest_of
from tests.services.console.conftest import A1, A2, TWO_MODELS, Desk

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
SIGNATURES = re.findall(r"^\| `(shared(?:\.\w+)+)(\(.*?\))` \|", PAGE, re.MULTILINE)
NAMES = sorted(set(re.findall(r"`(shared(?:\.\w+)+)", PAGE)))
EXAMPLE = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_on_the_page_exists(name: str) -> None:
    module, _, found = name.rpartition(".")
    assert hasattr(import_module(module), found)


def test_what_the_example_imports_exists() -> None:
    imports = [node for node in ast.walk(ast.parse(EXAMPLE)) if isinstance(node, ast.ImportFrom)]
    assert len(imports) >= 4
    for node in imports:
        assert node.module is not None
        for alias in node.names:
            assert hasattr(import_module(node.module), alias.name)


@pytest.mark.parametrize(("name", "signature"), SIGNATURES)
def test_a_signature_on_the_page_is_that_of_the_code(name: str, signature: str) -> None:
    module, _, found = name.rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), found)).parameters.values()
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    assert str(inspect.Signature(plain)) == signature


def test_the_page_has_signatures() -> None:
    assert len(SIGNATURES) >= 10


def test_the_example_promotes_what_passed_and_is_ready_and_nothing_else(
    empty_redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(empty_redis_url, tmp_path, capsys)
    example: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLE, "python-api.md", "exec"), example)  # the page is ours

    def promoted(artifact: str) -> str:
        anyio.run(example["promote"], empty_redis_url, "a", artifact)
        return capsys.readouterr().out

    desk.issue(*TWO_MODELS)
    passed = verdict("passed", model="a", artifact=A2, champion=A1, policy_digest=digest_of(None))
    desk.with_log(partial(record, stream="gates", events=[passed]))
    assert "no living worker" in promoted(A2)
    desk.say_ready("a", A2)
    assert promoted(A2).startswith("version 7")
    desk.say_ready("a", A1)
    assert "there is no verdict on it" in promoted(A1)
