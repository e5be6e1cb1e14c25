"""The log over TLS: a server that is known by its certificate, and whatever is not that server."""

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from shared.log import START, StreamKey, UnavailableError
from shared.log.redis import RedisLog
from shared.log.topology import TlsConnection, topology_of
from shared.server.certificates import CERTIFICATE, KEY, make

pytestmark = pytest.mark.anyio
CONTROL = StreamKey("control")


@contextmanager
def encrypted(
    url: str, folder: Path, names: Sequence[str] = ("localhost", "127.0.0.1"), clients: Path | None = None
) -> Iterator[int]:
    """A port that speaks TLS and hands everything on to the plain server at ``url``. ``clients``: the certificate that
    clients have to show."""
    make(folder, names)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    place, over = urlsplit(url), threading.Event()

    class Link(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as link,
                socket.create_connection((str(place.hostname), int(place.port or 0))) as back,
            ):
                while not over.is_set():
                    ready = [link] if link.pending() else select.select([link, back], [], [], 0.01)[0]
                    for taken in ready:
                        data = taken.recv(1 << 16)
                        if not data:
                            return
                        (back if taken is link else link).sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Link) as server:
        # A handshake may wait for a client that closes only when this thread goes on: nobody waits for it in turn.
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            over.set()
            server.shutdown()
            serving.join()


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Services run on uvloop, whose TLS is another."""
    return "asyncio", {"use_uvloop": request.param}


def address(port: int, certificate: Path | None = None, host: str = "localhost") -> str:
    return f"rediss://{host}:{port}/0" + (f"?ssl_ca_certs={quote(str(certificate), safe='')}" if certificate else "")


async def refused(url: str) -> str:
    with pytest.raises(UnavailableError) as caught:
        await topology_of(url).open(0, "test")
    return str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_the_log_works_over_tls(empty_redis_url: str, tmp_path: Path, host: str) -> None:
    with encrypted(empty_redis_url, tmp_path) as port:
        log = RedisLog(address(port, tmp_path / CERTIFICATE, host))
        large = b"x" * 3_000_000  # many records of TLS
        assert await log.append_at(CONTROL, "1-0", large)
        [entry] = await log.read({CONTROL: START}, count=10, block_ms=0)
        assert entry.data == large
        await log.close()


async def test_a_server_is_known_by_its_certificate_alone(empty_redis_url: str, tmp_path: Path) -> None:
    other = make(tmp_path / "other", ["localhost"])
    with encrypted(empty_redis_url, tmp_path) as port:
        assert "CERTIFICATE_VERIFY_FAILED" in await refused(address(port, other))
        assert "CERTIFICATE_VERIFY_FAILED" in await refused(address(port))  # nor by the system's


async def test_a_certificate_for_another_name_is_refused(empty_redis_url: str, tmp_path: Path) -> None:
    with encrypted(empty_redis_url, tmp_path, ["redis"]) as port:
        assert "Hostname mismatch" in await refused(address(port, tmp_path / CERTIFICATE))


async def test_a_server_that_speaks_plain_text_is_refused(empty_redis_url: str, tmp_path: Path) -> None:
    port = urlsplit(empty_redis_url).port
    assert port is not None
    said = await refused(address(port, make(tmp_path, ["localhost"])))
    assert str(port) in said
    assert "do both sides use TLS or neither (rediss:// or redis://" in said


async def test_a_client_without_tls_gets_nothing_from_a_server_with_it(empty_redis_url: str, tmp_path: Path) -> None:
    with encrypted(empty_redis_url, tmp_path) as port:
        said = await refused(f"redis://localhost:{port}/0")
        assert f"no server at localhost:{port}" in said
        assert "do both sides use TLS or neither (rediss:// or redis://" in said


async def test_a_server_that_demands_a_certificate_of_its_clients_gets_it(empty_redis_url: str, tmp_path: Path) -> None:
    mine = make(tmp_path / "mine", ["me"])
    with encrypted(empty_redis_url, tmp_path, clients=mine) as port:
        url = address(port, tmp_path / CERTIFICATE)
        log = RedisLog(f"{url}&ssl_certfile={mine}&ssl_keyfile={mine.with_name(KEY)}", patience_s=0.0)
        assert await log.append_at(CONTROL, "1-0", b"first")
        await log.close()
        log = RedisLog(url, patience_s=0.0)
        with pytest.raises(UnavailableError):
            await log.tail(CONTROL, 1)
        await log.close()


async def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    assert f"no certificate at {tmp_path}/gone.crt" in await refused(address(1, tmp_path / "gone.crt"))


async def test_the_servers_certificate_can_be_looked_at(empty_redis_url: str, tmp_path: Path) -> None:
    with encrypted(empty_redis_url, tmp_path) as port:
        async with await topology_of(address(port, tmp_path / CERTIFICATE)).client(0, "test") as client:
            link = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # has none
            assert isinstance(link, TlsConnection)
            assert ("DNS", "localhost") in link.peer["subjectAltName"]
            await client.connection_pool.release(link)


async def test_a_key_is_its_owners_alone_and_made_once(tmp_path: Path) -> None:
    first = make(tmp_path, ["localhost"]).read_bytes()
    assert make(tmp_path, ["another"]).read_bytes() == first
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o400
