"""How values are shown."""

import pytest

from services.observatory.jobs import TrainingStep
from services.observatory.web.rendering import FLAT, coded, loss_lines, offset


def test_what_stands_between_backquotes_is_code_and_everything_is_escaped() -> None:
    assert coded("run `conclave <up>` & wait") == "run <code>conclave &lt;up&gt;</code> &amp; wait"
    assert coded("<script>`x`") == "&lt;script&gt;<code>x</code>"


@pytest.mark.parametrize(("ms", "words"), [(0, "+0 ms"), (-12, "-12 ms"), (999, "+999 ms"), (5_400, "+5.4 s")])
def test_the_difference_of_two_clocks_has_its_sign(ms: float, words: str) -> None:
    assert offset(ms) == words


def test_losses_are_drawn_on_one_scale_and_a_flat_one_is_flat() -> None:
    steps = [TrainingStep(1, 1.1, 1.0, 1.05), TrainingStep(2, 0.9, 1.0, 1.05)]
    lines = {line.name: line.points for line in loss_lines(steps)}
    assert lines["train"] == "0.0,2.0 120.0,38.0"
    assert lines["held"] == "0.0,20.0 120.0,20.0"
    flat = {line.name: line.points for line in loss_lines([TrainingStep(n, 1.0, 1.0 + FLAT / 36, 1.0) for n in (1, 2)])}
    assert flat["train"] == "0.0,38.0 120.0,38.0"
    assert flat["held"] == "0.0,37.0 120.0,37.0"
