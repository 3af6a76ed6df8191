from collections.abc import Callable

import numpy as np
import pytest

from tests.restart_example import example_of_2_3
from theory.chain_sampling import _Rows, sample_branched, sample_first_passages
from theory.estimate import agreement
from theory.markov_chain import restart_kernel, survival
from theory.perturbed_chain import periodic_mean, perturbed_survivors, residual_survival_once
from theory.toy_chains import hidden_label_chain, rational_chain

RATIONAL = rational_chain()


def test_sampled_times_have_the_exact_mean_and_not_that_of_another_interval(seed: int) -> None:
    chain, perturbation = RATIONAL.chain, RATIONAL.perturbation
    rng = np.random.default_rng(seed)
    runs = sample_first_passages(chain, 300_000, rng, horizon=3000, perturbation=perturbation, interval=5)
    assert runs.observed.all()
    means = runs.times.reshape(400, 750).mean(axis=1)
    assert agreement(means, periodic_mean(chain, perturbation, 5), detects=0.03)
    for wrong in (4, 6):
        assert not agreement(means, periodic_mean(chain, perturbation, wrong))


def test_sampled_restart_follows_no_off_by_one_law(seed: int) -> None:
    chain = example_of_2_3()
    runs = sample_first_passages(
        chain, 100_000, np.random.default_rng(seed), horizon=500, perturbation=restart_kernel(chain), interval=8
    )
    psi = survival(chain, 60)
    assert agreement(runs.times, psi[:8].sum() / (1 - psi[8]), detects=0.1)
    assert not agreement(runs.times, psi[:8].sum() / (1 - psi[7]))  # T = P restarted
    assert not agreement(runs.times, psi[:9].sum() / (1 - psi[8]))  # summed to P


def test_censored_samples_have_the_exact_survival(seed: int) -> None:
    chain = RATIONAL.chain
    runs = sample_first_passages(chain, 60_000, np.random.default_rng(seed), horizon=40)
    psi = survival(chain, 40)
    assert runs.times.dtype.kind == "i"
    assert (runs.times[~runs.observed] == 40).all()
    assert runs.times.min() == 2  # two epochs are needed
    for epoch in (2, 5, 20, 39):
        assert agreement(runs.times > epoch, psi[epoch])
        assert not agreement(runs.times > epoch, psi[epoch + 1 if epoch < 20 else epoch - 3])
    assert agreement(~runs.observed, psi[40])


def test_branched_samples(seed: int) -> None:
    chain, perturbation = RATIONAL.chain, RATIONAL.perturbation
    sample = sample_branched(
        chain, perturbation, 10, 60_000, np.random.default_rng(seed), horizon=60, follow=30, children=1
    )
    psi, psi_res = survival(chain, 60), residual_survival_once(chain, perturbation, 10, 30)
    assert (sample.unperturbed.times[sample.parent] > 10).all()
    assert len(sample.parent) == (sample.unperturbed.times > 10).sum()
    assert agreement(sample.unperturbed.times, psi[:60].sum(), detects=0.1)  # E[min(T, H)]
    assert agreement(sample.residual.times, psi_res[:30].sum(), detects=0.1)
    assert agreement(~sample.residual.observed, psi_res[30])
    # not the residual of survivors that nobody perturbed, nor of a branch at another epoch
    alone = perturbed_survivors(chain, np.eye(3), 10)
    assert not agreement(sample.residual.times, survival(alone, 30)[:30].sum())
    fresh = residual_survival_once(chain, perturbation, 1, 30)
    assert not agreement(sample.residual.times, fresh[:30].sum())


def test_children_share_their_parents_state_and_nothing_else() -> None:
    toy = hidden_label_chain()
    sample = sample_branched(
        toy.chain, toy.perturbation, 5, 20_000, np.random.default_rng(0), horizon=5, follow=500, children=3
    )
    assert (np.diff(sample.parent) >= 0).all()
    siblings = sample.residual.times.reshape(-1, 3)
    assert len(np.unique(sample.parent)) == len(siblings)
    # Given the kind, siblings are independent, so their covariance is that of the kind's means 2 and 20.
    slow = 0.999**5 / (0.999**5 + 0.9**5)
    centred = siblings - siblings.mean()
    assert agreement(centred[:, 0] * centred[:, 1], 18**2 * slow * (1 - slow))
    assert not agreement(centred[:, 0] * centred[:, 1], 0.0)
    assert (sample.unperturbed.times <= 5).all()


def test_samples_are_reproducible_and_avoid_impossible_states() -> None:
    chain, rng = RATIONAL.chain, np.random.default_rng
    first, second = (sample_first_passages(chain, 5, rng(3), horizon=200).times for _ in range(2))
    assert first.tolist() == second.tolist()

    # A generator that returns the ends of [0, 1): only entries of positive probability are drawn.
    class Ends(np.random.Generator):
        def random(self, size: int) -> np.ndarray:
            return np.resize([0.0, np.nextafter(1.0, 0.0)], size)

    rows = _Rows(np.tile([0.0, 0.3, 0.0, 0.7, 0.0], (1000, 1)))
    drawn = rows.draw(np.repeat(np.arange(1000), 2), Ends(np.random.PCG64(0)))
    assert drawn.tolist() == [1, 3] * 1000


CHAIN, KICK = RATIONAL.chain, RATIONAL.perturbation
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_first_passages(CHAIN, 0, RNG, horizon=3), r"n=0 must be a whole number >= 1"),
        (lambda: sample_first_passages(CHAIN, 9, RNG, horizon=0), r"horizon=0 must be a whole number >= 1"),
        (lambda: sample_first_passages(CHAIN, 9, RNG, horizon=3, interval=2), r"interval=2 and perturbation belong"),
        (lambda: sample_branched(CHAIN, KICK, 5, 9, RNG, horizon=4, follow=3), r"branch_epoch=5 must be <= horizon=4"),
        (
            lambda: sample_branched(example_of_2_3(), np.eye(60), 60, 9, RNG, horizon=60, follow=3),
            r"branch_epoch=60: all n=9 runs have finished; branch earlier",
        ),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
