"""Compare what an account at an exchange holds with what follows from the log. Pure."""

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

from schemas.orders import AccountDiffers, AccountReconciled, OrderFilled, OrderPlaced


class Checked(Struct, frozen=True):
    """What an account holds, as an exchange showed it.

    ``version``: the version of the last ``SetExecutionPolicy``, and ``changes``: ``Ledger.changes``, both before the
    exchange was asked. ``balances``: by currency. ``bases``: the base currency of each symbol, '' for one that the
    exchange does not have. ``steps``: the smallest difference of two quantities, by symbol. ``strangers``: open orders
    that are not on the log, in words."""

    venue: str
    version: int
    changes: int
    balances: Mapping[str, float]
    bases: Mapping[str, str]
    steps: Mapping[str, float]
    strangers: tuple[str, ...] = ()


class Ledger(Struct):
    """What an account should hold, as a fold of ``orders``.

    ``venue``, ``version`` and ``balances`` are those of the last ``AccountReconciled``; ``moved`` (by symbol) and
    ``paid`` (by currency) are what orders moved since. ``changes``: how many orders were placed and filled at
    exchanges. ``differs``: the version of ``AccountDiffers``, -1 if there was none."""

    venue: str = ""
    version: int = -1
    balances: dict[str, float] = {}
    moved: dict[str, float] = {}
    paid: dict[str, float] = {}
    changes: int = 0
    differs: int = -1

    def placed(self, order: OrderPlaced) -> None:
        """Note an order at an exchange."""
        if order.limit is not None:
            self.changes += 1

    def filled(self, fill: OrderFilled) -> None:
        """Add what a fill moved."""
        if isinstance(fill.moved, float):
            self.changes += 1
            self.moved[fill.symbol] = self.moved.get(fill.symbol, 0.0) + fill.moved
            for currency, amount in fill.commissions.items() if isinstance(fill.commissions, dict) else ():
                self.paid[currency] = self.paid.get(currency, 0.0) + amount

    def reconciled(self, event: AccountReconciled) -> None:
        """Begin again from what the account holds."""
        self.venue, self.version, self.balances = event.venue, event.control_version, dict(event.balances)
        self.moved, self.paid = {}, {}

    def expected(self, currency: str, symbols: list[str]) -> float:
        """Return how much of a currency, the base of these symbols, the account should hold."""
        moved = sum(self.moved.get(symbol, 0.0) for symbol in symbols)
        return self.balances[currency] + moved - self.paid.get(currency, 0.0)


def compare(
    ledger: Ledger, checked: Checked, positions: Mapping[str, float], at: int
) -> AccountReconciled | AccountDiffers | None:
    """Return what a comparison led to; None if the account holds what it should. ``positions``: what the log says is
    held at the venue, by symbol.

    After each ``SetExecutionPolicy`` the account may hold any amount that covers the positions."""
    if checked.strangers:
        return _differs(checked, "order", "; ".join(checked.strangers), at)
    known = ledger.balances if (ledger.venue, ledger.version) == (checked.venue, checked.version) else {}
    if wrong := list(_wrong(ledger, checked, positions, known)):
        return _differs(checked, "balance", "; ".join(wrong), at)
    currencies = sorted(set(checked.bases.values()) - {""})
    if set(currencies) <= known.keys() and (ledger.venue, ledger.version) == (checked.venue, checked.version):
        return None
    balances = {currency: checked.balances.get(currency, 0.0) for currency in currencies}
    return AccountReconciled(checked.venue, checked.version, balances, at)


def _wrong(
    ledger: Ledger, checked: Checked, positions: Mapping[str, float], known: Mapping[str, float]
) -> Iterator[str]:
    for currency in sorted(set(checked.bases.values()) - {""}):
        symbols = sorted(symbol for symbol, base in checked.bases.items() if base == currency)
        held = checked.balances.get(currency, 0.0)
        tolerance = max(checked.steps.get(symbol, 0.0) for symbol in symbols) / 2
        position = sum(positions.get(symbol, 0.0) for symbol in symbols)
        if currency in known:
            expected = ledger.expected(currency, symbols)
            if abs(held - expected) > tolerance:
                yield f"the account holds {held:.8f} {currency}, and {expected:.8f} follow from the log"
        elif held < position - tolerance:
            yield f"the account holds {held:.8f} {currency}, less than the position of {position:.8f}"


def _differs(checked: Checked, reason: Literal["balance", "order"], detail: str, at: int) -> AccountDiffers:
    return AccountDiffers(
        venue=checked.venue,
        control_version=checked.version,
        reason=reason,
        detail=detail[:2000],
        at=at,
    )
