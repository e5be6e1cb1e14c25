"""Events with many fields are constructed by keyword, so that a reader sees which value goes where."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

import schemas

ROOT: Final = Path(__file__).parents[1]
MOST_POSITIONAL: Final = 4


def events() -> set[str]:
    """The names of all events and commands with more than ``MOST_POSITIONAL`` fields."""
    modules = [importlib.import_module(f"schemas.{module.name}") for module in pkgutil.iter_modules(schemas.__path__)]
    classes = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    structs = [each for each in classes if issubclass(each, msgspec.Struct) and each is not msgspec.Struct]
    return {
        each.__name__
        for each in structs
        if each.__struct_config__.tag is not None and len(each.__struct_fields__) > MOST_POSITIONAL
    }


EVENTS: Final = events()


def positional(source: str) -> Iterator[int]:
    """Yield the lines that construct such an event with more than ``MOST_POSITIONAL`` positional arguments, or with
    unpacked ones."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name), args=args) if name in EVENTS:
                if len(args) > MOST_POSITIONAL or any(isinstance(each, ast.Starred) for each in args):
                    yield node.lineno


def test_events_with_many_fields_are_constructed_by_keyword() -> None:
    files = sorted(
        file for top in ("bench", "schemas", "services", "shared", "tests") for file in ROOT.glob(f"{top}/**/*.py")
    )
    assert files
    assert [f"{file.relative_to(ROOT)}:{line}" for file in files for line in positional(file.read_text("utf-8"))] == []


def test_a_positional_construction_is_found_and_one_by_keyword_is_not() -> None:
    assert {"BarClosed", "DeadLetter", "PredictionScored", "GuardTripped"} <= EVENTS
    assert list(positional("DeadLetter('feed', 'a:1', 'bad_row', 'why', 'raw')\nDeadLetter(*about)\n")) == [1, 2]
    assert list(positional("DeadLetter(service='feed', **about)\nOther(1, 2, 3, 4, 5)\n")) == []
