"""The screen Money: what did each line gain, in all and by symbol? Pure."""

from collections.abc import Sequence

from msgspec import Struct, structs

from services.observatory.computing import AskedMoney, Computation, Computations
from shared.audit.computing import ComputeProgress
from shared.money.figures import MoneyFigures
from shared.money.recorded import MoneyReport
from shared.report.money import money_tables, symbol_tables
from shared.report.tables import TextTable


class MoneyScreen(Struct, frozen=True):
    """The money of the ensemble as recorded, and of every model and shadow alone. ``state``: none, waiting, running,
    done, failed or cancelled. ``report``: what `conclave money -o json` shows. ``busy``: something else is computed."""

    state: str
    began: int
    ended: int
    reason: str
    progress: ComputeProgress | None
    report: MoneyReport | None
    busy: bool


def screen(computations: Computations) -> MoneyScreen:
    """Return the screen."""
    counted = computations.find(AskedMoney.name) or Computation(AskedMoney(), 0, state="none")
    running = computations.running
    return MoneyScreen(
        state=counted.state,
        began=counted.began,
        ended=counted.ended,
        reason=counted.reason,
        progress=counted.progress,
        report=counted.result if isinstance(counted.result, MoneyReport) else None,
        busy=running is not None and running is not counted,
    )


def tables(lines: Sequence[MoneyFigures], line: str, symbol: str) -> list[TextTable]:
    """Return the tables: of all lines, and by symbol those of one ``line``, or of one ``symbol``."""
    if symbol:
        of_symbol = [
            structs.replace(each, symbols={name: one for name, one in each.symbols.items() if name == symbol})
            for each in lines
        ]
        return [*symbol_tables(of_symbol)]
    return [*money_tables(lines), *symbol_tables([each for each in lines if each.line == line])]
