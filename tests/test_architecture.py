"""Who may import whom, and what a core may not touch. Read from the syntax trees, nothing is run."""

import ast
import sys
from collections import defaultdict
from collections.abc import Container, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORES = sorted((ROOT / "services").glob("*/core.py"))
MODULES = sorted(path for top in ("schemas", "shared", "services") for path in (ROOT / top).rglob("*.py"))
BANNED_MODULES = frozenset(
    [
        "aiohttp",
        "anyio",
        "asyncio",
        "calendar",
        "concurrent",
        "ctypes",
        "datetime",
        "getpass",
        "glob",
        "http",
        "httpx",
        "importlib",
        "io",
        "multiprocessing",
        "os",
        "pathlib",
        "platform",
        "random",
        "redis",
        "requests",
        "secrets",
        "select",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
        "zoneinfo",
    ]
)
BANNED_CALLS = frozenset(["open", "input", "print", "eval", "exec", "compile", "__import__", "id", "hash", "globals"])
BANNED_ATTRIBUTES = frozenset(
    [
        "now",
        "utcnow",
        "today",
        "time",
        "time_ns",
        "monotonic",
        "perf_counter",
        "environ",
        "getenv",
        "urandom",
        "random",
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
    ]
)
INTERFACES = ("nhits.net", "patchtst.net")
"""Modules that implement one interface: whoever loads a network asks either for the same names."""
ALLOWED = {"schemas": {"schemas"}, "shared": {"shared", "schemas"}, "services": {"services", "shared", "schemas"}}


def imported(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Every module that a tree imports, relative imports in full, imports inside functions too."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = ".".join(package.split(".")[: -level + 1 or None])
                yield from (f"{base}.{module or ''}.{alias.name}".replace("..", ".") for alias in names)
            case _:
                pass


def impurities(tree: ast.AST) -> Iterator[str]:
    """What in a core depends on more than its arguments."""
    for module in imported(tree):
        if module.partition(".")[0] in BANNED_MODULES:
            yield f"imports {module}"
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in BANNED_CALLS:
                yield f"line {node.lineno}: calls {name}()"
            case ast.Attribute(attr=name) if name in BANNED_ATTRIBUTES and not on_a_batch(node):
                yield f"line {node.lineno}: uses .{name}"
            case ast.AsyncFunctionDef() | ast.Await():
                yield f"line {node.lineno}: waits"
            case ast.Global():
                yield f"line {node.lineno}: changes a global"
            case _:
                pass


def on_a_batch(node: ast.Attribute) -> bool:
    """``batch.now`` is time that arrived in a message."""
    return node.attr == "now" and isinstance(node.value, ast.Name) and node.value.id == "batch"


def trespasses(name: str, tree: ast.AST) -> Iterator[str]:
    """Imports against ``services -> shared -> schemas``, or of another service."""
    layer, *inside = name.split(".")
    package = name if name.endswith("__init__") else name.rpartition(".")[0]
    for module in imported(tree, package.removesuffix(".__init__")):
        top, *rest = module.split(".")
        if top in {"tests", "bench"} or (top in ALLOWED and top not in ALLOWED[layer]):
            yield f"{name} imports {module}"
        elif layer == "schemas" and top not in {"schemas", "msgspec", *sys.stdlib_module_names}:
            yield f"{name} imports {module}: schemas need nothing but msgspec"
        elif layer == top == "services" and rest[:1] != inside[:1] and not hosted(inside, rest):
            yield f"{name} imports {module}: services do not know each other"


def hosted(inside: list[str], rest: list[str]) -> bool:
    """The console is the program: it hosts every service's ``main`` and replays every ``core``."""
    return inside[:1] == ["console"] and rest[1:2] in (["core"], ["main"])


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", CORES, ids=lambda path: path.parent.name)
def test_a_core_has_no_clock_randomness_environment_file_or_network(path: Path) -> None:
    assert list(impurities(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_from_services_to_shared_to_schemas(path: Path) -> None:
    assert list(trespasses(name_of(path), ast.parse(path.read_text(encoding="utf-8")))) == []


def within(name: str, path: Path, names: Container[str]) -> Iterator[str]:
    """The modules of the project that a module imports, inside functions too."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for module in imported(ast.parse(path.read_text(encoding="utf-8")), package):
        for candidate in (module, module.rpartition(".")[0]):
            if candidate in names and candidate != name:
                yield candidate
                break


def test_no_module_imports_itself_by_way_of_others() -> None:
    paths = {name_of(path).removesuffix(".__init__"): path for path in MODULES}
    graph = {name: set(within(name, path, paths)) for name, path in paths.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_a_public_class_of_shared_has_a_name_of_its_own() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        name = name_of(path)
        if name.startswith("shared.") and not name.endswith(INTERFACES):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(name)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "import os.path",
        "from datetime import datetime",
        "from random import gauss as noise",
        "def f():\n    import redis.asyncio",
        "moment = clock.now()",
        "seed = numpy.random.default_rng()",
        "key = settings.environ['HOME']",
        "text = open('x').read()",
        "text = path.read_text()",
        "print(1)",
        "order = hash('x')",
        "async def f(): ...",
        "def f():\n    global seen",
    ],
)
def test_an_impurity_is_found(code: str) -> None:
    assert list(impurities(ast.parse(code)))


def test_what_a_core_needs_is_no_impurity() -> None:
    code = (
        "import math, numpy as np\nfrom shared.voting.pool import pool\n"
        "def handle(batch): return batch.now or math.log(2)"
    )
    assert list(impurities(ast.parse(code))) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("schemas.market", "import numpy"),
        ("schemas.market", "from shared.log import Log"),
        ("shared.runtime.host", "from services.feed.core import service"),
        ("shared.runtime.host", "import bench.harness"),
        ("services.feed.main", "from services.model_worker.core import service"),
        ("services.feed.main", "from services import model_worker"),
        ("services.feed.main", "from ..model_worker import core"),
        ("services.feed.__init__", "def f():\n    import services.console.cli"),
        ("services.console.cli", "from services.feed.sources import files"),
    ],
)
def test_an_import_against_the_layers_is_found(name: str, code: str) -> None:
    assert list(trespasses(name, ast.parse(code)))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (
            "schemas.codec",
            "from hashlib import blake2b\nimport msgspec\nfrom schemas import common\nfrom . import market",
        ),
        ("shared.runtime.host", "import redis\nfrom schemas.codec import seal\nfrom .log import Log"),
        ("services.feed.main", "from services.feed.core import service\nfrom .core import service\nimport shared.log"),
        ("services.feed.__init__", "from .core import service"),
        ("services.console.cli", "from services.feed.core import service\nfrom services.feed import main"),
    ],
)
def test_an_import_along_the_layers_is_allowed(name: str, code: str) -> None:
    assert list(trespasses(name, ast.parse(code))) == []
