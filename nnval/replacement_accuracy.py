"""Does it matter for the accuracy whether batches are drawn with or without replacement? Many seeds, in pairs.

The networks of a pair begin with the same weights and see the same data; only the orders of their batches differ.
Members train together in blocks, and each block and order leaves one file when it is done, so that an experiment that
was killed goes on with the next block.

Reference: [kuhn2023] the question, and 0.7 +- 0.2 per cent for LeNet on CIFAR-10
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnval.engine import run_directory as disk
from nnval.engine.config import TrainingConfig, fingerprint_of
from nnval.engine.datasets import ImageData, load_data
from nnval.engine.device import environment, resolve_device, thread_count
from nnval.engine.ensemble import Progress
from nnval.engine.loop import InitialWeights
from nnval.engine.member_stack import MemberStack
from nnval.engine.models import build_model
from nnval.engine.optimizers import Optimizer
from nnval.engine.schedules import learning_rates
from nnval.engine.stack import Epoch, Execution, executions
from nnval.engine.stopping import Stop, stop_on_interrupt
from nnval.measure.batch_orders import BatchOrder, order_file
from sim.random_streams import CountedStream, stream
from theory.estimate import Estimate

BLOCK = 16
"""Members that train together."""


@dataclass(frozen=True, eq=False)
class ReplacementAccuracy:
    """Test accuracies of paired networks.

    Attributes:
        config: what was trained.
        orders: two labels.
        accuracy: (n, 2), of the pairs in which no network diverged.
        diverged: pairs left out.
        first: mean of the first order.
        second: of the second.
        difference: second minus first, from pairs.
        interval: 95 % confidence interval of the difference, by Student's t over pairs.
    """

    config: TrainingConfig
    orders: tuple[str, str]
    accuracy: npt.NDArray[np.float64]
    diverged: int
    first: Estimate
    second: Estimate
    difference: Estimate
    interval: tuple[float, float]

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero; not by its width of zero, if all pairs happen to differ alike."""
        return self.difference.standard_error > 0 and not self.interval[0] <= 0 <= self.interval[1]


def compare_orders(
    config: TrainingConfig,
    directory: str | Path,
    *,
    orders: Sequence[str] = ("with_replacement", "reshuffled"),
    progress: Progress | None = None,
    threads: int | None = 1,
    data: ImageData | None = None,
) -> ReplacementAccuracy:
    """Trains ``config.members`` pairs to the horizon, or goes on with that, or reads what is there.

    Args:
        config: of the training, without target, perturbation and augmentation.
        directory: absent, empty, or holding this very experiment.
        orders: two different orders, as ``BatchOrder.parsed`` reads them; batches of one size.
        progress: called with completed and all member-epochs and a text, after each epoch; it may raise Interrupted.
        threads: of torch.
        data: what ``load_data(config)`` gave, if it was called already.

    Returns:
        The accuracies.

    Raises:
        ValueError: for orders or a training that do not fit, fewer than two pairs, or if most networks diverge.
        StorageError: if a file cannot be written; the experiment can be resumed.
        Interrupted: after Ctrl-C; the experiment can be resumed.
    """
    directory = Path(directory)
    if config.target is not None or config.perturbation is not None or config.augmentation != "none":
        raise ValueError(
            "target, perturbation and augmentation must be left out: all networks train alike, to the horizon"
        )
    if config.members < 2:
        raise ValueError(f"members={config.members} must be >= 2: an interval needs pairs")
    parsed = [BatchOrder.parsed(order) for order in orders]
    if len(parsed) != 2 or parsed[0] == parsed[1] or not all(order.same_size for order in parsed):
        raise ValueError(f"orders={list(orders)} must be two different ones, with batches of one size")
    data = load_data(config) if data is None else data
    device = resolve_device(config.device)
    for order in parsed:
        order.noise(len(data.train), config.batch_size)  # refuses a single batch per epoch
    config = dataclasses.replace(config, device=str(device), data_sha256=data.sha256)
    labels = (parsed[0].label, parsed[1].label)
    plain: dict[str, Any] = config.to_dict() | {"orders": list(labels)}
    description = {"schema": disk.SCHEMA, "fingerprint": fingerprint_of(plain), "config": plain, "branch": None}
    with thread_count(threads), stop_on_interrupt() as stop, disk.opened(directory, description, environment(device)):
        accuracies = _Pairs(config, data.to(device), device, directory, progress, stop).accuracies(parsed)
    good = np.asarray(np.isfinite(accuracies).all(axis=1))
    if good.sum() < 2 or 2 * good.sum() < len(good):
        raise ValueError(
            f"{int((~good).sum())} of {len(good)} pairs diverged: lower learning_rate={config.learning_rate:g}"
        )
    kept = accuracies[good]
    difference = Estimate.from_samples(kept[:, 1] - kept[:, 0])
    return ReplacementAccuracy(
        config,
        labels,
        kept,
        int((~good).sum()),
        Estimate.from_samples(kept[:, 0]),
        Estimate.from_samples(kept[:, 1]),
        difference,
        difference.interval(),
    )


class _Pairs:
    def __init__(
        self,
        config: TrainingConfig,
        data: ImageData,
        device: torch.device,
        directory: Path,
        progress: Progress | None,
        stop: Stop,
    ) -> None:
        self._config, self._data, self._device, self._directory = config, data, device, directory
        self._progress, self._stop = progress, stop
        self._module = build_model(config, data.shape, data.classes)
        self._initial = InitialWeights(self._module, config.initialisation, device)
        self._done = 0

    def _execution(self) -> Execution:
        """Members together where the engine would offer that, but on a CPU only fully connected ones, which gain."""
        ways = executions(self._module, self._config)
        if self._config.execution != "auto":
            return ways[self._config.execution]
        fast = "stacked" in ways and (self._device.type != "cpu" or type(ways["stacked"]).__name__ == "ChainExecution")
        return ways["stacked" if fast else "loop"]

    def accuracies(self, orders: Sequence[BatchOrder]) -> npt.NDArray[np.float64]:
        """(members, 2); nan for a network that diverged."""
        config = self._config
        members = list(range(config.first_member, config.first_member + config.members))
        columns = []
        for order in orders:
            parts = []
            for first in range(0, len(members), BLOCK):
                block = members[first : first + BLOCK]
                path = self._directory / f"{order_file(order.label)}_{block[0]:04d}-{block[-1]:04d}.json"
                if not path.exists():
                    values = self._train(order, block)
                    disk.write_json(path, [None if math.isnan(value) else value for value in values])
                else:
                    self._done += len(block) * config.epochs
                parts += _read(path, len(block))
            columns.append(parts)
        return np.array(columns).T

    def _train(self, order: BatchOrder, block: list[int]) -> list[float]:
        config = self._config
        execution, optimizer = self._execution(), Optimizer.of(config)
        starts = [
            self._initial(CountedStream(config.seed, f"{config.stream}/initialisation", member).seed_at(0))
            for member in block
        ]
        stack = MemberStack.of(block, starts, slots=optimizer.slots)
        batches = [
            order.epochs(
                len(self._data.train), config.batch_size, stream(config.seed, f"{config.stream}/{order.label}", member)
            )
            for member in block
        ]
        for epoch in range(1, config.epochs + 1):
            drawn = torch.from_numpy(np.stack([np.asarray(next(each)) for each in batches])).to(self._device)
            rates = learning_rates(config, epoch, drawn.shape[1], 0, config.epochs)
            seeds = {
                member: CountedStream(config.seed, f"{config.stream}/network_noise", member).seed_at(epoch)
                for member in block
            }
            execution.train_epoch(stack, self._data.train, optimizer, Epoch(drawn, rates, None, seeds.__getitem__))
            self._done += len(block)
            self._tell(f"{order.label}: members {block[0]} to {block[-1]}, epoch {epoch} of {config.epochs}")
        accuracy = execution.correct(stack, self._data.test) / len(self._data.test)
        return np.where(stack.finite(), accuracy, np.nan).tolist()

    def _tell(self, text: str) -> None:
        config = self._config
        try:
            if self._progress is not None:
                self._progress(self._done, 2 * config.members * config.epochs, text)
        except KeyboardInterrupt:
            self._stop.request()
        if self._stop.requested:
            raise disk.Interrupted(f"stopped at {text}; run the same command again to go on from the last block")


def _read(path: Path, members: int) -> list[float]:
    found = disk.read_json(path)
    if not isinstance(found, list) or len(found) != members or not all(isinstance(v, float | None) for v in found):
        raise disk.RunDirectoryError(f"{path} is damaged: remove it to train these networks again")
    return [math.nan if value is None else value for value in found]
