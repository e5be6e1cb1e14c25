"""The process that reads a state dict or an ONNX graph before any other does, and answers why it is refused.

    python -m shared.importing.child <memory in MiB> <seconds> <pid of the parent> <name of the file>    < content

The answer is empty if the file can be read.
"""

import sys
from pathlib import Path

from shared.confined import enter


def main() -> None:
    """Read the state dict or graph on standard input, and answer."""
    answer, (name,) = enter()
    from shared.families import WeightsError  # noqa: PLC0415  # after the limits are set
    from shared.families.libraries import LibraryMissingError  # noqa: PLC0415  # the same
    from shared.importing.onnx import try_out  # noqa: PLC0415  # the same
    from shared.importing.reading import SourceFileError, tensors_in  # noqa: PLC0415  # the same

    reason = ""
    try:
        read = try_out if Path(name).suffix == ".onnx" else tensors_in
        read(sys.stdin.buffer.read(), Path(name))
    except (SourceFileError, WeightsError, LibraryMissingError) as error:
        reason = str(error)
    except MemoryError:
        reason = f"{name}: it needs more memory than a child process that reads it has"
    except Exception as error:  # a library may raise anything for a damaged file
        reason = f"{name}: {type(error).__name__}: {error!s:.300}"
    with answer:
        answer.write(reason.encode(errors="replace"))


if __name__ == "__main__":
    main()
