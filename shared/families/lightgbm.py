"""Gradient-boosted trees by LightGBM: multi-class log loss, weights in its text format."""

import ctypes
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from shared.families.base import (
    NONE,
    Epoch,
    Files,
    Fitted,
    Logits,
    Offset,
    Params,
    Sample,
    Watch,
    WeightsError,
    Windows,
    last_row,
    one_vector,
    only_file,
    shifted,
)
from shared.families.libraries import library

FILE: Final = "model.txt"
WATCHED_EVERY: Final = 10
"""Boosting rounds between two calls of ``watch``."""
RAW_SCORES: Final = 1
"""``C_API_PREDICT_RAW_SCORE``: the sums over all trees, before the softmax."""
FLOATS: Final = (0, 1)
"""``C_API_DTYPE_FLOAT32`` and ``C_API_DTYPE_FLOAT64``."""


class LightGBMModel:
    """A booster on one thread. Predicts through LightGBM's documented C interface, since for one row its Python layer
    costs more than the trees."""

    def __init__(self, booster: Any):
        self._booster = booster
        self._library = library("lightgbm").basic
        self._predict = self._library._LIB.LGBM_BoosterPredictForMat
        self._handle = booster._handle
        self._count = ctypes.c_int64()

    def logits(self, windows: Windows) -> Logits:
        """Return raw scores [N, 3]: float64 sums in the order of the trees."""
        rows = last_row(windows, "lightgbm")
        if not len(rows):
            return np.empty((0, 3))
        count, features = rows.shape
        raw = np.empty((count, 3))
        failed = self._predict(
            self._handle,
            ctypes.c_void_p(rows.__array_interface__["data"][0]),
            FLOATS[rows.dtype == np.float64],
            ctypes.c_int32(count),
            ctypes.c_int32(features),
            1,  # row by row
            RAW_SCORES,
            0,  # from the first tree
            -1,  # to the last
            b"num_threads=1",
            ctypes.byref(self._count),
            ctypes.c_void_p(raw.__array_interface__["data"][0]),
        )
        if failed:
            self._library._safe_call(failed)
        return raw


def _start(sample: Sample) -> Any:
    """Return the scores [N, 3] to which the trees of a sample with an offset are added."""
    return None if sample.offset is None else np.tile(sample.offset, (len(sample.y), 1))


def _watching(watch: Watch, held: Any, offset: Offset | None) -> Callable[[Any], None]:
    """Return a LightGBM callback that calls ``watch`` every ``WATCHED_EVERY`` rounds."""

    def after_iteration(env: Any) -> None:
        if (env.iteration + 1) % WATCHED_EVERY == 0:
            losses = {part: loss for part, _, loss, *_ in env.evaluation_result_list}
            scores = np.asarray(env.model.predict(held, raw_score=True, num_threads=1), dtype=np.float64)
            progress = Epoch(
                env.iteration + 1, env.end_iteration, losses["train"], losses["validation"], shifted(scores, offset)
            )
            if watch(progress):
                raise library("lightgbm").callback.EarlyStopException(env.iteration, env.evaluation_result_list)

    return after_iteration


class LightGBM:
    """The family ``lightgbm``. ``patience``: rounds without gain on the validation part after which a fit stops."""

    name = "lightgbm"
    window = staticmethod(one_vector)
    scaled = False
    constant = False
    batch_rows: int | None = None
    presets: Mapping[str, Params] = NONE
    defaults: Params = MappingProxyType(
        {
            "rounds": 300,
            "patience": 40,
            "learning_rate": 0.05,
            "num_leaves": 12,
            "min_data_in_leaf": 200,
            "lambda_l2": 5.0,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "feature_fraction": 0.7,
            "max_bin": 127,
        }
    )

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """See ``Family.fit``. ``steps`` of the result: boosting rounds that were kept, each of three trees."""
        lightgbm = library("lightgbm")
        own = {"rounds", "patience"}
        settings: dict[str, Any] = {name: value for name, value in params.items() if name not in own}
        settings |= {"objective": "multiclass", "num_class": 3, "metric": "multi_logloss", "verbosity": -1}
        settings |= {"num_threads": 1, "seed": seed, "deterministic": True, "force_row_wise": True}
        rows = last_row(train.x, self.name)
        data = lightgbm.Dataset(rows, label=train.y, weight=train.weight, init_score=_start(train), params=settings)
        rows = last_row(held.x, self.name)
        watched = lightgbm.Dataset(
            rows, label=held.y, weight=held.weight, init_score=_start(held), reference=data, params=settings
        )
        booster = lightgbm.train(
            settings,
            data,
            num_boost_round=int(params["rounds"]),
            valid_sets=[data, watched][watch is None :],
            valid_names=["train", "validation"][watch is None :],
            callbacks=[
                lightgbm.early_stopping(int(params["patience"]), verbose=False),
                *([] if watch is None else [_watching(watch, rows, held.offset)]),
            ],
        )
        steps = int(booster.best_iteration)
        # The model goes through its text format, so that the model that is scored is the one that will be served.
        files = {FILE: booster.model_to_string(num_iteration=steps).encode()}
        return Fitted(self.load(files, train.x.shape[2], params), steps)

    def save(self, model: LightGBMModel) -> dict[str, bytes]:
        """Return one text file."""
        return {FILE: model._booster.model_to_string().encode()}

    def load(self, files: Files, features: int, params: Params) -> LightGBMModel:
        """See ``Family.load``."""
        lightgbm = library("lightgbm")
        text = only_file(files, FILE, self.name)
        try:
            booster = lightgbm.Booster(model_str=text.decode("utf-8"))
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
            raise WeightsError(f"{FILE}: not a LightGBM model: {error!s:.200}") from None
        if booster.num_feature() != features:
            raise WeightsError(f"{FILE}: trees over {booster.num_feature()} features, manifest names {features}")
        if booster.num_model_per_iteration() != 3:
            raise WeightsError(f"{FILE}: {booster.num_model_per_iteration()} classes instead of 3")
        return LightGBMModel(booster)

    def libraries(self) -> dict[str, str]:
        """Return NumPy and LightGBM."""
        return {"numpy": np.__version__, "lightgbm": library("lightgbm").__version__}
