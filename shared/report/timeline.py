"""Keep time series for charts in bounded memory: the longer a series, the lower its resolution."""

from msgspec import Struct, field

MOST_CELLS = 96
MOST_POINTS = 400


class Timeline(Struct, array_like=True, forbid_unknown_fields=True):
    """Sums by span of ``width`` ms, keyed by the number of the span. With more than 96 spans the width is doubled."""

    width: int
    cells: dict[int, list[float]] = field(default_factory=dict)


def add(timeline: Timeline, moment: int, values: tuple[float, ...]) -> Timeline:
    """Add ``values`` to the span of ``moment`` (ms), in place. Each call must have the same number of values."""
    _into(timeline.cells, moment // timeline.width, values)
    while len(timeline.cells) > MOST_CELLS:
        finer, timeline.cells = timeline.cells, {}
        timeline.width *= 2
        for number, sums in finer.items():
            _into(timeline.cells, number // 2, sums)
    return timeline


def spans(timeline: Timeline) -> list[tuple[int, list[float]]]:
    """Return the begin (ms) and the sums of each span, in the order of time. Spans without values are left out."""
    return [(number * timeline.width, sums) for number, sums in sorted(timeline.cells.items())]


def _into(cells: dict[int, list[float]], number: int, values: list[float] | tuple[float, ...]) -> None:
    sums = cells.setdefault(number, [0.0] * len(values))
    for j, value in enumerate(values):
        sums[j] += value


class Path(Struct, array_like=True, forbid_unknown_fields=True):
    """Every ``stride``-th point of a time series, and always the last. Above 400 points the stride is doubled."""

    stride: int = 1
    seen: int = 0
    points: list[tuple[int, tuple[float, ...]]] = field(default_factory=list)
    last: tuple[int, tuple[float, ...]] | None = None


def follow(path: Path, moment: int, values: tuple[float, ...]) -> Path:
    """Add the next point, in place."""
    path.last = (moment, values)
    if path.seen % path.stride == 0:
        path.points.append(path.last)
        if len(path.points) > MOST_POINTS:
            path.points = path.points[::2]
            path.stride *= 2
    path.seen += 1
    return path


def points(path: Path) -> list[tuple[int, tuple[float, ...]]]:
    """Return the points that were kept, including the last."""
    if path.last is None or path.points[-1] == path.last:
        return list(path.points)
    return [*path.points, path.last]
