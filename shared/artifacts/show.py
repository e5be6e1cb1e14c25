"""Show the manifest of an artifact as a table: its data, its label and its scores."""

from collections.abc import Callable
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from schemas.common import ACTIONS
from shared.artifacts.manifest import Manifest
from shared.artifacts.scoring import Scores, interval_text


def render(manifest: Manifest, digest: str = "") -> Table:
    """Return a table with the scores on the test part, and on the validation part that early stopping used."""
    table = Table(
        title=f"{manifest.family} on {manifest.feature_set.name} {digest[:12]}".strip(), caption=_caption(manifest)
    )
    table.add_column("")
    table.add_column("test (untouched)", justify="right")
    table.add_column("validation", justify="right")
    both = (manifest.metrics.test, manifest.metrics.validation)
    rows: dict[str, Callable[[Scores], str | Text]] = {
        "skill over the class prior, mnat [95 %]": _skill,
        "of it about moves": lambda s: interval_text(s.moves),
        "of it about direction": lambda s: interval_text(s.direction),
        "log loss (class prior)": lambda s: f"{s.log_loss:.4f} ({s.prior_log_loss:.4f})",
        "Brier (class prior)": lambda s: f"{s.brier:.4f} ({s.prior_brier:.4f})",
        "accuracy (majority class)": lambda s: f"{s.accuracy:.3f} ({s.majority:.3f})",
        f"observed: {' / '.join(ACTIONS)}": lambda s: _mix(s.classes),
        "predicted as most likely": lambda s: _mix(s.actions),
        "distinct predictions (to 1e-3)": lambda s: f"{s.distinct:,}",
        "rows": lambda s: f"{s.rows:,}",
    }
    for name, cell in rows.items():
        table.add_row(name, *(cell(scores) for scores in both))
    return table


def _skill(scores: Scores) -> Text:
    skill = scores.skill
    mark = "bold green" if skill.low > 0 else "red" if skill.high < 0 else "yellow"
    return Text.assemble((f"{skill.value:+.1f}", mark), f" [{skill.low:+.1f}, {skill.high:+.1f}]")


def _mix(mix: tuple[float, float, float]) -> str:
    return " / ".join(f"{share:.0%}" for share in mix)


def _caption(manifest: Manifest) -> str:
    data, label, metrics = manifest.data, manifest.label, manifest.metrics
    first, last = (datetime.fromtimestamp(at / 1000, UTC).date() for at in (data.first_open_time, data.last_open_time))
    return (
        f"{', '.join(data.symbols)}: {data.bars:,} bars of {manifest.interval_ms / 60_000:g} min, {first} to {last}, "
        f"from {data.source}; {metrics.rows['train']:,} training rows\n"
        f"label {label.name}: {label.horizon} bars, kappa {label.kappa:.3f}; {metrics.steps} steps kept; "
        f"{calibration_text(manifest)}; seed {manifest.seed}"
    )


def calibration_text(manifest: Manifest) -> str:
    """Return how the artifact is calibrated, or which calibration was refused, with the log losses."""
    metrics = manifest.metrics.calibration
    if metrics is None:
        return "not calibrated"
    tried = "vector scaling" if metrics.tried == "vector" else f"temperature {manifest.metrics.fitted_temperature:.3f}"
    losses = (
        f"log loss {metrics.held_before:.4f} to {metrics.held_after:.4f} held out, "
        f"{metrics.test_before:.4f} to {metrics.test_after:.4f} on the test part"
    )
    return f"{tried} {'kept' if metrics.method == metrics.tried else 'refused: it does harm'}: {losses}"
