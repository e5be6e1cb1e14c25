"""Generate and load Ed25519 keys, sign commands, verify signatures. The library is ``cryptography``.

    public = generate(Path("ada.pem"))      # the private half stays with its holder
    signer = load_private(Path("ada.pem"), key_id="ada")

The control stream itself records which public keys are trusted, and for which commands (``TrustKey``). Signatures are
deterministic: signing the same entry twice gives the same bytes.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class KeyFileError(ValueError):
    """A file is not a usable private key. The message names the file, and says what to do."""


class Signer(NamedTuple):
    """A private key, and the id under which the control stream trusts its public half."""

    key_id: str
    private: "Ed25519PrivateKey"

    @property
    def public_key(self) -> str:
        """The public half as 64 hexadecimal digits, the form that ``TrustKey`` has."""
        return _public(self.private)


def generate(path: Path) -> str:
    """Write a new private key (PEM, PKCS 8, readable by its owner only) and return its public half. Raises
    ``KeyFileError`` if the file exists: a key is never overwritten."""
    serialization, ed25519 = _library()
    private = ed25519.Ed25519PrivateKey.generate()
    data = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} exists; a key is never written over another: choose another name") from None
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return _public(private)


def load_private(path: Path, key_id: str | None = None) -> Signer:
    """Load a signer from a key file. ``key_id``: the id under which the key is trusted; by default the file's name
    without its suffix. Raises ``KeyFileError``."""
    serialization, ed25519 = _library()
    try:
        if path.stat().st_mode & 0o077:
            raise KeyFileError(f"{path} can be read by others; `chmod 600 {path}`, and assume that they know the key")
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, OSError) as error:
        if isinstance(error, KeyFileError):
            raise
        raise KeyFileError(f"{path}: expected an Ed25519 private key in PEM without a password: {error}") from None
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise KeyFileError(f"{path}: expected an Ed25519 key, found {type(private).__name__}")
    return Signer(key_id or path.stem, private)


def service_signer(state: Path, group: str) -> Signer | None:
    """Return the signer of a service, with the key in ``<state>/keys/<group>.pem``; None if there is no such file."""
    file = state / "keys" / f"{group}.pem"
    return load_private(file, key_id=group) if file.is_file() else None


def sign(message: bytes, signer: Signer) -> str:
    """Return the signature as 128 hexadecimal digits."""
    return signer.private.sign(message).hex()


def verify(message: bytes, signature: str, public_key: str) -> bool:
    """Return whether ``signature`` over ``message`` was made with the private half of ``public_key``. Both are
    hexadecimal; malformed ones return False, and raise nothing."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # signed logs only

    try:
        _key_of(public_key).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _key_of(public_key: str) -> "Ed25519PublicKey":
    _, ed25519 = _library()
    key: Ed25519PublicKey = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
    return key


def _public(private: "Ed25519PrivateKey") -> str:
    return private.public_key().public_bytes_raw().hex()


def _library() -> tuple[Any, Any]:
    """Import the library on first use: an installation without keys does not need it."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # signed logs only
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415  # signed logs only

    return serialization, ed25519
