"""The screen Training: what is trained, why, and with what result? Pure."""

from typing import Final

from msgspec import Struct, structs

from schemas.training import (
    DataReport,
    Gain,
    PenaltyTried,
    PolicyGain,
    Recipe,
    SanityCheck,
    StackerFitted,
    StackerRejected,
    TrainingCompleted,
    TrainingFailed,
    TrainingRejected,
)
from services.observatory.core import State
from services.observatory.jobs import ObservedJob, TrainingStep
from shared.control import State as Control
from shared.training.fits import Fit
from shared.training.jobs import Job

PAGE: Final = 15
FITS: Final = 10
"""The newest fits of a stacker that are shown."""


class EndShown(Struct, frozen=True):
    """How a job ended. ``reason`` and ``evidence`` are those of a rejection or a failure; ``quarantine`` is where the
    model of a rejected job lies. The other fields are those of a job that made an artifact."""

    at: int
    reason: str = ""
    evidence: str = ""
    quarantine: str = ""
    artifact: str = ""
    shadow: bool = False
    version: int = 0
    log_loss: float | None = None
    prior_log_loss: float | None = None
    gains: tuple[Gain, ...] = ()
    sanity: tuple[SanityCheck, ...] = ()
    seconds: float | None = None
    peak_mb: float | None = None

    @property
    def outside(self) -> list[str]:
        """The sanity checks that did not pass."""
        return [check.name for check in self.sanity if not check.passed]


class JobShown(Struct, frozen=True):
    """One job: who requested it and why, its data, its progress, and its end. ``cause``: operator, schedule, drift or
    decay; ``evidence`` is the event on ``gates`` for the last two. ``first`` and ``last`` are its bars (ms)."""

    id: str
    model: str
    state: str
    cause: str
    actor: str
    reason: str
    evidence: str
    at: int
    recipe: Recipe
    days: float
    forced: bool
    attempt: int
    worker: str
    began: int
    first: int
    last: int
    stage: str
    step: int
    steps: int
    skill: float | None
    rows: int
    unfit: tuple[str, ...]
    drift: float | None
    drifted: tuple[str, ...]
    curve: tuple[TrainingStep, ...]
    end: EndShown | None


class FitShown(Struct, frozen=True):
    """One fit of a stacker: who requested it and why, and its end. ``base``: the pool below it, empty for that of the
    policy in force. ``tried``: every penalty. ``reason`` and ``evidence`` are those of a rejection or a failure;
    ``policy`` (a digest), ``rounds``, ``penalty`` and ``later`` those of a stacker. ``note``: why it is not in
    shadow."""

    id: str
    state: str
    cause: str
    actor: str
    why: str
    at: int
    forced: bool
    base: str
    stage: str
    tried: tuple[PenaltyTried, ...] = ()
    ended: int = 0
    reason: str = ""
    evidence: str = ""
    policy: str = ""
    rounds: int = 0
    penalty: float | None = None
    later: PolicyGain | None = None
    shadow: bool = False
    version: int = 0
    note: str = ""


class PolicyShown(Struct, frozen=True):
    """When models are trained without a person: every so many hours (0: never), on drift, on decay; and when stackers
    are fitted."""

    hours: int
    on_drift: bool
    on_decay: bool
    cooldown_hours: int
    budget: int
    window_days: int
    stacker_hours: int


class TrainingScreen(Struct, frozen=True):
    """The whole screen, jobs newest first, those that run before the others. ``fits``: the newest fits of a stacker,
    newest first."""

    policy: PolicyShown
    count: int
    states: dict[str, int]
    jobs: tuple[JobShown, ...]
    page: int
    pages: int
    fits: tuple[FitShown, ...] = ()


class RecipeDifference(Struct, frozen=True):
    """One value of a recipe, in the champion and in the job."""

    what: str
    champion: str
    job: str


class JobScreen(Struct, frozen=True):
    """One job, compared with the champion of its model. ``champion``: its digest; empty if there is none. ``unknown``:
    why the recipe of the champion is not known."""

    job: JobShown
    report: DataReport | None
    champion: str
    differences: tuple[RecipeDifference, ...]
    unknown: str = ""


def screen(state: State, control: Control, *, page: int = 1) -> TrainingScreen:
    """Return a page of jobs."""
    observed = sorted(state.jobs.values(), key=lambda each: (each.job.ended is None, each.job.request.at), reverse=True)
    pages = max(1, -(-len(observed) // PAGE))
    page = min(max(page, 1), pages)
    policy = control.training
    states = [each.job.state for each in observed]
    return TrainingScreen(
        policy=PolicyShown(
            hours=policy.schedule_hours,
            on_drift=policy.on_drift,
            on_decay=policy.on_decay,
            cooldown_hours=policy.cooldown_hours,
            budget=policy.budget,
            window_days=policy.window_days,
            stacker_hours=policy.stacker_hours or 0,
        ),
        count=len(observed),
        states={name: states.count(name) for name in dict.fromkeys(states)},
        jobs=tuple(shown(each) for each in observed[(page - 1) * PAGE : page * PAGE]),
        page=page,
        pages=pages,
        fits=tuple(fit_shown(fit) for fit in reversed([*state.fits.values()][-FITS:])),
    )


def fit_shown(fit: Fit) -> FitShown:
    """Return one fit of a stacker."""
    request = fit.request
    shown = FitShown(
        id=fit.id,
        state=fit.state,
        cause=request.cause,
        actor=request.actor,
        why=request.reason,
        at=request.at,
        forced=request.forced,
        base=request.base or "",
        stage=fit.progress.stage if fit.progress is not None and fit.started is not None else "",
    )
    match fit.ended:
        case None:
            return shown
        case StackerFitted() as made:
            return structs.replace(
                shown,
                tried=made.tried,
                ended=made.at,
                policy=made.digest,
                rounds=made.rounds,
                penalty=made.penalty,
                later=made.later,
                shadow=made.shadow,
                version=made.version,
                note=made.note,
            )
        case StackerRejected() as rejected:
            return structs.replace(
                shown, tried=rejected.tried, ended=rejected.at, reason=rejected.reason, evidence=rejected.evidence
            )
        case TrainingFailed() as failed:
            return structs.replace(shown, ended=failed.at, reason=failed.reason, evidence=failed.detail)


def shown(observed: ObservedJob) -> JobShown:
    """Return one job."""
    job, request = observed.job, observed.job.request
    started, progress, report = job.started, job.progress, job.report
    fitting = progress is not None and progress.stage == "fitting"
    return JobShown(
        id=job.id,
        model=request.model,
        state=job.state,
        cause=request.cause,
        actor=request.actor,
        reason=request.reason,
        evidence=request.evidence or "",
        at=request.at,
        recipe=request.recipe,
        days=request.window_ms / 86_400_000,
        forced=request.forced,
        attempt=started.attempt if started else 0,
        worker=started.worker if started else "",
        began=started.at if started else 0,
        first=started.first if started else 0,
        last=started.last if started else 0,
        stage=progress.stage if progress is not None and started is not None else "",
        step=progress.number if progress is not None and fitting else 0,
        steps=progress.of if progress is not None and fitting else 0,
        skill=progress.skill if progress is not None else None,
        rows=report.rows if report else 0,
        unfit=report.unfit if report else (),
        drift=report.drift if report else None,
        drifted=report.drifted if report else (),
        curve=tuple(observed.steps),
        end=_end(job),
    )


def _end(job: Job) -> EndShown | None:
    match job.ended:
        case None:
            return None
        case TrainingCompleted() as made:
            return EndShown(
                at=made.at,
                artifact=made.artifact,
                shadow=made.shadow,
                version=made.version,
                log_loss=made.log_loss,
                prior_log_loss=made.prior_log_loss,
                gains=made.gains,
                sanity=made.sanity,
                seconds=made.seconds,
                peak_mb=made.peak_mb,
            )
        case TrainingRejected() as rejected:
            return EndShown(
                at=rejected.at,
                reason=rejected.reason,
                evidence=rejected.evidence,
                quarantine=rejected.quarantine,
                seconds=rejected.seconds,
            )
        case TrainingFailed() as failed:
            return EndShown(at=failed.at, reason=failed.reason, evidence=failed.detail)


def job_screen(observed: ObservedJob, champion: str, recipe: Recipe | str) -> JobScreen:
    """Return one job compared with the champion, whose ``recipe`` may be the reason why it is not known."""
    known = isinstance(recipe, Recipe)
    return JobScreen(
        job=shown(observed),
        report=observed.job.report,
        champion=champion,
        differences=differences(recipe, observed.job.request.recipe) if isinstance(recipe, Recipe) else (),
        unknown="" if known else str(recipe),
    )


def differences(champion: Recipe, job: Recipe) -> tuple[RecipeDifference, ...]:
    """Return how two recipes differ, parameters by name."""
    before, after = _flat(champion), _flat(job)
    return tuple(
        RecipeDifference(name, before.get(name, "not set"), after.get(name, "not set"))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    )


def _flat(recipe: Recipe) -> dict[str, str]:
    values = {
        "family": recipe.family,
        "feature set": recipe.feature_set,
        "horizon": recipe.horizon,
        "share of HOLD": recipe.hold,
        "seed": recipe.seed,
        "imbalance": recipe.imbalance,
        **recipe.params,
    }
    return {name: f"{value:g}" if isinstance(value, int | float) else str(value) for name, value in values.items()}
