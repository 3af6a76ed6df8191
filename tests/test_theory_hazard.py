from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from theory.chain_sampling import sample_first_passages
from theory.estimate import AGREEMENT_P_VALUE, agreement
from theory.hazard import HazardTest, constant_hazard_test, geometric_tail_mean
from theory.survival import FirstPassages, Survival
from theory.toy_chains import hidden_label_chain, rational_chain


def samples(seed: int, sets: int, n: int, hazards: list[float], *, censored: bool = False) -> list[Survival]:
    """Sets of n runs with h(t) = hazards[t - 1], followed to the end of the list (censored: to uniform epochs)."""
    rng = np.random.default_rng(seed)
    horizon = len(hazards)
    finished = 1 - np.cumprod(1 - np.array(hazards))
    times = np.searchsorted(finished, rng.random((sets, n)), side="right") + 1
    stops = rng.integers(1, horizon + 1, size=(sets, n)) if censored else np.full((sets, n), horizon)
    stops[:, 0] = horizon
    return [Survival.of(FirstPassages(np.minimum(t, s), t <= s)) for t, s in zip(times, stops, strict=True)]


# ---- Constant hazard -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [150, 1000])
@pytest.mark.parametrize("censored", [False, True])
def test_size_and_uniform_p_values_under_a_constant_hazard(n: int, censored: bool, seed: int) -> None:
    # Ten epochs of another hazard first: only what comes after `start` may matter.
    hazards = [0.0] * 5 + [0.3] * 5 + [0.02] * 50
    sets = samples(seed, 800, n, hazards, censored=censored)
    p_values = np.array([constant_hazard_test(s, 10).p_value for s in sets])
    assert stats.binomtest(int((p_values < 0.01).sum()), 800, 0.01).pvalue > 1e-4
    assert stats.kstest(p_values[p_values < 1], "uniform").pvalue > AGREEMENT_P_VALUE
    # Negative control: with the early epochs it is not constant.
    wrong = np.array([constant_hazard_test(s, 5).p_value for s in sets[:100]])
    assert stats.kstest(wrong, "uniform").pvalue < AGREEMENT_P_VALUE


def test_power_against_a_hazard_that_halves(seed: int) -> None:
    sets = samples(seed, 200, 1000, [0.02] * 25 + [0.01] * 25)
    tests = [constant_hazard_test(s, 0) for s in sets]
    assert np.mean([t.is_rejected for t in tests]) > 0.9
    assert np.mean([constant_hazard_test(s, 25).is_rejected for s in sets]) < 0.08


def test_power_against_hidden_labels(seed: int) -> None:
    chain = hidden_label_chain().chain
    runs = sample_first_passages(chain, 300, np.random.default_rng(seed), horizon=60)
    survival = Survival.of(runs)
    test = constant_hazard_test(survival, 1)
    assert test.is_rejected
    assert not test.is_constant
    assert test.describe().startswith("the hazard is not constant after epoch 1 (")
    assert test.p_value < AGREEMENT_P_VALUE
    # Negative control: as many runs with one hazard, that of the pool.
    geometric = samples(seed, 1, 300, [float(test.hazard.value)] * 60)[0]
    assert constant_hazard_test(geometric, 1).p_value > AGREEMENT_P_VALUE


def test_constant_hazard_test_by_hand() -> None:
    survival = Survival(np.array([100.0, 90, 60, 50]), np.array([10.0, 30, 10, 10]))
    test = constant_hazard_test(survival, 0, segments=2)
    assert test.events == 60
    assert test.hazard.value == pytest.approx(60 / 300)
    assert test.hazard.standard_error == pytest.approx(np.sqrt(0.2 * 0.8 / 300))
    assert test.segments.tolist() == pytest.approx([40 / 190, 20 / 110])
    chi_square = (40 - 38) ** 2 / (190 * 0.16) + (20 - 22) ** 2 / (110 * 0.16)
    assert test.p_value == pytest.approx(stats.chi2.sf(chi_square, 1), rel=1e-12)
    later = constant_hazard_test(survival, 1, 3, segments=2)
    assert (later.start, later.stop, later.events) == (1, 3, 40)
    assert later.segments.tolist() == pytest.approx([30 / 90, 10 / 60])


def test_too_few_events_decide_nothing() -> None:
    few = constant_hazard_test(Survival(np.array([100.0, 95, 90]), np.array([5.0, 5, 5])), 0)
    assert (few.is_decidable, few.is_rejected, few.is_constant) == (False, False, False)
    assert (
        few.describe()
        == "too few first passages to tell whether the hazard is constant after epoch 0 (15 first "
        + (f"passages, p = {few.p_value:.2g})")
    )
    # All at one epoch: plenty of events, but nothing to compare them with.
    together = constant_hazard_test(Survival.of(FirstPassages(np.full(40, 5), np.full(40, True))), 4)
    assert together.events == 40
    assert not together.is_constant
    none = constant_hazard_test(Survival.of(FirstPassages(np.full(40, 5), np.full(40, False))), 0)
    assert (none.events, none.p_value, none.is_constant) == (0, 1.0, False)


def test_describe() -> None:
    vanishing = constant_hazard_test(Survival(np.array([1000.0, 900, 900, 900]), np.array([100.0, 0, 0, 0])), 0)
    assert vanishing.describe().endswith("it vanishes in places")
    changing = constant_hazard_test(Survival(np.array([1000.0, 800, 700, 600]), np.array([200.0, 100, 10, 10])), 0)
    assert changing.describe().endswith("it changes 14.0-fold")
    constant = constant_hazard_test(Survival(np.array([1000.0, 900, 810]), np.array([100.0, 90, 81])), 0)
    assert constant.describe() == "a constant hazard is not rejected after epoch 0 (271 first passages, p = 1)"


# ---- Geometric tail --------------------------------------------------------------------------------------------------


def test_geometric_tail_has_the_exact_mean_and_error(seed: int) -> None:
    hazards = [0.0] * 4 + [0.1] * 6 + [0.03] * 30
    exact = sum(np.cumprod([1, *(1 - np.array(hazards[:39]))])) + np.prod(1 - np.array(hazards)) / 0.03
    sets = samples(seed, 600, 400, hazards)
    sets = [s for s in sets if constant_hazard_test(s, 10).is_constant]
    assert len(sets) > 550
    estimates = [geometric_tail_mean(s, 10) for s in sets]
    z = np.array([(e.value - exact) / e.standard_error for e in estimates])
    assert agreement(z**2, 1.0)
    assert 0.92 < (np.abs(z) < 1.96).mean() < 0.98
    # Negative controls: the restricted mean is not E[T], and errors of its parts added as if independent are too small.
    assert not agreement([s.restricted_mean(40).value for s in sets], exact)
    apart = []
    for s, e in zip(sets, estimates, strict=True):
        h, tail = constant_hazard_test(s, 10).hazard, float(s.values[-1])
        parts = (s.restricted_mean(40).standard_error, tail * h.standard_error / h.value**2)
        apart.append((e.value - exact) ** 2 / (parts[0] ** 2 + parts[1] ** 2))
    assert not agreement(apart, 1.0)


def test_geometric_tail_needs_a_constant_hazard(seed: int) -> None:
    chain = rational_chain().chain  # E[T] = 29.5, relaxed after a few epochs
    rng = np.random.default_rng(seed)
    samples = [Survival.of(sample_first_passages(chain, 4000, rng, horizon=60)) for _ in range(5)]
    constant = [s for s in samples if constant_hazard_test(s, 15).is_constant]
    assert len(constant) >= 3  # one in a hundred is refused although its hazard is constant
    for survival in constant:
        estimate = geometric_tail_mean(survival, 15)
        assert abs(estimate.value - 29.5) < 5 * estimate.standard_error < 5
        with pytest.raises(
            ValueError, match=r"no geometric tail: the hazard is not constant after epoch 0 \(\d+ first"
        ):
            geometric_tail_mean(survival, 0)
    hidden = sample_first_passages(hidden_label_chain().chain, 1000, np.random.default_rng(seed), horizon=60)
    with pytest.raises(ValueError, match=r"no geometric tail: the hazard is not constant after epoch 5"):
        geometric_tail_mean(Survival.of(hidden), 5)
    few = FirstPassages(np.array([3, 5, 9, 9, 9]), np.array([True, True, False, False, False]))
    with pytest.raises(
        ValueError, match=r"no geometric tail: too few first passages to tell whether the hazard is const"
    ):
        geometric_tail_mean(Survival.of(few), 1)


def test_geometric_tail_of_a_complete_sample_is_its_mean() -> None:
    times = np.repeat(np.arange(1, 8), [64, 32, 16, 8, 4, 2, 2])
    survival = Survival.of(FirstPassages(times, np.full(len(times), True)))
    assert geometric_tail_mean(survival, 0).value == pytest.approx(times.mean(), rel=1e-12)
    assert geometric_tail_mean(survival, 0).standard_error == pytest.approx(survival.mean().standard_error, rel=1e-12)


# ---- Refusals --------------------------------------------------------------------------------------------------------

SURVIVAL = Survival(np.array([10.0, 8, 6]), np.array([2.0, 2, 2]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: constant_hazard_test(SURVIVAL, 3), r"start=3, stop=3 must satisfy 0 <= start < stop <= 3"),
        (lambda: constant_hazard_test(SURVIVAL, -1), r"start=-1, stop=3 must satisfy"),
        (lambda: constant_hazard_test(SURVIVAL, 0, 4), r"start=0, stop=4 must satisfy"),
        (lambda: constant_hazard_test(SURVIVAL, 0, segments=1), r"segments=1 must be >= 2"),
    ],
)
def test_refuses(call: Callable[[], HazardTest], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
