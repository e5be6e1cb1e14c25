"""The process of one job: ``python -m services.trainer.child <folder> <pid of the trainer>``.

It lowers its priority before it imports anything large, and ends when the trainer ends.
"""

import importlib
import os
import sys
from pathlib import Path

from services.trainer.isolation import isolate
from shared.settings import load


def main() -> int:
    """Work on the task in the folder that the command line names, and return the exit code."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    settings = load()
    isolate(settings.training.memory_mb)
    importlib.import_module("shared.runtime.process").die_with_parent(parent)
    os.chdir(folder)
    return int(importlib.import_module("services.trainer.work").work(folder, settings))


if __name__ == "__main__":
    raise SystemExit(main())
