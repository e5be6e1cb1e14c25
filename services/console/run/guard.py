"""``conclave guard``: keeps the promises of probation. A promotion on probation reverts by itself unless
somebody confirmed it; this is the process that issues the command when its decisions have passed."""

import logging
from pathlib import Path
from typing import Final

import anyio
import click

from services.console.context import settings_of
from services.console.control.issuing import signer_of
from services.console.run.service import tried_again
from shared.control.issuing import ControlWriter, RefusedError, expire_probation
from shared.log import TruncatedLogError
from shared.runtime.process import cancelled_by_signal, die_with_parent, missing_by, opened_log
from shared.runtime.supervision import Supervised
from shared.telemetry import logs

LOOK_EVERY_S: Final = 1.0
ACTOR: Final = "guard"
_log = logging.getLogger(ACTOR)


@click.command()
@click.option(
    "--key", type=click.Path(exists=True, path_type=Path), help="Private key to sign with, where keys are trusted."
)
@click.option("--parent", type=int, hidden=True, help="End when this process ends.")
@click.pass_context
@tried_again
async def guard(context: click.Context, /, key: Path | None, parent: int | None) -> None:
    """Reverts probations that nobody confirmed in time, until Ctrl-C. `up` starts one."""
    if parent is not None:
        die_with_parent(parent)
    logs.configure(ACTOR)
    signer = signer_of(key)
    refused = ""
    async with cancelled_by_signal(), opened_log(settings_of(context), "conclave:guard") as log:
        supervised = Supervised()
        supervised.ready()
        door = ControlWriter(log, signer, missing_by(settings_of(context)))
        while True:
            supervised.alive()
            try:
                for model, issued in (await expire_probation(door, actor=ACTOR)).items():
                    _log.warning("%s: its probation was not confirmed; reverted by version %d", model, issued.version)
            except (RefusedError, TruncatedLogError) as error:
                if str(error) != refused:  # said once, not every second
                    _log.error("a probation is over and could not be reverted: %s", error)
                refused = str(error)
            await anyio.sleep(LOOK_EVERY_S)
