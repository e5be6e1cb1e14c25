"""The reference page names every parameter with its default."""

import re
from pathlib import Path

import pytest

from shared.families import FAMILIES
from shared.families.sequence import TRAINING

PAGE = (Path(__file__).parents[3] / "docs/reference/families.md").read_text()


def documented(heading: str) -> dict[str, float]:
    section = re.split(r"^## ", PAGE.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    found: dict[str, float] = {}
    for row in re.findall(r"^\| (`.*?) \| ([-\d., ]+) \|", section, flags=re.MULTILINE):
        names, values = re.findall(r"`(\w+)`", row[0]), row[1].split(", ")
        found |= dict(zip(names, map(float, values), strict=True))
    return found


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "prior"])
def test_every_parameter_stands_in_the_reference_with_its_default(name: str) -> None:
    family = FAMILIES[name]
    common = documented("Both networks") if "seeds" in family.defaults else {}
    assert common in ({}, dict(TRAINING))
    assert documented(name) | common == dict(family.defaults)
    assert all(f"`{preset}`" in PAGE for preset in family.presets)
