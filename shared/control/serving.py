"""Find out which models have a worker: a round of bars from files waits for each model that votes.

A model is *served* in a partition if the group of its worker has a living owner there.
"""

from collections.abc import Iterable
from typing import Final

from shared.control.state import State
from shared.log import GroupView

WORKER: Final = "model-worker."
"""What the name of a worker's group begins with; the name of its model follows."""


def unserved(state: State, views: Iterable[GroupView]) -> dict[str, list[int]]:
    """Return the partitions in which no worker serves a model that votes, by model."""
    alive = {(view.group, view.partition) for view in views if view.alive}
    missing = {
        model: [partition for partition in range(state.partitions) if (WORKER + model, partition) not in alive]
        for model in state.voting
    }
    return {model: partitions for model, partitions in missing.items() if partitions}


def why_unserved(state: State, views: Iterable[GroupView]) -> list[str]:
    """Return a sentence, with what to do, for each voting model that no worker serves; none if no service runs."""
    views = list(views)
    if not any(view.alive for view in views):
        return []
    return [
        f"{model} votes, and no worker serves it{_where(state, partitions)}: bars from files wait for its answer, and "
        f"live bars are decided without it. Start a worker (`conclave up`, or `conclave run model-worker --model "
        f"{model}`), or take it out (`conclave rollback --to` a version in which it did not vote)"
        for model, partitions in unserved(state, views).items()
    ]


def _where(state: State, partitions: list[int]) -> str:
    if len(partitions) == state.partitions:
        return ""
    return f" in partition{'s' if len(partitions) > 1 else ''} {', '.join(map(str, partitions))}"
