"""Formulas: terms over the fields of a bar, which know their own text, reach and arithmetic.

A term is written as one writes the formula (``ema(close, 12) - ema(close, 26)``). Its ``text`` is canonical:
two terms are the same exactly if their texts are, and a feature set's digest is taken over these texts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from shared.features import kernels

Kernel = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Term:
    """A series: one value for each bar and symbol.

    ``apply`` maps its inputs, each of ``rows + reach`` rows, to ``rows`` rows; ``missing`` is the greatest
    weight that an exponential kernel within it leaves out. ``kept`` says that a stream should keep its values
    beside the bars instead of computing those of the past again with each bar: a matter of speed alone.
    """

    text: str
    inputs: tuple["Term", ...] = ()
    reach: int = 0
    apply: Kernel = np.positive
    missing: float = 0.0
    kept: bool = False

    @property
    def lookback(self) -> int:
        """How many bars a value depends on."""
        return 1 + self._depth()

    def _depth(self) -> int:
        return self.reach + max((term._depth() for term in self.inputs), default=0)

    def __add__(self, other: "Term") -> "Term":
        return _join(f"({self.text} + {other.text})", np.add, self, other)

    def __sub__(self, other: "Term | float") -> "Term":
        if isinstance(other, Term):
            return _join(f"({self.text} - {other.text})", np.subtract, self, other)
        return _join(f"({self.text} - {other!r})", lambda x: x - other, self)

    def __mul__(self, other: float) -> "Term":
        return _join(f"({self.text} * {other!r})", lambda x: x * other, self)

    def __truediv__(self, other: "Term | float") -> "Term":
        if isinstance(other, Term):
            return _join(f"({self.text} / {other.text})", np.divide, self, other)
        return _join(f"({self.text} / {other!r})", lambda x: x / other, self)


def _join(text: str, apply: Kernel, *inputs: Term, reach: int = 0, missing: float = 0.0) -> Term:
    missing = max(missing, *(term.missing for term in inputs))
    return Term(text, inputs, reach, apply, missing)


open_, high, low, close, volume = (Term(name) for name in ("open", "high", "low", "close", "volume"))
"""The fields of a bar, float64."""
open_time: Final = Term("open_time")
"""When the bar opened, int64 milliseconds since 1970-01-01 UTC."""


def greater(a: Term, b: Term) -> Term:
    """The greater of two values."""
    return _join(f"max({a.text}, {b.text})", np.maximum, a, b)


def lesser(a: Term, b: Term) -> Term:
    """The lesser of two values."""
    return _join(f"min({a.text}, {b.text})", np.minimum, a, b)


def positive(x: Term) -> Term:
    """The value where it is above zero, else zero."""
    return _join(f"max({x.text}, 0)", lambda x: np.maximum(x, 0.0), x)


def log(x: Term) -> Term:
    """The natural logarithm."""
    return _join(f"log({x.text})", kernels.log, x)


def kept(x: Term) -> Term:
    """The same term, kept by streams."""
    return replace(x, kept=True)


def sqrt(x: Term) -> Term:
    """The square root."""
    return _join(f"sqrt({x.text})", np.sqrt, x)


def square(x: Term) -> Term:
    """The square."""
    return _join(f"square({x.text})", lambda x: x * x, x)


def lag(x: Term, bars: int) -> Term:
    """The value ``bars`` bars ago."""
    return _join(f"lag({x.text}, {bars})", lambda x: x[:-bars], x, reach=bars)


def change(x: Term, bars: int = 1) -> Term:
    """The value less the value ``bars`` bars ago."""
    return x - lag(x, bars)


def _exponential(text: str, x: Term, keep: float) -> Term:
    bars = kernels.bars_for(keep)
    missing = kernels.power(keep, bars)
    scale = (1.0 - keep) / (1.0 - missing)

    def apply(x: kernels.Array) -> kernels.Array:
        return kernels.decayed(x, keep, bars) * scale

    return _join(f"{text}, bars={bars})", apply, x, reach=bars - 1, missing=missing)


def ema(x: Term, span: int) -> Term:
    """The exponential mean with smoothing 2 / (span + 1), over the bars that hold all but a millionth of its
    weight, scaled to weight one."""
    return _exponential(f"ema({x.text}, {span}", x, (span - 1) / (span + 1))


def wilder(x: Term, span: int) -> Term:
    """Wilder's mean: exponential with smoothing 1 / span (Wilder 1978); truncated like ``ema``."""
    return _exponential(f"wilder({x.text}, {span}", x, (span - 1) / span)


def ewma(x: Term, keep: float) -> Term:
    """The exponential mean that keeps ``keep`` of the past at each bar; truncated like ``ema``."""
    return _exponential(f"ewma({x.text}, {keep!r}", x, keep)


def mean(x: Term, bars: int) -> Term:
    """The mean of the last ``bars`` bars."""
    text = f"mean({x.text}, {bars})"
    return _join(text, lambda x: kernels.window_sum(x, bars) / bars, x, reach=bars - 1)


def highest(x: Term, bars: int) -> Term:
    """The greatest of the last ``bars`` bars."""
    return _join(f"highest({x.text}, {bars})", lambda x: kernels.window_max(x, bars), x, reach=bars - 1)


def lowest(x: Term, bars: int) -> Term:
    """The least of the last ``bars`` bars."""
    return _join(f"lowest({x.text}, {bars})", lambda x: kernels.window_min(x, bars), x, reach=bars - 1)


def deviation(x: Term, bars: int) -> Term:
    """The population standard deviation of the last ``bars`` bars."""
    kernels.check_variance_bars(bars)
    text = f"deviation({x.text}, {bars})"
    return _join(text, lambda x: np.sqrt(kernels.window_variance(x, bars)), x, reach=bars - 1)


def _circle(text: str, wave: Callable[[float], float], unit_ms: int, offset: int, count: int) -> Term:
    table = np.array([round(wave(2.0 * math.pi * i / count), 9) for i in range(count)])
    return _join(text, lambda time: table[(time // unit_ms + offset) % count], open_time)


def minute_of_day(name: str, wave: Callable[[float], float]) -> Term:
    """A wave of one day over the minute (UTC) in which the bar opened, to nine decimals."""
    return _circle(f"{name}(2 pi minute_of_day(open_time) / 1440)", wave, 60_000, 0, 1440)


def weekday(name: str, wave: Callable[[float], float]) -> Term:
    """A wave of one week over the day (UTC, Monday is 0) in which the bar opened, to nine decimals."""
    return _circle(f"{name}(2 pi weekday(open_time) / 7)", wave, 86_400_000, 3, 7)
