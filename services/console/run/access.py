"""``conclave access | prepare``: users of the server with the least permissions that they need."""

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from services.console.context import settings_of
from services.console.run.installation import found_if_new
from services.console.run.service import supervised
from shared.log.durability import check_server
from shared.log.redis import RedisLog, library
from shared.server import certificates, users
from shared.settings import redis_url_with_password


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--tls", "names", multiple=True, metavar="HOST", help="Also write a certificate for a server with this host name."
)
def access(folder: Path, names: Sequence[str]) -> None:
    """Write FOLDER/users.acl, the access-control file of the server, and FOLDER/<user>/password for each user.

    With --tls also FOLDER/tls/server.key and server.crt, and a copy of server.crt next to each password, with which
    clients verify the server. Existing passwords and certificates are kept: to rotate one, delete it, run this command
    again and restart."""
    hashes = {user: users.hashed(_password(folder / user / "password")) for user in (*users.USERS, *users.ADDED)}
    file = folder / "users.acl"
    made = file.with_suffix(".new")
    made.write_text("\n".join(users.lines(hashes)) + "\n", encoding="ascii")
    made.replace(file)
    click.echo(f"{file}: {len(hashes)} users; the default user is off")
    if names:
        try:
            certificate = certificates.make(folder / "tls", names)
        except ValueError as error:
            raise click.BadParameter(f"{', '.join(names)!r:.200}: no host names: {error}", param_hint="--tls") from None
        for user in hashes:
            shutil.copyfile(certificate, folder / user / certificate.name)
        click.echo(f"{certificate}: copied to every user")


def _password(file: Path) -> str:
    if not file.exists():
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        os.write(descriptor, secrets.token_urlsafe(32).encode())
        os.close(descriptor)
    return file.read_text(encoding="ascii").strip()


@click.command()
@click.pass_context
@supervised
async def prepare(context: click.Context, /) -> None:
    """Load the functions of the log into each master, and create the installation if it does not exist yet.

    Run it once for each release, before its services start, and again when a master joined a cluster. It needs a user
    with that permission: the users of the services do not have it. Repeating it is safe."""
    settings = settings_of(context)
    url = redis_url_with_password(settings)
    await check_server(url, settings.redis.ephemeral)
    log = RedisLog(url, name="conclave:console")
    try:
        await log.load()
    finally:
        await log.close()
    await found_if_new(settings, "conclave prepare")
    click.echo(f"the server has {library()[0]}, and the installation is founded")
