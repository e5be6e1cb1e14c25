"""Offer random command lines to the console: none ends in a traceback, whatever its words, its files, or its server.

A line is a command of the tree with some of its options and arguments, most with a value that fits and some with one
that does not: numbers out of range, text that parsers trip over, paths that cannot be used. It runs in a child of its
own, in an empty folder, with settings for a server that answers, for none, or that cannot be read. ``up`` and ``demo``
are left out, since they start processes that outlive a line.

A failure is a traceback, an exit code that is not documented, or a child that Ctrl-C does not end. It is printed with
its line. ``BENCH=fuzz`` runs this after its inputs. ``SEED=<number>`` chooses other lines, ``LINES=<number>`` how many.
"""

import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from bench import fuzz_samples as samples
from bench.harness import Figure
from services.console.cli import MODULES, cli, main
from services.console.context import TRY_AGAIN
from shared.server.embedded import EmbeddedServer

LINES: Final = 10_000
QUICK_LINES: Final = 300
PATIENCE_S: Final = 5.0
"""Seconds after which a command is interrupted as by Ctrl-C."""
ENDING_S: Final = 30.0
"""Seconds that it then has until it is killed: on a busy machine one that is ended needs several."""
DOCUMENTED: Final = frozenset((0, 1, 2, 3, TRY_AGAIN, 130))
LEFT_OUT: Final = {("up",), ("demo",)}
TEXTS: Final = (
    "", " ", "x", "0", "-1", "1e999", "NaN", "9" * 40, "[red]", "[/prod]", "a=b", "a=1,b=2", "a=", "=", "epochs=3",
    "1-0", "2026-01-31T12:00", "2026-13-99", "0001-01-01", "9999-12-31T23:59", "BTCUSDT", "15m", "1w", "0m", "prior",
    "classic", "market", "../..", "\x1b[31m", "\N{SNOWMAN}", "\udcff", "a" * 5000, "\n", "'", "%s", "{}", "ab" * 32,
    "a" * 12, "--", "-", "~", "file:///proc/nowhere", "s3://bucket", "http://127.0.0.1:9/x", "redis://127.0.0.1:9",
    "binance BTC/USDT 1m", "time=1,open=2", "UTC", "+03:00", "Mars/Olympus",
)  # fmt: skip
NUMBERS: Final = ("0", "1", "-1", "2", "7", "0.5", "1e9", "99999999999999999999", "nan", "inf", "", "x", "1_000", "٣")


Leaf = tuple[tuple[str, ...], click.Command]
"""The words of a command, and the command."""


class Line(NamedTuple):
    """A command line and the settings file it runs with."""

    settings: str
    words: tuple[str, ...]


class Ended(NamedTuple):
    """How a command line ended: its exit code (negative: the signal), what it wrote, and whether it was interrupted."""

    code: int
    output: str
    interrupted: bool


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield the commands that can be run, with their words."""
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                yield from leaves(child, (*path, name))
    if path and path not in LEFT_OUT and (not isinstance(command, click.Group) or command.invoke_without_command):
        yield path, command


def paths(folder: Path) -> list[str]:
    """Make files and folders that a command may be given, most of which it cannot use, and return them."""
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "broken").symlink_to("nowhere")
    contents = {
        "BTCUSDT-1m.csv": samples.CSV,
        "BTC-USDT-1m.json": samples.JSON,
        "weights.safetensors": samples.weights(),
        "scaler.json": samples.SCALER,
        "command.json": samples.COMMAND,
        "empty": b"",
        "binary": bytes(range(256)) * 40,
        "text.toml": b"[redis]\nurl = 3\n",
        "archive.zip": b"PK\x03\x04 and no more",
        "table.parquet": b"PAR1 and no more",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    found = [str(folder / name) for name in (*contents, "folder", "loop", "broken", "no/such/file", "x" * 300)]
    return [*found, "/dev/null", "/dev/full", "/proc/self/mem", "", "-", "\udcff"]


def values(parameter: click.Parameter, files: Sequence[str], dice: random.Random) -> list[str]:
    """Return the words of a value for a parameter."""
    kind = parameter.type
    count = dice.choice((1, 1, 1, 2)) if parameter.nargs == -1 else parameter.nargs
    fitting = dice.random() < 0.7
    words = []
    for _ in range(count):
        if isinstance(kind, click.Choice) and fitting:
            words.append(str(dice.choice(list(kind.choices))))
        elif isinstance(kind, click.Path | click.File) and fitting:
            words.append(dice.choice(files))
        elif isinstance(kind, click.IntRange | click.FloatRange) and fitting:
            bounds = [bound for bound in (kind.min, kind.max) if bound is not None]
            words.append(str(dice.choice([*bounds, 1, 2, 5])))
        elif parameter.name in {"file", "weights", "bars", "path", "paths", "place"}:
            words.append(dice.choice(files))
        else:
            words.append(dice.choice((*TEXTS, *NUMBERS, *files)))
    return words


def line(commands: Sequence[Leaf], files: Sequence[str], dice: random.Random) -> list[str]:
    """Return a random command line."""
    path, command = dice.choice(commands)
    words = list(path)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            if dice.random() < 0.95:
                words += values(parameter, files, dice)
        elif dice.random() < (0.9 if parameter.required or parameter.name == "reason" else 0.15):
            option = dice.choice([*parameter.opts, *parameter.secondary_opts])
            flag = isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count)
            words += [option] if flag else [option, *values(parameter, files, dice)]
    if "--count" not in words and any(parameter.name == "count" for parameter in command.params):
        words += ["--count", "60"]  # few synthetic bars, so that most lines end soon
    if dice.random() < 0.05:
        words.insert(dice.randrange(len(words) + 1), dice.choice((*TEXTS, "--help", "-o", "--no-such-option")))
    return words


def ended(chosen: Line, folder: Path) -> Ended:
    """Run a command line in a child, and return how it ended."""
    written = folder / "output"
    child = os.fork()
    if child == 0:
        _become(chosen, folder, written)
    interrupted = False
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL if interrupted else signal.SIGINT)
            interrupted, deadline = True, time.monotonic() + ENDING_S
        time.sleep(0.005)
    return Ended(os.waitstatus_to_exitcode(status), written.read_text(errors="backslashreplace"), interrupted)


def _become(chosen: Line, folder: Path, written: Path) -> None:
    """Become the console: never returns."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place = Path(tempfile.mkdtemp(dir=folder))
    os.chdir(place)
    into = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), into, into)):
        os.dup2(stream, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    sys.argv = ["conclave", "--settings", chosen.settings, *chosen.words]
    code = 70
    try:
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # what is looked for
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fault(found: Ended, words: tuple[str, ...]) -> str:
    """Return what is wrong with the end of a command line; empty if nothing is."""
    if "Traceback (most recent call last)" in found.output:
        return found.output[found.output.index("Traceback") :].strip().splitlines()[-1][:200]
    if found.code == -signal.SIGKILL:
        return "not ended by Ctrl-C"
    return "" if found.code in DOCUMENTED else f"exit code {found.code}"


class Outcome(NamedTuple):
    """How many lines ended with each exit code, and the first line of each fault."""

    codes: Counter[int]
    interrupted: int
    faults: dict[str, Line]
    failed: int


def offer(inputs: int, seed: int, folder: Path, url: str) -> Outcome:
    """Run so many command lines. ``url``: a server that answers."""
    commands = list(leaves(cli))
    files = paths(folder)
    for name, address in {"answers": url, "none": "redis://127.0.0.1:9/0"}.items():
        text = f'[redis]\nurl = "{address}"\nephemeral = true\n\n[installation]\nstate = "{folder / "var"}"\n'
        (folder / f"{name}.toml").write_text(text)
    settings = [*[str(folder / "answers.toml")] * 8, *[str(folder / "none.toml")] * 3, *files[:3]]
    codes: Counter[int] = Counter()
    faults: dict[str, Line] = {}
    interrupted = count = 0
    for number in range(inputs):
        if number % 500 == 499:
            print(f"{number + 1:,} of {inputs:,} command lines, {count} failed", file=sys.stderr)
        dice = random.Random(seed * inputs + number)
        chosen = Line(dice.choice(settings), tuple(line(commands, files, dice)))
        found = ended(chosen, folder)
        codes[found.code] += 1
        interrupted += found.interrupted
        wrong = fault(found, chosen.words)
        if wrong:
            count += 1
            kind = f"{' '.join(chosen.words[:2])}: {wrong}"
            if kind not in faults:
                faults[kind] = chosen
                words = shlex.join(["--settings", chosen.settings, *chosen.words])[:600]
                print(kind, words, found.output[-3000:], sep="\n    ", file=sys.stderr)
    return Outcome(codes, interrupted, faults, count)


def measured(quick: bool) -> dict[str, Figure]:
    """Return the numbers of command lines that ended with each exit code, and of those that failed."""
    inputs = int(os.environ.get("LINES", QUICK_LINES if quick else LINES))
    for name in MODULES:  # once, so that no child imports
        cli.get_command(click.Context(cli), name)
    with tempfile.TemporaryDirectory(prefix="conclave-fuzz-") as name:
        folder = Path(name)
        with EmbeddedServer(folder / "server", die_with_parent=True) as server:
            found = offer(inputs, int(os.environ.get("SEED", "1")), folder, server.url)
    return {
        "lines": Figure(inputs, "command lines"),
        **{f"exit_{code}": Figure(count, "command lines") for code, count in sorted(found.codes.items())},
        "lines_interrupted": Figure(found.interrupted, "command lines"),
        "lines_failed": Figure(found.failed, "command lines", "<= 0"),
    }
