"""Who may import whom, and what a core may not touch. Read from the syntax trees, nothing is run."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORES = sorted((ROOT / "services").rglob("core.py"))
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
ROOMS = ("shared.control", "shared.gates", "shared.labels", "shared.voting")
"""Packages whose modules are as pure as a core, except these shells."""
SHELLS = {
    "shared.control.checkpoint": "writes and reads the files that note what the server held",
    "shared.control.drafting": "appends to the control stream what was signed elsewhere",
    "shared.control.fence": "moves the fences of the partitions on the log",
    "shared.control.issuing": "appends to the control stream",
    "shared.control.readiness": "reads from the log which artifacts are loaded",
    "shared.control.signing": "reads and writes key files",
    "shared.control.stream": "reads the control stream, and the clock",
    "shared.gates.passing": "reads verdicts from the log",
    "shared.gates.reference": "writes tables into the reference page",
}
TAKEN = {
    # What a pure module may take of one that is not pure: data types, constants and pure functions.
    "shared.archive.store": {"SegmentStore"},  # a protocol
    "shared.control.signing": {"Signer", "sign", "verify"},  # Ed25519 is deterministic
    "shared.control.stream": {"CONTROL"},
    "shared.log": {"START", "Entry", "GroupView", "Lost", "StreamKey", "preceding"},
    "shared.log.admin": {"PartitionCut", "StreamEnd"},
    "shared.log.leases": {"id_order"},
    "shared.telemetry.reporting": {"flags_of"},
}
INTERFACES = ("nhits.net", "patchtst.net")
"""Modules that implement one interface: whoever loads a network asks either for the same names."""
DOCUMENTATION = "schemas.documentation"
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
        elif module.startswith(DOCUMENTATION) and not name.startswith(DOCUMENTATION):
            yield f"{name} imports {module}: nothing that runs needs the tools that write documents"
        elif layer == "schemas" and top not in {"schemas", "msgspec", *sys.stdlib_module_names}:
            yield f"{name} imports {module}: schemas need nothing but msgspec"
        elif layer == top == "services" and rest[:1] != inside[:1] and not hosted(inside, rest):
            yield f"{name} imports {module}: services do not know each other"


def hosted(inside: list[str], rest: list[str]) -> bool:
    """The console is the program: it hosts every service's ``main`` and replays every ``core``, also those of a room in
    a service. The observatory may replay a core, and so needs what the core is made of. The phone shows the
    observatory's projections by the functions of its screens."""
    if inside[:1] == ["phone"] and rest[:1] == ["observatory"]:
        return rest[1:2] != ["web"] and rest[1:2] != ["main"]
    if inside[:1] == ["observatory"]:
        return bool({".".join(["services", *rest]), ".".join(["services", *rest[:-1]])} & set(PURE))
    return inside[:1] == ["console"] and bool({"core", "main"} & {*rest[1:3]})


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_from_services_to_shared_to_schemas(path: Path) -> None:
    assert list(trespasses(name_of(path), ast.parse(path.read_text(encoding="utf-8")))) == []


PATHS = {name_of(path).removesuffix(".__init__"): path for path in MODULES}


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(PATHS[name].read_text(encoding="utf-8"))


def within(name: str, tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The modules of the project that a module imports, inside functions too, each with the name that is taken of it;
    '' stands for the whole module."""
    package = name if name in PATHS and PATHS[name].name == "__init__.py" else name.rpartition(".")[0]
    for module in imported(tree, package):
        parent, _, taken = module.rpartition(".")
        for candidate in ((module, ""), (parent, taken)):
            if candidate[0] in PATHS and candidate[0] != name:
                yield candidate
                break


def needed_by(roots: Iterable[str]) -> list[str]:
    """The modules that must be pure: these and all they import, except those of ``TAKEN``."""
    pure, left = set[str](), list(roots)
    while left:
        name = left.pop()
        if name not in pure:
            pure.add(name)
            left += {module for module, _ in within(name, tree_of(name))} - TAKEN.keys()
    return sorted(pure)


def takes_too_much(name: str, tree: ast.AST) -> Iterator[str]:
    """What a module takes of modules that are not pure, though ``TAKEN`` does not list it."""
    for module, taken in within(name, tree):
        if module in TAKEN and taken not in TAKEN[module]:
            yield f"takes {taken or 'all'} of {module}"


PURE = needed_by(
    [
        *(name_of(path) for path in CORES),
        *(name for name in PATHS if name.startswith(ROOMS) and name not in SHELLS),
    ]
)


@pytest.mark.parametrize("name", PURE)
def test_a_core_and_all_it_imports_have_no_clock_randomness_environment_file_or_network(name: str) -> None:
    tree = tree_of(name)
    assert [*impurities(tree), *takes_too_much(name, tree)] == []


def test_purity_is_asked_of_what_a_core_imports_and_of_whole_rooms() -> None:
    assert {"services.gate_evaluator.decay", "services.watcher.text", "shared.control.apply.keys"} <= set(PURE)
    assert set(PURE).isdisjoint(SHELLS)


@pytest.mark.parametrize("name", sorted(SHELLS.keys() | TAKEN.keys()))
def test_an_exception_from_purity_is_needed(name: str) -> None:
    assert list(impurities(tree_of(name)))
    assert {taken for pure in PURE for module, taken in within(pure, tree_of(pure)) if module == name} == TAKEN.get(
        name, set()
    )


@pytest.mark.parametrize(
    "code",
    [
        "from shared.control.stream import CONTROL, now_ms",
        "from shared.log import Log",
        "def f():\n    import shared.log",
        "from shared.control import signing",
    ],
)
def test_a_core_that_takes_more_than_data_from_a_shell_is_found(code: str) -> None:
    assert list(takes_too_much("services.feed.core", ast.parse(code)))


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: {module for module, _ in within(name, tree_of(name))} for name in PATHS}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_a_public_class_of_shared_has_a_name_of_its_own() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for name in PATHS:
        if name.startswith("shared.") and not name.endswith(INTERFACES):
            for node in tree_of(name).body:
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
        ("schemas.market", "from schemas.documentation.examples import EXAMPLES"),
        ("shared.runtime", "from schemas.documentation import streams"),
        ("shared.runtime.host", "from services.feed.core import service"),
        ("shared.runtime.host", "import bench.harness"),
        ("services.feed.main", "from services.model_worker.core import service"),
        ("services.feed.main", "from services import model_worker"),
        ("services.feed.main", "from ..model_worker import core"),
        ("services.feed.__init__", "def f():\n    import services.console.cli"),
        ("services.console.cli", "from services.feed.sources import files"),
        ("services.observatory.core", "from services.watcher.main import Watcher"),
        ("services.observatory.main", "from services.console.run.status import decision_line"),
        ("services.phone.main", "from services.observatory.web.site import Site"),
        ("services.phone.main", "from services.guard.main import Guard"),
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
        ("services.observatory.core", "from services.watcher.core import observe\nfrom services.watcher import core"),
    ],
)
def test_an_import_along_the_layers_is_allowed(name: str, code: str) -> None:
    assert list(trespasses(name, ast.parse(code))) == []


WALL_CLOCK = {
    # Which modules read the time of day of their machine, and why it decides nothing there.
    "services.console.bars.commands": "whether a bar of a file is over, in a report for people",
    "services.console.control.membership": "part of the name of a new log",
    "services.console.run.archive": "a preview, which needs no server",
    "services.console.run.up_file": "the time in a file for people",
    "services.console.run.recover": "the time in a note outside the log",
    "services.model_worker.loading": "the time in a report for people",
    "services.trainer.job": "replaced by the trainer, which knows the server's time",
    "services.trainer.task": "replaced by the trainer, which knows the server's time",
    "services.trainer.work": "replaced by the trainer, which knows the server's time",
    "services.observatory.web.sessions": "cookies expire by it",
    "shared.commands.desk": "the time in a note outside the log",
    "shared.control.fence": "the time in a note for people",
    "shared.control.stream": "defines it",
    "shared.log.memory": "is a server",
    "shared.log.redis": "for a user who may not ask the server for its time",
    "shared.people": "the time in a file for people",
    "shared.runtime.clock": "compares it with the server's time",
    "shared.runtime.process": "the time in notes outside the log",
    "shared.server.certificates": "certificates are valid by the time of day",
    "shared.server.security": "certificates are valid by the time of day",
    "shared.telemetry.reporting": "until the server's time is known",
}


def reads_wall_clock(tree: ast.AST) -> bool:
    """Whether a module reads the time of day: by the standard library, or by ``now_ms``."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr="time" | "time_ns"):
                return True
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today"):
                return True
            case ast.Call(func=ast.Name(id="now_ms" | "wall_ms")):
                return True
            case _:
                pass
    return False


def test_no_module_decides_by_the_wall_clock() -> None:
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if reads_wall_clock(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found <= WALL_CLOCK.keys()


def test_a_child_off_the_working_folder_is_a_module_that_is_installed() -> None:
    """``module_command`` keeps the working folder off the import path, where ``bench`` and ``tests`` are."""
    called = [
        (path.relative_to(ROOT), node.args[0].value)
        for top in ("shared", "services", "bench", "tests")
        for path in (ROOT / top).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "module_command"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert called
    assert [each for each in called if str(each[1]).partition(".")[0] not in {"shared", "services", "schemas"}] == []


def test_no_bench_starts_a_child_of_its_own_off_the_working_folder() -> None:
    """The option ``-P`` of Python does the same as ``module_command``."""
    commands = [
        (path.relative_to(ROOT), node.lineno)
        for path in (ROOT / "bench").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == "-P"
    ]
    assert commands == []
