"""A feature: a formula with a name."""

from dataclasses import dataclass

from shared.features.expressions import Expression


@dataclass(frozen=True)
class Feature:
    """A named formula. ``source``: where it is defined or comes from, its unit, and remarks."""

    name: str
    expression: Expression
    source: str

    @property
    def lookback(self) -> int:
        """The number of bars on which a value depends, its own bar included."""
        return self.expression.lookback

    @property
    def calendar(self) -> bool:
        """Whether a value depends on the time of the bar alone. Such inputs repeat, and say nothing about a market."""
        return self.expression.fields == {"open_time"}
