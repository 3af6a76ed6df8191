r"""The mean-field theory of the square loss with Bernoulli batches, without sampling: exact, deterministic, O(T^3).

With two clusters and a linear activation q = c (u - y) is Gaussian at given batches, and in SGD s(t) = b + (noise
independent of q(t)): the noise times q is white. So averages over batches close:

    A = (1 + eta Delta b R)^{-1},    V(t) = b (1 - b) E(t, t),
    E = A [(m - 1)(m - 1)^T + Delta C + (eta Delta)^2 R diag(V) R^T] A^T,
    Gamma = alpha Delta b A,    mu = alpha b A (m - 1),    loss(t) = E(t, t) / 2,
    M = alpha Delta [b^2 E - b eta Delta (A R V + (A R V)^T) + diag V],

and for two replicas E_12 = A [(m - 1)(m - 1)^T + Delta C_12] A^T, M_12 = alpha Delta b^2 E_12. theory.mean_field_state
moves R, C and m on. Neither persistent nor epoch-based batches close; theory.mean_field samples.

The mean weights descend as in gradient descent, to the minimum of b times the loss: `static_limit`. With
lambda_e = lambda / b its response g and overlap are

    lambda_e g + alpha Delta g / (1 + Delta g) = 1,    m = alpha / (lambda_e (1 + Delta g) + alpha Delta + alpha).

Derived for jostle.

Reference: [mignacco2022] the model
"""

import math
from dataclasses import dataclass

import numpy as np

from theory.absorbing import Floats, whole_number
from theory.batch_selection import BatchSelection, BernoulliBatches, FullBatch, checked_fraction
from theory.mean_field_state import MeanFieldState, Progress
from theory.mixture_model import MixturePerceptron, PerceptronTraining

LARGEST_STEPS = 5000
"""Five matrices of this many rows and columns are 1 GB."""


@dataclass(frozen=True, eq=False)
class RidgeMeanField:
    """The exact solution for the square loss; all times in updates, 0..T.

    Attributes:
        model: the perceptron.
        training: how it starts and moves.
        selection: which samples are in the batch.
        overlap: m(t), shape (T+1,).
        correlation: C(t, t'), shape (T+1, T+1).
        response: R(t, t'), shape (T+1, T+1).
        replica_correlation: C_12(t, t') of two replicas of the same start and independent batches, shape (T+1, T+1).
        train_loss: mean over the training samples, without weight decay, shape (T+1,).
        squared_slope: <l'^2> over the training samples, shape (T+1,); twice the loss.
        test_error: probability that a new sample is misclassified, shape (T+1,).
    """

    model: MixturePerceptron
    training: PerceptronTraining
    selection: BatchSelection
    overlap: Floats
    correlation: Floats
    response: Floats
    replica_correlation: Floats
    train_loss: Floats
    squared_slope: Floats
    test_error: Floats

    @property
    def replica_distance(self) -> Floats:
        """|w_1 - w_2|^2 / N = 2 [C(t, t) - C_12(t, t)] of two replicas, shape (T+1,)."""
        return 2 * (np.diagonal(self.correlation) - np.diagonal(self.replica_correlation))


def solve_ridge(
    model: MixturePerceptron,
    training: PerceptronTraining,
    selection: BatchSelection,
    steps: int,
    *,
    progress: Progress | None = None,
) -> RidgeMeanField:
    """Solve the theory of SGD or gradient descent with the square loss, two clusters and the linear activation.

    Args:
        model: loss ``square``, 2 clusters, activation ``linear``.
        training: how the weights start and move.
        selection: ``BernoulliBatches`` or ``FullBatch``.
        steps: T >= 1, updates, at most ``LARGEST_STEPS``.
        progress: told after each update; may raise to interrupt.

    Returns:
        The solution at times 0..T.

    Raises:
        ValueError: for a model or batches that do not close, steps out of range, or a learning rate that diverges.

    Example:
        >>> model = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
        >>> solved = solve_ridge(model, PerceptronTraining(learning_rate=0.4), BernoulliBatches(0.25), steps=10)
        >>> solved.overlap[[1, 5, 10]].round(12).tolist()
        [0.2, 0.36110125, 0.372366463214]
    """
    if (model.loss, model.clusters, model.activation) != ("square", 2, "linear"):
        raise ValueError(
            f"loss={model.loss!r}, clusters={model.clusters}, activation={model.activation!r}: only the square loss "
            f"with 2 clusters and a linear activation closes; use theory.mean_field"
        )
    if not isinstance(selection, BernoulliBatches | FullBatch):
        raise ValueError(
            f"selection={selection.label!r} must be Bernoulli or full ones: others do not close; use theory.mean_field"
        )
    total = whole_number("steps", steps, 1)
    if total > LARGEST_STEPS:
        raise ValueError(f"steps={total} must be at most {LARGEST_STEPS}: the two-time matrices would not fit")
    state = MeanFieldState(training, model.weight_decay, total)
    closure = _Closure(model, training, selection, total)
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(total + 1):
            closure.observe(state)
            if not math.isfinite(state.correlation[t, t]) or not math.isfinite(closure.squared[t]):
                raise ValueError(
                    f"learning_rate={training.learning_rate:g}: the weights diverge by step {t}; take a smaller one"
                )
            if t < total:
                closure.advance(state)
            if progress is not None and t:
                progress(t, total, "ridge mean field")
    norm = np.diagonal(state.correlation)
    return RidgeMeanField(
        model,
        training,
        selection,
        overlap=state.overlap,
        correlation=state.correlation,
        response=state.response,
        replica_correlation=state.replica_correlation,
        train_loss=closure.squared / 2,
        squared_slope=closure.squared,
        test_error=model.test_error(state.overlap, np.maximum(norm, np.finfo(float).tiny)),
    )


class _Closure:
    """A, E and E_12, row by row."""

    def __init__(
        self,
        model: MixturePerceptron,
        training: PerceptronTraining,
        selection: BernoulliBatches | FullBatch,
        steps: int,
    ) -> None:
        self._model, self._fraction = model, selection.batch_fraction
        self._spread = self._fraction * (1 - self._fraction) if isinstance(selection, BernoulliBatches) else 0.0
        self._step = training.learning_rate * model.noise_variance
        self._resolvent, self._inner, self._error, self._replica_inner, self._replica_error = np.zeros(
            (5, steps + 1, steps + 1)
        )
        self.squared = np.zeros(steps + 1)

    def observe(self, state: MeanFieldState) -> None:
        """Rows t of A, E and E_12."""
        t, resolvent = state.time, self._resolvent
        response = state.response[: t + 1, :t]
        resolvent[t, :t] = -self._step * self._fraction * (response[t] @ resolvent[:t, :t])
        resolvent[t, t] = 1.0
        lack = state.overlap[: t + 1] - 1
        known = lack[t] * lack + self._model.noise_variance * np.stack(
            [state.correlation[t, : t + 1], state.replica_correlation[t, : t + 1]]
        )
        variances = self._spread * self.squared[:t]
        known[0] += self._step**2 * (response @ (variances * response[t]))
        for row, inner, error in zip(
            known, (self._inner, self._replica_inner), (self._error, self._replica_error), strict=True
        ):
            inner[t, : t + 1] = inner[: t + 1, t] = row
            projected = resolvent[t, : t + 1] @ inner[: t + 1, : t + 1]
            error[t, : t + 1] = error[: t + 1, t] = resolvent[: t + 1, : t + 1] @ projected
        self.squared[t] = self._error[t, t]

    def advance(self, state: MeanFieldState) -> None:
        """The kernels of time t, and on to t + 1."""
        t, b = state.time, self._fraction
        scale = self._model.sample_ratio * self._model.noise_variance
        rows = self._resolvent[t, : t + 1]
        noise = b * b * self._error[t, : t + 1]
        # A R V: its column t' needs R(., t') of times after t', so of the two transposes only one is not zero.
        noise[:t] -= b * self._step * (rows @ state.response[: t + 1, :t]) * self._spread * self.squared[:t]
        noise[t] += self._spread * self.squared[t]
        state.advance(
            memory=scale * b * rows,
            drift=self._model.sample_ratio * b * float(rows @ (state.overlap[: t + 1] - 1)),
            noise=scale * noise,
            replica_noise=scale * b * b * self._replica_error[t, : t + 1],
        )


@dataclass(frozen=True)
class StaticLimit:
    """The minimum that the mean weights reach.

    Attributes:
        susceptibility: g = eta b sum_n R(t + n, t), how far a constant force (divided by b) moves a weight.
        overlap: m.
        norm: |w|^2 / N; the plateau of C at long lags and of C_12.
        loss: mean loss of the training samples at the minimum; SGD that fluctuates around it has more.
    """

    susceptibility: float
    overlap: float
    norm: float
    loss: float


def static_limit(model: MixturePerceptron, batch_fraction: float = 1.0) -> StaticLimit:
    """Where the mean weights end, whatever the learning rate, the momentum and the start.

    The norm solves C = m^2 + alpha Delta g^2 [(m - 1)^2 + Delta C] / (1 + Delta g)^2, and the loss is
    [...] / (2 (1 + Delta g)^2).

    Args:
        model: loss ``square``, 2 clusters, activation ``linear``; weight decay > 0, or more samples than dimensions.
        batch_fraction: b.

    Returns:
        The limit.

    Raises:
        ValueError: for another model, or one whose minimum is not unique.

    Example:
        >>> model = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5, weight_decay=0.5)
        >>> round(static_limit(model, 0.25).overlap, 10)
        0.3737772071
    """
    if (model.loss, model.clusters, model.activation) != ("square", 2, "linear"):
        raise ValueError(
            f"loss={model.loss!r}: the static limit is known for the square loss, 2 clusters, linear activation"
        )
    fraction = checked_fraction(batch_fraction)
    alpha, delta, decay = model.sample_ratio, model.noise_variance, model.weight_decay / fraction
    if decay == 0 and alpha <= 1:
        raise ValueError(
            f"weight_decay=0 with sample_ratio={alpha:g} <= 1: the minimum is not unique; take weight_decay > 0"
        )
    # decay delta g^2 + (decay + (alpha - 1) delta) g - 1 = 0, its positive root without a subtraction.
    linear = decay + (alpha - 1) * delta
    root = math.hypot(linear, 2 * math.sqrt(decay * delta))
    g = 2 / (linear + root) if linear > 0 else (root - linear) / (2 * decay * delta)
    overlap = alpha / (decay * (1 + delta * g) + alpha * delta + alpha)
    contraction = (delta * g / (1 + delta * g)) ** 2
    # The part of C that noise in the data makes of itself: alpha Delta^2 g^2 / (1 + Delta g)^2 < 1.
    norm = (overlap**2 + alpha * contraction * (1 - overlap) ** 2 / delta) / (1 - alpha * contraction)
    loss = ((1 - overlap) ** 2 + delta * norm) / (2 * (1 + delta * g) ** 2)
    return StaticLimit(g, overlap, norm, loss)
