"""Designs of studies: their variances, costs and limits."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.pilot_studies import H, chain_pilot, cut, of_law, passages, pilot
from theory.perturbation import predicted_restricted_mean, predicted_survival
from theory.prediction import PerturbationData, PerturbedOnce
from theory.predictor_variance import run_variances
from theory.study_design import cheapest_design
from theory.toy_chains import rational_chain

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
