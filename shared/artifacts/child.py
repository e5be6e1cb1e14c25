"""The process that opens an artifact before any other does: it loads it, warms it up, predicts unusual windows, and
answers why it is refused.

    python -m shared.artifacts.child <memory in MiB> <seconds> <pid of the parent> <store> <digest>

The answer is empty if the artifact may be opened.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.confined import enter

if TYPE_CHECKING:
    from shared.artifacts.artifact import Artifact

MAGNITUDES: Final = (0.0, 1e-3, 1.0, 1e3, 1e30)
ROWS: Final = 64


def main() -> None:
    """Open the artifact that the command line names, and answer."""
    answer, (path, digest) = enter()
    from shared.artifacts.store import UNLOADABLE, ArtifactStore  # noqa: PLC0415  # after the limits are set

    reason = ""
    try:
        _strain(ArtifactStore(Path(path)).opened(digest))
    except UNLOADABLE as error:
        reason = str(error)
    except MemoryError:
        reason = "it needs more memory than a child process that opens it has"
    except Exception as error:  # a library may raise anything for a damaged file
        reason = f"{type(error).__name__}: {error!s:.300}"
    with answer:
        answer.write(reason.encode(errors="replace"))


def _strain(artifact: "Artifact") -> None:
    """Predict windows that reach other parts of the model than the golden ones do. Only a crash matters here: what a
    model answers to them is no fault."""
    import numpy as np  # noqa: PLC0415  # after the limits are set

    drawn = np.random.default_rng(0).standard_normal((ROWS, artifact.window, artifact.features))
    for magnitude in MAGNITUDES:
        with suppress(ValueError, ArithmeticError):
            artifact.predict((magnitude * drawn).astype(np.float32))


if __name__ == "__main__":
    main()
