"""Load artifacts whose model file was mutated: each is refused with its reason, or served, and this process lives.

The digests of a mutated artifact are right, as if it had been stored so. Small models of the families whose files
are read by libraries in C: XGBoost (UBJ), LightGBM (text) and N-HiTS (safetensors). Each load starts a child process,
which takes half a second to a second of processor time.

``SEED=<number>`` chooses other mutations, ``INPUTS=<number>`` how many.
"""

import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import structs
from rich.progress import track

from bench import fuzz_samples as samples
from bench.fuzz import mutate
from bench.harness import Figure
from shared.artifacts import (
    GOLDEN,
    MANIFEST,
    Artifact,
    ArtifactError,
    ArtifactStore,
    FileEntry,
    Golden,
    digest_of,
    golden_bytes,
)
from shared.artifacts.manifest import Manifest, canonical, parse
from shared.families import FAMILIES
from shared.families.base import Sample

INPUTS: Final = 3_000
QUICK_INPUTS: Final = 30
SMALL: Final[Mapping[str, Mapping[str, int]]] = {
    "xgboost": {"rounds": 4, "max_depth": 3, "min_child_weight": 1},
    "lightgbm": {"rounds": 4, "num_leaves": 5, "min_data_in_leaf": 5},
    "nhits": {"epochs": 1},
}
CRASHED: Final = re.compile(r"crashed the library \((\w+)\)")


def made(family: str) -> tuple[Manifest, dict[str, bytes]]:
    """Return manifest and files of an artifact with a small model over two features."""
    chosen = FAMILIES[family]
    params = {**chosen.defaults, **SMALL[family]}
    dice = np.random.default_rng(0)
    x = dice.standard_normal((300, chosen.window(params), 2)).astype(np.float32)
    y = np.where(np.arange(300) % 5 == 0, 1, (x[:, -1, 0] > 0) * 2).astype(np.int64)
    sample = Sample(x, y, np.ones(300))
    model = chosen.fit(sample, sample, 1, params).model
    manifest = structs.replace(
        parse(samples.manifest()),
        family=family,
        params=params,
        window=chosen.window(params),
        libraries=chosen.libraries(),
    )
    if not chosen.scaled:
        manifest = structs.replace(manifest, scaler=None)
    windows = x[:8]
    expected = Artifact("0" * 64, manifest, model).predict(windows)
    golden = golden_bytes(Golden(windows, expected, np.arange(len(windows), dtype=np.int64)))
    return manifest, {**chosen.save(model), GOLDEN: golden}


def put(store: ArtifactStore, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Put an artifact with these files into the store without opening it, and return its digest."""
    entries = tuple(FileEntry(name, digest_of(files[name]), len(files[name])) for name in sorted(files))
    data = canonical(structs.replace(manifest, files=entries))
    folder = store.path / digest_of(data)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, MANIFEST: data}.items():
        (folder / name).write_bytes(content)
    return folder.name


def outcome(store: ArtifactStore, digest: str) -> str:
    """Load an artifact, and return what happened: ``served``, the signal that ended the child, or ``refused``."""
    try:
        store.load(digest)
    except ArtifactError as error:
        crashed = CRASHED.search(str(error))
        return crashed[1] if crashed else "too long" if "processor time" in str(error) else "refused"
    return "served"


def offer(inputs: int, seed: int, folder: Path) -> Counter[str]:
    """Load so many mutated artifacts of each family in turn, and count what happened."""
    store, found = ArtifactStore(folder), Counter[str]()
    whole = {family: made(family) for family in SMALL}
    for number in track(range(inputs), "artifacts"):
        family = list(SMALL)[number % len(SMALL)]
        manifest, files = whole[family]
        dice = random.Random(seed * inputs + number)
        [name] = files.keys() - {GOLDEN}
        changed = {**files, name: mutate(files[name], [files[name]], dice)}
        found[f"{family}, {outcome(store, put(store, manifest, changed))}"] += 1
    return found


def run(quick: bool) -> dict[str, Figure]:
    """Return how many artifacts ended in which way. That there are figures shows that no library ended this process."""
    inputs = int(os.environ.get("INPUTS", QUICK_INPUTS if quick else INPUTS))
    with tempfile.TemporaryDirectory(prefix="conclave-damaged-") as name:
        found = offer(inputs, int(os.environ.get("SEED", "1")), Path(name))
    return {kind: Figure(count, "artifacts") for kind, count in sorted(found.items())}
