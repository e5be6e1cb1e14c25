"""The operations that formulas are made of, whose result bits depend on nothing but the numbers.

Every operation takes the values of one moment (those of the past come to it through delays) and is a fixed
sequence of IEEE-754 additions, subtractions, multiplications, divisions, square roots and comparisons, each
rounded once. It is applied to arrays by NumPy, element by element, and to single floats by Python: both round
alike, so the result does not depend on how many rows or symbols are computed at once, on memory layout, on the
processor's vector unit or on NumPy's version. Hence no ``sum``, ``cumsum``, ``dot`` or ``convolve`` (their order of
summation follows the shape), and no ``np.log`` (one unit in the last place apart between AVX-512 and others).

Where Python raises and NumPy does not (x / 0, the root of a negative number), an operation has a twin for
single floats, which gives what NumPy gives.
"""

import math
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Number = TypeVar("Number", float, Array)
"""One value, or an array of them."""

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


def joined(keep: float, newer: Number, older: Number) -> Number:
    """Two halves of a decayed sum, the older one weighted."""
    result = older * keep
    result += newer
    return result


def spread_of_pair(newer: Number, older: Number) -> Number:
    """The squared deviations of two values from their mean, summed."""
    apart = newer - older
    apart *= apart
    apart /= 2.0
    return apart


def spread_of_halves(bars: int, newer: Number, older: Number, newer_spread: Number, older_spread: Number) -> Number:
    """The squared deviations of two blocks of ``bars`` values each from their common mean, from the blocks'
    sums and own spreads (Chan, Golub and LeVeque 1983)."""
    apart = newer - older
    apart *= apart
    apart /= 2.0 * bars
    apart += newer_spread
    apart += older_spread
    return apart


def variance_of_blocks(
    newer_bars: int, older_bars: int, newer: Number, older: Number, newer_spread: Number, older_spread: Number
) -> Number:
    """The population variance of two blocks of different lengths together."""
    bars = newer_bars + older_bars
    apart = newer / newer_bars - older / older_bars
    apart *= apart
    apart *= newer_bars * older_bars / bars
    apart += newer_spread
    apart += older_spread
    apart /= bars
    return apart


def check_variance_bars(bars: int) -> None:
    """Raises ``ValueError`` for a window that has no variance of blocks: one or two binary digits must be set
    (16, 20, 48). Then every division is by a power of two, and the variance of a flat window is exactly zero."""
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


def log_one(x: float) -> float:
    """``log`` of a single float."""
    if not x > 0.0:
        return -math.inf if x == 0.0 else math.nan
    mantissa, exponent = math.frexp(x)
    s = (mantissa - _SQRT_HALF) / (mantissa + _SQRT_HALF)
    z = s * s
    r = z * _SERIES[0]
    for coefficient in _SERIES[1:-1]:
        r = (r + coefficient) * z
    return (r + _SERIES[-1]) * s + (exponent - 0.5) * _LN2


def divide_one(a: float, b: float) -> float:
    """``np.divide`` of single floats."""
    try:
        return a / b
    except ZeroDivisionError:
        return a * math.copysign(math.inf, b)


def sqrt_one(x: float) -> float:
    """``np.sqrt`` of a single float."""
    return math.sqrt(x) if x >= 0.0 else math.nan


def greater_one(a: float, b: float) -> float:
    """``np.maximum`` of single floats: what is not a number prevails."""
    return a if a >= b or a != a else b  # noqa: PLR0124  # only NaN differs


def lesser_one(a: float, b: float) -> float:
    """``np.minimum`` of single floats: what is not a number prevails."""
    return a if a <= b or a != a else b  # noqa: PLR0124  # only NaN differs
