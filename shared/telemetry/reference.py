"""Writes the table of ``shared.telemetry.metrics`` into ``docs/reference/telemetry.md``, whose path is the argument."""

import sys
from pathlib import Path
from typing import Final

from shared.telemetry.metrics import METRICS

BEGIN: Final = "<!-- metrics -->"
END: Final = "<!-- end of metrics -->"


def table() -> str:
    """Return the metrics as a table of the reference page."""
    rows = [
        "| metric | in Prometheus | kind | unit | attributes | reported by | meaning |",
        "|---|---|---|---|---|---|---|",
    ]
    for metric in METRICS.values():
        attributes = ", ".join(f"`{name}`" for name in metric.attributes)
        rows.append(
            f"| `{metric.name}` | `{metric.prometheus}` | {metric.kind} | `{metric.unit}` | {attributes} "
            f"| {metric.reporter} | {metric.meaning} |"
        )
    return "\n".join(rows)


def with_table(page: str) -> str:
    """Return ``page`` with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")
