"""Keys: made once, read by their owner only, and good for nothing but what they signed."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from shared.control.signing import KeyFileError, generate, load_private, sign, verify


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "ada.pem"
    generate(path)
    return path


def test_a_key_is_the_one_that_was_made(tmp_path: Path) -> None:
    public = generate(tmp_path / "ada.pem")
    signer = load_private(tmp_path / "ada.pem")
    assert (signer.key_id, signer.public_key) == ("ada", public)
    assert load_private(tmp_path / "ada.pem", "ops").key_id == "ops"
    assert len(public) == 64


def test_a_key_is_its_owners_alone(key: Path, tmp_path: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    shared = tmp_path / "shared.pem"
    shared.write_bytes(key.read_bytes())
    shared.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_private(shared)


def test_a_key_is_never_written_over_another(key: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(KeyFileError, match="exists"):
        generate(key)
    assert key.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_without_a_key_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"bad\.pem: expected an Ed25519 private key"):
        load_private(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"none\.pem"):
        load_private(tmp_path / "none.pem")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ec.pem"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(encoding, form, serialization.NoEncryption())
    )
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="expected an Ed25519 key"):
        load_private(path)


@given(st.binary(max_size=200), st.integers(0), st.integers(0, 7))
def test_a_signature_is_over_every_bit(key: Path, message: bytes, place: int, bit: int) -> None:
    signer = load_private(key)
    signature = sign(message, signer)
    assert signature == sign(message, signer)
    assert verify(message, signature, signer.public_key)
    changed = bytearray(message + b"\0")
    changed[place % len(changed)] ^= 1 << bit
    assert not verify(bytes(changed), signature, signer.public_key)


@given(st.text(max_size=130))
def test_what_is_no_signature_verifies_nothing(key: Path, signature: str) -> None:
    assert not verify(b"halt", signature, load_private(key).public_key)


def test_a_signature_of_another_key_verifies_nothing(key: Path, tmp_path: Path) -> None:
    other = generate(tmp_path / "other.pem")
    assert not verify(b"halt", sign(b"halt", load_private(key)), other)
