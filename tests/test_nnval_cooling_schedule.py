"""The learning rates of ActCooLR from measured temperatures: anchors, planted links in closed loop, both ends."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nnval.drop_in.cooling_schedule import HOTTEST_START, CoolingSchedule
from theory.activation_temperature import CloglogLink, ErfLink


@pytest.mark.parametrize(
    ("rate", "target", "expected"), [(0.1, 3.17, 0.21541368), (0.02, 1.0, 0.04978707), (0.5, 0.2, 0.01284505)]
)
def test_anchors_of_one_correction(rate: float, target: float, expected: float) -> None:
    """mu = -3, sigma = 1.2: what is measured at a rate, and the next rate for a target."""
    start = target / (1 - 20 / 1000)  # the target is that of step 20
    schedule = CoolingSchedule(rate, 1000, t_start=start, sigma=1.2, lr_max=10.0)
    measured = float(ErfLink(-3.0, 1.2).temperature(math.log(rate)))
    schedule.follow(10, rate, measured, coldest=1e-9)
    assert schedule.rate_of(20) == pytest.approx(expected, abs=6e-9)
    assert schedule.rate_of(15) == pytest.approx((rate + expected) / 2, abs=6e-9)
    assert schedule.location == pytest.approx(-3.0, rel=1e-12)


def errors_in_closed_loop(schedule: CoolingSchedule, plant: Callable[[int], ErfLink | CloglogLink]) -> list[float]:
    """ln(T / C) at each measurement."""
    errors = []
    for made in range(schedule.every, schedule.total_steps, schedule.every):
        rate = schedule.rate_of(made)
        measured = float(plant(made).temperature(math.log(rate)))
        errors.append(math.log(measured / (schedule.target(made) or measured)))
        schedule.follow(made, rate, measured, coldest=1e-9)
    return errors


def test_a_planted_link_is_met_at_once_and_a_drifting_one_is_tracked() -> None:
    schedule = CoolingSchedule(0.1, 1000, t_start=2.0, sigma=1.3, lr_max=1e3)
    errors = errors_in_closed_loop(schedule, lambda _: ErfLink(-4.0, 1.3))
    assert abs(errors[0]) > 0.5
    assert np.abs(errors[1:]).max() < 1e-12
    schedule = CoolingSchedule(0.1, 1000, t_start=2.0, sigma=1.2, lr_max=1e3)
    errors = errors_in_closed_loop(schedule, lambda made: ErfLink(-4.0 + 0.002 * made, 1.3))
    assert np.abs(errors[5:-5]).max() < 0.1
    schedule = CoolingSchedule(0.1, 1000, t_start=2.0, link="cloglog", lr_max=1e3)
    assert np.abs(errors_in_closed_loop(schedule, lambda _: CloglogLink(-3.0))[1:]).max() < 1e-12


def test_a_sigma_too_large_diverges() -> None:
    """Gain over the true slope: 1.9 comes to rest, 2.5 does not, and swings between the limits if there are some."""
    plant = ErfLink(-4.0, 1.0)
    stable = errors_in_closed_loop(CoolingSchedule(0.02, 2000, t_start=2.0, sigma=1.9, lr_max=1e3), lambda _: plant)
    assert np.abs(stable[40:150]).max() < 0.02
    unstable = CoolingSchedule(0.02, 2000, t_start=2.0, sigma=2.5, lr_max=10.0, lr_min=1e-6)
    assert np.abs(errors_in_closed_loop(unstable, lambda _: plant)[60:-10]).min() > 1
    limited = CoolingSchedule(0.02, 2000, t_start=2.0, sigma=2.5, lr_max=10.0, largest_change=math.log(2))
    errors_in_closed_loop(limited, lambda _: plant)
    assert limited.limited > 100


def calibrated(plant: Callable[[int], ErfLink], **options: Any) -> tuple[CoolingSchedule, list[float]]:
    """After 50 steps at 0.1 or less, and the learning rates of all steps."""
    schedule, rates = CoolingSchedule(0.1, 1000, sigma=1.2, **options), list[float]()
    for made in range(10, 60, 10):
        rates += [schedule.rate_of(number) for number in range(made - 9, made + 1)]
        assert schedule.target(made) is None
        schedule.follow(made, rates[-1], float(plant(made).temperature(math.log(rates[-1]))), coldest=1e-9)
    return schedule, rates


def test_a_start_that_is_not_given_is_that_of_the_own_rate() -> None:
    link = ErfLink(-1.0, 1.2)
    schedule, rates = calibrated(lambda _: link)
    own = float(link.temperature(math.log(0.1)))
    assert own < HOTTEST_START
    assert rates == [0.1] * 50
    assert schedule.start == pytest.approx(own, rel=1e-12)
    assert schedule.target(500) == pytest.approx(own / 2, rel=1e-12)


def test_a_start_that_is_not_given_is_not_hotter_than_one_bit() -> None:
    """From the first measurement on: a network that the own rate would break is not kept there to learn that."""
    link = ErfLink(-4.0, 1.2)
    assert float(link.temperature(math.log(0.1))) > 3
    schedule, rates = calibrated(lambda _: link)
    assert rates[:10] == [0.1] * 10
    assert rates[19:] == pytest.approx([math.exp(-4.0)] * 31, rel=1e-12)  # that of one bit
    assert schedule.start == HOTTEST_START == 1.0
    assert schedule.seen == pytest.approx([float(link.temperature(math.log(0.1)))] * 3, rel=1e-12)
    assert calibrated(lambda _: link, largest_change=0.5)[0].limited == 3  # of 1.7


def test_a_network_that_was_hot_at_first_only_has_the_start_of_its_own_rate() -> None:
    hot, cold = ErfLink(-4.0, 1.2), ErfLink(-1.0, 1.2)
    schedule, rates = calibrated(lambda made: hot if made == 10 else cold)
    assert rates[19] == pytest.approx(math.exp(-4.0), rel=1e-12)
    assert rates[29:] == [0.1] * 21
    assert schedule.start == pytest.approx(float(cold.temperature(math.log(0.1))), rel=1e-12)


def test_too_few_changes_to_see_leave_the_last_good_measurement() -> None:
    """Below twice the coldest temperature the loop is open, and the rate follows the curve all the same."""
    plant, coldest = ErfLink(-2.0, 1.2), 0.02
    schedule = CoolingSchedule(0.1, 1000, t_start=0.1, sigma=1.2, lr_max=1.0)
    for made in range(10, 1000, 10):
        rate = schedule.rate_of(made)
        seen = max(float(plant.temperature(math.log(rate))), coldest)
        schedule.follow(made, rate, seen, coldest)
    assert schedule.location == pytest.approx(-2.0, rel=1e-9)
    schedule.follow(980, schedule.rate_of(980), coldest, coldest)
    assert math.log(schedule.rate_of(990)) == pytest.approx(float(plant.log_rate(0.001)), rel=1e-9)


def test_without_a_cap_rates_stay_floats() -> None:
    schedule = CoolingSchedule(0.1, 100, t_start=60.0, sigma=1e3, lr_max=math.inf)
    schedule.follow(10, 0.1, 0.5, 1e-6)
    assert schedule.rate_of(20) == math.exp(700.0)


def test_the_ends_of_the_schedule() -> None:
    schedule = CoolingSchedule(0.1, 47, t_start=1.0, every=10, sigma=1.2)
    assert [number for number in range(1, 60) if schedule.is_due(number)] == [10, 20, 30, 40]
    schedule.follow(40, 0.1, 1.0, 1e-6)
    assert schedule.rate_of(47) == schedule.rate_of(48) == schedule.rate_of(100) == 1e-8
    assert not CoolingSchedule(0.1, 40, t_start=1.0).is_due(40)
