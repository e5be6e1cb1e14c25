"""Events as the gate-evaluator writes them."""

from typing import Any

from schemas.codec import Encoded, Envelope, encode


def caused(envelope: Envelope[Any], event: Any) -> Encoded:
    """Encode an event for ``gates`` that follows from another one."""
    return encode("gates", event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)
