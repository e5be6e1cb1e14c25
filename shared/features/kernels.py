"""The arithmetic operations of formulas. The bits of a result depend on nothing but the numbers.

Every operation takes values of one bar (past values are passed to it through delays). It is a fixed sequence of
IEEE-754 additions, subtractions, multiplications, divisions, square roots and comparisons, each rounded once.
NumPy applies it to arrays element by element, Python to single floats, and both round alike. The result therefore
does not depend on the number of rows or symbols computed at once, the memory layout, the processor's vector unit, or
NumPy's version. For this reason there is no ``sum``, ``cumsum``, ``dot`` or ``convolve``, whose order of summation
depends on the shape, and no ``np.log``, which differs by one unit in the last place between AVX-512 and others.

If Python raises where NumPy does not (x / 0, the root of a negative number), the operation has a variant for single
floats (``..._scalar``) with NumPy's result.
"""

import math
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Number = TypeVar("Number", float, Array)
"""One value, or an array of them."""

MISSING_WEIGHT: Final = 1e-6
"""The largest weight that a truncated exponential kernel may leave out."""


def power(keep: float, bars: int) -> float:
    """Return ``keep ** bars`` for a power of two, by squaring, with the same bits for every C library."""
    if bars < 1 or bars & (bars - 1):
        raise ValueError(f"a kernel's length must be a power of two, not {bars}")
    while bars > 1:
        keep *= keep
        bars //= 2
    return keep


def bars_for(keep: float) -> int:
    """Return the least power of two of bars for which an exponential kernel leaves out at most ``MISSING_WEIGHT``."""
    if not 0.0 < keep < 1.0:
        raise ValueError(f"an exponential kernel must keep between 0 and 1 of the past, not {keep}")
    bars = 1
    while keep > MISSING_WEIGHT:
        keep *= keep
        bars *= 2
    return bars


def joined(keep: float, newer: Number, older: Number) -> Number:
    """Return a decayed sum from its two halves, the older half weighted by ``keep``."""
    result = older * keep
    result += newer
    return result


def spread_of_pair(newer: Number, older: Number) -> Number:
    """Return the sum of squared deviations of two values from their mean."""
    apart = newer - older
    apart *= apart
    apart /= 2.0
    return apart


def spread_of_halves(bars: int, newer: Number, older: Number, newer_spread: Number, older_spread: Number) -> Number:
    """Return the sum of squared deviations of two blocks of ``bars`` values each from their common mean.

    ``newer`` and ``older`` are the sums of the blocks, ``newer_spread`` and ``older_spread`` their own sums of squared
    deviations (Chan, Golub and LeVeque 1983).
    """
    apart = newer - older
    apart *= apart
    apart /= 2.0 * bars
    apart += newer_spread
    apart += older_spread
    return apart


def variance_of_blocks(
    newer_bars: int, older_bars: int, newer: Number, older: Number, newer_spread: Number, older_spread: Number
) -> Number:
    """Return the population variance of two blocks of different lengths together."""
    bars = newer_bars + older_bars
    apart = newer / newer_bars - older / older_bars
    apart *= apart
    apart *= newer_bars * older_bars / bars
    apart += newer_spread
    apart += older_spread
    apart /= bars
    return apart


def check_variance_bars(bars: int) -> None:
    """Raise ``ValueError`` unless the window length has one or two binary digits set (16, 20, 48).

    The window then consists of at most two blocks whose lengths are powers of two. Every division of a block is
    exact, and the variance of a flat window is exactly zero.
    """
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
    """Return the natural logarithm, with an error below 4e-16 max(1, abs(log x)).

    The result is not finite unless x is finite and above zero.

    x = 2^k m with m in [1/2, 1), s = (m - c) / (m + c), c = sqrt(1/2): log x = (k - 1/2) log 2 + 2 atanh(s),
    the series for atanh with the coefficients of FreeBSD's ``e_log.c`` (Sun Microsystems 1993).
    """
    result = np.empty(x.shape)
    source, target = x.reshape(-1), result.reshape(-1)
    for start in range(0, len(source), _BLOCK):  # a block fits in the processor's cache
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


def log_scalar(x: float) -> float:
    """Return ``log`` of a single float."""
    if not x > 0.0:
        return -math.inf if x == 0.0 else math.nan
    mantissa, exponent = math.frexp(x)
    s = (mantissa - _SQRT_HALF) / (mantissa + _SQRT_HALF)
    z = s * s
    r = z * _SERIES[0]
    for coefficient in _SERIES[1:-1]:
        r = (r + coefficient) * z
    return (r + _SERIES[-1]) * s + (exponent - 0.5) * _LN2


def divide_scalar(a: float, b: float) -> float:
    """Return ``np.divide`` of single floats."""
    try:
        return a / b
    except ZeroDivisionError:
        return a * math.copysign(math.inf, b)


def sqrt_scalar(x: float) -> float:
    """Return ``np.sqrt`` of a single float."""
    return math.sqrt(x) if x >= 0.0 else math.nan


def greater_scalar(a: float, b: float) -> float:
    """Return ``np.maximum`` of single floats; NaN if either is NaN."""
    return a if a >= b or a != a else b  # noqa: PLR0124  # only NaN differs


def lesser_scalar(a: float, b: float) -> float:
    """Return ``np.minimum`` of single floats; NaN if either is NaN."""
    return a if a <= b or a != a else b  # noqa: PLR0124  # only NaN differs
