"""Charts: the right marks in the right places, and words where there is nothing to draw."""

import math
import re
import sys
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.report.charts import (
    Curve,
    Dot,
    action_mix,
    cumulative,
    e_values,
    histogram,
    losses,
    matrix,
    reliability,
    shares_over_time,
)
from shared.report.drawing import HEIGHT, WIDTH, Chart, ChartsMissingError, colour

HOUR = 3_600_000


class ReadMark(NamedTuple):
    """A mark with a title: its place in pixels from the top left, and its look."""

    title: str
    left: float
    right: float
    top: float
    bottom: float
    look: str


def svg_of(chart: Chart) -> ET.Element:
    """The element; a chart that is no XML fails here."""
    assert chart.svg is not None, chart.label
    return ET.fromstring(chart.svg)


def place(path: ET.Element) -> tuple[list[float], list[float]]:
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", path.get("d", ""))]
    moved = re.findall(r"-?\d+(?:\.\d+)?", path.get("transform", "")) or ["0", "0"]
    return [x + float(moved[0]) for x in numbers[::2]], [y + float(moved[1]) for y in numbers[1::2]]


def look(path: ET.Element) -> str:
    """The attributes that say how a mark looks."""
    return " ".join(f"{name}={value}" for name, value in path.attrib.items() if name not in {"d", "transform"})


def marks(chart: Chart) -> list[ReadMark]:
    found = []
    for group in svg_of(chart).iter("g"):
        path = group.find("path")
        assert path is not None
        x, y = place(path)
        mark = ReadMark(group.findtext("title", ""), min(x), max(x), min(y), max(y), look(path))
        found.append(mark)
    return found


def lines(chart: Chart, shade: str) -> list[tuple[list[float], list[float]]]:
    """Lines of a colour, as pixels."""
    paths = svg_of(chart).findall("path")
    return [place(path) for path in paths if path.get("stroke") == f"var(--{shade})"]


def words(chart: Chart) -> list[str]:
    return [text.text or "" for text in svg_of(chart).iter("text")]


def test_a_dot_of_the_diagram_lies_where_it_says() -> None:
    chart = reliability([[Dot(0.25, 0.25, 0.01, 100)], [Dot(0.5, 0.1, 0.02, 50)], []])
    sell, hold = marks(chart)
    (x, y) = next(line for line in lines(chart, "soft") if line[1][0] != line[1][-1])
    at, height = (sell.left + sell.right) / 2, (sell.top + sell.bottom) / 2
    assert (height - y[0]) / (at - x[0]) == pytest.approx((y[1] - y[0]) / (x[1] - x[0]), abs=0.01)
    assert hold.top > sell.bottom
    assert hold.title == "HOLD: predicted 0.500, observed 0.100, 2 errors 0.040, 50 rows"
    assert "var(--hold)" in hold.look


def test_a_bar_of_the_histogram_says_its_share_and_quantiles_are_marked() -> None:
    counts = [0] * 100
    counts[50], counts[60] = 3, 1
    chart = histogram(counts, [("P50", 0.505)])
    bars = marks(chart)
    assert [bar.title for bar in bars] == ["0.500 to 0.510: 3 rows, 75.0%", "0.600 to 0.610: 1 rows, 25.0%"]
    heights = [bar.bottom - bar.top for bar in bars]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.02)
    assert "P50" in words(chart)
    (quantile,) = lines(chart, "soft")
    assert bars[0].left < quantile[0][0] < bars[0].right


def test_a_constant_confidence_looks_like_one() -> None:
    counts = [0] * 100
    counts[97] = 450
    (bar,) = marks(histogram(counts, []))
    assert bar.right - bar.left < WIDTH / 20


def test_the_shares_of_a_span_fill_it() -> None:
    chart = action_mix([(0, HOUR, (1, 2, 1)), (HOUR, 2 * HOUR, (0, 4, 0))])
    *first, whole = marks(chart)
    heights = [bar.bottom - bar.top for bar in first]
    assert [re.findall(r"var\(--(\w+)\)", bar.look) for bar in first] == [["sell"], ["hold"], ["buy"]]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert whole.bottom - whole.top == pytest.approx(sum(heights), abs=0.3)
    assert whole.left > first[0].right
    assert "HOLD 100.0% of 4 rows" in whole.title


def test_a_share_over_time_has_its_height() -> None:
    half, none, full = marks(shares_over_time([(0, 1, 2), (HOUR, 0, 3), (2 * HOUR, 3, 3)], "changed"))
    assert half.title == "1970-01-01 00:00: 1 of 2"
    assert full.bottom - full.top == pytest.approx(2 * (half.bottom - half.top), abs=0.2)
    assert none.bottom == none.top
    assert half.right <= none.left + 0.1 <= full.left + 0.1


def test_the_line_that_decides_lies_under_what_crossed_it() -> None:
    chart = e_values([Curve("better than the prior", "prior", [(0, 0.0), (HOUR, 2.0), (2 * HOUR, 5.0)])], math.log(20))
    decides = next(mark for mark in marks(chart) if mark.title == "E = 20")
    ((_, heights),) = lines(chart, "prior")
    assert heights[1] > decides.top > heights[2]
    assert "E = 20 decides" in words(chart)
    assert {"1", "10", "100"} <= set(words(chart))


def test_an_e_value_that_is_lost_stays_in_the_picture() -> None:
    chart = e_values([Curve("x", "prior", [(0, 0.0), (HOUR, -400.0)])], math.log(20))
    ((_, heights),) = lines(chart, "prior")
    assert all(0 <= height <= HEIGHT for height in heights)
    assert "x: -400.00 at 1970-01-01 01:00" in [mark.title for mark in marks(chart)]


def test_a_sum_has_its_zero_and_its_end() -> None:
    chart = cumulative([Curve("over the prior", "prior", [(0, 1.0), (HOUR, -3.0)])])
    ((_, zero),) = lines(chart, "soft")
    (end,) = marks(chart)
    assert end.top > zero[0]
    assert "0" in words(chart)


def test_time_is_marked_in_utc() -> None:
    day = 24 * HOUR
    assert {"01-03", "01-05"} <= set(words(cumulative([Curve("x", "prior", [(day, 0.0), (7 * day, 1.0)])])))
    assert {"03:00", "06:00"} <= set(words(cumulative([Curve("x", "prior", [(day, 0.0), (1.5 * day, 1.0)])])))


@pytest.mark.parametrize("hours", [0, 0.01, 1, 9, 30, 59, 61, 70, 79, 100, 24 * 40, 24 * 61, 24 * 700, 24 * 4000])
def test_time_is_marked_whatever_the_span(hours: float) -> None:
    chart = cumulative([Curve("x", "prior", [(0, 0.0), (hours * HOUR, 0.0)])])
    below = [text for text in svg_of(chart).iter("text") if float(text.get("y", "")) > HEIGHT - 40]
    assert len(below) >= (hours > 0) * 3


def test_losses_are_drawn_against_the_prior() -> None:
    chart = losses([Curve("training", "sell", [(1, 1.2), (2, 0.9)])], 1.05)
    ((_, heights),) = lines(chart, "sell")
    ((_, prior),) = lines(chart, "soft")
    assert heights[0] < prior[0] < heights[1]
    assert "class prior" in words(chart)


def test_a_cell_has_its_count_and_the_share_of_its_row() -> None:
    chart = matrix([[3, 1, 0], [0, 0, 0], [0, 1200, 0]], "candidate", "ensemble")
    cells = marks(chart)
    assert len(cells) == 9
    assert cells[0].title == "candidate SELL, ensemble SELL: 3 rows, 75.0% of the row"
    assert cells[0].right <= cells[1].left
    assert cells[0].bottom <= cells[3].top
    assert "1,200" in words(chart)
    shades = [float(re.findall(r"opacity=([\d.]+)", cell.look)[0]) for cell in cells]
    assert shades[0] > shades[1] > shades[2]


@pytest.mark.parametrize(
    "chart",
    [
        reliability([[], [], []]),
        histogram([0] * 100, []),
        action_mix([]),
        e_values([Curve("x", "prior", [])], 3.0),
        cumulative([]),
        losses([], 1.0),
        matrix([[0] * 3] * 3, "a", "b"),
        shares_over_time([], "changed"),
    ],
)
def test_where_there_is_nothing_to_draw_words_say_so(chart: Chart) -> None:
    assert chart.svg is None
    assert re.fullmatch(r"[A-Z][^<]+\.", chart.label)


def test_a_chart_is_one_element_without_links_names_or_style_sheets() -> None:
    svg = svg_of(cumulative([Curve("x", "prior", [(0, 1.0)])]))
    assert {element.tag for element in svg.iter()} <= {"svg", "g", "title", "path", "text"}
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "Cumulative skill over time"
    assert not {name for element in svg.iter() for name in element.attrib} & {
        "id",
        "href",
        "class",
        "clip-path",
        "style",
    }
    assert "#" not in ET.tostring(svg, encoding="unicode"), "a colour that the style sheet does not set"


def test_names_cannot_break_out_of_a_chart_and_are_no_formula() -> None:
    chart = cumulative([Curve("<script>alert(1)</script> $x^$ [/prod]", "prior", [(0, 1.0)])])
    assert chart.svg is not None
    assert "<script" not in chart.svg
    assert marks(chart)[0].title.startswith("<script>alert(1)</script> $x^$ [/prod]: 1.00")


def test_a_users_settings_of_matplotlib_change_nothing() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    curves = [Curve("x", "prior", [(0, 1.0), (HOUR, 2.0)])]
    plain = cumulative(curves)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linestyle": ":"}):
        assert cumulative(curves) == plain


def test_without_matplotlib_one_sentence_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    with pytest.raises(ChartsMissingError, match=r"needs Matplotlib: pip install 'conclave-signals\[report\]'"):
        cumulative([Curve("x", "prior", [(0, 1.0)])])


def test_a_colour_that_the_style_sheet_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="tuple"):
        colour("mauve")


@settings(max_examples=20)  # a chart takes a tenth of a second
@given(st.lists(st.tuples(st.integers(0, 10**12), st.floats(-1e6, 1e6)), min_size=1, max_size=20))
def test_a_curve_stays_inside_the_picture(points: list[tuple[int, float]]) -> None:
    chart = cumulative([Curve("x", "prior", sorted(points))])
    for x, y in lines(chart, "prior"):
        assert all(0 <= pixel <= WIDTH for pixel in x)
        assert all(0 <= pixel <= HEIGHT for pixel in y)
