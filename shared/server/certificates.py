"""Make a self-signed certificate for the server, for installations without a certificate authority.

Every client gets the certificate as a file and trusts it alone; it trusts no authority. The private key is never copied
out of the folder in which it was made. The library is ``cryptography``.
"""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID_FOR: Final = timedelta(days=3650)
"""Validity of a certificate. It is long because only ``conclave doctor`` warns before it ends, and because all clients
must get a new certificate at the same time."""
CERTIFICATE: Final = "server.crt"
KEY: Final = "server.key"


def make(folder: Path, names: Sequence[str]) -> Path:
    """Write a private key and a certificate for a server into ``folder``, and return the path of the certificate.

    ``names`` are the host names and IP addresses of the server. Only the owner can read the key. If ``folder`` has a
    certificate already, nothing is written."""
    certificate, key = folder / CERTIFICATE, folder / KEY
    if certificate.exists():
        return certificate
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    private = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.unlink(missing_ok=True)  # left by an interrupted call: a key without a certificate is of no use
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with open(descriptor, "wb") as file:
        file.write(secret)
    made = certificate.with_suffix(".new")
    made.write_bytes(_signed(private, names).public_bytes(pem))
    made.replace(certificate)
    return certificate


def _signed(private: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> x509.Certificate:
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # a client's clock may be slow
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
