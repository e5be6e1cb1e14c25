"""Name voting policies by their content."""

import hashlib
from typing import Final

import msgspec

from schemas.control import SetVotingPolicy

_canonical: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(SetVotingPolicy).decode


def policy_digest(policy: SetVotingPolicy) -> str:
    """Return the SHA-256 of a voting policy's canonical bytes, as 64 hexadecimal digits. A number that was given as an
    integer counts as the float that readers decode."""
    return hashlib.sha256(_canonical(_decode(_canonical(policy)))).hexdigest()
