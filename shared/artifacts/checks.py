"""``check_model``: whether an artifact answers as a model does, asked by its own golden windows.

No data is needed beside the artifact: golden windows are rows of its test part, of several symbols at the
same moments where there were several, and what is changed in them is changed by fixed rules. Each check
has a name, a limit and the value that was found, and is run even where another failed.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.common import Name
from shared.artifacts.artifact import Artifact, Golden, read_golden
from shared.artifacts.manifest import GOLDEN
from shared.artifacts.store import ArtifactStore
from shared.families import family_named
from shared.features.installed import FEATURE_SETS

Windows = NDArray[np.float32]
Answers = NDArray[np.float64]
GRID: Final = 1000
"""Answers are told apart to a thousandth."""


class Limits(NamedTuple):
    """What is asked of a model. Probabilities are compared in absolute terms; ``latency_ms`` is the median
    of one row's, ``burst_ms`` that of a hundred rows together, on the machine that checks."""

    distinct: int = 5
    spread: float = 0.005
    response: float = 0.001
    alike: float = 0.5
    over_time: float = 0.001
    from_prior: float = 0.01
    latency_ms: float = 50.0
    burst_ms: float = 1_000.0
    megabytes: float = 64.0


LIMITS: Final = Limits()


class Check(NamedTuple):
    """One check: what was found, held against what limit, in words where there is more to say."""

    name: Name
    passed: bool
    value: float
    limit: float
    detail: str = ""


class CheckReport(NamedTuple):
    """All checks of one artifact, in order."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Those that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def __str__(self) -> str:
        return "; ".join(
            f"{one.name}: {one.value:.6g}, limit {one.limit:.6g}{', ' + one.detail if one.detail else ''}"
            for one in self.failed
        )


def check_model(artifact: Artifact, golden: Golden, files: Mapping[str, bytes], limits: Limits = LIMITS) -> CheckReport:
    """Every check. ``files`` are the artifact's, by name, ``golden`` their golden vectors."""
    windows = golden.windows
    checks = [
        _feature_set(artifact),
        _size(files, limits),
        _same_bits(artifact, golden, files),
        _refuses(artifact, windows),
        _sums(artifact.predict(windows)),
        _repeats(artifact, windows),
        _batch_shape(artifact, windows),
        *_speed(artifact, windows, limits),
    ]
    if not family_named(artifact.manifest.family).constant:
        checks += _moves(artifact, golden, limits)
    return CheckReport(tuple(checks))


def check_stored(store: ArtifactStore, digest: str) -> CheckReport:
    """Every check of an artifact in a store. Raises ``ArtifactError`` where it cannot be loaded at all."""
    artifact = store.load(digest)
    _, files = store.content(digest)
    return check_model(artifact, read_golden(files[GOLDEN]), files)


def _feature_set(artifact: Artifact) -> Check:
    """Its features are those of the set of that name here, in their order."""
    named = artifact.manifest.feature_set
    known = FEATURE_SETS.get(named.name)
    if known is None:
        return Check("feature_set", False, 0, 1, f"this release has no feature set {named.name!r}")
    if known.names != named.names:
        odd = next(
            (f"{ours} here, {theirs} there" for ours, theirs in zip(known.names, named.names, strict=False)
             if ours != theirs), f"{len(known.names)} here, {len(named.names)} there",
        )  # fmt: skip
        return Check("feature_set", False, 0, 1, f"{named.name}: another order or other names: {odd}")
    same = known.digest.hex() == named.digest
    return Check("feature_set", same, float(same), 1, "" if same else f"{named.name} is computed otherwise here")


def _size(files: Mapping[str, bytes], limits: Limits) -> Check:
    size = sum(map(len, files.values())) / 2**20
    return Check("size", size <= limits.megabytes, size, limits.megabytes, "MiB")


def _same_bits(artifact: Artifact, golden: Golden, files: Mapping[str, bytes]) -> Check:
    """Loaded from its files once more it answers the golden windows with the bits it had when it was made."""
    manifest = artifact.manifest
    family = family_named(manifest.family)
    weights = {name: data for name, data in files.items() if name != GOLDEN}
    again = Artifact(artifact.digest, manifest, family.load(weights, artifact.features, manifest.params))
    off = float(np.abs(again.predict(golden.windows) - golden.expected).max())
    limit = 0.0 if artifact.exact else 1e-6
    return Check("same_bits", off <= limit, off, limit, "" if artifact.exact else "other libraries or processor")


def _refuses(artifact: Artifact, windows: Windows) -> Check:
    """Another shape, another type, a value that is not finite: each raises, none is made to fit."""
    poisoned = {name: windows[:1].copy() for name in ("a NaN", "an infinity")}
    poisoned["a NaN"][0, -1, -1] = np.nan
    poisoned["an infinity"][0, 0, 0] = np.inf
    wrong: dict[str, Any] = {
        "one vector more": np.concatenate([windows[:1], windows[:1, :1]], axis=1),
        "one feature less": windows[:1, :, :-1],
        "one feature more": np.concatenate([windows[:1], windows[:1, :, :1]], axis=2),
        "no batch": windows[0],
        "float64": windows[:1].astype(np.float64),
        **poisoned,
    }
    taken = [name for name, bad in wrong.items() if not _raises(artifact.predict, bad)]
    return Check("refuses", not taken, len(taken), 0, f"took {', '.join(taken)}" if taken else "")


def _raises(predict: Callable[[Any], object], windows: object) -> bool:
    try:
        predict(windows)
    except ValueError:
        return True
    return False


def _sums(answers: Answers) -> Check:
    lawful = bool(np.isfinite(answers).all() and (answers >= 0).all())
    off = float(np.abs(answers.sum(axis=1) - 1.0).max()) if lawful else float("inf")
    return Check("sums_to_one", off <= 1e-9, off, 1e-9, "" if lawful else "an answer is negative or not finite")


def _repeats(artifact: Artifact, windows: Windows) -> Check:
    first, second = artifact.predict(windows), artifact.predict(windows)
    off = float(np.abs(first - second).max())
    return Check("repeats", np.array_equal(first, second), off, 0, "asked twice")


def _batch_shape(artifact: Artifact, windows: Windows) -> Check:
    """Alone, in threes, backwards, and many times over: a row's bits are its own."""
    whole = artifact.predict(windows)
    alone = np.concatenate([artifact.predict(windows[row : row + 1]) for row in range(len(windows))])
    threes = np.concatenate([artifact.predict(windows[row : row + 3]) for row in range(0, len(windows), 3)])
    backwards = artifact.predict(windows[::-1].copy())[::-1]
    many = artifact.predict(np.tile(windows, (4, 1, 1)))[: len(windows)]
    ways = {"alone": alone, "in threes": threes, "backwards": backwards, "among more": many}
    other = [name for name, answers in ways.items() if not np.array_equal(answers, whole)]
    off = max(float(np.abs(answers - whole).max()) for answers in ways.values())
    return Check("batch_shape", not other, off, 0, f"other answers {', '.join(other)}" if other else "")


def _speed(artifact: Artifact, windows: Windows, limits: Limits) -> list[Check]:
    one, many = windows[:1], np.resize(windows, (100, *windows.shape[1:]))
    alone, together = _median_ms(artifact, one), _median_ms(artifact, many)
    return [
        Check("latency", alone <= limits.latency_ms, alone, limits.latency_ms, "ms, one row"),
        Check("burst", together <= limits.burst_ms, together, limits.burst_ms, "ms, a hundred rows"),
    ]


def _median_ms(artifact: Artifact, windows: Windows) -> float:
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        artifact.predict(windows)
        took.append(1000 * (time.perf_counter() - begun))
    return sorted(took)[2]


def _moves(artifact: Artifact, golden: Golden, limits: Limits) -> list[Check]:
    """Its answers are a function of its input, in every way in which inputs differ."""
    answers = artifact.predict(golden.windows)
    rounded = np.rint(answers * GRID)
    values = len(np.unique(rounded, axis=0))
    least = min(limits.distinct, len(answers))
    width = float(np.ptp(answers, axis=0).max())
    prior = float(np.abs(answers - np.array(artifact.manifest.prior)).max())
    response = _response(artifact, golden.windows)
    return [
        Check(
            "constant", bool((answers != answers[0]).any()), width, 0, "one answer, bit for bit" if not width else ""
        ),
        Check("distinct", values >= least, values, least, f"different answers, to 1e-3, for {len(answers)} windows"),
        Check("spread", width >= limits.spread, width, limits.spread, "from the least probability to the largest"),
        Check("perturbation", response >= limits.response, response, limits.response, "one input moved by a deviation"),
        _across_symbols(golden, rounded, limits),
        _over_time(artifact, golden.windows, answers, limits),
        Check("not_prior", prior >= limits.from_prior, prior, limits.from_prior, "farthest from the class prior"),
    ]


def _response(artifact: Artifact, windows: Windows) -> float:
    """The largest change of a probability when one feature of the newest vector moves by one deviation."""
    usual = artifact.predict(windows)
    steps = windows[:, -1].astype(np.float64).std(axis=0)
    largest = 0.0
    for feature, step in enumerate(steps):
        moved = windows.copy()
        moved[:, -1, feature] += np.float32(step)
        largest = max(largest, float(np.abs(artifact.predict(moved) - usual).max()))
    return largest


def _across_symbols(golden: Golden, rounded: Answers, limits: Limits) -> Check:
    """The share of moments at which all symbols have one answer."""
    name, of = "across_symbols", "of the moments with several symbols have one answer for all"
    shared = [rows for moment in np.unique(golden.times) if len(rows := np.flatnonzero(golden.times == moment)) > 1]
    if not shared:
        return Check(name, True, 0, limits.alike, "one symbol at each moment: nothing to compare")
    alike = sum(len(np.unique(rounded[rows], axis=0)) == 1 for rows in shared) / len(shared)
    return Check(name, alike <= limits.alike, alike, limits.alike, of)


def _over_time(artifact: Artifact, windows: Windows, answers: Answers, limits: Limits) -> Check:
    """A model of sequences reads them: the same vectors in the opposite order are another question."""
    if artifact.window == 1:
        return Check("over_time", True, 0, limits.over_time, "a window of one vector has no order")
    turned = windows.copy()
    turned[:, :-1] = windows[:, -2::-1]
    change = float(np.abs(artifact.predict(turned) - answers).max())
    return Check("over_time", change >= limits.over_time, change, limits.over_time, "older vectors in opposite order")
