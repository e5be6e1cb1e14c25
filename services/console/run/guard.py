"""``conclave guard``: run the guard, which reverts unconfirmed promotions and halts for accounts that differ."""

from pathlib import Path

import click

from services.console.context import settings_of
from services.console.control.issuing import signer_of
from services.console.parsing import POSITIVE, FilePath
from services.console.run.service import supervised
from services.guard.main import run
from shared.runtime.process import die_with_parent, stop_on_signal
from shared.telemetry import logs


@click.command()
@click.option("--key", type=FilePath(), help="Private key (PEM) to sign with, if keys are trusted.")
@click.option("--parent", type=POSITIVE, hidden=True, help="End when this process ends.")
@click.pass_context
@supervised
async def guard(context: click.Context, /, key: Path | None, parent: int | None) -> None:
    """Revert promotions on probation that were not confirmed in time, and halt if an account at an exchange differs
    from the log, until Ctrl-C. `conclave up` starts it too."""
    if parent is not None:
        die_with_parent(parent)
    logs.configure("guard")
    async with stop_on_signal() as stop:
        await run(settings_of(context), stop, signer_of(key))
