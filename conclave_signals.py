"""Start the program with the packages that it is installed with, whatever ``PYTHONPATH`` has in front of them.

The command ``conclave`` calls ``main``. Child processes run this file with the name of a module
(``shared.processes.module_command``). ADR 136 says why this is a module of its own.

Imports are inside the functions: until ``main`` runs, Ctrl-C is a traceback of Python.
"""

import os
import sys

PACKAGES = ("schemas", "services", "shared")
HERE = os.path.dirname(os.path.abspath(__file__))
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def main() -> None:
    """Run the command line. Ctrl-C while it is imported is one sentence, as it is later."""
    try:
        prefer_own_packages()
        from services.console.cli import main as command  # noqa: PLC0415  # the path comes first

        command()
    except SystemExit:
        raise
    except BaseException as error:
        if not _from_ctrl_c(error):
            raise
        _leave_at_ctrl_c()
        sys.stderr.write("conclave: interrupted before it was done\n")
        sys.exit(INTERRUPTED)
    finally:
        _leave_at_ctrl_c()  # Python would show a traceback of what it does at its end


def _from_ctrl_c(error: BaseException | None) -> bool:
    """Return whether Ctrl-C led to an error. What Python calls while it makes a class, or imports a library in C, turns
    the interrupt into an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def prefer_own_packages() -> None:
    """Move folders with packages of the same names to the end of the import path, after the folder of this file."""
    others = [folder for folder in sys.path if folder != HERE and _has_one(folder)]
    first = [folder for folder in sys.path if folder not in others]
    own = [] if HERE in first else [HERE]  # an editable installation is found by a hook, after the whole path
    sys.path[:] = [*first, *own, *others]


def _has_one(folder: str) -> bool:
    from importlib.machinery import PathFinder  # noqa: PLC0415  # see above

    return any(PathFinder.find_spec(name, [folder]) for name in PACKAGES)


def _leave_at_ctrl_c() -> None:
    from signal import SIGINT, signal  # noqa: PLC0415  # see above

    signal(SIGINT, lambda *_: os._exit(INTERRUPTED))


if __name__ == "__main__":
    from runpy import run_module

    prefer_own_packages()
    del sys.argv[0]
    run_module(sys.argv[0], run_name="__main__", alter_sys=True)
