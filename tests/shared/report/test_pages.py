"""Templates: what a page needs it must get, and what a table holds is text."""

import pytest
from jinja2 import UndefinedError

from schemas.training import Gain
from shared.report import proof
from shared.report.pages import render
from shared.report.tables import TextTable, cross
from shared.report.training import gains

SAID = "<script>alert(1)</script> [/prod]"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; [/prod]"


def a_pack() -> dict[str, object]:
    who = {"by": SAID, "at": 0, "why": SAID, "forced": True}
    what = {"model": SAID, "artifact": "ab" * 32, **who, "files": [{"name": SAID}]}
    return {
        "body": {
            "version": 3,
            "what": what,
            "loaded": [{"worker": SAID, "at": 60_000, "took_ms": 5}] * 4,
            "non_interference": [{"decisions_in_shadow": 5, "equal_without_it": 4}],
            "behaviour": [],
            "gates": [{"overall": "passed", "gates": [{"name": "skill", "verdict": "passed", "value": 1.5}]}] * 4,
            "rollback": {"command": SAID},
            "next_steps": [SAID],
            "audit_trail": [{"what": "found"}, {"what": "promote", "why": SAID}, {"what": "a"}, {"what": "b"}],
        },
        "signed_by": {"key_id": SAID, "public_key": "cd" * 32},
        "signature": "",
    }


def test_a_value_that_a_template_needs_is_not_left_out() -> None:
    with pytest.raises(UndefinedError, match="'words' is undefined"):
        render("whatif.html")


def test_a_proof_escapes_whatever_a_person_wrote() -> None:
    html = proof.page(a_pack())
    assert "<script" not in html
    assert html.count(ESCAPED) == 16
    assert "1970-01-01 00:01 UTC" in html
    assert 'class="banner bad"' in html


def test_a_proof_says_where_nothing_was_recorded_and_where_records_differ() -> None:
    html = proof.page(a_pack())
    assert html.count("Nothing recorded.") == 1
    assert html.count("<td>1.5</td>") == 4, "gates of each verdict are a table of their own"
    assert html.count("<td>-</td>") == 3, "three of the trail have no reason"


def test_a_table_of_text_keeps_square_brackets_and_says_what_it_is_about() -> None:
    assert cross("after", "before", [[3, 1, 0], [0, 0, 0], [0, 0, 2]]).rows == [
        ("SELL", "3 (75%)", "1 (25%)", "0 (0%)"),
        ("HOLD", "0 (0%)", "0 (0%)", "0 (0%)"),
        ("BUY", "0 (0%)", "0 (0%)", "2 (100%)"),
    ]
    shown = gains([Gain(over=SAID, value=1.25, low=-1.0, high=3.5, note=SAID)])
    assert shown.rows == [(SAID, "+1.2", "-", "-", "-1.0 to +3.5", SAID)]
    assert isinstance(shown, TextTable)
