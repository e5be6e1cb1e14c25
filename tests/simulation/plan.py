"""The plan of a simulation: the bars, what goes wrong, and what operators do, each with its time.

A plan is drawn from a seed (``drawn``). Run again, a plan gives the same run, step for step. Steps can be left out of a
plan, which is how a failing one is made short (``shrinking``).
"""

import random
from typing import Any, Final, get_args

from msgspec import Struct, structs

from schemas.common import ENSEMBLE
from schemas.control import (
    Command,
    Halt,
    Promote,
    PromotePolicy,
    Resume,
    Retire,
    Rollback,
    SetGatePolicy,
    SetLadder,
    SetWeights,
    StartPolicyShadow,
    StartShadow,
    StepWeight,
    StopPolicyShadow,
    StopShadow,
)
from shared.control.policies import policy_digest
from tests.simulation.artifacts import ARTIFACTS, MODELS, POOLS, artifact_of, policy
from tests.simulation.network import Mishap

SERVER: Final = "server"
READERS: Final = (
    "feature-builder",
    *(f"model-worker.{model}" for model in MODELS),
    "ensemble-voter",
    "executor",
    "shadow-recorder",
    "gate-evaluator",
)
SERVICES: Final = ("feed", *READERS, "guard")


HISTORY: Final = 104
"""Bars of each symbol after which its volatility is known, so that predictions are scored."""


class Kill(Struct, frozen=True, tag=True):
    """A process is killed ``steps`` of its callbacks after ``at``, and started again after ``down_s``; on another
    machine if ``moved``."""

    at: float
    who: str
    steps: int
    down_s: float
    moved: bool


class Stop(Struct, frozen=True, tag=True):
    """A process is asked to stop, and started again after ``down_s``."""

    at: float
    who: str
    down_s: float


class Suspend(Struct, frozen=True, tag=True):
    """A process does not run for ``for_s``. ``replaced``: another one is started on another machine meanwhile."""

    at: float
    who: str
    steps: int
    for_s: float
    replaced: bool


class Lose(Struct, frozen=True, tag=True):
    """What happens to the next request of a process that writes."""

    at: float
    who: str
    what: Mishap


class Slow(Struct, frozen=True, tag=True):
    """The messages of a process are slow for ``for_s``."""

    at: float
    who: str
    for_s: float


class Cut(Struct, frozen=True, tag=True):
    """A process cannot reach the server for ``for_s``."""

    at: float
    who: str
    for_s: float


class Restart(Struct, frozen=True, tag=True):
    """The server is killed, and comes back after ``down_s`` without its last ``lost`` writes."""

    at: float
    down_s: float
    lost: int


class SetClock(Struct, frozen=True, tag=True):
    """The wall clock of a process, or of the server, is moved by ``by_s``."""

    at: float
    who: str
    by_s: float


class DeleteRecord(Struct, frozen=True, tag=True):
    """An operator deletes the record of a group (its hash). Its consumer groups are left."""

    at: float
    who: str


class Issue(Struct, frozen=True, tag=True):
    """An operator issues a command. ``steps``: the operator's process is killed so many callbacks later; -1: never."""

    at: float
    command: Command
    steps: int = -1


Step = Kill | Stop | Suspend | Lose | Slow | Cut | Restart | SetClock | DeleteRecord | Issue
KINDS: Final = ("kill", "stop", "suspend", "lose", "slow", "cut", "restart", "lost tail", "clock", "delete")
"""What can go wrong. A plan is drawn from these, or from some of them."""
ON_REQUEST: Final = ("hour",)
"""What a plan is drawn from only if it is asked for: a clock that is moved by an hour."""


class Plan(Struct, frozen=True):
    """A run. ``bars`` of each symbol are fed at ``speed`` rows a second, after ``history`` bars that are there at the
    start. ``missing`` and ``doubled``: the numbers of rows that the source leaves out, or has twice."""

    seed: int
    bars: int
    speed: float
    steps: tuple[Step, ...] = ()
    history: int = 0
    missing: tuple[int, ...] = ()
    doubled: tuple[int, ...] = ()

    @property
    def over_s(self) -> float:
        """When the last step is over."""
        return max((step.at + _lasts(step) for step in self.steps), default=0.0)


def _lasts(step: Step) -> float:
    match step:
        case Kill(down_s=seconds) | Stop(down_s=seconds) | Restart(down_s=seconds):
            return seconds
        case Suspend(for_s=seconds) | Slow(for_s=seconds) | Cut(for_s=seconds):
            return seconds
        case _:
            return 0.0


def drawn(seed: int, kinds: tuple[str, ...] = KINDS) -> Plan:
    """Draw a plan. ``kinds``: what may go wrong in it."""
    draw = random.Random(f"{seed}/plan")
    bars, speed = draw.randrange(6, 16), draw.choice((8.0, 20.0, 50.0, 200.0))
    ends = 2 * bars / speed + 2.0
    steps: list[Step] = [step for _ in range(draw.randrange(7)) for step in _commands(draw, ends)]
    chosen = draw.sample(kinds, min(len(kinds), draw.choice((1, 2, 4, len(kinds))))) if kinds else []
    steps += [_trouble(draw, draw.choice(chosen), ends) for _ in range(draw.randrange(1, 8) if chosen else 0)]
    rows = range(2 * (bars - 1))
    return Plan(
        seed=seed,
        bars=bars,
        speed=speed,
        steps=tuple(sorted(steps, key=lambda step: step.at)),
        history=HISTORY if draw.random() < 0.3 else 0,
        missing=tuple(sorted(draw.sample(rows, draw.choice((0, 0, 1, 2))))),
        doubled=tuple(sorted(draw.sample(rows, draw.choice((0, 0, 1, 2))))),
    )


def _trouble(draw: random.Random, kind: str, ends: float) -> Step:
    at, who = round(draw.uniform(0.2, ends), 3), draw.choice(SERVICES)
    steps = draw.choice((draw.randrange(12), draw.randrange(200)))
    down_s = round(draw.choice((0.1, 1.0, draw.uniform(0.1, 6.0))), 3)
    match kind:
        case "kill":
            return Kill(at, who, steps, down_s, draw.random() < 0.3)
        case "stop":
            return Stop(at, who, down_s)
        case "suspend":
            replaced = draw.random() < 0.5
            return Suspend(
                at, who, steps, round(draw.uniform(9.0, 14.0) if replaced else draw.uniform(0.1, 4.0), 3), replaced
            )
        case "lose":
            return Lose(at, who, draw.choice(get_args(Mishap)))
        case "slow":
            return Slow(at, who, round(draw.uniform(0.5, 4.0), 3))
        case "cut":
            return Cut(at, who, round(draw.uniform(0.1, 7.0), 3))
        case "restart":
            return Restart(at, down_s, 0)
        case "lost tail":
            return Restart(at, down_s, draw.choice((1, draw.randrange(1, 10), draw.randrange(1, 100))))
        case "clock":
            return SetClock(at, draw.choice((*SERVICES, SERVER)), round(draw.uniform(-20.0, 20.0), 3))
        case "hour":
            return SetClock(at, draw.choice((*SERVICES, SERVER)), draw.choice((-3600.0, 3600.0)))
        case "delete":
            who = draw.choice(("feature-builder", *READERS[1:4], "ensemble-voter", "executor"))
            return DeleteRecord(at, who)
        case _:
            raise ValueError(f"no kind {kind!r}; there are {', '.join(KINDS)}")


def _commands(draw: random.Random, ends: float) -> list[Step]:
    """Draw a command; now and then one that is taken back at once."""
    first = _command(draw, ends)
    if isinstance(first.command, StopShadow) and draw.random() < 0.5:
        again = StartShadow(first.command.model, first.command.artifact)
        return [first, Issue(round(first.at + draw.choice((0.05, 1.0)), 3), again)]
    return [first]


def _command(draw: random.Random, ends: float) -> Issue:
    model = draw.choice(MODELS)
    artifact = artifact_of(model, draw.randrange(ARTIFACTS))
    voting = policy(draw.choice((0.02, 0.1)), draw.choice((1, 2)), draw.choice(POOLS))
    flatter = structs.replace(voting, temperature=1.25)
    made: list[Any] = [
        Promote(model, artifact, forced=True, weight=0.3),
        Promote(model, artifact, forced=True, weight=0.3, probation=draw.choice((3, 10, 10_000))),
        StartShadow(model, artifact),
        StopShadow(model, artifact),
        Rollback(),
        Rollback(model=model),
        voting,
        StartPolicyShadow(voting),
        StartPolicyShadow(flatter),
        StopPolicyShadow(policy_digest(voting)),
        PromotePolicy(policy_digest(voting), forced=True),
        PromotePolicy(policy_digest(flatter), forced=True, probation=draw.choice((3, 10, 10_000))),
        Rollback(model=ENSEMBLE),
        SetGatePolicy(draw.choice(("default", "classic"))),
        SetLadder(),
        StepWeight(model, up=draw.random() < 0.5),
        SetWeights({}),
        Halt(),
        Halt(),
        Resume(),
        Resume(),
        Resume(),
        Retire(model, artifact),
    ]
    steps = draw.randrange(20) if draw.random() < 0.1 else -1
    return Issue(round(draw.uniform(0.2, ends), 3), draw.choice(made), steps)


def without(plan: Plan, *steps: Step) -> Plan:
    """Return a plan without some of its steps."""
    return structs.replace(plan, steps=tuple(step for step in plan.steps if step not in steps))
