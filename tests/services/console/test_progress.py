"""Long work shows its progress on standard error: how much, how fast, how long still. Short work shows nothing."""

import threading
from pathlib import Path

import click
import pytest

from services.console import progress as module
from services.console.progress import amount, progress, watched


def test_short_work_shows_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with watched(range(5000), "reading", "rows", 5000) as items:
        assert list(items) == list(range(5000))
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a line is written; lines are written soon."""
    event = threading.Event()
    echo = click.echo

    def noticed(text: str, *, err: bool) -> None:
        echo(text, err=err)
        event.set()

    monkeypatch.setattr(module, "SHOW_AFTER_S", 0.01)
    monkeypatch.setattr(click, "echo", noticed)
    return event


def test_long_work_shows_lines_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], written: threading.Event
) -> None:
    with progress("reading", "rows", 4000) as display:
        display.advance(1000)
        assert written.wait(20)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("reading: 1,000 of 4,000 rows, ")
    assert first.endswith(" left")
    assert "a second" in first
    assert ", done in 0:00:0" in last


def test_work_that_counts_nothing_shows_its_time(capsys: pytest.CaptureFixture[str], written: threading.Event) -> None:
    with progress("fitting"):
        assert written.wait(20)
    assert capsys.readouterr().err.startswith("fitting: 0:00:0")


def test_amounts_are_text() -> None:
    assert amount(5, 10, 2.5, "rows") == "5 of 10 rows, 2 a second"
    assert amount(5, None, None, "rows") == "5 rows"
    assert amount(5, 10, 2.5, "") == ""


def test_only_one_module_shows_progress_and_the_demo() -> None:
    """Elsewhere a bar would be shown without a terminal, or not at all."""
    console = Path(module.__file__).parent
    using = {str(path.relative_to(console)) for path in console.rglob("*.py") if "rich.progress" in path.read_text()}
    assert using == {"progress.py", "demo/train.py", "demo/retrain.py"}
