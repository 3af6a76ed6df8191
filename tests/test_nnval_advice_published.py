"""The advisor on the published curves of [meir2025], against reference/first_passage.md, sections 1.5 and 1.6.

tests/test_theory_published_curves.py has the same numbers from the theory alone; here they come out of files.
"""

import functools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from nnval.advice import Advice, advise, every
from nnval.measure.curves import Curves, read_curves
from nnval.protocol_evidence import PerturbedCurves, ProtocolEvidence
from nnval.target_scan import scan_targets
from tests.published_numbers import BRUTE

pytestmark = pytest.mark.shared

PSI = {10: 1, 11: 0.991, 12: 0.907, 13: 0.736, 14: 0.637, 15: 0.571, 16: 0.522, 17: 0.498, 18: 0.479, 19: 0.469}
PSI |= {20: 0.455, 25: 0.414, 30: 0.395, 40: 0.373, 50: 0.363, 100: 0.331, 150: 0.311, 200: 0.293}
TAU = {"shrink_perturb": (4.1702, 0.14), "partial_reset": (6.2603, 0.085)}
ERRORS_OF_EQUATION_9 = {5: 0.14, 15: 0.124, 20: 0.176, 30: 0.313, 50: 0.600}


@functools.cache
def unperturbed(directory: Path) -> Curves:
    return read_curves(directory / "unperturbed.csv.gz")


@functools.cache
def perturbed(directory: Path) -> tuple[PerturbedCurves, ...]:
    found = []
    for file in sorted(directory.glob("*_P*.csv.gz")):
        name = re.fullmatch(r"(\w+)_P(\d+)\.csv\.gz", file.name)
        assert name is not None
        found.append(every(name[1], int(name[2]), file))
    return tuple(found)


@functools.cache
def everything(directory: Path) -> Advice:
    return advise(unperturbed(directory), target=0.72, perturbed=perturbed(directory))


@functools.cache
def restarts_only(directory: Path) -> Advice:
    return advise(unperturbed(directory), target=0.72)


@pytest.fixture
def directory(shared_data: Path) -> Path:
    return shared_data / "meir2025_cifar10_resnet18"


def evidence_of(advice: Advice, label: str) -> ProtocolEvidence:
    return next(e for e in advice.evidence if e.label == label)


# ---- Unperturbed -----------------------------------------------------------------------------------------------------


def test_survival_and_restricted_means(directory: Path) -> None:
    survival = restarts_only(directory).survival
    assert {epoch: round(survival.at(epoch), 10) for epoch in PSI} == PSI
    assert survival.restricted_mean(100).value == pytest.approx(45.734, abs=1e-9)
    assert survival.restricted_mean(200).value == pytest.approx(76.963, abs=1e-9)
    assert str(restarts_only(directory)).startswith(
        "1,000 runs, test_accuracy >= 0.72: 29.3% are unfinished at epoch 200 (26.5% to 32.1%)"
    )
    assert any("29.3% of the runs are unfinished at epoch 200" in need for need in restarts_only(directory).needs)


def test_best_restart(directory: Path) -> None:
    advice = restarts_only(directory)
    best = advice.best
    assert best is not None
    assert (best.label, best.interval, best.is_boundary) == ("full_reset", 18, False)
    assert (best.low, best.high) in [(17, 20), (16, 20), (17, 19)]
    predictions = {p.interval: p.mean for p in evidence_of(advice, "full_reset").predictions["restart"]}
    for interval, mean in [(15, 33.27), (18, 30.4453), (20, 30.844), (100, 68.36)]:
        estimate = predictions[interval]
        assert estimate is not None
        assert estimate.value == pytest.approx(mean, abs=0.005)
    assert predictions[10] is not None
    assert predictions[10].value == math.inf
    estimate = predictions[18]
    assert estimate is not None
    assert estimate.interval() == pytest.approx((28.5, 32.4), abs=0.35)
    # With the choice of P allowed for, a tenth of an epoch more.
    assert best.restricted_mean.value == pytest.approx(30.57, abs=0.1)
    assert best.restricted_mean.interval() == pytest.approx((28.5, 32.7), abs=0.4)
    assert best.speed_up.value == pytest.approx(76.963 / 30.4366, rel=0.01)
    assert (best.helps, best.best) == (1, 1)


def test_other_targets(directory: Path) -> None:
    easier = advise(unperturbed(directory), target=0.715, replicates=300)
    psi = {20: 0.125, 30: 0.105, 50: 0.088, 100: 0.082, 200: 0.067}
    assert {epoch: round(easier.survival.at(epoch), 10) for epoch in psi} == psi
    assert easier.survival.restricted_mean(200).value == pytest.approx(28.672, abs=1e-9)
    harder = advise(unperturbed(directory), target=0.75, replicates=300)
    assert (harder.best, harder.choices, harder.survival.at(200)) == (None, (), 1)
    assert unperturbed(directory).values.max() == pytest.approx(0.7408)
    assert "no run reaches 0.75 by epoch 200" in str(harder)


def test_counted_from_zero_it_is_the_same_advice_or_a_warning(directory: Path) -> None:
    import pandas as pd

    table = pd.read_csv(directory / "unperturbed.csv.gz")
    table["epoch"] -= 1
    told = advise(table, target=0.72, count="from_zero")
    best = restarts_only(directory).best
    assert told.best is not None
    assert best is not None
    assert (told.best.interval, told.best.restricted_mean) == (best.interval, best.restricted_mean)
    assert not any("epoch 0" in text for text in told.assumptions)
    guessed = advise(table, target=0.72, replicates=300)
    assert guessed.best is not None
    assert guessed.best.interval == 18
    assert any("zero" in text for text in guessed.assumptions)
    # The paper's own numbers, in which epochs are one less.
    shifted = advise(table, target=0.72, count="untrained_first", replicates=300)
    assert shifted.best is not None
    assert shifted.best.interval == 17


# ---- Perturbed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", list(BRUTE))
def test_residuals_at_the_branch_epoch(directory: Path, label: str) -> None:
    e = evidence_of(everything(directory), label)
    assert e.branch_epoch == 100
    residual = next(m.residual_mean for m in e.measured if m.interval == 100)
    assert residual is not None
    mean, error = TAU[label]
    assert residual.value == pytest.approx(mean, abs=5e-5)
    assert residual.standard_error == pytest.approx(error, abs=0.005)


@pytest.mark.parametrize("label", list(BRUTE))
def test_equation_9_beside_brute_force(directory: Path, label: str) -> None:
    e = evidence_of(everything(directory), label)
    compared = {c.prediction.interval: c for c in e.compared if c.prediction.predictor == "rare"}
    for interval, (mean, error, rare) in BRUTE[label].items():
        c = compared[interval]
        measured, predicted = c.comparison.measured, c.prediction.mean
        assert measured.value == pytest.approx(mean, abs=5e-4)
        assert measured.standard_error == pytest.approx(error, rel=0.06)
        assert predicted is not None
        assert predicted.value == pytest.approx(rare, abs=6e-4)
        if label == "shrink_perturb" and interval in ERRORS_OF_EQUATION_9:
            assert predicted.standard_error == pytest.approx(ERRORS_OF_EQUATION_9[interval], abs=0.0011)
        z = (rare - mean) / math.hypot(predicted.standard_error, measured.standard_error)
        assert c.z == pytest.approx(z, abs=0.02)
        assert c.relative_difference == pytest.approx(rare / mean - 1, abs=2e-4)


def test_equation_9_holds_late_and_the_advisor_knows_where(directory: Path) -> None:
    for label in BRUTE:
        for c in evidence_of(everything(directory), label).compared:
            p = c.prediction
            if p.interval in (15, 20, 30, 50):
                assert (c.comparison.verdict, p.reasons) == ("agrees", ())
                assert abs(c.z) < 2
            elif p.interval == 100:
                assert c.comparison.reasons == ("measured with the very runs that the prediction rests on",)
                assert abs(c.z) < 2
            else:
                assert c.comparison.verdict == "outside regime"
    z = {
        c.prediction.interval: c.z
        for c in evidence_of(everything(directory), "shrink_perturb").compared
        if c.prediction.predictor == "rare"
    }
    assert all(z[p] > 4 for p in (3, 5, 7))
    assert z[1] < -8
    assert abs(z[10]) < 2


@pytest.mark.parametrize("label", list(BRUTE))
def test_renewal_beside_equation_9(directory: Path, label: str) -> None:
    predictions = evidence_of(everything(directory), label).predictions
    by_predictor = {k: {p.interval: p for p in v} for k, v in predictions.items()}
    longest = 6 if label == "shrink_perturb" else 8  # residuals
    for interval in BRUTE[label]:
        rare, renewal = by_predictor["rare"][interval].mean, by_predictor["renewal"][interval].mean
        assert rare is not None
        assert renewal is not None
        if interval >= longest:
            assert renewal.value == pytest.approx(rare.value, rel=1e-12)
        else:
            assert renewal.value > rare.value
    early = by_predictor["renewal"][2].mean
    assert early is not None
    assert early.value == pytest.approx(13.75 if label == "shrink_perturb" else math.inf, abs=0.005)


def test_ranking_of_everything_that_was_measured(directory: Path) -> None:
    advice = everything(directory)
    first, second, third, last = advice.choices
    assert (first.label, first.interval, first.source) == ("shrink_perturb", 2, "measured")
    assert (second.label, second.interval, second.source) == ("partial_reset", 4, "measured")
    assert (third.label, third.interval, third.source) == ("full_reset", 18, "restart")
    assert last.label == "none"
    assert first.best > 0.99
    assert first.restricted_mean.value == pytest.approx(5.828, abs=0.03)
    assert first.speed_up.value == pytest.approx(13.2, abs=0.15)
    assert second.restricted_mean.value == pytest.approx(11.57, abs=0.05)
    text = str(advice)
    assert "Apply shrink_perturb every 2 epochs" in text
    assert "18 (17 to 20)" in text or "18 (16 to 20)" in text
    assert advice.design is not None


def test_one_branch_epoch_alone_does_not_pass_the_hazard(directory: Path) -> None:
    late = [p for p in perturbed(directory) if p.epoch == 100]
    advice = advise(unperturbed(directory), target=0.72, perturbed=late)
    best = advice.best
    assert best is not None
    assert best.label == "full_reset"
    assert {label for label, _ in advice.unproven} == {"shrink_perturb", "partial_reset"}
    for _, prediction in advice.unproven:
        assert any("the hazard is not constant" in reason for reason in prediction.reasons)
        assert prediction.restricted_mean.value < best.restricted_mean.value


# ---- Targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_best_interval_depends_on_the_target(directory: Path) -> None:
    best = {0.78: (2, 10.3), 0.80: (3, 14.2), 0.82: (3, 20.8), 0.84: (10, 31.4), 0.86: (10, 45.6)}
    shrunk = [p for p in perturbed(directory) if p.label == "shrink_perturb"]
    calls = []
    scan = scan_targets(
        unperturbed(directory),
        list(best),
        perturbed=shrunk,
        replicates=100,
        progress=lambda *state: calls.append(state[:2]),
    )
    assert calls == [(i + 1, 5) for i in range(5)]
    for advice in scan.advice:
        first = advice.best
        assert first is not None
        interval, mean = best[advice.target]
        assert (first.label, first.interval, first.source) == ("shrink_perturb", interval, "measured")
        runs = next(m for m in evidence_of(advice, "shrink_perturb").measured if m.interval == interval)
        assert runs.survival.restricted_mean(200).value == pytest.approx(mean, abs=0.06)
        low, high = first.restricted_mean.interval()
        assert low < mean + 0.05
        assert high > mean - 0.05
    # Without perturbation nobody gets to 75 %.
    assert all(np.isclose(a.survival.at(200), 1) for a in scan.advice)
