"""The theory of the synthetic market: the planted signal, and the exact posterior of its labels.

The standardised return of bar t+1 is ``z[t+1] = sum_j a[j] z[t-j] + beta_row u[t] + e[t+1]``. The first term is an
autoregression over 48 bars with no weight on the newest two, so that a single feature row does not show the signal.
``u`` is an observed AR(1) of unit variance, ``e`` is standard normal. All terms are Gaussian and linear. The sum of the
next h returns is therefore normal given the past, with mean and variance in closed form. The classes are its values
below -kappa, between, and above +kappa.
"""

import math
from functools import cache
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LAGS: Final = 48
PERSISTENCE: Final = 0.9
"""The AR(1) coefficient of ``u``."""
_MEMORY: Final = 4096
"""Shocks older than this many bars are neglected; the slowest mode that is allowed decays by 0.5 % a bar."""


class Signal(NamedTuple):
    """The strength of the planted signal: ``sequence`` is the Euclidean norm of the autoregression's coefficients,
    ``row`` the coefficient of ``u``. Bars do not contain ``u``; if ``row`` is not 0, the posterior is that of an
    observer who also has ``u``."""

    sequence: float = 0.0
    row: float = 0.0


class Bound(NamedTuple):
    """The expected result of the best possible forecast of a label. ``skill`` is the log loss of the class prior less
    that of the posterior, in nats a label; ``majority`` is the accuracy of always forecasting the most frequent
    class."""

    prior: tuple[float, float, float]
    prior_loss: float
    skill: float
    accuracy: float
    majority: float


def coefficients(signal: Signal) -> Array:
    """Return ``a`` [48]: exp(-j/6) - exp(-j/16)/2, zero for j = 0 and 1, scaled to the norm ``signal.sequence``.

    Raises ``ValueError`` if returns would grow without bound (from about 0.34).
    """
    lag = np.arange(LAGS)
    shape = np.exp(-lag / 6) - 0.5 * np.exp(-lag / 16)
    shape[:2] = 0.0
    a = signal.sequence * shape / float(np.sqrt((shape**2).sum()))
    slowest = np.abs(np.roots(np.concatenate([[1.0], -a]))).max()
    if slowest > 0.995:
        raise ValueError(f"a sequence signal of {signal.sequence} has no stationary market; expected at most 0.3")
    return a


class _Forecast(NamedTuple):
    """The distribution of the sum of the next h returns: the weights of z[t-j] (``weights``) and of u[t] (``row``) in
    its mean given the past, its variance given the past, and its unconditional variance (``total``)."""

    weights: Array
    row: float
    variance: float
    total: float


@cache
def _forecast(signal: Signal, horizon: int) -> _Forecast:
    a = coefficients(signal)
    response = _response(a, _MEMORY)
    summed = np.cumsum(response)
    # A shock n bars before the end of the horizon changes the sum by summed[n].
    ahead = summed[:horizon][::-1]
    decay = PERSISTENCE ** np.arange(_MEMORY)
    shock = math.sqrt(1 - PERSISTENCE**2)
    from_row = [shock * signal.row * float(decay[: horizon - i] @ ahead[i:]) for i in range(1, horizon)]
    variance = float((ahead**2).sum()) + sum(part**2 for part in from_row)
    past = summed[horizon:] - summed[:-horizon]
    past_row = shock * signal.row * np.convolve(decay, response)[:_MEMORY]
    past_row = np.concatenate([[0.0], np.cumsum(past_row)])
    mean_row = past_row[horizon:] - past_row[:-horizon]
    total = variance + float((past**2).sum()) + float((mean_row**2).sum())
    row = signal.row * float(decay[:horizon] @ ahead)
    return _Forecast(_mean_weights(a, horizon), row, variance, total)


def _response(a: Array, length: int) -> Array:
    """Return the change of the return n bars after a unit shock, n = 0 .. length - 1."""
    response = np.zeros(length)
    response[0] = 1.0
    for n in range(1, length):
        span = min(n, LAGS)
        response[n] = a[:span] @ response[n - span : n][::-1]
    return response


def _mean_weights(a: Array, horizon: int) -> Array:
    """Return the weights of z[t], z[t-1] .. in the expected sum of the next ``horizon`` returns."""
    rows = np.vstack([np.zeros((horizon, LAGS)), np.eye(LAGS)])
    for step in range(horizon - 1, -1, -1):
        rows[step] = a @ rows[step + 1 : step + 1 + LAGS]
    return np.asarray(rows[:horizon].sum(axis=0))


def threshold(signal: Signal, horizon: int, hold: float) -> float:
    """Return the kappa at which HOLD has the probability ``hold``."""
    return NormalDist().inv_cdf((1 + hold) / 2) * math.sqrt(_forecast(signal, horizon).total)


def posterior(z: Array, signal: Signal, horizon: int, kappa: float | Array, u: Array | None = None) -> Array:
    """Return P(SELL), P(HOLD), P(BUY) of the label at each bar, [n, 3], given all bars up to it.

    ``z`` float64 [n] are standardised returns; ``u`` float64 [n] is needed if the signal has a row part. ``kappa`` may
    differ by bar. Rows 0 to 46 are NaN, since their past is not in ``z``.
    """
    forecast = _forecast(signal, horizon)
    mean = np.full(len(z), np.nan)
    if len(z) >= LAGS:
        mean[LAGS - 1 :] = np.convolve(z, forecast.weights, mode="valid")
    if signal.row:
        if u is None:
            raise ValueError("the signal has a row part; the posterior needs u")
        mean = mean + forecast.row * u
    return _classes(mean, math.sqrt(forecast.variance), np.broadcast_to(kappa, mean.shape))


def _classes(mean: Array, deviation: float, kappa: Array) -> Array:
    sell = _normal((-kappa - mean) / deviation)
    buy = _normal((mean - kappa) / deviation)
    return np.stack([sell, 1 - sell - buy, buy], axis=1)


def _normal(x: Array) -> Array:
    scaled = (x / math.sqrt(2)).tolist()
    return 0.5 * np.array([math.erfc(-value) for value in scaled])


def labels(z: Array, horizon: int, kappa: float | Array) -> NDArray[np.int64]:
    """Return the class (0 SELL, 1 HOLD, 2 BUY) of the sum of the ``horizon`` returns after each bar, [n]; -1 for the
    last bars, whose future is not in ``z``."""
    classes = np.full(len(z), -1, dtype=np.int64)
    if len(z) > horizon:
        ahead = np.lib.stride_tricks.sliding_window_view(z[1:], horizon).sum(axis=1)
        bound = np.broadcast_to(kappa, z.shape)[: len(ahead)]
        classes[: len(ahead)] = 1 + (ahead > bound) - (ahead < -bound)
    return classes


def attainable(signal: Signal, horizon: int, hold: float) -> Bound:
    """Return the bound for the label with P(HOLD) = ``hold``.

    The posterior is averaged over the stationary normal distribution of its mean, by the trapezoidal rule over +-10
    standard deviations.
    """
    forecast = _forecast(signal, horizon)
    kappa = threshold(signal, horizon, hold)
    node = np.linspace(-10, 10, 4001)
    weight = np.exp(-(node**2) / 2)
    weight /= weight.sum()
    spread = math.sqrt(max(forecast.total - forecast.variance, 0.0))
    chances = _classes(node * spread, math.sqrt(forecast.variance), np.full(node.shape, kappa))
    entropy = -(np.where(chances > 0, chances, 1.0) * np.log(np.where(chances > 0, chances, 1.0))).sum(axis=1)
    prior = ((1 - hold) / 2, hold, (1 - hold) / 2)
    prior_loss = -sum(part * math.log(part) for part in prior)
    # The best forecast is never worse than the prior; a negative value is a rounding error.
    skill = max(prior_loss - float(weight @ entropy), 0.0) if spread else 0.0
    return Bound(prior, prior_loss, skill, float(weight @ chances.max(axis=1)), max(prior))
