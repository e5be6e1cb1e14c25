"""Gradient-boosted trees by XGBoost: multi-class log loss, weights in its UBJ format."""

import ctypes
import functools
import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from shared.families.base import (
    NONE,
    Epoch,
    Files,
    Fitted,
    Logits,
    Params,
    Sample,
    Watch,
    WeightsError,
    Windows,
    last_row,
    one_vector,
    only_file,
)
from shared.families.libraries import library

FILE: Final = "model.ubj"
WATCHED_EVERY: Final = 10
"""Boosting rounds between two calls of ``watch``."""

MARGINS: Final = (
    b'{"type": 1, "training": false, "iteration_begin": 0, "iteration_end": 0, '
    b'"missing": NaN, "strict_shape": false, "cache_id": 0}'
)
"""Configuration of ``XGBoosterPredictFromDense``: the sums over all trees, before the softmax."""


class XGBoostModel:
    """A booster on one thread. Predicts through XGBoost's documented C interface, since for one row its Python layer
    costs four times the trees."""

    def __init__(self, booster: Any):
        self._booster = booster
        interface = _interface()
        self._predict = interface.XGBoosterPredictFromDense
        # A proxy for the rows. Without it XGBoost creates one at each call, and each time reads the number of
        # processors from the files of the control group.
        self._rows = ctypes.c_void_p()
        if interface.XGProxyDMatrixCreate(ctypes.byref(self._rows)):
            raise RuntimeError("XGProxyDMatrixCreate failed; this version of XGBoost cannot predict")
        weakref.finalize(self, interface.XGDMatrixFree, self._rows)
        self._shape = ctypes.POINTER(ctypes.c_uint64)()
        self._dims = ctypes.c_uint64()
        self._margins = ctypes.POINTER(ctypes.c_float)()
        self._results = (ctypes.byref(self._shape), ctypes.byref(self._dims), ctypes.byref(self._margins))

    def logits(self, windows: Windows) -> Logits:
        """Return margins [N, 3]: float32 sums in the order of the trees."""
        rows = np.ascontiguousarray(last_row(windows, "xgboost"), dtype=np.float32)
        count, features = rows.shape
        interface = b'{"data": [%d, true], "shape": [%d, %d], "typestr": "<f4", "strides": null, "version": 3}' % (
            rows.__array_interface__["data"][0],
            count,
            features,
        )
        if self._predict(self._booster.handle, interface, MARGINS, self._rows, *self._results):
            raise RuntimeError("XGBoosterPredictFromDense failed; the booster cannot predict these rows")
        # The buffer belongs to the booster, which reuses it for the next prediction: copy it.
        margins = np.frombuffer(ctypes.string_at(self._margins, 12 * count), dtype=np.float32)
        return margins.reshape(count, 3).astype(np.float64)


@functools.cache
def _interface() -> Any:
    """Return the C functions of the library that the package has loaded, with their argument types declared."""
    [path, *_] = library("xgboost").libpath.find_lib_path()
    functions = ctypes.CDLL(path)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    functions.XGBoosterPredictFromDense.argtypes = [pointer, text, text, pointer, pointer, pointer, pointer]
    functions.XGProxyDMatrixCreate.argtypes = [pointer]
    functions.XGDMatrixFree.argtypes = [pointer]
    return functions


def _watching(watch: Watch, held: Any, rounds: int) -> Any:
    """Return an XGBoost callback that calls ``watch`` every ``WATCHED_EVERY`` rounds."""

    class Watching(library("xgboost").callback.TrainingCallback):  # type: ignore[misc]  # imported when used
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            if (epoch + 1) % WATCHED_EVERY == 0:
                fitted, unseen = (evals_log[part]["mlogloss"][-1] for part in ("train", "validation"))
                margins = model.predict(held, output_margin=True).astype(np.float64)
                return bool(watch(Epoch(epoch + 1, rounds, fitted, unseen, margins)))
            return False

    return Watching()


def _start(sample: Sample) -> Any:
    """Return the margins [N, 3] to which the trees of a sample with an offset are added."""
    return None if sample.offset is None else np.tile(sample.offset, (len(sample.y), 1))


class XGBoost:
    """The family ``xgboost``. ``patience``: rounds without gain on the validation part after which a fit stops."""

    name = "xgboost"
    window = staticmethod(one_vector)
    scaled = False
    constant = False
    batch_rows: int | None = None
    presets: Mapping[str, Params] = NONE
    defaults: Params = MappingProxyType(
        {
            "rounds": 300,
            "patience": 40,
            "eta": 0.05,
            "max_depth": 4,
            "min_child_weight": 50,
            "lambda": 5.0,
            "subsample": 0.7,
            "colsample_bytree": 0.7,
            "max_bin": 128,
        }
    )

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """See ``Family.fit``. ``steps`` of the result: boosting rounds that were kept, each of three trees."""
        xgboost = library("xgboost")
        own = {"rounds", "patience"}
        settings: dict[str, Any] = {name: value for name, value in params.items() if name not in own}
        settings |= {"objective": "multi:softprob", "num_class": 3, "eval_metric": "mlogloss"}
        settings |= {"tree_method": "hist", "nthread": 1, "seed": seed, "verbosity": 1}
        if held.offset is not None:
            settings["base_score"] = 0.5  # of each class: the served model has no intercept
        bins = int(params["max_bin"])
        rows = last_row(train.x, self.name)
        data = xgboost.QuantileDMatrix(
            rows, label=train.y, weight=train.weight, base_margin=_start(train), max_bin=bins, nthread=1
        )
        rows = last_row(held.x, self.name)
        watched = xgboost.QuantileDMatrix(
            rows, label=held.y, weight=held.weight, base_margin=_start(held), max_bin=bins, nthread=1, ref=data
        )
        booster = xgboost.train(
            settings,
            data,
            num_boost_round=int(params["rounds"]),
            evals=[(data, "train"), (watched, "validation")][watch is None :],
            early_stopping_rounds=int(params["patience"]),
            verbose_eval=False,
            callbacks=[] if watch is None else [_watching(watch, watched, int(params["rounds"]))],
        )
        steps = booster.best_iteration + 1
        # The model goes through its binary format, so that the model that is scored is the one that will be served.
        return Fitted(self.load({FILE: bytes(booster[:steps].save_raw("ubj"))}, train.x.shape[2], params), steps)

    def save(self, model: XGBoostModel) -> dict[str, bytes]:
        """Return one UBJ file."""
        return {FILE: bytes(model._booster.save_raw("ubj"))}

    def load(self, files: Files, features: int, params: Params) -> XGBoostModel:
        """See ``Family.load``."""
        xgboost = library("xgboost")
        raw = only_file(files, FILE, self.name)
        try:
            booster = xgboost.Booster(params={"nthread": 1}, model_file=bytearray(raw))
        except (xgboost.core.XGBoostError, ValueError) as error:
            raise WeightsError(f"{FILE}: not an XGBoost model: {str(error).splitlines()[0]:.200}") from None
        if booster.num_features() != features:
            raise WeightsError(f"{FILE}: trees over {booster.num_features()} features, manifest names {features}")
        return XGBoostModel(booster)

    def libraries(self) -> dict[str, str]:
        """Return NumPy and XGBoost."""
        return {"numpy": np.__version__, "xgboost": library("xgboost").__version__}
