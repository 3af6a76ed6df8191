"""What would not fit into memory is refused by its option, with the bound, before anything is computed."""

import re

import pytest

from tests.command_line import jostle


@pytest.mark.parametrize(
    "words",
    [
        "predict weight-variance --batches 1000000000000",
        "predict effective-temperature --lag 100000000",
        "predict effective-temperature --model mixture --steps 1000000",
        "predict perturbation --chain trap_with_barrier --cells 1000000000",
        "predict adaptive-noise --steps 100000000000",
        "simulate resetting --law brownian:distance=1,diffusivity=1 --runs 1000000000000",
        "simulate weight-variance --runs 1000000000000",
        "simulate effective-temperature --model mixture --dimensions 100000000",
        "simulate widening-valley --runs 100000000000",
        "simulate activation-temperature --runs 1000000000000",
        "simulate adaptive-noise --runs 1000000000000",
    ],
)
def test_sizes_have_bounds(words: str) -> None:
    *command, option, value = words.split()
    result = jostle(*command, option, value)
    assert result.exit_code == 2
    assert re.search(rf"Invalid value for '{option}': {value} is not in the range \d+<=x<=\d+\.", result.stderr)


def test_what_is_within_the_bounds_and_too_much_together_is_refused_with_its_cost() -> None:
    result = jostle("predict", "effective-temperature", "--model", "mixture", "--steps", 5000, "--particles", 1_000_000)
    assert result.exit_code == 2
    assert re.search(r"\d+(\.\d+)? GB", result.stderr)
