"""Do the weights of a real network fluctuate as theory.weight_variance says, direction by direction?

One network is trained; its learning rate is frozen and it trains on for a while ("settling"). At the mean of the
weights meanwhile the eigenvectors of the Hessian are taken. From where it then is, several runs train on with orders of
batches of their own, and their weights are projected on the eigenvectors after every update. Each stage is in a
directory of its own and can be resumed::

    RUN/config.json             what is done
        training/               an ensemble of one (nnval.engine)
        settling/               a recording of one run (nnval.measure.weight_recording)
        eigenpairs/             the largest curvatures (nnval.measure.hessian); eigenpairs_near_1/ .. around chosen ones
        reshuffled/, ...        a recording for each order of batches
        reshuffled.npz, ...     curvatures and noise at the weights of that recording

Reference: [kuhn2023] the measurement on LeNet; the protocol here is ours
"""

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnval.engine import run_directory as disk
from nnval.engine.checkpoint import read_state
from nnval.engine.config import fingerprint_of
from nnval.engine.datasets import ImageData, load_data
from nnval.engine.device import environment, resolve_device
from nnval.engine.ensemble import train_ensemble
from nnval.engine.models import build_model
from nnval.engine.stack import ChainExecution
from nnval.measure.batch_gradients import BatchGradients
from nnval.measure.batch_orders import order_file
from nnval.measure.example_variance import example_variance
from nnval.measure.fluctuations import epoch_sums
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian import Eigenpairs, eigenpairs
from nnval.measure.recording_files import RecordingConfig, WeightRecording, saved_arrays
from nnval.measure.restoring_force import restoring_force
from nnval.measure.weight_recording import record_weights
from nnval.weight_variance_comparison import OrderResult, Spectrum, checked_tolerance, compared
from nnval.weight_variance_config import VarianceConfig
from sim.batch_order import batches_per_epoch
from sim.ensemble import Progress
from sim.random_streams import stream

__all__ = ["OrderResult", "Spectrum", "VarianceConfig", "VarianceResult", "measure_weight_variance"]


@dataclass(frozen=True, eq=False)
class VarianceResult:
    """What was measured.

    Attributes:
        config: of the experiment.
        directory: of the run.
        samples: N, training samples.
        weights: d.
        test_accuracy: of the trained network.
        training_loss: mean over all samples, where the Hessian was taken.
        eigenpairs: of the largest curvatures, without weight decay.
        orders: what each order of batches gave.
        tolerance: model error that theory is granted along each direction, as a fraction of its prediction.

    Example:
        >>> import tempfile
        >>> from nnval.engine.config import TrainingConfig
        >>> training = TrainingConfig(train_size=40, hidden=(4,), batch_size=20, epochs=2, members=1)
        >>> config = VarianceConfig(training=training, orders=["reshuffled"], runs=4, burn_in=0, directions=1)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = measure_weight_variance(config, directory)
        >>> result.samples, len(result.eigenpairs.curvatures)
        (40, 1)
    """

    config: VarianceConfig
    directory: Path
    samples: int
    weights: int
    test_accuracy: float
    training_loss: float
    eigenpairs: Eigenpairs
    orders: tuple[OrderResult, ...]
    tolerance: float = 0.0


class _Stages:
    """Adds up the progress of stages, in epochs of one run."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._before, self._last = progress, total, 0, 0

    def of(self, work: int) -> Progress | None:
        """A callback for a stage of so much work; whatever its own unit is."""
        before, self._before = self._before, self._before + work
        tell = self._progress
        if tell is None:
            return None

        def report(done: int, all_: int, text: str) -> None:
            # Lanczos fills its basis again and again; a bar does not go back.
            self._last = max(self._last, before + min(work, work * done // max(all_, 1)))
            tell(self._last, self._total, text)

        return report


def measure_weight_variance(
    config: VarianceConfig,
    directory: str | Path,
    *,
    trained: str | Path | None = None,
    progress: Progress | None = None,
    threads: int | None = 1,
    data: ImageData | None = None,
    tolerance: float = 0.0,
) -> VarianceResult:
    """Train, freeze the learning rate, take the Hessian, record, and compare; or go on with that.

    Args:
        config: what to do.
        directory: of the run: absent, empty, or holding this very run. A finished run is only read.
        trained: directory of a training stage to share with other runs; by default ``training`` in the directory.
        progress: called with completed and all work and a text; it may raise Interrupted.
        threads: of torch.
        data: what ``load_data(config.training)`` gave, if it was called already.
        tolerance: see ``VarianceResult``. It is no part of the run: a finished one can be read with another.

    Returns:
        The result. Verdicts hold at 1 % for all directions together, for each order and quantity. Its config has the
        device and the check sum of the data filled in.

    Raises:
        ValueError: if the network is none that theory is about (Dropout, BatchNorm), diverges, or a size is out of
            range.
        RunDirectoryError: if the directory holds something else.
        StorageError: if a file cannot be written; the run can be resumed.
        Interrupted: after Ctrl-C; the run can be resumed.

    Example:
        >>> import tempfile
        >>> from nnval.engine.config import TrainingConfig
        >>> training = TrainingConfig(train_size=40, hidden=(4,), batch_size=20, epochs=2, members=1)
        >>> config = VarianceConfig(training=training, orders=["reshuffled"], runs=4, burn_in=0, directions=1)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = measure_weight_variance(config, directory)
        >>> [each.order.label for each in result.orders]
        ['reshuffled']
    """
    directory, tolerance = Path(directory), checked_tolerance(tolerance)
    data = load_data(config.training) if data is None else data
    config, device = _settled(config, directory, data)
    module = build_model(config.training, data.shape, data.classes)
    # Refuses Dropout, BatchNorm and the like, and orders without a theory, before anything is trained.
    loss = FullLoss(module, data.train, data.train.labels, dtype=getattr(torch, config.hessian_dtype), device=device)
    recordings = {order: config.recording(order) for order in config.orders}
    for recording in recordings.values():
        recording.order.noise(len(data.train), recording.batch_size)
        recording.measured_updates(0, batches_per_epoch(len(data.train), recording.batch_size))
    plain = config.to_dict()
    described = {"data_dir": plain["training"].pop("data_dir"), **plain}  # where the data lie has no effect
    description = {"schema": disk.SCHEMA, "fingerprint": fingerprint_of(plain), "config": described, "branch": None}
    each = (config.burn_in + config.epochs * (1 + config.full_gradients)) * config.runs
    hessian = config.directions * 2 + len(config.near) * config.near_directions * 20
    stages = _Stages(progress, config.training.epochs + config.settle + hessian + each * len(recordings))
    with disk.opened(directory, description, environment(device)):
        ensemble = train_ensemble(
            config.training,
            directory / "training" if trained is None else trained,
            progress=stages.of(config.training.epochs),
            threads=threads,
            data=data,
        )
        weights, velocity = _trained(ensemble.directory, config, loss)
        gradients = {order: _gradients(module, data, recordings[order], device) for order in recordings}
        settled = _settle(config, gradients, weights, velocity, directory, stages.of(config.settle), threads)
        centre = settled.mean_weights[0].to(device, loss.dtype)
        found, spectrum = _directions(config, loss, centre, directory, stages.of(hessian))
        results = []
        for order, recording in recordings.items():
            record = record_weights(
                recording,
                gradients[order],
                settled.final_weights[0],
                spectrum["directions"],
                directory / order_file(order),
                progress=stages.of(each),
                threads=threads,
            )
            at_weights = _at_weights(loss, record, spectrum, config.training.weight_decay, directory)
            rng = stream(config.seed, "bootstrap")
            results.append(
                compared(
                    recording,
                    len(data.train),
                    epoch_sums(record),
                    at_weights,
                    rng,
                    drift=config.drift,
                    force=None if record.gradients is None else restoring_force(record),
                    tolerance=tolerance,
                )
            )
        value = loss.value(centre)
    return VarianceResult(
        config=config,
        directory=directory,
        samples=len(data.train),
        weights=loss.size,
        test_accuracy=float(ensemble.test_accuracy[0]),
        training_loss=value,
        eigenpairs=found,
        orders=tuple(results),
        tolerance=tolerance,
    )


def _settled(config: VarianceConfig, directory: Path, data: ImageData) -> tuple[VarianceConfig, torch.device]:
    """The config with device and check sum of the data filled in."""
    name = config.training.device
    if name == "auto" and (directory / disk.CONFIG).is_file():  # another device would round otherwise
        name = disk.read_description(directory)["config"].get("training", {}).get("device", name)
    device = resolve_device(name)
    training = dataclasses.replace(config.training, device=str(device), data_sha256=data.sha256)
    return dataclasses.replace(config, training=training), device


def _trained(run: Path, config: VarianceConfig, loss: FullLoss) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and velocity at the end of training."""
    # A network that diverges is dropped before the last epoch, and leaves no snapshot, or an empty one.
    snapshots = sorted((run / disk.BLOCKS).glob(f"*/snapshot_{config.training.epochs:04d}.pt"))
    stacks = [stack for path in snapshots if len(stack := read_state(path).stack)]
    if not stacks:
        raise ValueError(
            f"training diverged: lower learning_rate={config.training.learning_rate:g}; or {run} lacks its snapshot: "
            "remove it to train anew"
        )
    view = stacks[0].member(0)
    weights = torch.cat([each.reshape(-1) for each in view.parameters.values()])
    if len(weights) != loss.size:
        raise ValueError(f"the network has {len(weights)} weights, of which {loss.size} are trained: all must be")
    if "velocity" not in view.slots:
        return weights, torch.zeros_like(weights)
    buffer = torch.cat([each.reshape(-1) for each in view.slots["velocity"].values()])
    return weights, -config.frozen_rate * buffer


def _gradients(
    module: torch.nn.Module, data: ImageData, recording: RecordingConfig, device: torch.device
) -> BatchGradients:
    # Runs are computed together where that pays, and where batches have one size.
    pays = ChainExecution.suits(module) or device.type != "cpu"
    stacked = pays and recording.order.same_size
    return BatchGradients(module, data.train, data.train.labels, stacked=stacked, device=device)


def _settle(
    config: VarianceConfig,
    gradients: dict[str, BatchGradients],
    weights: torch.Tensor,
    velocity: torch.Tensor,
    directory: Path,
    progress: Progress | None,
    threads: int | None,
) -> WeightRecording:
    first = config.orders[0]
    alone = dataclasses.replace(config.recording(first), burn_in=0, epochs=config.settle, runs=1, full_gradients=0)
    # The projection is not needed, only the mean and the end: any direction will do.
    some = torch.nn.functional.one_hot(torch.tensor([0]), len(weights))
    return record_weights(
        alone,
        gradients[first],
        weights,
        some,
        directory / "settling",
        velocity=velocity,
        progress=progress,
        threads=threads,
    )


def _directions(
    config: VarianceConfig, loss: FullLoss, centre: torch.Tensor, directory: Path, progress: Progress | None
) -> tuple[Eigenpairs, dict[str, Any]]:
    """The largest eigenpairs, and all directions: falling curvatures, those found twice once."""
    count = min(config.directions, loss.size)
    found = eigenpairs(
        loss,
        centre,
        count,
        rng=stream(config.seed, "eigenpairs"),
        progress=progress,
        state=directory / "eigenpairs",
    )
    sets = [found]
    for number, value in enumerate(config.near, 1):
        sets.append(
            eigenpairs(
                loss,
                centre,
                min(config.near_directions, loss.size),
                rng=stream(config.seed, "eigenpairs_near", number),
                near=value,
                progress=progress,
                state=directory / f"eigenpairs_near_{number}",
            )
        )
    values = {
        name: np.concatenate([getattr(each, name) for each in sets])
        for name in ("curvatures", "residuals", "converged")
    }
    together = torch.cat([each.directions for each in sets])
    kept: list[int] = []
    for row in np.argsort(-values["curvatures"], kind="stable").tolist():
        if not kept or float((together[kept] @ together[row]).norm()) < 0.5:
            kept.append(row)
    directions = torch.linalg.qr(together[kept].T)[0].T.contiguous()
    # What orthogonality costs the directions of different sets; the rows of one are orthonormal already.
    directions = directions * torch.sign((directions * together[kept]).sum(1, keepdim=True))
    return found, {"directions": directions} | {name: value[kept] for name, value in values.items()}


def _at_weights(
    loss: FullLoss, record: WeightRecording, spectrum: dict[str, Any], weight_decay: float, directory: Path
) -> Spectrum:
    """Curvatures and noise of the directions at the weights of a recording."""
    path = directory / f"{record.directory.name}.npz"
    if not path.exists():
        directions = spectrum["directions"]
        mean = record.mean_weights.mean(0).to(loss.device, loss.dtype)
        curvature = (loss.product(mean, directions) * directions).sum(1).double().cpu().numpy()
        ends = [weights.to(loss.device, loss.dtype) for weights in record.sampled_weights]
        persistent = not record.config.order.same_size
        target = io.BytesIO()
        np.savez(
            target,
            curvature=curvature,
            at_mean=example_variance(loss, mean, directions, about_zero=persistent),
            at_runs=np.stack([example_variance(loss, end, directions, about_zero=persistent) for end in ends]),
        )
        disk.write_whole(path, target.getvalue())
    saved = saved_arrays(path)
    return Spectrum(
        curvature=saved["curvature"] + weight_decay,
        before=spectrum["curvatures"] + weight_decay,
        residuals=spectrum["residuals"],
        converged=spectrum["converged"],
        at_mean=saved["at_mean"],
        at_runs=saved["at_runs"],
    )
