"""Ours against the independent package kramers 0.1.0 (A. Sokol, MIT), on 200 random sets of parameters each, to 1e-9.

Entries of its handbook and its quadrature solver; neither package was written with the other. Where kramers
loses digits, the sets stay away from there, and the last tests show by mpmath that the digits we give are right.
Negative control everywhere: with the diffusivity doubled, the same comparison must fail.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.special import erf, log_ndtr, ndtr

from sim.random_streams import stream
from theory.absorbing import Floats
from theory.diffusion_laws import Brownian, DriftDiffusion, Interval
from theory.escape import interval_exit, mean_escape_time, second_moment
from theory.linear_response import poisson_slope
from theory.optimal_restart import optimal_rate
from theory.ornstein_uhlenbeck import OrnsteinUhlenbeck
from theory.passage_law_base import PassageLaw
from theory.passage_laws import Deterministic
from theory.potentials import Potential, harmonic, linear
from theory.resetting import Restarted
from theory.restart_criterion import restart_helps
from theory.waiting_times import Exponential

kramers: Any = pytest.importorskip("kramers", reason="the independent package is not there: pip install kramers")
mp: Any = mpmath.mp

pytestmark = pytest.mark.slow

SETS = 200
TOLERANCE = 1e-9


def random_sets(seed: int, name: str, *ranges: tuple[float, float]) -> list[list[float]]:
    """200 sets, uniform in each range."""
    low, high = np.transpose(ranges)
    return stream(seed, f"kramers {name}").uniform(low, high, (SETS, len(ranges))).tolist()


def difference(values: Sequence[Any], reference: Sequence[Any]) -> Floats:
    """Relative differences, one for each number of each set."""
    found, expected = np.array(values, dtype=float), np.array(reference, dtype=float)
    assert len(found) == SETS
    assert np.isfinite(expected).all()
    return np.abs(found / expected - 1)


def assert_agreement(ours: Sequence[Any], theirs: Sequence[Any], wrong: Sequence[Any]) -> None:
    """Ours are theirs in all sets, and what is wrong is rejected in most."""
    assert difference(ours, theirs).max() < TOLERANCE
    assert np.mean(difference(wrong, theirs) > 100 * TOLERANCE) > 0.6


def entry(name: str) -> Callable[..., Any]:
    return kramers.get(name).function


# ---- Entries of the handbook -----------------------------------------------------------------------------------------


# Near an end kramers subtracts nearly equal times, so the start is not within 1 % of one.


def test_k0012_drift_diffusion_in_an_interval(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    for log_length, log_diffusivity, place, log_ratio, sign in random_sets(
        seed, "interval", (-3, 3), (-3, 3), (0.01, 0.99), (-5, 2), (-1, 1)
    ):
        length, diffusivity = 10**log_length, 10**log_diffusivity
        start, drift = place * length, math.copysign(10**log_ratio, sign) * diffusivity / length
        expected = entry("K0012")(start, length, drift, diffusivity)
        undriven = entry("K0012")(start, length, 0.0, diffusivity)
        for results, used in ((ours, diffusivity), (wrong, 2 * diffusivity)):
            found = interval_exit(linear(drift), diffusivity=used, start=start, lower=0.0, upper=length)
            results.append((found.upper_probability, found.mean, Interval(length, start, used).mean))
        theirs.append((expected.p_right, expected.mean_time, undriven.mean_time))
    assert_agreement(ours, theirs, wrong)


def test_k0015_mean_of_diffusion_under_poisson_restart(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    # The mean exceeds the largest float where the exponent is above 709.
    for log_distance, log_diffusivity, log_exponent in random_sets(
        seed, "mean", (-3, 3), (-3, 3), (-5, math.log10(650))
    ):
        distance, diffusivity = 10**log_distance, 10**log_diffusivity
        rate = diffusivity * (10**log_exponent / distance) ** 2
        ours.append(Restarted(Brownian(distance, diffusivity), Exponential(rate)).mean)
        wrong.append(Restarted(Brownian(distance, 2 * diffusivity), Exponential(rate)).mean)
        theirs.append(entry("K0015")(distance, rate, diffusivity))
    assert_agreement(ours, theirs, wrong)


def test_k0016_best_rate_of_diffusion(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    for log_distance, log_diffusivity in random_sets(seed, "best rate", (-3, 3), (-3, 3)):
        distance, diffusivity = 10**log_distance, 10**log_diffusivity
        best, other = (optimal_rate(Brownian(distance, used)) for used in (diffusivity, 2 * diffusivity))
        rate = entry("K0016")(distance, diffusivity)
        ours.append((best.value, best.mean))
        wrong.append((other.value, other.mean))
        theirs.append((rate, entry("K0015")(distance, rate, diffusivity)))
    assert_agreement(ours, theirs, wrong)


# kramers rounds T~ to double precision and takes r T~' - T~ + 1 from it, with T~' a difference over 1e-4 r: an error of
# 1e-16 over that sum, of which the difference makes 1e-12 r T~'. So T~ and the rate are numbers of mpmath here, and T~
# is not nearer to 1 than about 0.002. The last tests show both losses.


def drift_diffusion_transform(law: DriftDiffusion) -> Callable[[float], Any]:
    distance, drift, diffusivity = (mp.mpf(value) for value in (law.distance, law.drift, law.diffusivity))
    return lambda s: mp.exp(distance * (drift - mp.sqrt(drift**2 + 4 * diffusivity * s)) / (2 * diffusivity))


def interval_transform(law: Interval) -> Callable[[float], Any]:
    length, start = mp.mpf(law.length), mp.mpf(law.start)

    def transform(s: float) -> Any:
        root = mp.sqrt(s / mp.mpf(law.diffusivity))
        return mp.cosh(root * (start - length / 2)) / mp.cosh(root * length / 2)

    return transform


def ornstein_uhlenbeck_transform(law: OrnsteinUhlenbeck) -> Callable[[float], Any]:
    unit = mp.sqrt(mp.mpf(law.stiffness) / law.diffusivity)
    sign = 1 if law.start < law.target else -1
    x, a = sign * law.start * unit, sign * law.target * unit

    def transform(s: float) -> Any:
        order = -s / mp.mpf(law.stiffness)
        return mp.exp((x * x - a * a) / 4) * mp.pcfd(order, -x) / mp.pcfd(order, -a)

    return transform


def assert_moments_under_restart(
    cases: list[tuple[float, PassageLaw, PassageLaw]], transform: Callable[[Any], Callable[[float], Any]]
) -> None:
    """K0017 at a rate, for a law and one that is wrong."""
    ours, theirs, wrong = [], [], []
    with mpmath.workdps(30):
        for rate, law, other in cases:
            theirs.append(entry("K0017")(transform(law), mp.mpf(rate)))
            for results, used in ((ours, law), (wrong, other)):
                restarted = Restarted(used, Exponential(rate))
                results.append((restarted.mean, restarted.moment(2)))
    assert_agreement(ours, theirs, wrong)


def test_k0017_drift_diffusion_under_poisson_restart(seed: int) -> None:
    cases = []
    for log_distance, log_diffusivity, ratio, log_exponent in random_sets(
        seed, "drift", (-3, 3), (-3, 3), (-20, 20), (-2, math.log10(300))
    ):
        distance, diffusivity = 10**log_distance, 10**log_diffusivity
        drift = ratio * diffusivity / distance
        # The rate at which T~ is e^-exponent; it exceeds the probability to arrive without restarts nowhere.
        exponent = max(-ratio, 0.0) + 10**log_exponent
        rate = exponent * (exponent + ratio) * diffusivity / distance**2
        cases.append(
            (rate, DriftDiffusion(distance, drift, diffusivity), DriftDiffusion(distance, drift, 2 * diffusivity))
        )
    assert_moments_under_restart(cases, drift_diffusion_transform)


def test_k0017_interval_under_poisson_restart(seed: int) -> None:
    cases = []
    for log_length, log_diffusivity, place, log_root in random_sets(
        seed, "two ends", (-3, 3), (-3, 3), (0.05, 0.95), (-0.5, 2.5)
    ):
        length, diffusivity = 10**log_length, 10**log_diffusivity
        rate = diffusivity * (10**log_root / length) ** 2
        cases.append((rate, *(Interval(length, place * length, used) for used in (diffusivity, 2 * diffusivity))))
    assert_moments_under_restart(cases, interval_transform)


def test_k0017_ornstein_uhlenbeck_under_poisson_restart(seed: int) -> None:
    cases = []
    for log_unit, log_stiffness, target, log_gap, sign, log_ratio in random_sets(
        seed, "harmonic", (-3, 3), (-3, 3), (-3, 5), (-1, 0.7), (-1, 1), (-1, 1.5)
    ):
        stiffness = 10**log_stiffness
        unit = math.copysign(10**log_unit, sign)  # a length, and the side from which the target is approached
        start, end = (target - 10**log_gap) * unit, target * unit
        laws = (OrnsteinUhlenbeck(start, end, stiffness, used * stiffness * unit**2) for used in (1, 2))
        cases.append((10**log_ratio * stiffness, *laws))
    assert_moments_under_restart(cases, ornstein_uhlenbeck_transform)


def test_k0018_slope_at_rare_restarts(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    for log_distance, log_diffusivity, log_ratio in random_sets(seed, "slope", (-3, 3), (-3, 3), (-2, 2)):
        distance, diffusivity = 10**log_distance, 10**log_diffusivity
        drift = 10**log_ratio * diffusivity / distance
        mean, variance = distance / drift, 2 * diffusivity * distance / drift**3
        theirs.append(entry("K0018")(mean, variance + mean**2))
        for results, used in ((ours, diffusivity), (wrong, 2 * diffusivity)):
            law = DriftDiffusion(distance, drift, used)
            criterion = restart_helps(law)
            slope = (criterion.threshold - criterion.cv_squared) * law.mean**2 / 2
            results.append((poisson_slope(law.mean, law.moment(2), law.mean), slope))
        assert restart_helps(DriftDiffusion(distance, drift, diffusivity)).helps == (theirs[-1] < 0)
    assert_agreement(ours, np.transpose([theirs, theirs]).tolist(), wrong)


# kramers divides by 1 - Psi(P), so P is not earlier than where that is about 1e-6; Psi is given by textbook formulas.


def drift_diffusion_survival(law: DriftDiffusion) -> Callable[[float], float]:
    def survival(time: float) -> float:
        if time == 0:
            return 1.0
        width = math.sqrt(2 * law.diffusivity * time)
        ahead, moved, weight = (
            law.distance / width,
            law.drift * time / width,
            law.drift * law.distance / law.diffusivity,
        )
        return max(0.0, float(ndtr(ahead - moved) - np.exp(weight + log_ndtr(-ahead - moved))))

    return survival


def centre_survival(law: OrnsteinUhlenbeck) -> Callable[[float], float]:
    distance = abs(law.start) * math.sqrt(law.stiffness / (2 * law.diffusivity))
    return lambda time: float(erf(distance / math.sqrt(math.expm1(2 * law.stiffness * time)))) if time > 0 else 1.0


def test_k0019_sharp_restart_of_drift_diffusion(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    for log_distance, log_diffusivity, ratio, log_time in random_sets(
        seed, "sharp", (-3, 3), (-3, 3), (-3, 10), (-1.5, 2.5)
    ):
        distance, diffusivity = 10**log_distance, 10**log_diffusivity
        interval, drift = 10**log_time * distance**2 / diffusivity, ratio * diffusivity / distance
        for driven in (drift, 0.0):
            law, other = (DriftDiffusion(distance, driven, used) for used in (diffusivity, 2 * diffusivity))
            ours.append(Restarted(law, Deterministic(interval)).mean)
            wrong.append(Restarted(other, Deterministic(interval)).mean)
            theirs.append(entry("K0019")(drift_diffusion_survival(law), interval))
    assert_agreement(*(np.reshape(values, (SETS, 2)).tolist() for values in (ours, theirs, wrong)))


def test_k0019_sharp_restart_of_ornstein_uhlenbeck(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    for log_unit, log_stiffness, log_start, log_argument in random_sets(
        seed, "sharp harmonic", (-3, 3), (-3, 3), (-1, 0.7), (-3, 0.5)
    ):
        stiffness, diffusivity = 10**log_stiffness, 10 ** (log_stiffness + 2 * log_unit)
        start = 10 ** (log_start + log_unit)
        # The interval with a survival of erf(argument).
        interval = math.log1p(100 ** (log_start - log_argument) / 2) / (2 * stiffness)
        law, other = (OrnsteinUhlenbeck(start, 0.0, stiffness, used) for used in (diffusivity, 2 * diffusivity))
        ours.append(Restarted(law, Deterministic(interval)).mean)
        wrong.append(Restarted(other, Deterministic(interval)).mean)
        theirs.append(entry("K0019")(centre_survival(law), interval))
    assert_agreement(ours, theirs, wrong)


# ---- The quadrature solver -------------------------------------------------------------------------------------------


def random_potentials(seed: int, name: str) -> list[tuple[Potential, Callable[[Any], Any], float, list[float]]]:
    """Quartic potentials with ripples, as ours and as a function; diffusivities; three positions in ascending order.

    Barriers are below 210 D, so that E[T^2] is a number: where it is not, kramers warns of the overflow that we
    document as ``inf``.
    """
    result = []
    for log_quartic, cubic, square, slope, ripple, wave, log_diffusivity, *positions in random_sets(
        seed, name, (-1, 1), (-1, 1), (-3, 3), (-1, 1), (-1, 1), (0.5, 4), (-0.5, 1), *[(-1.5, 1.5)] * 3
    ):
        text = f"{10**log_quartic}*x**4 + {cubic}*x**3 + {square}*x**2 + {slope}*x + {ripple}*cos({wave}*x)"

        def function(x: Any, powers=(10**log_quartic, cubic, square, slope, 0.0), ripple=ripple, wave=wave) -> Any:
            return np.polyval(powers, x) + ripple * np.cos(wave * x)

        result.append((Potential(text), function, 10**log_diffusivity, sorted(positions)))
    return result


def solver(function: Callable[[Any], Any], diffusivity: float, **conditions: Any) -> Any:
    return kramers.FirstPassage1D(potential=lambda x: function(x) / diffusivity, D=diffusivity, **conditions)


def test_quadrature_of_passage_to_one_target(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    for index, (potential, function, diffusivity, places) in enumerate(random_potentials(seed, "target")):
        upward, wall = index % 2 == 0, index % 4 < 2
        far, start, target = places if upward else places[::-1]
        domain = sorted((far if wall else math.copysign(math.inf, far - target), target))
        ends = ["reflecting" if wall else "natural", "absorbing"]
        left, right = ends if upward else ends[::-1]
        theirs.append(solver(function, diffusivity, domain=domain, left=left, right=right).moments(start, 2).value)
        for results, used in ((ours, diffusivity), (wrong, 2 * diffusivity)):
            ways = {"diffusivity": used, "start": start, "target": target, "reflecting": far if wall else None}
            results.append((mean_escape_time(potential, **ways), second_moment(potential, **ways)))
    assert_agreement(ours, theirs, wrong)


def test_quadrature_of_exit_from_an_interval(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    for potential, function, diffusivity, (lower, start, upper) in random_potentials(seed, "exit"):
        problem = solver(function, diffusivity, domain=(lower, upper), left="absorbing", right="absorbing")
        theirs.append([*problem.moments(start, 2).value, float(problem.splitting(start))])
        for results, used in ((ours, diffusivity), (wrong, 2 * diffusivity)):
            found = interval_exit(potential, diffusivity=used, start=start, lower=lower, upper=upper)
            results.append((found.mean, found.second_moment, found.upper_probability))
    assert_agreement(ours, theirs, wrong)


def test_quadrature_of_an_ornstein_uhlenbeck_process(seed: int) -> None:
    ours, theirs, wrong = [], [], []
    # Up to 12 standard deviations uphill: a barrier of 72 D.
    for log_stiffness, log_diffusivity, target, log_gap in random_sets(
        seed, "bowl", (-1, 1), (-1, 1), (-4, 12), (-2, 1)
    ):
        stiffness, diffusivity = 10**log_stiffness, 10**log_diffusivity
        unit = math.sqrt(diffusivity / stiffness)
        start, end = (target - 10**log_gap) * unit, target * unit

        def function(x: Any, stiffness=stiffness) -> Any:
            return stiffness * x * x / 2

        problem = solver(function, diffusivity, domain=(-math.inf, end), left="natural", right="absorbing")
        mean, square = problem.moments(start, 2).value
        theirs.append((mean, square, mean))
        for results, used in ((ours, diffusivity), (wrong, 2 * diffusivity)):
            law = OrnsteinUhlenbeck(start, end, stiffness, used)
            integral = mean_escape_time(harmonic(stiffness), diffusivity=used, start=start, target=end)
            results.append((law.mean, law.moment(2), integral))
    assert_agreement(ours, theirs, wrong)


# ---- Where kramers loses digits: mpmath tells who is right -----------------------------------------------------------


def test_k0012_loses_digits_near_an_end() -> None:
    start, drift = 1e-5, 0.13
    with mpmath.workdps(40):
        exact = float((mp.expm1(-drift * start) / mp.expm1(-drift) - start) / drift)
    found = interval_exit(linear(drift), diffusivity=1.0, start=start, lower=0.0, upper=1.0)
    assert found.mean == pytest.approx(exact, rel=1e-13)
    assert abs(entry("K0012")(start, 1.0, drift, 1.0).mean_time / exact - 1) > TOLERANCE


@pytest.mark.parametrize("rate", [1e-4, 1e-5])
def test_k0017_loses_digits_at_rare_restarts(rate: float) -> None:
    law = DriftDiffusion(1.0, 4.0, 1.0)
    with mpmath.workdps(60):
        transform = drift_diffusion_transform(law)
        arrived, slope = transform(mp.mpf(rate)), mp.diff(transform, mp.mpf(rate))
        exact = float(2 * (rate * slope - arrived + 1) / (rate * arrived) ** 2)
        assert Restarted(law, Exponential(rate)).moment(2) == pytest.approx(exact, rel=1e-13)
        in_doubles = entry("K0017")(lambda s: float(transform(s)), rate).second_moment
        rounded_once = entry("K0017")(transform, mp.mpf(rate)).second_moment
    assert abs(in_doubles / exact - 1) > 1e5 * TOLERANCE
    assert abs(rounded_once / exact - 1) > 10 * TOLERANCE


@pytest.mark.parametrize("interval", [0.012, 0.01])
def test_k0019_loses_digits_at_early_restarts(interval: float) -> None:
    law = Brownian(1.0, 1.0)
    with mpmath.workdps(30):
        period = mp.mpf(interval)
        area: Any = mpmath.quad(lambda t: mp.erf(1 / mp.sqrt(4 * t)), [0, period / 2, period])
        exact = float(area / mp.erfc(1 / mp.sqrt(4 * period)))
    assert Restarted(law, Deterministic(interval)).mean == pytest.approx(exact, rel=1e-13)
    assert abs(entry("K0019")(drift_diffusion_survival(law), interval) / exact - 1) > TOLERANCE
