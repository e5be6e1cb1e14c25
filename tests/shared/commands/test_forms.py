"""What a person fills in becomes a command, or is refused by the name of the field."""

import pytest
from immutables import Map
from msgspec import structs

from schemas.control import (
    Approve,
    ConfirmPromotion,
    Found,
    Halt,
    Promote,
    PromotePolicy,
    Propose,
    Refuse,
    Rollback,
    SetVotingPolicy,
    SetWeights,
    StartPolicyShadow,
    StartShadow,
    StopPolicyShadow,
)
from shared.commands.forms import FORMS, HOURS, FormError, command_of
from shared.control import Issuer, Proposal, State
from shared.control.policies import policy_digest
from tests.shared.control.test_decide import artifact, given_log

A1, A2 = "a1" * 32, "a2" * 32


@pytest.fixture
def state() -> State:
    return given_log(
        Found(1, "log-of-a-test"), artifact("a", A1), artifact("a", A2), Promote("a", A1, forced=True, weight=1.0)
    )


def test_a_command_has_the_fields_that_were_filled_in_and_defaults_for_the_others(state: State) -> None:
    values = {
        "model": "a",
        "artifact": "a2a2",
        "probation": "500",
        "forced": "",
        "accept_changes": "yes",
        "weight": " ",
    }
    assert command_of(state, "promote", values) == Promote("a", A2, probation=500, accept_changes=True)
    assert command_of(state, "rollback", {"to": "", "model": ""}) == Rollback()
    assert command_of(state, "rollback", {"to": "3"}) == Rollback(3)
    assert command_of(state, "halt", {}) == Halt()
    assert command_of(state, "start_shadow", {"model": "a", "artifact": A2}) == StartShadow("a", A2)
    assert command_of(state, "confirm", {"model": "a"}) == ConfirmPromotion("a", A1)
    assert command_of(state, "weights", {"weights.a": "0.25", "weights.b": "0.75"}) == SetWeights(
        {"a": 0.25, "b": 0.75}
    )


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("promote", {"model": "a"}, "Artifact: expected its digest"),
        ("promote", {"artifact": A1}, "Model: expected a value"),
        ("promote", {"model": "a", "artifact": "ff"}, "0 artifacts registered for 'a'"),
        ("promote", {"model": "a", "artifact": "a"}, "2 artifacts registered for 'a'"),
        ("promote", {"model": "a", "artifact": A1, "probation": "many"}, r"Promote: Expected .int.*probation"),
        ("promote", {"model": "a", "artifact": A1, "weight": "7"}, r"Promote: .*weight"),
        ("rollback", {"to": "0"}, r"Roll back: .*to"),
        ("confirm", {"model": "nobody"}, "'nobody' has no champion to confirm; the voting models are: a"),
        ("weights", {}, "Weights: expected shares that sum to 1"),
        ("weights", {"weights.a": "x"}, r"Set weights: Expected .float"),
        ("propose", {"model": "a", "artifact": A2, "hours": "a day"}, "Hours: expected a whole number, got 'a day'"),
        ("propose", {"model": "a", "artifact": A2, "hours": "7000"}, r"Propose a promotion: .*valid_ms"),
        ("approve", {"proposal": "7"}, "no proposal 7 is open; open are: none"),
        ("approve", {"proposal": "x"}, "Proposal: expected a whole number"),
        ("start_policy_shadow", {}, "at least one field other than in the policy in force"),
        ("start_policy_shadow", {"temperature": "-1"}, r"Start a voting policy in shadow: .*temperature"),
        ("promote_policy", {"policy": "ab"}, "0 voting policies in shadow begin with 'ab'.*in shadow are: none"),
        ("trust_key", {}, "there is no form 'trust_key'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_field(
    state: State, name: str, values: dict[str, str], why: str
) -> None:
    with pytest.raises(FormError, match=why):
        command_of(state, name, values)


def test_every_field_of_a_form_is_one_of_its_command() -> None:
    for form in FORMS.values():
        command = {
            "propose": Promote,
            "propose_weights": SetWeights,
            "propose_policy": PromotePolicy,
            "start_policy_shadow": SetVotingPolicy,
        }.get(form.name, form.command)
        names = {field.name for field in form.fields if field != HOURS}
        assert names <= set(command.__struct_fields__)


def test_a_proposal_is_of_a_command_and_an_approval_of_the_proposal(state: State) -> None:
    proposed = command_of(state, "propose", {"model": "a", "artifact": "a2", "forced": "yes", "hours": "2"})
    assert proposed == Propose(Promote("a", A2, forced=True), 2 * 3_600_000)
    shares = {"weights.a": "0.25", "weights.b": "0.75"}
    assert command_of(state, "propose_weights", shares) == Propose(SetWeights({"a": 0.25, "b": 0.75}))
    promote = Promote("a", A2, ready=("0a" * 16,), verdict="0c" * 16)
    open_one = structs.replace(state, proposals=Map({7: Proposal(promote, Issuer("ben"), 1, 2)}))
    assert command_of(open_one, "approve", {"proposal": "7"}) == Approve(7, Promote("a", A2))
    assert command_of(open_one, "refuse", {"proposal": "7"}) == Refuse(7)


def test_a_voting_policy_is_named_by_its_first_digits_and_started_from_the_one_in_force(state: State) -> None:
    started = command_of(state, "start_policy_shadow", {"edge": "0.05", "temperature": ""})
    assert started == StartPolicyShadow(SetVotingPolicy(edge=0.05))
    digest = policy_digest(SetVotingPolicy(edge=0.05))
    shadowed = structs.replace(state, policy_shadows=(digest,))
    assert command_of(shadowed, "stop_policy_shadow", {"policy": digest[:6]}) == StopPolicyShadow(digest)
    assert command_of(shadowed, "promote_policy", {"policy": digest}) == PromotePolicy(digest)
    proposed = command_of(shadowed, "propose_policy", {"policy": digest[:6], "forced": "yes", "hours": "1"})
    assert proposed == Propose(PromotePolicy(digest, forced=True), 3_600_000)
