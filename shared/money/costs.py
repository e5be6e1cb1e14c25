"""The prices of the paper venue: where the market is, and what an order pays beyond that."""

from schemas.control import SetExecutionPolicy


def market_price(policy: SetExecutionPolicy, opened: float, closed: float, interval_ms: int) -> float:
    """Return the price ``latency_ms`` after the open of a bar, on the straight line from its open to its close."""
    return opened + (closed - opened) * min(policy.latency_ms / interval_ms, 1.0)


def fill_price(policy: SetExecutionPolicy, side: str, market: float) -> float:
    """Return the price that an order pays: worse than the market by half the spread and the slippage."""
    worse = policy.half_spread + policy.slippage
    return market * (1.0 + worse if side == "BUY" else 1.0 - worse)
