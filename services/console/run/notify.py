"""``conclave notify``: a notice by hand, to see whether it arrives."""

import click

from services.watcher.main import Channels, addresses
from shared.settings import SettingsError


@click.command()
@click.argument("text")
@click.pass_context
def notify(context: click.Context, text: str) -> None:
    """Sends TEXT to every address that the watcher sends notices to, and says who took it."""
    channels = Channels(addresses())
    if not channels.names:
        raise SettingsError("no address is named: set $CONCLAVE_NOTIFY, or $CONCLAVE_NOTIFY_FILE with a file of them")
    taken = [channels.send(number, "conclave: a test", text, "info") for number in range(len(channels.names))]
    for name, took in zip(channels.names, taken, strict=True):
        click.echo(f"{name}: {'taken' if took else 'NOT taken; check the address, and the network from here'}")
    context.exit(0 if all(taken) else 1)
