import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from bench.graphs import perceptron
from schemas.control import Found
from shared.artifacts import ArtifactStore
from shared.control.issuing import current
from shared.distribution import install_command

WHY = ("--reason", "a test")
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


SEARCH = "train sweep --family xgboost --synthetic sequence --count 1500 --symbols 2 --set user-8 --horizon 3 --jobs 1"
RANGES = "--param rounds=20 --range max_depth=1..4 --range eta=0.05..0.5:log --trials 4 --folds 2"


@pytest.mark.long
def test_a_search_proposes_recipes_and_its_best_become_challengers(desk: Any, tmp_path: Path) -> None:
    desk.issue(Found(1, "log-of-a-test"))
    keep = ("--keep", "2", "--model", "a", "--reason", "wider trees")
    ended = desk(*SEARCH.split(), *RANGES.split(), *keep, "-o", "json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert said["trials"] == 8
    best = [recipe["params"] for recipe, *_ in said["ranked"][:2]]
    assert [one["params"] for one in said["challengers"]] == best
    digests = [one["artifact"] for one in said["challengers"]]
    manifests = [ArtifactStore(tmp_path / "var" / "artifacts").load(digest).manifest for digest in digests]
    assert [manifest.params for manifest in manifests] == best
    state = desk.with_log(current)
    assert list(state.model("a").shadows) == digests
    history = desk("history", "-o", "json").out
    assert re.search(r"wider trees; 1 of 4 recipes on 2 folds, held-out gain [+-][0-9.]+ mnat", history)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--range eta=0.1", "expected NAME=LOW..HIGH"),
        ("--range eta=0.1..0.3:exp", "expected NAME=LOW..HIGH"),
        ("--range eta=0.3..0.1", "expected LOW..HIGH with LOW below HIGH"),
        ("--range depth=1..3", "no parameter depth"),
        ("--range eta=0.1..0.3 --seeds 1,2", "--range searches with one seed"),
        ("--keep 2", "--keep needs --model"),
        ("--keep 2 --model a", "--keep needs --reason"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_any_work(desk: Any, words: str, reason: str) -> None:
    ended = desk(*SEARCH.split(), *words.split())
    assert ended.code == 2
    assert reason in ended.err


def test_what_training_gives_is_one_json_object_with_the_commands_that_followed(desk: Any, tmp_path: Path) -> None:
    desk.issue(Found(1, "log-of-a-test"))
    ended = desk(*f"train files --model a --family prior {SMALL} --promote --weight 1 -o json".split())
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert [command["command"] for command in said["commands"]] == ["register_artifact", "promote"]
    assert said["manifest"]["family"] == "prior"
    assert ArtifactStore(tmp_path / "var" / "artifacts").load(said["artifact"]).manifest.family == "prior"


def bars(folder: Path, name: str, minutes: int, count: int, start: int = 1_733_011_200_000) -> None:
    rows = [
        f"{start + n * minutes * 60_000},10,{12 + n % 3},{9 - n % 4},{10 + n % 3},{5 + n % 7}" for n in range(count)
    ]
    (folder / f"{name}.csv").write_text("\n".join(["open_time,open,high,low,close,volume", *rows]) + "\n")


@pytest.mark.parametrize("words", ["", "--rows 50", "--rows 700"])
@pytest.mark.parametrize("names", [("AUSDT-15m", "AUSDT-1h"), ("AUSDT-15m", "BUSDT-1h")])
def test_a_folder_of_several_intervals_is_refused_however_many_rows_are_used(
    desk: Any, tmp_path: Path, names: tuple[str, str], words: str
) -> None:
    """The first rows may be of one of them."""
    folder = tmp_path / "bars"
    folder.mkdir()
    bars(folder, names[0], 15, 600)
    bars(folder, names[1], 60, 600, 1_733_011_200_000 + 50 * 3_600_000)
    ended = desk("train", "files", "--model", "a", "--family", "prior", "--bars", str(folder), *words.split(), *WHY)
    assert ended.code == 2
    assert "expected bars of one interval, found 15m: AUSDT; 1h: " in ended.err
    chosen = desk(
        *("train", "files", "--model", "a", "--family", "prior", "--bars", str(folder), "--only", "15m", *WHY)
    )
    assert "expected bars of one interval" not in chosen.err


def test_symbols_that_the_first_rows_do_not_reach_are_named(desk: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    bars(folder, "AUSDT-15m", 15, 600)
    bars(folder, "BUSDT-15m", 15, 600, 1_733_011_200_000 + 100 * 3_600_000)
    words = ("train", "files", "--model", "a", "--family", "prior", "--bars", str(folder), *WHY)
    assert "none of the rows that are used is a bar of BUSDT" in desk(*words, "--rows", "300").err
    assert "none of the rows" not in desk(*words).err


FITTED: Final = {"nhits": "--param epochs=400", "xgboost": "--param rounds=100000 --param patience=100000"}


@pytest.mark.parametrize("family", FITTED)
def test_ctrl_c_ends_a_fit_at_once_and_stores_nothing(tmp_path: Path, family: str) -> None:
    """It is sent once the fit has begun, perhaps while a library calls back; the fit would take minutes."""
    words = f"train files --model m --family {family} --synthetic sequence --symbols 2 --count 2500 {FITTED[family]}"
    script = tmp_path / "fit.py"
    script.write_text(
        "import os, signal, sys, threading\n"
        "import shared.families as families\n"
        "from services.console.cli import main\n"
        f"kind = type(families.family_named({family!r}))\n"
        "fit = kind.fit\n"
        "def begun(*args, **options):\n"
        "    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    return fit(*args, **options)\n"
        "kind.fit = begun\n"
        f"sys.argv = ['conclave', *{words.split()!r}, '--reason', 'x']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (130, ["interrupted: nothing is stored"]), done.stderr
    assert not (tmp_path / "var" / "artifacts").exists()


def test_an_error_that_a_library_makes_of_ctrl_c_ends_as_ctrl_c_does(tmp_path: Path) -> None:
    """A callback from C loses the interrupt, and the library then misses what the callback should have given."""
    script = tmp_path / "fit.py"
    script.write_text(
        "import ctypes, os, signal, sys\n"
        "import shared.families as families\n"
        "from services.console.cli import main\n"
        "kind = type(families.family_named('xgboost'))\n"
        "def fit(*args, **options):\n"
        "    @ctypes.CFUNCTYPE(None)\n"
        "    def called_back():\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        [None for _ in range(1000)]\n"
        "    called_back()\n"
        "    raise ValueError('0 rows of 2580')\n"
        "kind.fit = fit\n"
        "words = 'train files --model m --family xgboost --synthetic sequence --symbols 2 --count 1500 --reason x'\n"
        "sys.argv = ['conclave', *words.split()]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (130, ["interrupted: nothing is stored"]), done.stderr


def test_an_onnx_graph_is_imported_and_put_in_shadow(desk: Any, tmp_path: Path) -> None:
    desk.issue(Found(1, "log-of-a-test"))
    file = tmp_path / "theirs.onnx"
    file.write_bytes(perceptron(8, 4, scale=0.5).SerializeToString())
    words = f"import {file} --model a --set user-8 --classes SELL,HOLD,BUY {SMALL} --shadow"
    ended = desk(*words.split())
    assert ended.code == 0, ended.err
    assert "recognised as an ONNX graph of logits (opset ai.onnx 17); largest difference" in ended.err
    (shadow,) = desk.with_log(current).model("a").shadows
    assert ArtifactStore(tmp_path / "var" / "artifacts").load(shadow).manifest.family == "onnx"
    file.write_bytes(perceptron(8, rows=16).SerializeToString())
    refused = desk(*words.split())
    assert refused.code == 2
    assert "it computes a fixed number of rows at once; export it with a batch of 1" in " ".join(refused.err.split())
