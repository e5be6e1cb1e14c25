"""Formulas as expressions over the fields of a bar, each with its canonical text, lookback and arithmetic.

An expression is written like the formula: ``ema(close, 12) - ema(close, 26)``. Its ``text`` is canonical: two
expressions are equal exactly if their texts are. The digest of a feature set is computed over these texts.

There are only two kinds of expressions: an operation on values of one bar, and a delay. Windows are built from them
by doubling: a window of 2m bars is the current window of m bars joined with the window of m bars, m bars ago. A
window of L bars is thus a fixed tree with log2(L) operations a bar, if delayed values are kept. It is the same
for all rows of a history and for the last bar of a stream.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final

import numpy as np

from shared.features import kernels
from shared.features.bars import FURTHER, PRICES_AND_VOLUME
from shared.inputs.kinds import INPUT_FIELDS

Operation = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Expression:
    """A series with one value for each bar and symbol.

    ``apply`` computes an array from arrays of the inputs' values; ``scalar`` computes a float from single floats, with
    the same bits. If ``delay`` is not zero, the expression has one input, and its value is that of the input ``delay``
    bars ago. ``missing`` is the largest weight that an exponential kernel in the expression leaves out.
    """

    text: str
    inputs: tuple["Expression", ...] = ()
    apply: Operation = np.positive
    scalar: Operation = operator.pos
    delay: int = 0
    missing: float = 0.0

    @cached_property
    def lookback(self) -> int:
        """The number of bars on which a value depends."""
        return self.delay + max((x.lookback for x in self.inputs), default=1)

    @cached_property
    def fields(self) -> frozenset[str]:
        """The fields of bars on which a value depends, also of bars of other symbols (``context_formulas.ref``)."""
        return frozenset[str]().union(*(x.fields for x in self.inputs)) if self.inputs else frozenset((self.text,))

    def __add__(self, other: "Expression") -> "Expression":
        return _join(f"({self.text} + {other.text})", operator.add, self, other)

    def __sub__(self, other: "Expression | float") -> "Expression":
        if isinstance(other, Expression):
            return _join(f"({self.text} - {other.text})", operator.sub, self, other)
        return _join(f"({self.text} - {other!r})", lambda x: x - other, self)

    def __mul__(self, other: "Expression | float") -> "Expression":
        if isinstance(other, Expression):
            return _join(f"({self.text} * {other.text})", operator.mul, self, other)
        return _join(f"({self.text} * {other!r})", lambda x: x * other, self)

    def __truediv__(self, other: "Expression | float") -> "Expression":
        if isinstance(other, Expression):
            return _join(f"({self.text} / {other.text})", np.divide, self, other, scalar=kernels.divide_scalar)
        return _join(f"({self.text} / {other!r})", lambda x: x / other, self)


def _join(text: str, apply: Operation, *inputs: Expression, scalar: Operation | None = None) -> Expression:
    missing = max(x.missing for x in inputs)
    return Expression(text, inputs, apply, scalar or apply, 0, missing)


BAR_FIELDS: Final = (*PRICES_AND_VOLUME, *FURTHER)
FIELDS: Final = (*BAR_FIELDS, "open_time")
open_, high, low, close, volume, trades, quote_volume, taker_volume, open_time = (Expression(name) for name in FIELDS)
"""The fields of a bar: prices, volumes and the number of trades as float64, the open time as int64 milliseconds since
1970-01-01 UTC."""
funding, open_interest, mark, index, bid, bid_size, ask, ask_size = (Expression(name) for name in INPUT_FIELDS)
"""The values of inputs at the close of a bar (``shared.inputs``), as float64."""


def greater(a: Expression, b: Expression) -> Expression:
    """Return the greater of two values."""
    return _join(f"max({a.text}, {b.text})", np.maximum, a, b, scalar=kernels.greater_scalar)


def lesser(a: Expression, b: Expression) -> Expression:
    """Return the lesser of two values."""
    return _join(f"min({a.text}, {b.text})", np.minimum, a, b, scalar=kernels.lesser_scalar)


def positive(x: Expression) -> Expression:
    """Return the value if it is above zero, else zero."""
    text = f"max({x.text}, 0)"
    return _join(text, lambda x: np.maximum(x, 0.0), x, scalar=lambda x: kernels.greater_scalar(x, 0.0))


def log(x: Expression) -> Expression:
    """Return the natural logarithm."""
    return _join(f"log({x.text})", kernels.log, x, scalar=kernels.log_scalar)


def sqrt(x: Expression) -> Expression:
    """Return the square root."""
    return _root(f"sqrt({x.text})", x)


def _root(text: str, x: Expression) -> Expression:
    return _join(text, np.sqrt, x, scalar=kernels.sqrt_scalar)


def square(x: Expression) -> Expression:
    """Return the square."""
    return _join(f"square({x.text})", lambda x: x * x, x)


def lag(x: Expression, bars: int) -> Expression:
    """Return the value ``bars`` bars ago."""
    return Expression(f"lag({x.text}, {bars})", (x,), delay=bars, missing=x.missing)


def change(x: Expression, bars: int = 1) -> Expression:
    """Return the value less the value ``bars`` bars ago."""
    return x - lag(x, bars)


def decayed(x: Expression, keep: float, bars: int) -> Expression:
    """Return the weighted sum of the last ``bars`` bars (a power of two).

    The value ``i`` bars ago has the weight ``keep ** i``: E_2m(t) = E_m(t) + keep^m E_m(t - m).
    """
    result, span = x, 1
    while span < bars:
        text = f"decayed({x.text}, {keep!r}, {2 * span})"
        result = _join(text, partial(kernels.joined, kernels.power(keep, span)), result, lag(result, span))
        span *= 2
    return result


def _exponential(text: str, x: Expression, keep: float) -> Expression:
    bars = kernels.bars_for(keep)
    missing = kernels.power(keep, bars)
    scale = (1.0 - keep) / (1.0 - missing)
    weighted = decayed(x, keep, bars)
    return replace(_join(f"{text}, bars={bars})", lambda x: x * scale, weighted), missing=max(missing, x.missing))


def ema(x: Expression, span: int) -> Expression:
    """Return the exponential mean with smoothing 2 / (span + 1).

    It is truncated to the bars with all but at most a millionth of the weight, and scaled to weight one.
    """
    return _exponential(f"ema({x.text}, {span}", x, (span - 1) / (span + 1))


def wilder(x: Expression, span: int) -> Expression:
    """Return Wilder's exponential mean with smoothing 1 / span (Wilder 1978), truncated like ``ema``."""
    return _exponential(f"wilder({x.text}, {span}", x, (span - 1) / span)


def ewma(x: Expression, keep: float) -> Expression:
    """Return the exponential mean with smoothing 1 - keep, truncated like ``ema``."""
    return _exponential(f"ewma({x.text}, {keep!r}", x, keep)


def total(x: Expression, bars: int) -> Expression:
    """Return the sum of the last ``bars`` bars, from blocks of 1, 2, 4, ... bars; the smallest block is the newest."""
    block, span = x, 1
    result: Expression | None = None
    covered = 0
    while True:
        if bars & span:
            older = lag(block, covered) if covered else block
            covered += span
            result = older if result is None else _join(f"total({x.text}, {covered})", operator.add, result, older)
            if covered == bars:
                return result
        span *= 2
        block = _join(f"total({x.text}, {span})", operator.add, block, lag(block, span // 2))


def mean(x: Expression, bars: int) -> Expression:
    """Return the mean of the last ``bars`` bars."""
    return _join(f"mean({x.text}, {bars})", lambda x: x / bars, total(x, bars))


def _extreme(name: str, choose: Callable[[Expression, Expression], Expression], x: Expression, bars: int) -> Expression:
    best, span = x, 1
    while span < bars:
        step = min(span, bars - span)
        span += step
        best = replace(choose(best, lag(best, step)), text=f"{name}({x.text}, {span})")
    return best


def highest(x: Expression, bars: int) -> Expression:
    """Return the greatest value of the last ``bars`` bars."""
    return _extreme("highest", greater, x, bars)


def lowest(x: Expression, bars: int) -> Expression:
    """Return the least value of the last ``bars`` bars."""
    return _extreme("lowest", lesser, x, bars)


def _spread(x: Expression, bars: int) -> Expression:
    """Return the sum of squared deviations of the last ``bars`` bars (a power of two) from their mean.

    It is summed pairwise. This avoids a difference of large squares, so the result is never negative.
    """
    half = bars // 2
    block, text = total(x, half), f"spread({x.text}, {bars})"
    if half == 1:
        return _join(text, kernels.spread_of_pair, block, lag(block, 1))
    spread = _spread(x, half)
    joined = partial(kernels.spread_of_halves, half)
    return _join(text, joined, block, lag(block, half), spread, lag(spread, half))


def variance(x: Expression, bars: int) -> Expression:
    """Return the population variance of the last ``bars`` bars. Raises ``ValueError`` unless ``bars`` has one or two
    binary digits set."""
    kernels.check_variance_bars(bars)
    text = f"variance({x.text}, {bars})"
    newer = bars & -bars
    older = bars - newer
    if not older:
        return _join(text, lambda x: x / bars, _spread(x, bars))
    blocks = total(x, newer), lag(total(x, older), newer)
    older_spread = lag(_spread(x, older), newer)
    joined = partial(kernels.variance_of_blocks, newer, older)
    if newer == 1:
        return _join(text, lambda a, b, spread: joined(a, b, 0.0, spread), *blocks, older_spread)
    return _join(text, joined, *blocks, _spread(x, newer), older_spread)


def deviation(x: Expression, bars: int) -> Expression:
    """Return the population standard deviation of the last ``bars`` bars."""
    return _root(f"deviation({x.text}, {bars})", variance(x, bars))


def _circle(text: str, wave: Callable[[float], float], unit_ms: int, offset: int, count: int) -> Expression:
    values = [round(wave(2.0 * math.pi * i / count), 9) for i in range(count)]
    table = np.array(values)
    return _join(
        text,
        lambda time: table[(time // unit_ms + offset) % count],
        open_time,
        scalar=lambda time: values[(time // unit_ms + offset) % count],
    )


def minute_of_day(name: str, wave: Callable[[float], float]) -> Expression:
    """Return a wave with a period of one day at the minute (UTC) of the bar's open time, to nine decimals."""
    return _circle(f"{name}(2 pi minute_of_day(open_time) / 1440)", wave, 60_000, 0, 1440)


def weekday(name: str, wave: Callable[[float], float]) -> Expression:
    """Return a wave with a period of one week at the day (UTC, Monday 0) of the bar's open time, to nine decimals."""
    return _circle(f"{name}(2 pi weekday(open_time) / 7)", wave, 86_400_000, 3, 7)
