"""Anchors are from the derivations in reference/first_passage.md, section 6, checked there by Monte Carlo."""

from collections.abc import Callable

import pytest

from theory.perturbed_chain import residual_mean, residual_mean_once
from theory.toy_chains import double_well, hidden_label_chain, trap_with_barrier, waiting_time_chain


@pytest.mark.parametrize(
    ("interval", "residual"),
    [
        (1, 11.4691943128),
        (5, 13.2962345840),
        (10, 15.3117930893),
        (20, 18.0137517974),
        (50, 19.9029988586),
        (100, 19.9994716011),
    ],
)
def test_hidden_label(interval: int, residual: float) -> None:
    toy = hidden_label_chain()
    assert residual_mean(toy.chain, toy.perturbation, interval) == pytest.approx(residual, rel=1e-11)
    assert residual_mean_once(toy.chain, toy.perturbation, interval) == pytest.approx(residual, rel=1e-11)


def test_grids_are_those_of_the_documentation() -> None:
    # Their numbers are in test_theory_fokker_planck.
    for toy, limits, cells in [(trap_with_barrier(), 2.0, 801), (double_well(), 2.6, 1041)]:
        assert toy.chain.states == cells
        assert toy.centres[[0, -1]] == pytest.approx([-limits * (1 - 1 / cells), limits * (1 - 1 / cells)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: waiting_time_chain([0, 2], [0.5, 0.5]), r"must be whole numbers >= 1"),
        (lambda: waiting_time_chain([1, 2], [0.5, 0.6]), r"probabilities sums to 1\.1; it must be 1"),
        (lambda: trap_with_barrier(cells=20).shrink_and_perturb(0.4, 0), r"perturb=0 must be > 0"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
