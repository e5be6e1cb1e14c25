"""One error budget over many candidates."""

import math

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from shared.gates import multiplicity

CLAIMS = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.floats(-3, 12), min_size=1, max_size=12)


def test_one_candidate_needs_one_over_alpha() -> None:
    assert multiplicity.e_bh({"a": math.log(20)}, 0.05) == {"a"}
    assert multiplicity.e_bh({"a": math.log(19.9)}, 0.05) == frozenset()


def test_one_of_ten_needs_ten_times_as_much_and_two_share_it() -> None:
    others = {f"o{n}": 0.0 for n in range(8)}
    assert multiplicity.e_bh({"a": math.log(190), "b": 0.0} | others, 0.05) == frozenset()
    assert multiplicity.e_bh({"a": math.log(101), "b": math.log(101)} | others, 0.05) == {"a", "b"}


@given(CLAIMS, st.sampled_from([0.01, 0.05, 0.1]))
def test_what_is_needed_is_what_decides(claims: dict[str, float], alpha: float) -> None:
    found = multiplicity.e_bh(claims, alpha)
    for name, claim in claims.items():
        assert (claim >= multiplicity.needed(claims, name, alpha)) == (name in found)


@given(CLAIMS, st.permutations(range(12)))
def test_the_order_of_candidates_does_not_matter(claims: dict[str, float], order: list[int]) -> None:
    names = sorted(claims)
    shuffled = [names[k] for k in order if k < len(names)]
    assert multiplicity.e_bh(claims, 0.05) == multiplicity.e_bh({name: claims[name] for name in shuffled}, 0.05)


@given(CLAIMS, st.sampled_from([0.01, 0.05, 0.1]))
def test_e_bh_is_scipys_benjamini_hochberg_of_the_inverse_e_values(claims: dict[str, float], alpha: float) -> None:
    adjusted = false_discovery_control([min(1.0, math.exp(-claim)) for claim in claims.values()], method="bh")
    clear = {name: p for name, p in zip(claims, adjusted.tolist(), strict=True) if abs(p - alpha) > 1e-9}
    found = multiplicity.e_bh(claims, alpha)
    assert {name for name, p in clear.items() if p < alpha} == found & clear.keys()
