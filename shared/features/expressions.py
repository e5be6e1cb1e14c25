"""Formulas: terms over the fields of a bar, which know their own text, reach and arithmetic.

A term is written as one writes the formula (``ema(close, 12) - ema(close, 26)``). Its ``text`` is canonical:
two terms are the same exactly if their texts are, and a feature set's digest is taken over these texts.

Beneath, there are two kinds of terms only: an operation on values of one moment, and a delay. A window is built
from them by doubling: that of 2m bars is the window of m bars now, joined to the window of m bars m bars ago. So a
window of L bars is one fixed tree that takes log2(L) operations a bar, if what is delayed is kept: over all rows
of a history as over the last bar of a stream.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final

import numpy as np

from shared.features import kernels

Operation = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Expression:
    """A series: one value for each bar and symbol.

    ``apply`` maps arrays of the inputs' values to an array of its own, ``one`` single floats to a float, with the
    same bits. Where ``delay`` is not zero the term has one input, and is that of so many bars ago. ``missing``
    is the greatest weight that an exponential kernel within it leaves out.
    """

    text: str
    inputs: tuple["Expression", ...] = ()
    apply: Operation = np.positive
    one: Operation = operator.pos
    delay: int = 0
    missing: float = 0.0

    @cached_property
    def lookback(self) -> int:
        """How many bars a value depends on."""
        return self.delay + max((term.lookback for term in self.inputs), default=1)

    def __add__(self, other: "Expression") -> "Expression":
        return _join(f"({self.text} + {other.text})", operator.add, self, other)

    def __sub__(self, other: "Expression | float") -> "Expression":
        if isinstance(other, Expression):
            return _join(f"({self.text} - {other.text})", operator.sub, self, other)
        return _join(f"({self.text} - {other!r})", lambda x: x - other, self)

    def __mul__(self, other: float) -> "Expression":
        return _join(f"({self.text} * {other!r})", lambda x: x * other, self)

    def __truediv__(self, other: "Expression | float") -> "Expression":
        if isinstance(other, Expression):
            return _join(f"({self.text} / {other.text})", np.divide, self, other, one=kernels.divide_one)
        return _join(f"({self.text} / {other!r})", lambda x: x / other, self)


def _join(text: str, apply: Operation, *inputs: Expression, one: Operation | None = None) -> Expression:
    missing = max(term.missing for term in inputs)
    return Expression(text, inputs, apply, one or apply, 0, missing)


FIELDS: Final = ("open", "high", "low", "close", "volume", "open_time")
open_, high, low, close, volume, open_time = (Expression(name) for name in FIELDS)
"""The fields of a bar: float64, and when it opened, int64 milliseconds since 1970-01-01 UTC."""


def greater(a: Expression, b: Expression) -> Expression:
    """The greater of two values."""
    return _join(f"max({a.text}, {b.text})", np.maximum, a, b, one=kernels.greater_one)


def lesser(a: Expression, b: Expression) -> Expression:
    """The lesser of two values."""
    return _join(f"min({a.text}, {b.text})", np.minimum, a, b, one=kernels.lesser_one)


def positive(x: Expression) -> Expression:
    """The value where it is above zero, else zero."""
    text = f"max({x.text}, 0)"
    return _join(text, lambda x: np.maximum(x, 0.0), x, one=lambda x: kernels.greater_one(x, 0.0))


def log(x: Expression) -> Expression:
    """The natural logarithm."""
    return _join(f"log({x.text})", kernels.log, x, one=kernels.log_one)


def sqrt(x: Expression) -> Expression:
    """The square root."""
    return _root(f"sqrt({x.text})", x)


def _root(text: str, x: Expression) -> Expression:
    return _join(text, np.sqrt, x, one=kernels.sqrt_one)


def square(x: Expression) -> Expression:
    """The square."""
    return _join(f"square({x.text})", lambda x: x * x, x)


def lag(x: Expression, bars: int) -> Expression:
    """The value ``bars`` bars ago."""
    return Expression(f"lag({x.text}, {bars})", (x,), delay=bars, missing=x.missing)


def change(x: Expression, bars: int = 1) -> Expression:
    """The value less the value ``bars`` bars ago."""
    return x - lag(x, bars)


def decayed(x: Expression, keep: float, bars: int) -> Expression:
    """The sum of the last ``bars`` bars (a power of two), the value ``i`` bars ago weighted by ``keep ** i``:
    E_2m(t) = E_m(t) + keep^m E_m(t - m)."""
    found, span = x, 1
    while span < bars:
        text = f"decayed({x.text}, {keep!r}, {2 * span})"
        found = _join(text, partial(kernels.joined, kernels.power(keep, span)), found, lag(found, span))
        span *= 2
    return found


def _exponential(text: str, x: Expression, keep: float) -> Expression:
    bars = kernels.bars_for(keep)
    missing = kernels.power(keep, bars)
    scale = (1.0 - keep) / (1.0 - missing)
    weighted = decayed(x, keep, bars)
    return replace(_join(f"{text}, bars={bars})", lambda x: x * scale, weighted), missing=max(missing, x.missing))


def ema(x: Expression, span: int) -> Expression:
    """The exponential mean with smoothing 2 / (span + 1), over the bars that hold all but a millionth of its
    weight, scaled to weight one."""
    return _exponential(f"ema({x.text}, {span}", x, (span - 1) / (span + 1))


def wilder(x: Expression, span: int) -> Expression:
    """Wilder's mean: exponential with smoothing 1 / span (Wilder 1978); truncated like ``ema``."""
    return _exponential(f"wilder({x.text}, {span}", x, (span - 1) / span)


def ewma(x: Expression, keep: float) -> Expression:
    """The exponential mean that keeps ``keep`` of the past at each bar; truncated like ``ema``."""
    return _exponential(f"ewma({x.text}, {keep!r}", x, keep)


def total(x: Expression, bars: int) -> Expression:
    """The sum of the last ``bars`` bars: blocks of 1, 2, 4, ... bars, the smallest block newest."""
    block, span = x, 1
    found: Expression | None = None
    taken = 0
    while True:
        if bars & span:
            older = lag(block, taken) if taken else block
            taken += span
            found = older if found is None else _join(f"total({x.text}, {taken})", operator.add, found, older)
            if taken == bars:
                return found
        span *= 2
        block = _join(f"total({x.text}, {span})", operator.add, block, lag(block, span // 2))


def mean(x: Expression, bars: int) -> Expression:
    """The mean of the last ``bars`` bars."""
    return _join(f"mean({x.text}, {bars})", lambda x: x / bars, total(x, bars))


def _extreme(name: str, choose: Callable[[Expression, Expression], Expression], x: Expression, bars: int) -> Expression:
    best, span = x, 1
    while span < bars:
        step = min(span, bars - span)
        span += step
        best = replace(choose(best, lag(best, step)), text=f"{name}({x.text}, {span})")
    return best


def highest(x: Expression, bars: int) -> Expression:
    """The greatest of the last ``bars`` bars."""
    return _extreme("highest", greater, x, bars)


def lowest(x: Expression, bars: int) -> Expression:
    """The least of the last ``bars`` bars."""
    return _extreme("lowest", lesser, x, bars)


def _spread(x: Expression, bars: int) -> Expression:
    """The squared deviations of the last ``bars`` bars (a power of two) from their mean, summed pairwise: no
    difference of large squares, and never negative."""
    half = bars // 2
    block, text = total(x, half), f"spread({x.text}, {bars})"
    if half == 1:
        return _join(text, kernels.spread_of_pair, block, lag(block, 1))
    spread = _spread(x, half)
    joined = partial(kernels.spread_of_halves, half)
    return _join(text, joined, block, lag(block, half), spread, lag(spread, half))


def variance(x: Expression, bars: int) -> Expression:
    """The population variance of the last ``bars`` bars. Raises ``ValueError`` where ``bars`` has not one or two
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
    """The population standard deviation of the last ``bars`` bars."""
    return _root(f"deviation({x.text}, {bars})", variance(x, bars))


def _circle(text: str, wave: Callable[[float], float], unit_ms: int, offset: int, count: int) -> Expression:
    values = [round(wave(2.0 * math.pi * i / count), 9) for i in range(count)]
    table = np.array(values)
    return _join(
        text,
        lambda time: table[(time // unit_ms + offset) % count],
        open_time,
        one=lambda time: values[(time // unit_ms + offset) % count],
    )


def minute_of_day(name: str, wave: Callable[[float], float]) -> Expression:
    """A wave of one day over the minute (UTC) in which the bar opened, to nine decimals."""
    return _circle(f"{name}(2 pi minute_of_day(open_time) / 1440)", wave, 60_000, 0, 1440)


def weekday(name: str, wave: Callable[[float], float]) -> Expression:
    """A wave of one week over the day (UTC, Monday is 0) in which the bar opened, to nine decimals."""
    return _circle(f"{name}(2 pi weekday(open_time) / 7)", wave, 86_400_000, 3, 7)
