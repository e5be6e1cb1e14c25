"""Make a command of the fields that a person filled in. Pure.

    command_of(state, "promote", {"model": "xgboost", "artifact": "3f2a", "probation": "500"})

Values are texts, as forms and chats have them; a field that is empty has its default. An artifact is named by the first
digits of its digest, as on the console.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from schemas.access import Role
from schemas.control import (
    Approve,
    Command,
    ConfirmPromotion,
    Halt,
    Promote,
    PromotePolicy,
    Propose,
    Refuse,
    Resume,
    Retire,
    Rollback,
    SetWeights,
    StartPolicyShadow,
    StartShadow,
    StopPolicyShadow,
    StopShadow,
)
from shared.control import Rejected, State
from shared.control.apply.approval import approval_of
from shared.control.issuing import RefusedError
from shared.control.policies import champion_of
from shared.voting.changes import changed_policy

Kind = Literal["model", "artifact", "policy", "rule", "number", "weight", "weights", "yes"]
"""What a field takes: a name, a digest of an artifact or of a voting policy in shadow, the rule of a voting policy, a
whole number, a share or another number, a share for each voting model, or yes."""


class FormError(RefusedError):
    """A field is missing, or its value is not one that it takes. The message names the field."""


class Field(NamedTuple):
    """One field of a form: its name in the command, its label, and what it takes."""

    name: str
    label: str
    kind: Kind
    required: bool = False
    help: str = ""


class Form(NamedTuple):
    """What a person can do: its name, a title, the command that it makes, its fields, and the role that it needs."""

    name: str
    title: str
    command: type[Command]
    fields: tuple[Field, ...] = ()
    help: str = ""
    role: Role = "operator"


HOUR_MS: Final = 3_600_000
MODEL: Final = Field("model", "Model", "model", required=True)
ARTIFACT: Final = Field("artifact", "Artifact", "artifact", required=True, help="its digest, or the first digits")
PROMOTION: Final = (
    MODEL,
    ARTIFACT,
    Field("weight", "Weight", "weight", help="of a model that has none yet; the others shrink"),
    Field("probation", "Probation", "number", help="decisions within which it must be confirmed"),
    Field("forced", "Force", "yes", help="without a passed verdict, or before it is ready; recorded"),
    Field("accept_changes", "Accept changes", "yes", help="features, family or libraries differ"),
)
POLICY: Final = Field("policy", "Voting policy", "policy", required=True, help="its digest, or the first digits")
POLICY_PROMOTION: Final = (
    POLICY,
    Field("probation", "Probation", "number", help="decisions within which it must be confirmed"),
    Field("forced", "Force", "yes", help="without a passed verdict; recorded"),
)
VOTING: Final = (
    Field("rule", "Rule", "rule", help="mean, logmean, logpool or consensus"),
    Field("temperature", "Temperature", "weight", help="above 1: less extreme probabilities"),
    Field("edge", "Edge", "weight", help="the smallest |P(BUY) - P(SELL)| for an action; it replaces the cost"),
    Field("cost", "Cost", "weight", help="of entry and exit, a fraction of the price; it replaces the edge"),
    Field("quorum_weight", "Weight of a quorum", "weight", help="0 to 1"),
    Field("quorum_count", "Members of a quorum", "number"),
    Field("valid_ms", "Intent valid", "number", help="milliseconds after the close of the bar"),
)
WEIGHTS: Final = Field("weights", "Weights", "weights", required=True, help="shares that sum to 1")
HOURS: Final = Field("hours", "Hours", "number", help="how long it can be approved; empty: 24")
PROPOSAL: Final = Field("proposal", "Proposal", "number", required=True, help="its number")

FORMS: Final[Mapping[str, Form]] = {
    form.name: form
    for form in (
        Form("halt", "Halt", Halt, help="Stop all intents at once. Decisions are still made and recorded."),
        Form("resume", "Resume", Resume, help="End a halt: intents are written again."),
        Form(
            "promote",
            "Promote",
            Promote,
            PROMOTION,
            "Make an artifact the champion of its model. The former champion stays loaded, in shadow.",
        ),
        Form(
            "rollback",
            "Roll back",
            Rollback,
            (
                Field("to", "To version", "number", help="empty: the version before the last change"),
                Field("model", "Only model", "model", help="ensemble: the voting policy; empty: all, with weights"),
            ),
            "Restore the champions and weights of an earlier version.",
        ),
        Form("confirm", "Confirm", ConfirmPromotion, (MODEL,), "Confirm a promotion: its probation ends."),
        Form(
            "start_shadow",
            "Start a shadow",
            StartShadow,
            (MODEL, ARTIFACT),
            "Put an artifact in shadow: it predicts for every bar and never votes.",
        ),
        Form(
            "stop_shadow",
            "Stop a shadow",
            StopShadow,
            (MODEL, ARTIFACT),
            "Take an artifact out of shadow. It stays registered.",
        ),
        Form(
            "weights",
            "Set weights",
            SetWeights,
            (WEIGHTS,),
            "Set the weights of all voting models.",
        ),
        Form(
            "start_policy_shadow",
            "Start a voting policy in shadow",
            StartPolicyShadow,
            VOTING,
            "Decide each round by another voting policy too: the one in force with other fields. No intent follows.",
        ),
        Form(
            "stop_policy_shadow",
            "Stop a voting policy in shadow",
            StopPolicyShadow,
            (POLICY,),
            "Take a voting policy out of shadow.",
        ),
        Form(
            "promote_policy",
            "Promote a voting policy",
            PromotePolicy,
            POLICY_PROMOTION,
            "Put a voting policy from shadow in force. The former one continues in shadow.",
        ),
        Form("retire", "Retire", Retire, (MODEL, ARTIFACT), "Take an artifact out of service permanently."),
        Form(
            "propose",
            "Propose a promotion",
            Propose,
            (*PROMOTION, HOURS),
            "Propose a promotion where control demands a second person, who approves it.",
        ),
        Form(
            "propose_weights",
            "Propose weights",
            Propose,
            (WEIGHTS, HOURS),
            "Propose the weights of all voting models where control demands a second person.",
        ),
        Form(
            "propose_policy",
            "Propose a voting policy",
            Propose,
            (*POLICY_PROMOTION, HOURS),
            "Propose to put a voting policy from shadow in force where control demands a second person.",
        ),
        Form(
            "approve",
            "Approve",
            Approve,
            (PROPOSAL,),
            "Carry out what another person proposed. The evidence for a promotion is collected again.",
            "approver",
        ),
        Form("refuse", "Refuse", Refuse, (PROPOSAL,), "Refuse what another person proposed, or withdraw your own."),
    )
}
"""Every form by its name."""
WEIGHT_OF: Final = "weights."
"""What the name of a value begins with that is the weight of one model, as ``weights.xgboost``."""


def command_of(state: State, name: str, values: Mapping[str, str]) -> Command:
    """Return the command that a form makes on the present configuration. Raises ``FormError``."""
    form = FORMS.get(name)
    if form is None:
        raise FormError(f"there is no form {name!r}; there are: {', '.join(FORMS)}")
    fields: dict[str, Any] = {}
    for field in form.fields:
        value = _weights(values) if field.kind == "weights" else values.get(field.name, "").strip()
        if value:
            fields[field.name] = value == "yes" if field.kind == "yes" else value
        elif field.required:
            raise FormError(f"{field.label}: expected {field.help or 'a value'}, got nothing")
    if "artifact" in fields:
        fields["artifact"] = artifact_of(state, fields["model"], fields["artifact"])
    if form.command is ConfirmPromotion:
        fields["artifact"] = _champion(state, fields["model"])
    if "policy" in fields:
        fields["policy"] = policy_of(state, fields["policy"])
    if form.command is StartPolicyShadow:
        return _policy_shadow(state, form, fields)
    if form.command is Approve:
        return approving(state, _number(PROPOSAL, fields["proposal"]))
    if form.command is Propose:
        return _proposal(form, fields)
    command: Command = _converted(form, form.command, fields)
    return command


def approving(state: State, number: int) -> Approve:
    """Return the approval of an open proposal, without evidence. Raises ``FormError``."""
    approval = approval_of(state, number)
    if isinstance(approval, Rejected):
        raise FormError(approval.reason)
    return approval


def artifact_of(state: State, model: str, prefix: str) -> str:
    """Return the digest of the one artifact registered for ``model`` that begins with ``prefix``; a complete digest
    unchanged. Raises ``FormError``. Only ``control`` is read, not the store."""
    known = sorted(digest for digest, registered in state.artifacts.items() if registered.model == model)
    matches = [digest for digest in known if digest.startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    if len(prefix) == 64:
        return prefix
    there = ", ".join(digest[:12] for digest in known) or "none"
    raise FormError(
        f"{len(matches)} artifacts registered for {model!r} begin with {prefix!r}, expected one; there are: {there} "
        "(`conclave register` adds one)"
    )


def policy_of(state: State, prefix: str) -> str:
    """Return the digest of the one voting policy in shadow that begins with ``prefix``. Raises ``FormError``."""
    matches = [digest for digest in state.policy_shadows if digest.startswith(prefix.lower())]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(digest[:12] for digest in state.policy_shadows) or "none"
    raise FormError(
        f"{len(matches)} voting policies in shadow begin with {prefix!r}, expected one; in shadow are: {there}"
    )


def _policy_shadow(state: State, form: Form, fields: Mapping[str, str]) -> StartPolicyShadow:
    if not fields:
        raise FormError(f"{form.title}: expected at least one field other than in the policy in force, got none")
    try:
        return StartPolicyShadow(changed_policy(state.policy, fields))
    except msgspec.ValidationError as error:
        raise FormError(f"{form.title}: {error}") from None


def _proposal(form: Form, fields: dict[str, Any]) -> Propose:
    hours = _number(HOURS, fields.pop("hours", "24"))
    tag = {"propose_weights": "set_weights", "propose_policy": "promote_policy"}.get(form.name, "promote")
    command: Propose = _converted(form, Propose, {"command": {"type": tag, **fields}, "valid_ms": hours * HOUR_MS})
    return command


def _number(field: Field, text: str) -> int:
    if not text.isdecimal():
        raise FormError(f"{field.label}: expected a whole number, got {text!r}")
    return int(text)


def _converted(form: Form, kind: Any, fields: Mapping[str, Any]) -> Any:
    try:
        return msgspec.convert({"type": kind.__struct_config__.tag, **fields}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise FormError(f"{form.title}: {error}") from None


def _champion(state: State, model: str) -> str:
    champion = champion_of(state, model)
    if champion is None:
        voting = ", ".join(state.voting) or "none"
        raise FormError(f"{model!r} has no champion to confirm; the voting models are: {voting}")
    return champion


def _weights(values: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(WEIGHT_OF): value for name, value in values.items() if name.startswith(WEIGHT_OF)}
