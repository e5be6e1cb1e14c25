"""Traces and metrics of one service: what the runtime reports after each batch, and to whom.

Without an endpoint nothing is imported, kept or sent (``Silent``). With one, ``shared.telemetry.export`` sends
over OTLP/HTTP from threads of its own: a collector that is slow, down or lying costs telemetry, never
a batch. Nothing of this enters an event's id, and no service reads it back.

A trace needs no ids of its own (see ``schemas.codec``): the trace id is the bar's id, the span id the
first half of the event's, the parent the first half of its cause's. Whether a bar is traced is decided
once, where it enters (``flags_of``), and travels in the envelope.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

from schemas.codec import SAMPLED, Encoded
from shared.telemetry.metrics import MetricReading


class Telemetry(Protocol):
    """What the runtime tells, once a batch; see the module's docstring for what it costs."""

    def batch(
        self,
        *,
        consumed: Mapping[str, int],
        outputs: Sequence[Encoded],
        started_ns: int,
        handled_ns: int,
        committed_ns: int,
        oldest_ms: int | None,
    ) -> None:
        """One committed batch: how many events of each stream it took in, what it wrote, and when it
        was begun, handled and committed (nanoseconds since 1970, ``time.time_ns``). ``oldest_ms``: when
        the oldest event taken in was written, by the server's clock; None where it took in none.
        Never raises for the collector's sake, never waits."""

    def levels(self, readings: Sequence[MetricReading]) -> None:
        """What the gauges of ``shared.telemetry.metrics`` stand at from now on; those before are forgotten."""

    def record(self, name: str, value: float) -> None:
        """One value of a histogram of ``shared.telemetry.metrics``, in its unit."""

    def stop(self) -> None:
        """Sends what is left and ends; blocks for three seconds at most, however the collector is.
        What could not be sent by then is lost. A second call does nothing."""


class Silent:
    """Telemetry that is off."""

    def batch(
        self,
        *,
        consumed: Mapping[str, int],
        outputs: Sequence[Encoded],
        started_ns: int,
        handled_ns: int,
        committed_ns: int,
        oldest_ms: int | None,
    ) -> None:
        """Nothing."""

    def levels(self, readings: Sequence[MetricReading]) -> None:
        """Nothing."""

    def record(self, name: str, value: float) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


def flags_of(symbol: str, open_time: int, share: float) -> int:
    """The envelope flags of a bar that enters: sampled for ``share`` of all bars. The choice is a hash
    of symbol and time, so a feed that starts again flags the same bars, and writes the same bytes."""
    digest = blake2b(f"{symbol}@{open_time}".encode(), digest_size=8).digest()
    return SAMPLED if int.from_bytes(digest) < share * 2**64 else 0
