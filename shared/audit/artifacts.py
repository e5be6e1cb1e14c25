"""Artifacts as a replay finds them: whole, gone, or changed, and then where."""

import hashlib
from typing import Final, NamedTuple

from shared.artifacts import MANIFEST, Artifact, ArtifactError, ArtifactStore, digest_of
from shared.artifacts.manifest import ManifestError, parse
from shared.audit.findings import Layer

SEARCHED: Final = 65_536
"""Bytes up to which a changed file is searched for the one bit that would make it whole again."""
PARTS: Final[dict[str, Layer]] = {
    "scaler": "scaler",
    "temperature": "calibration",
    "centre": "calibration",
    "prior": "calibration",
    "feature_set": "feature",
}
"""Which layer a field of the manifest belongs to; the others are the model's."""


class Examined(NamedTuple):
    """``artifact``: None where it cannot be asked; ``fault`` says why. ``layer``: of what was changed;
    None where it is missing or cannot be run here, which is no difference but no proof either."""

    artifact: Artifact | None
    fault: str = ""
    layer: Layer | None = None


def examine(store: ArtifactStore, digest: str) -> Examined:
    """The artifact, or what is wrong with it."""
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
    """The first file that is not the one its digest names."""
    data = _bytes(store, digest, MANIFEST)
    if data is None or digest_of(data) != digest:
        return _of_manifest(data, digest)
    try:
        manifest = parse(data)
    except ManifestError:
        return None  # the digest fits: it is as it was written, and loading it will say why it is not for here
    for entry in manifest.files:
        found = _bytes(store, digest, entry.name)
        if found is None:
            return "model", f"{entry.name} is missing"
        if digest_of(found) != entry.sha256:
            where = flipped(found, entry.sha256)
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
    """The byte of which one bit must be flipped for ``data`` to have this digest; None where no single
    one does, or the file is too long to look."""
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
    """The top-level field of a JSON object that byte ``at`` lies in, by looking at braces alone, so that a
    changed byte does not matter much."""
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
