"""Two models of the past, over 8 and over 23 features, side by side in one installation."""

import json
from pathlib import Path

import anyio
import pytest
import torch

from bench import old_models
from bench.installation import ONE_PROCESS, Installation, all_decisions, running, wait_until

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "3000")
WHY = ("--reason", "a test")


@pytest.mark.long
def test_a_v2_and_a_v3_model_vote_side_by_side(tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.save(old_models.v2_patches(), tmp_path / "v2.pth")
    torch.save(old_models.v3_transformer(), tmp_path / "v3.pth")
    sets = '\n[features]\nsets = ["user-8", "user-23"]\n'
    installation = Installation(tmp_path / "here", models=("v2", "v3"), extra=sets)
    for name, width in (("user-8", 8), ("user-23", 23)):
        numbers = {"mean": [0.0] * width, "scale": [100.0] * width}
        (tmp_path / f"{name}.json").write_text(json.dumps(numbers))
    with running(installation, ONE_PROCESS):
        for model, set_name, more in (
            ("v2", "user-8", ("--classes", "SELL,BUY")),
            ("v3", "user-23", ("--classes", "SELL,HOLD,BUY", "--param", "window=1")),
        ):
            shown = installation.conclave(
                "import", str(tmp_path / f"{model}.pth"), "--model", model, "--set", set_name, *more,
                "--scaler", str(tmp_path / f"{set_name}.json"), *BARS, "--register", *WHY, "-o", "json",
            )  # fmt: skip
            digest = json.loads(shown)["artifact"]
            weight = "1" if model == "v2" else "0.5"
            installation.conclave("promote", model, digest, "--force", "--weight", weight, *WHY)
        installation.conclave("feed", *BARS, "--limit", "1200")

        async def voted() -> set[str]:
            log = installation.log()
            try:
                return {ballot.model for one in await all_decisions(log) for ballot in one.event.counted}
            finally:
                await log.close()

        wait_until(lambda: anyio.run(voted) == {"v2", "v3"})
