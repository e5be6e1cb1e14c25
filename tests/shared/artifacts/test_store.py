import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shared.artifacts import (
    GOLDEN,
    MANIFEST,
    ArtifactError,
    ArtifactStore,
    Golden,
    Manifest,
    Scaler,
    digest_of,
    golden_bytes,
)
from shared.artifacts.artifact import build, read_golden

Parts = tuple[Manifest, dict[str, bytes]]
Make = Callable[..., Parts]


def test_an_artifact_is_named_by_the_sha256_of_its_manifest(store: ArtifactStore, make: Make) -> None:
    digest = store.save(*make())
    assert digest == digest_of((store.path / digest / MANIFEST).read_bytes())
    assert store.list() == (digest,)
    assert store.load(digest).digest == digest


def test_what_is_loaded_is_what_was_saved(store: ArtifactStore, make: Make) -> None:
    manifest, files = make()
    loaded = store.load(store.save(manifest, files)).manifest
    assert msgspec.structs.replace(loaded, files=()) == manifest
    assert [entry.name for entry in loaded.files] == sorted(files)


def test_saving_twice_changes_nothing(store: ArtifactStore, make: Make) -> None:
    digest = store.save(*make())
    before = {path: path.stat().st_mtime_ns for path in (store.path / digest).iterdir()}
    assert store.save(*make()) == digest
    assert {path: path.stat().st_mtime_ns for path in (store.path / digest).iterdir()} == before


def test_another_value_gives_another_name(store: ArtifactStore, make: Make) -> None:
    assert store.save(*make(1.0)) != store.save(*make(2.0))


def test_a_save_that_is_cut_short_leaves_nothing_to_load(
    store: ArtifactStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: Path, target: Path) -> Path:
        raise OSError("no power")

    monkeypatch.setattr(Path, "rename", cut)
    with pytest.raises(OSError, match="no power"):
        store.save(*make())
    assert store.list() == ()
    assert list(store.path.iterdir()) == []


def test_a_second_writer_of_the_same_bytes_is_no_error(
    store: ArtifactStore, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest = ArtifactStore(tmp_path / "other").save(*make())
    whole, rename = tmp_path / "other" / digest, Path.rename

    def late(self: Path, target: Path) -> Path:
        shutil.copytree(whole, target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert store.save(*make()) == digest
    assert store.load(digest).digest == digest


@pytest.mark.parametrize("name", [MANIFEST, GOLDEN, "weights.json"])
def test_one_changed_byte_is_refused_with_the_name_of_its_file(store: ArtifactStore, make: Make, name: str) -> None:
    digest = store.save(*make())
    path = store.path / digest / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=f"artifact {digest[:12]}.*{name}.*changed"):
        store.load(digest)


@pytest.mark.parametrize("name", [MANIFEST, GOLDEN, "weights.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "link"])
def test_a_damaged_file_is_refused_by_name(
    store: ArtifactStore, make: Make, name: str, damage: str, tmp_path: Path
) -> None:
    digest = store.save(*make())
    path = store.path / digest / name
    if damage == "link":
        shutil.move(path, tmp_path / name)
        path.symlink_to(tmp_path / name)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"")
    with pytest.raises(ArtifactError, match=name):
        store.load(digest)


def test_a_file_that_the_manifest_does_not_name_is_refused(store: ArtifactStore, make: Make) -> None:
    digest = store.save(*make())
    (store.path / digest / "scaler.pkl").write_bytes(b"anything")
    with pytest.raises(ArtifactError, match=r"scaler\.pkl: not in the manifest"):
        store.load(digest)


def test_an_artifact_under_another_name_is_refused(store: ArtifactStore, make: Make) -> None:
    digest = store.save(*make())
    other = "0" * 64
    (store.path / digest).rename(store.path / other)
    with pytest.raises(ArtifactError, match="not the directory's name"):
        store.load(other)


@pytest.mark.parametrize("name", ["latest", "../..", "AB" * 32, ""])
def test_only_a_digest_names_an_artifact(store: ArtifactStore, name: str) -> None:
    with pytest.raises(ArtifactError, match="not a digest"):
        store.load(name)


def test_an_artifact_that_is_not_here_is_said_to_be_missing(store: ArtifactStore, make: Make) -> None:
    store.save(*make())
    with pytest.raises(ArtifactError, match="not in the store, which has 1 artifacts"):
        store.load("0" * 64)


def test_the_newest_file_means_nothing(store: ArtifactStore, make: Make) -> None:
    first, second = store.save(*make(1.0)), store.save(*make(2.0))
    os.utime(store.path / first)
    assert store.list() == tuple(sorted((first, second)))


def test_a_prefix_finds_one_artifact_or_none(store: ArtifactStore, make: Make) -> None:
    digest = store.save(*make())
    assert store.find(digest[:6]) == digest
    for prefix in ("", "zz"):
        with pytest.raises(ArtifactError, match="expected one"):
            store.find(prefix)


def refused(store: ArtifactStore, manifest: Manifest, files: dict[str, bytes], why: str) -> None:
    with pytest.raises(ArtifactError, match=why):
        store.save(manifest, files)
    assert store.list() == ()


def test_what_would_not_load_is_not_saved(store: ArtifactStore, make: Make) -> None:
    manifest, files = make()
    replace, scaler = msgspec.structs.replace, Scaler((0.0,) * 3, (1.0,) * 3, 8.0)
    wider = replace(manifest.feature_set, names=("first", "second", "third"))
    scaled = replace(manifest, feature_set=wider, scaler=scaler)
    refused(store, scaled, files, "coefficients of 2 features, manifest names 3")
    refused(store, replace(manifest, feature_set=wider), files, "the scaler has 2 means and 2 scales")
    refused(store, replace(manifest, scaler=None), files, "family 'logistic' needs a scaler")
    refused(store, replace(manifest, classes=("BUY", "HOLD", "SELL")), files, "class order")
    refused(store, replace(manifest, temperature=float("nan")), files, "temperature")
    refused(store, replace(manifest, window=2), files, r"takes float32 \[N, 2, 2\]")
    refused(store, manifest, {"weights.json": files["weights.json"]}, "golden")


def test_a_model_that_does_not_move_with_its_input_is_not_saved(store: ArtifactStore, make: Make) -> None:
    refused(store, *make(0.0), "one prediction for 8 different windows")


def test_answers_other_than_the_golden_ones_are_refused(store: ArtifactStore, make: Make) -> None:
    manifest, files = make(1.0)
    refused(store, manifest, {**make(1.0 + 1e-9)[1], "weights.json": files["weights.json"]}, "predictions differ")


def test_with_other_libraries_the_golden_answers_hold_within_a_tolerance(store: ArtifactStore, make: Make) -> None:
    manifest, files = make(1.0)
    elsewhere = msgspec.structs.replace(manifest, libraries={"numpy": "1.0"})
    close = {**make(1.0 + 1e-9)[1], "weights.json": files["weights.json"]}
    artifact = store.load(store.save(elsewhere, close))
    assert not artifact.exact
    far = {**make(1.001)[1], "weights.json": files["weights.json"]}
    with pytest.raises(ArtifactError, match="allowed: 1e-06"):
        store.save(elsewhere, far)


def test_a_load_in_pieces_checks_the_same(store: ArtifactStore, make: Make) -> None:
    manifest, files = make(1.0)
    pauses: list[None] = []
    digest = store.save(manifest, files)
    loaded = store.load(digest, lambda: pauses.append(None))
    assert len(pauses) == len(files) + 1 + len(read_golden(files[GOLDEN]).windows)
    bad = {**make(1.0 + 1e-9)[1], "weights.json": files["weights.json"]}
    with pytest.raises(ArtifactError, match="predictions differ"):
        build(digest, loaded.manifest, bad, lambda: pauses.append(None))


def test_a_file_that_is_hashed_in_pieces_is_refused_where_one_byte_changed(
    store: ArtifactStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.artifacts.store.PIECE", 7)
    pauses: list[None] = []
    digest = store.save(*make())
    store.load(digest, lambda: pauses.append(None))
    weights = store.path / digest / "weights.json"
    data = weights.read_bytes()
    assert len(pauses) > len(data) // 7
    weights.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(ArtifactError, match=r"weights\.json: .*changed since training"):
        store.load(digest, lambda: pauses.append(None))


def test_a_pickle_among_the_golden_vectors_is_refused(store: ArtifactStore, make: Make) -> None:
    manifest, files = make()
    objects = np.array([print], dtype=object)
    bad = {**files, GOLDEN: golden_bytes(Golden(objects, objects, objects))}
    refused(store, manifest, bad, "Object arrays cannot be loaded")


def test_loading_runs_no_pickle(store: ArtifactStore, make: Make) -> None:
    digest = store.save(*make())
    script = (
        "import pickle, pathlib\n"
        "def refuse(*a, **k): raise SystemExit('a pickle was read')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = refuse\n"
        "from shared.artifacts import ArtifactStore\n"
        f"ArtifactStore(pathlib.Path({str(store.path)!r})).load({digest!r})\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_fields_of_a_manifest_are_refused(store: ArtifactStore, make: Make) -> None:
    digest = store.save(*make())
    data = (store.path / digest / MANIFEST).read_bytes()
    changed = data[:-1] + b',"zz":1}'
    (store.path / digest).rename(store.path / digest_of(changed))
    (store.path / digest_of(changed) / MANIFEST).write_bytes(changed)
    with pytest.raises(ArtifactError, match="unknown field `zz`"):
        store.load(digest_of(changed))


def test_a_manifest_can_be_read_alone(store: ArtifactStore, make: Make) -> None:
    digest = store.save(*make())
    (store.path / digest / "weights.json").unlink()
    assert store.manifest(digest).family == "logistic"
