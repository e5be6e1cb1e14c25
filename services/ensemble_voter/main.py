"""The shell of the ensemble-voter: what the runtime hosts."""

from services.ensemble_voter.core import Voter


def service() -> Voter:
    """The service of one partition."""
    return Voter()
