"""Pilot studies from known laws, for the tests of designs."""

import numpy as np

from theory.chain_sampling import sample_branched
from theory.prediction import PerturbationData, PerturbedOnce
from theory.survival import FirstPassages
from theory.toy_chains import ToyChain

H = 60


def passages(times: list[int] | np.ndarray, observed: bool | np.ndarray = True) -> FirstPassages:
    times = np.asarray(times)
    return FirstPassages(times, np.broadcast_to(observed, times.shape).copy())


def cut(times: np.ndarray, horizon: int) -> FirstPassages:
    """Complete times, as they are known from runs that stop at a horizon."""
    return passages(np.minimum(times, horizon), times <= horizon)


def of_law(survival: np.ndarray, runs: int) -> np.ndarray:
    """Times with this survival but for rounding; those above its last epoch count as one later."""
    return np.searchsorted(-survival, -(np.arange(runs) + 0.5) / runs)


def pilot(
    runs: FirstPassages, residuals: FirstPassages, *, epoch: int = 20, followed: int = H, horizon: int | None = None
) -> PerturbationData:
    once = PerturbedOnce(residuals, epoch, followed)
    return PerturbationData(runs, once, horizon=horizon, replicates=2, rng=np.random.default_rng(0))


def chain_pilot(toy: ToyChain, runs: int, rng: np.random.Generator) -> PerturbationData:
    sample = sample_branched(toy.chain, toy.perturbation, 30, runs, rng, horizon=H, follow=H)
    once = PerturbedOnce(sample.residual, 30, H, sample.parent)
    return PerturbationData(sample.unperturbed, once, horizon=H, replicates=2, rng=rng)
