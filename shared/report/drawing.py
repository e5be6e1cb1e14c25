"""Draw with Matplotlib, and convert a figure to an SVG element for a page.

The element has no script, no link, no identifier and no inline style. Its colours are variables of the page's style
sheet, so it follows the light and the dark theme. Matplotlib is in the extra ``report`` and is imported only when a
chart is drawn.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.etree import ElementTree as ET

from markupsafe import Markup

from shared.distribution import install_command

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH: Final = 560
HEIGHT: Final = 260
COLOURS: Final = ("ink", "soft", "faint", "sell", "hold", "buy", "prior", "champion", "pool", "bad")
"""The names of colours: variables of ``templates/style.css``."""
TITLE: Final = "title:"
SVG: Final = "{http://www.w3.org/2000/svg}"
LINK: Final = "{http://www.w3.org/1999/xlink}href"
KEPT: Final = ("d", "x", "y", "transform", "style")
DROPPED: Final = re.compile(r"font-family: [^;]*; |^rotate\(-0 .*\)$")
"""Attributes that are removed: the page sets the font, and a rotation by 0 has no effect."""
LONG: Final = re.compile(r"\d+\.\d{2,}")


class ChartsMissingError(Exception):
    """Matplotlib is not installed. The message has the command that installs it."""


class Chart(NamedTuple):
    """An SVG element and its label for screen readers. Without data ``svg`` is None and ``label`` the reason."""

    label: str
    svg: Markup | None = None


def require_charts() -> None:
    """Import Matplotlib. Raises ``ChartsMissingError``."""
    try:
        import matplotlib.style  # noqa: F401, PLC0415  # an optional extra
    except ImportError as error:
        raise ChartsMissingError(
            f"a page with charts needs Matplotlib: {install_command('report')} ({error})"
        ) from None


@contextmanager
def house_style() -> Iterator[None]:
    """Set the style of the pages; the user's ``matplotlibrc`` has no effect on it."""
    require_charts()
    import matplotlib.style  # noqa: PLC0415  # an optional extra

    style = {
        "axes.axisbelow": True,
        "axes.edgecolor": colour("faint"),
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": colour("soft"),
        "axes.labelsize": 11,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.unicode_minus": False,
        "figure.dpi": 72,  # a pixel of the picture is a unit of the SVG
        "font.sans-serif": ["DejaVu Sans"],  # comes with Matplotlib; the page's own font is shown
        "font.size": 11,
        "grid.color": colour("faint"),
        "path.snap": False,  # snapping to whole pixels leaves seams between bars
        "svg.fonttype": "none",
        "svg.hashsalt": "conclave",
        "text.color": colour("soft"),
        "text.parse_math": False,
        "xtick.color": colour("soft"),
        "xtick.major.pad": 9,
        "xtick.major.size": 0,
        "ytick.color": colour("soft"),
        "ytick.major.size": 0,
    }
    with matplotlib.style.context(["default", style]):
        yield


def colour(name: str) -> str:
    """Return the placeholder with which Matplotlib draws a colour of the style sheet."""
    return f"#c0ff{COLOURS.index(name):02x}"


def canvas(width: float = WIDTH, height: float = HEIGHT) -> "Figure":
    """Make a figure of ``width`` by ``height`` pixels without a background."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an optional extra

    figure = Figure((width / 72, height / 72))
    figure.patch.set_visible(False)
    return figure


def plot_area(figure: "Figure", left: float = 52, right: float = 18, top: float = 14, bottom: float = 40) -> "Axes":
    """Add axes to a figure. The margins are in pixels."""
    width, height = 72 * figure.get_size_inches()
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))
    axes.patch.set_visible(False)
    return axes


def titled(artist: "Artist", words: str) -> None:
    """Give a mark a title, which a browser shows while the pointer is over it."""
    artist.set_gid(TITLE + words)


def chart_of(figure: "Figure", label: str) -> Chart:
    """Return the figure as an SVG element; the same figure gives the same bytes."""
    written = StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", metadata=nothing)
    root = ET.fromstring(written.getvalue())  # noqa: S314  # Matplotlib wrote it
    shapes = {f"#{path.get('id')}": path.get("d", "") for path in root.iter(f"{SVG}path") if path.get("id")}
    element = ET.Element("svg", {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": label})
    element.extend(mark for child in root for mark in _marks(child, shapes))
    svg = ET.tostring(element, encoding="unicode")
    for name in COLOURS:
        svg = svg.replace(colour(name), f"var(--{name})")
    return Chart(label, Markup(svg))  # noqa: S704  # ElementTree escaped it


def _marks(element: ET.Element, shapes: Mapping[str, str]) -> list[ET.Element]:
    """Return the visible parts of an element: groups without a title are flattened, links are replaced by shapes."""
    tag = element.tag.removeprefix(SVG)
    if tag in {"defs", "metadata"}:
        return []
    inside = [mark for child in element for mark in _marks(child, shapes)]
    if tag == "g":
        name = element.get("id", "")
        if not name.startswith(TITLE):
            return inside
        group = ET.Element("g")
        ET.SubElement(group, "title").text = name.removeprefix(TITLE)
        group.extend(inside)
        return [group]
    if tag == "use":
        place = f"translate({element.get('x')} {element.get('y')})"
        element = ET.Element("path", {**element.attrib, "d": shapes[element.get(LINK, "")], "transform": place})
        del element.attrib["x"], element.attrib["y"]
    kept = ((name, _short(element.attrib[name])) for name in KEPT if name in element.attrib)
    mark = ET.Element(element.tag.removeprefix(SVG), dict(_attributes(kept)))
    mark.text = element.text if tag == "text" else None
    return [mark]


def _attributes(kept: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield attributes that are not empty, with each declaration of a style as an attribute of its own: a page whose
    policy forbids inline styles shows them too."""
    for name, value in kept:
        if name == "style":
            declarations = (declaration.partition(":") for declaration in value.split(";"))
            yield from ((what.strip(), which.strip()) for what, _, which in declarations if which.strip())
        elif value:
            yield name, value


def _short(value: str) -> str:
    """Round numbers to a hundredth of a pixel, and drop attributes that have their default value."""
    rounded = LONG.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), " ".join(value.split()))
    return DROPPED.sub("", rounded)
