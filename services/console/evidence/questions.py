"""Describe in words what would change a verdict, for ``conclave gates explain``."""

import math

from schemas.gates import GateVerdict, VerdictReached
from shared.gates.catalogue import GateDescription, description
from shared.gates.classic import ClassicPolicy
from shared.gates.critical import LIVE_ONLY
from shared.gates.policy import DefaultPolicy


def what_would_change(policy: str, gate: GateVerdict) -> str:
    """Return what would change the verdict of this gate."""
    about = description(policy, gate.name)
    if gate.name in LIVE_ONLY and gate.kind == "soft":
        return "live bars: replayed and synthetic ones cannot answer it, and until then it vetoes nothing"
    if gate.value is None or gate.threshold is None:
        return f"it has no value yet, after {gate.samples:,} samples"
    if about.rule == "e-value":
        return _bet(gate, about, policy)
    if gate.verdict == "inconclusive":
        return _more(gate, about, policy)
    side = "its rule compares more than one number; see its detail"
    if about.rule in {"at most", "at least"}:
        over = "rises above" if about.rule == "at most" else "falls below"
        back = "falls to" if about.rule == "at most" else "rises to"
        side = f"{over if gate.verdict == 'passed' else back} {gate.threshold:.6g}"
        side = f"it changes when the value {side}; the value is {gate.value:.6g}"
    return side


def what_would_change_overall(event: VerdictReached) -> str:
    """Return what would change the verdict as a whole."""
    if event.policy == "classic":
        passed = ", ".join(gate.name for gate in event.gates if gate.verdict == "passed") or "none"
        return f"it passes with at least {ClassicPolicy().least_passed} of its gates (by default); passed now: {passed}"
    if event.overall == "passed":
        return "it fails when a critical or needed gate fails, or more soft gates than the policy allows"
    outcome = "failed" if event.overall == "failed" else "inconclusive"
    strict = [gate.name for gate in event.gates if gate.verdict == outcome and gate.kind != "soft"]
    soft = [gate.name for gate in event.gates if gate.verdict == "failed" and gate.kind == "soft"]
    state = "failed" if outcome == "failed" else "are inconclusive"
    parts = [f"these gates must pass but {state}: {', '.join(strict)}"] if strict else []
    parts += [f"soft gates that failed: {', '.join(soft)}"] if soft else []
    return "; ".join(parts) or "no single gate prevents it: see the policy"


def _more(gate: GateVerdict, about: GateDescription, policy: str) -> str:
    least = _least(about, policy)
    if least and gate.samples < least[1]:
        return f"more samples: it has {gate.samples:,}, by default it needs {least[1]:,} (`{least[0]}`)"
    return "its detail names what is missing; more scores may decide it"


def _bet(gate: GateVerdict, about: GateDescription, policy: str) -> str:
    assert gate.value is not None
    assert gate.threshold is not None
    if gate.verdict == "passed":
        return "nothing until the evidence restarts: a threshold that was crossed once stays crossed"
    if gate.verdict == "failed":
        return "nothing until the evidence restarts: the opposite hypothesis crossed the threshold; try a new artifact"
    least = _least(about, policy)
    if gate.value >= gate.threshold:
        needed = f" (`{least[0]}`, by default {least[1]})" if least else ""
        return f"more blocks: the threshold is crossed, but {gate.samples} blocks are too few{needed}"
    odds = math.exp(min(50.0, gate.threshold - gate.value))
    goal = f"ln E must reach {gate.threshold:.2f}: {odds:,.1f} times the largest evidence so far"
    if gate.samples and gate.value > 0:
        blocks = math.ceil((gate.threshold - gate.value) * gate.samples / gate.value)
        return f"{goal}; at the rate so far that takes about {blocks:,} more blocks"
    return f"{goal}; so far the evidence does not grow"


def _least(about: GateDescription, policy: str) -> tuple[str, int] | None:
    if not about.samples:
        return None
    defaults = ClassicPolicy() if policy == "classic" else DefaultPolicy()
    return about.samples, int(getattr(defaults, about.samples))
