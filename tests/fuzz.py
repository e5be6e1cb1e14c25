"""``make fuzz``: run every property test with fresh seeds until the time is up, or until one is falsified.

Prints a falsifying example as code to be pasted above the test. Hypothesis keeps it in ``.hypothesis`` as well, so that
the next run begins with it. Exit code 0: nothing was falsified, 1: something was, 2: the tests could not be run.
"""

import argparse
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

PROPERTY_TESTS: Final = "hypothesis and not stack and not cluster"
PASSED, FAILED = 0, 1
FALSIFIED: Final = re.compile(r"(?:Falsifying|Failing) (?:explicit )?(?:example|test case): (\w+)\($")
BLOB: Final = re.compile(r"@reproduce_failure\(.*\)")


def main() -> int:
    """Run rounds of property tests; the exit code."""
    asked = _arguments()
    until = time.monotonic() + 60 * asked.minutes
    rounds = 0
    while (left := until - time.monotonic()) > 0:
        rounds += 1
        seed = secrets.randbelow(2**32)
        _tell(f"round {rounds}, seed {seed}, {left / 60:.1f} minutes left\n")
        code, lines = _round(asked.tests, seed, asked.jobs, left)
        if code is None:
            break
        if code != PASSED:
            for example in examples(lines):
                _tell(f"\n{example}\n")
            return FAILED if code == FAILED else 2
    _tell(f"nothing was falsified in {rounds} rounds\n")
    return PASSED


def examples(lines: Sequence[str]) -> Iterator[str]:
    """The falsifying examples in a report, each as the code of a decorator."""
    plain = [line.removeprefix("E").rstrip() for line in lines]
    for number, line in enumerate(plain):
        begun, blob = FALSIFIED.search(line), BLOB.search(line)
        if begun is not None:
            indent = len(line) - len(line.lstrip())
            rest = plain[number + 1 :]
            end = next((at for at, each in enumerate(rest) if each == " " * indent + ")"), 0)
            arguments = [each[indent:] for each in rest[:end] if each.strip() != "self=self,"]
            drawn = any(each.lstrip().startswith("data=data(") for each in arguments)
            note = "  (it draws from st.data(): see @reproduce_failure)" if drawn else ""
            yield "\n".join([f"# {begun[1]}{note}", "@example(", *arguments, ")"])
        elif blob is not None:
            yield blob[0]


def _tell(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run property tests with fresh seeds until one is falsified.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; default 60")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: cores")
    parser.add_argument("tests", nargs="*", help="files or tests; default: all")
    return parser.parse_args()


def _round(tests: Sequence[str], seed: int, jobs: int, limit_s: float) -> tuple[int | None, list[str]]:
    """One run of all tests: its exit code (None: the time was up) and what it printed."""
    options = ["-m", PROPERTY_TESTS, "-x", "-n", str(jobs if jobs > 1 else 0), "-p", "no:cacheprovider"]
    seeded = ["--hypothesis-profile", "fuzz", "--hypothesis-seed", str(seed)]
    command = [sys.executable, "-m", "pytest", *options, *seeded, *tests]
    ended = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:

        def stop() -> None:
            ended.set()
            os.killpg(process.pid, signal.SIGTERM)

        timer = threading.Timer(limit_s, stop)
        timer.start()
        lines = []
        try:
            for line in process.stdout or ():
                _tell(line)
                lines.append(line)
            code = process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            timer.cancel()
    return (None if ended.is_set() and code != FAILED else code), lines


if __name__ == "__main__":
    sys.exit(main())
