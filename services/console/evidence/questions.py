"""What would change a verdict, in words: for ``conclave gates explain``."""

import math

from schemas.gates import GateVerdict, VerdictReached
from shared.gates.catalogue import GateDescription, description
from shared.gates.classic import ClassicPolicy
from shared.gates.policy import DefaultPolicy


def turns(policy: str, gate: GateVerdict) -> str:
    """What would change this gate's verdict."""
    about = description(policy, gate.name)
    if gate.value is None or gate.threshold is None:
        return f"it has no value yet, after {gate.samples:,} samples"
    if about.rule == "e-value":
        return _bet(gate, about, policy)
    if gate.verdict == "inconclusive":
        return _more(gate, about, policy)
    side = "no rule of one number; its detail says more"
    if about.rule in {"at most", "at least"}:
        over = "rises over" if about.rule == "at most" else "falls under"
        back = "comes down to" if about.rule == "at most" else "rises to"
        side = f"{over if gate.verdict == 'passed' else back} {gate.threshold:.6g}"
        side = f"it changes when the value {side}; it stands at {gate.value:.6g}"
    return side


def turns_overall(event: VerdictReached) -> str:
    """What would change the verdict as a whole."""
    if event.policy == "classic":
        passed = ", ".join(gate.name for gate in event.gates if gate.verdict == "passed") or "none"
        return f"it passes with at least {ClassicPolicy().least_passed} of its gates (by default); passed now: {passed}"
    if event.overall == "passed":
        return "it falls when a critical or needed gate fails, or more soft ones than the policy lets"
    wanted = "failed" if event.overall == "failed" else "inconclusive"
    strict = [gate.name for gate in event.gates if gate.verdict == wanted and gate.kind != "soft"]
    soft = [gate.name for gate in event.gates if gate.verdict == "failed" and gate.kind == "soft"]
    said = "these must pass, and failed" if wanted == "failed" else "these must pass, and are not settled"
    parts = [f"{said}: {', '.join(strict)}"] if strict else []
    parts += [f"soft gates that failed: {', '.join(soft)}"] if soft else []
    return "; ".join(parts) or "no gate stands against it: see the policy"


def _more(gate: GateVerdict, about: GateDescription, policy: str) -> str:
    least = _least(about, policy)
    if least and gate.samples < least[1]:
        return f"more samples: it has {gate.samples:,}, by default it wants {least[1]:,} (`{least[0]}`)"
    return "what its detail says is missing; more scores may settle it"


def _bet(gate: GateVerdict, about: GateDescription, policy: str) -> str:
    assert gate.value is not None
    assert gate.threshold is not None
    if gate.verdict == "passed":
        return "nothing while the evidence stands: what crossed its line stays crossed"
    if gate.verdict == "failed":
        return "nothing while the evidence stands: the opposite crossed the line. A new artifact begins anew"
    least = _least(about, policy)
    if gate.value >= gate.threshold:
        wanted = f" (`{least[0]}`, by default {least[1]})" if least else ""
        return f"more blocks: the line is crossed, but {gate.samples} are few{wanted}"
    odds = math.exp(min(50.0, gate.threshold - gate.value))
    said = f"ln E must come to {gate.threshold:.2f}: {odds:,.1f} times the evidence of its best moment"
    if gate.samples and gate.value > 0:
        blocks = math.ceil((gate.threshold - gate.value) * gate.samples / gate.value)
        return f"{said}; at the rate so far that takes about {blocks:,} blocks more"
    return f"{said}; so far the evidence does not grow"


def _least(about: GateDescription, policy: str) -> tuple[str, int] | None:
    if not about.samples:
        return None
    defaults = ClassicPolicy() if policy == "classic" else DefaultPolicy()
    return about.samples, int(getattr(defaults, about.samples))
