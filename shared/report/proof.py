"""Render a proof pack as an HTML page."""

import json
from pathlib import Path
from typing import Any, Final

from shared.audit.proof import pack_name, packed
from shared.audit.proof_checks import reservations
from shared.report.pages import render
from shared.report.tables import TextTable
from shared.report.text import NONE, moment

TITLES: Final = {
    "what": "What was deployed",
    "loaded": "Evidence that it loaded",
    "non_interference": "Evidence that it did not vote before",
    "behaviour": "Behaviour so far",
    "scores": "Scores of the verdict",
    "gates": "Gates",
    "rollback": "The way back",
    "next_steps": "Next steps",
    "audit_trail": "Audit trail",
}


def page(pack: dict[str, Any]) -> str:
    """Return the whole page."""
    body = pack["body"]
    shadow = body["non_interference"]
    return render(
        "proof.html",
        body=body,
        against=reservations(body["what"]["forced"], [verdict["overall"] for verdict in body["gates"]]),
        signer=pack["signed_by"] if "signature" in pack else None,
        decisions=sum(one["decisions_in_shadow"] for one in shadow),
        equal=sum(one["equal_without_it"] for one in shadow),
        parts=[(title, _tables(body[name]), _lines(body[name])) for name, title in TITLES.items() if name in body],
    )


def write_pack(pack: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write a pack as JSON and as a page into a folder, which is made if it is missing. Return both files."""
    folder.mkdir(parents=True, exist_ok=True)
    name = pack_name(pack["body"]["version"])
    file, shown = folder / f"{name}.json", folder / f"{name}.html"
    file.write_bytes(packed(pack))
    shown.write_text(page(pack), encoding="utf-8")
    return file, shown


def _tables(value: Any) -> list[TextTable]:
    """Return the tables of a part of the pack.

    Four or more records without nested records are the rows of one table; otherwise each record has its own tables."""
    records = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict) and one]
    if len(records) >= 4 and not any(_nested(one) for one in records):
        return [_records("", records)]
    return [table for one in records for table in _record(one)]


def _record(one: dict[str, Any]) -> list[TextTable]:
    """Return a table of the fields of a record, then the tables of each field that contains records."""
    nested = _nested(one)
    rows = [(name, _cell(name, value)) for name, value in one.items() if name not in nested]
    inner = [_records(name, value) for name, value in nested.items()]
    return [TextTable("", ("what", "value"), rows, ("value",)), *inner]


def _nested(one: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        name: value
        for name, value in one.items()
        if isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value)
    }


def _records(title: str, many: list[dict[str, Any]]) -> TextTable:
    heads = tuple(dict.fromkeys(name for one in many for name in one))
    rows = [tuple(_cell(name, one[name]) if name in one else NONE for name in heads) for one in many]
    return TextTable(title, heads, rows)


def _lines(value: Any) -> list[str]:
    return [str(one) for one in value if not isinstance(one, dict)] if isinstance(value, list) else []


def _cell(name: str, value: Any) -> str:
    if name == "at":
        return f"{moment(value)} UTC"
    return value if isinstance(value, str) else json.dumps(value)
