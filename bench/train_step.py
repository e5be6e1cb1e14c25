"""Measure a training step of PatchTST and N-HiTS as forecasters, against neuralforecast's with the same sizes.

    python -m venv bench/out/peer && bench/out/peer/bin/pip install neuralforecast==3.3.0 torch==2.13.0
    python -m bench train-step [ETTh1.csv.gz] [--quick]

neuralforecast (Nixtla, Apache-2.0) depends on Ray and Lightning, so it is installed in a separate environment. Without
it only our steps are measured, and the output reports that. Both get the same series (from the file, or synthetic), the
same batch, Adam, the mean absolute error, and one thread. A step is forward, loss, backward and update, without
Lightning and data loaders on both sides. Measured is processor time. Rounds of the two alternate; the result is the
median over rounds of the fastest step in a round.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.forecasting import HORIZON, read, step
from bench.harness import HERE, Figure
from shared.families.nhits.body import NHitsBody as NHiTSBody
from shared.families.nhits.body import Stack
from shared.families.nhits.net import Forecaster as NHiTS
from shared.families.patchtst.body import PatchTSTBody
from shared.families.patchtst.net import Forecaster as PatchTST

PEER = HERE / "out" / "peer" / "bin" / "python"
SCRIPT = HERE / "peers" / "forecasters.py"
SERIES = 896
"""Number of series in a batch: 128 windows of seven channels."""
SIZES: dict[str, Any] = {
    "horizon": HORIZON,
    "patchtst": {
        "window": 336,
        "patch": 16,
        "stride": 8,
        "width": 16,
        "heads": 4,
        "layers": 3,
        "feedforward": 128,
        "dropout": 0.3,
    },
    "nhits": {"window": 480, "hidden": 512, "layers": 3, "pools": [8, 4, 1], "every": [24, 12, 1], "dropout": 0.1},
}


class Ours(NamedTuple):
    """A model and its batch."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    batch: Tensor
    window: int

    def work(self) -> None:
        """Do one training step."""
        step(self.model, self.optimiser, self.batch, self.window, functional.l1_loss)


def run(quick: bool, *files: str) -> dict[str, Figure]:
    """Return the times of our steps (ms), and their ratios to the peer's."""
    torch.set_num_threads(1)
    rounds, count = (3, 3) if quick else (9, 6)
    series = _series(files)
    ours = {"patchtst": _patchtst(series), "nhits": _nhits(series)}
    with tempfile.TemporaryDirectory() as folder:
        batch = Path(folder) / "batch.npy"
        np.save(batch, series.numpy())
        weights = {name: sum(part.numel() for part in mine.model.parameters()) for name, mine in ours.items()}
        peer = _peer(batch, weights)
        try:
            found = {name: _rounds(name, mine.work, peer, rounds, count) for name, mine in ours.items()}
        finally:
            if peer is not None:
                peer.terminate()
                peer.wait()
    return {key: figure for name, pairs in found.items() for key, figure in _figures(name, pairs).items()}


def _rounds(
    name: str, mine: Callable[[], None], peer: "subprocess.Popen[str] | None", rounds: int, count: int
) -> list[tuple[float, float]]:
    """Return the fastest step of each round (ms), ours and the peer's (0 without a peer)."""
    _fastest(mine, 2)
    if peer is not None:
        _asked(peer, [name, 2])
    return [(_fastest(mine, count), 0.0 if peer is None else float(_asked(peer, [name, count]))) for _ in range(rounds)]


def _figures(name: str, pairs: list[tuple[float, float]]) -> dict[str, Figure]:
    mine, theirs = (median(side) for side in zip(*pairs, strict=True))
    figures = {f"{name}_ms": Figure(mine, "ms", "", f"{SERIES} series, {SIZES[name]['window']} steps")}
    if theirs:
        ratio = median(one / other for one, other in pairs)
        figures[f"{name}_over_peer"] = Figure(ratio, "times", "<= 1.1", f"neuralforecast {theirs:.0f} ms")
    return figures


def _series(files: tuple[str, ...]) -> Tensor:
    """Return the series of a batch, [896, longest window + horizon]."""
    longest = max(SIZES["patchtst"]["window"], SIZES["nhits"]["window"])
    if files:
        windows = read(Path(files[0]), longest).train[: SERIES // 7]
        return windows.reshape(SERIES, -1).contiguous()
    walk = np.random.default_rng(0).standard_normal((SERIES, longest + HORIZON)).cumsum(axis=1)
    return torch.from_numpy((walk / walk.std()).astype(np.float32))


def _patchtst(series: Tensor) -> Ours:
    sizes = SIZES["patchtst"]
    body = PatchTSTBody(channels=1, pad=True, classic=True, mixed=False, **sizes)
    model = PatchTST(body, HORIZON).train()
    batch = series[:, None, -sizes["window"] - HORIZON :]
    return Ours(model, torch.optim.Adam(model.parameters(), lr=1e-4), batch, sizes["window"])


def _nhits(series: Tensor) -> Ours:
    sizes = SIZES["nhits"]
    stacks = tuple(Stack(*stack) for stack in zip(sizes["pools"], sizes["every"], strict=True))
    body = NHiTSBody(1, 1, sizes["window"], HORIZON, sizes["hidden"], sizes["layers"], sizes["dropout"], stacks)
    model = NHiTS(body).train()
    return Ours(model, torch.optim.Adam(model.parameters(), lr=1e-4), series, sizes["window"])


def _fastest(work: Callable[[], None], count: int) -> float:
    taken = []
    for _ in range(count):
        begun = time.process_time()
        work()
        taken.append(1e3 * (time.process_time() - begun))
    return min(taken)


def _peer(batch: Path, weights: dict[str, int]) -> "subprocess.Popen[str] | None":
    if not PEER.exists():
        print(f"SKIPPED, no peer: {PEER} is not there; bench/train_step.py says how to make it", file=sys.stderr)
        return None
    command = [str(PEER), str(SCRIPT), str(batch), json.dumps(SIZES)]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=batch.parent)
    assert peer.stdout is not None
    theirs = json.loads(peer.stdout.readline() or "{}")
    for name, count in weights.items():
        if not abs(theirs.get(name, 0) - count) <= 0.001 * count:
            peer.terminate()
            raise RuntimeError(f"{name}: {theirs.get(name)} weights in the peer, {count} here: not the same sizes")
    return peer


def _asked(peer: "subprocess.Popen[str]", what: list[Any]) -> Any:
    assert peer.stdin is not None
    assert peer.stdout is not None
    peer.stdin.write(json.dumps(what) + "\n")
    peer.stdin.flush()
    return json.loads(peer.stdout.readline())
