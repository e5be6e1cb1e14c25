"""The gauges of every model and shadow are the figures that ``conclave money`` has for them alone."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings

from bench.recorded import START
from schemas.codec import encode
from schemas.control import Found, SetExecutionPolicy, StartShadow
from services.watcher.gauges import readings
from services.watcher.lone import LoneLines, decoded, encoded
from services.watcher.main import Channels, Kept, Watcher
from services.watcher.state import State
from shared.control import State as Control
from shared.control.issuing import issue
from shared.control.state import Model, VersionLedger
from shared.log import Commit, Owner
from shared.log.memory import MemoryLog
from shared.money.venue import TradedBar
from tests.services.gate_evaluator.test_money import HOUR, POLICY, Moment, compared, moments, past_of, scores_of
from tests.services.guard.test_main import artifact as registered
from tests.services.guard.world import FORMER
from tests.services.watcher.test_money import Gauges

OTHER = "0f" * 32


def control_of(policy: SetExecutionPolicy, artifact: str, *, voting: bool = False) -> Control:
    """A configuration with one artifact of xgboost, in shadow beside another one or voting."""
    model = Model(champion=artifact) if voting else Model(champion=OTHER, shadows=(artifact,))
    past = VersionLedger([past_of(policy)] * 7, {})
    return Control(version=7, models={"xgboost": model}, past=past, execution=policy)


def gauges_of(lines: LoneLines, control: Control) -> dict[tuple[str, tuple[str, ...]], float]:
    found = readings(State(), [], control, 0, lines)
    return {(each.name.removeprefix("conclave.model."), each.attributes): each.value for each in found}


@settings(deadline=None, max_examples=40)
@given(moments(), POLICY)
def test_the_gauges_of_a_shadow_are_its_figures_alone(told: list[Moment], policy: SetExecutionPolicy) -> None:
    scores, lines = scores_of(told), LoneLines()
    control = control_of(policy, scores[0].artifact.hex())
    for score in scores:
        lines.observe(score, control)
        lines = decoded(encoded(lines))  # as it is kept in watcher.json
    gauges = gauges_of(lines, control)
    about = ("xgboost", "shadow", scores[0].artifact.hex()[:12])
    net = compared(told, scores, policy)["shadow xgboost"]
    assert gauges["equity", about] == pytest.approx(policy.equity + net, rel=1e-9)
    assert 0.0 <= gauges["drawdown", about] < 1.0
    assert (gauges["exposure", about] > 0.0) == (gauges["positions", about] > 0)


def bars(*prices: float) -> list[TradedBar]:
    """A bar for each price, opened and closed at it."""
    return [TradedBar(START + at * HOUR, "replay", price, price, 1_000.0) for at, price in enumerate(prices)]


def test_an_artifact_that_neither_votes_nor_is_in_shadow_has_no_gauge_and_is_forgotten() -> None:
    policy = SetExecutionPolicy()
    told = [Moment("BTC", bar, "BUY", None) for bar in bars(100.0, 100.0)]
    [score] = scores_of(told)
    artifact, lines = score.artifact.hex(), LoneLines()
    lines.observe(score, control_of(policy, artifact))
    voting = gauges_of(lines, control_of(policy, artifact, voting=True))
    assert ("positions", ("xgboost", "voting", artifact[:12])) in voting
    assert not any(name == "positions" for name, _ in gauges_of(lines, control_of(policy, OTHER, voting=True)))
    assert lines.lines == {}


def test_a_file_of_an_earlier_release_has_no_money_of_models() -> None:
    kept = msgspec.json.decode(b'{"positions": {}, "state": {}, "waiting": {}}', type=Kept)
    assert decoded(kept.lone) == LoneLines()


@pytest.mark.anyio
async def test_a_watcher_goes_on_from_its_file(tmp_path: Path) -> None:
    log = MemoryLog()
    for command in (Found(1, "log-of-a-test"), registered(FORMER), StartShadow("a", FORMER)):
        await issue(log, command, actor="me", reason="a test")
    told = [Moment("BTC", bar, "BUY", None) for bar in bars(100.0, 100.0, 110.0)]
    gains = []
    for score in scores_of(told):
        watcher = Watcher(log, 1, tmp_path / "watcher.json", Channels([]), [], Gauges())
        await watcher.begin()
        claim = await log.claim("shadow-recorder", (), 0, Owner("here", 1, "recorder"), take_over=True)
        mine = msgspec.structs.replace(score, control_version=3, artifact=bytes.fromhex(FORMER))
        await log.commit(claim, Commit([encode("scores", mine)], {}, {}))
        await watcher.turn()
        gains.append(watcher._lone.lines[FORMER].gain)
        watcher.save()
    bought = 100.0 * 100.0 * (1 + 0.0001 + 0.0002)
    assert gains[0] == pytest.approx(100.0 * 100.0 - bought * 1.0005)
    assert gains[1] == pytest.approx(gains[0] + 1_000.0)
