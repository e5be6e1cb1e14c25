"""What the report says is what the scores say."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.recorded import CANDIDATE, CHAMPION, OTHER, PRIOR, START, checked, market, missing, scored, unscored, verdict
from schemas.scores import PredictionScored, ScoreEvent
from shared.gates import betting, evidence
from shared.gates.evidence import CHAMPION as AGAINST
from shared.gates.evidence import PRIOR as OVER_PRIOR
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import Key, Plan, row_of
from shared.labels.parts import gain_parts
from shared.report.fold import Shadows, block_of, evolve
from shared.report.summary import Candidate, Report, Verdict, summarise


def folded(*events: ScoreEvent, model: str | None = None) -> Report:
    state = Shadows(DefaultPolicy(), model)
    for event in events:
        evolve(state, event)
    return summarise(state)


def only(report: Report) -> Candidate:
    assert len(report.candidates) == 1
    return report.candidates[0]


def test_skill_is_the_mean_gain_in_log_score_over_prior_and_champion() -> None:
    events = list(market(40))
    one = only(folded(*events))
    loss = [-math.log(event.probabilities[["SELL", "HOLD", "BUY"].index(event.outcome)]) for event in events]
    prior = [-math.log(PRIOR[["SELL", "HOLD", "BUY"].index(event.outcome)]) for event in events]
    gain = sum(prior) - sum(loss)
    assert one.rows == len(events)
    assert one.over_prior.all_rows == pytest.approx(1000 * gain / len(events))
    assert one.log_loss == pytest.approx(sum(loss) / len(events))
    assert one.prior_log_loss == pytest.approx(sum(prior) / len(events))
    assert one.over_champion is not None
    assert 0 < one.over_champion.all_rows < one.over_prior.all_rows


def test_the_parts_of_each_skill_sum_to_it() -> None:
    one = only(folded(*market(40)))
    assert one.over_champion is not None
    for skill in (one.over_prior, one.over_champion, one.to_ensemble):
        assert skill.moves + skill.direction == pytest.approx(skill.all_rows)
    floor = evidence.FLOOR
    rows = [(event, ["SELL", "HOLD", "BUY"].index(event.outcome)) for event in market(40)]
    moves = [gain_parts(event.probabilities, event.prior, outcome, floor).moves for event, outcome in rows]
    assert one.over_prior.moves == pytest.approx(1000 * sum(moves) / len(moves))


def test_e_values_and_intervals_are_those_of_the_gates() -> None:
    events = list(market(400))
    one = only(folded(*events))
    plan = Plan(Key("xgboost", "", "", "", "", ""), 1, 3_600_000)
    state = evidence.initial(plan)
    for event in events:
        evidence.evolve(state, row_of(event))
    bets = state.bets
    low, high = betting.interval(bets[OVER_PRIOR], 0.05)
    assert one.over_prior.blocks == bets[OVER_PRIOR].blocks > 20
    assert one.over_prior.log_e == betting.log_e(bets[OVER_PRIOR])
    assert one.over_prior.low == 1000 * low
    assert one.over_prior.high == 1000 * high
    assert one.over_champion is not None
    assert one.over_champion.log_e == betting.log_e(bets[AGAINST])
    assert one.e_values[-1].prior == one.over_prior.log_e


def test_before_twenty_blocks_there_is_no_interval() -> None:
    one = only(folded(*market(60)))
    assert 0 < one.over_prior.blocks < 20
    assert one.over_prior.low is None
    assert one.over_prior.high is None


def test_the_matrices_count_every_action_against_decision_and_outcome() -> None:
    said = {"SELL": (0.6, 0.2, 0.2), "HOLD": (0.2, 0.6, 0.2), "BUY": (0.2, 0.2, 0.6)}
    events = [
        scored(0, "A", said["BUY"], 2, decided="BUY"),
        scored(0, "B", said["BUY"], 0, decided="HOLD"),
        scored(1, "A", said["SELL"], 0, decided="BUY"),
        scored(1, "B", said["HOLD"], 1, decided=None),
    ]
    one = only(folded(*events))
    assert one.decided == ((0, 0, 1), (0, 0, 0), (0, 1, 1))
    assert one.came == ((1, 0, 0), (0, 1, 0), (1, 0, 1))
    assert one.agreement == pytest.approx(1 / 3)
    assert one.hit_rate == 0.75
    assert one.actions == (0.25, 0.25, 0.5)
    assert one.majority == 0.5


def test_confidence_is_of_its_own_action() -> None:
    events = [scored(bar, "A", (0.1, 0.9 - 0.002 * bar, 0.002 * bar), 1) for bar in range(101)]
    one = only(folded(*events))
    assert one.confidence["P50"] == pytest.approx(0.8, abs=0.0011)
    assert one.confidence["P10"] == pytest.approx(0.72, abs=0.0011)
    assert sum(one.histogram) == 101
    assert sum(one.histogram[70:90]) >= 99


def test_what_has_no_score_is_counted_with_its_reason() -> None:
    row = scored(0, "A", PRIOR, 1)
    one = only(folded(row, unscored(row), unscored(row, detail="9 bars"), unscored(row, "failed", "no"), missing(row)))
    assert one.unscored == {"gap": 2, "failed": 1}
    assert one.details == {"gap": "9 bars", "failed": "no"}
    assert one.missing == 1


def test_a_candidate_that_never_answered_is_shown_all_the_same() -> None:
    one = only(folded(unscored(scored(0, "A", PRIOR, 1), "failed", "wrong_feature_set")))
    assert (one.rows, one.unscored) == (0, {"failed": 1})
    assert one.model == "xgboost"


def test_non_interference_is_counted_over_partitions_and_names_what_differs() -> None:
    row = scored(0, "A", PRIOR, 1)
    state = Shadows(DefaultPolicy())
    evolve(state, checked(row, 1, 1), 0)
    evolve(state, checked(row, 2, 2), 0)
    evolve(state, checked(row, 1, 0, b"\x99" * 16), 1)
    found = summarise(state).interference
    assert (found.checked, found.equal, found.unequal) == (3, 2, ("99" * 16,))


def test_a_new_champion_begins_the_series_anew() -> None:
    before = [scored(bar, "A", PRIOR, 1) for bar in range(5)]
    after = [scored(bar, "A", PRIOR, 1, incumbent_artifact=OTHER, control_version=8) for bar in range(5, 8)]
    straggler = scored(4, "B", PRIOR, 1)
    one = only(folded(*before, *after, straggler))
    assert (one.rows, one.earlier, one.champion) == (3, 6, OTHER.hex())
    assert one.versions == (8, 8)


def test_a_champion_that_did_not_answer_ends_no_series() -> None:
    silent = scored(1, "A", PRIOR, 1, incumbent=None, incumbent_artifact=None, incumbent_return=None)
    one = only(folded(scored(0, "A", PRIOR, 1), silent, scored(2, "A", PRIOR, 1)))
    assert (one.rows, one.earlier, one.champion) == (3, 0, CHAMPION.hex())
    assert one.over_champion is not None
    assert one.over_champion.rows == 2


def test_voters_stand_apart_from_candidates() -> None:
    voter = scored(0, "A", PRIOR, 1, role="voting", artifact=CHAMPION, incumbent=None, incumbent_artifact=None)
    found = folded(voter, scored(0, "A", PRIOR, 1))
    assert [one.artifact for one in found.candidates] == [CANDIDATE.hex()]
    assert [one.artifact for one in found.members] == [CHAMPION.hex()]
    assert found.members[0].over_champion is None


def test_one_model_alone_may_be_asked_for() -> None:
    other = scored(0, "A", PRIOR, 1, model="nhits")
    assert only(folded(scored(0, "A", PRIOR, 1), other, model="nhits")).model == "nhits"


def test_the_origin_of_every_score_is_counted() -> None:
    rows = [scored(bar, "A", PRIOR, 1, origin="live" if bar else "replay") for bar in range(3)]
    assert folded(*rows).origins == {"live": 2, "replay": 1}


def test_a_verdict_goes_to_its_candidate() -> None:
    state = Shadows(DefaultPolicy())
    evolve(state, scored(0, "A", PRIOR, 1))
    found = summarise(state, {("xgboost", CANDIDATE.hex()): Verdict("ab" * 16, verdict())})
    assert only(found).verdict == Verdict("ab" * 16, verdict())


def test_spans_add_up_to_the_whole() -> None:
    one = only(folded(*market(300)))
    assert sum(span.rows for span in one.spans) == one.rows
    assert one.spans[-1].over_prior == pytest.approx(one.over_prior.all_rows * one.rows / 1000)
    assert all(sum(span.actions) == span.rows for span in one.spans)
    assert one.spans[0].begins <= START < one.spans[0].ends


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 400), st.randoms(use_true_random=False))
def test_a_fold_that_went_through_its_bytes_goes_on_as_before(cut: int, random: object) -> None:
    events: list[PredictionScored] = list(market(50))
    whole, part = Shadows(DefaultPolicy()), Shadows(DefaultPolicy())
    for number, event in enumerate(events):
        evolve(whole, event)
        evolve(part, event)
        if number == cut:
            part = msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=Shadows)
    assert summarise(part) == summarise(whole)


def test_a_certain_and_wrong_forecast_is_finite() -> None:
    one = only(folded(scored(0, "A", (1.0, 0.0, 0.0), 2, log_loss=20.7, incumbent=(0.0, 0.0, 1.0))))
    assert one.over_prior.all_rows == pytest.approx(1000 * (math.log(0.01) - math.log(0.25)))


def test_a_block_that_bars_do_not_fill_is_left_to_the_fold() -> None:
    row = scored(0, "A", PRIOR, 1)
    assert block_of(DefaultPolicy(block_ms=24 * 3_600_000), row) == 24 * 3_600_000
    assert block_of(DefaultPolicy(block_ms=90 * 60_000), row) == 0
    assert block_of(DefaultPolicy(block_ms=3_600_000), row) == 0
    assert evolve(Shadows(DefaultPolicy(block_ms=90 * 60_000)), row).series


def test_the_report_is_json() -> None:
    found = folded(*market(30), unscored(replace(scored(0, "A", PRIOR, 1), artifact=OTHER)))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found
