"""Notices reach a webhook, once; what was not taken waits; addresses are secrets and checked."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from services.console.run.notify import notify
from services.watcher.sending import Channels, addresses, line, message
from services.watcher.state import Notice
from shared.settings import SettingsError

URLS = (
    "json://127.0.0.1:9/x",
    "tgram://123456789:abcdefg_hijklmnop/12315544/",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#desk",
)


@pytest.fixture
def webhook() -> Iterator[tuple[str, Queue[dict[str, Any]], list[int]]]:
    taken: Queue[dict[str, Any]] = Queue()
    answers: list[int] = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = answers.pop(0) if answers else 200
            if status == 200:
                taken.put(body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"json://127.0.0.1:{server.server_port}/conclave", taken, answers
        server.shutdown()
        thread.join()


def notice(alert: str = "dead-letters", kind: str = "reported", more: int = 0) -> Notice:
    return Notice(alert, kind, "feed", f"text of {alert}", 1, more)


def test_a_webhook_takes_a_notice_and_is_asked_again_where_it_did_not(webhook: Any) -> None:
    url, taken, answers = webhook
    answers.append(503)
    channels = Channels([url])
    expected = message([notice("no-quorum", "raised")])
    assert not channels.send(0, *expected)
    assert channels.send(0, *expected)
    body = taken.get_nowait()
    assert body["title"] == "conclave: no-quorum raised"
    assert body["type"] == "failure"
    assert body["message"] == "[critical] no-quorum raised: text of no-quorum"
    assert taken.empty()


@pytest.mark.parametrize(("kind", "shown"), [("html", "&lt;b&gt;"), ("markdown", "\\[x\\]"), ("text", "<b>")])
def test_words_of_people_are_no_markup_where_an_address_takes_any(webhook: Any, kind: str, shown: str) -> None:
    url, taken, _ = webhook
    assert Channels([f"{url}?format={kind}"]).send(0, "a title", "halted by <b>ada</b> [x](http://y)", "info")
    assert shown in taken.get_nowait()["message"]


def test_a_webhook_that_is_not_there_is_a_failure_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    assert not Channels([URLS[0]]).send(0, "title", "body", "info")


def test_webhook_telegram_and_slack_are_known_and_named_without_their_secrets() -> None:
    assert Channels(URLS).names == ["JSON", "Telegram", "Slack"]


def test_an_address_of_an_unknown_kind_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError, match="address 2") as refused:
        Channels([URLS[0], "pigeon://my-secret-token/loft"])
    assert "my-secret-token" not in str(refused.value)


def test_addresses_come_from_a_file_of_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "notify"
    file.write_text(f"# the desk\n{URLS[0]}\n\n  {URLS[1]}\n")
    assert addresses({"CONCLAVE_NOTIFY_FILE": str(file)}) == list(URLS[:2])
    assert addresses({"CONCLAVE_NOTIFY": URLS[0]}) == [URLS[0]]
    assert addresses({"CONCLAVE_NOTIFY_FILE": str(tmp_path / "none")}) == []
    assert addresses({}) == []
    with pytest.raises(SettingsError, match="keep one"):
        addresses({"CONCLAVE_NOTIFY_FILE": str(file), "CONCLAVE_NOTIFY": URLS[0]})
    with pytest.raises(SettingsError, match="cannot read"):
        addresses({"CONCLAVE_NOTIFY_FILE": str(tmp_path)})


def test_many_notices_are_one_message_with_the_gravest_first_and_all_counted() -> None:
    title, body, severity = message([notice()] * 30 + [notice("no-quorum", "raised")])
    assert (title, severity) == ("conclave: no-quorum raised and 30 more", "critical")
    lines = body.splitlines()
    assert lines[0].startswith("[critical] no-quorum raised")
    assert lines[-1] == "and 11 more; see the log of the watcher"
    assert len(lines) == 21


def test_a_resolved_alert_is_information_and_a_line_has_the_number_that_was_counted() -> None:
    assert line(notice("no-quorum", "resolved")).startswith("[info]")
    assert line(notice(more=7)).endswith("(7 more like it)")


def test_a_notice_by_hand_prints_which_address_accepted_it(webhook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, taken, _ = webhook
    runner = CliRunner()
    monkeypatch.setenv("CONCLAVE_NOTIFY", url)
    done = runner.invoke(notify, ["hello"], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "JSON: accepted\n")
    assert taken.get_nowait()["message"] == "hello"
    monkeypatch.setenv("CONCLAVE_NOTIFY", f"{url}\n{URLS[0]}")
    done = runner.invoke(notify, ["hello"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "JSON: accepted\nJSON: NOT accepted" in done.output
    monkeypatch.delenv("CONCLAVE_NOTIFY")
    with pytest.raises(SettingsError, match="no address"):
        runner.invoke(notify, ["hello"], catch_exceptions=False)
