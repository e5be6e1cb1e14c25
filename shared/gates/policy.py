"""The thresholds of the policy ``default``."""

import math
from typing import Annotated

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Level = Annotated[float, Meta(gt=0.0, lt=1.0)]


class DefaultPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The thresholds.

    ``margin`` is in nats. ``block_ms`` 0 takes the shortest valid block; a day is the strict choice. Times are in days
    and milliseconds; the others are shares and counts."""

    alpha: Level = 0.05
    money_alpha: Level = 0.10
    margin: float = 0.002
    block_ms: Annotated[int, Meta(ge=0)] = 0
    least_rows: int = 200
    least_bars: int = 20
    least_blocks: int = 20
    least_days: float = 7.0
    most_days: float = 60.0
    least_hours: int = 20
    least_distinct: int = 50
    least_distinct_share: Share = 0.05
    least_entropy: float = math.log(8)
    least_deviation: float = 0.002
    least_range: float = 0.005
    most_same: Share = 0.05
    longest_run: int = 50
    least_response: float = 0.001
    most_copied: Share = 0.95
    most_failures: Share = 0.001
    most_unreadable: Share = 0.0
    most_latency_ms: float = 250.0
    most_stale_bars: int = 2
    most_mix_distance: Share = 0.20
    most_bias: float = 0.05
    bias_ignored: float = 0.01
    most_calibration_error: float = 0.03
    slope_from: float = 0.7
    slope_to: float = 1.4
    most_miscalibration: float = 0.02
    loss_alarm: float = 100.0
    soft_failures: int = 1
