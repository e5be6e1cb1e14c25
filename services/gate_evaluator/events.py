"""Events as the gate-evaluator writes them."""

from typing import Any

from schemas.codec import Envelope, Sealed, seal


def caused(envelope: Envelope[Any], event: Any) -> Sealed:
    """Encode an event for ``gates`` that follows from another one."""
    return seal("gates", event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)
