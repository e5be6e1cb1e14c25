"""The feature set that a family is trained on where none is named."""

import pytest
from msgspec.structs import replace

from services.console.training.sets import set_for
from shared.settings import Settings

HOURS = replace(Settings(), features=replace(Settings().features, sets=("window-7", "window-1h-10", "core-28")))
VOLUMES = replace(HOURS, features=replace(HOURS.features, sets=("window-1h-10", "window-1h-12")))
QUARTERS = replace(HOURS, features=replace(HOURS.features, sets=("window-15m-11", "window-7")))
BOTH = replace(Settings(), features=replace(Settings().features, sets=("core-28", "window-7")))


@pytest.mark.parametrize(
    ("family", "settings", "name"),
    [
        ("nhits", BOTH, "window-7"),
        ("patchtst", BOTH, "window-7"),
        ("nhits", HOURS, "window-1h-10"),
        ("nhits", VOLUMES, "window-1h-12"),
        ("patchtst", QUARTERS, "window-15m-11"),
        ("lightgbm", HOURS, "core-28"),
        ("lightgbm", BOTH, "core-28"),
        ("nhits", Settings(), "core-28"),
    ],
)
def test_networks_get_the_set_of_windows_where_the_installation_computes_it(
    family: str, settings: Settings, name: str
) -> None:
    """An artifact of a set that nobody computes would never answer."""
    assert set_for(family, None, settings) == name
    assert set_for(family, "user-8", settings) == "user-8"
