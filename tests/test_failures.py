"""The page of failures names every failure once, and only tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference" / "failures.md").read_text()
NUMBERED = {"A": 13, "B": 13, "C": 10, "D": 17, "F": 19, "G": 5, "H": 18}


def test_every_failure_has_one_row() -> None:
    rows = re.findall(r"^\| ([A-H]\d+) \|", PAGE, re.MULTILINE)
    assert rows == [f"{letter}{number}" for letter, count in NUMBERED.items() for number in range(1, count + 1)]


def test_every_test_that_is_named_exists() -> None:
    names = set(re.findall(r"`(test_\w+)`", PAGE))
    files = (ROOT / "tests").rglob("test_*.py")
    defined = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert names - defined == set()
