import json
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import ArtifactStore
from shared.distribution import install_command

SMALL = "--synthetic sequence --symbols 2 --count 1500 --reason test"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--param hiddn=3", "no parameter hiddn; it has: window"),
        ("--param hidden", "'hidden'; expected NAME=NUMBER, such as epochs=3"),
        ("--param hidden=many", "'hidden=many'; expected NAME=NUMBER"),
        ("--param window=0", "window is 0, expected a whole number from 1 to 512"),
        ("--preset steps-12", "no preset 'steps-12'; it has: steps-128"),
    ],
)
def test_a_parameter_or_preset_that_is_not_there_is_refused_before_any_work(desk: Any, words: str, said: str) -> None:
    ended = desk(*f"train files --model n --family nhits {SMALL} {words}".split())
    assert ended.code == 2
    assert said in " ".join(ended.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("nhits", "--param window=32 --param epochs=3 --param batch=64 --param seeds=2"),
        ("patchtst", "--preset mixed --param window=32 --param epochs=3 --param batch=64 --param rate=0.003"),
    ],
)
def test_a_network_is_trained_from_the_command_line_and_beats_the_prior(
    desk: Any, tmp_path: Path, family: str, words: str
) -> None:
    ended = desk(*f"train files --model m --family {family} {SMALL} {words}".split())
    assert ended.code == 0, ended.err
    digest = ended.out.split()[-1]
    manifest = ArtifactStore(tmp_path / "var" / "artifacts").load(digest).manifest
    assert (manifest.family, manifest.window, manifest.params["epochs"]) == (family, 32, 3)
    assert manifest.metrics.test.skill.value > 30


@pytest.mark.parametrize(
    ("library", "family", "words"),
    [
        ("sklearn.linear_model", "logistic", f"this needs the library sklearn: {install_command('train')}"),
        ("scipy.optimize", "xgboost", f"this needs the library scipy: {install_command('train')}"),
        ("torch", "nhits", f"this needs the library torch: {install_command('ml')}"),
    ],
)
def test_a_missing_library_is_a_sentence_and_no_traceback(
    desk: Any, monkeypatch: pytest.MonkeyPatch, library: str, family: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    ended = desk(*f"train files --model m --family {family} {SMALL}".split())
    assert ended.code == 2
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_a_sweep_from_the_command_line(desk: Any) -> None:
    words = "train sweep --family logistic --synthetic sequence --count 1500 --symbols 2 --set user-8 --horizon 3"
    ended = desk(*words.split(), "--seeds", "1,2", "--folds", "2", "--jobs", "1", "-o", "json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert said["trials"] == 4
    assert len(said["ranked"]) == 2
