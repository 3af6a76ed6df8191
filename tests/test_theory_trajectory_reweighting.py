"""The anchor 11.1037... is from reference/first_passage.md, section 4.1."""

import math

import numpy as np
import pytest

from sim.random_streams import stream
from theory.absorbing import Floats
from theory.discrete_resetting import geometric_restart_mean, random_interval_mean
from theory.estimate import agreement
from theory.markov_chain import restart_kernel
from theory.perturbed_chain import geometric_mean
from theory.toy_chains import rational_chain
from theory.trajectory_reweighting import reweighted_mean, reweighted_sums

EXACT = 11.103773584905664
LAST_STATE = np.array([0.0, 0.0, 0.5])


def runs_of_the_rational_chain(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The states 0, 1, 2 after the unsuccessful epochs of n runs."""
    transient = rational_chain().chain.transient
    cumulative = np.concatenate([transient, 1 - transient.sum(axis=1, keepdims=True)], axis=1).cumsum(axis=1)
    state, alive, history = np.zeros(n, dtype=int), np.arange(n), []
    while len(alive):
        state = (rng.random((len(alive), 1)) > cumulative[state]).sum(axis=1)
        alive, state = alive[state < 3], state[state < 3]
        history.append((alive, state))
    order = np.concatenate([runs for runs, _ in history])
    states = np.concatenate([states for _, states in history])[np.argsort(order, kind="stable")]
    return np.split(states, np.cumsum(np.bincount(order, minlength=n))[:-1])


def leave_the_last_state(states: np.ndarray, epochs: np.ndarray) -> Floats:
    return LAST_STATE[states]


def test_the_chain_confirms_the_anchor() -> None:
    chain = rational_chain().chain
    exact = geometric_mean(chain, restart_kernel(chain), LAST_STATE, consumes_epoch=False)
    assert exact == pytest.approx(EXACT, rel=1e-14)


def test_state_dependent_restarts_are_predicted_without_restarting(seed: int) -> None:
    runs = runs_of_the_rational_chain(60_000, stream(seed, "reweighting"))
    estimate = reweighted_mean(runs, leave_the_last_state)
    assert estimate.n == 60_000
    assert abs(estimate.value - EXACT) < 5 * estimate.standard_error
    # The ratio is E where the mean of duration - E success is zero.
    duration, success = reweighted_sums(runs, leave_the_last_state)
    assert agreement(duration - EXACT * success, 0.0)

    # The same data tell the other convention, in which a restart takes an epoch, and restarts that forget the state.
    chain = rational_chain().chain
    restart = restart_kernel(chain)
    consuming = geometric_mean(chain, restart, LAST_STATE, consumes_epoch=True)
    for wrong in (consuming, geometric_mean(chain, restart, 0.25, consumes_epoch=False)):
        assert not agreement(duration - wrong * success, 0.0)


def test_the_standard_error_is_the_spread_of_repetitions(seed: int) -> None:
    runs = runs_of_the_rational_chain(20_000, stream(seed, "repetitions"))
    estimates = [reweighted_mean(runs[k : k + 200], leave_the_last_state) for k in range(0, 20_000, 200)]
    spread = np.std([e.value for e in estimates], ddof=1)
    typical = math.sqrt(np.mean([e.standard_error**2 for e in estimates]))
    # The spread of 100 is known to 7 %; twice the variance, or half of it, would be 1.4 or 0.7 times this.
    assert typical == pytest.approx(spread, rel=0.25)


def test_rules_without_states_are_those_of_the_empirical_law() -> None:
    times = np.array([1, 2, 2, 3, 5, 8, 13])
    runs = [np.zeros(t - 1) for t in times]
    survival = np.array([np.mean(times > t) for t in range(14)])
    constant = reweighted_mean(runs, lambda states, epochs: 0.2).value
    assert constant == pytest.approx(float(geometric_restart_mean(survival, 0.2, consumes_epoch=False)), rel=1e-13)
    # Restarted after 2 or 4 epochs, each with probability 1/2: the hazards are 1/2 at 2, then 1 at 4.
    aged = reweighted_mean(runs, lambda states, epochs: np.where(epochs == 2, 0.5, np.where(epochs == 4, 1.0, 0.0)))
    assert aged.value == pytest.approx(float(random_interval_mean(survival, [0, 0.5, 0, 0.5])), rel=1e-13)


def test_a_rule_that_prevents_every_success_is_infinite() -> None:
    estimate = reweighted_mean([np.zeros(2), np.zeros(3)], lambda states, epochs: 1.0)
    assert (estimate.value, estimate.standard_error) == (math.inf, math.inf)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"trajectories holds 1 runs; a standard error needs at least 2"):
        reweighted_mean([np.zeros(2)], lambda states, epochs: 0.1)
    with pytest.raises(ValueError, match=r"restart_probability gives 1.5 in run 1; it must be from 0 to 1"):
        reweighted_mean([np.zeros(0), np.zeros(3)], lambda states, epochs: 0.5 * epochs)
    with pytest.raises(ValueError, match=r"restart_probability gives nan in run 0"):
        reweighted_mean([np.zeros(1), np.zeros(3)], lambda states, epochs: math.nan)
