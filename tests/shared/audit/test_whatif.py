"""A what-if changes what was asked for, and nothing else."""

import pytest
from msgspec import structs

from bench.replayed import Replayed
from schemas.codec import decode
from schemas.decisions import DecisionMade
from services.console.research.whatif import rescored_predictions, whatif_result
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.whatif import Changes, ChangesError, WhatifResult
from shared.log import StreamKey
from shared.report.whatif import page
from shared.voting.pool import panel_of, vote


def asking(replayed: Replayed, **asked: dict[str, object]) -> WhatifResult:
    configurations = Configurations(replayed.source, Findings())
    return whatif_result(replayed.source, configurations, Changes(**asked), replayed.store)  # type: ignore[arg-type]  # test data


def decisions(replayed: Replayed) -> list[DecisionMade]:
    return [decode("decisions", entry.data).event for entry in replayed.source.places[StreamKey("decisions")]]


def test_asking_for_nothing_changes_nothing(replayed: Replayed) -> None:
    answer = asking(replayed)
    assert (answer.rounds, answer.changed, answer.moved) == (1200, 0, 0)
    assert answer.before == answer.after
    assert answer.scored > 100
    assert sum(point.rounds for point in answer.points) == 1200


def test_another_weight_is_the_vote_under_it(replayed: Replayed) -> None:
    answer = asking(replayed, weights={"lightgbm": 0.9})
    configurations = Configurations(replayed.source, Findings())
    changed = 0
    for decision in decisions(replayed):
        made = configurations.at(decision.control_version)
        assert made is not None
        models = {
            name: structs.replace(model, weight={"lightgbm": 0.9, "logistic": 0.1}[name])
            for name, model in made.state.models.items()
        }
        ballots = {ballot.model: ballot.probabilities for ballot in decision.counted}
        changed += vote(panel_of(structs.replace(made.state, models=models)), ballots).action != decision.action
    assert answer.changed == changed > 0
    assert sum(map(sum, answer.matrix)) == 1200


def test_the_shadow_votes_where_it_is_asked_for(replayed: Replayed) -> None:
    answer = asking(replayed, champions={"logistic": replayed.candidate})
    made = decisions(replayed)
    first = [d for d in made if d.control_version == made[0].control_version]
    assert 0 < answer.moved <= len(first)
    assert answer.silent == sum(not d.shadow for d in first)


def test_an_artifact_that_was_not_there_is_asked_again_and_says_the_same(replayed: Replayed) -> None:
    """The champion, once its ballots are taken out of the record, is scored from the vectors: nothing moves."""
    configurations = Configurations(replayed.source, Findings())
    registered = configurations.newest.artifacts[replayed.champions["lightgbm"]]
    again = {
        (event.symbol, event.open_time): event.probabilities
        for event in rescored_predictions(replayed.source, registered, replayed.store, 0)
        if hasattr(event, "probabilities")
    }
    for decision in decisions(replayed):
        for ballot in decision.counted:
            if ballot.model == "lightgbm":
                assert again[decision.symbol, decision.open_time] == ballot.probabilities
    assert len(again) > 100


def test_what_cannot_be_asked_says_why(replayed: Replayed) -> None:
    with pytest.raises(ChangesError, match="does not vote"):
        asking(replayed, weights={"nobody": 0.5})
    with pytest.raises(ChangesError, match="leave a share for the other"):
        asking(replayed, weights={"lightgbm": 1.5})
    with pytest.raises(ChangesError, match="is registered for logistic"):
        asking(replayed, champions={"lightgbm": replayed.candidate})
    with pytest.raises(ChangesError, match="edge"):
        asking(replayed, policy={"edge": "7"})


def test_the_page_stands_alone_and_says_what_was_asked(replayed: Replayed) -> None:
    shown = page(asking(replayed, policy={"edge": "0.3"}), "With edge <0.3>")
    assert "With edge &lt;0.3&gt;" in shown
    assert shown.count("<svg") == 3
    assert "http" not in shown.replace("http-equiv", "")
