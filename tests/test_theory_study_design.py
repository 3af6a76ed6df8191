import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from theory.chain_sampling import sample_branched
from theory.perturbation import predicted_restricted_mean, predicted_survival
from theory.prediction import PerturbationData, PerturbedOnce
from theory.predictor_variance import run_variances
from theory.study_design import Design, cheapest_design
from theory.survival import FirstPassages
from theory.toy_chains import ToyChain, rational_chain

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


# ---- The variances ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [1, 5, 20, 50, 60])
def test_variances_of_geometric_laws(interval: int) -> None:
    psi, residual_psi, t = 0.97 ** np.arange(H + 1.0), 0.8 ** np.arange(H + 1.0), np.arange(1, 20_000)
    of_times, of_residuals = 0.03 * 0.97 ** (t - 1.0), 0.2 * 0.8 ** (t - 1.0)

    def variance(law: np.ndarray, values: np.ndarray) -> float:
        return float(law @ (values - law @ values) ** 2)

    # Eq. (9): a and b are those of the restricted times themselves.
    rest = np.minimum(t, H - interval)
    a = variance(of_times, np.minimum(t, interval) + (t > interval) * (of_residuals @ rest))
    b = psi[interval] ** 2 * variance(of_residuals, rest)
    assert run_variances("rare", psi, residual_psi, interval, H) == pytest.approx((a, b), rel=1e-10)
    # Without an end to the horizon the renewing residual has the mean 1 / 0.2, and a child counts 1{res > P} of them.
    if interval == 5:
        endless = np.minimum(t, 5) + (t > 5) * 5.0
        a = variance(of_times, endless)
        b = psi[5] ** 2 * variance(of_residuals, (np.minimum(t, 5) + (t > 5) * 5.0) / (1 - 0.8**5))
        assert run_variances("renewal", psi, residual_psi, 5, 2000) == pytest.approx((a, b), rel=1e-10)
        restarted = (np.minimum(t, 5) + (t > 5) / 0.03) / (1 - 0.97**5)
        both = run_variances("restart", psi, None, 5, 20_000)
        assert both == pytest.approx((variance(of_times, restarted), 0), rel=1e-10)


@pytest.mark.parametrize("predictor", ["restart", "rare", "renewal"])
@pytest.mark.parametrize("interval", [3, 10, 25])
def test_variances_are_those_of_the_delta_method(predictor: str, interval: int, seed: int) -> None:
    data = chain_pilot(rational_chain(), 300, np.random.default_rng(seed))
    once = data.perturbed_once
    assert once is not None
    a, b = run_variances(predictor, data.psi, data.residual_psi, interval, H)
    error = data.predict(predictor, interval).restricted_mean.standard_error
    assert error == pytest.approx(math.sqrt(a / data.unperturbed.n + b / once.residuals.n), rel=1e-9)
    assert (b > 0.01 * a) == (predictor != "restart")


# ---- Designs ---------------------------------------------------------------------------------------------------------

SLOW = of_law(0.97 ** np.arange(400.0), 2000)
FAST = of_law(0.8 ** np.arange(400.0), 2000)
PILOT = pilot(cut(SLOW, H), cut(FAST, H))


def test_a_design_is_what_its_docstring_says() -> None:
    design = cheapest_design({"a": PILOT}, [20, 10], relative_error=0.03)
    assert design == cheapest_design({"a": PILOT}, [10, 20, 10], relative_error=0.03)
    assert (design.branch_epoch, design.followed, design.horizon, design.predictor) == (20, 20, H, "renewal")
    ((label, m),) = design.children
    psi, residual_psi = PILOT.psi, PILOT.residual_psi
    assert residual_psi is not None
    assert design.epochs == pytest.approx(design.parents * psi[:20].sum() + m * residual_psi[:20].sum())
    assert [(p.label, p.interval) for p in design.points] == [("a", 10), ("a", 20)]
    for point in design.points:
        law = predicted_survival("renewal", psi, residual_psi, point.interval, H - 1)
        t, probability = np.arange(1, H + 1), -np.diff(np.append(law, 0))  # min(T_P, H)
        mean = float(probability @ t)
        assert point.restricted_mean == pytest.approx(mean, rel=1e-12)
        assert point.restricted_mean == pytest.approx(
            float(predicted_restricted_mean("renewal", psi, residual_psi, point.interval, H)), rel=1e-12
        )
        assert point.wanted_error == pytest.approx(0.03 * mean)
        assert point.brute_force_runs == math.ceil(float(probability @ (t - mean) ** 2) / point.wanted_error**2)
        assert point.brute_force_epochs == pytest.approx(point.brute_force_runs * mean)
        a, b = run_variances("renewal", psi, residual_psi, point.interval, H)
        assert point.standard_error == pytest.approx(math.sqrt(a / design.parents + b / m), rel=1e-12)
        assert point.standard_error <= point.wanted_error
    assert max(p.standard_error / p.wanted_error for p in design.points) > 0.998
    assert design.brute_force_epochs == pytest.approx(sum(p.brute_force_epochs for p in design.points))
    assert design.saving == pytest.approx(1 - design.epochs / design.brute_force_epochs)
    assert design.saves
    assert design.survivors_limit == (m == math.floor(design.parents * psi[20]))
    # Children whose parents are not among the unperturbed runs had to be trained to the branch epoch as well.
    assert design.pilot_epochs == np.minimum(SLOW, H).sum() + np.minimum(FAST, H).sum() + 20 * len(FAST)
    assert design.limits == ()
    assert label == "a"
    assert design.describe() == (
        f"Train {design.parents:,} runs to epoch 20, perturb {m:,} of the survivors by a once and follow them for 20 "
        f"epochs: about {design.epochs:,.0f} epochs, where brute force takes {design.brute_force_epochs:,.0f} "
        f"({design.saving:.0%} saved)."
    )


def test_errors_fall_as_the_root_of_the_cost() -> None:
    designs = [cheapest_design({"a": PILOT}, [10, 20], error=error) for error in (0.2, 0.02, 0.002)]
    for coarse, fine in itertools.pairwise(designs):
        assert fine.parents == pytest.approx(100 * coarse.parents, rel=5e-3)
        assert fine.epochs == pytest.approx(100 * coarse.epochs, rel=2e-3)
        assert fine.brute_force_epochs == pytest.approx(100 * coarse.brute_force_epochs, rel=1e-2)
    assert designs[-1].points[0].wanted_error == designs[-1].points[1].wanted_error == 0.002


def test_more_perturbations_and_intervals_save_more() -> None:
    savings = [
        cheapest_design({str(k): PILOT for k in range(labels)}, intervals, relative_error=0.02).saving
        for labels, intervals in [(1, [20]), (2, [20]), (5, [20]), (5, [15, 20])]
    ]
    assert savings == sorted(savings)
    assert savings[1] > savings[0] + 0.05
    assert savings[3] > savings[2] + 0.05


def test_nothing_is_saved_without_a_tail() -> None:
    # All runs need 40 to 49 epochs, and ten after a perturbation: with P = 20 runs finish long before brute force is
    # any more expensive than parents that are trained to P*, and it needs no children.
    runs, residuals = passages(np.arange(400) % 10 + 40), passages(np.arange(100) % 5 + 8)
    design = cheapest_design({"a": pilot(runs, residuals, epoch=15, horizon=49)}, [15], relative_error=0.005)
    assert not design.saves
    assert design.saving <= 0
    assert design.describe().endswith("Nothing is saved: train with the perturbation every P epochs instead.")
    assert design.survivors_limit  # all of the error is the children's, and there is one for each parent


def test_one_number_by_equation_9_never_costs_more_than_brute_force() -> None:
    # A child of each survivor is brute force itself, by the law of total variance; the optimum is at least as good.
    for interval in (5, 10, 20):
        design = cheapest_design({"a": PILOT}, [interval], error=0.02, predictor="rare")
        assert -1e-3 < design.saving < 0.4
    (point,) = cheapest_design({"a": PILOT}, [20], error=0.02, predictor="rare").points
    a, b = run_variances("rare", PILOT.psi, PILOT.residual_psi, 20, H)
    assert point.brute_force_runs == pytest.approx((a + b / PILOT.psi[20]) / 0.02**2, abs=1)


def test_a_later_branch_epoch_is_never_cheaper() -> None:
    designs = [cheapest_design({"a": PILOT}, [10, 20], error=0.05, branch_epochs=[p]) for p in range(20, 61, 5)]
    epochs = [design.epochs for design in designs]
    assert epochs == sorted(epochs)
    assert epochs[-1] > 1.1 * epochs[0]
    assert cheapest_design({"a": PILOT}, [10, 20], error=0.05) == designs[0]
    assert cheapest_design({"a": PILOT}, [10, 20], error=0.05, branch_epochs=[5, 60, 35]) == designs[3]
    relaxed = cheapest_design({"a": PILOT}, [10, 20], error=0.05, relaxation_epoch=35)
    assert (relaxed.branch_epoch, relaxed.epochs) == (35, designs[3].epochs)


def test_survivors_limit_the_children() -> None:
    # One in a hundred finishes early, and the residual's spread is all that matters.
    runs = passages(np.repeat([1, 60], [10, 990]), np.repeat([True, False], [10, 990]))
    residuals = passages(np.repeat([1, 30], 50))
    data = pilot(runs, residuals, horizon=60)
    design = cheapest_design({"a": data}, [30], error=0.2)
    ((_, m),) = design.children
    assert design.survivors_limit
    assert m <= 0.99 * design.parents < m + 1
    even = pilot(cut(SLOW, H), passages([3, 4] * 50))
    assert not cheapest_design({"a": even}, [20], error=0.2).survivors_limit


def test_ten_children_must_be_expected_to_finish() -> None:
    design = cheapest_design({"a": PILOT}, [2], error=100.0)
    residual_psi = PILOT.residual_psi
    assert residual_psi is not None
    assert design.children == (("a", math.ceil(10 / (1 - residual_psi[2]))),) == (("a", 28),)
    assert {p.brute_force_runs for p in design.points} == {10}


def test_restarts_need_parents_only() -> None:
    design = cheapest_design({"full_reset": PILOT}, [10, 30], error=0.5, predictor="restart")
    assert (design.children, design.followed, design.branch_epoch) == ((("full_reset", 0),), 0, 30)
    a = max(run_variances("restart", PILOT.psi, None, p, H)[0] for p in (10, 30))
    assert design.parents == math.ceil(a / 0.25)
    assert "perturb" not in design.describe().split(":")[0]
    few = cheapest_design({"full_reset": PILOT}, [10, 30], error=1e3, predictor="restart")
    assert few.parents == math.ceil(10 / (1 - PILOT.psi[10]))


def test_limits_say_why_the_numbers_may_be_off() -> None:
    runs, fast = cut(SLOW, H), cut(FAST, H)

    def limits(data: PerturbationData, intervals: list[int], **arguments: object) -> str:
        return "; ".join(cheapest_design({"a": data}, intervals, error=0.5, **arguments).limits)  # pyright: ignore

    assert limits(pilot(runs, fast, epoch=30), [20]) == (
        "a: the pilot perturbed after epoch 30; residuals after epoch 20 are taken to be like those"
    )
    assert limits(PILOT, [5, 7, 20], relaxation_epoch=8) == (
        "P=5, 7 before the quasi-steady state, which begins at epoch 8: model error"
    )
    assert limits(PILOT, [5, 20], predictor="rare") == (
        "a: 33% of the residuals exceed P=5, to be perturbed again: model error"
    )
    few = passages(np.repeat([3, 30], [9, 20]))
    assert limits(pilot(runs, few), [20]) == (
        "a: only 9 runs of the pilot finish within P=20: planned errors are known to about 33%"
    )
    family = PerturbedOnce(passages([1, 2] * 9), 20, H, np.repeat(np.flatnonzero(SLOW > 20)[:9], 2))
    data = PerturbationData(runs, family, horizon=H, replicates=2, rng=np.random.default_rng(0))
    assert limits(data, [20]).startswith("a: only 9 runs of the pilot")  # siblings count once
    assert limits(pilot(passages([1] * 9 + [60] * 50), fast), [20], predictor="restart") == (
        "restart: only 9 runs of the pilot finish within P=20: planned errors are known to about 33%"
    )


BRIEF = pilot(cut(SLOW, H), cut(FAST, 9), followed=9)
ALONE = PerturbationData(cut(SLOW, H), horizon=H, replicates=2, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cheapest_design({}, [5], error=1.0), r"pilots is empty: give data of one perturbation at least"),
        (lambda: cheapest_design({"a": PILOT}, [], error=1.0), r"intervals is empty: there is nothing to find out"),
        (
            lambda: cheapest_design({"a": PILOT}, [61], error=1.0),
            r"interval=61 must be a whole number of epochs from 1",
        ),
        (
            lambda: cheapest_design({"a": PILOT}, [0], error=1.0),
            r"interval=0 must be a whole number of epochs from 1 to",
        ),
        (lambda: cheapest_design({"a": PILOT}, [5]), r"error=None and relative_error=None: give one of the two"),
        (
            lambda: cheapest_design({"a": PILOT}, [5], error=1.0, relative_error=0.1),
            r"error=1.0 and relative_error=0.1: give one of the two",
        ),
        (lambda: cheapest_design({"a": PILOT}, [5], error=0.0), r"error=0.0 must be finite and > 0"),
        (lambda: cheapest_design({"a": PILOT}, [5], relative_error=math.nan), r"relative_error=nan must be finite and"),
        (lambda: cheapest_design({"a": PILOT}, [5], error=1e-300), r"the wanted error needs more than 1e\+09 runs"),
        (lambda: cheapest_design({"a": PILOT}, [5], error=1e-5), r"the wanted error needs more than 1e\+09 runs"),
        (
            lambda: cheapest_design({"a": PILOT}, [5], error=1.0, predictor="eq9"),
            r"predictor='eq9' is unknown; choose from restart, rare, renewal",
        ),
        (
            lambda: cheapest_design({"a": PILOT}, [20], error=1.0, branch_epochs=[10, 19]),
            r"no branch epoch is left: it must be >= 20, the longest interval and the relaxation epoch, and <= 60",
        ),
        (
            lambda: cheapest_design({"a": PILOT}, [20], error=1.0, relaxation_epoch=61),
            r"no branch epoch is left: it must be >= 61",
        ),
        (
            lambda: cheapest_design({"a": PILOT}, [20], error=1.0, branch_epochs=[80]),
            r"interval=80 must be a whole number of epochs from 1 to 60, the last known one",
        ),
        (
            lambda: cheapest_design({"a": pilot(passages([5] * 20 + [9]), cut(FAST, H), epoch=5)}, [9], error=1.0),
            r"no run of the pilot survives epoch 9, where runs would be perturbed: ask for shorter intervals",
        ),
        (lambda: cheapest_design({"a": ALONE}, [5], error=1.0), r"a: the pilot has no runs perturbed once"),
        (
            lambda: cheapest_design({"a": BRIEF}, [5, 10], error=1.0),
            r"a: the pilot followed perturbed runs for 9 epochs, and 10 are needed; follow them longer, or ask for",
        ),
        (
            lambda: cheapest_design({"a": BRIEF}, [5], error=1.0, predictor="rare"),
            r"a: the pilot followed perturbed runs for 9 epochs, and 55 are needed",
        ),
        (
            lambda: cheapest_design({"a": pilot(cut(SLOW, H), passages([6, 7]))}, [5], error=1.0),
            r"a: no run of the pilot finishes within 5 epochs of a perturbation, so that P=5 is too short for this",
        ),
        (
            lambda: cheapest_design({"a": PILOT, "b": pilot(cut(SLOW[1:], H), cut(FAST, H))}, [5], error=1.0),
            r"pilots 'a' and 'b' have different unperturbed runs; perturbations that share parents need one set",
        ),
        (
            lambda: cheapest_design({"a": PILOT, "b": pilot(cut(SLOW, H), cut(FAST, H), horizon=50)}, [5], error=1.0),
            r"pilots 'a' and 'b' have horizons 60 and 50: their restricted means cannot be compared",
        ),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


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
