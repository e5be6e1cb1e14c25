"""The page on the Python API names what there is."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
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
