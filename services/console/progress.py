"""Show the progress of long work on standard error: a bar in a terminal, a line now and then elsewhere."""

import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, Protocol, Self, TypeVar

import click
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from services.console.output import printable, terminal

T = TypeVar("T")
SHOW_AFTER_S: Final = 2.0
"""Seconds until work that is still going on is shown at all."""
LINE_EVERY_S: Final = 10.0
"""Seconds between two lines where there is no terminal."""
STEP: Final = 512
"""Items after which the progress of a loop is updated."""


class Display(Protocol):
    """The progress of some work, as it is shown."""

    def advance(self, more: int) -> None:
        """Count what more is done."""

    def update(self, words: str, done: float, total: float | None) -> None:
        """Show other words, and how much of how much is done."""


class _Rate(ProgressColumn):
    """Done, of how many, and how many a second."""

    def render(self, task: Task) -> Text:
        """See ``ProgressColumn``."""
        return Text(amount(task.completed, task.total, task.finished_speed or task.speed, task.fields["unit"]))


def amount(done: float, total: float | None, speed: float | None, unit: str) -> str:
    """Return how much is done, of how much, and the speed, as text; empty if nothing is counted."""
    if not unit:
        return ""
    of = f" of {total:,.0f}" if total else ""
    rate = f", {speed:,.0f} a second" if speed and speed >= 1 else ""
    return f"{done:,.0f}{of} {unit}{rate}"


@contextmanager
def progress(words: str, unit: str = "", total: float | None = None, *, exact: bool = True) -> Iterator[Display]:
    """Show the progress of what is done in this context, and give the display, which is called with what is done.

    Without a ``unit`` only the time that passed is shown. ``total`` may be an estimate (not ``exact``): it is left out
    once more is done than that. Where there is no terminal, nothing is shown of work that ends within ``SHOW_AFTER_S``.
    Standard output is left to the results."""
    console = terminal(stderr=True)
    if not console.is_terminal:
        with _Lines(words, unit, total) as lines:
            yield lines
        return
    counted = (_Rate(), TimeRemainingColumn()) if unit else ()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), *counted, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        yield _Bar(shown, shown.add_task(printable(words), total=total, unit=unit), exact)


@contextmanager
def watched(
    items: Iterable[T], words: str, unit: str, total: float | None = None, *, exact: bool = True
) -> Iterator[Iterator[T]]:
    """Give items one after another, and show how many of them were taken (see ``progress``).

    A context and not a generator alone: an error in what takes the items must end the display before it is shown."""
    with progress(words, unit, total, exact=exact) as display:
        yield _counted(items, display, STEP if total is None or total > 100 * STEP else 1)


def _counted(items: Iterable[T], display: Display, step: int) -> Iterator[T]:
    number = 0
    for number, item in enumerate(items, 1):  # used after the loop
        yield item
        if number % step == 0:
            display.advance(step)
    display.advance(number % step)


@contextmanager
def watched_async(
    items: AsyncIterable[T], words: str, unit: str, total: float | None = None
) -> Iterator[AsyncIterator[T]]:
    """Give items one after another, as ``watched`` does. ``total`` may be an estimate."""
    with progress(words, unit, total, exact=False) as display:
        yield _counted_async(items, display)


async def _counted_async(items: AsyncIterable[T], display: Display) -> AsyncIterator[T]:
    async for item in items:
        yield item
        display.advance(1)


class _Bar:
    """Progress as a bar in a terminal."""

    def __init__(self, shown: Progress, task: TaskID, exact: bool) -> None:
        self._shown, self._task, self._exact = shown, task, exact

    def advance(self, more: int) -> None:
        """See ``Display``."""
        self._shown.advance(self._task, more)
        now = self._shown.tasks[0]
        if not self._exact and now.total is not None and now.completed > now.total:
            self._shown.update(self._task, total=None)

    def update(self, words: str, done: float, total: float | None) -> None:
        """See ``Display``."""
        self._shown.update(self._task, description=printable(words), completed=done, total=total)


class _Lines:
    """Progress as lines of text, the first after ``SHOW_AFTER_S``. A thread writes them, so that work is shown as well
    that counts nothing."""

    def __init__(self, words: str, unit: str, total: float | None) -> None:
        self.words, self.unit, self.total = words, unit, total
        self.done = 0.0
        self.begun = time.monotonic()
        self.shown = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self.shown:
            self._write(f"done in {self._text(time.monotonic() - self.begun)}")

    def advance(self, more: int) -> None:
        """See ``Display``."""
        self.done += more

    def update(self, words: str, done: float, total: float | None) -> None:
        """See ``Display``."""
        self.words, self.done, self.total = words, done, total

    def _watch(self) -> None:
        wait_s = SHOW_AFTER_S
        while not self._ended.wait(wait_s):
            self.shown, wait_s = True, LINE_EVERY_S
            self._write(self._left())

    def _left(self) -> str:
        passed_s = time.monotonic() - self.begun
        if not self.total or not self.done or self.done >= self.total:
            return self._text(passed_s)
        return f"{self._text(passed_s * (self.total - self.done) / self.done)} left"

    def _text(self, seconds: float) -> str:
        return str(timedelta(seconds=round(seconds)))

    def _write(self, end: str) -> None:
        speed = self.done / (time.monotonic() - self.begun)
        of = self.total if self.total and self.done <= self.total else None
        counted = amount(self.done, of, speed, self.unit)
        click.echo(printable(f"{self.words}: {counted}{', ' if counted else ''}{end}"), err=True)
