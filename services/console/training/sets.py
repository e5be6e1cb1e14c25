"""The feature set that a family is trained on where none is named."""

from typing import Final

import click

from shared.families import complete, family_named
from shared.features import DEFAULT
from shared.features.installed import FEATURE_SETS
from shared.settings import Settings

OF_WINDOWS: Final = "window-7"
"""The set for families that read windows of vectors. On real bars it gains less than the default set at 1 hour and more
at 15 minutes, and takes half of the time or less (docs/explanation/features.md)."""
OF_LENGTHS: Final = ("window-1h-12", "window-15m-11", "window-1h-10")
"""The same with the seasons of bars of one length, and with volumes, with which networks gain more on such bars: the
best first. An installation that computes one of them has such bars."""
SET: Final = click.option(
    "--set",
    "set_name",
    type=click.Choice(sorted(FEATURE_SETS)),
    help=f"Feature set. Default: for networks the first of {', '.join((*OF_LENGTHS, OF_WINDOWS))} that "
    f"`[features] sets` has, else {DEFAULT}.",
)


def set_for(family: str, given: str | None, settings: Settings) -> str:
    """Return the name of the set to train ``family`` on: ``given``; without it the best that the installation computes,
    since an artifact of any other set would get no vector."""
    if given is not None:
        return given
    kind = family_named(family)
    windows = kind.window(complete(kind, {})) > 1
    served = [name for name in (*OF_LENGTHS, OF_WINDOWS) if windows and name in settings.features.sets]
    return served[0] if served else DEFAULT
