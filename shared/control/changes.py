"""Describe the changes of the configuration: a command in one line, and how two versions differ, model by model."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
from immutables import Map
from msgspec import NODEFAULT, structs

from schemas.control import Command, Proposable, RegisterArtifact, SetVotingPolicy, Stacker
from shared.control.state import Model, State

NOTHING: Final = "-"
DIGEST: Final = 64
LEFT_OUT: Final = {"features", "libraries", "centre", "prior", "classes", "backtest"}
"""Fields that are too long to show on a line."""
ELSEWHERE: Final = frozenset(
    [
        *("version", "head", "seen", "log_id", "models", "artifacts", "retired", "before", "past"),
        *("probations", "approval", "proposals", "policies", "policy_shadows", "policy_before"),
    ]
)
"""Fields of a state that are not compared one by one: models, artifacts, probations, the rule of two persons, proposals
and voting policies in shadow have their own rows, and the others count versions or chain them, but do not change a
decision."""


class Change(NamedTuple):
    """One difference: what differs, and its value before and after. ``-``: it does not exist."""

    what: str
    before: str
    after: str


def changes(before: State, after: State) -> list[Change]:
    """Return every difference, features by name: first models, then artifacts, then other fields, then features."""
    was, now = dict(_rows(before)), dict(_rows(after))
    differences = [
        Change(what, was.get(what, NOTHING), now.get(what, NOTHING))
        for what in (*was, *(what for what in now if what not in was))
        if was.get(what) != now.get(what)
    ]
    return differences + list(_features(before, after))


def words(command: Command) -> str:
    """Return a command in one line: its name, and the fields that differ from their defaults."""
    fields: dict[str, Any] = msgspec.to_builtins(command)
    kind = type(command)
    shown = [str(fields.pop("type"))]
    for field in structs.fields(kind):
        value = getattr(command, field.name)
        made = field.default_factory is not NODEFAULT
        default = field.default_factory() if made else field.default
        if value != default and field.name not in LEFT_OUT:
            shown.append(f"{field.name}={_short_value(value)}")
    return " ".join(shown)


def policy_differences(before: SetVotingPolicy, after: SetVotingPolicy) -> list[str]:
    """Return the fields of a voting policy that differ from those of another, as FIELD=VALUE; ``-``: left out."""
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in after.__struct_fields__]
    return [
        f"{name}={NOTHING if new is msgspec.UNSET else _short_value(new)}" for name, old, new in pairs if old != new
    ]


def _short_value(value: Any) -> str:
    if isinstance(value, str):
        return short(value) if len(value) == DIGEST else value
    if isinstance(value, tuple):
        return ",".join(str(each)[:12] for each in value)
    if isinstance(value, Proposable):
        return f"({words(value)})"
    if isinstance(value, Stacker):
        return f"{value.base}+{'+'.join(member.model for member in value.members)}"
    if isinstance(value, dict):
        return ",".join(f"{key}:{_short_value(each)}" for key, each in value.items())
    return str(float(f"{value:.6g}") if isinstance(value, float) else value)


def short(digest: str | None) -> str:
    """Return the first 12 digits of a digest; ``-`` if there is none."""
    return digest[:12] if digest else NOTHING


def _rows(state: State) -> Iterator[tuple[str, str]]:
    for name, model in sorted(state.models.items()):
        yield from _of_model(name, model)
    for artifact, registered in sorted(state.artifacts.items(), key=lambda pair: (pair[1].model, pair[0])):
        retired = ", retired" if artifact in state.retired else ""
        yield f"{registered.model} artifact {short(artifact)}", f"{registered.feature_set_name}{retired}"
    for name, probation in sorted(state.probations.items()):
        yield f"{name} on probation", f"{short(probation.artifact)} for {probation.decisions} decisions"
    for command in state.approval.commands:
        yield f"{command} needs a second person", " or ".join(state.approval.approvers)
    for number, proposal in sorted(state.proposals.items()):
        yield f"proposal {number}", f"{words(proposal.command)}, by {proposal.by.person}"
    for digest in state.policy_shadows:
        yield f"voting policy {short(digest)} in shadow", words(state.policies[digest].policy)
    for field in state.__struct_fields__:
        if field not in ELSEWHERE:
            yield from _leaves(field, getattr(state, field))


def _of_model(name: str, model: Model) -> Iterator[tuple[str, str]]:
    yield f"{name} champion", short(model.champion)
    yield f"{name} weight", NOTHING if model.weight is None else f"{model.weight:.2%}"
    for artifact in model.shadows:
        yield f"{name} shadow {short(artifact)}", "in shadow"


def _leaves(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every leaf of a nested value, with its path."""
    if isinstance(value, Stacker):
        yield where, _short_value(value)
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _leaves(f"{where} {field}", getattr(value, field))
    elif isinstance(value, dict | Map):
        for key, each in sorted(value.items()):
            yield from _leaves(f"{where} {key}", each)
    elif isinstance(value, frozenset):
        yield from ((f"{where} {each}", "yes") for each in sorted(value))
    elif isinstance(value, str) and len(value) == DIGEST:
        yield where, short(value)
    else:
        yield where, NOTHING if value is msgspec.UNSET else str(value)


def _features(before: State, after: State) -> Iterator[Change]:
    """Yield the features that only the former or only the new champion of a model reads, by name."""
    for name in after.voting:
        old, new = _champion(before, name), _champion(after, name)
        if old is None or new is None or old.feature_set == new.feature_set:
            continue
        removed = [feature for feature in old.features if feature not in new.features]
        added = [feature for feature in new.features if feature not in old.features]
        yield Change(
            f"{name} features",
            f"{old.feature_set_name}: {', '.join(removed) or 'nothing of its own'}",
            f"{new.feature_set_name}: {', '.join(added) or 'nothing of its own'}",
        )


def _champion(state: State, name: str) -> RegisterArtifact | None:
    artifact = state.models.get(name, Model()).champion
    return state.artifacts.get(artifact) if artifact else None
