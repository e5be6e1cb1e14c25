"""Measure how often the four gates of ``classic`` pass an optimal forecaster, noise, and a copy of the ensemble.

Each candidate is judged once, on its first 200 or 2,000 scored predictions, in markets whose best forecast is known.
``earlier``: the agreement gate passes from 55 %; ``later``: from 55 to 75 %.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import forecasts
from bench.forecasts import Array, Market
from bench.harness import Figure
from shared.gates import classic
from shared.gates.classic import ClassicPolicy, Tally
from shared.gates.rows import Row

SYMBOLS = 8
EARLIER, LATER = ClassicPolicy(band=False), ClassicPolicy()
GATES = ("diversity", "spread", "agreement", "calibration")
CANDIDATES = ("best", "best_overconfident", "noise", "loud_noise", "copy_of_ensemble", "constant")


class Scene(NamedTuple):
    """A market: the share of HOLD, and the strength of its signals."""

    hold: float
    beta: float


SCENES = {
    "hold40_weak": Scene(0.40, 0.05),
    "hold40_medium": Scene(0.40, 0.10),
    "hold40_strong": Scene(0.40, 0.25),
    "hold60_medium": Scene(0.60, 0.10),
    "hold82_medium": Scene(0.82, 0.10),
}


def run(quick: bool) -> dict[str, Figure]:
    """Return the shares of draws that passed three of the four gates, by market and candidate."""
    figures = {}
    for scene_name, scene in SCENES.items():
        for samples, draws in ((200, 60 if quick else 400), (2000, 8 if quick else 100)):
            passed = _passes(scene, samples, draws)
            for name, (earlier, later, gates) in passed.items():
                by_gate = ", ".join(f"{gate} {share:.2f}" for gate, share in zip(GATES, gates, strict=True))
                figures[f"{scene_name}_{samples}_{name}"] = Figure(
                    earlier, "share passed", "", f"later text {later:.3f}; {by_gate}"
                )
    return figures


def table(figures: dict[str, Figure]) -> str:
    """Return the table of the documentation, in Markdown."""
    lines = ["| market | samples | " + " | ".join(name.replace("_", " ") for name in CANDIDATES) + " |"]
    lines.append("|---|---|" + "---|" * len(CANDIDATES))
    for scene in SCENES:
        for samples in (200, 2000):
            cells = []
            for name in CANDIDATES:
                figure = figures[f"{scene}_{samples}_{name}"]
                later = figure.against.split(";")[0].removeprefix("later text ")
                cells.append(f"{figure.value:.2f} / {float(later):.2f}")
            lines.append(f"| {scene.replace('_', ', ')} | {samples:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _passes(scene: Scene, samples: int, draws: int) -> dict[str, tuple[float, float, tuple[float, ...]]]:
    found: dict[str, list[tuple[bool, bool, tuple[bool, ...]]]] = {name: [] for name in CANDIDATES}
    bars = -(-samples // SYMBOLS)
    for draw in range(draws):
        of = forecasts.market(draw + 1, bars, SYMBOLS, beta=scene.beta, hold=scene.hold)
        prior = np.array([(1 - scene.hold) / 2, scene.hold, (1 - scene.hold) / 2])
        members = [
            forecasts.forecast(of, b=False, noise=0.5, seed=draw),
            forecasts.forecast(of, a=False, noise=0.5, seed=1_000_000 + draw),
        ]
        ensemble = _pool(prior, members)
        random = np.random.default_rng([draw, 9])
        best = forecasts.forecast(of)
        candidates = {
            "best": best,
            "best_overconfident": _sharp(best),
            "noise": _jitter(np.broadcast_to(prior, best.shape), 0.30, random),
            "loud_noise": _jitter(np.broadcast_to(prior, best.shape), 1.0, random),
            "copy_of_ensemble": _jitter(ensemble, 0.02, random),
            "constant": np.broadcast_to(np.array([0.015, 0.97, 0.015]), best.shape),
        }
        decided = ensemble.argmax(axis=-1)
        for name, p in candidates.items():
            found[name].append(_judged(of, p, decided, samples))
    out = {}
    for name, rows in found.items():
        gates = tuple(float(np.mean([row[2][k] for row in rows])) for k in range(4))
        out[name] = (float(np.mean([row[0] for row in rows])), float(np.mean([row[1] for row in rows])), gates)
    return out


def _judged(of: Market, p: Array, decided: NDArray[np.int64], samples: int) -> tuple[bool, bool, tuple[bool, ...]]:
    state = Tally()
    flat = p.reshape(-1, 3)[:samples]
    columns = (flat.tolist(), flat.argmax(axis=1).tolist(), decided.ravel().tolist(), of.move.ravel().tolist())
    for chosen, action, ensemble, move in zip(*columns, strict=False):
        classic.evolve(state, Row("S", 0, chosen, 0, (1.0, 0.0, 0.0), action, ensemble=ensemble, move=move))
    earlier = classic.judge(state, EARLIER)
    gates = tuple(one.outcome == "passed" for one in earlier.gates)
    return earlier.outcome == "passed", classic.judge(state, LATER).outcome == "passed", gates


def _pool(prior: Array, members: list[Array]) -> Array:
    """Return the log-linear pool of members with weight one: each knows another signal, so their evidence adds up."""
    logits = np.log(prior) + sum(np.log(p) - np.log(prior) for p in members)
    return _softmax(logits)


def _sharp(p: Array) -> Array:
    """Return probabilities sharpened with temperature one half."""
    return _softmax(2 * np.log(np.maximum(p, 1e-12)))


def _jitter(p: Array, size: float, random: np.random.Generator) -> Array:
    return _softmax(np.log(np.maximum(p, 1e-12)) + random.normal(0.0, size, size=p.shape))


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p: Array = powers / powers.sum(axis=-1, keepdims=True)
    return p
