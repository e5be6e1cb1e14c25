"""A proof pack as one HTML page that stands alone."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from shared.report.page import document
from shared.report.svg import moment

TITLES = {
    "what": "What was deployed",
    "loaded": "Evidence that it loaded",
    "non_interference": "Evidence that it did not vote before",
    "behaviour": "Behaviour so far",
    "gates": "Gates",
    "rollback": "The way back",
    "next_steps": "Next steps",
    "audit_trail": "Audit trail",
}


def page(pack: dict[str, Any]) -> str:
    """The whole page."""
    what = pack["body"]["what"]
    return document(f"Proof of version {pack['body']['version']}: {what['model']}", "".join(_body(pack)))


def _body(pack: dict[str, Any]) -> Iterator[str]:
    body = pack["body"]
    what = body["what"]
    yield f"<header><h1>{escape(what['model'])} {what['artifact'][:12]}, version {body['version']}</h1>"
    yield f"<p>Promoted by {escape(what['by'])} at {moment(what['at'])} UTC: {escape(what['why'])}</p>"
    beside = sum(one["decisions_in_shadow"] for one in body["non_interference"])
    same = sum(one["equal_without_it"] for one in body["non_interference"])
    good = beside == same
    yield f'<div class="banner{"" if good else " bad"}">In shadow beside {beside:,} decisions; '
    yield f"{same:,} of them follow to the bit without it.</div>"
    if what["forced"]:
        yield '<div class="banner warned">It was promoted by force.</div>'
    if "signature" in pack:
        signer = pack["signed_by"]
        yield f'<p class="soft">Signed by {escape(signer["key_id"])} ({signer["public_key"][:12]}).</p>'
    yield "</header>"
    for name, title in TITLES.items():
        yield f"<h3>{title}</h3>{_shown(body[name])}"


def _shown(value: Any) -> str:
    if not value:
        return '<p class="soft">Nothing recorded.</p>'
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return "".join(_table(one) for one in value) if len(value) < 4 else _rows(value)
    if isinstance(value, list):
        return "<ul>" + "".join(f"<li>{escape(str(one))}</li>" for one in value) + "</ul>"
    return _table(value)


def _table(one: dict[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{_cell(name, value)}</td></tr>" for name, value in one.items())
    return f"<table>{rows}</table>"


def _rows(many: list[dict[str, Any]]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in many[0])
    lines = (
        "<tr>" + "".join(f"<td>{_cell(name, value)}</td>" for name, value in one.items()) + "</tr>" for one in many
    )
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _cell(name: str, value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _rows(value)
    if name == "at":
        return f"{moment(value)} UTC"
    return escape(value if isinstance(value, str) else json.dumps(value))
