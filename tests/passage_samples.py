"""First passages and perturbation experiments to predict from."""

import numpy as np

from theory.chain_sampling import sample_branched
from theory.perturbed_once import PerturbedOnce
from theory.prediction import PerturbationData
from theory.survival import FirstPassages
from theory.toy_chains import rational_chain

H, P_STAR, FOLLOW = 60, 30, 60


def passages(times: list[int] | np.ndarray, observed: bool | list[bool] | np.ndarray = True) -> FirstPassages:
    times = np.asarray(times)
    return FirstPassages(times, np.broadcast_to(observed, times.shape).copy())


def censored(runs: FirstPassages, earliest: int, horizon: int, rng: np.random.Generator) -> FirstPassages:
    """Half of the runs are stopped at epochs between two limits, whatever they are doing."""
    stops = np.where(rng.random(runs.n) < 0.5, rng.integers(earliest, horizon + 1, runs.n), horizon)
    stops[0] = horizon
    return FirstPassages(np.minimum(runs.times, stops), runs.observed & (runs.times <= stops))


def experiment(
    seed: int, n: int = 200, *, children: int = 1, censoring: bool = False, replicates: int = 50, linked: bool = True
) -> PerturbationData:
    """The rational chain, with survivors of epoch 30 perturbed once."""
    toy, rng = rational_chain(), np.random.default_rng(seed)
    sample = sample_branched(toy.chain, toy.perturbation, P_STAR, n, rng, horizon=H, follow=FOLLOW, children=children)
    runs, residuals = sample.unperturbed, sample.residual
    if censoring:
        runs, residuals = censored(runs, P_STAR, H, rng), censored(residuals, 1, FOLLOW, rng)
    once = PerturbedOnce(residuals, P_STAR, FOLLOW, sample.parent if linked else None)
    return PerturbationData(runs, once, horizon=min(H, runs.horizon), replicates=replicates, rng=rng)
