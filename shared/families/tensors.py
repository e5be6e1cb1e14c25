"""Weights of torch models as safetensors: named arrays only. Reading them runs no code."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.families.base import WeightsError
from shared.families.libraries import library

Arrays = Mapping[str, NDArray[Any]]


def written(arrays: Arrays) -> bytes:
    """Return arrays as a safetensors file. The same arrays give the same bytes."""
    return bytes(
        library("safetensors.numpy").save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
    )


def arrays_in(data: bytes, file: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file. Raises ``WeightsError``, which names ``file``."""
    loading = library("safetensors.numpy")
    try:
        return dict(loading.load(data))
    except (library("safetensors").SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"{file}: not safetensors: {error!s:.200}") from None
