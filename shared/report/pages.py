"""Render the templates of ``templates/``: a page is one HTML file that loads nothing and runs no script.

All text is escaped. Only charts are inserted unescaped, since ``drawing`` made them.
"""

from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from shared.report.drawing import Chart
from shared.report.tables import TextTable
from shared.report.text import moment


class PageFigure(NamedTuple):
    """A chart with its title, how to read it, its legend (colour, name) and the numbers below it."""

    title: str
    reading: str
    chart: Chart
    legend: tuple[tuple[str, str], ...] = ()
    numbers: TextTable | None = None


def render(template: str, **values: Any) -> str:
    """Return the page of a template. A value that the template uses and ``values`` lacks is an error."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shared.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["moment"] = moment
    environment.globals["linked"] = False  # a file has no other pages
    return environment
