"""A voting policy in shadow on a recorded installation: its decisions, scores and verdicts follow from the records."""

from pathlib import Path

import pytest
from msgspec import UNSET, structs

from bench.replayed import Replayed, record
from schemas.codec import decode, encode
from schemas.control import PromotePolicy, SetVotingPolicy, StartPolicyShadow
from schemas.decisions import DecisionMade
from schemas.scores import PredictionScored, PredictionUnscored
from services.console.audit.verify import audited
from services.console.research.proposing import proposal
from services.console.research.whatif import whatif_result
from services.console.run.decisions import decision_line
from shared.audit.blame import Link, find_decision, links
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.source import EntryRange
from shared.audit.whatif import Changes
from shared.control.policies import policy_digest
from shared.log import Entry, StreamKey
from shared.report.text import in_force_words
from shared.report.whatif import page

IN_FORCE = SetVotingPolicy(quorum_count=1, edge=0.05)
SHARP = SetVotingPolicy(rule="mean", quorum_count=1, edge=0.02, temperature=0.8)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """1,200 bars; the policy is in shadow from the beginning, and is promoted half way."""
    folder = tmp_path_factory.mktemp("artifacts")
    promoted = PromotePolicy(policy_digest(SHARP), forced=True)
    return record(folder, fed=1200, more=[StartPolicyShadow(SHARP)], halfway=[promoted])


def decisions(made: Replayed) -> list[DecisionMade]:
    return [decode("decisions", entry.data).event for entry in made.source.places[StreamKey("decisions")]]


def test_all_of_it_is_recomputed_to_the_bit(judged: Replayed) -> None:
    found = audited(judged.source, judged.store.path)
    assert found.differences == []
    assert found.equal["decisions"] == 1200
    assert found.equal["gates"] == found.checked["gates"] > 0


def test_each_decision_has_the_counterfactual_one_and_the_promotion_swaps_them(judged: Replayed) -> None:
    digests = []
    for made in decisions(judged):
        assert made.candidates is not UNSET
        assert len(made.candidates) == 1
        digests.append(made.candidates[0].policy)
    assert sorted(set(digests)) == sorted([policy_digest(SHARP), policy_digest(IN_FORCE)])
    assert digests == sorted(digests, key=lambda each: each == policy_digest(IN_FORCE))
    assert [made.policy for made in decisions(judged)][-1] == "mean"


def test_a_decision_is_shown_with_what_the_candidate_decides(judged: Replayed) -> None:
    made = decisions(judged)[0]
    assert made.candidates
    [candidate] = made.candidates
    assert decision_line(made).plain.endswith(f"policy {candidate.policy[:12]} {candidate.action}")


def test_the_vote_is_scored_as_the_ensemble_while_its_members_have_one_label(judged: Replayed) -> None:
    """The artifact that is promoted half way has another horizon."""
    scores = [decode("scores", entry.data).event for entry in judged.source.places[StreamKey("scores")]]
    rows = [event for event in scores if isinstance(event, PredictionScored) and event.model == "ensemble"]
    by_decision = {
        decode("decisions", entry.data).id: decode("decisions", entry.data).event
        for entry in judged.source.places[StreamKey("decisions")]
    }
    unlabelled = [event for event in scores if isinstance(event, PredictionUnscored) and event.model == "ensemble"]
    assert len(rows) > 300
    assert len([event for event in unlabelled if event.reason == "unlabelled"]) > 100
    for row in rows:
        made = by_decision[row.prediction]
        assert row.incumbent == made.probabilities
        assert (row.probabilities, row.action) == (made.candidates[0].probabilities, made.candidates[0].action)


def test_blame_names_who_put_the_voting_policy_in_force(judged: Replayed) -> None:
    def blamed(entry: Entry) -> dict[str, Link]:
        found = find_decision(judged.source, 1, decode("decisions", entry.data).id.hex())
        assert found is not None
        every = links(judged.source, Configurations(judged.source, Findings()), found, judged.store)
        return {link.what: link for link in every}

    entries = judged.source.places[StreamKey("decisions")]
    last = blamed(entries[-1])
    assert last["voting policy"].outcome == "checked"
    assert last["voting policy"].description.startswith(f"{policy_digest(SHARP)[:12]}, promote_policy by ada")
    assert last["voting policy's verdict"].description == "promoted by force: no verdict"
    assert "voting policy" not in blamed(entries[0])


@pytest.mark.parametrize("field", ["action", "rule"])
def test_a_changed_counterfactual_is_found(judged: Replayed, field: str) -> None:
    place = StreamKey("decisions")
    entries = list(judged.source.places[place])
    envelope = decode("decisions", entries[700].data)
    [candidate] = envelope.event.candidates
    wrong = {"action": "SELL" if candidate.action != "SELL" else "BUY", "rule": "logmean"}
    changed = structs.replace(candidate, **{field: wrong[field]})
    forged = encode(
        "decisions",
        structs.replace(envelope.event, candidates=(changed,)),
        causation=envelope.causation,
        correlation=envelope.correlation,
        flags=envelope.flags,
    )
    entries[700] = Entry(place, entries[700].id, forged.data)
    places = {**judged.source.places, place: entries}
    source = type(judged.source)()
    source.places = places
    first = audited(source, judged.store.path, ("votes",)).first
    assert first is not None
    assert (first.layer, first.entry) == ("vote", entries[700].id)


def test_a_whatif_names_the_policies_that_were_in_force(judged: Replayed) -> None:
    configurations = Configurations(judged.source, Findings())
    result = whatif_result(judged.source, configurations, Changes(), judged.store, EntryRange())
    assert result.changed == 0
    assert [use.digest for use in result.policies] == [policy_digest(IN_FORCE), policy_digest(SHARP)]
    first, second = result.policies
    assert first.since < second.since <= second.until
    words = in_force_words(result.policies)
    assert words.startswith(f"Voting policies in force: {policy_digest(IN_FORCE)[:12]} (quorum_count=1, edge=0.05) ")
    assert words in page(result, "With nothing changed")
    assert in_force_words(result.policies[:1]).endswith("(quorum_count=1, edge=0.05).")


def test_a_proposal_reads_the_recorded_rounds(judged: Replayed, tmp_path: Path) -> None:
    found = proposal(judged.source, EntryRange(), 0.6, stacker=True)
    assert found.in_force.later.rounds > 100
    assert found.in_force.earlier.gain == found.in_force.later.gain == 0.0
    assert {each.by for each in found.tried} == {"log score", "money"}
