"""The class prior: predicts the class frequencies of its training part for every input.

Its skill is zero by definition. Every other score is compared with it.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import numpy as np
from msgspec import Struct

from schemas.codec import UNDECODABLE
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
    class_shares,
    one_vector,
    only_file,
    shifted,
)

FILE = "weights.json"


class PriorModel(Struct, frozen=True, forbid_unknown_fields=True):
    """``log_prior``: the log frequency of SELL, HOLD, BUY."""

    log_prior: tuple[float, float, float]

    def logits(self, windows: Windows) -> Logits:
        """Return [N, 3], with the same row for every window."""
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
        """Count the classes. Raises ``ValueError`` where a class has no row."""
        sell, hold, buy = shifted(np.log(class_shares(train)), train.offset, -1).tolist()
        return Fitted(PriorModel((sell, hold, buy)), 0)

    def save(self, model: PriorModel) -> dict[str, bytes]:
        """Return one JSON file."""
        return {FILE: msgspec.json.encode(model)}

    def load(self, files: Files, features: int, params: Params) -> PriorModel:
        """See ``Family.load``."""
        try:
            return msgspec.json.decode(only_file(files, FILE, self.name), type=PriorModel)
        except UNDECODABLE as error:
            raise WeightsError(f"{FILE}: {error}") from None

    def libraries(self) -> dict[str, str]:
        """Return NumPy alone."""
        return {"numpy": np.__version__}
