"""Are the planned errors those of simulated studies, and what of published curves?"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.pilot_studies import H, chain_pilot, pilot
from theory.chain_sampling import sample_branched
from theory.perturbation import predicted_restricted_mean
from theory.prediction import PerturbationData
from theory.predictor_variance import run_variances
from theory.study_design import Design, cheapest_design
from theory.survival import FirstPassages
from theory.toy_chains import ToyChain, rational_chain

# ---- Are the errors those of the studies? ----------------------------------------------------------------------------


def predictions(design: Design, toy: ToyChain, studies: int, rng: np.random.Generator) -> np.ndarray:
    """What so many studies of a design predict, shape (studies, intervals): other runs, other survivors each time."""
    n, ((_, m),) = design.parents, design.children
    p_star, follow = design.branch_epoch, design.followed
    sample = sample_branched(toy.chain, toy.perturbation, p_star, n * studies, rng, horizon=p_star, follow=follow)

    def survival(runs: FirstPassages, study: np.ndarray, horizon: int) -> np.ndarray:
        finished = np.zeros((studies, horizon + 1))
        np.add.at(finished, (study[runs.observed], runs.times[runs.observed]), 1)
        return 1 - np.cumsum(finished, axis=1) / np.bincount(study, minlength=studies)[:, None]

    psi = survival(sample.unperturbed, np.arange(n * studies) // n, p_star)
    study = sample.parent // n
    first = np.searchsorted(study, np.arange(studies))
    chosen = np.arange(len(study)) - first[study] < m  # all of them, where fewer than m have survived
    residual = FirstPassages(sample.residual.times[chosen], sample.residual.observed[chosen])
    residual_psi = survival(residual, study[chosen], follow)
    means = [
        predicted_restricted_mean(design.predictor, psi, residual_psi, point.interval, design.horizon)
        for point in design.points
    ]
    return np.transpose(means)


def spread(design: Design, studies: int, seed: int) -> np.ndarray:
    return predictions(design, rational_chain(), studies, np.random.default_rng(1000 + seed)).std(axis=0, ddof=1)


def check_by_simulation(
    predictor: str, intervals: list[int], relative_error: float, studies: int, runs: int, seed: int
) -> None:
    data = chain_pilot(rational_chain(), runs, np.random.default_rng(seed))
    design = cheapest_design({"a": data}, intervals, relative_error=relative_error, predictor=predictor)
    observed, wanted = spread(design, studies, seed), np.array([point.wanted_error for point in design.points])
    assert observed == pytest.approx(np.array([point.standard_error for point in design.points]), rel=0.15)
    assert (observed / wanted).max() == pytest.approx(1, abs=0.15)
    # Blind to the children's part of the error, nothing is as planned ...
    variances = [run_variances(predictor, data.psi, data.residual_psi, point.interval, H) for point in design.points]
    of_parents = np.array([a for a, _ in variances])
    assert (observed / np.sqrt(of_parents / design.parents)).max() > 1.15
    # ... and the study would be another one, which misses the wanted error.
    soon = 1 - float(np.asarray(data.residual_psi)[intervals[0]])
    children = (("a", math.ceil(10 / soon)),)
    blind = replace(design, parents=math.ceil((of_parents / wanted**2).max()), children=children)
    assert (spread(blind, studies, seed) / wanted).max() > 1.15


CASES = [("renewal", [10], 0.05), ("renewal", [8, 15], 0.05), ("rare", [10], 0.04)]


@pytest.mark.parametrize(("predictor", "intervals", "relative_error"), CASES)
def test_studies_have_the_planned_errors(
    predictor: str, intervals: list[int], relative_error: float, seed: int
) -> None:
    check_by_simulation(predictor, intervals, relative_error, 500, 20_000, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("predictor", "intervals", "relative_error"), [*CASES, ("renewal", [8, 12, 30], 0.05)])
def test_two_thousand_studies_have_the_planned_errors(
    predictor: str, intervals: list[int], relative_error: float, seed: int
) -> None:
    check_by_simulation(predictor, intervals, relative_error, 2000, 20_000, seed)


# ---- The published curves --------------------------------------------------------------------------------------------


@pytest.fixture
def published(shared_data: Path) -> dict[str, PerturbationData]:
    """The curves of [meir2025], target 72 %: 1,000 unperturbed runs, and survivors of epoch 100 perturbed once."""

    def curves(name: str) -> FirstPassages:
        file = shared_data / "meir2025_cifar10_resnet18" / f"{name}.csv.gz"
        run, epoch, accuracy = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
        _, row = np.unique(run, return_inverse=True)
        values = np.full((row.max() + 1, int(epoch.max())), np.nan)
        values[row, epoch.astype(int) - 1] = accuracy
        return FirstPassages.from_curves(values, 0.72)

    unperturbed, data = curves("unperturbed"), {}
    for label in ("shrink_perturb", "partial_reset"):
        runs = curves(f"{label}_P100")
        late = runs.times > 100
        residuals = FirstPassages(runs.times[late] - 100, runs.observed[late])
        data[label] = pilot(unperturbed, residuals, epoch=100, followed=100)
    return data


@pytest.mark.shared
def test_published_curves(published: dict[str, PerturbationData]) -> None:
    shrink = {"shrink_perturb": published["shrink_perturb"]}
    intervals = [20, 30, 50, 100]
    both, one = (cheapest_design(x, intervals, relative_error=0.05) for x in (published, shrink))
    assert (both.branch_epoch, one.branch_epoch) == (100, 100)
    assert both.saving == pytest.approx(0.674, abs=0.005)
    assert one.saving == pytest.approx(0.341, abs=0.005)
    assert both.parents == pytest.approx(317, abs=2)
    # Epochs of a brute-force run, as measured: 44.3 and 46.2 at P = 100, 18.9 and 19.6 at P = 20.
    cost = {(p.label, p.interval): p.brute_force_epochs / p.brute_force_runs for p in both.points}
    assert cost[("shrink_perturb", 100)] == pytest.approx(44.3, rel=0.07)
    assert cost[("partial_reset", 20)] == pytest.approx(19.617, rel=0.02)
    # One protocol at one short interval: nothing to save, and at P = 3 a loss.
    assert abs(cheapest_design(shrink, [20], relative_error=0.02).saving) < 0.05
    early = cheapest_design(shrink, [3], relative_error=0.05, relaxation_epoch=28)
    assert not early.saves
    assert early.saving < -0.5
    assert early.branch_epoch == 28
    assert early.limits[0] == "P=3 before the quasi-steady state, which begins at epoch 28: model error"
    with pytest.raises(ValueError, match=r"partial_reset: no run of the pilot finishes within 3 epochs of a perturbat"):
        cheapest_design(published, [3], relative_error=0.05)
