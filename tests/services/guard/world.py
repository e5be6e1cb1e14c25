"""A promotion on probation with its decisions, and an account at an exchange that is compared with the log."""

from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.codec import Encoded, encode
from schemas.control import Found, SetExecutionPolicy, TrustKey
from schemas.decisions import CountedBallot, DecisionMade
from schemas.orders import AccountDiffers, AccountEvent, AccountReconciled
from shared.control.issuing import ControlWriter
from shared.control.signing import Signer
from shared.log import Commit, Log, Owner

SIGNER: Final = Signer("guard", Ed25519PrivateKey.from_private_bytes(bytes(32)))
WHY: Final[dict[str, Any]] = {"actor": "ada", "reason": "test"}
FORMER, ON_PROBATION = "a1" * 32, "a2" * 32


def decision(number: int, *, version: int = 5, model: str = "a", artifact: str = ON_PROBATION) -> Encoded:
    ballot = CountedBallot(model, artifact, "0a" * 16, "HOLD", 0.4, (0.3, 0.4, 0.3), 1.0, 0.0, False)
    event = DecisionMade(
        symbol="BTCUSDT",
        interval_ms=60_000,
        open_time=number * 60_000,
        origin="replay",
        control_version=version,
        control_head="0" * 64,
        policy="logpool",
        status="decided",
        action="HOLD",
        confidence=0.4,
        probabilities=(0.3, 0.4, 0.3),
        consensus_count=1,
        total_models=1,
        counted=(ballot,),
        absent=(),
        shadow=(),
        closed_by="complete",
        intent="hold",
    )
    return encode("decisions", event)


async def trading(log: Log) -> None:
    """Version 3 lets two partitions trade in the sandbox of Binance. Commands are signed."""
    writer = ControlWriter(log)
    await writer.issue(Found(2, "log-of-a-test"), **WHY)
    await writer.issue(TrustKey("guard", SIGNER.public_key, "guard"), **WHY)
    await ControlWriter(log, SIGNER).issue(SetExecutionPolicy(venue="binance"), **WHY)


def differs(detail: str = "the account holds 1 BTC", *, version: int = 3) -> AccountEvent:
    return AccountDiffers(venue="binance.sandbox", control_version=version, reason="balance", detail=detail, at=10**12)


def reconciled(version: int = 3) -> AccountEvent:
    return AccountReconciled("binance.sandbox", version, {"BTC": 1.0}, 10**12)


async def compared(log: Log, *events: AccountEvent, partition: int = 0) -> None:
    """An executor that writes what its comparisons found."""
    claim = await log.claim("executor", ("intents",), partition, Owner("here", 1, "executor"), take_over=True)
    await log.commit(claim, Commit(tuple(encode("orders", event) for event in events), {}, {}))
