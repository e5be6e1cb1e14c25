"""A recorded installation with real models, made once."""

from pathlib import Path

import pytest

from bench.replayed import Replayed, record


@pytest.fixture(scope="session")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """Two champions, a candidate in shadow that is promoted half way, 1,200 bars."""
    folder: Path = tmp_path_factory.mktemp("artifacts")
    return record(folder, fed=1200)
