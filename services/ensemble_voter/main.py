"""The entry point of the ensemble-voter: the runtime calls ``service`` and hosts its result."""

from services.ensemble_voter.core import Voter


def service() -> Voter:
    """Return the ensemble-voter of one partition."""
    return Voter()
