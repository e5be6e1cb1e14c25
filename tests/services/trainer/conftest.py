import json
from pathlib import Path

import pytest

from shared.settings import VARIABLE, Settings, load


@pytest.fixture
def settings(empty_redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Those of an installation on an empty server, which the child processes of a trainer find too."""
    file = tmp_path / "conclave.toml"
    state = json.dumps(str(tmp_path / "var"))
    file.write_text(
        f'[redis]\nurl = "{empty_redis_url}"\nephemeral = true\n\n[installation]\nstate = {state}\n\n'
        "[training]\nfree_gb = 0.0\n"
    )
    monkeypatch.setenv(VARIABLE, str(file))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    return load()
