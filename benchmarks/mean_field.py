"""Mean-field theory of SGD in one causal pass, against the usual damped iteration of the kernels.

    python benchmarks/mean_field.py [--quick] [--csv FILE]

Square loss, Bernoulli batches, T = 100 updates, K = 8000 particles. The iteration is the scheme of the literature: from
a guess of C, R and m follow all particles through all times, average the kernels, mix them with the old, get new C,
R and m, and so on, with new normal numbers each time. Both run in one process on one thread, with the same matrix
products for D and in single precision; processor time counts, as others may use the machine too. Errors are the largest
differences from the exact solution (theory.mean_field_ridge) over all times, in units of the largest value.
"""

import argparse
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from headlines import headline

from sim.random_streams import stream
from theory.batch_selection import BernoulliBatches
from theory.mean_field import cost, solve_mean_field
from theory.mean_field_ridge import RidgeMeanField, solve_ridge
from theory.mean_field_state import MeanFieldState
from theory.mixture_model import MixturePerceptron, PerceptronTraining

MODEL = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
TRAINING = PerceptronTraining(learning_rate=0.4)
FRACTION = 0.25
NEW_SHARE = 0.55
"""Of a new kernel in the mixture."""


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float
    errors: tuple[float, float, float]


def errors(state: MeanFieldState, exact: RidgeMeanField) -> tuple[float, float, float]:
    def worst(found: np.ndarray, right: np.ndarray) -> float:
        return float(np.abs(found - right).max() / np.abs(right).max())

    return (
        worst(state.overlap, exact.overlap),
        worst(state.correlation, exact.correlation),
        worst(state.response, exact.response),
    )


def propagated(memory: np.ndarray, drift: np.ndarray, noise: np.ndarray) -> MeanFieldState:
    """C, R and m of given kernels."""
    steps = len(drift)
    state = MeanFieldState(TRAINING, MODEL.weight_decay, steps)
    for t in range(steps):
        state.advance(memory[t, : t + 1], drift[t], noise[t, : t + 1], np.zeros(t + 1))
    return state


def sampled_kernels(
    state: MeanFieldState, steps: int, particles: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow all particles through all times with C, R and m as they are."""
    eta, delta, alpha = TRAINING.learning_rate, MODEL.noise_variance, MODEL.sample_ratio
    centre, label = MODEL.stratified_samples(particles)
    covariance = state.correlation[:steps, :steps]
    factor = np.linalg.cholesky(covariance + 1e-10 * np.trace(covariance) / steps * np.eye(steps))
    noise = factor @ rng.standard_normal((steps, particles))
    weights = (-eta * delta * state.response).astype(np.float32)
    forces, memory = np.empty((steps, particles)), np.zeros((steps, steps))
    blocks: list[np.ndarray] = []
    for t in range(steps):
        field = centre * state.overlap[t] + math.sqrt(delta) * noise[t]
        field -= eta * delta * (state.response[t, :t] @ forces[:t])
        slope, curvature = MODEL.derivatives(label, field)
        batch = rng.random(particles) < FRACTION
        forces[t] = batch * slope
        live = (batch * curvature).astype(np.float32)
        for start, block in enumerate(blocks):
            row = block[t - start]
            np.matmul(weights[t, start:t], block[: t - start], out=row)
            row *= live
            memory[t, start] = row.sum()
        blocks.append(np.empty((steps - t, particles), dtype=np.float32))
        blocks[t][0] = live
        memory[t, t] = live.sum()
    scale = alpha * delta / particles
    return scale * memory, alpha / particles * (forces @ centre), scale * (forces @ forces.T)


def iterated(steps: int, particles: int, iterations: tuple[int, ...], exact: RidgeMeanField) -> list[Row]:
    """The state after so many iterations each, with the time until then."""
    rng = stream(0, "iteration")
    kernels = (np.zeros((steps, steps)), np.zeros(steps), np.zeros((steps, steps)))
    begin, rows = time.process_time(), []
    for k in range(1, max(iterations) + 1):
        new = sampled_kernels(propagated(*kernels), steps, particles, rng)
        kernels = tuple((1 - NEW_SHARE) * old + NEW_SHARE * fresh for old, fresh in zip(kernels, new, strict=True))
        if k in iterations:
            state = propagated(*kernels)
            rows.append(Row(f"iteration, {k} times", time.process_time() - begin, errors(state, exact)))
    return rows


def causal(steps: int, particles: int, exact: RidgeMeanField) -> Row:
    """One pass, as the mean of two."""
    begin = time.process_time()
    solved = solve_mean_field(
        MODEL, TRAINING, BernoulliBatches(FRACTION), steps, stream(0, "pass"), particles=particles, populations=2
    )
    seconds = (time.process_time() - begin) / 2
    found = MeanFieldState(TRAINING, MODEL.weight_decay, steps)
    found.overlap, found.correlation, found.response = solved.overlap[0], solved.correlation[0], solved.response[0]
    return Row("causal pass", seconds, errors(found, exact))


def best_of(turns: int, draw: Callable[[], Row]) -> Row:
    return min((draw() for _ in range(turns)), key=lambda row: row.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 updates, 2000 particles")
    parser.add_argument("--csv", help="write the table there too")
    arguments = parser.parse_args()
    steps, particles = (40, 2000) if arguments.quick else (100, 8000)
    exact = solve_ridge(MODEL, TRAINING, BernoulliBatches(FRACTION), steps)
    one = best_of(2, lambda: causal(steps, particles, exact))
    rows = [one, *iterated(steps, particles, (10, 20, 30), exact)]
    expected = cost(steps, particles, 2)
    print(f"{platform.processor() or platform.machine()}; Python {platform.python_version()}; one thread")
    print(f"T = {steps}, K = {particles}; estimated beforehand: {expected.seconds / 2:.1f} s a pass, ", end="")
    print(f"{expected.memory / 1e6:.0f} MB\n")
    print(f"{'scheme':24}{'s':>8}{'x pass':>8}   largest error of m, C, R")
    for row in rows:
        print(f"{row.name:24}{row.seconds:8.2f}{row.seconds / one.seconds:8.1f}   ", end="")
        print(", ".join(f"{100 * error:.2g} %" for error in row.errors))
        if row is not one:
            headline(f"T = {steps}, K = {particles}, causal pass", row.seconds / one.seconds, row.name)
    if arguments.csv:
        with open(arguments.csv, "w", encoding="utf-8") as file:
            file.write("scheme,seconds,ratio_to_pass,error_overlap,error_correlation,error_response\n")
            for row in rows:
                ratios = (row.seconds, row.seconds / one.seconds, *row.errors)
                file.write(f'"{row.name}",' + ",".join(f"{value:.4g}" for value in ratios) + "\n")


if __name__ == "__main__":
    main()
