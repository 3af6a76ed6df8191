"""What ``jostle validate weight-variance`` measures beside the experiment: noise at fixed weights, accuracies, a scan.

All is in the directory of nnval.weight_variance::

    RUN/autocovariance/         reshuffled.npz, ... the noise of batches at fixed weights
        accuracy/               of nnval.replacement_accuracy
        scan/momentum_0.5/, ... of nnval.weight_variance_scan

At fixed weights theory must hold whatever the network is: what is tested there is that the batches are those it means.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnval.engine import run_directory as disk
from nnval.engine.datasets import ImageData
from nnval.engine.device import resolve_device, thread_count
from nnval.engine.models import build_model
from nnval.measure.batch_orders import order_file
from nnval.measure.full_loss import FullLoss
from nnval.measure.gradient_noise import Commutation, measure_gradient_noise
from nnval.measure.recording_files import load_recording, saved_arrays
from nnval.replacement_accuracy import ReplacementAccuracy
from nnval.weight_variance import VarianceResult
from nnval.weight_variance_scan import ScanPoint
from sim.ensemble import Progress
from sim.random_streams import stream
from theory.estimate import Comparison, Estimate, compare, holm

AUTOCOVARIANCE = "autocovariance"

REPLICAS, EPOCHS, LAGS = 200, 2, 25
"""Independent runs of batches at fixed weights, their epochs, and lags from 0 to two epochs."""


@dataclass(frozen=True, eq=False)
class FrozenNoise:
    """The noise of batches at fixed weights, averaged over the directions.

    Attributes:
        order: of the batches.
        lags: h, shape (n,) [updates].
        correlation: c_h / c_0 of real batches.
        predicted: the same by theory, shape (n,).
        comparisons: at lags 0, 1, and the end of an epoch.
        commutation: of noise and Hessian, within the directions.
    """

    order: str
    lags: npt.NDArray[np.int64]
    correlation: tuple[Estimate, ...]
    predicted: npt.NDArray[np.float64]
    comparisons: tuple[Comparison, ...]
    commutation: Commutation


@dataclass(frozen=True, eq=False)
class VarianceStudy:
    """What was measured.

    Attributes:
        result: of the experiment.
        noise: at fixed weights, for each order.
        accuracy: of networks trained with two orders, in pairs; None if that was not asked for.
        scan: experiments with one hyper-parameter changed.
    """

    result: VarianceResult
    noise: tuple[FrozenNoise, ...]
    accuracy: ReplacementAccuracy | None
    scan: tuple[ScanPoint, ...]

    @property
    def comparisons(self) -> list[Comparison]:
        """All that was held against theory, those of the scan included."""
        orders = [order for result in (self.result, *(p.result for p in self.scan)) for order in result.orders]
        of_orders = [c for o in orders for c in (*o.weight, *o.velocity, *o.correlation_time)]
        return [*of_orders, *(c for noise in self.noise for c in noise.comparisons)]

    @property
    def agrees(self) -> bool:
        """Whether nothing disagrees."""
        return all(comparison.verdict != "disagrees" for comparison in self.comparisons)


def frozen_noise(
    result: VarianceResult, data: ImageData, *, progress: Progress | None = None, threads: int | None = 1
) -> tuple[FrozenNoise, ...]:
    """The noise of batches at the weights where the Hessian was taken, along its largest eigenvectors.

    Args:
        result: of the experiment, whose directory gets the measurement; what is there is read.
        data: of the training.
        progress: called with replicas done and in all, and a text.
        threads: of torch.

    Returns:
        The noise of each order.
    """
    config = result.config
    directory = result.directory / AUTOCOVARIANCE
    paths = {order.order.label: directory / f"{order_file(order.order.label)}.npz" for order in result.orders}
    missing = [order for order in result.orders if not paths[order.order.label].exists()]
    if missing:
        disk.make_directory(directory)
        device = resolve_device(config.training.device)
        module = build_model(config.training, data.shape, data.classes)
        dtype = result.eigenpairs.directions.dtype
        loss = FullLoss(module, data.train, data.train.labels, dtype=dtype, device=device)
        weights = load_recording(result.directory / "settling").mean_weights[0].to(device, dtype)
        with thread_count(threads):
            for order in missing:
                batches = order.batches_per_epoch
                found = measure_gradient_noise(
                    loss,
                    weights,
                    result.eigenpairs.directions,
                    batch_size=order.recording.batch_size,
                    order=order.order,
                    epochs=EPOCHS,
                    rng=stream(config.seed, "frozen_noise"),
                    replicas=REPLICAS,
                    lags=_lags(batches),
                    curvatures=result.eigenpairs.curvatures,
                    progress=progress,
                )
                target = io.BytesIO()
                values, errors = np.array([(e.value, e.standard_error) for e in found.correlation]).T
                np.savez(
                    target,
                    lags=found.lags,
                    values=values,
                    errors=errors,
                    predicted=found.predicted_correlation,
                    commutation=_of(found.commutation),
                )
                disk.write_whole(paths[order.order.label], target.getvalue())
    return tuple(_read(order.order.label, paths[order.order.label], order.batches_per_epoch) for order in result.orders)


def _lags(batches: int) -> list[int]:
    spread = np.linspace(0, 2 * batches, LAGS).round().astype(int).tolist()
    return sorted({*spread, 1, batches - 1, batches})


def _of(commutation: Commutation) -> list[float]:
    commutator = np.nan if commutation.commutator is None else commutation.commutator
    return [commutation.off_diagonal_share, commutation.rms_correlation, commutator]


def _read(label: str, path: Path, batches: int) -> FrozenNoise:
    values = saved_arrays(path)
    pairs = zip(values["values"].tolist(), values["errors"].tolist(), strict=True)
    correlation = tuple(Estimate(value, error, REPLICAS) for value, error in pairs)
    share, rms, commutator = values["commutation"].tolist()
    return FrozenNoise(
        label,
        values["lags"],
        correlation,
        values["predicted"],
        _compared(label, values["lags"], correlation, values["predicted"], batches),
        Commutation(share, rms, None if np.isnan(commutator) else commutator),
    )


def _compared(
    label: str,
    lags: npt.NDArray[np.int64],
    correlation: Sequence[Estimate],
    predicted: npt.NDArray[np.float64],
    batches: int,
) -> tuple[Comparison, ...]:
    found = [
        compare(f"{label}, noise at lag {lag}", Estimate(value, 0.0, 1), estimate)
        for lag, value, estimate in zip(lags.tolist(), predicted.tolist(), correlation, strict=True)
        if lag in (0, 1, batches - 1, batches)
    ]
    return tuple(holm(found))
