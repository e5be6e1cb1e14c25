"""Offer mutated inputs to everything that reads what others wrote: each is read, or refused with its reason.

The readers are those of streams (every event type), command files, settings, bar files (text and JSON of all formats,
Parquet, Feather, compressed), manifests, golden vectors, safetensors, state dicts, scalers, sealed files of the
archive, and cuts. An input is a valid sample that was changed by one to four random mutations: flipped bits, bytes that
parsers trip over, parts that were removed, repeated, or taken from another sample. Where a digest protects the content,
half of the inputs get the digest that fits, so that the reader goes on to the content.

A failure is any exception except the one that the reader documents. It is printed with its seed. Weights of XGBoost and
LightGBM are left out: a child process opens them (``shared.artifacts``), since their libraries can crash.

Command lines follow (``bench.fuzz_commands``). ``SEED=<number>`` chooses other inputs, ``INPUTS=<number>`` and
``LINES=<number>`` how many.
"""

import gzip
import os
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import click
from rich.progress import track

from bench import fuzz_commands
from bench import fuzz_samples as samples
from bench.harness import Figure
from schemas.codec import UnreadableError, opened
from schemas.documentation.examples import examples
from services.console.control.issue import command_file, command_of
from shared.archive import cuts, sealed
from shared.artifacts.artifact import ArtifactError, read_golden
from shared.artifacts.manifest import ManifestError, parse
from shared.bars.columns import stated_columns
from shared.bars.rows import Good, SourceError
from shared.bars.source import open_source
from shared.families.base import WeightsError
from shared.families.tensors import arrays_in
from shared.importing.reading import SourceFileError, scaler, tensors_in
from shared.log import StreamKey
from shared.settings import SettingsError, load

INPUTS: Final = 1_000_000
QUICK_INPUTS: Final = 30_000
MARKET: Final = StreamKey("market", 0)
TOKENS: Final = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"NaN", b"-1", b"0", b"1e999", b"-0.0", b"9" * 40, b"null", b"true",
    b"[]", b"{}", b'"', b",", b"\n", b"\r\n", b"\x1f\x8b", b"PK\x03\x04", b"\xc1", b"\xdf\xff\xff\xff\xff",
    b"\xf0\x9f\x92\xb8", b"[red]", b"\\u0000", b"-9223372036854775809", b"18446744073709551616", b"inf", b"../..",
)  # fmt: skip


class Target(NamedTuple):
    """A reader: its name, valid inputs, what reads one, and the exceptions by which it refuses."""

    name: str
    samples: Sequence[bytes]
    read: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...]


def mutate(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """Return changed bytes."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed) + 1)
        until = min(len(changed), at + dice.choice((1, 1, 2, 4, 8, 64, 1024)))
        match dice.randrange(7):
            case 0:
                for _ in range(dice.randint(1, 8)):
                    if changed:
                        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
            case 1:
                changed[at:until] = dice.choice(TOKENS)
            case 2:
                changed[at:at] = dice.choice(TOKENS)
            case 3:
                del changed[at:until]
            case 4:
                changed[at:at] = changed[at:until] * dice.choice((1, 2, 16))
            case 5:
                other = dice.choice(others)
                start = dice.randrange(len(other) + 1)
                changed[at:until] = other[start : start + until - at]
            case _:
                changed[at:until] = dice.randbytes(until - at)
    return bytes(changed)


def _in_file(folder: Path, name: str, read: Callable[[Path], object], data: bytes) -> object:
    path = folder / name
    path.write_bytes(data)
    return read(path)


def _bars(path: Path) -> int:
    try:
        source = open_source(path)
    except SourceError as error:
        if "--zone" not in str(error):
            raise
        source = open_source(path, zone=ZoneInfo("Europe/Athens"))
    return sum(isinstance(row, Good) for row in source.rows())


def _stated_bars(path: Path) -> int:
    columns = stated_columns(["time=1,open=2,high=3", "low=4,close=5,volume=6"])
    rows = open_source(path, symbol="BTC", interval_ms=60_000, columns=columns).rows()
    return sum(isinstance(row, Good) for row in rows)


def _command(data: bytes) -> object:
    return command_of(command_file(data, "command.json").command, "command.json")


def _sealed(data: bytes) -> object:
    """Read a sealed file, as ``shared.archive.checking`` does."""
    file = sealed.open_header(data, "a file")
    if file is None:
        return None
    sealed.check_follows(None, file, MARKET, 1, "a file")
    offset, entries = file.offset, []
    for frame in file.header.frames:
        entries += sealed.open_frame(frame, data[offset : offset + frame.size], MARKET, "a file")
        offset += frame.size
    return entries


def _cut(data: bytes) -> object:
    return [end.place.key for end in cuts.decode(data, "a cut")[0].ends]


def _resealed(read: Callable[[bytes], object], data: bytes) -> object:
    """Read a file whose second line was made to fit its first, if that has an even length."""
    line, _, rest = data.partition(b"\n")
    if len(line) % 2 == 0:
        line += b"\n"
        data = line + sha256(line).hexdigest().encode() + b"\n" + rest.partition(b"\n")[2]
    return read(data)


def targets(folder: Path) -> list[Target]:
    """Return all readers. They write their inputs to ``folder``, where they read files."""
    by_stream: dict[str, list[bytes]] = {}
    for encoded in examples():
        by_stream.setdefault(encoded.stream, []).append(encoded.data)
    found = [
        Target(f"stream {stream}", encoded_events, partial(opened, stream), (UnreadableError,))
        for stream, encoded_events in by_stream.items()
    ]
    parquet, feather = samples.tables(folder)
    sealed_file = samples.sealed_file(MARKET, by_stream["market"][0])
    assert _sealed(sealed_file)
    in_file = partial(partial, _in_file, folder)
    bars = [
        Target("bars, text", samples.texts_of_programs(), in_file("BTC-USDT-1m.csv", _bars), (SourceError,)),
        Target("bars, JSON", samples.responses(), in_file("BTC-USDT-1m.json", _bars), (SourceError,)),
        Target("bars, gzip", [gzip.compress(samples.CSV)], in_file("BTC-USDT-1m.csv.gz", _bars), (SourceError,)),
        Target("bars, zip", [samples.zipped()], in_file("BTC-USDT-1m.zip", _bars), (SourceError,)),
        Target("bars, Parquet", parquet, in_file("BTC-USDT-1m.parquet", _bars), (SourceError,)),
        Target("bars, Feather", feather, in_file("BTC-USDT-1m.feather", _bars), (SourceError,)),
        Target("bars, stated", samples.rows_without_names(), in_file("bars.csv", _stated_bars), (SourceError,)),
    ]
    assert all(target.read(sample) for target in bars for sample in target.samples)
    return [
        *found,
        Target("command file", [samples.COMMAND], _command, (click.UsageError,)),
        Target("settings", [samples.settings()], in_file("s.toml", lambda path: load(path, {})), (SettingsError,)),
        *bars,
        Target("manifest", [samples.manifest()], parse, (ManifestError,)),
        Target("golden vectors", [samples.golden()], read_golden, (ArtifactError,)),
        Target("safetensors", [samples.weights()], lambda data: arrays_in(data, "w"), (WeightsError,)),
        Target("state dict", [samples.state_dict()], lambda data: tensors_in(data, Path("w.pt")), (SourceFileError,)),
        Target(
            "scaler", [samples.SCALER], in_file("s.json", lambda path: scaler(path, unpickle=False)), (SourceFileError,)
        ),
        Target("sealed file", [sealed_file], partial(_resealed, _sealed), (sealed.CorruptError,)),
        Target("cut", [samples.cut()], partial(_resealed, _cut), (sealed.CorruptError,)),
    ]  # fmt: skip


class Outcome(NamedTuple):
    """What became of all inputs, by kind, and one input for each failure."""

    kinds: Counter[str]
    failures: dict[str, bytes]


def offer(inputs: int, seed: int, folder: Path) -> Outcome:
    """Offer so many mutated inputs to the readers in turn."""
    readers = targets(folder)
    kinds: Counter[str] = Counter()
    failures: dict[str, bytes] = {}
    for number in track(range(inputs), "inputs"):
        target = readers[number % len(readers)]
        dice = random.Random(seed * inputs + number)
        data = mutate(dice.choice(target.samples), target.samples, dice)
        try:
            target.read(data)
            kinds["read"] += 1
        except target.refuses as error:
            kinds["refused" if str(error) or getattr(error, "message", "") else "no reason"] += 1
        except Exception as error:  # what is looked for
            kinds["failed"] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            failures.setdefault(f"{target.name}: {type(error).__name__} at {where.name}:{where.lineno}", data)
    return Outcome(kinds, failures)


def run(quick: bool) -> dict[str, Figure]:
    """Return the numbers of inputs that were read, refused, and failed, and those of command lines."""
    inputs = int(os.environ.get("INPUTS", QUICK_INPUTS if quick else INPUTS))
    with tempfile.TemporaryDirectory(prefix="conclave-fuzz-") as name:
        kinds, failures = offer(inputs, int(os.environ.get("SEED", "1")), Path(name))
    for failure, data in failures.items():
        print(failure, data[:500], sep="\n    ")
    return {
        "inputs": Figure(inputs, "inputs"),
        "read": Figure(kinds["read"], "inputs"),
        "refused": Figure(kinds["refused"], "inputs"),
        "refused_without_reason": Figure(kinds["no reason"], "inputs", "<= 0"),
        "failed": Figure(kinds["failed"], "inputs", "<= 0"),
        **fuzz_commands.measured(quick),
    }
