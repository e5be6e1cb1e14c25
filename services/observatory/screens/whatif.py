"""The screen What if: what would have been decided under other rules? Pure."""

from typing import Final

from msgspec import Struct, structs

from services.observatory.computing import AskedWhatif, Computation
from shared.audit.computing import ComputeProgress
from shared.audit.whatif import WhatifResult
from shared.control import State as Control

POLICY: Final = ("edge", "temperature", "quorum_count", "quorum_weight")
"""The fields of the voting policy that a decision over recorded ballots depends on, other than the rule."""


class ArtifactChoice(Struct, frozen=True):
    """An artifact of a model, and what it is now: champion, shadow or registered."""

    artifact: str
    role: str
    family: str


class ModelChoice(Struct, frozen=True):
    """A model that votes, with its weight, and the artifacts that could vote in its place."""

    model: str
    weight: float
    artifacts: tuple[ArtifactChoice, ...]


class TrialShown(Struct, frozen=True):
    """One what-if. ``state``: waiting, running, done, failed or cancelled. ``name`` is that of its question."""

    name: str
    asked: AskedWhatif
    state: str
    began: int
    ended: int
    reason: str
    progress: ComputeProgress | None
    result: WhatifResult | None


class WhatifScreen(Struct, frozen=True):
    """What can be chosen, and the what-if that was asked for (None: none yet). ``busy``: something else is computed."""

    version: int
    rule: str
    policy: dict[str, str]
    models: tuple[ModelChoice, ...]
    asked: AskedWhatif
    trial: TrialShown | None
    busy: bool


def screen(
    control: Control, asked: AskedWhatif, trial: Computation | None, running: Computation | None
) -> WhatifScreen:
    """Return the screen."""
    policy = structs.asdict(control.policy)
    return WhatifScreen(
        version=control.version,
        rule=control.policy.rule,
        policy={name: f"{policy[name]:g}" for name in POLICY},
        models=tuple(_choice(control, model) for model in control.voting),
        asked=asked,
        trial=shown(trial, asked) if trial is not None else None,
        busy=running is not None and running is not trial,
    )


def shown(trial: Computation, asked: AskedWhatif) -> TrialShown:
    """Return one what-if."""
    return TrialShown(
        name=asked.name,
        asked=asked,
        state=trial.state,
        began=trial.began,
        ended=trial.ended,
        reason=trial.reason,
        progress=trial.progress,
        result=trial.result if isinstance(trial.result, WhatifResult) else None,
    )


def _choice(control: Control, name: str) -> ModelChoice:
    model = control.model(name)
    order = [model.champion, *model.shadows]
    others = [digest for digest, one in control.artifacts.items() if one.model == name and digest not in order]
    artifacts = []
    for digest in (*order, *reversed(others)):
        if digest is not None:
            role = "champion" if digest == model.champion else "shadow" if digest in model.shadows else "registered"
            artifacts.append(ArtifactChoice(digest, role, control.artifacts[digest].family))
    return ModelChoice(name, model.weight or 0.0, tuple(artifacts))
