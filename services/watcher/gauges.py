"""The gauges of the installation (``shared.telemetry.metrics``). Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from services.watcher.alerts import ALERTS
from services.watcher.lone import SHORT, LoneLines
from services.watcher.money import money_readings
from services.watcher.state import State, active_counts
from shared.control import State as Control
from shared.log import GroupView
from shared.telemetry.metrics import MetricReading

VERDICTS: Final = {"passed": 1.0, "inconclusive": 0.0, "failed": -1.0}


def readings(
    state: State, views: Sequence[GroupView], control: Control, waiting: int, lone: LoneLines
) -> list[MetricReading]:
    """Return the value of every gauge. ``waiting``: notices that no address has accepted yet. ``lone``: the money
    of every model and shadow alone."""
    counts = active_counts(state)
    return [
        MetricReading("conclave.control.version", (), control.version),
        MetricReading("conclave.control.halted", (), float(control.halted)),
        MetricReading("conclave.notices.waiting", (), waiting),
        *_models(control),
        *_groups(views),
        *_gates(state),
        *_jobs(state),
        *money_readings(state.money, control.execution.equity),
        *lone.readings(control),
        *(MetricReading("conclave.alerts", (name,), counts.get(name, 0)) for name in ALERTS),
    ]


def _models(control: Control) -> Iterator[MetricReading]:
    for name, model in sorted(control.models.items()):
        if model.champion:
            yield MetricReading("conclave.model.weight", (name,), model.weight or 0.0)


def _groups(views: Sequence[GroupView]) -> Iterator[MetricReading]:
    for view in views:
        where = (view.group, str(view.partition))
        yield MetricReading("conclave.group.alive", where, float(view.alive))
        yield MetricReading("conclave.group.starts", where, view.epoch)
        for stream, lag in view.lag.items():
            yield MetricReading("conclave.group.lag", (*where, stream), lag)


def _jobs(state: State) -> Iterator[MetricReading]:
    for model, job in state.jobs.items():
        yield MetricReading("conclave.training.stage", (model, job.stage), 1.0)
        yield MetricReading("conclave.training.progress", (model,), job.progress)
        for part, loss in job.losses.items():
            yield MetricReading("conclave.training.log_loss", (model, part), loss)


def _gates(state: State) -> Iterator[MetricReading]:
    for verdict in state.judged.values():
        about = (verdict.model, verdict.artifact[:SHORT], str(verdict.partition))
        yield MetricReading("conclave.verdict", about, VERDICTS[verdict.overall])
        for name, (value, threshold) in verdict.gates.items():
            if value is not None:
                yield MetricReading("conclave.gate.value", (*about, name), value)
            if threshold is not None:
                yield MetricReading("conclave.gate.threshold", (*about, name), threshold)
