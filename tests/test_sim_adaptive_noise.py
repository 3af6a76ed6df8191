"""Noise in closed loop: variances and passages beside theory, the kernel's machine beside that of the library."""

import math
from typing import Any

import numpy as np
import pytest

from sim.adaptive_noise import (
    Landscape,
    SimulatedTrainings,
    constant_of_equal_noise,
    double_well_landscape,
    quadratic_landscape,
    simulate_adaptive_noise,
)
from sim.random_streams import stream
from theory.adaptive_noise import mean_passage_steps, noisy_variances, relative_variances
from theory.estimate import AGREEMENT_P_VALUE, Estimate, compare
from theory.gradient_noise import WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.noise_schedule import KINDS, NoiseSchedule, injected
from theory.potentials import Potential
from theory.training_phases import PHASES, PhaseMachine, PhaseThresholds

CURVATURES = (1.0, 5.0, 40.0)
OPTIMIZER: dict[str, Any] = {"learning_rate": 0.01, "momentum": 0.8}
FALLING = double_well_landscape(
    tilt=0.05, curvature=[0.5, 1.0, 3.0], start=4.0, noise=[0.3, 1.0, 1.0, 1.0], noise_gain=300.0
)


def agrees(measured: Estimate, predicted: float, margin: float = 0.0) -> bool:
    return compare("", Estimate(float(predicted), 0.0, 1), measured, margin=margin).p_value > AGREEMENT_P_VALUE


def fixed(epsilon: float) -> NoiseSchedule:
    return NoiseSchedule("fixed", (0.0, epsilon, 0.0))


def falling(schedule: NoiseSchedule, seed: int, **options: Any) -> SimulatedTrainings:
    values: dict[str, Any] = {"learning_rate": 0.004, "momentum": 0.5, "steps": 3000, "replicas": 64}
    return simulate_adaptive_noise(FALLING, schedule, stream(seed, "falling"), **(values | options))


# ---- Beside theory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "epsilon"), [("absolute", 0.02), ("relative_update", 0.5)])
def test_variances_at_constant_noise(seed: int, mode: str, epsilon: float) -> None:
    batches = WhiteNoise(0.25)
    modes = HeavyBall(OPTIMIZER["learning_rate"], CURVATURES, OPTIMIZER["momentum"])
    simulated = simulate_adaptive_noise(
        quadratic_landscape(CURVATURES, noise=0.5),
        fixed(epsilon),
        stream(seed, "quadratic"),
        mode=mode,
        steps=3000,
        burn_in=500,
        replicas=512,
        **OPTIMIZER,
    )
    exact = (
        noisy_variances(modes, epsilon, batches)
        if mode == "absolute"
        else relative_variances(modes, mode, epsilon, batches)
    )
    assert all(map(agrees, simulated.weight_variance, exact.weight))
    assert all(map(agrees, simulated.update_variance, exact.update))
    # Plausible and wrong: noise that enters the velocity; no noise; updates measured after it.
    size = math.sqrt(simulated.injected.mean())
    plain = noisy_variances(modes, 0.0, batches)
    velocity = noisy_variances(modes, 0.0, WhiteNoise(0.25 + (size / OPTIMIZER["learning_rate"]) ** 2))
    for k in range(3):
        assert not agrees(simulated.weight_variance[k], velocity.weight[k])
        assert not agrees(simulated.weight_variance[k], plain.weight[k]) or (mode == "relative_update" and k == 0)
        assert not agrees(simulated.update_variance[k], exact.update[k] + size**2)
    if mode == "absolute":
        assert simulated.injected == pytest.approx(epsilon**2, rel=1e-12)


def test_steps_out_of_a_well(seed: int) -> None:
    well = double_well_landscape(tilt=0.1, noise=0.5)
    wanted: dict[str, Any] = {"learning_rate": 0.002, "momentum": 0.5}
    potential = Potential("(x**2 - 1)**2 - 0.1 * x")
    sizes: dict[str, Any] = {"gradient_noise": 0.5, "start": float(well.start[0]), "target": well.target}
    predicted = mean_passage_steps(potential, epsilon=0.09, **sizes, **wanted)
    schedule = NoiseSchedule("fixed", (0.0, 0.09, 0.0))
    simulated = simulate_adaptive_noise(
        well, schedule, stream(seed, "well"), steps=int(10 * predicted), replicas=512, **wanted
    )
    assert agrees(simulated.restricted_passage, predicted, margin=0.05)
    assert simulated.found.value > 0.99
    # Wrong: time by the learning rate alone; noise that enters the velocity.
    assert not agrees(simulated.restricted_passage, predicted / 0.5, margin=0.05)
    hot = mean_passage_steps(potential, epsilon=0.09 / 0.5, **sizes, **wanted)
    assert not agrees(simulated.restricted_passage, hot, margin=0.05)


# ---- The loop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "machine",
    [
        PhaseMachine(horizon=3, min_dwell=2),
        PhaseMachine(horizon=3, min_dwell=10, monotone=True),
        PhaseMachine(PhaseThresholds(0.6, 0.04, 0.06, 0.01, absolute=True), horizon=5, min_dwell=0),
    ],
    ids=["dwelling", "monotone", "absolute"],
)
def test_the_machine_of_the_kernel_is_that_of_the_library(seed: int, machine: PhaseMachine) -> None:
    # Fast, so that all phases come within the steps that are recorded one by one.
    land = quadratic_landscape([1.0, 3.0], start=3.0, noise=0.2, noise_gain=50.0)
    schedule = NoiseSchedule("full", (3e-3, 2e-3, 1e-3), 0.05)
    found = simulate_adaptive_noise(
        land, schedule, stream(seed, "kernel"), learning_rate=0.03, steps=200, replicas=70, machine=machine
    )
    assert found.recorded.tolist() == list(range(1, 201))
    seen = set()
    for replica in range(70):
        own = PhaseMachine(
            machine.thresholds, horizon=machine.horizon, min_dwell=machine.min_dwell, monotone=machine.monotone
        )
        metrics = zip(found.gradient_variances[replica].tolist(), found.update_sizes[replica].tolist(), strict=True)
        path = [own.update(variance, size) for variance, size in metrics]
        assert [PHASES[phase] for phase in found.phases[replica]] == path
        assert found.injected[replica] * 200 == pytest.approx(injected(schedule, path), rel=1e-10)
        seen |= set(path)
    assert seen == set(PHASES)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_schedules_inject_what_theory_says(kind: str, seed: int) -> None:
    schedule = NoiseSchedule(kind, (3e-3, 2e-3, 1e-3), 0.01)
    found = falling(schedule, seed, steps=200, replicas=3, machine=PhaseMachine(min_dwell=5))
    for phases, mean in zip(found.phases, found.injected, strict=True):
        assert mean * 200 == pytest.approx(injected(schedule, [PHASES[phase] for phase in phases]), rel=1e-10)


def test_phases_come_in_order_and_equal_noise_is_equal(seed: int) -> None:
    found = falling(NoiseSchedule("full", (0.05, 0.02, 0.005)), seed)
    shares = found.phase_shares
    assert shares.sum(axis=0) == pytest.approx(1)
    assert shares[0, 0] == 1
    assert shares[:, -1].argmax() == 2
    first = [int((shares[phase] > 0.5).argmax()) for phase in range(3)]
    assert first == sorted(first)
    control = constant_of_equal_noise(found)
    equal = falling(control, seed)
    assert equal.injected.mean() == pytest.approx(found.injected.mean(), rel=1e-10)
    assert control.kind == "fixed"
    # Noise that is gone at the end leaves a lower loss than as much of it throughout.
    assert found.final_loss.value < equal.final_loss.value - 3 * equal.final_loss.standard_error


def test_early_noise_crosses_a_barrier_that_equal_noise_does_not(seed: int) -> None:
    found = falling(NoiseSchedule("full", (0.15, 0.02, 0.005)), seed, replicas=128)
    equal = falling(constant_of_equal_noise(found), seed, replicas=128)
    none = falling(NoiseSchedule("none"), seed, replicas=128)
    assert found.found.value > equal.found.value + 0.2
    assert found.restricted_passage.value < equal.restricted_passage.value
    assert none.found.value < 0.05
    assert none.restricted_passage.value <= 3000


def test_runs_differ_by_their_schedules_only_and_not_by_threads(seed: int) -> None:
    one, two = (falling(fixed(0.01), seed, steps=300, replicas=130, threads=threads) for threads in (1, 2))
    part = falling(fixed(0.01), seed, steps=300, replicas=5)
    assert np.array_equal(one.losses, two.losses)
    assert np.array_equal(one.losses[:5], part.losses)
    near = falling(fixed(0.01 + 1e-9), seed, steps=300, replicas=5)
    assert np.allclose(near.losses, part.losses, rtol=1e-4)
    assert not np.array_equal(near.losses, part.losses)
    assert np.array_equal(
        falling(fixed(0.0), seed, steps=50).losses, falling(NoiseSchedule("none"), seed, steps=50).losses
    )


def test_squares_are_summed_after_the_burn_in_only(seed: int) -> None:
    land = quadratic_landscape([1.0], start=100.0, noise=0.1)
    found = simulate_adaptive_noise(
        land, fixed(0.0), stream(seed, "burn"), learning_rate=0.1, steps=400, burn_in=300, replicas=50
    )
    assert found.weight_variance[0].value < 1


# ---- Landscapes ------------------------------------------------------------------------------------------------------


def test_wells_and_heights() -> None:
    well = double_well_landscape(barrier=2.0, tilt=0.4, curvature=[1.0, 4.0], start=[1.0, 2.0])
    u = np.polynomial.Polynomial([2.0, -0.4, -4.0, 0.0, 2.0])
    assert u.deriv()(well.start[0]) == pytest.approx(0, abs=1e-9)
    assert u.deriv()(well.target) == pytest.approx(0, abs=1e-9)
    assert well.height == pytest.approx(u(well.start[0]) - u(well.target) + 0.5 + 8, rel=1e-12)
    assert well.start.tolist()[1:] == [1.0, 2.0]
    assert quadratic_landscape([2.0, 4.0], start=[1.0, 3.0]).height == pytest.approx(1 + 18)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quadratic_landscape([0.0]), "must be that of a coordinate with a lowest loss"),
        (lambda: quadratic_landscape([-1.0]), "must be that of a coordinate with a lowest loss"),
        (lambda: quadratic_landscape([1.0], noise=-1.0), "noise finite and >= 0"),
        (lambda: quadratic_landscape([1.0], noise_gain=1.0), r"noise_gain=1.0 needs a start above the bottom"),
        (lambda: quadratic_landscape([1.0], noise_gain=-1.0), r"noise_gain=-1.0 must be finite and >= 0"),
        (lambda: double_well_landscape(barrier=0.0), r"barrier=0.0 must be finite and > 0"),
        (lambda: double_well_landscape(tilt=1.5), r"tilt=1.5 must be >= 0 and below 1.5 times the barrier"),
        (lambda: quadratic_landscape([1e200], start=1e100), "slope and start are too large"),
        (lambda: Landscape(np.ones((1, 3)), np.ones(1), np.ones(1)), r"of shapes \(1, 3\), \(1,\) and \(1,\)"),
    ],
)
def test_landscapes_that_make_no_sense(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sgld"}, "mode='sgld' must be absolute or relative_update here"),
        ({"momentum": 1.0}, r"momentum=1.0 must satisfy"),
        ({"learning_rate": 0.0}, r"learning_rate=0.0 must be finite and > 0"),
        ({"learning_rate": 10.0, "steps": 3000}, r"learning_rate=10.0: replicas diverge; lower the learning rate"),
        ({"burn_in": 5, "steps": 5}, "burn_in=5 must be below the 5 steps"),
        ({"replicas": 1}, "replicas=1 must be"),
        ({"steps": 0}, "steps=0 must be"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        falling(NoiseSchedule(), 0, **({"steps": 20, "replicas": 2} | options))
