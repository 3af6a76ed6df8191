"""Schedules of the ablation, the noise they inject in all, and equal budgets."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.noise_schedule import KINDS, NoiseSchedule, injected, scales, with_budget
from theory.training_phases import PHASES

EXPLORATION, CONVERGENCE, FINE_TUNING = PHASES
PATH = [EXPLORATION] * 30 + [CONVERGENCE] * 50 + [EXPLORATION] * 5 + [FINE_TUNING] * 15
PATHS = st.lists(st.sampled_from(PHASES), min_size=1, max_size=60)


def test_the_table_of_the_ablation() -> None:
    high, medium, low, decay = 0.3, 0.1, 0.03, 0.02
    found = {kind: NoiseSchedule(kind, (high, medium, low), decay) for kind in KINDS}
    at = {"phase": FINE_TUNING, "steps_in_phase": 7, "step": 90}
    assert found["none"].scale(**at) == 0
    assert found["fixed"].scale(**at) == medium
    assert found["phase_only"].scale(**at) == low
    assert found["schedule_only"].scale(**at) == pytest.approx(high * math.exp(-decay * 90), rel=1e-14)
    assert found["full"].scale(**at) == pytest.approx(low * math.exp(-decay * 7), rel=1e-14)
    assert [kind for kind in KINDS if found[kind].has_phases] == ["phase_only", "full"]
    assert NoiseSchedule() == NoiseSchedule("full", (0.3, 0.1, 0.03), 0.0)


def test_decay_begins_anew_with_each_phase_and_only_there() -> None:
    full = scales(NoiseSchedule("full", (4.0, 2.0, 1.0), 0.1), PATH)
    assert full[0] == full[80] == 4.0
    assert full[30] == 2.0
    assert full[29] == pytest.approx(4 * math.exp(-2.9))
    assert full[-1] == pytest.approx(math.exp(-1.4))
    alone = scales(NoiseSchedule("schedule_only", (4.0, 2.0, 1.0), 0.1), PATH)
    assert alone == pytest.approx([4 * math.exp(-0.1 * step) for step in range(100)])
    assert scales(NoiseSchedule("full", decay=1e6), PATH)[1] == 0.0


def test_injected_noise_is_the_sum_of_squares() -> None:
    assert injected(NoiseSchedule("fixed", (9, 0.5, 9)), PATH) == pytest.approx(100 * 0.25, rel=1e-14)
    assert injected(NoiseSchedule("phase_only", (4.0, 2.0, 1.0)), PATH) == 35 * 16 + 50 * 4 + 15
    assert injected(NoiseSchedule("none"), PATH) == 0
    q = math.exp(-2 * 0.1)
    series = 9 * (1 - q**100) / (1 - q)
    assert injected(NoiseSchedule("schedule_only", (3, 2, 1), 0.1), PATH) == pytest.approx(series, rel=1e-12)
    assert injected(NoiseSchedule(), []) == 0


@given(PATHS, st.sampled_from(KINDS[1:]), st.floats(0, 0.5), st.floats(1e-12, 1e6))
def test_budgets_are_met_by_all_schedules(path: list[str], kind: str, decay: float, budget: float) -> None:
    schedule = NoiseSchedule(kind, (0.3, 0.1, 0.03), decay)
    fair = with_budget(schedule, path, budget)
    assert injected(fair, path) / len(path) == pytest.approx(budget, rel=1e-12)
    assert (fair.kind, fair.decay) == (kind, decay)
    ratios = [new / old for new, old in zip(fair.epsilon, schedule.epsilon, strict=True)]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-14)


def test_budgets_without_noise() -> None:
    assert with_budget(NoiseSchedule(), PATH, 0.0).epsilon == (0, 0, 0)
    with pytest.raises(ValueError, match=r"budget=1.0 cannot be met: the schedule 'none' has no noise"):
        with_budget(NoiseSchedule("none"), PATH, 1.0)
    with pytest.raises(ValueError, match="'phase_only' has no noise on this path"):
        with_budget(NoiseSchedule("phase_only", (0, 0, 1)), [EXPLORATION], 1.0)
    with pytest.raises(ValueError, match="phases is empty"):
        with_budget(NoiseSchedule(), [], 1.0)
    for budget in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"budget={budget} must be finite and >= 0"):
            with_budget(NoiseSchedule(), PATH, budget)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("half",), "kind='half' must be one of none, fixed"),
        (("full", (1.0, 2.0)), "must be three numbers: high, medium and low"),
        (("full", 0.1), "epsilon=0.1 must be three numbers"),
        (("full", "abc"), "epsilon='abc' must be three numbers"),
        (("full", (-1.0, 0, 0)), "epsilon=-1.0 must be finite and >= 0"),
        (("full", (math.nan, 0, 0)), "epsilon=nan must be finite and >= 0"),
        (("full", (1, 1, 1), -0.1), "decay=-0.1 must be finite and >= 0"),
        (("full", (1, 1, 1), math.inf), "decay=inf must be finite"),
    ],
)
def test_schedules_out_of_range(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(*arguments)


def test_phases_that_are_none() -> None:
    with pytest.raises(ValueError, match="phase='rest' must be one of"):
        NoiseSchedule().scale("rest", 0, 0)
    with pytest.raises(ValueError, match="phase='rest' must be one of"):
        scales(NoiseSchedule("fixed"), ["rest"])
