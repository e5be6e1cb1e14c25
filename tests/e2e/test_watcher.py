"""A running installation tells a webhook what happens to it, and tells it once, across the watcher's own end."""

import json
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bench.installation import ONE_PROCESS, Installation, kill, running, wait_until

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "2000")
WHY = ("--reason", "a test of it")


class Desk:
    """Who reads the notices: every line that came in."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.address = ""

    def told(self, words: str) -> int:
        return sum(words in line for line in self.lines)


@pytest.fixture
def desk() -> Iterator[Desk]:
    reader = Desk()

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reader.lines += body["message"].splitlines()
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        reader.address = f"json://127.0.0.1:{server.server_port}/"
        yield reader
        server.shutdown()
        thread.join()


@pytest.mark.long
def test_a_webhook_is_told_of_commands_and_dead_letters_once_across_restarts_of_the_watcher(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = Installation(tmp_path, models=("prior",))

    def kept() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / "var" / "watcher.json").read_text())
        return found

    bad = tmp_path / "BTCUSDT_1m.csv"
    rows = [f"{1_700_000_040_000 + 60_000 * at},1,{high},0.5,1.5,1" for at, high in enumerate((2, 0.1, 2, 0.1))]
    bad.write_text("\n".join(["open_time,open,high,low,close,volume", *rows]))
    with running(installation, ONE_PROCESS):
        installation.train("prior", *BARS)
        installation.conclave("policy", "voting", "quorum_count=1", *WHY)
        monkeypatch.setenv("CONCLAVE_NOTIFY", desk.address)
        watcher = installation.start("run", "watcher")
        assert watcher.stderr is not None
        assert "notices go to: JSON" in watcher.stderr.readline()
        installation.conclave("halt", *WHY)
        wait_until(lambda: desk.told("halted raised"), told=desk.lines)
        installation.conclave("feed", "--bars", str(bad))
        wait_until(lambda: desk.told("dead-letters reported"), told=desk.lines)
        # In between, a crash tells it twice rather than never.
        wait_until(lambda: not kept()["waiting"], told=desk.lines)
        kill(watcher.pid)
        watcher.communicate()
        installation.conclave("resume", *WHY)
        installation.conclave("policy", "voting", "edge=0.2", *WHY)
        installation.conclave("rollback", *WHY)
        watcher = installation.start("run", "watcher")
        wait_until(lambda: desk.told("rolled-back reported") and desk.told("halted resolved"), told=desk.lines)
        watcher.send_signal(signal.SIGTERM)
        watcher.communicate(timeout=30)
        assert watcher.returncode == 0
    assert desk.told("halted raised") == desk.told("rolled-back reported") == desk.told("dead-letters reported") == 1
    assert "by " in next(line for line in desk.lines if "halted raised" in line)
    assert kept()["waiting"] == {}
