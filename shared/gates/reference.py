"""Write the tables of ``shared.gates.catalogue`` into ``docs/reference/gate-policies.md``. The argument is its
path."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from shared.gates import catalogue
from shared.gates.catalogue import GateDescription
from shared.gates.classic import ClassicPolicy
from shared.gates.policy import DefaultPolicy

TABLES: Final[dict[str, tuple[Sequence[GateDescription], Any]]] = {
    "default": (catalogue.DEFAULT, DefaultPolicy()),
    "classic": (catalogue.CLASSIC, ClassicPolicy()),
}


def table(gates: Sequence[GateDescription], policy: Any) -> str:
    """Return the gates of a policy as a table, with the defaults of their parameters."""
    rows = ["| gate | kind | passes when | parameters |", "|---|---|---|---|"]
    for gate in gates:
        parameters = ", ".join(f"`{name}` {_default(policy, name)}" for name in gate.parameters)
        rows.append(f"| `{gate.name}` | {gate.kind} | {gate.condition} | {parameters} |")
    return "\n".join(rows)


def _default(policy: Any, name: str) -> str:
    value = getattr(policy, name)
    return str(value).lower() if isinstance(value, bool) else f"{value:.4g}"


def with_tables(page: str) -> str:
    """Return ``page`` with each policy's table between its marks."""
    for name, (gates, policy) in TABLES.items():
        begin, end = f"<!-- gates of {name} -->", f"<!-- end of gates of {name} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{table(gates, policy)}\n{end}{after}"
    return page


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        file.write_text(with_tables(file.read_text(encoding="utf-8")), encoding="utf-8")
