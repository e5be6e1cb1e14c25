"""Feature sets: ordered lists of features with a name and a digest."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

from shared.features.context_formulas import named, references_of
from shared.features.derivatives import BOOK, DERIVATIVES
from shared.features.feature import Feature
from shared.features.flow import FLOW
from shared.features.table import FEATURES
from shared.features.timeframes import TIMEFRAMES
from shared.inputs.kinds import Kind, kinds_of

ARITHMETIC: Final = "float64 by doubling, rounded to float32 (1)"
"""How formulas are evaluated. The number is increased when a kernel's tree of operations changes: the last bits of
values then change, so the digest of the set must change."""


@dataclass(frozen=True)
class FeatureSet:
    """An ordered list of features. Sets with the same digest give the same bytes for the same bars."""

    name: str
    features: tuple[Feature, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features' names, in the order of the vector."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def lookback(self) -> int:
        """The number of contiguous bars on which a vector depends, its own bar included."""
        return max(feature.lookback for feature in self.features)

    @cached_property
    def references(self) -> tuple[str, ...]:
        """The symbols whose bars a vector of any symbol depends on, in order."""
        return tuple(sorted(references_of(self._fields)))

    @cached_property
    def inputs(self) -> tuple[Kind, ...]:
        """The kinds of inputs of the symbol that a vector depends on (``shared.inputs``)."""
        return kinds_of(self._fields)

    @cached_property
    def _fields(self) -> frozenset[str]:
        return frozenset[str]().union(*(one.expression.fields for one in self.features))

    @cached_property
    def definition(self) -> str:
        """The canonical text: the arithmetic, then the name and formula of each feature. It does not contain the name
        of the set."""
        lines = (f"{feature.name} = {feature.expression.text}\n" for feature in self.features)
        return f"features: {ARITHMETIC}\n{''.join(lines)}"

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of ``definition``, 32 bytes."""
        return sha256(self.definition.encode()).digest()

    def __len__(self) -> int:
        return len(self.features)


def feature_set(name: str, *features: str) -> FeatureSet:
    """Return the set of these features, by their names in ``FEATURES`` or as ``context_formulas.named`` reads them.

    Raises ``ValueError`` for an unknown feature, for a feature given twice, or for no features."""
    found = {feature: FEATURES.get(feature) or named(feature, FEATURES) for feature in features}
    unknown = [feature for feature, one in found.items() if one is None]
    if unknown:
        there = f"there are {', '.join(FEATURES)}, and of a reference such as BTCUSDT z_return_1@BTCUSDT"
        raise ValueError(f"feature set {name!r}: no feature {', '.join(unknown)}; {there}")
    if not features or len(found) < len(features):
        raise ValueError(f"feature set {name!r} must name at least one feature, and none twice: {features}")
    return FeatureSet(name, tuple(one for one in found.values() if one is not None))


_BARE: Final = (
    *("price_change", "rsi_14", "macd", "volume_ratio", "momentum_10", "high_low_range", "volume_change"),
    *("volume_ma_ratio", "ema_10", "ema_20", "ema_50", "ema_10_20_cross", "ema_10_50_cross", "volatility_20"),
    *("macd_signal", "macd_hist", "bb_position", "momentum_20"),
)

_CORE: Final = (
    *("z_return_1", "z_return_3", "z_return_5", "z_return_10", "z_return_20", "z_return_60"),
    *("z_range", "z_body", "z_upper_wick", "z_lower_wick"),
    *("rsi_14", "macd_atr", "macd_hist_atr", "stochastic_k_14", "stochastic_d_3"),
    *("ema_10_atr", "ema_20_atr", "log_natr_14", "log_sigma", "sigma_ratio_10"),
    *("bb_position", "bb_width", "volume_share_20", "volume_z_48"),
    *("minute_sin", "minute_cos", "weekday_sin", "weekday_cos"),
)
_WINDOW: Final = ("z_return_1", "z_range", "log_natr_14", "log_sigma", "sigma_ratio_10", "minute_sin", "minute_cos")
_RANGES: Final = ("log_gk_4", "log_gk_16", "log_gk_64", "log_gk_256", "log_rs_16")
_BITCOIN: Final = (
    *("z_return_1@BTCUSDT", "z_return_1_lag_1@BTCUSDT", "z_return_3@BTCUSDT", "z_return_5@BTCUSDT"),
    *("z_return_10@BTCUSDT", "z_return_20@BTCUSDT", "z_return_60@BTCUSDT"),
    *("z_return_5_less@BTCUSDT", "z_return_20_less@BTCUSDT", "log_sigma_less@BTCUSDT"),
)
_BITCOIN_LEAN: Final = (
    *("z_return_1@BTCUSDT", "z_return_3@BTCUSDT", "z_return_60@BTCUSDT", "ema_10_atr@BTCUSDT", "ema_20_atr@BTCUSDT"),
    *("z_return_5_less@BTCUSDT", "z_return_20_less@BTCUSDT", "log_sigma_less@BTCUSDT"),
)
_HOUR: Final = ("log_season_24", "log_season_168", "log_surprise_24")
_QUARTER: Final = ("log_season_96", "log_surprise_96")
_VOLUME: Final = ("volume_share_20", "volume_z_48")

DEFAULT: Final = "core-28"

SETS: Final[dict[str, FeatureSet]] = {
    chosen.name: chosen
    for chosen in (
        feature_set(DEFAULT, *_CORE),
        feature_set("window-7", *_WINDOW),
        feature_set("user-8", "close", "high", "low", "volume", "volatility", "rsi", "macd", "momentum"),
        feature_set("user-18", *_BARE),
        feature_set("user-23", "open", "high", "low", "close", "volume", *_BARE),
        feature_set("season-1h-36", *_CORE, *_RANGES, *_HOUR),
        feature_set("season-15m-30", *_CORE, *_QUARTER),
        feature_set("frames-43", *_CORE, *(feature.name for feature in TIMEFRAMES)),
        feature_set("flow-38", *_CORE, *(feature.name for feature in FLOW)),
        feature_set("window-flow-10", *_WINDOW, "taker_imbalance_1", "log_trades_4_64", "log_trade_size_4_64"),
        feature_set("window-1h-10", *_WINDOW, *_HOUR),
        feature_set("window-1h-12", *_WINDOW, *_HOUR, *_VOLUME),
        feature_set("window-15m-11", *_WINDOW, *_QUARTER, *_VOLUME),
        feature_set("context-36", *_CORE, *_BITCOIN_LEAN),
        feature_set("context-38", *_CORE, *_BITCOIN),
        feature_set("derivatives-39", *_CORE, *(feature.name for feature in DERIVATIVES)),
        feature_set("book-32", *_CORE, *(feature.name for feature in BOOK)),
    )
}
"""All feature sets by name. The first is the default; it has stationary features only. ``window-...`` are for models
whose input is a window of vectors; they omit features that such a model can compute from the window. ``season-...``,
``window-1h-...`` and ``window-15m-...`` are for bars of one length each, since a day is another number of bars at
another length. ``flow-...`` and ``window-flow-...`` need bars with the number of trades, the quote volume and the taker
volume. ``context-...`` need the bars of BTCUSDT as well as those of each symbol (``context-36`` shows a lead better
than ``context-38``, with fewer features), ``derivatives-...`` its funding rates, open interest, mark and index prices,
and ``book-...`` the top of its book. What each gained on real bars is in ``docs/explanation/features.md``."""
