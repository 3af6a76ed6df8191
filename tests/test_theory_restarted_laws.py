"""The law of a restarted passage: survival, density, samples and restricted means, held against one another."""

import numpy as np
import pytest

from sim.random_streams import stream
from theory.diffusion_laws import Brownian, DriftDiffusion
from theory.estimate import agreement
from theory.heavy_tailed_times import LogNormal
from theory.passage_laws import Deterministic
from theory.resetting import Restarted
from theory.waiting_times import Exponential, Gamma, Hyperexponential, erlang

HYPER = Hyperexponential((0.5, 0.5), (10.0, 0.1))

SMOOTH = [
    Restarted(HYPER, Exponential(2.0)),
    Restarted(LogNormal(0.0, 1.0), Gamma(2.0, 0.8)),
    Restarted(Brownian(1.0, 1.0), Exponential(1.0), 0.5),
    Restarted(erlang(3, 2.0), Exponential(0.7), Gamma(2.0, 0.3), after=HYPER),
    pytest.param(Restarted(erlang(3, 2.0), Gamma(3.0, 0.5), Deterministic(2.0), after=HYPER), marks=pytest.mark.slow),
]
SHARP = [
    Restarted(HYPER, Deterministic(0.5)),
    Restarted(LogNormal(0.0, 1.0), Deterministic(2.0), 0.3, after=HYPER),
    Restarted(Brownian(1.0, 1.0), Deterministic(0.4), Deterministic(1.0)),
]


@pytest.mark.parametrize("restarted", SMOOTH + SHARP)
def test_survival_integrates_to_the_transform(restarted: Restarted) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(8)
    edges = np.concatenate([[0], np.geomspace(0.1, 14, 7)])
    if isinstance(restarted.timer, Deterministic):
        edges = np.concatenate([[0], np.geomspace(1e-3, 0.05, 8), np.arange(0.1, 20.05, 0.1)])  # no kink inside a panel
    half = np.diff(edges)[:, None] / 2
    times = edges[:-1, None] + half * (nodes + 1)
    integral = float((half * weights * np.exp(-times) * restarted.survival(times)).sum())
    assert integral == pytest.approx(restarted.survival_integral(0, 1.0), abs=3e-6)


@pytest.mark.parametrize("restarted", SMOOTH + SHARP)
def test_density_is_the_derivative_of_the_survival(restarted: Restarted) -> None:
    times = np.array([0.07, 0.23, 0.62, 1.57, 4.13])
    step = 1e-3
    values = [restarted.survival(times + k * step) for k in (-2, -1, 1, 2)]
    derivative = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    assert restarted.density(times) == pytest.approx(-derivative, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("restarted", SMOOTH + SHARP)
def test_samples_have_the_law(restarted: Restarted, seed: int) -> None:
    times = restarted.sample(40_000, stream(seed, "restarted"))
    discounted = np.exp(-times / 2)
    assert agreement(discounted, restarted.laplace(0.5))
    # Negative control: the same law without restarts, or with another cost of them.
    wrong = Restarted(restarted.law, restarted.timer, 0.8, restarted.after).laplace(0.5)
    assert not agreement(discounted, wrong)
    for time in (0.5, 1.3, 3.0):
        assert agreement(np.where(times > time, 1.0, 0.0), float(restarted.survival(time)))


def test_sharp_survival_by_hand() -> None:
    law = Restarted(HYPER, Deterministic(0.5), 0.25)
    psi = float(HYPER.survival(0.5))
    times = [0.0, 0.2, 0.5, 0.6, 0.75, 0.85, 1.3, 1.6]
    expected = [
        1.0,
        float(HYPER.survival(0.2)),
        psi,
        psi,
        psi,
        psi * float(HYPER.survival(0.1)),
        psi**2,
        psi**2 * float(HYPER.survival(0.1)),
    ]
    assert law.survival(times) == pytest.approx(expected, rel=1e-13)
    assert law.survival(0.6).shape == ()
    assert law.density([0.6, 0.85]) == pytest.approx([0.0, psi * float(HYPER.density(0.1))], rel=1e-13)


def test_restarted_laws_can_be_restarted() -> None:
    # Poisson restarts of the rates a and b are Poisson restarts of the rate a + b.
    twice = Restarted(Restarted(HYPER, Exponential(1.5)), Exponential(0.5))
    once = Restarted(HYPER, Exponential(2.0))
    assert twice.mean == pytest.approx(once.mean, rel=1e-13)
    assert twice.moment(2) == pytest.approx(once.moment(2), rel=1e-13)
    assert twice.laplace(0.4) == pytest.approx(once.laplace(0.4), rel=1e-13)
    assert twice.survival(1.0) == pytest.approx(once.survival(1.0), abs=1e-8)
    inner = Restarted(Restarted(HYPER, Deterministic(0.5)), Deterministic(1.0))  # the second adds nothing
    assert inner.mean == pytest.approx(Restarted(HYPER, Deterministic(0.5)).mean, rel=1e-12)


def test_restricted_means() -> None:
    poisson, sharp = Restarted(HYPER, Exponential(2.0)), Restarted(HYPER, Deterministic(0.5))
    for law in (poisson, sharp):
        nodes, weights = np.polynomial.legendre.leggauss(40)
        edges = np.arange(0, 3.01, 0.25)
        half = np.diff(edges)[:, None] / 2
        integral = (half * weights * law.survival(edges[:-1, None] + half * (nodes + 1))).sum()
        assert law.restricted_mean(3.0) == pytest.approx(integral, abs=1e-8)
        assert law.restricted_mean(0.0) == 0
    assert sharp.moment(3) > sharp.moment(2) * sharp.mean


@pytest.mark.parametrize("end", [0.1, 0.3, 0.4, 0.5, 1.3, 2.7, 7.3])
@pytest.mark.parametrize(("interval", "overhead"), [(0.5, 0.0), (0.3, 0.2), (2.0, 0.7)])
def test_restricted_means_under_sharp_restart(interval: float, overhead: float, end: float) -> None:
    law = Restarted(DriftDiffusion(1.0, -1.0, 1.0), Deterministic(interval), overhead, after=Brownian(2.0, 1.0))
    cycle = interval + overhead
    breaks = {k * cycle + shift for k in range(int(end / cycle) + 1) for shift in (0.0, interval)}
    edges = np.unique(np.minimum([*breaks, *np.linspace(0, end, 200)], end))
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half = np.diff(edges)[:, None] / 2
    integral = (half * weights * law.survival(edges[:-1, None] + half * (nodes + 1))).sum()
    assert law.restricted_mean(end) == pytest.approx(integral, rel=1e-9)


def test_restricted_means_of_hardly_any_or_certain_success() -> None:
    never, always = Restarted(erlang(2, 1.0), Deterministic(1e-9)), Restarted(Deterministic(1.0), Deterministic(2.0))
    assert never.restricted_mean(3.5) == pytest.approx(3.5 - 5e-10 * 3.5**2 / 2, rel=1e-13)
    assert [always.restricted_mean(end) for end in (0.5, 1.0, 5.0)] == [0.5, 1.0, 1.0]
