"""``conclave observatory``: show the installation in a browser."""

import click

from services.console.context import settings_of
from services.console.run.service import observatory_of, supervised
from shared.runtime.process import stop_on_signal
from shared.settings import address_of
from shared.telemetry import logs


@click.command()
@click.pass_context
@supervised
async def observatory(context: click.Context) -> None:
    """Serve pages and an API that show the installation, until Ctrl-C. They change nothing.

    `conclave up` runs it too, if its extra is installed. Its address: the section [observatory] of the settings."""
    settings = settings_of(context)
    run = observatory_of()
    logs.configure("observatory")
    click.echo(f"the observatory: {address_of(settings.observatory)}. Ctrl-C ends it")
    async with stop_on_signal() as stop:
        await run(settings, stop)
