"""Voting policies in shadow, as a person starts, promotes and restores them."""

import json
from typing import Any

from msgspec import structs

from schemas.control import RegisterArtifact
from shared.control.issuing import current
from tests.services.console.conftest import TWO_MODELS

WHY = ("--reason", "a test", "--actor", "ada")


def labelled(desk: Any) -> Any:
    """A desk whose two voting models have a label."""
    desk.issue(
        *[
            structs.replace(each, horizon=12, kappa=0.75) if isinstance(each, RegisterArtifact) else each
            for each in TWO_MODELS
        ]
    )
    return desk


def test_a_policy_is_started_shown_promoted_and_rolled_back(desk: Any) -> None:
    labelled(desk)
    ended = desk("vote", "start", "edge=0.05", "temperature=1.25", *WHY)
    assert ended.code == 0, ended.err
    [digest] = desk.with_log(current).policy_shadows
    shown = " ".join(desk("status").out.split())
    assert f"voting policy in shadow: {digest[:12]}, edge=0.05, temperature=1.25" in shown
    refused = desk("vote", "promote", digest[:6], *WHY)
    assert refused.code == 1
    assert "no passing gate verdict" in refused.err
    assert "there is no verdict on it" in refused.err
    assert desk("vote", "promote", digest[:6], "--force", *WHY).code == 0
    state = desk.with_log(current)
    assert (state.policy.edge, len(state.policy_shadows)) == (0.05, 1)
    assert "voting policy" in desk("diff", "7", "8").out
    assert desk("rollback", *WHY).code == 0
    state = desk.with_log(current)
    assert (state.policy.edge, state.policy_shadows) == (0.1, (digest,))
    assert desk("vote", "stop", digest, *WHY).code == 0
    assert json.loads(desk("status", "-o", "json").out)["policies_in_shadow"] == {}


def test_a_policy_on_probation_is_shown_confirmed_and_rolled_back_alone(desk: Any) -> None:
    labelled(desk)
    assert desk("vote", "start", "edge=0.05", *WHY).code == 0
    [digest] = desk.with_log(current).policy_shadows
    assert desk("vote", "promote", digest[:6], "--force", "--probation", "500", *WHY).code == 0
    assert f"voting policy {digest[:12]} is on probation for 500 decisions" in " ".join(desk("status").out.split())
    assert desk("confirm", "ensemble", *WHY).code == 0
    assert not desk.with_log(current).probations
    assert desk("weights", "a=0.3", "b=0.7", *WHY).code == 0
    assert desk("rollback", "--model", "ensemble", *WHY).code == 0
    state = desk.with_log(current)
    assert (state.policy.edge, state.models["a"].weight) == (0.1, 0.3)
    refused = desk("rollback", "--model", "ensemble", *WHY)
    assert (refused.code, "none to go back to" in refused.err) == (1, True)


def test_what_cannot_be_compared_is_refused(desk: Any) -> None:
    labelled(desk)
    assert "expected 5000" in desk("vote", "start", "deadline_ms=1", *WHY).err
    assert "is in force; change a field" in desk("vote", "start", "edge=0.1", *WHY).err
    ended = desk("vote", "stop", "abc", *WHY)
    assert ended.code == 2
    assert "in shadow are: none" in ended.err


def test_a_vote_of_models_without_a_label_cannot_be_scored(two: Any) -> None:
    ended = two("vote", "start", "edge=0.05", *WHY)
    assert ended.code == 1
    assert "need one label" in ended.err


def test_a_proposal_needs_rounds_and_a_reason_to_start(desk: Any) -> None:
    labelled(desk)
    ended = desk("vote", "propose")
    assert ended.code == 3
    assert "0 rounds have an outcome" in ended.err
    ended = desk("vote", "propose", "--shadow")
    assert ended.code == 2
    assert "--shadow needs --reason" in ended.err
