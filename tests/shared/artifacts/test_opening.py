"""An artifact is opened in a child process first, once: what crashes a library there is refused here."""

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from shared.artifacts import (
    GOLDEN,
    MANIFEST,
    ArtifactError,
    ArtifactStore,
    FileEntry,
    Golden,
    digest_of,
    golden_bytes,
    opening,
)
from shared.artifacts.manifest import canonical
from shared.confined import ConfinedError, confined
from shared.families import FAMILIES
from shared.families.base import Sample

Make = Callable[..., Any]
LOAD = (
    "import sys; from pathlib import Path; from shared.artifacts import ArtifactStore; "
    "ArtifactStore(Path(sys.argv[1])).{}(sys.argv[2])"
)


@pytest.fixture
def pulled(store: ArtifactStore, make: Make, tmp_path: Path) -> tuple[ArtifactStore, str]:
    """A store with an artifact that another machine made, and its digest."""
    digest = store.save(*make())
    (store.path / digest).rename(tmp_path / "there")
    other = ArtifactStore(tmp_path / "other")
    other.path.mkdir()
    (tmp_path / "there").rename(other.path / digest)
    return other, digest


def fitted(family: str, **params: int) -> bytes:
    """Return the file of a small model over two features."""
    chosen, rng = FAMILIES[family], np.random.default_rng(0)
    x = rng.standard_normal((200, 1, 2)).astype(np.float32)
    y = np.where(np.arange(200) % 5 == 0, 1, (x[:, 0, 0] > 0) * 2).astype(np.int64)
    sample = Sample(x, y, np.ones(200))
    [data] = chosen.save(chosen.fit(sample, sample, 1, {**chosen.defaults, "rounds": 2, **params}).model).values()
    return bytes(data)


def trees() -> bytes:
    """Return an XGBoost model."""
    return fitted("xgboost", max_depth=2, min_child_weight=1)


def damaged(model: bytes) -> bytes:
    """Return the model with a first child far outside of its tree. XGBoost 3.2 follows it."""
    first = model.index(b"left_children[$l#L") + len(b"left_children[$l#L") + 8
    return model[:first] + struct.pack(">i", 0x7FFF_FFF0) + model[first + 4 :]


def stored(store: ArtifactStore, make: Make, model: bytes, family: str = "xgboost", file: str = "model.ubj") -> str:
    """Put an artifact with this model into the store, as ``conclave artifacts pull`` does: its digests are
    right, and nothing has opened it."""
    manifest, files = make()
    golden = Golden(np.zeros((2, 1, 2), np.float32), np.full((2, 3), 1 / 3), np.arange(2, dtype=np.int64))
    files = {file: model, GOLDEN: golden_bytes(golden)}
    entries = tuple(FileEntry(name, digest_of(files[name]), len(files[name])) for name in sorted(files))
    chosen = FAMILIES[family]
    changed = structs.replace(
        manifest,
        family=family,
        params=dict(chosen.defaults),
        scaler=None,
        files=entries,
        libraries=chosen.libraries(),
    )
    data = canonical(changed)
    folder = store.path / digest_of(data)
    folder.mkdir(parents=True)
    for name, content in {**files, MANIFEST: data}.items():
        (folder / name).write_bytes(content)
    return folder.name


def test_a_model_that_crashes_its_library_is_refused_and_the_process_lives(store: ArtifactStore, make: Make) -> None:
    digest = stored(store, make, damaged(trees()))
    command = [sys.executable, "-c", LOAD.format("load"), str(store.path), digest]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "crashed the library (SIGSEGV)" in done.stderr
    command[2] = LOAD.format("opened")
    unprotected = subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    assert unprotected.returncode == -11, "the test has no model that crashes this version of the library"


def test_a_crash_is_noted_and_costs_no_second_child(
    store: ArtifactStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = stored(store, make, damaged(trees()))
    with pytest.raises(ArtifactError, match="SIGSEGV"):
        store.load(digest)
    monkeypatch.setattr(opening, "confined", never)
    with pytest.raises(ArtifactError, match=r"SIGSEGV.*delete that file"):
        ArtifactStore(store.path).load(digest)


def test_a_model_that_never_answers_is_refused(
    store: ArtifactStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node of a LightGBM tree that is its own child."""
    text = fitted("lightgbm", num_leaves=3, min_data_in_leaf=5).decode()
    looped = re.sub(r"(?<=_child=)\S+", lambda first: "0" * len(first[0]), text).encode()  # of the same length
    digest = stored(store, make, looped, "lightgbm", "model.txt")
    monkeypatch.setattr("shared.confined.PROCESSOR_S", 2)
    with pytest.raises(ArtifactError, match="more than 2 s of processor time"):
        store.load(digest)


def test_a_model_that_cannot_be_read_is_refused_with_the_reason_of_its_library(
    store: ArtifactStore, make: Make
) -> None:
    digest = stored(store, make, b"{" + trees()[40:])
    with pytest.raises(ArtifactError, match=r"model\.ubj: not an XGBoost model"):
        store.load(digest)


def never(*_: Any, **__: Any) -> bytes:
    raise AssertionError("a child was started")


def test_an_artifact_is_opened_in_a_child_once_whatever_process_asks(
    pulled: tuple[ArtifactStore, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, digest = pulled
    store.load(digest)
    monkeypatch.setattr(opening, "confined", never)
    store.load(digest)
    ArtifactStore(store.path).load(digest)
    monkeypatch.setattr(opening, "version", lambda: "another release")
    with pytest.raises(AssertionError, match="a child was started"):
        ArtifactStore(store.path).load(digest)


def test_what_was_made_here_needs_no_child(store: ArtifactStore, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "confined", never)
    digest = store.save(*make())
    ArtifactStore(store.path).load(digest)


def test_a_note_that_cannot_be_written_or_read_costs_a_child_and_nothing_else(
    pulled: tuple[ArtifactStore, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, digest = pulled
    started = []

    def counted(*words: str, **options: Any) -> bytes:
        started.append(words)
        return b""

    monkeypatch.setattr(opening, "confined", counted)
    (store.path / opening.FOLDER).write_text("a file in place of the folder")
    store.load(digest)
    ArtifactStore(store.path).load(digest)
    assert len(started) == 2
    (store.path / opening.FOLDER).unlink()
    ArtifactStore(store.path).load(digest)
    [note] = (store.path / opening.FOLDER).iterdir()
    note.write_bytes(b"{torn")
    ArtifactStore(store.path).load(digest)
    ArtifactStore(store.path).load(digest)
    assert len(started) == 4


@pytest.mark.parametrize(("name", "value"), [("LEAST_MB", 16), ("MODULE", "shared.artifacts.no_such_module")])
def test_a_child_that_cannot_run_refuses_for_now(
    name: str, value: object, pulled: tuple[ArtifactStore, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, digest = pulled
    with monkeypatch.context() as changed:
        changed.setattr(opening, name, value)
        with pytest.raises(ArtifactError, match=r"child process|more memory|MemoryError"):
            store.load(digest)
    store.load(digest)


def test_a_child_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.confined.WAIT_S", 0.5)
    with pytest.raises(ConfinedError, match="took more than") as refused:
        confined("timeit", "while True: pass", memory_mb=1024)
    assert refused.value.passing
