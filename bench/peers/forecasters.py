"""Time training steps of neuralforecast's PatchTST and NHITS, in a separate environment.

``bench.train_step`` starts this program, which imports nothing from this project. It reads a batch from a file, then
names of models from standard input, one a line, and prints the time of the fastest step (ms) for each.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def models(sizes: dict[str, Any]) -> dict[str, Any]:
    from neuralforecast.losses.pytorch import MAE
    from neuralforecast.models import NHITS, PatchTST

    shared = {"h": sizes["horizon"], "loss": MAE(), "max_steps": 1, "logger": False, "enable_checkpointing": False}
    one, other = sizes["patchtst"], sizes["nhits"]
    return {
        "patchtst": PatchTST(
            input_size=one["window"],
            encoder_layers=one["layers"],
            n_heads=one["heads"],
            hidden_size=one["width"],
            linear_hidden_size=one["feedforward"],
            dropout=one["dropout"],
            fc_dropout=0.0,
            patch_len=one["patch"],
            stride=one["stride"],
            res_attention=True,
            revin_subtract_last=False,
            **shared,
        ),
        "nhits": NHITS(
            input_size=other["window"],
            # Its first layer, from the pooled window, comes on top.
            mlp_units=(other["layers"] - 1) * [[other["hidden"]] * 2],
            n_pool_kernel_size=other["pools"],
            n_freq_downsample=other["every"],
            dropout_prob_theta=other["dropout"],
            **shared,
        ),
    }


def stepper(model: Any, series: torch.Tensor, window: int) -> Callable[[], None]:
    """A step on all series at once: Lightning and its data loader are left out, in their favour."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    inputs, came = series[:, :window, None].contiguous(), series[:, window:, None].contiguous()
    batch = {"insample_y": inputs, "insample_mask": torch.ones_like(inputs[..., 0])}
    batch |= dict.fromkeys(("futr_exog", "hist_exog", "stat_exog"))

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        (model(batch) - came).abs().mean().backward()
        optimiser.step()

    model.train()
    return step


def main(batch: str, sizes: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    series = torch.from_numpy(np.load(batch))
    found = models(sizes)
    steps = {
        name: stepper(model, series[:, -sizes[name]["window"] - sizes["horizon"] :], sizes[name]["window"])
        for name, model in found.items()
    }
    weights = {name: sum(part.numel() for part in model.parameters()) for name, model in found.items()}
    print(json.dumps(weights), flush=True)
    for line in sys.stdin:
        name, count = json.loads(line)
        taken = []
        for _ in range(count):
            begun = time.process_time()
            steps[name]()
            taken.append(1e3 * (time.process_time() - begun))
        print(json.dumps(min(taken)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
