"""Simulated SGD on a quadratic: jostle against NumPy, PyTorch and torch.optim.SGD; and the theory for many eigenvalues.

    python benchmarks/weight_variance.py [--quick] [--csv FILE]

64 directions, 64 replicas each, momentum 0.9, epochs of 50 batches: 2150 steps, of which 2000 are recorded. Noise:
Gaussian, independent or of zero sum in each epoch; drawing it is part of the time. All candidates take turns in one
process on one thread, and the best of several short turns counts, as others may use the machine too. PyTorch runs if it
can be imported; its default is float32, all else is float64. Bias is that of the weight variance, of all turns and
directions together, beside its standard error.
"""

import argparse
import functools
import importlib
import itertools
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from headlines import headline

from sim.random_streams import stream
from sim.weight_variance import simulate_weight_variance
from theory.gradient_noise import Reshuffled, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.weight_variance import stationary_variances

DIRECTIONS, REPLICAS, BATCHES, BURN_IN, STEPS, MOMENTUM = 64, 64, 50, 150, 2000, 0.9
MODES = HeavyBall(learning_rate=1.0, curvature=np.geomspace(0.01, 1.0, DIRECTIONS), momentum=MOMENTUM)
NOISES = {"white": WhiteNoise(), "reshuffled": Reshuffled(BATCHES)}
EXACT = {name: stationary_variances(MODES, noise).weight for name, noise in NOISES.items()}
UPDATES = DIRECTIONS * REPLICAS * (BURN_IN + STEPS)

Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""turn -> weight variance of each direction and its standard error."""


@dataclass
class Candidate:
    """One way to simulate one noise."""

    noise: str
    name: str
    draw: Draw
    seconds: list[float] = field(default_factory=list)
    ratios: list[np.ndarray] = field(default_factory=list)
    errors: list[np.ndarray] = field(default_factory=list)

    def turn(self, number: int) -> None:
        begin = time.perf_counter()
        value, error = self.draw(number)
        self.seconds.append(time.perf_counter() - begin)
        self.ratios.append(value / EXACT[self.noise])
        self.errors.append(error / EXACT[self.noise])

    @property
    def nanoseconds(self) -> float:
        """For one step of one direction of one replica."""
        return 1e9 * min(self.seconds) / UPDATES

    @property
    def bias(self) -> tuple[float, float]:
        count = len(self.ratios) * DIRECTIONS
        return float(np.mean(self.ratios)) - 1, math.sqrt(float((np.array(self.errors) ** 2).sum())) / count


def jostle(noise: str) -> Draw:
    def draw(turn: int) -> tuple[np.ndarray, np.ndarray]:
        simulated = simulate_weight_variance(
            MODES, NOISES[noise], stream(turn, "jostle"), steps=STEPS, burn_in=BURN_IN, replicas=REPLICAS, threads=1
        )
        variances = simulated.weight_variance
        return np.array([e.value for e in variances]), np.array([e.standard_error for e in variances])

    return draw


def over_replicas(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From sums over steps, shape (replicas, directions)."""
    squares = squares / STEPS
    return squares.mean(axis=0), squares.std(axis=0, ddof=1) / math.sqrt(len(squares))


SHAPE = (REPLICAS, DIRECTIONS)


def step_by_step(noise: str, normals: Callable[..., Any]) -> Iterator[Any]:
    """The noise of each step, shape (replicas, directions), by NumPy or PyTorch; epochs are drawn at once."""
    while True:
        if noise == "white":
            yield normals(SHAPE)
        else:
            epoch = normals((BATCHES, *SHAPE))
            epoch -= epoch.mean(0)
            epoch *= math.sqrt(BATCHES / (BATCHES - 1))
            yield from epoch


def numpy_vectorised(noise: str) -> Draw:
    """What one writes: all replicas and directions step together."""
    curvature = np.asarray(MODES.curvature)

    def draw(turn: int) -> tuple[np.ndarray, np.ndarray]:
        rng = stream(turn, "numpy")
        theta, velocity, squares = np.zeros(SHAPE), np.zeros(SHAPE), np.zeros(SHAPE)
        for step, xi in enumerate(itertools.islice(step_by_step(noise, rng.standard_normal), BURN_IN + STEPS)):
            velocity *= MOMENTUM
            velocity -= curvature * theta
            velocity -= xi
            theta += velocity
            if step >= BURN_IN:
                squares += theta * theta
        return over_replicas(squares)

    return draw


def torch_vectorised(torch: Any, noise: str, dtype: Any, *, optimizer: bool) -> Draw:
    """The same with PyTorch; with torch.optim.SGD the gradients come from autograd, as in training."""
    curvature = torch.tensor(np.asarray(MODES.curvature), dtype=dtype)

    def draw(turn: int) -> tuple[np.ndarray, np.ndarray]:
        normals = functools.partial(torch.randn, dtype=dtype, generator=torch.Generator().manual_seed(turn))
        theta, squares = torch.zeros(SHAPE, dtype=dtype), torch.zeros(SHAPE, dtype=dtype)
        velocity, sgd = torch.zeros(SHAPE, dtype=dtype), None
        if optimizer:
            theta.requires_grad_()
            sgd = torch.optim.SGD([theta], lr=1.0, momentum=MOMENTUM)
        for step, xi in enumerate(itertools.islice(step_by_step(noise, normals), BURN_IN + STEPS)):
            if sgd is None:
                velocity.mul_(MOMENTUM).addcmul_(curvature, theta, value=-1).sub_(xi)
                theta += velocity
            else:
                sgd.zero_grad()
                (0.5 * curvature * theta**2 + xi * theta).sum().backward()
                sgd.step()
            if step >= BURN_IN:
                squares.addcmul_(theta.detach(), theta.detach())
        return over_replicas(squares.double().numpy())

    return draw


def candidates() -> tuple[list[Candidate], list[str]]:
    chosen, absent = [], []
    try:
        torch = importlib.import_module("torch")
        torch.set_num_threads(1)
    except ImportError as error:
        torch = None
        absent.append(f"torch: {error}")
    for noise in NOISES:
        chosen.append(Candidate(noise, "jostle", jostle(noise)))
        chosen.append(Candidate(noise, "numpy vectorised", numpy_vectorised(noise)))
        if torch is not None:
            version = torch.__version__
            for dtype in (torch.float64, torch.float32):
                name = str(dtype).removeprefix("torch.")
                plain = torch_vectorised(torch, noise, dtype, optimizer=False)
                chosen.append(Candidate(noise, f"torch {version}, {name}", plain))
                trained = torch_vectorised(torch, noise, dtype, optimizer=True)
                chosen.append(Candidate(noise, f"torch.optim.SGD, {name}", trained))
    return chosen, absent


# ---- Theory ----------------------------------------------------------------------------------------------------------


def sum_over_lags(modes: HeavyBall, batches: int) -> np.ndarray:
    """The weight variance by the stable recursion over all lags below M (shared/reference/sgd_noise.md, 2.3)."""
    contraction, beta = modes.contraction, modes.momentum
    level = (1 + beta) / ((1 - beta) * (2 * (1 + beta) - contraction))
    before, now = np.zeros_like(contraction), level / (1 + beta)
    total = np.zeros_like(contraction)
    for lag in range(1, batches):
        total += (batches - lag) * now
        before, now = now, (1 + beta - contraction) * now - beta * before + level
    return 2 * total / (batches * (batches - 1))


def theory(turns: int) -> tuple[dict[str, float], float]:
    """Seconds for 10,000 eigenvalues and M = 1000, and how far both ways are apart."""
    modes = HeavyBall(learning_rate=1.0, curvature=np.geomspace(1e-7, 1.0, 10_000), momentum=MOMENTUM)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "jostle, weights and velocities": lambda: stationary_variances(modes, Reshuffled(1000)).weight,
        "sum over lags, weights only": lambda: sum_over_lags(modes, 1000),
    }
    best, values = dict.fromkeys(ways, math.inf), {}
    for _ in range(turns):
        for name, way in ways.items():
            begin = time.perf_counter()
            values[name] = way()
            best[name] = min(best[name], time.perf_counter() - begin)
    first, second = values.values()
    return best, float(np.abs(first / second - 1).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--csv", help="write the table there too")
    arguments = parser.parse_args()
    turns = 8 if arguments.quick else 48
    chosen, absent = candidates()
    for candidate in chosen:
        candidate.draw(0)  # compiles
    for number in range(1, turns + 1):
        for candidate in chosen:
            if number % 4 == 0 or "optim" not in candidate.name:  # slow as they are
                candidate.turn(number)
    seconds, deviation = theory(turns // 4)

    baseline = {c.noise: c.nanoseconds for c in chosen if c.name.startswith("numpy")}
    rows = [(c.noise, c.name, c.nanoseconds, baseline[c.noise] / c.nanoseconds, *c.bias) for c in chosen]
    print(f"{platform.processor() or platform.machine()}; Python {platform.python_version()}; one thread\n")
    print(f"{'noise':12}{'candidate':34}{'ns/update':>10}{'x numpy':>9}  bias of the weight variance")
    for noise, name, nanoseconds, ratio, bias, error in rows:
        print(f"{noise:12}{name:34}{nanoseconds:10.2f}{ratio:9.2f}  {100 * bias:+.3f} % +- {100 * error:.3f}")
        if name == "jostle":
            headline(f"SGD on a quadratic, {noise} noise", ratio, "numpy vectorised")
    for reason in absent:
        print(f"  not run: {reason}")
    print(f"\n{'theory, 10,000 eigenvalues, M = 1000':46}{'ms':>10}")
    for name, value in seconds.items():
        print(f"{name:46}{1e3 * value:10.2f}")
    first, second = seconds.values()
    headline("variances of 10,000 modes, M = 1000", second / first, "sum over lags, weights only")
    print(f"largest relative difference {deviation:.1e}")
    if arguments.csv:
        with open(arguments.csv, "w", encoding="utf-8") as file:
            file.write("noise,candidate,ns_per_update,ratio_to_numpy,bias_percent,bias_error_percent\n")
            for noise, name, nanoseconds, ratio, bias, error in rows:
                file.write(f'{noise},"{name}",{nanoseconds:.5g},{ratio:.5g},{100 * bias:.5g},{100 * error:.5g}\n')


if __name__ == "__main__":
    main()
