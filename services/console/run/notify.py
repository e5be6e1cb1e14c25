"""``conclave notify``: send a test notice."""

import click

from services.watcher.main import Channels, addresses
from shared.settings import SettingsError


@click.command()
@click.argument("text")
@click.pass_context
def notify(context: click.Context, text: str) -> None:
    """Send TEXT to every address that the watcher notifies, and show which accepted it.

    Exit code 0 all accepted it, 1 one did not."""
    channels = Channels(addresses())
    if not channels.names:
        raise SettingsError(
            "no address is named: set $CONCLAVE_NOTIFY, or $CONCLAVE_NOTIFY_FILE to a file of addresses"
        )
    accepted = [channels.send(number, "conclave: a test", text, "info") for number in range(len(channels.names))]
    for name, success in zip(channels.names, accepted, strict=True):
        click.echo(f"{name}: {'accepted' if success else 'NOT accepted; check the address, and the network from here'}")
    context.exit(0 if all(accepted) else 1)
