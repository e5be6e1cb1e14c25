"""Commands about one artifact: register it, start or stop its shadow run, retire it."""

import math

from msgspec import structs

from schemas.common import ACTIONS, ENSEMBLE
from schemas.control import RegisterArtifact, Retire, StartShadow, StopShadow
from shared.control.state import Rejected, State, short


def register(state: State, command: RegisterArtifact) -> State | Rejected:
    """Add an artifact to the registry under its model's name."""
    known = state.artifacts.get(command.artifact)
    if known is not None:
        return Rejected(f"{short(command.artifact)} is registered already, for {known.model!r}")
    if command.classes != ACTIONS:
        return Rejected(f"class order is {command.classes}, expected {ACTIONS}; train again with this order")
    if not all(math.isfinite(value) and value <= 0 for value in command.centre):
        return Rejected(f"centre {command.centre} is not three log probabilities; the manifest is wrong")
    if abs(sum(command.prior) - 1) > 1e-6 or min(command.prior) <= 0:
        return Rejected(f"prior {command.prior} is not three shares that sum to one; the manifest is wrong")
    if command.model == ENSEMBLE and state.policies:
        return Rejected(f"{ENSEMBLE!r} is the name of voting policies in shadow; register the model under another one")
    return structs.replace(state, artifacts=state.artifacts.set(command.artifact, command))


def start_shadow(state: State, command: StartShadow) -> State | Rejected:
    """Run a registered artifact as a shadow of its model's champion."""
    model, artifact = state.model(command.model), command.artifact
    if artifact == model.champion:
        return Rejected(f"{short(artifact)} is the champion of {command.model!r}; it votes and needs no shadow")
    if artifact in model.shadows:
        return Rejected(f"{short(artifact)} is in shadow for {command.model!r} already")
    refused = unusable(state, command.model, artifact)
    if refused is not None:
        return refused
    return _with_shadows(state, command.model, (*model.shadows, artifact))


def stop_shadow(state: State, command: StopShadow) -> State | Rejected:
    """End an artifact's shadow run; it stays registered."""
    if command.artifact not in state.model(command.model).shadows:
        return Rejected(f"{short(command.artifact)} is not in shadow for {command.model!r}")
    return _without_shadow(state, command.model, command.artifact)


def retire(state: State, command: Retire) -> State | Rejected:
    """Take an artifact out of service for good, out of shadow too. Neither a champion can be retired, nor the former
    champion that an open probation would restore."""
    name, artifact = command.model, command.artifact
    model = state.model(name)
    if model.champion == artifact:
        return Rejected(f"{short(artifact)} is the champion of {name!r}; promote another one first")
    if name in state.probations and state.model_at(model.before, name).champion == artifact:
        return Rejected(
            f"{short(artifact)} is what the probation of {short(model.champion or '')} would go back to; "
            "confirm or revert that first"
        )
    refused = unusable(state, name, artifact)
    if refused is not None:
        return refused
    retired = state.retired.set(artifact, state.version + 1)
    return structs.replace(_without_shadow(state, name, artifact), retired=retired)


def unusable(state: State, model: str, artifact: str) -> Rejected | None:
    """Return why an artifact can be neither shadow nor champion of a model; None if it can."""
    registered = state.artifacts.get(artifact)
    if registered is None:
        return Rejected(f"artifact {short(artifact)} is not registered; `conclave register` first")
    if registered.model != model:
        return Rejected(f"{short(artifact)} is registered for {registered.model!r}, not for {model!r}")
    if artifact in state.retired:
        return Rejected(f"{short(artifact)} was retired; train or register another one")
    return None


def _without_shadow(state: State, name: str, artifact: str) -> State:
    return _with_shadows(state, name, tuple(each for each in state.model(name).shadows if each != artifact))


def _with_shadows(state: State, name: str, shadows: tuple[str, ...]) -> State:
    return structs.replace(state, models={**state.models, name: structs.replace(state.model(name), shadows=shadows)})
