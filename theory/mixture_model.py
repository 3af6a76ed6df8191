r"""The perceptron on a Gaussian mixture: data, activations, losses, test error; and how it is trained.

Samples mu = 1, ..., alpha N in N dimensions belong to clusters around c v*, with |v*|^2 = N:

    x_mu = c_mu v* / sqrt(N) + sqrt(Delta) z_mu,    z_mu standard normal,    u_mu = w . x_mu / sqrt(N).

    clusters  c         probability    label y
    2         -1, +1    1/2, 1/2       c
    3         -1, 0, 1  1/4, 1/2, 1/4  +1 for c = -1 and 1, -1 for c = 0

The activation phi is linear, phi(u) = u, or the door phi(u) = u^2 - L^2. With the margin v = y phi(u) the loss of a
sample is a function of v alone, and training descends H = sum_mu loss(v_mu) + (lambda / 2) |w|^2:

    loss           value                                                       parameter
    square         (1 - v)^2 / 2
    logistic       log(1 + exp(-v))
    squared_hinge  max(kappa - v, 0)^2 / 2                                     kappa
    perceptron     kappa - v - h / 2 for v < kappa - h, 0 for v > kappa,       kappa, h
                   (kappa - v)^2 / (2 h) between

The perceptron loss max(kappa - v, 0) has its kink rounded over a width h > 0, as mean-field theory needs its second
derivative as a function. Much below eta Delta, single steps cross the kink and responses grow without bound: the theory
then needs too many particles. Normalisations, the rounding and the widths are choices of jostle.

Reference: [mignacco2022] the model
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.noise_arguments import checked_rate, number

TINY = float(np.finfo(float).tiny)
LOSSES = ("square", "logistic", "squared_hinge", "perceptron")
ACTIVATIONS = ("linear", "door")
STRATUM = 8
"""Particles come in multiples of it: each cluster then has its exact share, in pairs."""


@dataclass(frozen=True)
class MixturePerceptron:
    """A perceptron, its data in the limit of many dimensions, and what it minimises.

    Attributes:
        sample_ratio: alpha > 0, training samples per dimension.
        noise_variance: Delta > 0, of the data around the centres of their clusters.
        loss: one of ``LOSSES``.
        clusters: 2 or 3.
        activation: one of ``ACTIVATIONS``.
        weight_decay: lambda >= 0; the force of the data is a sum over samples, not a mean.
        margin: kappa >= 0 of ``squared_hinge`` and ``perceptron``.
        smoothing: h > 0, the width of the kink of ``perceptron``.
        door_width: L > 0 of the door.
    """

    sample_ratio: float
    noise_variance: float
    loss: str = "square"
    clusters: int = 2
    activation: str = "linear"
    weight_decay: float = 0.0
    margin: float = 1.0
    smoothing: float = 0.5
    door_width: float = 1.0

    def __post_init__(self) -> None:
        for name in ("sample_ratio", "noise_variance", "smoothing", "door_width"):
            object.__setattr__(self, name, _bounded(name, getattr(self, name), positive=True))
        for name in ("weight_decay", "margin"):
            object.__setattr__(self, name, _bounded(name, getattr(self, name)))
        for name, value, known in (("loss", self.loss, LOSSES), ("activation", self.activation, ACTIVATIONS)):
            if value not in known:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}")
        if self.clusters not in (2, 3):
            raise ValueError(f"clusters={self.clusters!r} must be 2 or 3")

    @property
    def centres(self) -> tuple[int, ...]:
        """The c of each cluster."""
        return (-1, 1) if self.clusters == 2 else (-1, 0, 1)

    @property
    def labels(self) -> tuple[int, ...]:
        """The y of each cluster."""
        return (-1, 1) if self.clusters == 2 else (1, -1, 1)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of each cluster."""
        return (0.5, 0.5) if self.clusters == 2 else (0.25, 0.5, 0.25)

    def stratified_samples(self, count: int) -> tuple[Floats, Floats]:
        """Centres and labels of samples of which each cluster has its exact share, equal in both halves.

        Args:
            count: a multiple of ``STRATUM``.

        Returns:
            c and y, each of shape (count,).

        Raises:
            ValueError: for another count.

        Example:
            >>> MixturePerceptron(2.0, 0.5).stratified_samples(8)[0].tolist()
            [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0]
        """
        if count < STRATUM or count % STRATUM:
            raise ValueError(
                f"count={count} must be a positive multiple of {STRATUM}, for equal shares of the clusters"
            )
        kinds = np.array((0, 1, 0, 1) if self.clusters == 2 else (0, 1, 2, 1))
        pattern = np.tile(kinds, count // len(kinds))
        return np.array(self.centres, dtype=float)[pattern], np.array(self.labels, dtype=float)[pattern]

    def margins(self, label: Floats, field: Floats) -> Floats:
        """Margins v = y phi(u); a sample is classified correctly if its own is > 0.

        Args:
            label: y.
            field: u, of the same shape.

        Returns:
            v, of the same shape.
        """
        return label * (field if self.activation == "linear" else field**2 - self.door_width**2)

    def losses(self, margins: Floats) -> Floats:
        """The loss of samples.

        Args:
            margins: v, any shape.

        Returns:
            loss(v), in the shape of the margins.

        Example:
            >>> rounded = MixturePerceptron(1.0, 1.0, loss="perceptron", smoothing=0.5)
            >>> rounded.losses(np.array([-1.0, 0.75, 2.0])).tolist()
            [1.75, 0.0625, 0.0]
        """
        if self.loss == "square":
            return 0.5 * (1 - margins) ** 2
        if self.loss == "logistic":
            return np.logaddexp(0.0, -margins)
        lack = np.maximum(self.margin - margins, 0.0)
        if self.loss == "squared_hinge":
            return 0.5 * lack**2
        return np.where(lack < self.smoothing, lack**2 / (2 * self.smoothing), lack - self.smoothing / 2)

    def derivatives(self, label: Floats, field: Floats) -> tuple[Floats, Floats]:
        """The first and second derivative of the loss with respect to the field u.

        l' = y phi' loss'(v),  l'' = phi'^2 loss''(v) + y phi'' loss'(v).

        Args:
            label: y.
            field: u, of the same shape.

        Returns:
            l' and l'', of the same shape.

        Example:
            >>> slope, curvature = MixturePerceptron(1.0, 1.0).derivatives(np.array([-1.0]), np.array([0.5]))
            >>> slope.tolist(), curvature.tolist()
            ([1.5], [1.0])
        """
        first, second = self._in_margin(self.margins(label, field))
        if self.activation == "linear":
            return label * first, second
        return 2 * label * field * first, 4 * field**2 * second + 2 * label * first

    def _in_margin(self, margins: Floats) -> tuple[Floats, Floats]:
        """loss'(v) and loss''(v)."""
        if self.loss == "square":
            return margins - 1, np.ones_like(margins)
        if self.loss == "logistic":
            from scipy.special import expit

            wrong = expit(-margins)
            return -wrong, wrong * expit(margins)
        lack = np.maximum(self.margin - margins, 0.0)
        if self.loss == "squared_hinge":
            return -lack, (lack > 0).astype(float)
        rounded = (lack > 0) & (lack < self.smoothing)
        return -np.minimum(lack / self.smoothing, 1.0), rounded / self.smoothing

    def test_error(self, overlap: npt.ArrayLike, norm: npt.ArrayLike) -> Floats:
        """The probability that a new sample has v < 0, given m = w . v* / N and C = |w|^2 / N.

        Args:
            overlap: m, any shape.
            norm: C > 0, broadcast against m.

        Returns:
            In the common shape.

        Raises:
            ValueError: unless C > 0 and both are finite everywhere.

        Example:
            >>> float(MixturePerceptron(1.0, 1.0).test_error(0.5, 1.0).round(6))  # Pr(normal < -0.5)
            0.308538
        """
        m, square = np.asarray(overlap, dtype=float), np.asarray(norm, dtype=float)
        if not ((square > 0) & (square < math.inf)).all():
            bad = square[~((square > 0) & (square < math.inf))].flat[0]
            raise ValueError(f"norm={bad} must be > 0 and finite: weights of zero have no side")
        if not np.isfinite(m).all():
            raise ValueError(f"overlap={m[~np.isfinite(m)].flat[0]} must be a number, and finite")
        with np.errstate(over="ignore"):  # what is far on one side is there for certain
            return np.clip(self._wrong_side(m, np.maximum(np.sqrt(self.noise_variance * square), TINY)), 0.0, 1.0)

    def _wrong_side(self, m: Floats, width: Floats) -> Floats:
        """The probability of v < 0, for fields with these standard deviations."""
        from scipy.special import ndtr

        total = np.zeros(np.broadcast_shapes(m.shape, width.shape))
        for c, y, probability in zip(self.centres, self.labels, self.probabilities, strict=True):
            if self.activation == "linear":
                wrong = ndtr(-y * c * m / width)
            else:
                outside = ndtr(-(self.door_width - c * m) / width) + ndtr(-(self.door_width + c * m) / width)
                wrong = outside if y < 0 else 1 - outside
            total = total + probability * wrong
        return total


def _bounded(name: str, value: float, *, positive: bool = False) -> float:
    """Check a parameter of the model: finite, >= 0 or > 0, and within 1e-6 .. 1e6 unless zero."""
    checked = number(name, value)
    if not (math.isfinite(checked) and (checked > 0 if positive else checked >= 0)):
        raise ValueError(f"{name}={value} must be finite and {'> 0' if positive else '>= 0'}")
    if checked and not 1e-6 <= checked <= 1e6:
        raise ValueError(f"{name}={checked:g} must lie between 1e-06 and 1e+06; change the units")
    return checked


@dataclass(frozen=True)
class PerceptronTraining:
    """How the weights start and move, whatever the batches.

    w(t+1) = w(t) + beta (w(t) - w(t-1)) - eta [lambda w(t) + sum_mu s_mu(t) l'_mu x_mu / sqrt(N)],  w(-1) = w(0).
    The force of a batch is a sum over the samples in it (s_mu = 1), not divided by the fraction b of all.

    Attributes:
        learning_rate: eta > 0.
        momentum: 0 <= beta < 1.
        initial_overlap: m(0) = w(0) . v* / N.
        initial_spread: standard deviation >= 0 of the other components of w(0).

    Example:
        >>> from theory import FullBatch, solve_ridge
        >>> model = MixturePerceptron(sample_ratio=2.0, noise_variance=0.5)
        >>> solved = solve_ridge(model, PerceptronTraining(learning_rate=0.1, momentum=0.5), FullBatch(0.5), steps=2)
        >>> solved.overlap.round(12).tolist()  # m(1) = eta alpha b
        [0.0, 0.1, 0.2325]
    """

    learning_rate: float
    momentum: float = 0.0
    initial_overlap: float = 0.0
    initial_spread: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", checked_rate("learning_rate", self.learning_rate))
        momentum = number("momentum", self.momentum)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={self.momentum} must satisfy 0 <= momentum < 1")
        overlap, spread = number("initial_overlap", self.initial_overlap), number("initial_spread", self.initial_spread)
        if not abs(overlap) <= 1e6:
            raise ValueError(f"initial_overlap={self.initial_overlap} must be finite and at most 1e6 in size")
        if not 0 <= spread <= 1e6:
            raise ValueError(f"initial_spread={self.initial_spread} must be finite, >= 0 and at most 1e6")
        if overlap == 0 and spread == 0:
            raise ValueError(
                "initial_overlap=0 and initial_spread=0: weights must start somewhere; make one of them > 0"
            )
        for name, value in (("momentum", momentum), ("initial_overlap", overlap), ("initial_spread", spread)):
            object.__setattr__(self, name, value)
