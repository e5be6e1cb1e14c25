"""Show the progress of long work on standard error: a bar in a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, TypeVar

import click
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from services.console.output import printable, terminal

T = TypeVar("T")
Advance = Callable[[int], None]
SHOW_AFTER_S: Final = 2.0
"""Seconds until work that is still going on is shown at all."""
LINE_EVERY_S: Final = 10.0
"""Seconds between two lines where there is no terminal."""
STEP: Final = 512
"""Items after which the progress of a loop is updated."""


class _Rate(ProgressColumn):
    """Done, of how many, and how many a second."""

    def render(self, task: Task) -> Text:
        """See ``ProgressColumn``."""
        return Text(amount(task.completed, task.total, task.finished_speed or task.speed, task.fields["unit"]))


def amount(done: float, total: float | None, speed: float | None, unit: str) -> str:
    """Return how much is done, of how much, and the speed, as text."""
    of = f" of {total:,.0f}" if total else ""
    rate = f", {speed:,.0f} a second" if speed and speed >= 1 else ""
    return f"{done:,.0f}{of} {unit}{rate}"


@contextmanager
def progress(words: str, unit: str, total: float | None = None, *, exact: bool = True) -> Iterator[Advance]:
    """Show the progress of what is done in this context, and yield a function that is called with what more is done.

    ``total`` may be an estimate (not ``exact``): it is raised where more is done than that. Where there is no
    terminal, nothing is shown of work that ends within ``SHOW_AFTER_S``. Standard output is left to the results."""
    lines = _Lines(words, unit, total)
    console = terminal(stderr=True)
    if not console.is_terminal:
        yield lines.advance
        lines.end()
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(printable(words), total=total, unit=unit)

        def advance(more: int) -> None:
            shown.advance(task, more)
            now = shown.tasks[0]
            if not exact and now.total is not None and now.completed > now.total:
                shown.update(task, total=None)

        yield advance


def watched(
    items: Iterable[T], words: str, unit: str, total: float | None = None, *, exact: bool = True
) -> Iterator[T]:
    """Yield items, and show how many of them were taken (see ``progress``)."""
    with progress(words, unit, total, exact=exact) as advance:
        taken = 0
        for item in items:
            yield item
            taken += 1
            if taken == STEP:
                advance(taken)
                taken = 0
        advance(taken)


class _Lines:
    """Progress as lines of text, the first after ``SHOW_AFTER_S``."""

    def __init__(self, words: str, unit: str, total: float | None) -> None:
        self.words, self.unit, self.total = words, unit, total
        self.done = 0.0
        self.begun = time.monotonic()
        self.due = self.begun + SHOW_AFTER_S
        self.shown = False

    def advance(self, more: int) -> None:
        """Count what more is done, and write a line if one is due."""
        self.done += more
        now = time.monotonic()
        if now >= self.due:
            self.due, self.shown = now + LINE_EVERY_S, True
            self._write(now, self._left(now))

    def end(self) -> None:
        """Write a last line if there was one before."""
        now = time.monotonic()
        if self.shown:
            self._write(now, f", done in {timedelta(seconds=round(now - self.begun))}")

    def _left(self, now: float) -> str:
        if not self.total or not self.done or self.done >= self.total:
            return ""
        left_s = (now - self.begun) * (self.total - self.done) / self.done
        return f", {timedelta(seconds=round(left_s))} left"

    def _write(self, now: float, end: str) -> None:
        speed = self.done / (now - self.begun) if now > self.begun else None
        of = self.total if self.total and self.done <= self.total else None
        click.echo(printable(f"{self.words}: {amount(self.done, of, speed, self.unit)}{end}"), err=True)
        sys.stderr.flush()
