"""SGD with momentum on a real least-squares problem, with batches of indices: where the noise depends on the weights.

The loss is (1 / 2N) sum_n (x_n . w - y_n)^2. In the eigenbasis of its Hessian H = (1 / N) sum_n x_n x_n', with the
distance theta from the minimum and the residuals r_n = y_n - x_n . w there, a batch B has the gradient

    g = (1 / S) sum_{n in B} x_n (x_n . theta - r_n) = lambda theta + xi,

whose noise xi depends on theta. With ``frozen=True`` it is that at the minimum, -(1 / S) sum_{n in B} x_n r_n, and
theory.weight_variance is exact; theory.state_dependent_noise predicts the difference. Replicas share the data and
differ in their batches, which come from sim.batch_order.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.batch_order import Indices, batches_per_epoch, reshuffled_epochs
from sim.ensemble import Progress, run_in_chunks
from sim.lanes import KERNEL
from sim.random_streams import kernel_key
from sim.weight_variance import steps_to_forget
from theory.absorbing import Floats, whole_number
from theory.estimate import Estimate
from theory.heavy_ball import HeavyBall

Order = Callable[[int, int, np.random.Generator], Iterator[Sequence[Indices] | Indices]]
"""(samples, batch size, generator) -> epochs without end, each of M index arrays, as those of sim.batch_order."""

CHUNK = 4
"""Replicas in a chunk, the unit of progress."""

_BLOCK = 64  # epochs in a call of the kernel, to make its overhead small

_THETA, _SQUARE, _VELOCITY, _NOISE, _NOISE_SQUARE = range(5)


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """A least-squares problem in the eigenbasis of its Hessian, seen from its minimum.

    Attributes:
        inputs: x_n, shape (N, d).
        residuals: r_n, label minus prediction at the minimum, shape (N,).
        curvature: lambda_i, eigenvalues of the Hessian in falling order, shape (d,).
    """

    inputs: Floats
    residuals: Floats
    curvature: Floats

    @classmethod
    def of_data(cls, inputs: npt.ArrayLike, labels: npt.ArrayLike) -> "LeastSquares":
        """Rotate data into the eigenbasis of their Hessian.

        Args:
            inputs: in any basis, shape (N, d); for an offset add a column of ones.
            labels: shape (N,).

        Returns:
            The problem.

        Raises:
            ValueError: for shapes that do not fit, or numbers that are not finite.

        Example:
            >>> problem = LeastSquares.of_data([[1.0, 0.0], [0.0, 2.0], [0.0, 2.0]], [1.0, 1.0, 3.0])
            >>> problem.curvature.round(6).tolist(), problem.residuals.round(6).tolist()
            ([2.666667, 0.333333], [0.0, -1.0, 1.0])
        """
        x, y = np.array(inputs, dtype=float), np.array(labels, dtype=float)
        if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
            raise ValueError(f"inputs of shape {x.shape} must be finite numbers, one row for each sample")
        if y.shape != x.shape[:1] or not np.isfinite(y).all():
            raise ValueError(f"labels of shape {y.shape} must be {len(x)} finite numbers, one for each sample")
        _, singular, basis = np.linalg.svd(x, full_matrices=False)
        curvature = np.zeros(x.shape[1])
        curvature[: len(singular)] = singular**2 / len(x)
        rotated = np.zeros_like(x)
        rotated[:, : len(singular)] = x @ basis.T
        return cls(rotated, y - x @ np.linalg.lstsq(x, y)[0], curvature)

    @classmethod
    def gaussian(
        cls, samples: int, population_curvature: npt.ArrayLike, label_noise: float, rng: np.random.Generator
    ) -> "LeastSquares":
        """Draw Gaussian inputs, and labels that are a linear function of them plus Gaussian noise.

        Args:
            samples: N >= 1.
            population_curvature: variances >= 0 of the inputs, shape (d,); the Hessian's eigenvalues for N -> infinity.
            label_noise: its standard deviation s >= 0.
            rng: source of randomness.

        Returns:
            The problem; the function itself does not matter.

        Raises:
            ValueError: for numbers out of range.
        """
        samples = whole_number("samples", samples, 1)
        variance = np.array(population_curvature, dtype=float)
        if variance.ndim != 1 or not ((variance >= 0) & np.isfinite(variance)).all():
            raise ValueError(f"population_curvature={population_curvature} must be finite numbers >= 0, shape (d,)")
        if not (label_noise >= 0 and math.isfinite(label_noise)):
            raise ValueError(f"label_noise={label_noise} must be finite and >= 0")
        inputs = np.sqrt(variance) * rng.standard_normal((samples, len(variance)))
        return cls.of_data(inputs, label_noise * rng.standard_normal(samples))

    @property
    def example_variance(self) -> Floats:
        """C_0 = (1 / N) sum_n (x_ni r_n)^2 of the gradients of single samples at the minimum, shape (d,)."""
        return (self.inputs**2).T @ self.residuals**2 / len(self.inputs)


@dataclass(frozen=True, eq=False)
class LeastSquaresVariances:
    """What replicas gave, for each direction in the order of ``problem.curvature``.

    Attributes:
        problem: the data.
        modes: the directions, with learning rate and momentum.
        mean: <theta>, which weight-dependent noise need not leave at the minimum.
        weight_variance: <(theta - <theta>)^2>.
        velocity_variance: <v^2>.
        noise_variance: sigma^2 = <xi^2> of the gradient noise.
        zero_frequency_noise: S(0), the variance of the sum of xi over all recorded steps, divided by their number. Of
            noise at the minimum whole reshuffled epochs sum to zero: then it is what comes with the weights.
        zero_frequency_share: S(0) / sigma^2.
        replicas: that are complete.
        requested: replicas asked for; more than ``replicas`` after Ctrl-C.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> problem = LeastSquares.gaussian(40, [2.0, 0.5], 0.3, rng)
        >>> found = simulate_least_squares(problem, 4, rng, learning_rate=0.1, epochs=5, replicas=4)
        >>> found.replicas, len(found.weight_variance), found.modes.learning_rate
        (4, 2, 0.1)
    """

    problem: LeastSquares
    modes: HeavyBall
    mean: tuple[Estimate, ...]
    weight_variance: tuple[Estimate, ...]
    velocity_variance: tuple[Estimate, ...]
    noise_variance: tuple[Estimate, ...]
    zero_frequency_noise: tuple[Estimate, ...]
    zero_frequency_share: tuple[Estimate, ...]
    replicas: int
    requested: int


@njit(**KERNEL)
def _advance(
    theta,
    velocity,
    sums,
    indices,
    ends,
    inputs,
    residuals,
    curvature,
    learning_rate,
    momentum,
    batch_size,
    frozen,
    keep,
):
    """Take a step for each batch ``indices[ends[k - 1] : ends[k]]``; adds to the sums, shape (5, d), if ``keep``."""
    directions = len(theta)
    gradient = np.zeros(directions)
    begin = 0
    for end in ends:
        gradient[:] = 0.0
        for k in range(begin, end):
            n = indices[k]
            error = -residuals[n]
            if not frozen:
                for i in range(directions):
                    error += inputs[n, i] * theta[i]
            for i in range(directions):
                gradient[i] += inputs[n, i] * error
        begin = end
        for i in range(directions):
            force = curvature[i] * theta[i]
            noise = gradient[i] / batch_size
            if not frozen:
                noise -= force
            velocity[i] = momentum * velocity[i] - learning_rate * (force + noise)
            theta[i] += velocity[i]
            if keep:
                sums[_THETA, i] += theta[i]
                sums[_SQUARE, i] += theta[i] * theta[i]
                sums[_VELOCITY, i] += velocity[i] * velocity[i]
                sums[_NOISE, i] += noise
                sums[_NOISE_SQUARE, i] += noise * noise


def simulate_least_squares(
    problem: LeastSquares,
    batch_size: int,
    rng: np.random.Generator,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    epochs: int,
    order: Order = reshuffled_epochs,
    frozen: bool = False,
    replicas: int = 256,
    burn_in: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LeastSquaresVariances:
    """Variances of weights, velocities and gradient noise along the Hessian's eigenvectors, over whole epochs.

    Args:
        problem: the data.
        batch_size: S; gradients are sums over a batch divided by S. An epoch has M = N // S batches: if S does not
            divide N, the noise of an epoch does not sum to zero.
        rng: source of randomness: two draws make the key of all replicas.
        learning_rate: eta > 0.
        momentum: beta, 0 <= beta < 1.
        epochs: that are recorded.
        order: of the batches, such as ``shuffled_once_epochs``; give further arguments with functools.partial.
        frozen: take the noise at the minimum, whatever the weights are.
        replicas: independent runs on the same data, >= 2.
        burn_in: epochs before, from the minimum; by default 12 relaxation times of the slowest mode, at least ten.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of replicas.

    Returns:
        The variances; of fewer replicas than asked for after Ctrl-C.

    Raises:
        ValueError: for arguments out of range, a mode so flat that the default burn-in would exceed 10^7 steps, indices
            beyond the data, or weights that diverge.

    Example:
        >>> problem = LeastSquares.gaussian(40, [2.0, 0.5], 0.3, np.random.default_rng(0))
        >>> found = simulate_least_squares(
        ...     problem, 4, np.random.default_rng(1), learning_rate=0.1, epochs=5, frozen=True, replicas=4
        ... )
        >>> [bool(abs(share.value) < 1e-12) for share in found.zero_frequency_share]
        [True, True]
    """
    samples, directions = problem.inputs.shape
    batches = batches_per_epoch(samples, whole_number("batch_size", batch_size, 1))
    epochs, replicas = whole_number("epochs", epochs, 1), whole_number("replicas", replicas, 2)
    modes = HeavyBall(learning_rate, problem.curvature, momentum)
    before = steps_to_forget(modes, batches) // batches if burn_in is None else whole_number("burn_in", burn_in, 0)
    sums = np.zeros((replicas, 5, directions))
    key = kernel_key(rng)
    inputs = np.ascontiguousarray(problem.inputs)

    def run(replica: int) -> None:
        # A stream of its own for each replica, so that neither threads nor the number of replicas change it.
        orders = order(samples, batch_size, np.random.default_rng([*key.tolist(), replica]))
        theta, velocity = np.zeros(directions), np.zeros(directions)
        for recorded, number in ((False, before), (True, epochs)):
            for first in range(0, number, _BLOCK):
                block = min(_BLOCK, number - first)
                indices, ends = _flat(itertools.islice(orders, block), block * batches, samples)
                _advance(
                    theta,
                    velocity,
                    sums[replica],
                    indices,
                    ends,
                    inputs,
                    problem.residuals,
                    problem.curvature,
                    float(learning_rate),
                    float(momentum),
                    float(batch_size),
                    frozen,
                    recorded,
                )
        if not np.isfinite(sums[replica]).all():
            raise ValueError(
                f"the weights of replica {replica} diverge: take a learning_rate below {learning_rate} or larger "
                "batches; single batches can be unstable where the mean of all is not"
            )

    def kernel(first: int, stop: int) -> None:
        for replica in range(first, stop):
            run(replica)

    done = run_in_chunks(kernel, replicas, threads=threads, chunk=CHUNK, progress=progress)
    if done < 2:
        raise KeyboardInterrupt
    return _summary(problem, modes, sums[:done], epochs * batches, replicas)


def _flat(block: Iterator[Sequence[Indices] | Indices], batches: int, samples: int) -> tuple[Indices, Indices]:
    """All indices in a row, and where each batch ends. The kernel does not look whether they are in range."""
    rows, lengths = [], []
    for epoch in block:
        if isinstance(epoch, np.ndarray):  # batches of one size: no list of them, which would take the most time
            rows.append(epoch.ravel())
            lengths += [epoch.shape[1]] * len(epoch)
        else:
            rows += epoch
            lengths += map(len, epoch)
    if len(lengths) != batches:
        raise ValueError(f"order gives {len(lengths)} batches where whole epochs have {batches}")
    indices = np.concatenate(rows).astype(np.int64, copy=False)
    if indices.min(initial=0) < 0 or indices.max(initial=0) >= samples:
        raise ValueError(
            f"order gives indices from {indices.min()} to {indices.max()}, but there are {samples} samples"
        )
    return indices, np.cumsum(lengths, dtype=np.int64)


def _summary(
    problem: LeastSquares, modes: HeavyBall, sums: Floats, steps: int, requested: int
) -> LeastSquaresVariances:
    """Estimates from the sums of each replica, shape (R, 5, d)."""
    replicas = len(sums)
    theta, square, velocity, noise, sigma = (sums[:, row] / steps for row in range(5))

    def about_the_mean(values: Floats) -> Floats:
        return (values - values.mean(axis=0)) ** 2 * (replicas / (replicas - 1))

    zero_frequency = steps * about_the_mean(noise)
    level = np.maximum(sigma.mean(axis=0), np.finfo(float).tiny)  # 0 of a direction without noise
    # The ratio of two means, to first order in their errors.
    share = (zero_frequency - zero_frequency.mean(axis=0) / level * (sigma - sigma.mean(axis=0))) / level

    def estimates(values: Floats) -> tuple[Estimate, ...]:
        return tuple(Estimate.from_samples(column) for column in values.T)

    return LeastSquaresVariances(
        problem,
        modes,
        estimates(theta),
        estimates(square - theta**2 + about_the_mean(theta)),
        estimates(velocity),
        estimates(sigma),
        estimates(zero_frequency),
        estimates(share),
        replicas,
        requested,
    )
