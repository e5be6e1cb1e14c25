"""The screen Models: who votes, who could, and on what evidence? Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct, structs

from services.observatory.core import State
from services.observatory.journal import WorkerState
from services.observatory.screens.verdicts import SkillShown, VerdictShown, skill_of, verdict_of
from services.observatory.screens.votes import VoteShown, vote_of
from shared.control import State as Control
from shared.gates.policies import default_policy
from shared.report.fold import Shadows
from shared.report.summary import Candidate, Verdict, summarise
from shared.report.text import acting_words

SHORT: Final = 12


class ArtifactShown(Struct, frozen=True):
    """One artifact of a model: the champion, or one in shadow.

    ``scored``: the evidence about it, None before its first score. ``failures``: predictions without a score, by
    reason. Shares and rates are fractions, latencies in ms. ``signed_return``: a row, by its own actions, after
    costs. ``readiness``: what its workers last reported, by partition."""

    model: str
    artifact: str
    role: str
    family: str
    feature_set: str
    scored: int
    over_prior: SkillShown | None
    over_champion: SkillShown | None
    to_ensemble: SkillShown | None
    sell: float
    hold: float
    buy: float
    p10: float
    p90: float
    hit_rate: float
    majority: float
    agreement: float | None
    signed_return: float
    failures: dict[str, int]
    missing: int
    late: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    verdict: VerdictShown | None
    readiness: dict[str, str]


class ModelShown(Struct, frozen=True):
    """One model: its weight, its champion and what is in shadow. ``probation``: scored decisions within which its
    promotion must be confirmed."""

    name: str
    weight: float
    probation: int | None
    artifacts: tuple[ArtifactShown, ...]


class ModelsScreen(Struct, frozen=True):
    """The whole screen, for one partition. ``acting``: sentences on how often the ensemble acts. ``vote``: the voting
    policies."""

    partition: int
    partitions: int
    policy: str
    rule: str
    origins: dict[str, int]
    checked: int
    equal: int
    models: tuple[ModelShown, ...]
    acting: tuple[str, ...]
    vote: VoteShown


def screen(state: State, control: Control, partition: int = 0) -> ModelsScreen:
    """Return the screen of one partition: each reaches its own verdicts."""
    shadows = _evidence(state, control, partition)
    report = summarise(shadows)
    known = {one.artifact: one for one in (*report.candidates, *report.members)}
    models = []
    for name, model in sorted(control.models.items(), key=lambda each: (-(each[1].weight or 0.0), each[0])):
        digests = [*([model.champion] if model.champion else []), *model.shadows]
        if digests:
            shown = tuple(_artifact(state, control, partition, name, digest, known) for digest in digests)
            probation = control.probations.get(name)
            models.append(ModelShown(name, model.weight or 0.0, probation.decisions if probation else None, shown))
    return ModelsScreen(
        partition=partition,
        partitions=max(control.partitions, 1),
        policy=control.gate.name if control.gate is not None else "default",
        rule=control.policy.rule,
        origins=report.origins,
        checked=report.interference.checked,
        equal=report.interference.equal,
        models=tuple(models),
        acting=acting_words(report.acting) if report.acting is not None else (),
        vote=vote_of(state, control, partition, known),
    )


def candidate_of(state: State, control: Control, partition: int, artifact: str) -> Candidate | None:
    """Return the evidence about one artifact, with its newest verdict; None if it has none."""
    shadows = _evidence(state, control, partition)
    series = {name: each for name, each in shadows.series.items() if each.artifact == artifact}
    if not series:
        return None
    report = summarise(structs.replace(shadows, series=series), _newest(state, partition))
    return next(iter((*report.candidates, *report.members)), None)


def _evidence(state: State, control: Control, partition: int) -> Shadows:
    """Return the evidence with the error rate of the gate policy in force."""
    policy = default_policy(control.gate)
    shadows = state.evidence.get(partition) or Shadows(policy)
    return structs.replace(shadows, policy=policy)


def _newest(state: State, partition: int) -> Mapping[tuple[str, str], Verdict]:
    return {
        (verdict.event.model, verdict.event.artifact): Verdict(verdict.id, verdict.event)
        for verdict in state.verdicts.values()
        if verdict.partition == partition
    }


def _artifact(
    state: State, control: Control, partition: int, model: str, digest: str, known: Mapping[str, Candidate]
) -> ArtifactShown:
    registered, found = control.artifacts.get(digest), known.get(digest)
    one = found if found is not None and found.rows else None
    verdict = state.verdicts.get(f"{digest} {partition}")
    return ArtifactShown(
        model=model,
        artifact=digest,
        role="champion" if control.model(model).champion == digest else "shadow",
        family=registered.family if registered else "",
        feature_set=registered.feature_set_name if registered else "",
        scored=one.rows if one else 0,
        over_prior=skill_of(one.over_prior) if one else None,
        over_champion=skill_of(one.over_champion) if one and one.over_champion else None,
        to_ensemble=skill_of(one.to_ensemble) if one else None,
        sell=one.actions[0] if one else 0.0,
        hold=one.actions[1] if one else 0.0,
        buy=one.actions[2] if one else 0.0,
        p10=one.confidence["P10"] if one else 0.0,
        p90=one.confidence["P90"] if one else 0.0,
        hit_rate=one.hit_rate if one else 0.0,
        majority=one.majority if one else 0.0,
        agreement=one.agreement if one else None,
        signed_return=one.signed_return if one else 0.0,
        failures=found.unscored if found else {},
        missing=found.missing if found else 0,
        late=one.late if one else 0,
        latency_p50_ms=one.latency_p50_ms if one else None,
        latency_p99_ms=one.latency_p99_ms if one else None,
        verdict=verdict_of(verdict) if verdict is not None else None,
        readiness=dict(_readiness(digest, state.workers.values())),
    )


def _readiness(digest: str, workers: Iterable[WorkerState]) -> Iterator[tuple[str, str]]:
    for worker in workers:
        if worker.artifact == digest:
            took = f"{worker.took_ms} ms" if worker.took_ms < 1000 else f"{worker.took_ms / 1000:.1f} s"
            memory = f", {worker.memory_mb:,.0f} MB" if worker.memory_mb is not None else ""
            ready = f" in {took}{memory}" if worker.state == "ready" else ""
            yield str(worker.partition), f"{worker.state}{ready}{f': {worker.detail}' if worker.detail else ''}"
