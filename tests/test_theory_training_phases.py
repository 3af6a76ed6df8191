"""The phase machine on scripted metrics: phases in order, flapping, dwelling, peaks, and what is not finite."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.training_phases import PHASES, PhaseMachine, PhaseThresholds, phase_path, smoothness

EXPLORATION, CONVERGENCE, FINE_TUNING = PHASES
METRICS = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=200)


def run(machine: PhaseMachine, metrics: list[tuple[float, float]]) -> list[str]:
    return [machine.update(variance, update) for variance, update in metrics]


def stretches(path: list[str]) -> list[str]:
    return [phase for i, phase in enumerate(path) if i == 0 or phase != path[i - 1]]


# ---- The tree --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variance", "update", "phase"),
    [
        (0.6, 0.6, EXPLORATION),
        (0.6, 0.5, CONVERGENCE),
        (0.5, 0.6, CONVERGENCE),
        (0.6, 0.01, CONVERGENCE),
        (0.01, 0.6, CONVERGENCE),
        (0.1, 0.09, CONVERGENCE),
        (0.09, 0.1, CONVERGENCE),
        (0.09, 0.09, FINE_TUNING),
        (0.0, 0.0, FINE_TUNING),
    ],
)
def test_the_printed_tree(variance: float, update: float, phase: str) -> None:
    assert PhaseThresholds().phase(variance, update) == phase


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variance_high": 1.0}, "variance_high=1.0 must be >= 0 and < 1, a share of the peak"),
        ({"update_high": -0.1}, "update_high=-0.1 must be >= 0 and < 1"),
        ({"variance_low": 0.6}, "variance_low=0.6 must lie between 0 and variance_high=0.5"),
        ({"update_low": math.nan}, "update_low=nan must lie between"),
        ({"variance_high": math.inf, "absolute": True}, "variance_high=inf must be finite and >= 0"),
        ({"update_high": "a"}, "update_high='a' must be a number"),
    ],
)
def test_thresholds_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhaseThresholds(**values)


# ---- Scripts ---------------------------------------------------------------------------------------------------------


def test_phases_come_in_order_as_metrics_fall() -> None:
    machine = PhaseMachine()
    path = run(machine, [(3.0, 0.2)] * 200 + [(0.9, 0.06)] * 200 + [(0.03, 0.002)] * 300)
    assert stretches(path) == list(PHASES)
    (first, _), (second, _) = machine.changes
    # The averages follow a jump within some horizons, and no earlier.
    assert 200 < first < 240
    assert 400 < second < 480
    assert machine.steps == 700
    assert machine.steps_in_phase == 700 - second
    assert phase_path(machine.changes, 700) == path


def test_the_age_of_a_phase_starts_at_zero() -> None:
    machine = PhaseMachine(horizon=1, min_dwell=2)
    ages = []
    for metric in (9.0, 9.0, 3.0, 3.0, 0.1, 0.1):
        machine.update(metric, metric)
        ages.append(machine.steps_in_phase)
    assert ages == [0, 1, 0, 1, 0, 1]


def test_flapping_metrics_change_the_phase_no_faster_than_dwelling_allows() -> None:
    script = [(1.0, 1.0) if (k // 3) % 2 == 0 else (0.01, 0.01) for k in range(600)]
    free = PhaseMachine(horizon=1, min_dwell=0)
    run(free, script)
    assert len(free.changes) > 150
    held = PhaseMachine(horizon=1, min_dwell=50)
    run(held, script)
    assert 2 <= len(held.changes) <= 600 // 50
    smooth = PhaseMachine(horizon=20, min_dwell=50)
    run(smooth, script)
    assert len(smooth.changes) <= 1, "the average is a convergence throughout"
    assert PhaseMachine().min_dwell == 50
    assert PhaseMachine().horizon == 20


def test_monotone_machines_never_go_back() -> None:
    script = [(1.0, 1.0)] * 60 + [(0.01, 0.01)] * 200 + [(1.0, 1.0)] * 200
    path = run(PhaseMachine(), script)
    assert stretches(path) == [EXPLORATION, CONVERGENCE, FINE_TUNING, CONVERGENCE, EXPLORATION]
    assert stretches(run(PhaseMachine(monotone=True), script)) == list(PHASES)


def test_a_training_that_begins_on_a_plateau_is_judged_by_its_peak() -> None:
    # As without batch normalisation: the gradient variance rises a hundredfold after the first epoch.
    script = [(0.02, 0.5)] * 300 + [(2.0, 1.0)] * 300 + [(0.05, 0.02)] * 300
    path = run(PhaseMachine(), script)
    assert path[350] == EXPLORATION
    assert path[-1] == FINE_TUNING
    # By its first value, 0.05 would be high for ever.
    first = PhaseMachine(PhaseThresholds(0.5 * 0.02, 0.5 * 0.5, 0.1 * 0.02, 0.1 * 0.5, absolute=True))
    assert FINE_TUNING not in run(first, script)


def test_a_first_outlier_counts_no_more_than_a_later_one() -> None:
    first, later = PhaseMachine(), PhaseMachine()
    assert run(first, [(10.0, 10.0)] + [(1.0, 1.0)] * 400)[-1] == EXPLORATION
    assert run(later, [(1.0, 1.0)] * 60 + [(10.0, 10.0)] + [(1.0, 1.0)] * 400)[-1] == EXPLORATION
    # The bias-corrected average of the first step is 10: as a peak it would leave a tenth.
    assert first.relative[0] > 0.75
    assert later.relative[0] > 0.65


def test_noise_in_the_update_hides_that_training_slows_down() -> None:
    sizes = [math.exp(-k / 100) for k in range(1000)]
    before = run(PhaseMachine(), [(size**2, size) for size in sizes])
    assert before[-1] == FINE_TUNING
    after = run(PhaseMachine(), [(size**2, math.hypot(size, 0.3)) for size in sizes])
    assert FINE_TUNING not in after


def test_averages_are_those_of_bias_corrected_weights() -> None:
    machine, horizon = PhaseMachine(horizon=7), 7
    values = [float((13 * k) % 10) for k in range(30)]
    for k, value in enumerate(values):
        machine.update(value, 2 * value)
        weights = [(1 - 1 / horizon) ** (k - j) for j in range(k + 1)]
        mean = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
        assert machine.smoothed == pytest.approx((mean, 2 * mean), rel=1e-12)
        assert all(0 <= share <= 1 for share in machine.relative)


def test_absolute_thresholds_are_in_the_units_of_the_metrics() -> None:
    machine = PhaseMachine(PhaseThresholds(10.0, 1.0, 2.0, 0.1, absolute=True), horizon=1, min_dwell=0)
    assert run(machine, [(11, 2), (9, 2), (1, 0.05), (1e9, 1e9)]) == [
        EXPLORATION,
        CONVERGENCE,
        FINE_TUNING,
        EXPLORATION,
    ]


def test_a_metric_that_is_always_zero_counts_as_low() -> None:
    machine = PhaseMachine(horizon=1, min_dwell=0)
    assert run(machine, [(0.0, 1.0), (0.0, 0.01), (-1e-18, 0.01)]) == [CONVERGENCE, FINE_TUNING, FINE_TUNING]
    assert PhaseMachine().smoothed == PhaseMachine().relative == (0.0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_metrics_that_are_not_finite_are_counted_and_change_nothing(bad: float) -> None:
    machine, other = PhaseMachine(min_dwell=3, horizon=2), PhaseMachine(min_dwell=3, horizon=2)
    script = [(1.0, 1.0)] * 5 + [(0.01, 0.01)] * 10
    run(other, script)
    for metrics in script:
        machine.update(*metrics)
        before = machine.state_dict()
        assert machine.update(bad, 1.0) == machine.update(1.0, bad) == machine.phase
        after = machine.state_dict()
        assert {key for key in after if after[key] != before[key]} == {"steps", "ignored"}
    assert machine.ignored == 30
    assert machine.steps == 45
    assert [phase for _, phase in machine.changes] == [phase for _, phase in other.changes]
    assert machine.smoothed == other.smoothed


@given(METRICS, st.integers(0, 20), st.integers(1, 10))
def test_dwelling_and_order_hold_for_any_metrics(metrics: list[tuple[float, float]], dwell: int, horizon: int) -> None:
    machine = PhaseMachine(horizon=horizon, min_dwell=dwell)
    path = run(machine, metrics)
    steps = [step for step, _ in machine.changes]
    assert all(later - earlier >= max(dwell, 1) for earlier, later in pairwise(steps))
    assert not steps or steps[0] > dwell
    assert phase_path(machine.changes, len(metrics)) == path
    forward = [PHASES.index(p) for p in run(PhaseMachine(horizon=horizon, min_dwell=dwell, monotone=True), metrics)]
    assert forward == sorted(forward)


# ---- Resuming --------------------------------------------------------------------------------------------------------


@given(METRICS, st.integers(0, 200))
def test_a_machine_goes_on_exactly_where_it_was_saved(metrics: list[tuple[float, float]], saved: int) -> None:
    whole, first, second = (PhaseMachine(horizon=5, min_dwell=3) for _ in range(3))
    path = run(whole, metrics)
    begin = run(first, metrics[:saved])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begin + run(second, metrics[saved:]) == path
    assert second.state_dict() == whole.state_dict()


def test_states_hold_plain_values_only() -> None:
    machine = PhaseMachine(min_dwell=0)
    run(machine, [(1.0, 1.0), (0.1, 0.1)] * 20)
    for value in machine.state_dict().values():
        assert type(value) in (int, float, str, list)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": None}, "weight=None must be a number"),
        ({"weight": math.nan}, "weight=nan must be finite and >= 0"),
        ({"phase": "later"}, "phase='later' must be one of exploration, convergence, fine_tuning"),
        ({"steps": -1}, "steps=-1 must be a whole number >= 0"),
        ({"changes": [[0, CONVERGENCE]]}, "step=0 must be a whole number >= 1"),
    ],
)
def test_states_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    machine = PhaseMachine()
    run(machine, [(1.0, 1.0)] * 3)
    before = machine.state_dict()
    with pytest.raises(ValueError, match=message):
        machine.load_state_dict(before | changes)
    with pytest.raises(ValueError, match="state lacks steps, ignored"):
        machine.load_state_dict({})
    assert machine.state_dict() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [({"horizon": 0}, "horizon=0 must be"), ({"min_dwell": -1}, "min_dwell=-1 must be"), ({"horizon": 1.5}, "1.5")],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhaseMachine(**options)


# ---- Paths and smoothness --------------------------------------------------------------------------------------------


def test_paths_of_changes() -> None:
    assert phase_path([], 2) == [EXPLORATION] * 2
    assert phase_path([(1, FINE_TUNING)], 2) == [FINE_TUNING] * 2
    for changes in ([(3, CONVERGENCE), (3, FINE_TUNING)], [(0, CONVERGENCE)], [(6, CONVERGENCE)]):
        with pytest.raises(ValueError, match=r"must be above [03]"):
            phase_path(changes, 5)
    with pytest.raises(ValueError, match="phase='x'"):
        phase_path([(1, "x")], 5)


def test_smoothness_is_a_second_difference_of_means() -> None:
    assert smoothness([k**2 for k in range(30)], 10) == pytest.approx(2 * 10**2)
    assert smoothness([100.0 - 3 * k for k in range(12)], 4) == pytest.approx(0, abs=1e-12)
    assert smoothness([99.0, 5.0, 1.0, 0.0], 1) == 3.0, "the newest three only"
    with pytest.raises(ValueError, match="5 losses: three windows of 2 steps need 6"):
        smoothness([1.0] * 5, 2)
    with pytest.raises(ValueError, match="losses must be finite"):
        smoothness([1.0, math.nan, 1.0], 1)
