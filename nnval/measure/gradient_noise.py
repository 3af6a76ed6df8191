"""The noise of mini-batch gradients along given directions at frozen weights: variances, and autocovariance over lags.

The gradient of every sample is computed once and projected on the directions, G (N, k). A batch gradient is then
a mean of S rows of G, exactly, and thousands of epochs cost less than one. With LeNet on a CPU the gradients of single
samples took 0.4 ms each and their projection on 100 directions 0.2 ms; the gradient of a batch 0.2 ms for each sample,
in every epoch anew.

The covariance C_0 = (1 / N) sum_n (g_n - <g>)(g_n - <g>)^T of single samples is known from all of them, without error.
It gives the variance of batch gradients in any order (theory.gradient_noise), which is held against real batches of
sim.batch_order. They have to agree whatever the weights are, at the beginning of training too: what is tested is that
the batches are those that theory means. What theory assumes beyond that is that C_0 commutes with the Hessian; see
``Commutation``.

Reference: [kuhn2023] autocovariance of reshuffled batches, and the assumption that noise and Hessian commute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from nnval.measure.batch_orders import BatchOrder
from nnval.measure.full_loss import FullLoss
from sim.batch_order import batches_per_epoch
from sim.ensemble import Progress
from sim.random_streams import kernel_key
from theory.absorbing import Floats, whole_number
from theory.estimate import Estimate
from theory.gradient_noise import GradientNoise, Persistent

MEMORY = 4 * 2**30
"""Bytes that projected gradients may take by default."""


@dataclass(frozen=True)
class Commutation:
    """How far the noise is from commuting with the Hessian, within the measured directions.

    If these are eigenvectors of the Hessian H, that means how far C_0 is from being diagonal.

    Attributes:
        off_diagonal_share: sum_{i != j} C_ij^2 / sum_ij C_ij^2, in [0, 1].
        rms_correlation: root mean square of C_ij / sqrt(C_ii C_jj) over i != j, in [0, 1]; of directions without noise
            there is none, and 0 of a single one.
        commutator: |HC - CH| / (sqrt(2) |H| |C|) with Frobenius norms, in [0, 1]; None without curvatures. Of H and C
            within the directions; what C does beyond them is not seen.
    """

    off_diagonal_share: float
    rms_correlation: float
    commutator: float | None

    @classmethod
    def of(cls, covariance: Floats, curvatures: Floats | None = None) -> "Commutation":
        """From the covariance in a basis of eigenvectors.

        Args:
            covariance: C, shape (k, k).
            curvatures: eigenvalues of H, shape (k,).

        Returns:
            The measures.

        Raises:
            ValueError: for shapes that do not fit.

        Example:
            >>> Commutation.of(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, -1.0]))
            Commutation(off_diagonal_share=0.2, rms_correlation=0.5, commutator=0.4472135954999579)
        """
        if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
            raise ValueError(f"covariance of shape {covariance.shape} must be square")
        variances = np.diag(covariance)
        off_diagonal = covariance - np.diag(variances)
        squares = float((covariance**2).sum())
        noisy = variances > 0
        pairs = int(noisy.sum()) * (int(noisy.sum()) - 1)
        scaled = off_diagonal[np.ix_(noisy, noisy)] ** 2 / np.outer(variances[noisy], variances[noisy])
        return cls(
            off_diagonal_share=float((off_diagonal**2).sum()) / squares if squares else 0.0,
            rms_correlation=float(np.sqrt(scaled.sum() / pairs)) if pairs else 0.0,
            commutator=None if curvatures is None else _commutator(covariance, curvatures, squares),
        )


def _commutator(covariance: Floats, curvatures: Floats, squares: float) -> float:
    if curvatures.shape != covariance.shape[:1]:
        raise ValueError(f"curvatures of shape {curvatures.shape} must be {len(covariance)}, one for each direction")
    bound = 2 * float(curvatures @ curvatures) * squares
    commutator = (curvatures[:, None] - curvatures) * covariance
    return float(np.sqrt((commutator**2).sum() / bound)) if bound else 0.0


@dataclass(frozen=True, eq=False)
class ProjectedGradients:
    """The gradients of all samples along k directions.

    Attributes:
        deviations: g_n - <g> along the directions, (N, k), on the device.
        mean: <g> along the directions, (k,).
        covariance: C_0, (k, k) [gradient^2].
    """

    deviations: torch.Tensor
    mean: Floats
    covariance: Floats


@dataclass(frozen=True, eq=False)
class MeasuredNoise:
    """The noise of batches along k directions at frozen weights.

    Attributes:
        order: of the batches.
        samples: N.
        batch_size: S.
        unit: the noise that theory expects where single samples have the variance 1.
        example_variance: C_0 along each direction, (k,); of persistent batches <g^2>, since their sizes fluctuate.
        mean_gradient: along each direction, (k,).
        covariance: C_0, (k, k).
        commutation: of C_0 with the Hessian.
        lags: h, (L,), of which the first is 0.
        autocovariance: c_h of real batches, averaged over updates and replicas, (k, L) [gradient^2].
        autocovariance_error: standard errors over replicas, (k, L).
        correlation_samples: c_h / c_0 of each replica, averaged over directions with noise, (replicas, L), with the c_0
            that theory expects.

    Example:
        >>> inputs, rng = torch.arange(1.0, 13.0).reshape(12, 1), np.random.default_rng(0)
        >>> squares = lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2
        >>> loss = FullLoss(torch.nn.Linear(1, 1, bias=False), inputs, inputs, loss=squares)
        >>> noise = measure_gradient_noise(
        ...     loss, torch.zeros(1), torch.ones(1, 1), batch_size=3, epochs=2, rng=rng, replicas=8
        ... )
        >>> noise.batches_per_epoch, noise.replicas, noise.variance[0].n
        (4, 8, 8)
    """

    order: BatchOrder
    samples: int
    batch_size: int
    unit: GradientNoise
    example_variance: Floats
    mean_gradient: Floats
    covariance: Floats = field(repr=False)
    commutation: Commutation
    lags: npt.NDArray[np.int64]
    autocovariance: Floats = field(repr=False)
    autocovariance_error: Floats = field(repr=False)
    correlation_samples: Floats = field(repr=False)

    @property
    def batches_per_epoch(self) -> int:
        """M."""
        return self.samples // self.batch_size

    @property
    def replicas(self) -> int:
        """Independent runs of batches."""
        return len(self.correlation_samples)

    @property
    def variance(self) -> tuple[Estimate, ...]:
        """sigma^2 = c_0 of real batches along each direction."""
        pairs = zip(self.autocovariance[:, 0].tolist(), self.autocovariance_error[:, 0].tolist(), strict=True)
        return tuple(Estimate(value, error, self.replicas) for value, error in pairs)

    @property
    def predicted_variance(self) -> Floats:
        """sigma^2 along each direction, from C_0 and without sampling error, (k,)."""
        return self.unit.variance * self.example_variance

    @property
    def predicted_autocovariance(self) -> Floats:
        """c_h along each direction, (k, L)."""
        return np.multiply.outer(self.example_variance, self.unit.autocovariance(self.lags))

    @property
    def correlation(self) -> tuple[Estimate, ...]:
        """c_h / c_0 for each lag, averaged over the directions."""
        return Estimate.from_columns(self.correlation_samples)

    @property
    def predicted_correlation(self) -> Floats:
        """c_h / c_0, (L,)."""
        return self.unit.autocovariance(self.lags) / self.unit.variance


def projected_gradients(
    loss: FullLoss,
    weights: torch.Tensor,
    directions: torch.Tensor,
    *,
    memory: float = MEMORY,
    progress: Progress | None = None,
) -> ProjectedGradients:
    """The gradients of all samples, projected on directions.

    Args:
        loss: of which the samples are taken.
        weights: shape (d,).
        directions: orthonormal rows (k, d).
        memory: bytes that the result may take, on the loss's device.
        progress: called with (samples done, N, text).

    Returns:
        The projections.

    Raises:
        ValueError: for directions of another shape, too little memory, or gradients that are not finite.
    """
    if directions.ndim != 2 or directions.shape[1] != loss.size or not len(directions):
        raise ValueError(f"directions of shape {tuple(directions.shape)} must have shape (k, {loss.size}), k >= 1")
    axes = directions.to(loss.device, loss.dtype)
    needed = loss.samples * len(axes) * axes.element_size()
    if needed > memory:
        raise ValueError(
            f"gradients of {loss.samples:,} samples along {len(axes):,} directions need {needed / 2**30:.3g} GiB, over "
            f"memory={memory:.3g} bytes: take fewer directions, or allow more"
        )
    result = axes.new_empty((loss.samples, len(axes)))
    done = 0
    for gradients in loss.example_gradients(weights):
        result[done : done + len(gradients)] = gradients @ axes.T
        done += len(gradients)
        if progress is not None:
            progress(done, loss.samples, f"gradients of single samples: {needed / 2**20:,.0f} MiB")
    if not torch.isfinite(result).all():
        raise ValueError("gradients of single samples are not finite at these weights: there is no noise to measure")
    wide = torch.float32 if result.device.type == "mps" else torch.float64
    mean = result.mean(0, dtype=wide)
    result -= mean.to(result)
    covariance = sum((some.to(wide).T @ some.to(wide) for some in result.split(8192)), torch.zeros((), dtype=wide))
    return ProjectedGradients(
        result, mean.cpu().double().numpy(), covariance.cpu().double().numpy() / np.float64(loss.samples)
    )


def measure_gradient_noise(
    loss: FullLoss,
    weights: torch.Tensor,
    directions: torch.Tensor,
    *,
    batch_size: int,
    order: BatchOrder | str = "reshuffled",
    epochs: int,
    rng: np.random.Generator,
    replicas: int = 200,
    lags: Sequence[int] | None = None,
    curvatures: Floats | None = None,
    memory: float = MEMORY,
    progress: Progress | None = None,
) -> MeasuredNoise:
    """The noise of batch gradients along directions, at frozen weights.

    Args:
        loss: the network and its data.
        weights: shape (d,); those at the beginning of training, or at its end.
        directions: orthonormal rows (k, d), such as ``Eigenpairs.directions``.
        batch_size: S.
        order: of the batches: one of nnval.measure.batch_orders, by name or with its options.
        epochs: in each replica, >= 1; rounded up to whole periods of an order that is kept for several epochs.
        rng: where batches come from; two draws are taken.
        replicas: independent runs of batches, >= 2.
        lags: h >= 0; by default 0 to 3, quarters of an epoch and the lags around it. 0 is always first.
        curvatures: of the directions, for ``Commutation.commutator``.
        memory: see ``projected_gradients``.
        progress: called with (done, total, text).

    Returns:
        The noise, with theory beside it.

    Raises:
        ValueError: for arguments out of range, an order whose noise is not stationary, or a loss that is not
            deterministic.

    Example:
        >>> inputs, rng = torch.arange(1.0, 13.0).reshape(12, 1), np.random.default_rng(0)
        >>> squares = lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2
        >>> loss = FullLoss(torch.nn.Linear(1, 1, bias=False), inputs, inputs, loss=squares)
        >>> noise = measure_gradient_noise(
        ...     loss, torch.zeros(1), torch.ones(1, 1), batch_size=3, epochs=10, rng=rng, replicas=20
        ... )
        >>> measured, predicted = noise.variance[0], noise.predicted_variance[0]
        >>> bool(abs(measured.value - predicted) < 4 * measured.standard_error)
        True
    """
    order = BatchOrder.parsed(order) if isinstance(order, str) else order
    unit = order.noise(loss.samples, batch_size)
    loss.irreproducibility(weights)
    gradients = projected_gradients(loss, weights, directions, memory=memory, progress=progress)
    commutation = Commutation.of(gradients.covariance, curvatures)
    batches = batches_per_epoch(loss.samples, batch_size)
    chosen = _checked_lags(lags, batches)
    variance = np.diag(gradients.covariance).copy()
    if isinstance(unit, Persistent):
        variance += gradients.mean**2
    products, correlations = _lagged_products(
        gradients, order, batch_size, chosen, epochs, replicas, rng, unit.variance * variance, progress
    )
    return MeasuredNoise(
        order=order,
        samples=loss.samples,
        batch_size=batch_size,
        unit=unit,
        example_variance=variance,
        mean_gradient=gradients.mean,
        covariance=gradients.covariance,
        commutation=commutation,
        lags=chosen,
        autocovariance=products[0],
        autocovariance_error=products[1],
        correlation_samples=correlations,
    )


def _checked_lags(lags: Sequence[int] | None, batches: int) -> npt.NDArray[np.int64]:
    if lags is None:
        quarters = (batches * quarter // 4 for quarter in (1, 2, 3))
        lags = [*range(4), *quarters, batches - 1, batches, batches + 1]
    return np.unique([0, *(whole_number("lags", lag, 0) for lag in lags)])


def _lagged_products(
    gradients: ProjectedGradients,
    order: BatchOrder,
    batch_size: int,
    lags: npt.NDArray[np.int64],
    epochs: int,
    replicas: int,
    rng: np.random.Generator,
    expected: Floats,
    progress: Progress | None,
) -> tuple[tuple[Floats, Floats], Floats]:
    """(means, standard errors) of dg_k dg_{k+h}, (k, L) each, and means over directions in units of c_0, (R, L)."""
    epochs, replicas = whole_number("epochs", epochs, 1), whole_number("replicas", replicas, 2)
    samples, directions = gradients.deviations.shape
    batches = samples // batch_size
    span = batches * order.every * -(-epochs // order.every)
    following = -(-int(lags[-1]) // batches)
    noisy = torch.from_numpy(expected > 0)
    unit = torch.from_numpy(np.where(expected > 0, expected, 1.0))
    # Welford's recurrence: squares of sums would cancel, and all replicas would not fit into memory.
    mean, squares = torch.zeros(2, len(lags), directions, dtype=torch.float64)
    correlations = np.empty((replicas, len(lags)))
    key = kernel_key(rng).tolist()
    for replica in range(replicas):
        epochs_of = order.epochs(samples, batch_size, np.random.default_rng([*key, replica]))
        drawn = islice(epochs_of, span // batches + following)
        noise = torch.cat([_batch_noise(gradients, epoch, batch_size) for epoch in drawn])
        values = torch.stack([(noise[:span] * noise[lag : lag + span]).mean(0) for lag in lags.tolist()]).cpu().double()
        change = values - mean
        mean += change / (replica + 1)
        squares += change * (values - mean)
        correlations[replica] = (values / unit)[:, noisy].mean(1).numpy() if noisy.any() else 0.0
        if progress is not None:
            progress(replica + 1, replicas, "replicas of batches")
    error = (squares / (replicas - 1) / replicas).sqrt()
    return (mean.T.numpy().copy(), error.T.numpy().copy()), correlations


def _batch_noise(
    gradients: ProjectedGradients, epoch: Sequence[npt.NDArray[np.int64]] | npt.NDArray[np.int64], batch_size: int
) -> torch.Tensor:
    """(M, k): the gradients of an epoch's batches minus the mean gradient; sums over a batch are divided by S."""
    deviations = gradients.deviations
    sizes = np.array([len(batch) for batch in epoch])
    indices = torch.from_numpy(np.concatenate(list(epoch)) if len(epoch) else np.empty(0, np.int64))
    begins = torch.from_numpy(np.cumsum(sizes) - sizes)
    sums = F.embedding_bag(indices.to(deviations.device), deviations, begins.to(deviations.device), mode="sum")
    if (sizes != batch_size).any():
        excess = torch.from_numpy(np.multiply.outer(sizes - batch_size, gradients.mean))
        sums = sums + excess.to(sums)
    return sums / batch_size
