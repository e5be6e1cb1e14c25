"""Write a model card from the manifest, so that the card cannot differ from the artifact that is served.

It follows Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), as far as the manifest has the facts.
"""

from datetime import UTC, datetime

from schemas.common import ACTIONS
from shared.artifacts.manifest import Manifest
from shared.artifacts.scoring import Scores, interval_text
from shared.artifacts.show import calibration_text


def card(digest: str, manifest: Manifest) -> str:
    """Return the model card as Markdown."""
    data, label, metrics = manifest.data, manifest.label, manifest.metrics
    first, last = _day(data.first_open_time), _day(data.last_open_time)
    lines = [
        f"# {manifest.family} on {manifest.feature_set.name}",
        "",
        f"`{digest}`",
        "",
        "## What it predicts",
        "",
        f"Probabilities of {', '.join(ACTIONS)} for a bar of {manifest.interval_ms / 60_000:g} minutes, from the last "
        f"{manifest.window} vector{'s' if manifest.window > 1 else ''} of {len(manifest.feature_set.names)} features. "
        f"BUY: the log return over {label.horizon} bars exceeds {label.kappa:.3f} deviations; SELL: it falls below "
        "minus that; HOLD: neither.",
        "",
        "## Training data",
        "",
        *_imported(manifest),
        f"- {', '.join(data.symbols)}: {data.bars:,} bars from {first} to {last}, {data.source}",
        f"- {', '.join(f'{rows:,} rows {part}' for part, rows in metrics.rows.items())}, in order of time, purged",
        f"- bars: SHA-256 `{data.digest}`",
        f"- seed {manifest.seed}, {metrics.steps} steps kept; "
        + ", ".join(f"{name} {value:g}" for name, value in sorted(manifest.params.items())),
        f"- {', '.join(f'{name} {version}' for name, version in sorted(manifest.libraries.items()))}, "
        f"{manifest.processor}",
        "",
        "## Performance",
        "",
        "| | test (untouched) | validation |",
        "|---|---|---|",
        *_rows(metrics.test, metrics.validation),
        "",
        "Skill is the gain in log loss over the class prior, in thousandths of a nat a row, with a 95 % "
        "block-bootstrap interval. If the interval contains zero, no skill was shown. Skill on past bars is no "
        "evidence for future bars; gates judge that, in shadow.",
        "",
        "## Limitations",
        "",
        f"- classes in the test part: {_mix(metrics.test.classes)}; most likely classes by the model: "
        f"{_mix(metrics.test.actions)}",
        f"- {calibration_text(manifest)}",
    ]
    if manifest.backtest is not None:
        lines.append(
            f"- a change of one input by one standard deviation changes a probability by up to "
            f"{manifest.backtest.response:.3f}"
        )
    lines += [
        "- it was not trained on costs, order sizes, other symbols or news",
        "",
        "## Features, in order",
        "",
        ", ".join(f"`{name}`" for name in manifest.feature_set.names),
    ]
    return "\n".join(lines)


def _imported(manifest: Manifest) -> list[str]:
    source = manifest.imported
    if source is None:
        return []
    return [
        f"It was imported from `{source.file}` (SHA-256 `{source.sha256}`), layout {source.layout or 'unnamed'}, "
        f"scaler {source.scaler or 'none'}. **Its training data are not known**: the bars below are those on which it "
        "was measured, and it may have been trained on them.",
        "",
    ]


def _rows(test: Scores, validation: Scores) -> list[str]:
    def row(name: str, *cells: str) -> str:
        return f"| {name} | {' | '.join(cells)} |"

    both = (test, validation)
    return [
        row("skill (mnat)", *(interval_text(s.skill) for s in both)),
        row("of it about moves", *(interval_text(s.moves) for s in both)),
        row("of it about direction", *(interval_text(s.direction) for s in both)),
        row("log loss (class prior)", *(f"{s.log_loss:.4f} ({s.prior_log_loss:.4f})" for s in both)),
        row("Brier (class prior)", *(f"{s.brier:.4f} ({s.prior_brier:.4f})" for s in both)),
        row("accuracy (majority class)", *(f"{s.accuracy:.3f} ({s.majority:.3f})" for s in both)),
        row("distinct predictions", *(f"{s.distinct:,}" for s in both)),
    ]


def _mix(shares: tuple[float, float, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in zip(ACTIONS, shares, strict=True))


def _day(at: int) -> str:
    return str(datetime.fromtimestamp(at / 1000, UTC).date())
