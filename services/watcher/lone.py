"""Fold scores into the money of every model and shadow at this moment, each as if it had voted alone. Pure.

``conclave money`` does the same over all that was recorded, and the gate ``money`` for a candidate and its champion. A
score comes once its outcome is known, so these gauges are as late as the horizon of the label.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct, field

from schemas.scores import PredictionScored
from shared.control import State as Control
from shared.control.policies import in_shadow
from shared.money.account import key_of
from shared.money.alone import LoneAccount, Opportunity
from shared.money.orders import lone_signal
from shared.money.venue import TradedBar
from shared.telemetry.metrics import MetricReading

SHORT: Final = 12
"""Characters of a digest by which an artifact is shown to people."""


class LoneMoney(Struct):
    """What one artifact holds and gained alone, and the highest sum of all gains so far (at least 0)."""

    account: LoneAccount = field(default_factory=LoneAccount)
    highest: float = 0.0

    @property
    def gain(self) -> float:
        """The sum of all gains, open positions included."""
        return sum(series.gain for series in self.account.money.values())


class LoneLines(Struct):
    """The money of each artifact that votes or is in shadow, by digest."""

    lines: dict[str, LoneMoney] = field(default_factory=dict)

    def observe(self, score: PredictionScored, control: Control) -> None:
        """Trade a prediction on paper, under the configuration of its version."""
        prices, version = score.prices, score.control_version
        if prices is None or not 1 <= version <= control.version:
            return
        past = control.past[version]
        opened = score.open_time + score.interval_ms
        after = TradedBar(opened, score.origin, prices.next_open, prices.next_close, prices.next_volume)
        signal = lone_signal(score, score.prediction.hex(), score.action, past.policy)
        money = self.lines.setdefault(score.artifact.hex(), LoneMoney())
        money.account.trade(signal, Opportunity(key_of(score), prices.close, after), past.execution, past.partitions)
        money.highest = max(money.highest, money.gain)

    def readings(self, control: Control) -> Iterator[MetricReading]:
        """Yield the gauges of the artifacts that vote or are in shadow now, and forget all others."""
        active = dict(_active(control))
        self.lines = {artifact: money for artifact, money in self.lines.items() if artifact in active}
        begin = control.execution.equity
        for artifact, money in self.lines.items():
            equity, highest = begin + money.gain, begin + money.highest
            series = money.account.money.values()
            gross, about = sum(each.gross for each in series), active[artifact]
            yield MetricReading("conclave.model.equity", about, equity)
            yield MetricReading("conclave.model.drawdown", about, (highest - equity) / highest)
            yield MetricReading("conclave.model.exposure", about, gross / equity if equity > 0.0 else 0.0)
            yield MetricReading("conclave.model.positions", about, sum(each.held != 0.0 for each in series))


def encoded(lines: LoneLines) -> bytes:
    """Return what a file can hold."""
    return msgspec.msgpack.encode(lines)


def decoded(memo: bytes) -> LoneLines:
    """Return what ``encoded`` was given; none for ''."""
    return msgspec.msgpack.decode(memo, type=LoneLines) if memo else LoneLines()


def _active(control: Control) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield each artifact that votes or is in shadow, with its model, its role, and its short name."""
    for name, artifact in in_shadow(control):
        yield artifact, (name, "shadow", artifact[:SHORT])
    for name, model in control.models.items():
        if model.champion:
            yield model.champion, (name, "voting", model.champion[:SHORT])
