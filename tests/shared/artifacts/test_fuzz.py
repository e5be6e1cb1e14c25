"""Every file of an artifact of every family, with every way of being wrong: refused by its name."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.toy import market
from shared.artifacts import MANIFEST, ArtifactError, ArtifactStore
from shared.families import FAMILIES
from shared.features import SETS
from shared.training.fitting import train

SHORT: dict[str, dict[str, int | float]] = {
    "xgboost": {"rounds": 10},
    "lightgbm": {"rounds": 10},
    "patchtst": {"window": 8, "patch": 4, "stride": 4, "epochs": 2, "batch": 128, "rate": 0.01},
    "nhits": {"window": 8, "epochs": 2, "batch": 128, "hidden": 16, "rate": 0.01},
}
SMALL = 6_000
BARS = {name: market(name, 1200, 0.6, seed) for seed, name in enumerate(("AAA", "BBB"))}


@pytest.fixture(scope="module", params=FAMILIES)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactStore, str]:
    store = ArtifactStore(tmp_path_factory.mktemp("fuzz"))
    params = SHORT.get(request.param)
    trained = train(BARS, request.param, SETS["user-8"], source="toy", horizon=3, params=params)
    return store, store.save(trained.manifest, trained.files)


def files_of(stored: tuple[ArtifactStore, str]) -> list[Path]:
    store, digest = stored
    return sorted((store.path / digest).iterdir())


def refused(stored: tuple[ArtifactStore, str], path: Path, data: bytes) -> None:
    store, digest = stored
    whole = path.read_bytes()
    assert data != whole
    path.write_bytes(data)
    try:
        with pytest.raises(ArtifactError, match=path.name):
            store.content(digest)
    finally:
        path.write_bytes(whole)


def test_every_byte_of_a_small_file_counts(stored: tuple[ArtifactStore, str]) -> None:
    small = [path for path in files_of(stored) if path.stat().st_size <= SMALL]
    assert MANIFEST in {path.name for path in small}
    store, digest = stored
    for path in small:
        whole = path.read_bytes()
        with path.open("r+b", buffering=0) as file:  # in place: a file that is written anew twice a byte takes minutes
            for at, byte in enumerate(whole):
                os.pwrite(file.fileno(), bytes([byte ^ 1]), at)
                with pytest.raises(ArtifactError, match=path.name):
                    store.content(digest)
                os.pwrite(file.fileno(), bytes([byte]), at)
        assert path.read_bytes() == whole
    store.content(digest)  # whole again


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_byte_flipped_cut_off_added_or_taken_out_is_refused_with_the_name_of_its_file(
    stored: tuple[ArtifactStore, str], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(files_of(stored)))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["flipped", "cut off", "added", "taken out"]))
    match how:
        case "flipped":
            changed = whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :]
        case "cut off":
            changed = whole[:at]
        case "added":
            changed = whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at:]
        case _:
            changed = whole[:at] + whole[at + 1 :]
    refused(stored, path, changed)


def test_a_file_added_or_removed_is_refused_by_its_name(stored: tuple[ArtifactStore, str]) -> None:
    store, digest = stored
    extra = store.path / digest / "extra.pkl"
    extra.write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"extra\.pkl"):
        store.content(digest)
    extra.unlink()
    for path in files_of(stored):
        moved = path.rename(store.path.parent / path.name)
        with pytest.raises(ArtifactError, match=path.name):
            store.content(digest)
        moved.rename(path)
    assert store.load(digest).digest == digest
