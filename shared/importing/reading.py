"""Reads weights and scalers from elsewhere. Nothing in a file is run in this process.

A state dict is read by torch's restricted unpickler (``weights_only=True``: tensors and containers, no
calls), or is safetensors. A pickled scaler is opened only by a converter in a child process, and only where the
operator asks for that: see ``shared.importing.converter`` for what holds there.
"""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.families.libraries import library
from shared.families.tensors import arrays_in

WAIT_S: Final = 60.0
CONVERTER: Final = Path(__file__).with_name("converter.py")
LARGEST: Final = 512 * 2**20


class SourceFileError(ValueError):
    """A file that is not what it should be. Names it."""


class ScalerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scaler as numbers: one mean and one scale a feature."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]


def state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a bare state dict, in its order. Raises ``SourceFileError``."""
    data = _bytes(path)
    if path.suffix == ".safetensors":
        return arrays_in(data, path.name)
    torch = library("torch")
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise SourceFileError(
            f"{path}: not a state dict that can be read without running code: {str(error).splitlines()[0]:.200}; "
            "save it again with torch.save(model.state_dict(), ...)"
        ) from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise SourceFileError(f"{path}: expected a state dict, tensors by name; found {type(found).__name__}")
    return {str(name): tensor.detach().to(torch.float32).numpy() for name, tensor in found.items()}


def scaler(path: Path, *, unpickle: bool) -> ScalerFile:
    """A scaler from JSON (``{"mean": [...], "scale": [...]}``), or, where ``unpickle``, from a pickle through the
    converter. Raises ``SourceFileError``."""
    data = _bytes(path)
    if path.suffix != ".json":
        if not unpickle:
            raise SourceFileError(
                f"{path}: a pickle may run anything when it is opened. Write its numbers as JSON "
                '{"mean": [...], "scale": [...]}, or let the converter open it in a child process: --unpickle-scaler'
            )
        data = _converted(path, data)
    try:
        found = msgspec.json.decode(data, type=ScalerFile)
    except msgspec.MsgspecError as error:
        raise SourceFileError(f'{path}: expected {{"mean": [...], "scale": [...]}}; {error}') from None
    if (
        len(found.mean) != len(found.scale)
        or not all(np.isfinite([*found.mean, *found.scale]))
        or min(found.scale) <= 0
    ):
        raise SourceFileError(f"{path}: expected finite numbers, one mean and one scale above 0 for each feature")
    return found


def _converted(path: Path, data: bytes) -> bytes:
    # Isolated (-I), by its path: it imports NumPy and nothing of the place it is started from.
    done = subprocess.run(  # noqa: S603  # our own words
        [sys.executable, "-I", str(CONVERTER)],
        input=data,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
        env={"OPENBLAS_NUM_THREADS": "1"},
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SourceFileError(f"{path}: the converter refused it: {said[-1] if said else f'code {done.returncode}'}")
    return done.stdout


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise SourceFileError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise SourceFileError(f"{path}: {path.stat().st_size:,} bytes, at most {LARGEST:,} are read")
    return path.read_bytes()
