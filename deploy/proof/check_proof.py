"""Checks a Conclave proof pack without Conclave: Python 3.11 and the package cryptography, nothing else.

    python check_proof.py proof-12.json [PUBLIC KEY, 64 hexadecimal digits]

It checks that the pack is signed (by that key), that each entry in it has the id of its content, that the control
entries form one chain up to the version that is proved and are signed where keys are trusted, and that what the pack
says of the promotion, of readiness, of verdicts and of non-interference stands in those entries. What was promoted is
an artifact or a voting policy; of a policy it also checks the content by its digest, and counts the scores of the
verdict again. Exit code 0 it holds, 1 it does not. The format is described in docs/reference/proof-packs.md.
"""

import base64
import hashlib
import json
import math
import re
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

GENESIS = "0" * 64
FRAME = re.compile(
    rb'\{"schema":(\d+),"flags":(\d+),"id":"([0-9a-f]{32})","causation":"([0-9a-f]{32})",'
    rb'"correlation":"([0-9a-f]{32})","event":'
)


class BadError(Exception):
    """Something does not hold."""


def holds(condition, message):
    """Raises what does not hold."""
    if not condition:
        raise BadError(message)


def canonical(value):
    """The bytes that are signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def signed_by(public, signature, message):
    """Whether an Ed25519 signature is the key's over a message."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def unpack(data, at=0):
    """One MessagePack value: (value, where it ends)."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    if byte >= 0xE0:
        return byte - 256, at
    if byte in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[byte], at
    numbers = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
               0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}  # fmt: skip
    if byte in numbers:
        size = struct.calcsize(numbers[byte])
        return struct.unpack(numbers[byte], data[at : at + size])[0], at + size
    lengths = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4}
    if byte in lengths:
        size = int.from_bytes(data[at : at + lengths[byte]], "big")
        at += lengths[byte]
    elif 0xA0 <= byte < 0xC0:
        size, byte = byte & 0x1F, 0xD9
    elif 0x90 <= byte < 0xA0:
        size, byte = byte & 0x0F, 0xDC
    else:
        raise BadError(f"MessagePack type {byte:#x} is not one that an event has")
    if byte in (0xDC, 0xDD):
        items = []
        for _ in range(size):
            item, at = unpack(data, at)
            items.append(item)
        return items, at
    part = data[at : at + size]
    return (part if byte in (0xC4, 0xC5, 0xC6) else part.decode()), at + size


def opened(one):
    """(id, payload bytes, event) of an entry; its id must be that of its content."""
    data = base64.b64decode(one["data"], validate=True)
    match = FRAME.match(data)
    if match:
        schema, ids, payload = (
            int(match[1]),
            [bytes.fromhex(match[n].decode()) for n in (3, 4, 5)],
            data[match.end() : -1],
        )
        event = json.loads(payload)
    else:
        holds(data[0] == 0x96, f"{one['place']}: neither JSON nor MessagePack of an event")
        parts, at = [], 1
        for _ in range(5):
            value, at = unpack(data, at)
            parts.append(value)
        schema, ids, payload = parts[0], parts[2:], data[at:]
        event = unpack(payload)[0]
    root = bytes(16) if ids[2] == ids[0] else ids[2]
    salt = f"{one['stream']}/{schema}".encode()
    found = hashlib.blake2b(salt + ids[1] + root + payload, digest_size=16).digest()
    holds(found == ids[0], f"{one['place']}: its id is not that of its content")
    return ids[0].hex(), payload, event


def control_chain(entries, version, head):
    """The entries that chain, by version; each signed by a trusted key wherever one is trusted."""
    chain, now, keys, revoked = {}, GENESIS, {}, set()
    for _, payload, event in entries:
        if event["previous"] != now or event["version"] != len(chain) + 1:
            continue  # not written by a control writer: it does not count
        if keys:
            public = keys.get(event.get("key"))
            bare = payload.replace(b',"signature":"' + event.get("signature", "").encode() + b'"', b"")
            holds(public and signed_by(public, event["signature"], bare), f"version {event['version']}: not signed")
        now = hashlib.sha256(payload).hexdigest()
        chain[event["version"]] = event
        command = event["command"]
        if command["type"] == "trust_key" and command["key_id"] not in revoked:
            keys[command["key_id"]] = command["public_key"]
        if command["type"] == "revoke_key":
            keys.pop(command["key_id"], None)
            revoked.add(command["key_id"])
        if event["version"] == version:
            holds(now == head, f"version {version} has another head")
    holds(version in chain, f"the chain ends at version {len(chain)}, before {version}")
    return chain


def of_two_persons(chain, entry, stated):
    """The command that a second person approved. Its proposal must be another person's entry, as the body states."""
    approval, proposal = entry["command"], chain[entry["command"]["proposal"]]
    said = (proposal["version"], *(proposal.get(name) for name in ("actor", "reason", "at", "key")))
    holds(said == tuple(stated[name] for name in ("version", "by", "why", "at", "key")), "the proposal is another one")
    one = proposal["actor"] == entry["actor"] or ("key" in entry and proposal["key"] == entry["key"])
    holds(not one, "the proposal and its approval are of one person")
    proposed, approved = (
        {name: value for name, value in each["command"].items() if name not in ("ready", "verdict")}
        for each in (proposal["command"], approval)
    )
    holds(proposal["command"]["type"] == "propose" and proposed == approved, "what was approved was not proposed")
    return approval["command"]


def of_scores(claims, evidence, found, policy):
    """Counts the scores of each verdict on a voting policy again."""
    for claim in claims:
        if "left_out" in claim:
            continue
        stream, verdict = found.get(claim["verdict"], ("", {}))
        rows = {}
        for one in evidence:
            if (one["stream"], one["partition"]) == ("scores", claim["partition"]):
                name, _, event = opened(one)
                # prediction.scored: artifact, probabilities, action, outcome, signed return, and those of the incumbent
                if event[0] == "prediction.scored" and event[6].hex() == policy:
                    rows[name] = [event[at] for at in (9, 11, 12, 22, 24, 26)]
        ends = (verdict.get("first_score"), verdict.get("last_score"))
        holds(stream == "gates" and verdict["scores"] == len(rows) and set(ends) <= set(rows), "scores are missing")
        outcome = {"SELL": 0, "HOLD": 1, "BUY": 2}
        gains = [math.log(max(p[outcome[o]], 0.01) / max(q[outcome[o]], 0.01)) for p, _, o, _, q, _ in rows.values()]
        sums = math.fsum(gains), math.fsum(mine - theirs for _, _, _, mine, _, theirs in rows.values())
        acts = sum(action != "HOLD" for _, action, *_ in rows.values())
        means = all(abs(claim[n] - s / len(rows)) <= 1e-9 for n, s in zip(("gain", "return"), sums, strict=True))
        holds(means and (claim["scores"], claim["acts"]) == (len(rows), acts), "the scores come to other sums")


def check(pack, trusted=None):
    """Raises ``BadError``, or says what was proved; first, what speaks against the promotion."""
    whole = {name: value for name, value in pack.items() if name != "signature"}
    public = whole["signed_by"]["public_key"]
    holds(signed_by(public, pack["signature"], canonical(whole)), "the signature is not that of its key over this pack")
    holds(trusted in (None, public), f"it is signed by {public}, not by the key you trust")
    body, found = pack["body"], {}
    control = []
    for one in pack["evidence"]:
        name, payload, event = opened(one)
        found[name] = (one["stream"], event)
        if one["stream"] == "control":
            control.append((int(one["entry"].partition("-")[0]), payload, event))
    chain = control_chain(sorted(control, key=lambda one: one[0]), body["version"], body["head"])
    what, entry = body["what"], chain[body["version"]]
    artifact = what["artifact"]
    command, by = entry["command"], (entry["actor"], entry["reason"], entry["at"])
    if command["type"] == "approve":
        command = of_two_persons(chain, entry, what["proposed"])
    kind, named = ("promote_policy", "policy") if "content" in what else ("promote", "artifact")
    said = (command["type"], command.get(named), *by, command.get("forced", False))
    stated = (kind, artifact, what["by"], what["why"], what["at"], what["forced"])
    holds(said == stated, "the promotion is not the one recorded")
    if "content" in what:
        holds(hashlib.sha256(what["content"].encode()).hexdigest() == artifact, "the content of the policy is another")
        of_scores(body.get("scores", []), pack["evidence"], found, artifact)
    for one in body["loaded"]:
        stream, event = found.get(one["event"], ("", {}))
        holds(stream == "readiness" and event["artifact"] == artifact, f"readiness {one['event']} is not there")
    for one in body["gates"]:
        stream, event = found.get(one["event"], ("", {}))
        good = stream == "gates" and (event["artifact"], event["overall"]) == (artifact, one["overall"])
        holds(good, f"verdict {one['event']} is not there, or says another thing")
    beside = 0
    for one in body["non_interference"]:
        beside += one["decisions_in_shadow"]
        holds(one["decisions_in_shadow"] == one["equal_without_it"], "a decision does not follow without the shadow")
        if "event" in one:
            stream, event = found.get(one["event"], ("", []))
            # interference.checked ends with: equal, detail, checked, equal so far
            good = stream == "scores" and event[0] == "interference.checked"
            good = good and event[-2:] == [one["checked"], one["equal"]]
            holds(good and one["checked"] == one["equal"], "the count of checked decisions is not the one recorded")
    who = f"{what['model']} {artifact[:12]} by {what['by']}"
    proved = f"holds: version {body['version']}: {who}; in shadow beside {beside} decisions"
    return "\n".join(filter(None, (reservations(what["forced"], [one["overall"] for one in body["gates"]]), proved)))


def reservations(forced, verdicts):
    """What speaks against the promotion: a pack may hold that proves a forced promotion of a model that failed."""
    failed = f"FAILED: {verdicts.count('failed')} of {len(verdicts)} verdicts on it" if "failed" in verdicts else ""
    failed = failed or ("passed" not in verdicts and "no verdict on it passed")
    return "; ".join(filter(None, (forced and "FORCED: promoted without a passed verdict", failed)))


def main(argv):
    """0 it holds, 1 it does not."""
    try:
        with open(argv[1], encoding="utf-8") as file:
            proved = check(json.load(file), argv[2] if len(argv) > 2 else None)
    except (BadError, KeyError, ValueError, TypeError, IndexError, OSError) as error:
        sys.stderr.write(f"does not hold: {error or type(error).__name__}\n")
        return 1
    sys.stdout.write(f"{proved}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
