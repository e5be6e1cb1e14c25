"""Run the executor of a partition: the core, and the desk that sends its orders to an exchange if control names one."""

import os
from collections.abc import Callable, Sequence

import anyio

from schemas.codec import Encoded
from services.executor.core import GROUP, Executor
from services.executor.desk import Desk, OrdersTo
from services.executor.exchange import Account
from services.executor.reconciliation import Checked
from services.executor.settlement import Settled
from services.executor.state import State
from shared.bars.markets import named_markets
from shared.exchanges import read_credentials
from shared.money.venue import EXCHANGES, venue_of
from shared.runtime.host import Host
from shared.runtime.process import opened_log, serve
from shared.runtime.service import Batch
from shared.settings import Settings


class Trading(Executor):
    """The core, and what an exchange has answered since its last batch.

    An answer that is lost before the commit is given again by the desk. ``orders_to``: where orders may go, as of the
    last batch; None before the first."""

    def __init__(self) -> None:
        self._answers: list[Settled | Checked] = []
        self.orders_to: OrdersTo | None = None

    def tell(self, answer: Settled | Checked) -> None:
        """Take an answer, for the next batch."""
        self._answers.append(answer)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """See ``Executor.handle`` and ``Executor.answered``."""
        answers, self._answers = self._answers, []
        outputs = [*super().handle(state, batch), *self.answered(state, batch, answers)]
        self.orders_to = OrdersTo(
            venue=venue_of(state.control.execution),
            version=state.policy_version,
            differs=state.ledger.differs == state.policy_version,
            compared=state.compared,
        )
        return outputs


def service() -> Trading:
    """Return the core of the executor."""
    return Trading()


async def run(settings: Settings, partition: int, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Trade until ``stop``. Credentials are read when control first names an exchange."""
    core = service()
    named = named_markets(settings.exchange.markets)
    markets = {each.symbol: each.market for each in named if each.exchange in EXCHANGES}

    def open_account(venue: str, now: Callable[[], int]) -> Account:
        return Account(venue, read_credentials(os.environ), now, local=settings.exchange.local)

    async with opened_log(settings, f"conclave:{GROUP}:{partition}:orders") as log:

        async def trade(host: Host[State]) -> None:
            await Desk(core, host, log, open_account, markets=markets).run()

        await serve(core, settings, partition, stop, take_over=take_over, alongside=trade)
