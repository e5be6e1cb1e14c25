"""Property tests do not depend on luck in CI, and `make fuzz` prints what it finds as code."""

import runpy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = runpy.run_path(str(Path(__file__).parent / "fuzz.py"))["examples"]
REPORT = """
E   hypothesis.errors.FlakyFailure: what stands before
E       Failing test case: test_a_sum(
E           self=self,
E           steps=[
E               (0, 1),
E           ],
E           turn=1,  # or any other generated value
E       )
E
E       You can reproduce this example by temporarily adding @reproduce_failure('6.170.15', b'AEEB') as a decorator
"""


def test_a_falsifying_example_is_printed_as_code_to_be_pasted() -> None:
    example, blob = EXAMPLES(REPORT.splitlines())
    assert example == "\n".join(
        [
            "# test_a_sum",
            "@example(",
            "    steps=[",
            "        (0, 1),",
            "    ],",
            "    turn=1,  # or any other generated value",
            ")",
        ]
    )
    assert blob == "@reproduce_failure('6.170.15', b'AEEB')"


def test_what_is_drawn_from_data_is_said_to_be_no_example() -> None:
    (example,) = EXAMPLES(["E   Falsifying example: test_draws(", "E       data=data(...),", "E   )"])
    assert example.startswith("# test_draws  (it draws from st.data()")


@pytest.fixture
def no_profile_named(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--hypothesis-profile"):
        pytest.skip("this run was asked for another profile than CI has")


@pytest.mark.usefixtures("no_profile_named")
def test_property_tests_are_derandomised_unless_they_are_fuzzed() -> None:
    assert settings.get_current_profile_name() == "ci"
    assert settings.default is not None
    assert (settings.default.derandomize, settings.default.max_examples) == (True, 100)


DRAWN: list[int] = []


@settings(max_examples=20)
@given(st.integers())
def draw(number: int) -> None:
    DRAWN.append(number)


@pytest.mark.usefixtures("no_profile_named")
def test_a_property_test_draws_the_same_examples_on_every_run() -> None:
    draw()
    first = list(DRAWN)
    DRAWN.clear()
    draw()
    assert first == DRAWN
    assert len(first) == 20
