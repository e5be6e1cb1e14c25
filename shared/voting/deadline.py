"""How long a round of a live bar waits for its members, and when a decision is overdue. Pure.

The server's time at the opening of a round decides how much of the deadline is left. From then on a clock that is never
set measures the wait. So a server whose clock is wrong, or is set while the round is open, can neither close a round
too early nor keep it open.
"""

from typing import Final

OVERDUE: Final = 3
"""Bars after which a decision is overdue."""
GRACE_MS: Final = 60_000


def is_overdue(now: int, decided_at: int, interval_ms: int) -> bool:
    """Return whether a live series should have had another decision by ``now`` (ms): its last was written at
    ``decided_at``, more than three bars and a minute ago."""
    return now - decided_at > OVERDUE * interval_ms + GRACE_MS


def wait_ms(close: int, opened_at: int, deadline_ms: int) -> int:
    """Return how long (ms) a round waits that was opened at ``opened_at``, by the server's clock, for a bar that closed
    at ``close``.

    It waits until ``deadline_ms`` after the close of the bar. It waits all of ``deadline_ms`` if it was opened after
    that (a backlog, or a server's clock that is ahead), so that every member has time to predict, and if it was opened
    before the close of its bar: then the server's clock is slow."""
    late = opened_at - close
    return deadline_ms - late if 0 <= late < deadline_ms else deadline_ms
