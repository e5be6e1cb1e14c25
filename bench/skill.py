"""Compare pools and action policies walk forward on real bars: what each gains over the class prior, and by what.

    python -m bench skill FOLDER [--quick]          (or the folder in BARS)

FOLDER has files of 1 hour and of 15 minutes of BTC, ETH, LINK and DOT, such as ``BTCUSDT-1h.binance-spot.csv.gz``.
Every family is trained on the four symbols together in six walk-forward folds with seed 1 (``bench.walk_forward``),
calibrated and centred as an artifact is, and predicts the fold's test part. All pools have equal weights and are
compared on the same rows; intervals are of a circular block bootstrap that keeps the symbols of a bar together. The
probabilities are kept in ``bench/out/skill``: another run compares without a fit. All that was tried is in the figures,
with what failed. Stackers are fitted on earlier folds and judged on later ones (``bench.stackers``).

Quick: a sixth of the training rows for trees and linear models, a twelfth for networks, which run three epochs.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.harness import Figure
from bench.stackers import compared_stackers
from bench.walk_forward import (
    FAMILIES,
    INTERVALS,
    LIBRARIES,
    QUICK,
    SEED,
    SYMBOLS,
    WHOLE,
    Floats,
    Fold,
    folds,
    joined,
    load,
)
from shared.artifacts.scoring import Interval, block_interval, block_of, log_losses, split_gains, spread
from shared.training.fitting import HORIZON
from shared.voting.pool import FULL_SPREAD

COST: Final = 0.0016
"""Fee, half spread and slippage of entry and exit: the default of the execution policy, twice."""
DEFAULT: Final = "logpool"
FOUR: Final = ("xgboost", "lightgbm", "nhits", "patchtst")
"""The members of the usual ensemble. The logistic regression is the fifth of ``FAMILIES``."""
SMALLEST: Final = 1.0
"""A library that gains less (mnat) gains nothing that one could be a multiple of."""
EDGES: Final = (0.0, 0.02, 0.05, 0.10)
LEANS: Final = (0.05, 0.10, 0.15, 0.20)


class Mixture(NamedTuple):
    """One way to make one forecast of several. ``what`` describes it."""

    p: Floats
    what: str


def normalised(logits: Floats) -> Floats:
    """Return the softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def pools(rows: Fold, members: Sequence[str]) -> dict[str, Mixture]:
    """Return every pool of the members that is compared, with equal weights."""
    answers = [rows.answers[name] for name in members]
    logs = [np.log(np.maximum(one.p, 1e-9)) for one in answers]
    prior = np.log(rows.prior)
    came = np.log(np.mean([one.came for one in answers], axis=0))
    mean_log = [one.mean_log for one in answers]
    log_mean = [np.log(one.mean) for one in answers]
    hindsight = [np.tile(log.mean(axis=0), (len(log), 1)) for log in logs]

    def log_pool(base: Floats, centres: Sequence[Floats], temperature: float = 1.0) -> Floats:
        evidence = [log - centre for log, centre in zip(logs, centres, strict=True)]
        return normalised((base + np.mean(evidence, axis=0)) / temperature)

    def linear_pool(base: Floats, centres: Sequence[Floats]) -> Floats:
        moved = [normalised(base + log - centre) for log, centre in zip(logs, centres, strict=True)]
        return np.asarray(np.mean(moved, axis=0))

    def pooled(every: Floats, base: Floats) -> Floats:
        """Return the log-linear pool with a fifth member that always says HOLD 0.97, at a quarter of the weight."""
        return normalised(base + 0.75 * every)

    evidence = np.mean([log - centre for log, centre in zip(logs, mean_log, strict=True)], axis=0)
    constant = np.array([0.015, 0.97, 0.015])
    mean = np.asarray(np.mean([one.p for one in answers], axis=0))
    return {
        DEFAULT: Mixture(log_pool(prior, mean_log), "prior of training, centred by the mean of logs"),
        "logpool T=0.8": Mixture(log_pool(prior, mean_log, 0.8), "sharper"),
        "logpool T=1.25": Mixture(log_pool(prior, mean_log, 1.25), "flatter"),
        "logpool, centres of the test part": Mixture(log_pool(prior, hindsight), "no stale centre, in hindsight"),
        "logpool, prior of calibration": Mixture(log_pool(came, mean_log), "newer base"),
        "logpool, log of the mean": Mixture(log_pool(prior, log_mean), "centred by the log of the mean"),
        "logpool, both": Mixture(log_pool(came, log_mean), "newer base, centred by the log of the mean"),
        "mean, moved to the prior of training": Mixture(linear_pool(prior, log_mean), "each to that base"),
        "mean, moved to the prior of calibration": Mixture(linear_pool(came, log_mean), "each to that base"),
        "mean, weights by skill so far": Mixture(_by_skill(rows, members), "in proportion, from earlier folds"),
        "logmean": Mixture(normalised(np.mean(logs, axis=0)), "geometric mean"),
        "mean": Mixture(mean, "arithmetic mean"),
        "logpool, with a constant": Mixture(pooled(evidence, prior), "HOLD 0.97 at a quarter of the weight"),
        "mean, with a constant": Mixture(
            _moving([*(one.p for one in answers), np.tile(constant, (len(mean), 1))]), "the same"
        ),
        "plain mean, with a constant": Mixture(0.75 * mean + 0.25 * constant, "without a promise about constants"),
    }


def _moving(answers: Sequence[Floats]) -> Floats:
    """Return the mean as ``shared.voting.pool`` makes it: by how far each moves. The last one has a quarter of the
    weight."""
    weights = np.array([0.75 / (len(answers) - 1)] * (len(answers) - 1) + [0.25])
    shares = weights * [min(1.0, spread(one) / FULL_SPREAD) for one in answers]
    return np.asarray(np.einsum("m,mrk->rk", shares / shares.sum(), np.stack(answers)))


def _by_skill(rows: Fold, members: Sequence[str]) -> Floats:
    """Return the mean with weights in proportion to the skill in earlier folds; equal ones in the first."""
    base = log_losses(rows.prior, rows.y)
    gains = np.stack([base - log_losses(rows.answers[name].p, rows.y) for name in members], axis=1)
    every = np.stack([rows.answers[name].p for name in members])
    out: Floats = np.empty_like(every[0])
    for number in np.unique(rows.fold):
        before, now = rows.fold < number, rows.fold == number
        skill = np.maximum(gains[before].mean(axis=0), 0.0) if before.any() else np.ones(len(members))
        weights = skill / skill.sum() if skill.sum() > 0 else np.full(len(members), 1 / len(members))
        out[now] = np.einsum("m,mrk->rk", weights, every[:, now])
    return out


def interval(rows: Fold, gain: Floats) -> Interval:
    """Return a mean gain (mnat) with its interval."""
    return block_interval(1000.0 * gain, rows.time, block_of(rows.time, HORIZON), SEED)


def words(one: Interval) -> str:
    return f"[{one.low:+.1f}, {one.high:+.1f}]"


def compared(rows: Fold, members: Sequence[str], within: str) -> dict[str, Figure]:
    """Return the skill of every member, library and pool, and the gain of each pool over the best member."""
    figures: dict[str, Figure] = {}
    base = log_losses(rows.prior, rows.y)
    forecasts = {name: Mixture(answer.p, "") for name, answer in rows.answers.items()} | pools(rows, members)
    losses = {name: log_losses(one.p, rows.y) for name, one in forecasts.items()}
    moving = float((rows.y != 1).mean())
    for name, one in forecasts.items():
        skill = interval(rows, base - losses[name])
        moves, direction = (1000.0 * float(part.mean()) for part in split_gains(one.p, rows.prior, rows.y))
        about = (
            f"{words(skill)}; moves {moves:+.1f}, direction {direction:+.2f} ({direction / moving:+.2f} a moving row)"
        )
        figures[f"{within} {name}"] = Figure(skill.value, "mnat", "", f"{about}; {one.what}" if one.what else about)
    best = min(members, key=lambda name: float(losses[name].mean()))
    for name in pools(rows, members):
        for other in (best, "mean", DEFAULT):
            if name != other:
                gain = interval(rows, losses[other] - losses[name])
                goal = ">= 0" if name == "mean" and other == best else ""
                figures[f"{within} {name} over {other}"] = Figure(gain.value, "mnat", goal, words(gain))
    figures |= _goals(rows, base, losses, within)
    for name in members:
        alone = pools(rows, [name])
        gain = interval(rows, losses[name] - log_losses(alone[DEFAULT].p, rows.y))
        figures[f"{within} {name} alone in {DEFAULT}, over itself"] = Figure(gain.value, "mnat", "", words(gain))
    figures |= _by_fold(rows, losses, within)
    return figures


def _goals(rows: Fold, base: Floats, losses: Mapping[str, Floats], within: str) -> dict[str, Figure]:
    """Return how the mean of the usual four compares with its best member and the best library, and each network with
    the best tree, by symbol too."""
    figures: dict[str, Figure] = {}
    four = log_losses(np.asarray(np.mean([rows.answers[name].p for name in FOUR], axis=0)), rows.y)
    best = min(FOUR, key=lambda name: float(losses[name].mean()))
    for label, other, goal in (
        ("", base, ""),
        (f" over {best}", losses[best], ">= 0"),
        (" over mean", losses["mean"], ""),
    ):
        gain = interval(rows, other - four)
        figures[f"{within} mean of the four{label}"] = Figure(gain.value, "mnat", goal, words(gain))
    library = min(LIBRARIES, key=lambda name: float(losses[name].mean()))
    skills = {name: 1000.0 * float((base - loss).mean()) for name, loss in (("four", four), (library, losses[library]))}
    figures[f"{within} mean of the four, times the best library"] = Figure(
        skills["four"] / max(skills[library], SMALLEST),
        "times",
        ">= 1.15",
        f"{skills['four']:+.1f} and {skills[library]:+.1f}, {library}; at least {SMALLEST:g} is taken",
    )
    tree = min(("xgboost", "lightgbm"), key=lambda name: float(losses[name].mean()))
    for name in ("nhits", "patchtst"):
        gains = losses[tree] - losses[name]
        gain = interval(rows, gains)
        by_symbol = ", ".join(
            f"{symbol} {1000.0 * float(gains[rows.symbol == number].mean()):+.1f}"
            for number, symbol in enumerate(sorted(SYMBOLS))
        )
        figures[f"{within} {name} over {tree}"] = Figure(gain.value, "mnat", ">= -2", f"{words(gain)}; {by_symbol}")
    return figures


def _by_fold(rows: Fold, losses: Mapping[str, Floats], within: str) -> dict[str, Figure]:
    """Return what the log-linear pool gains over the mean in its best and its worst fold."""
    gains = 1000.0 * (losses["mean"] - losses[DEFAULT])
    each = [float(gains[rows.fold == number].mean()) for number in np.unique(rows.fold)]
    said = ", ".join(f"{one:+.1f}" for one in each)
    return {f"{within} {DEFAULT} over mean, worst fold": Figure(min(each), "mnat", "", f"folds in order: {said}")}


def acted(rows: Fold, p: Floats, within: str) -> dict[str, Figure]:
    """Return how often each action policy acts, and what that earns, gross and after costs (bp a trade)."""
    figures: dict[str, Figure] = {}
    lead = p[:, 2] - p[:, 0]
    lean = lead / np.maximum(p[:, 2] + p[:, 0], 1e-9)
    policies: Mapping[str, Floats] = {
        **{f"edge {edge:g}": np.where(np.abs(lead) >= edge, np.sign(lead), 0.0) for edge in EDGES},
        f"cost {COST:.2%}": np.where(np.abs(lead) >= COST / rows.reach, np.sign(lead), 0.0),
        **{f"lean {least:g}": np.where(np.abs(lean) >= least, np.sign(lead), 0.0) for least in LEANS},
    }
    for name, side in policies.items():
        trades = np.abs(side) > 0
        buys, sells = float((side > 0).mean()), float((side < 0).mean())
        if not trades.any():
            figures[f"{within} {name}"] = Figure(0.0, "of rows", "", "never acts")
            continue
        gross = block_interval(
            1e4 * (side * rows.forward)[trades], rows.time[trades], block_of(rows.time, HORIZON), SEED
        )
        right = float((np.sign(rows.forward) == side)[trades].mean())
        about = (
            f"BUY {buys:.3%}, SELL {sells:.3%}; {gross.value:+.1f} {words(gross)} bp a trade before costs, "
            f"{gross.value - 1e4 * COST:+.1f} after; right sign {right:.1%}"
        )
        figures[f"{within} {name}"] = Figure(buys + sells, "of rows", "", about)
    return figures


def run(quick: bool, *folders: str) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    folder = folders[0] if folders else os.environ.get("BARS", "")
    if not folder or not Path(folder).is_dir():
        raise SystemExit(
            f"expected a folder of bar files (on the command line or in BARS), got {folder!r}; see the docstring"
        )
    effort = QUICK if quick else WHOLE
    figures: dict[str, Figure] = {}
    for name in INTERVALS:
        data = load(Path(folder), name)
        rows = joined(folds(data, name, effort, (*FAMILIES, *LIBRARIES), lambda said: print(said, flush=True)))
        figures |= compared(rows, FAMILIES, name)
        figures |= compared_stackers(rows, data, FAMILIES, name)
        figures |= acted(rows, pools(rows, FAMILIES)["mean"].p, f"{name} mean,")
        figures |= acted(rows, pools(rows, FAMILIES)[DEFAULT].p, f"{name} {DEFAULT},")
    return figures
