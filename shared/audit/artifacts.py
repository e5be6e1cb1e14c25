"""Examine the artifacts that a replay needs: whether each is complete, missing or changed, and where."""

import hashlib
from typing import Final, NamedTuple

from shared.artifacts import MANIFEST, Artifact, ArtifactError, ArtifactStore, digest_of
from shared.artifacts.manifest import ManifestError, parse
from shared.audit.findings import Layer

SEARCHED: Final = 65_536
"""Largest changed file (bytes) that is searched for a single flipped bit."""
PARTS: Final[dict[str, Layer]] = {
    "scaler": "scaler",
    "temperature": "calibration",
    "centre": "calibration",
    "prior": "calibration",
    "feature_set": "feature",
}
"""The layer of each field of the manifest; fields that are not listed belong to the model."""


class Examined(NamedTuple):
    """The result of an examination.

    ``artifact`` is None where it cannot be used; ``fault`` is then the reason. ``layer`` is the layer of what was
    changed. It is None where the artifact is missing or cannot run here: that is no difference, but no proof either."""

    artifact: Artifact | None
    fault: str = ""
    layer: Layer | None = None


def examine(store: ArtifactStore, digest: str) -> Examined:
    """Load an artifact, or return what is wrong with it."""
    folder = store.path / digest
    if not folder.is_dir():
        return Examined(None, f"artifact {digest[:12]} is not in the store")
    changed = _changed(store, digest)
    if changed is not None:
        return Examined(None, f"artifact {digest[:12]}: {changed[1]}", changed[0])
    try:
        return Examined(store.load(digest))
    except ArtifactError as error:
        return Examined(None, f"{error}")


def _changed(store: ArtifactStore, digest: str) -> tuple[Layer, str] | None:
    """Return the layer and a description of the first file that does not match its digest; None where all match."""
    data = _bytes(store, digest, MANIFEST)
    if data is None or digest_of(data) != digest:
        return _of_manifest(data, digest)
    try:
        manifest = parse(data)
    except ManifestError:
        return None  # the digest matches, so it was not changed; loading it raises the reason why it cannot run here
    for entry in manifest.files:
        content = _bytes(store, digest, entry.name)
        if content is None:
            return "model", f"{entry.name} is missing"
        if digest_of(content) != entry.sha256:
            where = flipped(content, entry.sha256)
            spot = "" if where is None else f", one bit of byte {where}"
            return "model", f"{entry.name} was changed{spot}"
    return None


def _of_manifest(data: bytes | None, digest: str) -> tuple[Layer, str]:
    if data is None:
        return "model", f"{MANIFEST} is missing"
    where = flipped(data, digest)
    if where is None:
        return "model", f"{MANIFEST} was changed in more than one bit"
    field = field_at(data, where)
    return PARTS.get(field, "model"), f"{MANIFEST} was changed: one bit of byte {where}, in {field or 'its braces'}"


def _bytes(store: ArtifactStore, digest: str, name: str) -> bytes | None:
    path = store.path / digest / name
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def flipped(data: bytes, sha256: str) -> int | None:
    """Return the index of the byte in which flipping one bit gives ``data`` this digest.

    None where no single bit does, or where the file is longer than ``SEARCHED``."""
    if len(data) > SEARCHED:
        return None
    wanted = bytes.fromhex(sha256)
    before = hashlib.sha256()
    for at, byte in enumerate(data):
        rest = data[at + 1 :]
        for bit in range(8):
            tried = before.copy()
            tried.update(bytes((byte ^ 1 << bit,)) + rest)
            if tried.digest() == wanted:
                return at
        before.update(data[at : at + 1])
    return None


def field_at(manifest: bytes, at: int) -> str:
    """Return the top-level field of a JSON object that contains byte ``at``.

    Only braces and quotes are read, so a changed byte seldom affects the result."""
    depth, quoted, key, start, name = 0, False, True, 0, ""
    for number, byte in enumerate(manifest[: at + 1]):
        char = chr(byte)
        if char == '"':
            quoted = not quoted
            if quoted and depth == 1 and key:
                start = number + 1
        elif quoted:
            continue
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
        elif depth == 1 and char == ":":
            name, key = manifest[start : number - 1].decode(errors="replace"), False
        elif depth == 1 and char == ",":
            key = True
    return name
