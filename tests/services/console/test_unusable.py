"""Words and paths that cannot be used end in a sentence and exit code 2, whatever they are."""

import sys
from pathlib import Path

import click
import pytest

from bench.fuzz_commands import leaves
from services.console.cli import cli, main
from services.console.parsing import NewFile
from tests.services.console.conftest import Desk, Ended

ADD = ("observatory", "user", "add", "ada", "--role", "viewer", "--reason", "a test", "--password-file")


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> Ended:
    monkeypatch.setattr(sys, "argv", ["conclave", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return Ended(int(ended.value.code or 0), out, err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "new", "x" * 300), "File name too long"),
        (("keys", "new", "/dev/null/key"), "Not a directory"),
        (("keys", "new", "loop/key"), "Too many levels of symbolic links"),
        (("proof", "check", "/dev/zero"), "is a device, not a file"),
        (("issue", "/dev/zero"), "so it is no command"),
        (
            (*ADD, "/dev/zero"),
            "is no password",
        ),
        ((*ADD, "bytes"), "in UTF-8"),
        (("bars", "check", "."), "no file of bars in it"),
        (("bars", "merge", "bars.csv", "--out", "bars.csv"), "expected the name of a new file"),
        (("bars", "merge", "bars.csv", "--out", "nowhere/all.csv"), "there is no such folder"),
        (("bars", "resample", "bars.csv", "--to", "1h", "--out", "bytes/all.csv"), "there is no such folder"),
        (("whatif", "--html", "nowhere/page.html"), "there is no such folder"),
        (("shadow", "report", "--html", "nowhere/page.html"), "there is no such folder"),
        (("keys", "new", "nowhere/key"), "conclave: nowhere/key"),
        (("no-such-\udcff",), "is not UTF-8"),
        (("halt", "--reason", "\udcff"), "is not UTF-8"),
    ],
)
def test_a_path_that_cannot_be_used_is_a_sentence(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("bytes").write_bytes(b"\x88\xff\n")
    if "merge" in words:
        Path("bars.csv").write_text("mine")
    found = run(capsys, monkeypatch, *words)
    assert found.code == 2, found
    assert said in found.err


def test_every_default_is_a_value_that_its_option_takes() -> None:
    checked = 0
    for words, command in leaves(cli):
        context = click.Context(command)
        for parameter in command.params:
            default = parameter.to_info_dict()["default"]
            if default is None or callable(default):
                continue
            for value in default if isinstance(default, list | tuple) else (default,):
                checked += 1
                assert parameter.type.convert(value, parameter, context) is not None, words
    assert checked > 100


def test_no_file_is_decoded_before_its_command_can_refuse_it() -> None:
    text = [
        (words, parameter.name)
        for words, command in leaves(cli)
        for parameter in command.params
        if isinstance(parameter.type, click.File) and "b" not in parameter.type.mode
    ]
    assert text == []


def test_a_word_that_no_event_may_have_is_a_sentence(two: Desk) -> None:
    found = two("train", "request", "--model", "a", "--family", "prior", "--reason", "x" * 3000)
    assert found.code == 2, found
    assert "at `$.reason`" in found.err
    assert "event: " not in found.err


def test_ctrl_c_while_an_error_is_shown_is_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(_: BaseException) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("services.console.errors.exit_code", pressed)
    found = run(capsys, monkeypatch, "keys", "new", "x" * 300)
    assert (found.code, "interrupted" in found.err) == (130, True)


def test_a_working_folder_that_is_gone_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    found = run(capsys, monkeypatch, "status")
    assert (found.code, "change to another one" in found.err) == (2, True), found


@pytest.mark.parametrize("state", ["a file", "/proc/1"])
def test_nothing_is_trained_where_nothing_can_be_saved(
    state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a file").write_text("")
    Path("conclave.toml").write_text(f'[installation]\nstate = "{state}"\n')
    words = ("--model", "m", "--family", "prior", "--synthetic", "sequence", "--count", "400", "--reason", "a test")
    found = run(capsys, monkeypatch, "train", "files", *words)
    assert (found.code, "no artifact can be saved in" in found.err) == (2, True), found
    assert "training" not in found.err


def test_every_option_for_a_file_to_write_is_checked_before_the_work() -> None:
    written = [
        (words, parameter.name)
        for words, command in leaves(cli)
        for parameter in command.params
        if parameter.name in {"out", "html"} and isinstance(parameter.type, click.Path) and parameter.type.file_okay
    ]
    assert len(written) > 3
    unchecked = [each for each in written if not isinstance(parameter_type(*each), NewFile)]
    assert unchecked == []


def parameter_type(words: tuple[str, ...], name: str) -> object:
    command = dict(leaves(cli))[words]
    return next(parameter.type for parameter in command.params if parameter.name == name)


def test_features_check_without_a_set_leaves_out_those_that_these_bars_have_no_vector_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = ("--synthetic", "null", "--symbols", "1", "--count", "400", "--trials", "2")
    found = run(capsys, monkeypatch, "features", "check", *bars)
    assert (found.code, "user-8: no value moved" in found.out) == (0, True), found
    assert "flow-38: it needs 319 bars without a gap that have trades, quote_volume, taker_volume" in found.err
    found = run(capsys, monkeypatch, "features", "check", "flow-38", *bars)
    assert found.code == 2, found
