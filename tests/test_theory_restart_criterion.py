"""Whether restarts help: reference/first_passage.md, sections 3, 4.1 and 4.6."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.continuous_chain import ContinuousChain, moment
from theory.heavy_tailed_times import LogNormal, Pareto
from theory.linear_response import chain_poisson_slope
from theory.passage_laws import Deterministic, EmpiricalLaw
from theory.resetting import Restarted
from theory.restart_criterion import (
    CvCriterion,
    geometric_restart_criterion,
    poisson_restart_criterion,
    restart_helps,
)
from theory.waiting_times import Exponential, Hyperexponential, erlang


def test_criteria() -> None:
    assert poisson_restart_criterion(1.0, 2.0) == CvCriterion(1.0, 1.0, False)
    assert poisson_restart_criterion(1.0, 3.0, overhead=0.5) == CvCriterion(2.0, 2.0, False)
    assert poisson_restart_criterion(1.0, 3.0, overhead=0.4).helps
    assert poisson_restart_criterion(1.0, math.inf, overhead=1e9).helps
    assert poisson_restart_criterion(math.inf, math.inf) == CvCriterion(math.inf, 1.0, True)
    assert geometric_restart_criterion(4.0, 28.0) == CvCriterion(0.75, 0.75, False)
    assert geometric_restart_criterion(4.0, 28.1).helps
    assert geometric_restart_criterion(math.inf, math.inf).helps
    assert geometric_restart_criterion(1.0, 1.0) == CvCriterion(0.0, 0.0, False)


@given(st.integers(0, 10_000))
def test_criteria_are_the_signs_of_slopes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = rng.exponential(size=(4, 5))
    chain = ContinuousChain(rates[:, :4] - np.diag(rates.sum(axis=1)), rng.dirichlet(np.ones(4)))
    mean, square = moment(chain, 1), moment(chain, 2)
    slope = chain_poisson_slope(chain, np.tile(chain.initial, (4, 1)))
    if abs(slope) > 1e-9 * square:
        assert poisson_restart_criterion(mean, square).helps == (slope < 0)


@pytest.mark.parametrize("overhead", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("law", [Hyperexponential((0.5, 0.5), (10.0, 0.1)), LogNormal(0.0, 1.0), erlang(2, 1.0)])
def test_the_criterion_of_a_law_is_the_sign_of_its_response(law, overhead: float) -> None:
    criterion = restart_helps(law, overhead)
    assert criterion.cv_squared == pytest.approx(law.moment(2) / law.mean**2 - 1, rel=1e-10)
    assert criterion.threshold == pytest.approx(1 + 2 * overhead / law.mean, rel=1e-14)
    rare = Restarted(law, Exponential(1e-4), overhead).mean
    assert criterion.helps == (rare < law.mean)
    if overhead > 0:  # only the mean of a random overhead counts
        assert restart_helps(law, Exponential(1 / overhead)) == criterion


def test_known_laws() -> None:
    for rate in (0.3, 1 / 3, 7.0):  # neutral, whichever way it is rounded
        assert not restart_helps(Exponential(rate)).helps
    assert restart_helps(Hyperexponential((0.5, 0.5), (10.0, 0.1))).cv_squared == pytest.approx(2.921576316, abs=5e-10)
    assert restart_helps(LogNormal(0.0, 1.0)).cv_squared == pytest.approx(math.e - 1, rel=1e-12)
    assert restart_helps(erlang(2, 1.0)).cv_squared == pytest.approx(0.5, rel=1e-13)
    assert restart_helps(Deterministic(2.0)) == CvCriterion(0.0, 1.0, False)
    assert restart_helps(EmpiricalLaw(np.array([1.0, 9.0]))).cv_squared == pytest.approx(16 / 25, rel=1e-14)
    assert restart_helps(Pareto(0.5, 1.0), 1e6) == CvCriterion(math.inf, 1.0, True)  # the mean is infinite
    assert restart_helps(Pareto(1.5, 1.0), 1e6) == CvCriterion(math.inf, 1e6 + 1, True)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"mean=0.5 must be >= 1: a run takes at least one epoch"):
        geometric_restart_criterion(0.5, 1.0)
    with pytest.raises(ValueError, match="mean=0 must be > 0"):
        poisson_restart_criterion(0, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"second_moment=3 must be >= mean\^2=4"):
        poisson_restart_criterion(2, 3)
    with pytest.raises(ValueError, match=r"overhead=-1.0 must be finite and >= 0"):
        poisson_restart_criterion(1.0, 2.0, -1)
    with pytest.raises(ValueError, match="overhead=nan must be finite and >= 0"):
        restart_helps(Exponential(1.0), math.nan)
