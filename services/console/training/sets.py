"""The feature set that a family is trained on where none is named."""

from typing import Final

import click

from shared.families import complete, family_named
from shared.features import DEFAULT
from shared.features.installed import FEATURE_SETS
from shared.settings import Settings

OF_WINDOWS: Final = "window-7"
"""The set for families that read windows of vectors. On real bars networks gain more with it than with the default set,
in a fifth of the time (docs/explanation/models.md)."""
SET: Final = click.option(
    "--set",
    "set_name",
    type=click.Choice(sorted(FEATURE_SETS)),
    help=f"Feature set. Default: {OF_WINDOWS} for networks if `[features] sets` has it, else {DEFAULT}.",
)


def set_for(family: str, given: str | None, settings: Settings) -> str:
    """Return the name of the set to train ``family`` on: ``given``; without it the best that the installation computes,
    since an artifact of any other set would get no vector."""
    if given is not None:
        return given
    kind = family_named(family)
    windows = kind.window(complete(kind, {})) > 1
    return OF_WINDOWS if windows and OF_WINDOWS in settings.features.sets else DEFAULT
