"""Windows of a matrix of vectors, cut where they are used: a data set takes the memory of its vectors alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

AT_ONCE: Final = 16_384
"""Vectors in the windows that are cut for one call of a model."""


@dataclass(frozen=True, eq=False)
class CutWindows:
    """Windows [N, T, F] of ``vectors`` [M, F]: window n holds the ``length`` vectors that end at row ``ends[n]``.

    Indexed like an array, which copies those windows alone. ``np.asarray`` copies all of them."""

    vectors: NDArray[Any]
    ends: NDArray[np.intp]
    length: int

    @classmethod
    def separate(cls, windows: NDArray[Any]) -> Self:
        """Return windows that share no vectors, given as an array [N, T, F]."""
        count, length, features = windows.shape
        return cls(windows.reshape(-1, features), length - 1 + length * np.arange(count, dtype=np.intp), length)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return N, T and F."""
        return len(self.ends), self.length, int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return the windows of these rows, or these steps and features of them, as a new array."""
        keys = key if isinstance(key, tuple) else (key,)
        rows, steps, features = (*keys, slice(None), slice(None))[:3]
        taken: NDArray[Any] = self.vectors[np.add.outer(self.ends[rows], np.arange(1 - self.length, 1)[steps])]
        return taken[..., features]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("windows are cut from vectors: an array of them is always a copy")
        return np.asarray(self[:], dtype=dtype)

    def of(self, rows: NDArray[np.intp]) -> Self:
        """Return the windows of these rows, without a copy of vectors."""
        return replace(self, ends=self.ends[rows])

    def newest(self, length: int) -> Self:
        """Return the newest ``length`` vectors of each window."""
        return replace(self, length=length)

    def each(self, answer: Callable[[Any], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return what ``answer`` returns for all windows, some of them in a call. A model's answer to a window does not
        depend on the other windows of the call (``base.FittedModel``)."""
        rows = max(AT_ONCE // self.length, 1)
        return np.concatenate([answer(self[at : at + rows]) for at in range(0, max(len(self), 1), rows)])
