"""Copy artifacts to and from another location: a folder, or a URL that fsspec supports (``s3://bucket/prefix``).

The digest of an artifact determines its bytes, so the location need not be trusted: a copy is checked against the
digest before it is stored.
"""

from shared.archive.store import SegmentStore
from shared.artifacts.artifact import ArtifactError
from shared.artifacts.manifest import MANIFEST, ManifestError, digest_of, parse
from shared.artifacts.store import ArtifactStore


def push(store: ArtifactStore, digest: str, target: SegmentStore) -> int:
    """Write the artifact to ``target``, its manifest last, and return the number of bytes written.

    Existing files are written again. Raises ``ArtifactError``, ``StoreError``.
    """
    _, files = store.content(digest)
    manifest = (store.path / digest / MANIFEST).read_bytes()
    for name, data in [*sorted(files.items()), (MANIFEST, manifest)]:
        target.put(f"{digest}/{name}", data)
    return len(manifest) + sum(map(len, files.values()))


def pull(store: ArtifactStore, digest: str, source: SegmentStore) -> str:
    """Copy the artifact from ``source`` into ``store``, verified and built, and return its digest.

    Raises ``ArtifactError`` if the bytes do not match the digest, and ``StoreError`` if they cannot be read.
    """
    data = source.read(f"{digest}/{MANIFEST}")
    if digest_of(data) != digest:
        raise ArtifactError(f"{MANIFEST} of {digest[:12]} at {source}: its SHA-256 is {digest_of(data)[:12]}; changed")
    try:
        manifest = parse(data)
    except ManifestError as error:
        raise ArtifactError(f"{digest[:12]} at {source}: {error}") from None
    files = {}
    for entry in manifest.files:
        content = source.read(f"{digest}/{entry.name}")
        if digest_of(content) != entry.sha256:
            raise ArtifactError(f"{entry.name} of {digest[:12]} at {source}: changed since training")
        files[entry.name] = content
    return store.save(manifest, files)
