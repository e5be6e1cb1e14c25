"""Finite-memory arithmetic over time, whose result bits depend on nothing but the numbers.

Every kernel maps ``[rows + reach, symbols]`` to ``[rows, symbols]`` (trailing axes are free): row ``t``
of the result is a function of exactly the last ``reach + 1`` rows up to ``t``, computed by one fixed tree
of IEEE-754 additions, subtractions, multiplications, divisions, square roots and comparisons. NumPy applies
each of them to one element at a time, so the result does not depend on how many rows or symbols are computed
at once, on memory layout, on the processor's vector unit or on NumPy's version. Hence no ``sum``, ``cumsum``,
``dot`` or ``convolve`` (their order of summation follows the shape), and no ``np.log`` (one unit in the last
place apart between AVX-512 and others).

The tree is built by doubling: a window of 2m bars is the window of m bars now, joined to the window of m bars
m bars ago. So a window of L bars costs log2(L) passes when all rows are wanted, and L elements when only the
last row is: the same tree either way.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

MISSING_WEIGHT: Final = 1e-6
"""The most that a truncated exponential kernel may leave out."""


def power(keep: float, bars: int) -> float:
    """``keep ** bars`` for a power of two, by squaring: the same bits with every C library."""
    if bars < 1 or bars & (bars - 1):
        raise ValueError(f"a kernel's length must be a power of two, not {bars}")
    while bars > 1:
        keep *= keep
        bars //= 2
    return keep


def bars_for(keep: float) -> int:
    """The shortest power of two of bars that leaves at most ``MISSING_WEIGHT`` of an exponential
    kernel out."""
    if not 0.0 < keep < 1.0:
        raise ValueError(f"an exponential kernel keeps between 0 and 1 of the past, not {keep}")
    bars = 1
    while keep > MISSING_WEIGHT:
        keep *= keep
        bars *= 2
    return bars


def decayed(x: Array, keep: float, bars: int) -> Array:
    """The sum of the last ``bars`` rows (a power of two), row ``t - i`` weighted by ``keep ** i``.

    E_2m(t) = E_m(t) + keep^m E_m(t - m). While fewer bars are joined than rows are wanted, the sums stand at
    every row; from there on only at the rows that the result still needs, ``span`` apart.
    """
    rows = len(x) - bars + 1
    span = 1
    while span < bars and span < rows:
        older = x[:-span] * keep
        older += x[span:]
        x, keep, span = older, keep * keep, span * 2
    if span == bars:
        return x
    stride = x.strides[0]
    x = np.ndarray((bars // span, rows, *x.shape[1:]), x.dtype, x, 0, (span * stride, *x.strides))
    while len(x) > 1:
        older = x[0::2] * keep
        older += x[1::2]
        x, keep = older, keep * keep
    result: Array = x[0]
    return result


def window_sum(x: Array, bars: int) -> Array:
    """The sum of the last ``bars`` rows: blocks of 1, 2, 4, ... rows, the smallest block newest."""
    rows = len(x) - bars + 1
    level, span, start = x, 1, bars
    total: Array | None = None
    while True:
        if bars & span:
            start -= span
            block = level[start : start + rows]
            total = block if total is None else total + block
            if start == 0:
                return total
        level = level[span:] + level[:-span]
        span *= 2


def _window_extreme(choose: Callable[[Array, Array], Array], x: Array, bars: int) -> Array:
    span = 1
    while 2 * span <= bars:
        x = choose(x[span:], x[:-span])
        span *= 2
    shift = bars - span
    return choose(x[shift:], x[:-shift]) if shift else x


def window_max(x: Array, bars: int) -> Array:
    """The greatest of the last ``bars`` rows."""
    return _window_extreme(np.maximum, x, bars)


def window_min(x: Array, bars: int) -> Array:
    """The least of the last ``bars`` rows."""
    return _window_extreme(np.minimum, x, bars)


def window_variance(x: Array, bars: int) -> Array:
    """The population variance of the last ``bars`` rows, by joining blocks pairwise (Chan, Golub and
    LeVeque 1983): no difference of large squares, and never negative.

    ``bars`` has one or two binary digits set (16, 20, 48): then every division is by a power of two, and
    the variance of a flat window is exactly zero.
    """
    check_variance_bars(bars)
    rows = len(x) - bars + 1
    total, spread, span = x, np.zeros_like(x), 1
    newest: tuple[Array, Array, int] | None = None
    while True:
        if bars & span:
            if newest is not None or span == bars:
                break
            newest = total[bars - span :], spread[bars - span :], span
        apart = total[span:] - total[:-span]
        apart *= apart
        apart /= 2 * span
        apart += spread[span:]
        apart += spread[:-span]
        total, spread, span = total[span:] + total[:-span], apart, span * 2
    if newest is None:
        return spread / bars
    total, spread = total[:rows], spread[:rows]
    apart = newest[0] / newest[2] - total / span
    apart *= apart
    apart *= newest[2] * span / bars
    apart += newest[1]
    apart += spread
    apart /= bars
    return apart


def check_variance_bars(bars: int) -> None:
    """Raises ``ValueError`` for a window that ``window_variance`` does not take."""
    if bars < 2 or bars.bit_count() > 2:
        raise ValueError(f"a variance window must have one or two binary digits set (16, 20, 48), not {bars}")


_LN2: Final = 0.6931471805599453
_SQRT_HALF: Final = 0.7071067811865476
_SERIES: Final = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
    2.0,
)
_BLOCK: Final = 4096


def log(x: Array) -> Array:
    """The natural logarithm, with an error below 4e-16 max(1, abs(log x)); not finite unless x is finite
    and above zero.

    x = 2^k m with m in [1/2, 1), s = (m - c) / (m + c), c = sqrt(1/2): log x = (k - 1/2) log 2 + 2 atanh(s),
    the series for atanh with the coefficients of FreeBSD's ``e_log.c`` (Sun Microsystems 1993).
    """
    result = np.empty(x.shape)
    source, target = x.reshape(-1), result.reshape(-1)
    for start in range(0, len(source), _BLOCK):  # what the cache holds
        mantissa, exponent = np.frexp(source[start : start + _BLOCK])
        s = mantissa - _SQRT_HALF
        mantissa += _SQRT_HALF
        s /= mantissa
        z = np.multiply(s, s, out=mantissa)
        r = z * _SERIES[0]
        for coefficient in _SERIES[1:-1]:
            r += coefficient
            r *= z
        r += _SERIES[-1]
        r *= s
        k = exponent - 0.5
        k *= _LN2
        np.add(r, k, out=target[start : start + _BLOCK])
    if not (x > 0.0).all():
        result[x == 0.0] = -np.inf
        result[x < 0.0] = np.nan
    return result
