"""Look through a source of inputs before it is used: what there is of each symbol, and what would be left out."""

from collections.abc import Collection
from dataclasses import dataclass, field

from shared.bars.input_source import InputSource
from shared.bars.rows import LeftOut, RefusedRow
from shared.inputs.kinds import Kind, samples_of


@dataclass
class InputCheck:
    """The samples of one kind and symbol: how many, how many of them repeat the time of another, the first and last
    time, and the longest time between two of them (ms)."""

    symbol: str
    kind: Kind
    first: int
    last: int
    samples: int = 0
    repeated: int = 0
    longest_ms: int = 0

    def add(self, at: int) -> None:
        """Count one more sample, not earlier than the last one."""
        self.repeated += self.samples > 0 and at == self.last
        self.longest_ms = max(self.longest_ms, at - self.last)
        self.samples, self.last = self.samples + 1, at


@dataclass(frozen=True)
class InputsCheck:
    """What was found of a source: the name and format of each file, the series, and the rows that are left out.
    ``unused``: the symbols that have no bars, so that nothing reads their inputs."""

    files: list[tuple[str, str]]
    series: list[InputCheck]
    left_out: LeftOut = field(default_factory=LeftOut)
    unused: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether there is nothing to note."""
        return not self.left_out.counts and not self.unused and not any(each.repeated for each in self.series)


def check_inputs(source: InputSource, symbols: Collection[str]) -> InputsCheck:
    """Read a source to its end. ``symbols`` are those of the bars. Raises ``SourceError``."""
    series: dict[tuple[str, Kind], InputCheck] = {}
    left_out = LeftOut()
    for at, row in source.rows():
        if isinstance(row, RefusedRow):
            left_out(row)
            continue
        for sample in samples_of(row.event):
            key = (row.symbol, sample.kind)
            series.setdefault(key, InputCheck(*key, at, at)).add(at)
    files = [(file.name, file.program) for file in source.files]
    unused = tuple(sorted({symbol for symbol, _ in series} - set(symbols)))
    return InputsCheck(files, [series[key] for key in sorted(series)], left_out, unused)
