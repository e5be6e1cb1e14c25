"""Pictures: the right marks in the right places, and words where there is nothing to draw."""

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.report.charts import Curve, Dot, action_mix, cumulative, e_values, histogram, matrix, reliability
from shared.report.svg import HEIGHT, WIDTH, PlotArea, nice, ticks

HOUR = 3_600_000


def marks(svg: str, tag: str, style: str) -> list[ET.Element]:
    """Elements of a class; a picture that is no XML fails here."""
    return [found for found in ET.fromstring(svg).iter(tag) if style in found.get("class", "").split()]


def words(svg: str) -> list[str]:
    return [found.text or "" for found in ET.fromstring(svg).iter("text")]


def title(element: ET.Element) -> str:
    return element.findtext("title") or ""


def test_a_dot_of_the_diagram_lies_where_it_says() -> None:
    svg = reliability([[Dot(0.25, 0.25, 0.01, 100)], [Dot(0.5, 0.1, 0.02, 50)], []])
    (sell,) = marks(svg, "circle", "sell")
    (hold,) = marks(svg, "circle", "hold")
    diagonal = marks(svg, "polyline", "diagonal")
    assert len(diagonal) == 3
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in (diagonal[0].get("points") or "").split())
    x, y = float(sell.get("cx", "")), float(sell.get("cy", ""))
    assert (y - y0) / (x - x0) == pytest.approx((y1 - y0) / (x1 - x0), abs=0.01)
    assert float(hold.get("cy", "")) > y
    assert "HOLD: said 0.500, came 0.100, 2 errors 0.040, 50 rows" in title(hold)
    assert len(marks(svg, "line", "whisker")) == 2


def test_a_bar_of_the_histogram_says_its_share_and_quantiles_are_marked() -> None:
    counts = [0] * 100
    counts[50], counts[60] = 3, 1
    svg = histogram(counts, [("P50", 0.505)])
    bars = marks(svg, "rect", "bar")
    assert [title(one) for one in bars] == ["0.500 to 0.510: 3 rows, 75.0%", "0.600 to 0.610: 1 rows, 25.0%"]
    heights = [float(one.get("height", "")) for one in bars]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.02)
    assert "P50" in words(svg)
    assert len(marks(svg, "line", "mark")) == 1


def test_a_constant_confidence_looks_like_one() -> None:
    counts = [0] * 100
    counts[97] = 450
    (bar,) = marks(histogram(counts, []), "rect", "bar")
    assert float(bar.get("width", "")) < WIDTH / 20


def test_the_shares_of_a_span_fill_it() -> None:
    svg = action_mix([(0, HOUR, (1, 2, 1)), (HOUR, 2 * HOUR, (0, 4, 0))])
    first = [marks(svg, "rect", name)[0] for name in ("sell", "hold", "buy")]
    heights = [float(one.get("height", "")) for one in first]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert len(marks(svg, "rect", "sell")) == 1
    (_, whole) = marks(svg, "rect", "hold")
    assert float(whole.get("height", "")) == pytest.approx(sum(heights), abs=0.3)
    assert "HOLD 100.0% of 4 rows" in title(whole)


def test_the_line_that_decides_lies_under_what_crossed_it() -> None:
    curve = Curve("better than the prior", "prior", [(0, 0.0), (HOUR, 2.0), (2 * HOUR, 5.0)])
    svg = e_values([curve], math.log(20))
    (line,) = marks(svg, "line", "line")
    (path,) = marks(svg, "polyline", "prior")
    heights = [float(point.split(",")[1]) for point in (path.get("points") or "").split()]
    decides = float(line.get("y1", ""))
    assert heights[1] > decides > heights[2]
    assert "E = 20 decides" in words(svg)
    assert {"1", "10", "100"} <= set(words(svg))


def test_an_e_value_that_is_lost_stays_in_the_picture() -> None:
    svg = e_values([Curve("x", "prior", [(0, 0.0), (HOUR, -400.0)])], math.log(20))
    (path,) = marks(svg, "polyline", "prior")
    assert all(0 <= float(point.split(",")[1]) <= HEIGHT for point in (path.get("points") or "").split())
    assert title(marks(svg, "circle", "prior")[0]).startswith("x: -400.00 at 1970-01-01 01:00")


def test_cumulative_skill_has_its_zero_and_its_end() -> None:
    svg = cumulative([Curve("over the prior", "prior", [(0, 1.0), (HOUR, -3.0)])])
    (zero,) = marks(svg, "line", "zero")
    (end,) = marks(svg, "circle", "prior")
    assert float(end.get("cy", "")) > float(zero.get("y1", ""))
    assert "0" in words(svg)


def test_a_cell_has_its_count_and_the_share_of_its_row() -> None:
    svg = matrix([[3, 1, 0], [0, 0, 0], [0, 1200, 0]], "candidate", "ensemble")
    cells = marks(svg, "rect", "cell")
    assert len(cells) == 9
    assert title(cells[0]) == "candidate SELL, ensemble SELL: 3 rows, 75.0% of the row"
    assert "1,200" in words(svg)
    veils = [float(one.get("fill-opacity", "")) for one in cells]
    assert veils[0] > veils[1] > veils[2]


@pytest.mark.parametrize(
    "drawn",
    [
        reliability([[], [], []]),
        histogram([0] * 100, []),
        action_mix([]),
        e_values([Curve("x", "prior", [])], 3.0),
        cumulative([]),
        matrix([[0] * 3] * 3, "a", "b"),
    ],
)
def test_where_there_is_nothing_to_draw_words_say_so(drawn: str) -> None:
    assert re.fullmatch(r'<p class="nothing">[A-Z][^<]+\.</p>', drawn)


def test_names_cannot_break_out_of_a_picture() -> None:
    svg = cumulative([Curve("<script>alert(1)</script>", "prior", [(0, 1.0)])])
    assert "<script" not in svg
    assert marks(svg, "circle", "prior")


@given(st.floats(1e-9, 1e9))
def test_a_step_is_round_and_no_smaller_than_asked(step: float) -> None:
    found = nice(step)
    assert found >= step * (1 - 1e-6)
    assert found <= 2.5 * step * (1 + 1e-6)
    mantissa = found / 10 ** math.floor(math.log10(found) + 1e-9)
    assert any(mantissa == pytest.approx(one) for one in (1, 2, 5))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_inside_and_differ(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert len(found) <= 6
    assert all(low - span * 1e-6 <= value <= low + span * (1 + 1e-6) for value, _ in found)
    assert len({word for _, word in found}) == len(found)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_a_frame_keeps_its_data_inside(low: float, span: float, part: float) -> None:
    frame = PlotArea(low, low + span, low, low + span)
    assert frame.left - 0.1 <= frame.x(low + part * span) <= frame.right + 0.1
    assert 0 <= frame.y(low + part * span) <= frame.bottom + 0.1
