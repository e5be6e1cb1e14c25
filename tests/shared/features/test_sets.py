import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.features import SETS, FeatureSet, feature_set
from shared.features.installed import inputs_in
from shared.features.kernels import MISSING_WEIGHT
from shared.features.reference import reference
from shared.features.table import FEATURES

ROOT = Path(__file__).parents[3]

USER_8 = "close high low volume volatility rsi macd momentum"
USER_23 = (
    "open high low close volume price_change rsi_14 macd volume_ratio momentum_10 high_low_range volume_change "
    "volume_ma_ratio ema_10 ema_20 ema_50 ema_10_20_cross ema_10_50_cross volatility_20 macd_signal macd_hist "
    "bb_position momentum_20"
)

DIGESTS = {
    "core-28": "4591adce937c932c4470dedee7ca4b42e35b6b5d865cd1e24cac54f8455a5990",
    "window-7": "82e018f9738a9a1b0f0696a7d1693a7dfd43c3f8a3411502073328cc9522cc41",
    "user-8": "81036c00c5710d68eb22634c04b22c473bdfef9261a2b45402ff77aa72aac9fa",
    "user-18": "8f14bc93b80affffd14d15f4cb315f36b7e1fa56065d597f31ff1eebf3b12cce",
    "user-23": "7bc5273db3026482fe88b7014a3074a3f1026544bfa6b482521406ad016853fd",
    "season-1h-36": "5e7b747d0adc4e45b7949aec1430257100bcee22111a87a1503ae0195a85f742",
    "season-15m-30": "c33823cb515a865ab20bafcbc3dd39f6b1b21ce19fd939436e7350ce2f42b6b6",
    "frames-43": "1f662ee1714141c1b41fadf63c3019cfbf668f24f6db5a8e4e58a3a1d4de7869",
    "flow-38": "1e47c3ca8aa516825435aebb40f1c85d23013a7648ecb1313a298ff725220bab",
    "window-flow-10": "0345145158a4292d700d20c7e8a3d1ceab9ebc6bd3c3b4bf4ad7b32df3c02010",
    "window-1h-10": "36b08434a2ebaf62b6838a4e564096a4e2c317e6f62f4caae5307ed0d8b3d965",
    "window-1h-12": "e93b82aabd24f791986b4f334aa423cf226b8c3d644e2bc59cfbeb609854f05a",
    "window-15m-11": "ab3dda59d997991dec4cb178af3e6faddf4e88c952a94477459d130aa265cb95",
    "context-36": "109033741901d90e97dd6cd64f65356eb46851dbce4c17232d763e891d4531d3",
    "context-38": "21b9a31315ea1cc625224f4ed75b9cf638575c29397cbc7bef6e4659cfcb49d5",
    "derivatives-39": "efef6a468ef7171f09ef4a5c66cea4c9d786c5124dbf4ba765e4628bb1db8705",
    "book-32": "d8f351031bb4621338095c55186c9b1a2026e7261e98570aecbc27df18d01aa5",
}

VECTORS = {
    "core-28": "49026bd1c288fdd39d9430f55170f824972f56613c7ae5172e7f8f6240e2525d",
    "window-7": "cc1f483801ef41ea0ad659c0cac417794a7889b1d790f3be5fc06af95c02f9e6",
    "user-8": "c1080dcc2a66df85862793d7c9d7c5146725d81524d0eaa4ba7411426c2db085",
    "user-18": "5fe795eda92217f68f99aaf911eb5024fc48dcf81c0e589f13e041d2b6c6cc59",
    "user-23": "083925f3303ada96333f5c805202a6eae249f8c860aabf500634978e7fb281e2",
    "season-1h-36": "b45b30834d160d41b82c574a92acdd0b9adfa95c22f3503e5b6c7dc2380e7b68",
    "season-15m-30": "652433cc3963cd9c3cd899d7cf977e9fe080605908eec8e5b500ca381aea1cb7",
    "frames-43": "c40c655ba04360abbc7806c80038ab3fbf79bd6051370b7324992dfe4985c780",
    "flow-38": "be015e5ce742ec2d5c375437a8ff750b8a298752710d82a97418c0f99af4c766",
    "window-flow-10": "da6efa6df22a7b77ab745e904c49f71f93dbb473f76666decbb121379266526d",
    "window-1h-10": "d6b89d4a390463dea7d9697ad356666862d9964dc68c29e3a80406aaaf4a5df2",
    "window-1h-12": "c5a9d54a43c00dd2cd3e09dbca77e55ad8bb4a5cc67a06a9549963b8eaccb531",
    "window-15m-11": "eecb33f0919477b94a55538390016866d117abebf6634f0d8762c9085085f173",
    "context-36": "9b907c26f6826352cace9c26c6db607b72e4cc811f990cef4700b84ece253f13",
    "context-38": "d81ecc0919682f921bf2c56b9952f6a2724e86665615d1261bcb375737d52c1f",
    "derivatives-39": "099228b0ff9d18b88ef61a5ee3409e6659def8191e46011422aa3d798f7c26ee",
    "book-32": "12b2d8efd6b044897a12aa1e6b7c4d2a50829a73ed63c924e096709d41f6d010",
}

LOOKBACKS = {
    "core-28": 319,
    "window-7": 258,
    "user-8": 257,
    "user-18": 512,
    "user-23": 512,
    "season-1h-36": 1355,
    "season-15m-30": 1548,
    "frames-43": 1920,
    "flow-38": 319,
    "window-flow-10": 258,
    "window-1h-10": 1355,
    "window-1h-12": 1355,
    "window-15m-11": 1548,
    "context-36": 319,
    "context-38": 319,
    "derivatives-39": 319,
    "book-32": 319,
}

GOLDEN = """
import hashlib, sys
sys.path.insert(0, "tests/shared/features")
from conftest import walk
from shared.features import SETS, compute
references = {"BTCUSDT": walk(3000, seed=8)}
for name, chosen in SETS.items():
    print(name, hashlib.sha256(compute(chosen, walk(3000, seed=7), references).tobytes()).hexdigest())
"""


def test_the_users_sets_have_the_users_names_in_their_order() -> None:
    assert SETS["user-8"].names == tuple(USER_8.split())
    assert SETS["user-23"].names == tuple(USER_23.split())
    assert SETS["user-18"].names == tuple(USER_23.split())[5:]


@pytest.mark.parametrize("name", SETS)
def test_a_digest_never_changes(name: str) -> None:
    """A formula is never changed under its name: vectors and artifacts of the past name these digests."""
    assert SETS[name].digest.hex() == DIGESTS[name]
    assert SETS[name].digest == hashlib.sha256(SETS[name].definition.encode()).digest()


def test_sets_that_differ_in_names_or_order_differ_in_digest() -> None:
    assert feature_set("a", "rsi").digest != feature_set("a", "rsi_14").digest
    assert feature_set("a", "macd", "rsi").digest != feature_set("a", "rsi", "macd").digest
    assert feature_set("a", "macd").digest == feature_set("b", "macd").digest


def test_the_sets_of_our_own_hold_no_price_level() -> None:
    levels = {
        "open",
        "high",
        "low",
        "close",
        "volume",
        "ema_10",
        "ema_20",
        "ema_50",
        "macd",
        "macd_signal",
        "macd_hist",
    }
    users = {"user-8", "user-18", "user-23"}
    assert not levels & {name for chosen in SETS.values() if chosen.name not in users for name in chosen.names}


@pytest.mark.parametrize("names", [("rsi", "adx"), ("rsi", "rsi"), ()])
def test_a_set_of_unknown_repeated_or_no_features_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="feature set 'mine'"):
        feature_set("mine", *names)


def test_the_missing_weight_is_within_its_bound() -> None:
    assert all(feature.expression.missing <= MISSING_WEIGHT for feature in FEATURES.values())


def test_the_lookback_of_a_set_is_that_of_its_longest_feature() -> None:
    assert {name: chosen.lookback for name, chosen in SETS.items()} == LOOKBACKS
    assert isinstance(SETS["user-8"], FeatureSet)
    assert len(SETS["user-8"]) == 8


def test_the_reference_page_is_fresh() -> None:
    page = ROOT / "docs" / "reference" / "features.md"
    assert page.read_text() == reference(), "run: python -m shared.features.reference > docs/reference/features.md"


@pytest.mark.parametrize("disabled", ["", "X86_V4 AVX512_ICL", "X86_V3 X86_V4 AVX512_ICL"])
def test_bits_do_not_depend_on_the_processors_vector_unit(disabled: str) -> None:
    """NumPy is told to ignore vector instructions; where it knows none of these names, nothing changes."""
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", GOLDEN]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert dict(line.split() for line in found.stdout.splitlines()) == VECTORS


def test_the_kinds_of_inputs_that_installed_sets_read_are_known() -> None:
    assert inputs_in(["core-28", "derivatives-39"]) == {"funding", "open_interest", "mark", "index"}
    assert inputs_in(["book-32", "no-such-set"]) == {"book"}
    assert inputs_in(["core-28"]) == frozenset()
