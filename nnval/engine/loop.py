"""The one training loop.

An epoch is: shuffle, one step per batch, evaluation on the validation split. Then, in this order, members whose
loss or weights are not numbers are dropped; members at the target are complete; a snapshot is taken of the others; at
epochs P, 2P, ... the perturbation acts on them. A member with T = P is therefore complete and not perturbed.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nnval.drop_in.initialisation import initialise
from nnval.drop_in.perturbations import Perturbation
from nnval.engine.checkpoint import BlockState, Outcome
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import ImageData
from nnval.engine.device import deterministic_algorithms
from nnval.engine.images import AUGMENTATIONS, Images
from nnval.engine.member_stack import MemberStack, Tensors
from nnval.engine.optimizers import Optimizer
from nnval.engine.schedules import learning_rate_at, learning_rates
from nnval.engine.stack import Epoch, Execution
from sim.batch_order import batches_per_epoch, reshuffled
from sim.random_streams import CountedStream

__all__ = ["EpochRecord", "InitialWeights", "TrainingLoop", "learning_rate_at"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of the curves of all members that took part and did not diverge in it.

    Attributes:
        epoch: 1-based.
        members: (K,), ids.
        train_loss: (K,), mean over the epoch's batches, each just before its step.
        validation_accuracy: (K,), after the epoch, in [0, 1].
    """

    epoch: int
    members: npt.NDArray[np.int64]
    train_loss: npt.NDArray[np.float64]
    validation_accuracy: npt.NDArray[np.float64]


class InitialWeights:
    """Fresh networks of one architecture, from numbered seeds.

    Args:
        module: the architecture; a copy is initialised, never the module itself.
        scheme: of ``nnval.drop_in.initialisation``.
        device: where the weights shall be; they are drawn on the CPU, so that they are the same on all devices.
    """

    def __init__(self, module: nn.Module, scheme: str, device: torch.device) -> None:
        self._module = copy.deepcopy(module)
        self._scheme = scheme
        self._device = device

    def __call__(self, seed: int) -> tuple[Tensors, Tensors]:
        """Parameters and buffers by name, sharing no memory with anything."""
        initialise(self._module, self._scheme, torch.Generator().manual_seed(seed))  # pyright: ignore[reportArgumentType] -- it checks the name
        return (
            {name: p.detach().clone().to(self._device) for name, p in self._module.named_parameters()},
            {name: b.detach().clone().to(self._device) for name, b in self._module.named_buffers()},
        )


class TrainingLoop:
    """Trains blocks of members of one config.

    A member's numbers come from streams named by its id and the epoch: ``<stream>/batch_order``, ``/augmentation``,
    ``/network_noise`` (what layers such as dropout draw), ``/initialisation``, ``/perturbation`` and ``/fresh_weights``
    (what a perturbation mixes in).

    Args:
        config: what is trained.
        data: on the device.
        module: the architecture, on the CPU; not changed.
        execution: how a stack is trained.
        perturbation: what acts at epochs P, 2P, ... or at the beginning of a branch.
        device: where the stacks are.

    Raises:
        ValueError: if the config asks for deterministic algorithms that the device cannot give.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: ImageData,
        module: nn.Module,
        execution: Execution,
        perturbation: Perturbation | None,
        device: torch.device,
    ) -> None:
        self.config = config
        self._data = data
        self._execution = execution
        self._perturbation = perturbation
        self._device = device
        self._initial_weights = InitialWeights(module, config.initialisation, device)
        self._optimizer = Optimizer.of(config)
        self._streams: dict[tuple[str, int], CountedStream] = {}
        with deterministic_algorithms(config.deterministic, device):
            pass  # refuses now what it would refuse then

    def _stream(self, purpose: str, member: int) -> CountedStream:
        return CountedStream(self.config.seed, f"{self.config.stream}/{purpose}", member)

    def _kept_stream(self, purpose: str, member: int) -> CountedStream:
        """One that is needed in every epoch: making it costs more than drawing from it."""
        if (purpose, member) not in self._streams:
            self._streams[purpose, member] = self._stream(purpose, member)
        return self._streams[purpose, member]

    def initial_state(self, members: Sequence[int]) -> BlockState:
        """Freshly initialised members at epoch 0."""
        states = [self._initial_weights(self._stream("initialisation", member).seed_at(0)) for member in members]
        stack = MemberStack.of(members, states, slots=self._optimizer.slots)
        return BlockState(epoch=0, stack=stack, schedule_origin=0, schedule_length=self.config.epochs)

    def batches(self, members: npt.NDArray[np.int64], epoch: int) -> torch.Tensor:
        """(K, M, S): the batches of each member in an epoch, on the device."""
        samples, size = len(self._data.train), self.config.batch_size
        orders = [
            reshuffled(samples, size, self._kept_stream("batch_order", member).at(epoch)) for member in members.tolist()
        ]
        return torch.from_numpy(np.stack(orders)).to(self._device)

    def augmentations(self, members: npt.NDArray[np.int64], epoch: int) -> torch.Tensor | None:
        """(K, M, S): how each sample of ``batches`` is augmented, on the device; None if none is."""
        config = self.config
        if config.augmentation == "none":
            return None
        shape = (batches_per_epoch(len(self._data.train), config.batch_size), config.batch_size)
        codes = [
            self._kept_stream("augmentation", member).at(epoch).integers(AUGMENTATIONS, size=shape)
            for member in members.tolist()
        ]
        return torch.from_numpy(np.stack(codes)).to(self._device)

    def _epoch(self, state: BlockState, epoch: int) -> Epoch:
        batches = self.batches(state.stack.members, epoch)
        rates = learning_rates(self.config, epoch, batches.shape[1], state.schedule_origin, state.schedule_length)
        return Epoch(
            batches,
            rates,
            self.augmentations(state.stack.members, epoch),
            lambda member: self._kept_stream("network_noise", member).seed_at(epoch),
        )

    def perturb(self, state: BlockState) -> None:
        """The perturbation acts once on every member of the stack, in place, each with its own generator."""
        if self._perturbation is None:
            return
        epoch = state.epoch
        for row, member in enumerate(state.stack.members.tolist()):
            view = state.stack.member(row)
            # On the CPU for any device: perturbations move what they draw.
            generator = torch.Generator().manual_seed(self._stream("perturbation", member).seed_at(epoch))
            seed = self._stream("fresh_weights", member).seed_at(epoch)
            self._perturbation.perturb(
                view.parameters, view.buffers, fresh=lambda seed=seed: self._initial_weights(seed), generator=generator
            )
        if self._perturbation.optimizer_state == "clear":
            state.stack.clear_slots()
        if self._perturbation.learning_rate == "restart":
            state.schedule_origin, state.schedule_length = epoch, self.config.epochs

    def _accuracy(self, stack: MemberStack, images: Images) -> npt.NDArray[np.float64]:
        if len(stack) == 0:
            return np.empty(0)
        with deterministic_algorithms(self.config.deterministic, self._device):
            return self._execution.correct(stack, images) / len(images)

    def _finish(self, state: BlockState, stack: MemberStack, status: str) -> None:
        accuracies = self._accuracy(stack, self._data.test)
        state.finished += [
            Outcome(member, status, state.epoch, accuracy)
            for member, accuracy in zip(stack.members.tolist(), accuracies.tolist(), strict=True)
        ]

    def _train_epoch(self, state: BlockState) -> npt.NDArray[np.float64]:
        """Steps of one epoch; drops the members that diverge and returns the mean losses of the others."""
        stack, epoch = state.stack, state.epoch + 1
        with deterministic_algorithms(self.config.deterministic, self._device):
            loss = self._execution.train_epoch(stack, self._data.train, self._optimizer, self._epoch(state, epoch))
        good = np.isfinite(loss) & stack.finite()
        if not good.all():
            lost = stack.members[~good].tolist()
            state.finished += [Outcome(member, "diverged", state.epoch, math.nan) for member in lost]
            state.stack = stack.select(good)
        state.epoch = epoch
        return loss[good]

    def epochs(self, state: BlockState, snapshot: Callable[[BlockState], None]) -> Iterator[EpochRecord]:
        """Trains until the horizon or until no member is left; between two items the state is that between two epochs.

        Args:
            state: is advanced in place.
            snapshot: called with the state at the epochs in ``config.snapshots``, before a perturbation acts. It holds
                the members with T > epoch.

        Yields:
            The record of each epoch.
        """
        config, data = self.config, self._data
        while state.epoch < config.epochs and len(state.stack):
            loss = self._train_epoch(state)
            accuracy = self._accuracy(state.stack, data.validation)
            record = EpochRecord(state.epoch, state.stack.members, loss, accuracy)
            if config.target is not None and (reached := accuracy >= config.target).any():
                self._finish(state, state.stack.select(reached), "reached")
                state.stack = state.stack.select(~reached)
            if state.epoch in config.snapshots:
                snapshot(state)
            if state.epoch == config.epochs:
                self._finish(state, state.stack, "horizon")
            elif config.interval is not None and state.epoch % config.interval == 0:
                self.perturb(state)
            yield record
