"""Write the page ``docs/reference/features.md`` from the table: ``python -m shared.features.reference``."""

import sys

from shared.features.feature import Feature
from shared.features.kernels import MISSING_WEIGHT
from shared.features.sets import ARITHMETIC, SETS
from shared.features.table import FEATURES
from shared.inputs.kinds import BOUNDS, KINDS

_BOUNDS = "".join(f"  | `{'`, `'.join(KINDS[kind])}` | {text} |\n" for kind, text in BOUNDS.items())
_HEAD = f"""# Features

Generated from `shared/features/table.py` and its parts by `python -m shared.features.reference`; a test compares them.

A feature is a pure function of the last *lookback* contiguous bars of one symbol. Arithmetic: {ARITHMETIC}.
Every step is an elementwise IEEE-754 operation in one fixed order. The bits of a value therefore depend neither on
how many bars or symbols are computed at once, nor on the processor.

- `ema(x, n)`: exponential mean with smoothing 2 / (n + 1); `wilder(x, n)`: with 1 / n; `ewma(x, k)`: with 1 - k.
  Each is truncated to `bars` bars, the smallest power of two that leaves out at most {MISSING_WEIGHT:g} of the weight,
  and scaled to weight one. *Missing* is the weight left out. An untruncated mean (TA-Lib, pandas) differs by that
  share of its distant past, and by its initial value in its first bars.
- `mean`, `deviation` (population), `highest`, `lowest`: over the last n bars, the current bar included.
- `lag(x, n)`: the value n bars ago.
- `x4(...)`, `x16(...)`, `x96(...)`: the formula over trailing bars of so many bars each, the newest of which ends with
  the current bar ([ADR 132](../adr/0132-longer-bars-end-with-the-current-one.md)).
- `ref(BTCUSDT, ...)`: the formula over the bars of BTCUSDT that close with the bar and before it
  ([ADR 140](../adr/0140-bars-of-references.md)). A set takes such features by name: `z_return_1@BTCUSDT` is the
  feature of that symbol, `z_return_1_lag_2@BTCUSDT` its value two bars ago, `z_return_1_less@BTCUSDT` the symbol's own
  value less that of BTCUSDT. The same goes for any feature of the table but those of the time, and for any
  symbol. A bar at whose close a reference has no bar has no vector of the set.
- `trades`, `quote_volume` and `taker_volume` are known of the bars of some sources only (kline files of Binance, its
  live bars). A bar without them has no vector of a set that reads them, and the reason names what it lacks.
- `funding`, `open_interest`, `mark`, `index`, `bid`, `bid_size`, `ask` and `ask_size` are inputs of the symbol, not
  fields of its bars ([ADR 141](../adr/0141-inputs-at-a-bar.md)). The value at a bar is that of the last sample whose
  time is not after the bar's close, and which was read before the bar. It must be younger than a bound; otherwise the
  bar has no vector of a set that reads it, and the reason names the input.

  | input | a sample must be younger than |
  |---|---|
{_BOUNDS}
- Undefined values (0 / 0, x / 0, log 0) are never replaced. The bar's vector is withheld, with the names of the
  undefined features.
- The formula of a name never changes.

## Sets

| set | features | lookback | digest |
|---|---|---|---|
"""


def reference() -> str:
    """Return the text of the page."""
    sets = (f"| `{s.name}` | {', '.join(s.names)} | {s.lookback} | `{s.digest.hex()}` |\n" for s in SETS.values())
    heading = "\n## Table\n\n| name | formula | source | lookback | missing |\n|---|---|---|---|---|\n"
    return _HEAD + "".join(sets) + heading + "".join(_row(feature) for feature in FEATURES.values())


def _row(feature: Feature) -> str:
    missing = f"{feature.expression.missing:.1e}" if feature.expression.missing else ""
    return f"| `{feature.name}` | `{feature.expression.text}` | {feature.source} | {feature.lookback} | {missing} |\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
