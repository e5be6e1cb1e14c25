"""Measure how often random tampering with ``control`` is detected, and the cost of its hash chain.

A thousand times, a log of some hundred commands is changed as by an attacker who can write to the server and knows the
format. An entry is edited (with a matching envelope, or by flipping one bit), entries are deleted (with or
without renumbering), swapped, truncated, duplicated or forged at the end, or the log is rewritten from one entry on.

The change is detected (``found``) if a reader stops, refuses an entry, or finds that the log contradicts a checkpoint.
It is located (``named``) if the first report is about the changed entry, the entry after it, or, where the chain was
recomputed, the next checkpoint.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from bench.harness import Figure, medians
from schemas.codec import decode, encode
from schemas.common import ACTIONS
from schemas.control import (
    Command,
    CommandRecorded,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    Rollback,
    SetVotingPolicy,
    SetWeights,
    StepWeight,
    TrustKey,
)
from shared.control import EMPTY, ControlError, ControlReader, State, fold, head_of, propose
from shared.control.checkpoint import Checkpoint, compare

MODELS = ("lightgbm", "logistic", "nhits", "xgboost")
ARTIFACTS = [f"{number:064x}" for number in range(1, 41)]
NOTED_EVERY = 50
Log = list[tuple[str, bytes]]
"""Ids and bytes of the entries, as on the stream."""


def wishes(seed: int) -> Sequence[Command]:
    """Return commands as operators issue them, in a long sequence. Some of them are invalid."""
    rng = random.Random(seed)
    own = {model: ARTIFACTS[number::4] for number, model in enumerate(MODELS)}
    commands: list[Command] = []
    for _ in range(500):
        model = rng.choice(MODELS)
        promote = Promote(model, rng.choice(own[model]), forced=True)
        swing = (Halt(), Resume(), StepWeight(model, up=rng.random() < 0.5), Rollback(), Rollback(model=model))
        even = SetWeights(dict.fromkeys(MODELS, 0.25))
        policy = SetVotingPolicy(quorum_count=rng.randint(1, 4), edge=rng.choice((0.05, 0.1)))
        commands += [promote, promote, rng.choice((*swing, even, policy))]
    return commands


def recorded(count: int, seed: int = 1) -> list[CommandRecorded]:
    """Return a log of ``count`` valid entries."""
    state = EMPTY
    entries: list[CommandRecorded] = []
    begun: list[Command] = [Found(1, "log-of-a-benchmark")]
    begun += [
        RegisterArtifact(
            model=MODELS[n % 4],
            artifact=digest,
            family="prior",
            feature_set="f" * 64,
            feature_set_name="core",
            interval_ms=60_000,
            classes=ACTIONS,
            centre=(-1.1,) * 3,
            prior=(0.3, 0.4, 0.3),
        )
        for n, digest in enumerate(ARTIFACTS)
    ]
    begun += [Promote(model, ARTIFACTS[n], True, 1.0 if n == 0 else 0.25) for n, model in enumerate(MODELS)]
    wanted, more = iter(begun), wishes(seed)
    while len(entries) < count:
        command = next(wanted, None)
        if command is None:
            wanted = iter(more)
            continue
        number = len(entries) + 1
        entry = propose(state, command, command_id=f"c{number}", actor="ada", reason="as agreed", at=1_760_000_000_000)
        if isinstance(entry, CommandRecorded):
            entries.append(entry)
            state = fold(state, entry)
    return entries


def sealed(entries: Sequence[CommandRecorded]) -> Log:
    return [(f"{place}-0", encode("control", entry).data) for place, entry in enumerate(entries, start=1)]


def edit(log: Log, rng: random.Random) -> tuple[Log, int]:
    """Change one field of an entry and compute a matching envelope."""
    at = rng.randrange(len(log))
    entry: CommandRecorded = decode("control", log[at][1]).event
    fields = {
        "reason": f"{entry.reason}.",
        "actor": "eve",
        "at": entry.at + 1,
        "command_id": "other",
        "command": Halt() if entry.command != Halt() else Resume(),
        "previous": "e" * 64,
        "version": entry.version + rng.choice((-1, 1)) or 2,
    }
    field = rng.choice(sorted(fields))
    return [
        *log[:at],
        (log[at][0], encode("control", replace(entry, **{field: fields[field]})).data),
        *log[at + 1 :],
    ], at


def flip(log: Log, rng: random.Random) -> tuple[Log, int]:
    """Flip one bit of an entry."""
    at = rng.randrange(len(log))
    data = bytearray(log[at][1])
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(7)
    return [*log[:at], (log[at][0], bytes(data)), *log[at + 1 :]], at


def delete(log: Log, rng: random.Random) -> tuple[Log, int]:
    """Delete some consecutive entries; the others keep their ids, or are renumbered."""
    at, count = rng.randrange(len(log)), rng.randint(1, 3)
    left = [*log[:at], *log[at + count :]]
    return left if rng.random() < 0.5 else renumbered(left), at


def swap(log: Log, rng: random.Random) -> tuple[Log, int]:
    """Swap two entries."""
    a, b = sorted(rng.sample(range(len(log)), 2))
    changed = [data for _, data in log]
    changed[a], changed[b] = changed[b], changed[a]
    return renumbered([("", data) for data in changed]), a


def truncate(log: Log, rng: random.Random) -> tuple[Log, int]:
    """Delete the end of the log, or its beginning."""
    at = rng.randrange(1, len(log))
    return (log[:at], at) if rng.random() < 0.5 else (log[at:], 0)


def again(log: Log, rng: random.Random) -> tuple[Log, int]:
    """Insert a copy of an entry at a later place."""
    which = rng.randrange(len(log))
    at = rng.randint(which + 1, len(log))
    return renumbered([*log[:at], log[which], *log[at:]]), at


def forge(log: Log, rng: random.Random) -> tuple[Log, int]:
    """Append, without a control writer, invalid bytes or an entry with a wrong head or version."""
    end = len(log) + 1
    last: CommandRecorded = decode("control", log[-1][1]).event
    entry = replace(last, version=last.version + rng.choice((0, 1, 2)), previous="d" * 64, command_id="forged")
    data = rng.choice((b"{}", b"HALT", encode("control", entry).data))
    return [*log, (rng.choice((f"{end}-0", f"{end + 10**6}-0", f"{end - 1}-7")), data)], len(log)


def rewrite(log: Log, rng: random.Random) -> tuple[Log, int]:
    """Edit an entry and recompute the chain from there on, so that it is consistent."""
    at = rng.randrange(len(log))
    entries: list[CommandRecorded] = [decode("control", data).event for _, data in log]
    entries[at] = replace(entries[at], reason="as I like it")
    for place in range(at + 1, len(entries)):
        entries[place] = replace(entries[place], previous=head_of(entries[place - 1]))
    return sealed(entries), at


def renumbered(log: Log) -> Log:
    return [(f"{place}-0", data) for place, (_, data) in enumerate(log, start=1)]


KINDS: tuple[Callable[[Log, random.Random], tuple[Log, int]], ...] = (
    edit,
    flip,
    delete,
    swap,
    truncate,
    again,
    forge,
    rewrite,
)


def verdict(log: Log, noted: Sequence[Checkpoint]) -> int | None:
    """Return the index (from 0) of the first entry that a reader of this log reports; None if it reports none.

    For a checkpoint it is the index of the entry whose head the checkpoint contains."""
    reader = ControlReader()
    for place, (entry, data) in enumerate(log):
        try:
            reader.take(entry, data)
        except ControlError as error:
            return place if f"control entry {entry}" in str(error) else -1
        if reader.refused:
            assert reader.refused[0].entry == entry
            return place
    return next((held.version - 1 for held in noted if compare(held, reader.state) is not None), None)


def tampering(
    count: int, entries: Sequence[CommandRecorded], seed: int = 7
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return the numbers of changes that were made, detected and located, by kind."""
    rng, log = random.Random(seed), sealed(entries)
    state, noted = EMPTY, []
    for entry in entries:
        state = fold(state, entry)
        if state.version % NOTED_EVERY == 0 or state.version == len(entries):
            noted.append(Checkpoint(state.log_id, state.version, state.head, 0))
    assert verdict(log, noted) is None
    done, found, named = Counter[str](), Counter[str](), Counter[str]()
    for turn in range(count):
        kind = KINDS[turn % len(KINDS)]
        while (made := kind(log, rng))[0] == log:
            pass
        changed, at = made
        said = verdict(changed, noted)
        done[kind.__name__] += 1
        found[kind.__name__] += said is not None
        reach = next((held.version - 1 for held in noted if held.version > at), at)
        named[kind.__name__] += said is not None and (said in {at, at + 1} or said == reach)
    return done, found, named


def folding(entries: Sequence[CommandRecorded]) -> dict[str, float]:
    """Return the time to fold a log (s), and the times for one entry (us): of the chain, and of reading from bytes."""
    begun = time.perf_counter()
    state = EMPTY
    for entry in entries:
        state = fold(state, entry)
    folded = time.perf_counter() - begun
    begun = time.perf_counter()
    for entry in entries:
        head_of(entry)
    chained = time.perf_counter() - begun
    return {"fold": folded, "chain": 1e6 * chained / len(entries)}


def reading(log: Log) -> dict[str, float]:
    reader = ControlReader()
    begun = time.perf_counter()
    for entry, data in log:
        reader.take(entry, data)
    return {"read": 1e6 * (time.perf_counter() - begun) / len(log)}


def signed(count: int) -> float:
    """Return the time to fold a signed entry (us)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from shared.control.signing import Signer

    signer = Signer("ada", Ed25519PrivateKey.generate())
    state: State = EMPTY
    entries = []
    begun: list[Command] = [Found(1, "log-of-a-benchmark"), TrustKey("ada", signer.public_key, "Ada")]
    for number in range(count):
        command = begun[number] if number < 2 else (Halt(), Resume())[number % 2]
        entry = propose(state, command, command_id=f"c{number}", actor="ada", reason="as agreed", at=1, signer=signer)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        entries.append(entry)
    started = time.perf_counter()
    state = EMPTY
    for entry in entries:
        state = fold(state, entry)
    return 1e6 * (time.perf_counter() - started) / count


def floor(entries: Sequence[CommandRecorded]) -> float:
    """Return the time to decode the JSON of an entry (us), which every reader needs."""
    data = [msgspec.json.encode(entry) for entry in entries]
    decode = msgspec.json.Decoder(CommandRecorded).decode
    begun = time.perf_counter()
    for each in data:
        decode(each)
    return 1e6 * (time.perf_counter() - begun) / len(data)


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    runs = 3 if quick else 5
    done, found, named = tampering(1000, recorded(60 if quick else 200))
    long = recorded(20_000 if quick else 100_000)
    timed = medians(runs, lambda: folding(long))
    log = sealed(long[:20_000])
    taken = medians(runs, lambda: reading(log))
    decoded = floor(long[:20_000])
    figures = {
        "tampered": Figure(sum(done.values()), "logs"),
        "found": Figure(sum(found.values()), "logs", ">= 1000"),
        "named": Figure(sum(named.values()), "logs", ">= 1000"),
    }
    for kind in done:
        figures[f"found_{kind}"] = Figure(found[kind], "logs", f">= {done[kind]}", f"{named[kind]} named")
    per = f"decoding its JSON takes {decoded:.1f} us"
    figures["chain_per_entry"] = Figure(timed["chain"], "us", "< 5", per)
    seconds = timed["fold"] * 100_000 / len(long)
    figures["fold_100k"] = Figure(seconds, "s", "< 2", f"{len(long):,} commands folded" if quick else "")
    figures["read_per_entry"] = Figure(taken["read"], "us", "", per)
    figures["fold_per_signed_entry"] = Figure(signed(300 if quick else 2000), "us")
    return figures
