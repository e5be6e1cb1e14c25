"""Run one benchmark, print its figures as a table and write them to ``bench/out/<name>.json``.

A figure is the median of several runs and is compared with a goal. If the goal is a ratio, the floor or peer was
measured in the same run and is in ``against``. The exit code is 0 whether or not the goals are met.
"""

import ast
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Figure:
    """One measured value. ``goal`` is a comparison such as ``>= 20`` or ``< 5``, or empty. ``against`` is the name of
    the floor or peer, with its value in the same run."""

    value: float
    unit: str
    goal: str = ""
    against: str = ""

    @property
    def holds(self) -> bool | None:
        """Return whether the goal is met; None without a goal."""
        if not self.goal:
            return None
        sign, bound = self.goal.split()
        limit = float(bound)
        return {"<": self.value < limit, "<=": self.value <= limit, ">": self.value > limit}.get(
            sign, self.value >= limit
        )


def names() -> list[str]:
    """Return the names of all benchmarks: the modules with a function ``run``."""
    return sorted(path.stem for path in HERE.glob("*.py") if "\ndef run(" in path.read_text())


def summary(name: str) -> str:
    """Return the first line of a benchmark's docstring, without importing the module."""
    text = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
    return text.partition("\n")[0]


def medians(runs: int, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Call ``measure`` ``runs`` times and return the median of each of its values."""
    rows = [measure() for _ in range(runs)]
    return {key: median(row[key] for row in rows) for key in rows[0]}


def main(argv: list[str]) -> int:
    """Run ``python -m bench [name] [--quick] [files]``, where ``files`` are for benchmarks that read files."""
    console = Console()
    quick = "--quick" in argv or os.environ.get("QUICK") == "1"
    chosen = [word for word in argv if not word.startswith("-")]
    if not chosen:
        for name in names():
            console.print(f"  [bold]{name:<12}[/] {summary(name)}")
        return 0
    name, files = chosen[0].replace("-", "_"), chosen[1:]
    if name not in names():
        console.print(f"no benchmark {name!r}; there are: {', '.join(names())}")
        return 2
    figures: dict[str, Figure] = importlib.import_module(f"bench.{name}").run(quick, *files)
    table = Table(title=f"{name}{' (quick)' if quick else ''}")
    for heading in ("figure", "value", "unit", "goal", "holds", "against"):
        table.add_column(heading)
    for key, figure in figures.items():
        held = {True: "yes", False: "NO", None: ""}[figure.holds]
        table.add_row(key, f"{figure.value:,.4g}", figure.unit, figure.goal, held, figure.against)
    console.print(table)
    out = HERE / "out" / f"{name}.json"
    out.parent.mkdir(exist_ok=True)
    python = sys.version.split()[0]
    result = {
        "name": name,
        "quick": quick,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {python}",
        "figures": {key: {**asdict(figure), "holds": figure.holds} for key, figure in figures.items()},
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"written to {out}")
    return 0
