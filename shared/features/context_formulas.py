"""Formulas over the bars of a named symbol, a reference, which sets of other symbols read.

``ref(symbol, formula)`` is the formula over the reference's bars that close with the bar and before it. It is the same
graph of operations and delays, over fields of another bar: so streaming, batches, restarts and the check for leaks need
nothing new. A set with such formulas has *context*.

``named(name)`` makes a feature from its name. ``term@SYMBOL`` is the term on the reference's bars,
``term_lag_3@SYMBOL`` that value three bars ago, and ``term_less@SYMBOL`` the symbol's own value less the reference's.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from shared.features.expressions import BAR_FIELDS, Expression, lag
from shared.features.feature import Feature

_SYMBOL: Final = "[A-Za-z0-9._:/-]{1,32}"
"""The pattern of ``schemas.common.Symbol``."""
_FIELD: Final = re.compile(rf"ref\(({_SYMBOL}), ({'|'.join(BAR_FIELDS)})\)")
_NAME: Final = re.compile(rf"(?P<term>\w+?)(?:(?P<less>_less)|_lag_(?P<lag>[1-9]\d{{0,2}}))?@(?P<symbol>{_SYMBOL})")


class ReferenceField(NamedTuple):
    """A field of the bars of a reference."""

    symbol: str
    field: str

    @property
    def text(self) -> str:
        """The name of the field among those that a formula reads (``Expression.fields``)."""
        return f"ref({self.symbol}, {self.field})"


def reference_field(name: str) -> ReferenceField | None:
    """Return the field of a reference that a name of ``Expression.fields`` stands for; None for a bar's own field."""
    match = _FIELD.fullmatch(name)
    return ReferenceField(*match.groups()) if match else None


def references_of(fields: Iterable[str]) -> frozenset[str]:
    """Return the symbols whose bars are read by formulas with these fields."""
    return frozenset(field.symbol for name in fields if (field := reference_field(name)) is not None)


def ref(symbol: str, x: Expression) -> Expression:
    """Return the formula ``x`` over the bars of ``symbol`` that close with the bar and before it.

    Raises ``ValueError`` for an impossible symbol, for a formula of the time, which all symbols share, and for one that
    reads a reference already."""
    if not re.fullmatch(_SYMBOL, symbol):
        raise ValueError(f"a reference must be a symbol of 1 to 32 letters, digits and ._:/-, not {symbol!r}")
    return _over_reference(symbol, x, {})


def _over_reference(symbol: str, x: Expression, made: dict[str, Expression]) -> Expression:
    if x.text not in made:
        if x.inputs:
            inputs = tuple([_over_reference(symbol, one, made) for one in x.inputs])
            made[x.text] = replace(x, text=f"ref({symbol}, {x.text})", inputs=inputs)
        elif x.text in BAR_FIELDS:
            made[x.text] = Expression(ReferenceField(symbol, x.text).text)
        else:
            raise ValueError(f"{x.text} is no field of a reference's bars; there are {', '.join(BAR_FIELDS)}")
    return made[x.text]


def named(name: str, terms: Mapping[str, Feature]) -> Feature | None:
    """Return the feature with a name such as ``z_return_1@BTCUSDT``, made of a term; None if the name is not of that
    form or there is no such term. Raises ``ValueError`` for a term of the time."""
    match = _NAME.fullmatch(name)
    term = terms.get(match["term"]) if match else None
    if match is None or term is None:
        return None
    symbol = match["symbol"]
    theirs = ref(symbol, term.expression)
    if match["less"]:
        return Feature(name, term.expression - theirs, f"{term.name} less that of {symbol}")
    if match["lag"]:
        bars = int(match["lag"])
        return Feature(name, lag(theirs, bars), f"{term.name} of {symbol}, {bars} bars before")
    return Feature(name, theirs, f"{term.name} of {symbol}")
