"""``python -m tests.simulation``: run seeds, and tell the story of the first that fails.

Exit code 0: nothing was violated, 1: something was, 2: wrong usage.
"""

import argparse
import sys

from tests.simulation.plan import KINDS, ON_REQUEST, drawn
from tests.simulation.shrinking import read, shrink, story
from tests.simulation.world import simulate


def main() -> int:
    """Run the plans that the arguments name; return the exit code."""
    arguments = _arguments()
    if arguments.plan:
        plan = read(arguments.plan)
        outcome = simulate(plan)
        sys.stdout.write(f"{story(plan, outcome)}\n")
        return bool(outcome.violation)
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        plan = drawn(seed, tuple(arguments.kinds.split(",")))
        if simulate(plan).violation:
            shrunk = shrink(plan)
            sys.stdout.write(f"{story(shrunk.plan, shrunk.outcome)}\n(found in {shrunk.runs} runs)\n")
            return 1
    sys.stdout.write(f"{arguments.seeds} seeds, nothing is violated\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate an installation.")
    parser.add_argument("--first", type=int, default=0, help="the first seed; default 0")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds; default 100")
    parser.add_argument("--plan", default="", help="a plan to run instead, as JSON")
    known = ", ".join((*KINDS, *ON_REQUEST))
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"what may go wrong, separated by commas: {known}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
