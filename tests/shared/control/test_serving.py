"""Which models have a worker. A name with a typing error would take part in every vote and never answer."""

from collections.abc import Sequence

import anyio
import pytest

from schemas.common import ACTIONS
from schemas.control import Command, Found, Promote, RegisterArtifact
from shared.control.issuing import RefusedError, current, issue
from shared.control.readiness import require_worker
from shared.control.serving import unserved, why_unserved
from shared.log import GroupView, Owner
from shared.log.memory import MemoryLog

THIRD = (-1.1, -1.1, -1.1)


def register(model: str, artifact: str) -> Command:
    return RegisterArtifact(
        model=model,
        artifact=artifact,
        family="prior",
        feature_set="f" * 64,
        feature_set_name="s",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=THIRD,
        prior=(0.25, 0.5, 0.25),
    )


async def log_with(*alive: tuple[str, int]) -> MemoryLog:
    """A log of two partitions in which ``xgboost`` votes, with living owners of these groups."""
    log = MemoryLog()
    for command in (Found(2, "log-of-a-test"), register("xgboost", "a" * 64)):
        await issue(log, command, actor="ada", reason="a test")
    await issue(log, Promote("xgboost", "a" * 64, forced=True, weight=1.0), actor="ada", reason="a test")
    for group, partition in alive:
        await log.claim(group, ("features",), partition, Owner("here", 7, group))
    return log


async def views_of(log: MemoryLog) -> list[GroupView]:
    return [view for partition in range(2) for view in await log.groups(partition)]


@pytest.mark.parametrize(
    ("alive", "missing"),
    [
        ([], [0, 1]),
        ([("model-worker.xgboost", 0)], [1]),
        ([("model-worker.xgbost", 0), ("ensemble-voter", 1)], [0, 1]),
        ([("model-worker.xgboost", 0), ("model-worker.xgboost", 1)], []),
    ],
)
def test_a_voting_model_is_unserved_where_no_living_worker_has_its_name(
    alive: Sequence[tuple[str, int]], missing: list[int]
) -> None:
    async def check() -> None:
        log = await log_with(*alive)
        state, views = await current(log), await views_of(log)
        assert unserved(state, views) == ({"xgboost": missing} if missing else {})
        sentences = why_unserved(state, views)
        assert len(sentences) == bool(missing and alive)  # where no service runs, nothing is said
        assert all("xgboost votes, and no worker serves it" in sentence for sentence in sentences)

    anyio.run(check)


@pytest.mark.parametrize("model", ["xgbost", "XGBoost", "xgboost2", "nhits"])
def test_a_name_that_nobody_serves_is_refused_with_the_names_there_are(model: str) -> None:
    async def check() -> None:
        log = await log_with(("model-worker.xgboost", 0))
        state = await current(log)
        await require_worker(log, state, (), "xgboost")
        await require_worker(log, state, ("nhits2",), "nhits2")
        with pytest.raises(RefusedError, match="Served are: lightgbm, xgboost"):
            await require_worker(log, state, ("lightgbm",), model)

    anyio.run(check)


def test_the_name_that_was_meant_is_shown() -> None:
    async def check() -> None:
        log = await log_with()
        with pytest.raises(RefusedError, match=r"'xgbost': did you mean 'xgboost'\?"):
            await require_worker(log, await current(log), ("xgboost", "lightgbm"), "xgbost")

    anyio.run(check)
