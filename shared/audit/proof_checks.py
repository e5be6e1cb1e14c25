"""Check a proof pack by itself.

``check`` needs neither server nor store; ``deploy/proof/check_proof.py`` does the same without Conclave. The format is
described in ``docs/reference/proof-packs.md``.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from schemas.codec import Envelope, UnreadableError, framed, opened
from schemas.control import Approve, CommandRecorded, Propose
from schemas.gates import GateVerdict, VerdictReached
from schemas.scores import InterferenceChecked, PredictionScored
from shared.audit.proof import canonical
from shared.audit.proof_scores import recount, same
from shared.audit.proof_subject import subject_of
from shared.control import ControlError, ControlReader, effect_of
from shared.control.signing import verify
from shared.log import Entry, StreamKey
from shared.log.leases import id_order
from shared.runtime.service import Received

PROMOTION: Final = "promotion"
"""The name of the check that only tells what speaks against the promotion."""
SIGNATURE: Final = "signature"
"""The name of the check that an unsigned pack fails."""
OF_OTHERS: Final = frozenset({"budget", "staleness"})
"""Gates that depend on scores of other candidates, which a pack does not have."""
Judge = Callable[[Sequence[Envelope[CommandRecorded]], Sequence[Received], str], Sequence[GateVerdict]]
"""Returns the gates on a voting policy, by its digest, after scores under the commands of a log. The core of the
gate-evaluator is such a function, and is passed in."""


class ProofCheck(NamedTuple):
    """The result of one check of a pack."""

    what: str
    good: bool
    detail: str


def reservations(forced: bool, verdicts: Sequence[str]) -> str:
    """Return what speaks against a promotion, in words: that it was forced, and which of its ``verdicts`` are not
    passed; '' if nothing does."""
    failed, passed = verdicts.count("failed"), verdicts.count("passed")
    parts = ["FORCED: promoted without a passed verdict"] if forced else []
    if failed:
        parts.append(f"FAILED: {failed} of {len(verdicts)} verdicts on it")
    elif not passed:
        parts.append("no verdict on it passed")
    return "; ".join(parts)


def check(pack: Any, trusted: str | None = None, judge: Judge | None = None) -> list[ProofCheck]:
    """Check a pack by itself and return the results.

    Checked are its signature, the id of each entry, the control chain with its commands and signatures, and that the
    evidence supports what the body states. What speaks against the promotion comes first: a pack may hold that proves a
    forced promotion of a model that failed. ``trusted`` is the public key that must have signed it. Without ``trusted``
    the signature only shows that the file is complete and unchanged since it was signed. With ``judge`` the verdict on
    a voting policy is reached again from the scores in the pack."""
    try:
        body, evidence = pack["body"], pack["evidence"]
        checks = [_of_signature(pack, trusted), *_of_evidence(evidence), *_of_control(body, evidence)]
        why = reservations(bool(body["what"]["forced"]), [verdict["overall"] for verdict in body["gates"]])
        first = [ProofCheck(PROMOTION, True, why)] if why else []
        return [*first, *checks, *_of_claims(body, evidence), *_of_scores(body, evidence, judge)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [ProofCheck("format", False, f"not a proof pack: {type(error).__name__}: {error}")]


def _of_signature(pack: Any, trusted: str | None) -> ProofCheck:
    if "signature" not in pack:
        return ProofCheck(SIGNATURE, False, "the pack is not signed")
    unsigned = {name: value for name, value in pack.items() if name != "signature"}
    key = unsigned["signed_by"]["public_key"]
    if not verify(canonical(unsigned), pack["signature"], key):
        return ProofCheck(SIGNATURE, False, "the signature is not that of its key over this pack")
    if trusted is not None and key != trusted:
        return ProofCheck(SIGNATURE, False, f"signed by {key[:12]}, not by the trusted key")
    return ProofCheck(SIGNATURE, True, f"{unsigned['signed_by']['key_id']} ({key[:12]})")


def _entry(item: Any) -> Entry:
    return Entry(
        StreamKey(item["stream"], item["partition"]), item["entry"], base64.b64decode(item["data"], validate=True)
    )


def _of_evidence(evidence: Any) -> Iterator[ProofCheck]:
    wrong = []
    for item in evidence:
        try:
            fault = framed(item["stream"], _entry(item).data).fault
        except UnreadableError as error:
            fault = str(error)
        if fault:
            wrong.append(f"{item['place']}: {fault}")
    yield ProofCheck("evidence", not wrong, "; ".join(wrong)[:500] or f"{len(evidence)} entries, each with its own id")


def _of_control(body: Any, evidence: Any) -> Iterator[ProofCheck]:
    reader = ControlReader()
    entries = sorted(
        (_entry(one) for one in evidence if one["stream"] == "control"), key=lambda e: int(e.id.split("-")[0])
    )
    try:
        for entry in entries:
            reader.take(entry.id, entry.data)
            if reader.state.version == body["version"] and reader.state.head != body["head"]:
                yield ProofCheck("control chain", False, f"version {body['version']} has another head")
                return
    except ControlError as error:
        yield ProofCheck("control chain", False, str(error))
        return
    good = reader.state.version >= body["version"] and reader.state.log_id == body["log_id"]
    past = f"{reader.state.version} versions, {len(reader.refused)} entries not written by a control writer"
    yield ProofCheck("control chain", good, past if good else "it ends before the version that is proved")


def _of_claims(body: Any, evidence: Any) -> Iterator[ProofCheck]:
    """Check the statements of the body against the entries that they name."""
    events = {}
    for claim in evidence:
        try:
            envelope = opened(claim["stream"], _entry(claim).data).envelope
        except UnreadableError:
            continue
        events[envelope.id.hex()] = envelope.event
    artifact = body["what"]["artifact"]
    if "content" in body["what"]:
        good = hashlib.sha256(body["what"]["content"].encode()).hexdigest() == artifact
        yield ProofCheck(
            "voting policy", good, "its digest is that of its content" if good else "its content is another"
        )
    good = any(_promotes(e, body) for e in events.values() if isinstance(e, CommandRecorded))
    yield ProofCheck("what", good, f"{body['what']['model']} {artifact[:12]} by {body['what']['by']}")
    yield from _proposal(events, body)
    wrong = [
        claim["event"][:12]
        for claim in body["loaded"]
        if getattr(events.get(claim["event"]), "artifact", "") != artifact
    ]
    count = len(body["loaded"])
    yield ProofCheck("loaded", not wrong, ", ".join(wrong) or f"{count} worker{'' if count == 1 else 's'}")
    wrong = []
    for verdict in body["gates"]:
        event = events.get(verdict["event"])
        if not isinstance(event, VerdictReached) or (event.artifact, event.overall) != (artifact, verdict["overall"]):
            wrong.append(verdict["event"][:12])
    outcomes = Counter(verdict["overall"] for verdict in body["gates"])
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "none"
    yield ProofCheck("verdicts as recorded", not wrong, ", ".join(wrong) or counts)
    wrong, total, equal = [], 0, 0
    for claim in body["non_interference"]:
        total, equal = total + claim["decisions_in_shadow"], equal + claim["equal_without_it"]
        event = events.get(claim.get("event", ""))
        stated = (claim.get("checked"), claim.get("equal"))
        supported = isinstance(event, InterferenceChecked) and (event.checked, event.equal_so_far) == stated
        if "event" in claim and not (supported and stated[0] == stated[1]):
            wrong.append(f"partition {claim['partition']}")
    yield ProofCheck("non-interference", not wrong and total == equal, ", ".join(wrong) or f"{equal} of {total}")


def _promotes(entry: CommandRecorded, body: Any) -> bool:
    """Return whether an entry is the promotion that the body states: of this artifact, by this person."""
    what, promoted = body["what"], subject_of(effect_of(entry.command))
    return (
        entry.version == body["version"]
        and promoted is not None
        and (promoted.model, promoted.artifact, promoted.forced) == (what["model"], what["artifact"], what["forced"])
        and promoted.policy == ("content" in what)
        and (entry.actor, entry.reason, entry.at) == (what["by"], what["why"], what["at"])
        and isinstance(entry.command, Approve) == ("proposed" in what)
    )


def _proposal(events: dict[str, Any], body: Any) -> Iterator[ProofCheck]:
    """Check who proposed what a second person approved. That they are two persons is checked with the chain."""
    if "proposed" not in body["what"]:
        return
    stated = body["what"]["proposed"]
    good = any(
        isinstance(e, CommandRecorded)
        and isinstance(e.command, Propose)
        and (e.version, e.actor, e.reason, e.at, e.key)
        == (stated["version"], stated["by"], stated["why"], stated["at"], stated["key"])
        for e in events.values()
    )
    yield ProofCheck("proposed", good, f"as version {stated['version']} by {stated['by']}")


def _of_scores(body: Any, evidence: Any, judge: Judge | None) -> Iterator[ProofCheck]:
    """Count the scores of each verdict on a voting policy again, and reach the verdict again."""
    if not body.get("scores"):
        return
    digest, control = body["what"]["artifact"], list[Envelope[CommandRecorded]]()
    scores: dict[int, list[Received]] = {}
    verdicts: dict[str, VerdictReached] = {}
    for entry in sorted(map(_entry, evidence), key=lambda each: id_order(each.id)):
        envelope = opened(entry.place.stream, entry.data).envelope
        match envelope.event:
            case CommandRecorded():
                control.append(envelope)
            case PredictionScored() as score if score.artifact.hex() == digest:
                scores.setdefault(entry.place.partition, []).append(Received("scores", entry.id, envelope))
            case VerdictReached() as verdict:
                verdicts[envelope.id.hex()] = verdict
            case _:
                pass
    for claim in body["scores"]:
        counted, verdict = scores.get(claim["partition"], []), verdicts[claim["verdict"]]
        where = f"partition {claim['partition']}"
        if "left_out" in claim:
            yield ProofCheck("scores", True, f"{where}: not in the pack: {claim['left_out']}")
            continue
        names = [each.envelope.id.hex() for each in counted]
        good = len(counted) == verdict.scores and (names[0], names[-1]) == (verdict.first_score, verdict.last_score)
        found = recount(each.envelope.event for each in counted)
        words = f"{len(counted)} of the verdict, gain {1000 * found['gain']:+.2f} mnat a row"
        yield ProofCheck("scores", good and same(claim, found), f"{where}: {words}")
        if judge is not None:
            yield _judged_again(verdict, judge(control, counted, digest), where)


def _judged_again(verdict: VerdictReached, gates: Sequence[GateVerdict], where: str) -> ProofCheck:
    again = {gate.name: gate for gate in gates}
    known = [gate for gate in verdict.gates if gate.name not in OF_OTHERS]
    wrong = [gate.name for gate in known if again.get(gate.name) != gate]
    detail = f"differ: {', '.join(wrong)}" if wrong else f"{len(known)} gates follow from the scores"
    return ProofCheck("verdict reached again", not wrong, f"{where}: {detail}")
