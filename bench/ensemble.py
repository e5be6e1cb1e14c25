"""Measure the latency from bar to decision with four models, for one and for 100 symbols, and the workers' memory.

The models are XGBoost, LightGBM, N-HiTS and PatchTST in their default sizes. The networks are trained for a few epochs
only, which does not change the cost of a prediction. The rest is as in ``latency``: each service is a process, the
server is the embedded one, and the floor is the shortest round trip over four hops in the same run. Memory is the
proportional set size (PSS): a page that several processes share is counted once.
"""

import re
import tempfile
from pathlib import Path

import anyio

from bench.harness import Figure
from bench.installation import Installation, running
from bench.latency import figures_of, measure

NETWORKS = ("nhits", "patchtst")
MODELS = ("xgboost", "lightgbm", *NETWORKS)
BARS = ("--synthetic", "sequence", "--symbols", "4", "--count", "3000")
SHORT = ("--param", "epochs=4")


def resident_mb(pid: int) -> float:
    """Return the proportional set size of a process (MB)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def train_one(installation: Installation, model: str, *words: str) -> str:
    """Train an artifact of a model, run the console command ``words`` on it, and return its digest."""
    short = SHORT if model in NETWORKS else ()
    shown = installation.conclave(
        "train", "files", "--model", model, "--family", model, *BARS, *short, *words, "--reason", "a model"
    )
    return next(word for word in shown.split() if re.fullmatch("[0-9a-f]{64}", word))


def train_all(installation: Installation) -> None:
    """Train and promote every model, with equal weights."""
    for number, model in enumerate(MODELS, 1):
        train_one(installation, model, "--promote", "--weight", str(1 / number))
    installation.retrain_on_request_alone()


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder), models=MODELS)
        with running(installation):
            train_all(installation)
            found = anyio.run(measure, installation, quick, backend_options={"use_uvloop": True})
            owners = installation.owners()
            memory = {model: resident_mb(owners[f"model-worker.{model}"]) for model in MODELS}
    each = ", ".join(f"{model} {size:.0f}" for model, size in memory.items())
    return {
        **figures_of(found, "< 250"),
        "four_workers_pss": Figure(sum(memory.values()), "MB", "< 900", each),
    }
