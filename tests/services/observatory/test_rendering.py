"""How values are shown."""

import pytest

from services.observatory.jobs import TrainingStep
from services.observatory.web.rendering import FLAT, coded, loss_lines, markdown, offset, pairs, stream


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
    assert flat["train"] == "0.0,20.5 120.0,20.5"
    assert flat["held"] == "0.0,19.5 120.0,19.5"


def test_a_card_is_shown_as_a_page_and_brings_no_markup_of_its_own() -> None:
    shown = markdown("# A model\n\n- `rsi`\n\n| a | b |\n|---|---|\n| 1 | <b>2</b> |\n\n<script>x</script>\n")
    assert "<h3>A model</h3>" in shown
    assert "<li><code>rsi</code></li>" in shown
    assert "<td>&lt;b&gt;2&lt;/b&gt;</td>" in shown
    assert "<script" not in shown
    assert "style=" not in shown
    assert "javascript:" not in markdown("[x](javascript:alert)").replace("[x](javascript:alert)", "")


def test_a_command_in_one_line_is_read_as_its_fields() -> None:
    line = "model=a weights=b:0.5,c:0.5 policy=(set_voting_policy rule=mean) forced=True"
    assert pairs(line)[:2] == [("model", "a"), ("weights", "b:0.5,c:0.5")]
    assert pairs(line)[-1] == ("forced", "True")
    assert pairs("reason=two words here note=x") == [("reason", "two words here"), ("note", "x")]
    assert pairs("") == []


def test_a_key_is_shown_as_its_stream_and_partition() -> None:
    assert stream("conclave:{p0}:market") == "market"
    assert stream("conclave:{p3}:market@17-0") == "market 3@17-0"
    assert stream("conclave:control") == "control"
    assert stream("BTCUSDT.csv:1204") == "BTCUSDT.csv:1204"
