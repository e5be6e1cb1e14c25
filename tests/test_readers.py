"""Whatever reads what others wrote: files, entries and settings that were damaged or made by hand."""

import ast
from pathlib import Path

from bench.fuzz import offer

ROOT = Path(__file__).parent.parent
INPUTS = 2_000


def test_every_reader_reads_a_damaged_input_or_refuses_it_with_its_reason(tmp_path: Path) -> None:
    kinds, failures = offer(INPUTS, 7, tmp_path)
    assert failures == {}
    assert kinds.keys() == {"read", "refused"}
    assert kinds["refused"] > INPUTS // 2


def test_text_that_is_not_utf_8_is_caught_wherever_bytes_from_outside_are_decoded() -> None:
    """msgspec raises ``UnicodeDecodeError`` for it, which is none of its own errors."""
    found = []
    for path in sorted(path for room in ("services", "shared", "schemas") for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                names = {
                    each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "")
                    for each in ast.walk(node.type)
                }
                if names & {"DecodeError", "MsgspecError"}:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == [], "catch schemas.codec.UNDECODABLE"
