"""``conclave access | prepare``: a server whose users may do no more than they must."""

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from services.console.context import settings_of
from services.console.run.installation import found_if_new
from services.console.run.service import tried_again
from shared.log.redis import RedisLog, library
from shared.server import certificates, users
from shared.settings import redis_url_with_password

ADMIN = "admin"


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--tls", "names", multiple=True, metavar="HOST", help="Also a certificate for a server of this name.")
def access(folder: Path, names: Sequence[str]) -> None:
    """Write FOLDER/users.acl, the server's access-control file, and FOLDER/<user>/password for each user.

    With --tls, FOLDER/tls/server.key and server.crt too, and server.crt beside each password, for a client to know the
    server by. A password or certificate that is there is kept: delete one, run this again and restart to rotate it."""
    hashes = {user: users.hashed(_password(folder / user / "password")) for user in (*users.USERS, ADMIN)}
    file = folder / "users.acl"
    made = file.with_suffix(".new")
    made.write_text("\n".join(users.lines(hashes)) + "\n", encoding="ascii")
    made.replace(file)
    click.echo(f"{file}: {len(hashes)} users; nobody is the default one")
    if names:
        certificate = certificates.make(folder / "tls", names)
        for user in hashes:
            shutil.copyfile(certificate, folder / user / certificate.name)
        click.echo(f"{certificate}: known to every user")


def _password(file: Path) -> str:
    if not file.exists():
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        os.write(descriptor, secrets.token_urlsafe(32).encode())
        os.close(descriptor)
    return file.read_text(encoding="ascii").strip()


@click.command()
@click.pass_context
@tried_again
async def prepare(context: click.Context, /) -> None:
    """Load the log's functions into the server, and found the installation if that is still to do.

    Once after a release, before its services start, by a user who may: theirs may not. Safe to repeat."""
    settings = settings_of(context)
    log = RedisLog(redis_url_with_password(settings), name="conclave:console")
    try:
        await log.load()
    finally:
        await log.close()
    await found_if_new(settings, "conclave prepare")
    click.echo(f"the server has {library()[0]}, and the installation is founded")
