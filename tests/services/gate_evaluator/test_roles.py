"""Roles are followed version by version, however far at a time."""

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from bench.recorded import BEFORE, CANDIDATE, CHAMPION, OTHER
from schemas.control import Command, CommandRecorded, Promote, Rollback, StartShadow, StopShadow
from services.gate_evaluator.roles import Roles
from shared.control import EMPTY, State, fold, propose
from shared.control.state import Model

ARTIFACTS = (CANDIDATE.hex(), CHAMPION.hex(), OTHER.hex())
CHANGES = st.one_of(
    st.builds(StartShadow, st.just("xgboost"), st.sampled_from(ARTIFACTS)),
    st.builds(StopShadow, st.just("xgboost"), st.sampled_from(ARTIFACTS)),
    st.builds(Promote, st.just("xgboost"), st.sampled_from(ARTIFACTS), forced=st.just(True)),
    st.just(Rollback(model="xgboost")),
)


def folded(commands: Sequence[Command]) -> State:
    """The configuration after the commands that are accepted."""
    state = EMPTY
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=str(number), actor="ada", reason="a test", at=1)
        state = fold(state, entry) if isinstance(entry, CommandRecorded) else state
    return state


@given(changes=st.lists(CHANGES, max_size=12), steps=st.lists(st.integers(1, 6), max_size=12))
@example(changes=[StopShadow("xgboost", ARTIFACTS[0]), StartShadow("xgboost", ARTIFACTS[0])], steps=[7, 2])
def test_a_role_counts_from_the_first_version_of_its_present_run(changes: list[Command], steps: list[int]) -> None:
    control = folded([*BEFORE, *changes])
    roles = Roles()
    for step in [*steps, control.version]:
        roles.advance(control, min(roles.version + step, control.version))
        slots = [control.past[at].models.get("xgboost", Model()) for at in range(1, roles.version + 1)]
        for artifact in ARTIFACTS:
            for since in range(1, roles.version + 1):
                run = slots[since - 1 :]
                in_shadow = all(artifact in slot.shadows for slot in run)
                assert roles.in_shadow(artifact, since) == in_shadow
                assert roles.is_champion("xgboost", artifact, since) == all(slot.champion == artifact for slot in run)
                active = all(artifact in {slot.champion, *slot.shadows} for slot in run)
                assert roles.is_active(artifact, since) == active
