"""Copies artifacts to and from another place: a folder, or what fsspec knows (``s3://bucket/prefix``).

An artifact's name fixes its bytes, so a copy needs no trust: what comes back is checked against its digest
before it is stored.
"""

from shared.archive.store import SegmentStore as Place
from shared.artifacts.artifact import ArtifactError
from shared.artifacts.manifest import MANIFEST, ManifestError, digest_of, parse
from shared.artifacts.store import ArtifactStore


def push(store: ArtifactStore, digest: str, place: Place) -> int:
    """Writes the artifact to ``place``, its manifest last, and returns how many bytes went. Files that are there are
    written again. Raises ``ArtifactError``, ``StoreError``."""
    _, files = store.content(digest)
    manifest = (store.path / digest / MANIFEST).read_bytes()
    for name, data in [*sorted(files.items()), (MANIFEST, manifest)]:
        place.put(f"{digest}/{name}", data)
    return len(manifest) + sum(map(len, files.values()))


def pull(store: ArtifactStore, digest: str, place: Place) -> str:
    """Reads the artifact from ``place`` into ``store``, verified and built. Raises ``ArtifactError`` where a byte is
    not what the digest says, ``StoreError`` where it cannot be read."""
    data = place.read(f"{digest}/{MANIFEST}")
    if digest_of(data) != digest:
        raise ArtifactError(f"{MANIFEST} of {digest[:12]} at {place}: its SHA-256 is {digest_of(data)[:12]}; changed")
    try:
        manifest = parse(data)
    except ManifestError as error:
        raise ArtifactError(f"{digest[:12]} at {place}: {error}") from None
    files = {}
    for entry in manifest.files:
        found = place.read(f"{digest}/{entry.name}")
        if digest_of(found) != entry.sha256:
            raise ArtifactError(f"{entry.name} of {digest[:12]} at {place}: changed since training")
        files[entry.name] = found
    return store.save(manifest, files)
