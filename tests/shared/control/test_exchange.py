"""Orders go to an exchange only by a signed command."""

import pytest

from schemas.control import Command, CommandRecorded, Found, SetExecutionPolicy, TrustKey
from shared.control import EMPTY, Rejected, State, decide, fold, propose
from shared.control.signing import Signer
from shared.money.venue import EXCHANGES
from tests.shared.control.test_table import SIGNER

AT_EXCHANGE = SetExecutionPolicy(venue="binance")
KEY = TrustKey("ada", SIGNER.public_key, "Ada")


def after(*commands: Command, signer: Signer | None = None) -> State:
    state = EMPTY
    for number, command in enumerate(commands):
        who = signer if not state.open else None
        entry = propose(state, command, command_id=f"c{number}", actor="me", reason="test", at=number, signer=who)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
    return state


def test_no_exchange_without_a_trusted_key() -> None:
    refused = decide(after(Found(1, "1932abcd")), AT_EXCHANGE)
    assert refused is not None
    assert "signed" in refused.reason


def test_with_a_trusted_key_a_signed_command_names_an_exchange_and_its_sandbox_first() -> None:
    state = after(Found(1, "1932abcd"), KEY, AT_EXCHANGE, signer=SIGNER)
    assert (state.execution.venue, state.execution.sandbox) == ("binance", True)


def test_an_unsigned_command_names_none() -> None:
    state = after(Found(1, "1932abcd"), KEY)
    entry = propose(state, AT_EXCHANGE, command_id="c", actor="me", reason="test", at=1)
    assert isinstance(entry, Rejected)


@pytest.mark.parametrize("venue", EXCHANGES)
def test_each_exchange_that_is_known_may_be_named(venue: str) -> None:
    state = after(Found(1, "1932abcd"), KEY, SetExecutionPolicy(venue=venue), signer=SIGNER)
    assert state.execution.venue == venue


@pytest.mark.parametrize(("venue", "why"), [("kraken", "no sandbox"), ("binanceusdm", "futures"), ("bitmex", "paper")])
def test_an_exchange_whose_orders_are_not_known_is_refused_with_its_reason(venue: str, why: str) -> None:
    refused = decide(after(Found(1, "1932abcd"), KEY), SetExecutionPolicy(venue=venue))
    assert refused is not None
    assert why in refused.reason
