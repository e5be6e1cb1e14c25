"""The page ``docs/reference/features.md``, written from the table: ``python -m shared.features.reference``."""

import sys

from shared.features.kernels import MISSING_WEIGHT
from shared.features.sets import ARITHMETIC, SETS
from shared.features.table import FEATURES, Feature

_HEAD = f"""# Features

Written by `python -m shared.features.reference` from `shared/features/table.py`; a test compares them.

A feature is a pure function of the last *lookback* contiguous bars of one symbol. Arithmetic: {ARITHMETIC}.
Every step is an elementwise IEEE-754 operation in one fixed order, so a value's bits do not depend on how many
bars or symbols are computed at once, nor on the processor.

- `ema(x, n)`: exponential mean with smoothing 2 / (n + 1); `wilder(x, n)`: with 1 / n; `ewma(x, k)`: with 1 - k.
  Each over the `bars` it names, the shortest power of two that leaves out at most {MISSING_WEIGHT:g} of the weight, and
  scaled to weight one. *Missing* is what is left out. An untruncated mean (TA-Lib, pandas) differs by that share of
  its distant past, and by its seed while it is young.
- `mean`, `deviation` (population), `highest`, `lowest`: over the last n bars, this one included.
- `lag(x, n)`: n bars ago.
- Nothing is filled in: 0 / 0, x / 0 and log 0 are undefined, and the bar's vector is withheld with the names.
- A formula is never changed under its name.

## Sets

| set | features | lookback | digest |
|---|---|---|---|
"""


def reference() -> str:
    """The whole page."""
    sets = (f"| `{s.name}` | {', '.join(s.names)} | {s.lookback} | `{s.digest.hex()}` |\n" for s in SETS.values())
    heading = "\n## Table\n\n| name | formula | source | lookback | missing |\n|---|---|---|---|---|\n"
    return _HEAD + "".join(sets) + heading + "".join(_row(feature) for feature in FEATURES.values())


def _row(feature: Feature) -> str:
    missing = f"{feature.term.missing:.1e}" if feature.term.missing else ""
    return f"| `{feature.name}` | `{feature.term.text}` | {feature.source} | {feature.lookback} | {missing} |\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
