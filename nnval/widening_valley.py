"""Does anti-correlated noise lead to flatter networks, and do these generalise better? Four noises beside each other.

SGD with batches drawn with replacement or reshuffled, and full-batch descent with white (PGD) or anti-correlated noise
(Anti-PGD) train the same networks on the same data. During training the trace of the Hessian (by random probes, the
same for all methods) and the test accuracy are measured; at the end methods are compared seed by seed. The theory of
the valley, where white noise climbs and its increments flatten, is in theory.widening_valley. Injected noise of size
sigma acts as the regulariser (sigma^2 / 2) Tr H while it is anti-correlated; whether a network follows is measured.

Files are those of nnval.paired_trainings, such as ``seeds/0003/anti_pgd.json``. Seeds can be added later.

Reference: [orvieto2022] arXiv 2202.02831 for Anti-PGD; [kuhn2023] for the anti-correlation of reshuffled batches
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnval.engine.models import build_model
from nnval.measure.evaluation_mode import prepare_for_evaluation
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian_trace import estimate_hessian_trace
from nnval.noisy_descent import NoisyDescent
from nnval.paired_trainings import PairedTrainings, Progress, SharedSeed, Task, described, seeds_of, settled
from nnval.widening_valley_study import MethodCurves, WideningValley, WideningValleyConfig, end_differences
from sim.batch_order import batches_per_epoch
from sim.random_streams import stream

MEASURED = ("trace", "probe_error", "train_loss", "test_accuracy")
"""Columns of what was measured, beside the epoch."""

_VALUES_OF_ALL_PROBES = 2**19
"""Input values times random vectors that a small network differentiates at once."""


def run_widening_valley(
    config: WideningValleyConfig,
    directory: str | Path,
    *,
    progress: Progress | None = None,
    checkpoint_seconds: float = 5.0,
    threads: int | None = 1,
) -> WideningValley:
    """Train all methods from all seeds, measure and compare; or go on with that, or read what is finished.

    Args:
        config: what to do.
        directory: of the run: absent, empty, or holding this very experiment, maybe with other seeds.
        progress, checkpoint_seconds, threads: see ``PairedTrainings.records``.

    Returns:
        The result. A finished run is only read.

    Raises:
        ValueError: for data or networks that this can't be done with (Dropout, BatchNorm), or if a training diverges.
        RunDirectoryError, StorageError, Interrupted: see ``PairedTrainings.records``.

    Example:
        >>> import tempfile
        >>> from nnval.engine.config import TrainingConfig
        >>> training = TrainingConfig(train_size=40, hidden=(4,), epochs=2, members=2)
        >>> config = WideningValleyConfig(training=training, methods=["pgd", "anti_pgd"], measure_every=1, probes=2)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = run_widening_valley(config, directory)
        >>> [(each.quantity, each.method, each.reference) for each in result.differences][0]
        ('trace', 'anti_pgd', 'pgd')
    """
    directory = Path(directory)
    training, data = settled(config.training, directory)
    if batches_per_epoch(len(data.train), training.batch_size) < 2:
        raise ValueError(
            f"batch_size={training.batch_size} of {len(data.train)} training samples gives one batch per epoch: at "
            "least 2 are needed, or there is no order of batches; lower batch_size"
        )
    # Refuses Dropout, BatchNorm and the like before anything is written.
    few = data.train.inputs(torch.arange(min(8, len(data.train))))
    prepare_for_evaluation(build_model(training, data.shape, data.classes), few)
    config = dataclasses.replace(config, training=training)
    seed_of = seeds_of(training)
    tasks = {
        (member, method): Task(
            f"seeds/{member:04d}/{method}",
            f"seed {member}, {method}",
            training.epochs,
            partial(_MeasuredDescent, config, seed_of, member, method),
        )
        for member in config.members
        for method in config.methods
    }
    trainings = PairedTrainings(
        directory,
        described("widening-valley", config.to_dict()),
        list(tasks.values()),
        training,
        lambda record: _is_whole(record, config.epochs),
    )
    records = trainings.records(progress=progress, checkpoint_seconds=checkpoint_seconds, threads=threads)
    found = dict(zip(tasks, records, strict=True))
    curves = []
    for method in config.methods:
        of_method = [found[member, method] for member in config.members]
        curves.append(MethodCurves(method, *(np.array([each[name] for each in of_method]) for name in MEASURED)))
    return WideningValley(
        config=config,
        directory=directory,
        weights=records[0]["weights"],
        epochs=config.epochs,
        curves=tuple(curves),
        differences=end_differences(curves),
    )


def _is_whole(record: dict[str, Any], epochs: Sequence[int]) -> bool:
    columns = [record.get(name) for name in MEASURED]
    numbers = all(
        isinstance(column, list) and len(column) == len(epochs) and all(isinstance(v, float) for v in column)
        for column in columns
    )
    return numbers and record.get("epoch") == list(epochs) and isinstance(record.get("weights"), int)


class _MeasuredDescent:
    """A network at the beginning of its training by one method, and what is measured on its way."""

    def __init__(
        self, config: WideningValleyConfig, seed_of: Callable[[int], SharedSeed], member: int, method: str
    ) -> None:
        training, self._config, self._seed, self._method = config.training, config, seed_of(member), method
        images = self._seed.data.train
        self._loss = FullLoss(
            self._seed.module,
            images,
            images.labels,
            dtype=torch.float32,
            # By default small networks would spend their time between chunks.
            chunk=None if images.labels.is_cuda else max(1024, _VALUES_OF_ALL_PROBES // images.pixels[0].numel()),
            device=images.labels.device,
        )
        self._network = NoisyDescent(
            self._seed.network(),
            images,
            method,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            noise_scale=config.noise_scale,
            distribution=config.distribution,
            rng=stream(training.seed, f"{training.stream}/{method}/batch_order", member),
            generator=torch.Generator(images.labels.device).manual_seed(
                self._seed.stream(f"{method}/weight_noise").seed_at(0)
            ),
        )
        self._rows = [self._measured()]

    @property
    def epoch(self) -> int:
        return self._network.epoch

    @property
    def is_over(self) -> bool:
        return self.epoch >= self._config.training.epochs

    def train_epoch(self) -> None:
        self._network.train_epoch()
        if not self._network.finite():
            raise ValueError(
                f"{self._method} diverged in epoch {self.epoch} from seed {self._seed.member}: lower learning_rate="
                f"{self._config.training.learning_rate:g} or noise_scale={self._config.noise_scale:g}, in another "
                "directory"
            )
        if self.epoch in self._config.epochs:
            self._rows.append(self._measured())

    def _measured(self) -> dict[str, float]:
        """The epoch and ``MEASURED``."""
        with self._network.without_injected_noise():
            weights = torch.cat([each.detach().reshape(-1) for each in self._network.module.parameters()])
            accuracy = self._seed.test_accuracy(self._network.module)
        if self.epoch == 0:
            self._loss.irreproducibility(weights)  # refuses a loss that is no function of the weights
        # The same probes for all methods: their errors have much in common, and cancel in differences.
        training = self._config.training
        probes = stream(training.seed, f"{training.stream}/probes", self._seed.member, self.epoch)
        trace = estimate_hessian_trace(self._loss, weights, self._config.probes, probes)
        return {
            "epoch": self.epoch,
            "trace": trace.value,
            "probe_error": trace.standard_error,
            "train_loss": self._loss.value(weights),
            "test_accuracy": accuracy,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"network": self._network.state_dict(), "rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._rows = state["rows"]

    def record(self) -> dict[str, Any]:
        columns = {name: [row[name] for row in self._rows] for name in ("epoch", *MEASURED)}
        return {"weights": self._loss.size, **columns}
