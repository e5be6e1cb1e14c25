"""The class prior: answers with the class frequencies of its training part, whatever it is asked.

Zero skill by definition. It is what every other score is compared with.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import numpy as np
from msgspec import Struct

from shared.families.base import (
    NONE,
    Files,
    Fitted,
    Logits,
    Params,
    Sample,
    Watch,
    WeightsError,
    Windows,
    one_vector,
    only_file,
)

FILE = "weights.json"


class PriorModel(Struct, frozen=True, forbid_unknown_fields=True):
    """``log_prior``: the log frequency of SELL, HOLD, BUY."""

    log_prior: tuple[float, float, float]

    def logits(self, windows: Windows) -> Logits:
        """The same row for every window."""
        return np.tile(np.array(self.log_prior), (len(windows), 1))


class Prior:
    """The family ``prior``."""

    name = "prior"
    window = staticmethod(one_vector)
    scaled = False
    constant = True
    batch_rows: int | None = None
    presets: Mapping[str, Params] = NONE
    defaults: Params = MappingProxyType({})

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """Counts. Raises ``ValueError`` where a class has no row."""
        counts = np.bincount(train.y, weights=train.weight, minlength=3)
        if not (counts > 0).all():
            raise ValueError(f"a class has no row in the training part: SELL, HOLD, BUY weigh {counts.tolist()}")
        start = np.log(counts / counts.sum())
        sell, hold, buy = (start if train.offset is None else start - train.offset).tolist()
        return Fitted(PriorModel((sell, hold, buy)), 0)

    def save(self, model: PriorModel) -> dict[str, bytes]:
        """One JSON file."""
        return {FILE: msgspec.json.encode(model)}

    def load(self, files: Files, features: int, params: Params) -> PriorModel:
        """See ``Family.load``."""
        try:
            return msgspec.json.decode(only_file(files, FILE, self.name), type=PriorModel)
        except msgspec.DecodeError as error:
            raise WeightsError(f"{FILE}: {error}") from None

    def libraries(self) -> dict[str, str]:
        """NumPy only."""
        return {"numpy": np.__version__}
