"""Artifacts as a person looks at them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.toy import market
from schemas.control import Found
from services.console.run.processes import console_command
from shared.artifacts import ArtifactStore
from shared.features import SETS
from shared.training.fitting import train


@pytest.fixture
def stored(desk: Any, tmp_path: Path) -> tuple[Any, Path, str]:
    """A console over a store with one artifact, and its folder."""
    store = ArtifactStore(tmp_path / "var" / "artifacts")
    bars = {name: market(name, 1200, 0.6, seed) for seed, name in enumerate(("AAA", "BBB"))}
    trained = train(bars, "logistic", SETS["user-8"], source="toy", horizon=3)
    digest = store.save(trained.manifest, trained.files)
    return desk, store.path / digest, digest


def test_the_list_says_what_each_is_and_what_it_is_worth(stored: Any) -> None:
    desk, _, digest = stored
    shown = desk("artifacts", "list")
    assert shown.code == 0
    assert all(word in shown.out for word in (digest[:12], "logistic", "user-8", "AAA, BBB"))
    (told,) = map(json.loads, desk("artifacts", "list", "-o", "json").out.splitlines())
    assert (told["digest"], told["manifest"]["family"]) == (digest, "logistic")


def test_one_is_shown_by_the_beginning_of_its_digest(stored: Any) -> None:
    desk, _, digest = stored
    assert "skill over the class prior" in desk("artifacts", "show", digest[:6]).out
    assert json.loads(desk("artifacts", "show", digest[:6], "-o", "json").out)["seed"] == 1
    assert desk("artifacts", "show", "zz").code == 2


def test_the_card_says_what_the_manifest_says(stored: Any) -> None:
    desk, folder, digest = stored
    manifest = json.loads((folder / "manifest.json").read_bytes())
    shown = desk("artifacts", "card", digest[:6])
    assert shown.code == 0
    assert f"`{digest}`" in shown.out
    assert manifest["data"]["digest"] in shown.out
    assert f"{manifest['metrics']['test']['skill']['value']:+.1f}" in shown.out
    assert all(f"`{name}`" in shown.out for name in manifest["feature_set"]["names"])


def test_verify_passes_what_is_as_it_was_and_names_the_file_that_is_not(stored: Any) -> None:
    desk, folder, digest = stored
    assert desk("artifacts", "verify").code == 0
    told = json.loads(desk("artifacts", "verify", digest[:6], "-o", "json").out)
    assert told["passed"]
    assert {"same_bits", "across_symbols", "batch_shape"} <= {check["name"] for check in told["checks"]}
    weights = folder / "weights.json"
    weights.write_bytes(weights.read_bytes().replace(b"1", b"2", 1))
    changed = desk("artifacts", "verify")
    assert changed.code == 1
    assert "weights.json" in changed.out
    assert "0 of 1 artifacts passed" in changed.out


def test_what_fails_a_check_may_not_be_registered(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, _, digest = stored
    monkeypatch.setitem(SETS, "user-8", SETS["user-18"])
    ended = desk("register", "m", digest[:6], "--reason", "a test")
    assert ended.code == 1
    assert f"{digest[:12]} may not be registered: feature_set" in ended.err


def test_an_artifact_is_copied_away_and_back(stored: Any, tmp_path: Path) -> None:
    desk, folder, digest = stored
    there = str(tmp_path / "there")
    assert desk("artifacts", "push", digest[:6], there).code == 0
    folder.rename(tmp_path / "lost")
    assert desk("artifacts", "pull", digest, there).code == 0
    assert desk("artifacts", "verify", digest[:6]).code == 0
    assert desk("artifacts", "pull", "ab" * 32, there).code == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_an_output_that_is_not_utf_8_ends_no_command(stored: Any, encoding: str) -> None:
    desk, folder, digest = stored
    desk.issue(Found(1, "log-of-a-test"))
    odd = folder.parents[2] / "b\u0101rs \u4e16" / "conclave.toml"
    odd.parent.mkdir()
    odd.write_text(desk.settings.read_text(), encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "60"}
    for words in (("artifacts", "list"), ("artifacts", "show", digest), ("doctor",)):
        done = subprocess.run(
            console_command("--settings", str(odd), *words), env=environment, capture_output=True, check=False
        )
        assert b"UnicodeEncodeError" not in done.stderr, (encoding, words)
        assert done.stdout
