"""The catalogue describes exactly the gates that the policies return, and the reference page is generated from it."""

from pathlib import Path

import msgspec
import pytest

from shared.gates import catalogue, classic, default, evidence, reference
from shared.gates.critical import LIVE_ONLY, LiveBars
from shared.gates.rows import VOTES, Key, Plan, Row

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "gate-policies.md"


def test_the_catalogue_has_every_gate_of_the_default_policy_and_its_kind() -> None:
    plan = Plan(Key("a", "b", "c", "", "", ""), 1, 3_600_000, response=0.1, actions=(0.3, 0.4, 0.3))
    state = evidence.initial(plan)
    evidence.evolve(state, Row("A", 0, (0.2, 0.5, 0.3), 1, (0.3, 0.4, 0.3), 1, (0.3, 0.4, 0.3)))
    returned = {
        one.name: one.kind for one in default.verdicts(state, live=LiveBars(0, 0, 0), rivals={"b": 0.0, "d": 0.0})
    }
    described = {one.name: one.kind for one in catalogue.DEFAULT}
    of_a_policy = evidence.initial(Plan(Key("ensemble", "b", "c", VOTES, "", ""), 1, 3_600_000))
    only = {one.name: one.kind for one in default.verdicts(of_a_policy)}
    assert set(only) - set(returned) == {"improvement"}
    assert {**returned, **only, "latency": "critical", "staleness": "critical"} == described


def test_the_catalogue_says_which_gates_only_live_bars_answer() -> None:
    state = evidence.initial(Plan(Key("a", "b", "c", "", "", ""), 1, 3_600_000))
    for name in LIVE_ONLY:
        unanswered = next(one for one in default.verdicts(state) if one.name == name)
        assert (unanswered.kind, unanswered.outcome) == ("soft", "inconclusive")
        assert "soft and inconclusive until" in catalogue.description("default", name).condition


def test_the_catalogue_has_every_gate_of_the_classic_policy_and_its_kind() -> None:
    state = classic.initial()
    classic.evolve(state, Row("A", 0, (0.2, 0.5, 0.3), 1, (0.3, 0.4, 0.3), 1, (0.3, 0.4, 0.3)))
    assert {one.name: one.kind for one in classic.verdicts(state)} == {one.name: one.kind for one in catalogue.CLASSIC}


@pytest.mark.parametrize("name", reference.TABLES)
def test_every_parameter_of_a_gate_is_a_field_of_its_policy_and_every_field_is_documented(name: str) -> None:
    gates, policy = reference.TABLES[name]
    fields = set(msgspec.structs.asdict(policy))
    named = {field for gate in gates for field in (*gate.parameters, *filter(None, [gate.samples]))}
    assert named <= fields
    page = PAGE.read_text(encoding="utf-8")
    assert {field for field in fields if f"`{field}`" not in page} == set()


def test_a_gate_that_policies_share_by_name_has_the_description_of_its_policy() -> None:
    assert catalogue.description("classic", "calibration") != catalogue.description("default", "calibration")
    assert catalogue.description("a policy of later", "skill") == catalogue.description("default", "skill")
    assert catalogue.description("default", "a gate of later") == catalogue.UNKNOWN


def test_the_reference_page_has_the_tables_of_the_catalogue() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == reference.with_tables(page), "run: make docs"
