"""Hostile data into predictions and mean-field theory; see test_theory_hostile_input.py."""

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import theory
from tests.hostile_arguments import (
    EPOCHS,
    ESTIMATE,
    FEW,
    MODEL,
    PASSAGES,
    POSITIVE,
    SHARE,
    SIGNED,
    SURVIVAL,
    SURVIVED,
    array,
    calls,
    case,
    check,
    count,
    is_share,
    made,
    not_negative,
    number,
)
from theory.mean_field_ridge import static_limit
from theory.mean_field_temperature import first_lag_temperature

RUNS = theory.FirstPassages(np.array([2, 3, 3, 5, 5, 4]), np.array([True, True, True, True, False, True]))
AFTER = theory.PerturbedOnce(
    theory.FirstPassages(np.array([1, 3, 2]), np.array([True, False, True])), 2, 3, np.array([1, 3, 4])
)
SOME_RUNS = st.one_of(st.just(RUNS), PASSAGES)
ONCE = st.one_of(
    *(st.just(AFTER), st.just(theory.PerturbedOnce(RUNS, 2, 5))),
    made(theory.PerturbedOnce, SOME_RUNS, FEW, count(3, 5, largest=1000)),
)
DATA = made(
    lambda runs, once, horizon: theory.PerturbationData(
        runs, once, horizon=horizon, replicates=20, rng=np.random.default_rng(0)
    ),
    *(SOME_RUNS, st.one_of(st.none(), ONCE), st.one_of(st.none(), EPOCHS)),
)
PREDICTOR = st.sampled_from(["restart", "rare", "renewal", "none"])
PREDICTION = made(
    theory.Prediction,
    PREDICTOR,
    st.sampled_from([1, 5]),
    st.just(5),
    ESTIMATE,
    st.none(),
    ESTIMATE,
    st.sampled_from([(), ("why",)]),
)

INTERVALS = st.lists(count(1, 2, 3, largest=1000), max_size=3)
TRAINING = st.one_of(
    st.sampled_from([theory.PerceptronTraining(0.1), theory.PerceptronTraining(0.4, 0.5, 1.0, 0.5)]),
    made(theory.PerceptronTraining, number(0.1, 0.4), number(0.0, 0.5), number(0.0, 1.0), number(1.0, 0.5)),
)
SQUARE = st.one_of(st.just(theory.MixturePerceptron(2.0, 0.5, weight_decay=0.5)), MODEL)
OTHER_MODEL = st.one_of(
    st.sampled_from(
        [
            theory.MixturePerceptron(2.0, 0.5, "logistic", 3, "door"),
            theory.MixturePerceptron(1.0, 1.0, "perceptron", weight_decay=0.1),
        ]
    ),
    made(
        theory.MixturePerceptron,
        *(number(1.0, 2.0), number(0.5, 1.0), st.sampled_from(["square", "logistic", "squared_hinge", "perceptron"])),
        *(st.sampled_from([2, 3, 4]), st.sampled_from(["linear", "door"]), number(0.0, 0.1), number(1.0), number(0.5)),
    ),
)
CLOSED = st.one_of(
    st.just(theory.BernoulliBatches(0.25)), made(theory.FullBatch, SHARE), made(theory.BernoulliBatches, SHARE)
)
BATCHES = st.one_of(
    *(CLOSED, made(theory.PersistentBatches, SHARE, POSITIVE)),
    *(made(theory.ReshuffledBatches, count(2, 4)), made(theory.ShuffledOnceBatches, count(2, 4))),
)


def within_horizon(prediction: Any, data: Any, *_: Any) -> bool:
    return 0 <= prediction.restricted_mean.value <= data.horizon * (1 + 1e-9)


def means_of(label: str, means: Any) -> theory.ProtocolMeans:
    values = np.atleast_1d(np.asarray(means, dtype=float))
    replicates = values * np.linspace(0.9, 1.1, 40)[:, None]
    return theory.ProtocolMeans(label, np.arange(values.size), (label,) * values.size, values, replicates, n=40)


def solved(model: Any, training: Any, batches: Any, steps: int, replicas: int) -> theory.MeanFieldSolution:
    rng = np.random.default_rng(0)
    return theory.solve_mean_field(model, training, batches, steps, rng, particles=48, populations=2, replicas=replicas)


CASES = {
    # Measured first passages
    "FirstPassages.counts": case(lambda passages: passages.counts(), PASSAGES),
    "Survival": case(lambda s: (s.values, s.standard_error, s.hazard), SURVIVED, holds=lambda r, _: is_share(r[0])),
    "Survival.band": case(
        calls("band"),
        *(SURVIVED, number(0.95, 0.5)),
        holds=lambda r, s, _: (
            is_share(r) and bool((r[0] <= s.values + 1e-12).all() and (r[1] >= s.values - 1e-12).all())
        ),
    ),
    "Survival.restricted_mean": case(
        calls("restricted_mean"), SURVIVED, EPOCHS, holds=lambda r, _, h: 0 <= r.value <= h * (1 + 1e-12)
    ),
    "Survival.padded": case(calls("padded"), SURVIVED, EPOCHS, holds=is_share),
    "Survival of counts": case(
        lambda at_risk, events: theory.Survival(np.asarray(at_risk, float), np.asarray(events, float)).standard_error,
        *(array(number(5.0, 3.0)), array(number(0.0, 1.0))),
        holds=not_negative,
    ),
    "PerturbedOnce": case(theory.PerturbedOnce, PASSAGES, FEW, FEW),
    "constant_hazard_test": case(theory.constant_hazard_test, SURVIVED, count(0, 1)),
    "renewal_mean": case(theory.renewal_mean, SURVIVAL, SURVIVAL, FEW),
    "resolution_needed": case(lambda e, p: theory.resolution_needed(e, power=p), ESTIMATE, number(0.8, 0.9)),
    # Mean field
    "MixturePerceptron.test_error": case(calls("test_error"), MODEL, array(SIGNED), array(POSITIVE), holds=is_share),
    "PersistentBatches.paths": case(
        lambda b, tau, n: next(theory.PersistentBatches(b, tau).paths(n, 0.1, np.random.default_rng(0))),
        *(SHARE, POSITIVE, count(4, 8, largest=1000)),
        holds=not_negative,
    ),
    "PerturbationData.psi": case(lambda data: (data.psi, data.residual_psi), DATA, holds=lambda r, _: is_share(r[0])),
    "PerturbationData.predict": case(calls("predict"), DATA, PREDICTOR, EPOCHS, holds=within_horizon),
    "PerturbationData.predictions": case(
        lambda data, predictor, intervals: data.predictions(predictor, intervals), DATA, PREDICTOR, INTERVALS
    ),
    "PerturbationData.best_interval": case(calls("best_interval"), DATA, PREDICTOR, INTERVALS),
    "PerturbationData.estimate": case(lambda data: data.estimate(lambda psi, _: psi.sum(axis=-1)), DATA),
    "PerturbationData.with_perturbed_once": case(
        lambda data, once: data.with_perturbed_once(once, np.random.default_rng(0)).predict("renewal", 1), DATA, ONCE
    ),
    "PerturbedOnce.from_periodic": case(theory.PerturbedOnce.from_periodic, PASSAGES, FEW),
    "predicted_restricted_mean": case(
        theory.predicted_restricted_mean, PREDICTOR, SURVIVAL, st.one_of(st.none(), SURVIVAL), EPOCHS, EPOCHS
    ),
    "best_prediction": case(theory.best_prediction, st.lists(PREDICTION, max_size=3)),
    "choose_protocol": case(
        lambda a, b: [c.restricted_mean for c in theory.choose_protocol(means_of("none", a), [means_of("some", b)])],
        *(array(POSITIVE, (1,)), array(POSITIVE, (1, 2))),
        holds=lambda r, *_: all(c.value > 0 for c in r),
    ),
    "cheapest_design": case(
        lambda data, intervals, error, predictor: theory.cheapest_design(
            {"one": data}, intervals, relative_error=error, predictor=predictor
        ),
        *(DATA, INTERVALS, number(0.1, 0.05), PREDICTOR),
    ),
    "runs_needed": case(
        lambda data, predictor, interval, error: theory.runs_needed(data, (predictor, interval), relative_error=error),
        *(DATA, PREDICTOR, EPOCHS, number(0.1, 0.05)),
    ),
    "horizon_needed": case(
        lambda s, start, left: theory.horizon_needed(s, start, unfinished=left), SURVIVED, count(0, 1), SHARE
    ),
    "stationarity": case(
        lambda values, passages, last, tolerance: (
            theory.stationarity(
                np.resize(np.asarray(values, float), (passages.n, 4)),
                passages,
                reference=(1, last),
                rng=np.random.default_rng(0),
                tolerance=tolerance,
                replicates=10,
            ).relaxation_interval
        ),
        *(array(SIGNED, (3, 5)), PASSAGES, count(1, 2, 4), st.one_of(st.none(), number(0.25))),
    ),
    # Mean field
    "PerceptronTraining": case(lambda training: training, TRAINING),
    "test_error of other perceptrons": case(
        calls("test_error"), OTHER_MODEL, array(SIGNED), array(POSITIVE), holds=is_share
    ),
    "solve_ridge": case(
        theory.solve_ridge,
        SQUARE,
        TRAINING,
        CLOSED,
        count(1, 3, 5, largest=100),
        holds=lambda r, *_: not_negative(r.train_loss) and is_share(r.test_error),
    ),
    "static_limit": case(static_limit, SQUARE, SHARE, holds=lambda r, *_: r.norm >= 0 and r.loss >= 0),
    "solve_mean_field": case(
        solved,
        OTHER_MODEL,
        TRAINING,
        BATCHES,
        count(1, 3, largest=100),
        st.sampled_from([1, 2, 3]),
        holds=lambda r, *_: not_negative(r.train_loss) and is_share(r.test_error) and is_share(r.train_accuracy),
    ),
    "temperature_of_solution, exact": case(
        lambda m, t, b, n, lags, start, longest: theory.temperature_of_solution(
            theory.solve_ridge(m, t, b, n), lags, start=start, longest_lag=longest
        ),
        *(
            SQUARE,
            TRAINING,
            CLOSED,
            st.sampled_from([6, 12]),
            array(count(1, 2, largest=100), (1, 2)),
        ),
        *(st.one_of(st.none(), count(0, 2)), st.one_of(st.none(), count(2, 3))),
    ),
    "temperature_of_solution, sampled": case(
        lambda m, t, b, lags, error: theory.temperature_of_solution(
            solved(m, t, b, 8, 1), lags, start=0, relative_error=error
        ),
        *(OTHER_MODEL, TRAINING, BATCHES, array(count(1, 2, largest=100), (1, 2)), number(0.5, 10.0)),
    ),
    "first_lag_temperature": case(
        lambda m, t, b, start: first_lag_temperature(theory.solve_ridge(m, t, b, 6), start=start),
        *(SQUARE, TRAINING, CLOSED, st.one_of(st.none(), count(0, 2))),
        holds=lambda r, *_: r.value >= 0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_answers_or_refuses(name: str) -> None:
    check(CASES[name], 12)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_answers_or_refuses_much_more(name: str) -> None:
    check(CASES[name], 150)
