"""Copies elsewhere: the same artifact comes back, or none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.archive.store import SegmentStore as Place
from shared.archive.store import open_store
from shared.artifacts import MANIFEST, ArtifactError, ArtifactStore
from shared.artifacts.copies import pull, push


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return open_store(str(tmp_path / "elsewhere") if request.param == "folder" else f"memory://{tmp_path.name}")


def test_what_comes_back_is_what_went(
    store: ArtifactStore, make: Callable[..., Any], place: Place, tmp_path: Path
) -> None:
    digest = store.save(*make())
    assert push(store, digest, place) > 0
    other = ArtifactStore(tmp_path / "other")
    assert pull(other, digest, place) == digest
    assert other.content(digest) == store.content(digest)


@pytest.mark.parametrize("name", [MANIFEST, "golden.npz", "weights.json"])
def test_a_changed_byte_never_comes_back(
    store: ArtifactStore, make: Callable[..., Any], place: Place, name: str, tmp_path: Path
) -> None:
    digest = store.save(*make())
    push(store, digest, place)
    data = bytearray(place.read(f"{digest}/{name}"))
    data[len(data) // 2] ^= 1
    place.put(f"{digest}/{name}", bytes(data))
    other = ArtifactStore(tmp_path / "other")
    with pytest.raises(ArtifactError, match=f"{name} of {digest[:12]}"):
        pull(other, digest, place)
    assert other.list() == ()
