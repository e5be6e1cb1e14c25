"""Read weights and scalers that were made elsewhere. No code in a file is run in this process.

A state dict is read by torch's restricted unpickler (``weights_only=True``: tensors and containers, no calls), or from
safetensors. A pickled scaler is opened only by a converter in a child process, and only at the operator's request;
``shared.importing.converter`` describes the guarantees.
"""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.codec import UNDECODABLE
from shared.confined import MIB, ConfinedError, confined
from shared.families.libraries import library
from shared.families.tensors import arrays_in

WAIT_S: Final = 60.0
LEAST_MB: Final = 4096
"""Memory of the child that reads a state dict first (MiB), without what it gets for the size of the file."""
TIMES: Final = 8
"""Memory for each byte of the file."""
CONVERTER: Final = Path(__file__).with_name("converter.py")
LARGEST: Final = 512 * 2**20


class SourceFileError(ValueError):
    """A file does not have the expected content. The message names the file."""


class ScalerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scaler as numbers: one mean and one scale for each feature; it computes ``(x - mean) / scale``. ``names``: of
    the features, if the file has them."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    names: tuple[str, ...] = ()


def state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict, in its order. Raises ``SourceFileError``, ``WeightsError``."""
    return tensors_in(opened_first(path), path)


def opened_first(path: Path) -> bytes:
    """Return the content of a file after a child process has read it, so that one which crashes its library, or takes
    all memory, is refused. Raises ``SourceFileError``."""
    data = _bytes(path)
    try:
        reason = confined(
            "shared.importing.child", path.name, memory_mb=LEAST_MB + TIMES * len(data) // MIB, data=data
        ).decode()
    except ConfinedError as error:
        raise SourceFileError(f"{path}: {error}") from None
    if reason:
        raise SourceFileError(reason)
    return data


def tensors_in(data: bytes, path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict in the content of ``path``. Raises ``SourceFileError``, ``WeightsError``."""
    if path.suffix == ".safetensors":
        return arrays_in(data, path.name)
    torch = library("torch")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise SourceFileError(
            f"{path}: not a state dict that can be read without running code: {why:.200}; "
            "save it again with torch.save(model.state_dict(), ...)"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise SourceFileError(f"{path}: expected a state dict, tensors by name; found {type(state).__name__}")
    return {str(name): tensor.detach().to(torch.float32).numpy() for name, tensor in state.items()}


def scaler(path: Path, *, unpickle: bool) -> ScalerFile:
    """Return a scaler from JSON (``{"mean": [...], "scale": [...]}``), or if ``unpickle``, from a pickle through the
    converter. Raises ``SourceFileError``."""
    data = _bytes(path)
    if path.suffix != ".json":
        if not unpickle:
            raise SourceFileError(
                f"{path}: a pickle can run any code when it is opened. Write its numbers as JSON "
                '{"mean": [...], "scale": [...]}, or let the converter open it in a child process: --unpickle-scaler'
            )
        data = _converted(path, data)
    try:
        numbers = msgspec.json.decode(data, type=ScalerFile)
    except UNDECODABLE as error:
        raise SourceFileError(f'{path}: expected {{"mean": [...], "scale": [...]}}; {error}') from None
    if (
        len(numbers.mean) != len(numbers.scale)
        or not all(np.isfinite([*numbers.mean, *numbers.scale]))
        or min(numbers.scale) <= 0
    ):
        raise SourceFileError(f"{path}: expected finite numbers, one mean and one scale above 0 for each feature")
    return numbers


def _converted(path: Path, data: bytes) -> bytes:
    # Isolated (-I) and by its path, so that it imports NumPy and nothing from the current folder.
    done = subprocess.run(  # noqa: S603  # the command has no input of others
        [sys.executable, "-I", str(CONVERTER)],
        input=data,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
        env={"OPENBLAS_NUM_THREADS": "1"},
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise SourceFileError(f"{path}: the converter refused it: {lines[-1] if lines else f'code {done.returncode}'}")
    return done.stdout


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise SourceFileError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise SourceFileError(f"{path}: {path.stat().st_size:,} bytes, more than the limit of {LARGEST:,}")
    return path.read_bytes()
