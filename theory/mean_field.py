r"""Dynamical mean-field theory of SGD on the Gaussian-mixture perceptron: exact for infinitely many dimensions.

At a fixed ratio alpha of samples to dimensions all samples move as independent copies of one random process. With the
overlap m, correlation C and response R of theory.mean_field_state, of a sample (c, y) with the batches s(t):

    u(t) = c m(t) + sqrt(Delta) g(t) - eta Delta sum_{t'<t} R(t, t') s(t') l'(t'),    g normal with covariance C,
    D(t, t) = 1,    D(t, t') = -eta Delta sum_{t'<=t''<t} R(t, t'') s(t'') l''(t'') D(t'', t'),
    Gamma(t, t') = alpha Delta <s l''(t) D(t, t')>,    mu(t) = alpha <c s l'(t)>,
    M(t, t') = alpha Delta <s l'(t) s l'(t')>,

and for two replicas of the same start and data with independent batches M_12 = alpha Delta <s_1 l_1' s_2 l_2'>; their
fields are (g_+ +- g_-) / sqrt(2) with the covariances C +- C_12.

Averages are over K followed samples, the particles. Row t of all kernels needs the past only, so one pass in time with
ever more of C known is the solution: nothing is iterated. Clusters have their exact shares; the normal numbers come in
antithetic pairs and are made uncorrelated over the particles, batches are stratified. An answer is off by the sampling
error, ~ 1 / sqrt(K), and a bias ~ 1 / K; the error bars come from independent populations.

The D of all particles are most of the work, K T^3 / 3 operations, and of the memory, 2 K T^2 bytes. They are kept times
s l'' in single precision, for each t' the times t'' in rows: the next row is then a matrix product for all particles.

Derived for jostle.

Reference: [mignacco2022] the model
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats, whole_number
from theory.batch_selection import BatchSelection, FullBatch
from theory.mean_field_solution import QUANTILE_LEVELS, MeanFieldSolution
from theory.mean_field_state import MeanFieldState, Progress
from theory.mixture_model import STRATUM, MixturePerceptron, PerceptronTraining

NEGLIGIBLE = 1e-12
"""A field of which its past leaves less than this open, in units of its variance, has nothing new in it."""

OPERATIONS_PER_SECOND = 2e9
"""Of one ordinary core; memory is what limits it."""

LARGEST_BYTES = 16e9
"""Memory beyond which a solution is refused."""

LARGEST_NORM = 1e12
"""C(t, t) beyond which training counts as diverged."""


@dataclass(frozen=True)
class MeanFieldCost:
    """What a solution will take.

    Attributes:
        memory: the most that is held at a time [bytes].
        operations: floating-point ones.
    """

    memory: float
    operations: float

    @property
    def seconds(self) -> float:
        """On one ordinary core."""
        return self.operations / OPERATIONS_PER_SECOND


def cost(steps: int, particles: int, populations: int, replicas: int = 1) -> MeanFieldCost:
    """Memory and time of `solve_mean_field`, before it starts.

    Args:
        steps: T.
        particles: K, of each population.
        populations: independent ones of particles, one after the other.
        replicas: 1 or 2.

    Returns:
        The cost.

    Raises:
        ValueError: for numbers out of range, as in `solve_mean_field`.

    Example:
        >>> cost(steps=100, particles=8000, populations=2).memory / 1e6  # MB
        172.6
        >>> round(cost(steps=100, particles=8000, populations=2).seconds)
        3
    """
    total, count, independent = _checked_sizes(steps, particles, populations, replicas)
    followed = float(count * replicas)
    tables = independent * (7 + replicas) * 8.0 * (total + 1) ** 2
    memory = 2 * followed * total * (total + 1) + 12 * followed * (total + 1) + tables
    operations = followed * total * (total * total / 3 + 5 * total + 200)
    return MeanFieldCost(memory, independent * operations)


def _checked_sizes(steps: int, particles: int, populations: int, replicas: int) -> tuple[int, int, int]:
    total, count = whole_number("steps", steps, 1), whole_number("particles", particles, 1)
    if count % STRATUM or count < 4 * (total + 1):
        least = -(-4 * (total + 1) // STRATUM) * STRATUM
        raise ValueError(
            f"particles={count} must be a multiple of {STRATUM} and at least 4 (steps + 1): take {least} or more"
        )
    if replicas not in (1, 2):
        raise ValueError(f"replicas={replicas!r} must be 1 or 2")
    return total, count, whole_number("populations", populations, 2)


def solve_mean_field(
    model: MixturePerceptron,
    training: PerceptronTraining,
    selection: BatchSelection,
    steps: int,
    rng: np.random.Generator,
    *,
    particles: int = 2000,
    populations: int = 8,
    replicas: int = 1,
    progress: Progress | None = None,
) -> MeanFieldSolution:
    """Solve the theory several times with independent particles.

    Ctrl-C between two steps gives up the population at hand; the others are returned if they are at least two.

    Args:
        model: the perceptron and its data.
        training: how the weights start and move.
        selection: which samples are in the batch.
        steps: T >= 1, updates.
        rng: source of randomness; population k depends on it and k alone.
        particles: K, in each population; a multiple of 8 and >= 4 (T + 1). The bias is ~ 1 / K, so of the same total
            few large populations are the safer choice and many small ones know their error better.
        populations: independent ones of particles, >= 2.
        replicas: 2 for the distance of two replicas too, at twice the cost.
        progress: told after each step, over all populations; may raise to interrupt.

    Returns:
        The solution at times 0..T.

    Raises:
        ValueError: for arguments out of range, batches that cannot be, too much memory, or weights that diverge.
        KeyboardInterrupt: if fewer than two populations were complete.

    Example:
        >>> model = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
        >>> from theory.batch_selection import BernoulliBatches
        >>> solution = solve_mean_field(
        ...     model, PerceptronTraining(0.4), BernoulliBatches(0.25), 10, np.random.default_rng(0), particles=800
        ... )
        >>> overlap = solution.estimate("overlap", 10)
        >>> abs(overlap.value - 0.372366463214) < 4 * overlap.standard_error  # theory.mean_field_ridge
        True
    """
    total, count, independent = _checked_sizes(steps, particles, populations, replicas)
    selection.check(training.learning_rate)
    needed = cost(total, count, independent, replicas).memory
    if needed > LARGEST_BYTES:
        raise ValueError(
            f"steps={total}, particles={count}, replicas={replicas} need {needed / 1e9:.1f} GB, more than "
            f"{LARGEST_BYTES / 1e9:g}: take fewer particles in more populations, or fewer steps"
        )
    if count * selection.batch_fraction < 1 and not isinstance(selection, FullBatch):
        raise ValueError(
            f"batch_fraction={selection.batch_fraction:g} of particles={count} leaves batches empty: take at least "
            f"{math.ceil(1 / selection.batch_fraction)} particles"
        )
    solved: list[_ParticlePass] = []
    for k, own in enumerate(rng.spawn(independent)):
        one = _ParticlePass(model, training, selection, total, count, replicas, own)
        try:
            for t in range(total):
                one.step()
                if progress is not None:
                    progress(k * total + t + 1, independent * total, "mean field")
            one.observe()
        except KeyboardInterrupt:
            if len(solved) < 2:
                raise
            break
        solved.append(one.finished())
    return MeanFieldSolution(
        model,
        training,
        selection,
        particles=count,
        populations_asked=independent,
        overlap=np.stack([one.state.overlap for one in solved]),
        correlation=np.stack([one.state.correlation for one in solved]),
        response=np.stack([one.state.response for one in solved]),
        replica_correlation=(np.stack([one.state.replica_correlation for one in solved]) if replicas == 2 else None),
        train_loss=np.stack([one.loss for one in solved]),
        train_accuracy=np.stack([one.accuracy for one in solved]),
        squared_slope=np.stack([one.squared_slope for one in solved]),
        test_error=np.stack([model.test_error(one.state.overlap, one.norm) for one in solved]),
        margin_quantiles=np.stack([one.quantiles for one in solved]),
    )


class _GaussianPath:
    """Normal numbers with a covariance that becomes known row by row: g = L xi with the Cholesky factor L.

    Over the particles the rows of xi are antithetic, uncorrelated and of variance one, exactly.
    """

    def __init__(self, steps: int, particles: int, rng: np.random.Generator) -> None:
        self._rng, self._half = rng, particles // 2
        self._normals, self._factor = np.empty((steps + 1, self._half)), np.zeros((steps + 1, steps + 1))
        self._live: list[int] = []

    def append(self, covariance: Floats, scale: float) -> Floats:
        """The next value.

        Args:
            covariance: with the earlier ones and, at the end, of itself.
            scale: the size of the variances that this one is a sum or difference of.

        Returns:
            Shape (particles,).
        """
        from scipy.linalg import solve_triangular

        known, normals = len(self._live), self._normals[: len(self._live)]
        if known:
            row = solve_triangular(self._factor[:known, :known], covariance[self._live], lower=True, check_finite=False)
        else:
            row = np.zeros(0)
        value, rest = row @ normals, covariance[-1] - row @ row
        if rest > NEGLIGIBLE * scale:
            fresh = self._rng.standard_normal(self._half)
            fresh -= (normals @ fresh) @ normals / self._half
            fresh *= math.sqrt(self._half / (fresh @ fresh))
            self._normals[known], self._factor[known, :known] = fresh, row
            self._factor[known, known] = math.sqrt(rest)
            self._live.append(len(covariance) - 1)
            value += math.sqrt(rest) * fresh
        return np.concatenate([value, -value])


class _LinearResponses:
    """E(t, t') = s l''(t) D(t, t') of all particles; for each t' a block whose rows are t = t', t' + 1, ..., T - 1."""

    def __init__(self, steps: int, particles: int) -> None:
        self._steps, self._particles = steps, particles
        self._blocks: list[npt.NDArray[np.float32]] = []

    def append(self, weights: Floats, curvature: Floats) -> Floats:
        """Row t.

        Args:
            weights: -eta Delta R(t, 0..t-1).
            curvature: s l''(t) of all particles.

        Returns:
            The averages of E(t, 0..t) over the particles.
        """
        t, single, factors = len(self._blocks), curvature.astype(np.float32), weights.astype(np.float32)
        averages = np.empty(t + 1)
        for start, block in enumerate(self._blocks):
            row = block[t - start]
            np.matmul(factors[start:], block[: t - start], out=row)
            row *= single
            averages[start] = row.sum()
        block = np.empty((self._steps - t, self._particles), dtype=np.float32)
        block[0] = single
        averages[t] = single.sum()
        self._blocks.append(block)
        return averages / self._particles


class _ParticlePass:
    """One solution with its own particles."""

    def __init__(
        self,
        model: MixturePerceptron,
        training: PerceptronTraining,
        selection: BatchSelection,
        steps: int,
        particles: int,
        replicas: int,
        rng: np.random.Generator,
    ) -> None:
        self._model, self._training, self._replicas = model, training, replicas
        normals, *memberships = rng.spawn(1 + replicas)
        self._fields = [_GaussianPath(steps, particles, normals) for _ in range(replicas)]
        self._paths = [selection.paths(particles, training.learning_rate, own) for own in memberships]
        self._centre, self._label = (np.tile(x, replicas) for x in model.stratified_samples(particles))
        self._forces, self._responses = np.empty((steps, len(self._centre))), _LinearResponses(steps, len(self._centre))
        self.state = MeanFieldState(training, model.weight_decay, steps)
        self.loss, self.accuracy, self.squared_slope = np.empty((3, steps + 1))
        self.quantiles = np.empty((steps + 1, len(QUANTILE_LEVELS)))

    @property
    def norm(self) -> Floats:
        """C(t, t), kept from zero."""
        return np.maximum(np.diagonal(self.state.correlation), np.finfo(float).tiny)

    def finished(self) -> "_ParticlePass":
        """The same without the particles, whose memory is given back."""
        del self._fields, self._paths, self._forces, self._responses
        return self

    def observe(self) -> tuple[Floats, Floats]:
        """Both derivatives of the loss of all particles at the present time; averages over them are kept."""
        state, model, t = self.state, self._model, self.state.time
        field = self._centre * state.overlap[t] + math.sqrt(model.noise_variance) * self._noise()
        field += self._weights() @ self._forces[:t]
        margins = model.margins(self._label, field)
        slope, curvature = model.derivatives(self._label, field)
        self.loss[t], self.accuracy[t] = model.losses(margins).mean(), (margins > 0).mean()
        self.squared_slope[t] = slope @ slope / len(slope)
        self.quantiles[t] = np.quantile(margins, QUANTILE_LEVELS) / math.sqrt(self.norm[t])
        return slope, curvature

    def step(self) -> None:
        """From t to t + 1."""
        state, model, t = self.state, self._model, self.state.time
        with np.errstate(over="ignore", invalid="ignore"):
            slope, curvature = self.observe()
            batch = np.concatenate([next(path) for path in self._paths])
            force = np.multiply(batch, slope, out=self._forces[t])
            memory = self._responses.append(self._weights(), batch * curvature)
            count, forces = len(force), self._forces[: t + 1]
            scale = model.sample_ratio * model.noise_variance
            state.advance(
                memory=scale * memory,
                drift=model.sample_ratio * float(self._centre @ force) / count,
                noise=scale * (forces @ force) / count,
                replica_noise=scale * self._between_replicas(forces) / count,
            )
            following = np.append(state.response[t + 1, : t + 1], state.correlation[t + 1, t + 1])
        if not (np.abs(following) < LARGEST_NORM).all():
            raise ValueError(
                f"learning_rate={self._training.learning_rate:g}: weights or their response diverge by step {t + 1}; "
                f"take a smaller one"
            )

    def _weights(self) -> Floats:
        t = self.state.time
        return -self._training.learning_rate * self._model.noise_variance * self.state.response[t, :t]

    def _noise(self) -> Floats:
        """g(t)."""
        t = self.state.time
        own, both = self.state.correlation[t, : t + 1], self.state.replica_correlation[t, : t + 1]
        if self._replicas == 1:
            return self._fields[0].append(own, own[-1])
        common = self._fields[0].append(own + both, own[-1])
        difference = self._fields[1].append(own - both, own[-1])
        return np.concatenate([common + difference, common - difference]) / math.sqrt(2)

    def _between_replicas(self, forces: Floats) -> Floats:
        """Sum over both replicas of f_1(t) f_2(t')."""
        if self._replicas == 1:
            return np.zeros(len(forces))
        first, second = np.split(forces, 2, axis=1)
        return first @ second[-1] + second @ first[-1]
