"""The ways to train members that are stacked along the first axis of every tensor.

A small network spends its life in Python and in the launching of kernels. Stacked, K members share that: one batched
matrix product serves all. Every way ("execution") computes the same numbers up to rounding, and in none of them does a
member's arithmetic involve another member's row.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from nnval.engine.config import TrainingConfig
from nnval.engine.device import Numerics, seeded_generators
from nnval.engine.images import Images
from nnval.engine.member_stack import MemberStack, MemberView, Tensors
from nnval.engine.optimizers import Optimizer
from nnval.engine.own_network import is_own

__all__ = [
    "ChainExecution",
    "Epoch",
    "Execution",
    "LoopExecution",
    "MappedExecution",
    "MemberStack",
    "MemberView",
    "Tensors",
    "executions",
    "seconds_per_member_step",
]

# Input values per member in one forward pass of an evaluation. It must not depend on the number of members, or rounding
# would; 2**18 is the whole digits data set, and 85 colour images of 32x32.
_EVALUATION_VALUES = 2**18

_LONG_STEP_SECONDS = 0.5


@dataclass(frozen=True)
class Epoch:
    """What K members do in one epoch of M batches.

    Attributes:
        batches: (K, M, S), indices of the samples of each member's batches.
        learning_rates: M of them, one for each step.
        augmentations: (K, M, S), see ``Images.inputs``; None for the images as they are.
        noise_seed: member to the seed of what its network draws by itself, as dropout does, in this epoch.
    """

    batches: torch.Tensor
    learning_rates: Sequence[float]
    augmentations: torch.Tensor | None = None
    noise_seed: Callable[[int], int] = lambda member: 0

    def augmentation(self, where: tuple[int | slice, ...]) -> torch.Tensor | None:
        """Those of some batches, flat."""
        return None if self.augmentations is None else self.augmentations[where].reshape(-1)


class Execution(Protocol):
    """A way to train and evaluate a stack."""

    def train_epoch(
        self, stack: MemberStack, images: Images, optimizer: Optimizer, epoch: Epoch
    ) -> npt.NDArray[np.float64]:
        """One epoch of steps along the gradient of the mean cross entropy, in place.

        Args:
            stack: K members, with the slots of the optimizer.
            images: N of them.
            optimizer: makes the steps.
            epoch: batches and learning rates.

        Returns:
            (K,), mean over the epoch's batches of the loss just before the batch's step.
        """
        ...

    def correct(self, stack: MemberStack, images: Images) -> npt.NDArray[np.int64]:
        """(K,): how many of the N images each member classifies correctly."""
        ...


def _epoch_mean(losses: list[torch.Tensor]) -> npt.NDArray[np.float64]:
    """Mean of M arrays (K,), summed one after the other: numpy's sum would pair them in a way that depends on K."""
    return np.cumsum(torch.stack(losses).double().cpu().numpy(), axis=0)[-1] / len(losses)


def _chunks(images: Images) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return images.chunks(max(1, _EVALUATION_VALUES // math.prod(images.shape)))


def _never_alone(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of one member as one of two.

    Kernels for a batch of one matrix product, a convolution of one group or the softmax of one image differ from those
    for several, and so does their rounding: the last member in training would notice that it is alone. It gets a
    double, which takes no part in the loss.
    """
    return tensor if len(tensor) > 1 else tensor.expand(2, *tensor.shape[1:])


class _StackedExecution:
    """Common to the ways that compute all members at once; a subclass gives the logits.

    Args:
        module: the architecture; it is copied.
        numerics: precision and compilation. The memory format is that of matrices, whatever is asked for.
    """

    def __init__(self, module: nn.Module, numerics: Numerics = Numerics()) -> None:  # noqa: B008 -- frozen
        self._module = copy.deepcopy(module)
        self._numerics = numerics
        self._logits = numerics.prepared(self.logits)

    def logits(self, parameters: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        """(K, S, classes) from parameters (K, ...), buffers, which it may write to, and images (K, S, ...)."""
        raise NotImplementedError

    def _entropies(self, leaves: Tensors, buffers: Tensors, inputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """(K,), the mean cross entropy of each member's batch."""
        with self._numerics.autocast(inputs.device):
            logits = self._logits({name: _never_alone(leaf) for name, leaf in leaves.items()}, buffers, inputs)
        return F.cross_entropy(logits.float().transpose(1, 2), _never_alone(wanted), reduction="none").mean(1)

    def train_epoch(
        self, stack: MemberStack, images: Images, optimizer: Optimizer, epoch: Epoch
    ) -> npt.NDArray[np.float64]:
        """See ``Execution.train_epoch``."""
        self._module.train()
        members, count, size = epoch.batches.shape
        # Leaves of autograd that share memory with the stack, so that an update of the stack is one of the leaves.
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in stack.parameters.items()}
        slots = {slot: list(tensors.values()) for slot, tensors in stack.slots.items()}
        update = optimizer.on(list(stack.parameters.values()), slots, stack.steps)
        # A double's statistics would be written to the same memory, so a single member's are copied, and copied back.
        buffers = {name: _never_alone(tensor).contiguous() for name, tensor in stack.buffers.items()}
        losses = []
        for number in range(count):
            samples = epoch.batches[:, number].reshape(-1)
            batch = images.inputs(samples, epoch.augmentation((slice(None), number)))
            wanted = images.labels.index_select(0, samples).view(members, size)
            inputs = _never_alone(batch.view(members, size, *images.shape))
            loss = self._entropies(leaves, buffers, inputs, wanted)[:members]
            update(torch.autograd.grad(loss.sum(), list(leaves.values())), epoch.learning_rates[number])
            losses.append(loss.detach())
        for name, tensor in stack.buffers.items():
            if buffers[name] is not tensor:
                tensor.copy_(buffers[name][:members])
        stack.steps += count
        return _epoch_mean(losses)

    @torch.no_grad()
    def correct(self, stack: MemberStack, images: Images) -> npt.NDArray[np.int64]:
        """See ``Execution.correct``."""
        self._module.eval()
        parameters = {name: _never_alone(tensor) for name, tensor in stack.parameters.items()}
        buffers = {name: _never_alone(tensor) for name, tensor in stack.buffers.items()}
        members = max(2, len(stack))
        right = torch.zeros(members, dtype=torch.int64, device=images.labels.device)
        for some, wanted in _chunks(images):
            with self._numerics.autocast(some.device):
                logits = self._logits(parameters, buffers, some.unsqueeze(0).expand(members, *some.shape))
            right += (logits.argmax(-1) == wanted).sum(1)
        return right[: len(stack)].cpu().numpy()


_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Identity)


class ChainExecution(_StackedExecution):
    """Fully connected networks as a chain of batched matrix products.

    torch.vmap over the same module was 1.4 to 2.4 times slower.
    """

    @staticmethod
    def suits(module: nn.Module) -> bool:
        """Whether a module is nn.Sequential of one Flatten, then Linear layers and elementwise activations."""
        if type(module) is not nn.Sequential or len(module) == 0:
            return False
        first, *others = module
        # Exact types: a subclass may compute anything.
        whole = type(first) is nn.Flatten and (first.start_dim, first.end_dim) == (1, -1)
        return whole and all(type(layer) is nn.Linear or type(layer) in _ELEMENTWISE for layer in others)

    def logits(self, parameters: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        """See ``_StackedExecution.logits``."""
        # Features before samples, (K, features, S): the gradient of the weights then comes out in their own layout, and
        # the softmax is vectorised over samples. The other way round took a quarter longer.
        values = images.flatten(2).transpose(1, 2)
        for name, layer in list(self._module.named_children())[1:]:
            if not isinstance(layer, nn.Linear):
                values = layer(values)
            elif layer.bias is None:
                values = torch.bmm(parameters[f"{name}.weight"], values)
            else:
                values = torch.baddbmm(parameters[f"{name}.bias"].unsqueeze(2), parameters[f"{name}.weight"], values)
        return values.transpose(1, 2)


_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_RANDOM = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "StochasticDepth")
_RANDOM_INSIDE = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.MultiheadAttention, nn.RNNBase)


class MappedExecution(_StackedExecution):
    """Any deterministic module, by torch.func.vmap; pays on a GPU and for tiny images."""

    @staticmethod
    def obstacle(module: nn.Module) -> str | None:
        """Why a module cannot be trained like this; None if it can."""
        if next(module.parameters(), None) is None:
            return "which has no parameters"
        if not all(parameter.requires_grad for parameter in module.parameters()):
            return "which has parameters that are not trained"
        for layer in module.modules():
            # Those of batch normalisation are written to in place; others may be replaced, which would go unnoticed.
            if next(layer.buffers(recurse=False), None) is not None and type(layer) not in _NORMALISATIONS:
                return "which has buffers"
            if type(layer).__name__ in _RANDOM or isinstance(layer, _RANDOM_INSIDE):
                return "which draws random numbers in each pass"
        return None

    def logits(self, parameters: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        """See ``_StackedExecution.logits``."""
        try:
            return vmap(self._of_one)(parameters, buffers, images)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"execution='stacked' cannot train this network ({reason}); use 'loop'") from error

    def _of_one(self, parameters: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        return functional_call(self._module, (parameters, buffers), (images,))


class LoopExecution:
    """Member after member: plain PyTorch on a real module whose parameters are pointed at the member's rows.

    Args:
        module: the architecture; it is copied, since its weights will be rows of stacks.
        numerics: precision, memory format and compilation.
    """

    def __init__(self, module: nn.Module, numerics: Numerics = Numerics()) -> None:  # noqa: B008 -- frozen
        self._module = copy.deepcopy(module)
        self._numerics = numerics
        self._forward = numerics.prepared(self._module)

    def _enter(self, view: MemberView) -> None:
        for name, parameter in self._module.named_parameters():
            parameter.data = view.parameters[name]
        for name, buffer in self._module.named_buffers():
            buffer.data = view.buffers[name]

    def _leave(self, view: MemberView) -> None:
        for name, buffer in self._module.named_buffers():
            if buffer.data_ptr() != view.buffers[name].data_ptr():  # the module assigned a new tensor
                view.buffers[name].copy_(buffer)

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        with self._numerics.autocast(images.device):
            return self._forward(self._numerics.laid_out(images)).float()

    def train_epoch(
        self, stack: MemberStack, images: Images, optimizer: Optimizer, epoch: Epoch
    ) -> npt.NDArray[np.float64]:
        """See ``Execution.train_epoch``."""
        device = images.labels.device
        self._module.to(device).train()
        means = []
        for row, member in enumerate(stack.members.tolist()):
            with seeded_generators(epoch.noise_seed(member), device):
                means.append(self._train_member(stack.member(row), stack.steps, images, optimizer, epoch, row))
        stack.steps += epoch.batches.shape[1]
        return np.array(means)

    def _train_member(
        self, view: MemberView, steps: int, images: Images, optimizer: Optimizer, epoch: Epoch, row: int
    ) -> npt.NDArray[np.float64]:
        self._enter(view)
        trained = {name: each for name, each in self._module.named_parameters() if each.requires_grad}
        parameters = list(trained.values())
        slots = {slot: [tensors[name] for name in trained] for slot, tensors in view.slots.items()}
        update = optimizer.on([view.parameters[name] for name in trained], slots, steps)
        losses = []
        for number, samples in enumerate(epoch.batches[row]):
            logits = self._logits(images.inputs(samples, epoch.augmentation((row, number))))
            loss = F.cross_entropy(logits, images.labels.index_select(0, samples))
            update(torch.autograd.grad(loss, parameters, materialize_grads=True), epoch.learning_rates[number])
            losses.append(loss.detach())
        self._leave(view)
        return _epoch_mean(losses)

    @torch.no_grad()
    def correct(self, stack: MemberStack, images: Images) -> npt.NDArray[np.int64]:
        """See ``Execution.correct``."""
        device = images.labels.device
        self._module.to(device).eval()
        right = torch.zeros(len(stack), dtype=torch.int64, device=device)
        for row in range(len(stack)):
            self._enter(stack.member(row))
            with seeded_generators(0, device):  # somebody's own network may draw even now
                for some, wanted in _chunks(images):
                    right[row] += (self._logits(some).argmax(-1) == wanted).sum()
        return right.cpu().numpy()


def executions(module: nn.Module, config: TrainingConfig) -> dict[str, Execution]:
    """The ways that a module can be trained, by the names that ``TrainingConfig.execution`` has for them.

    A stack of networks with batch normalisation, or of somebody's own, is offered only if it is asked for: the one may
    need more memory than there is, the other may do anything.

    Raises:
        ValueError: if the config asks for a stack and the module cannot be trained as one.
    """
    numerics, asked = Numerics.of(config), config.execution == "stacked"
    ways: dict[str, Execution] = {"loop": LoopExecution(module, numerics)}
    obstacle = MappedExecution.obstacle(module)
    if obstacle is not None and asked:
        raise ValueError(f"execution='stacked' cannot train model={config.model!r}, {obstacle}; use 'loop' or 'auto'")
    plain = not is_own(config.model) and next(module.buffers(), None) is None
    if obstacle is None and (asked or plain):
        way = ChainExecution if ChainExecution.suits(module) else MappedExecution
        ways["stacked"] = way(module, numerics)
    return ways


def seconds_per_member_step(
    execution: Execution,
    stack: MemberStack,
    images: Images,
    batch_size: int,
    *,
    most: int = 64,
) -> float:
    """How long a step takes per member: the best of three, on throwaway copies of a few members.

    Args:
        execution: what is timed.
        stack: members such as will be trained; left as they are.
        images: to train on.
        batch_size: samples in a batch.
        most: members that are timed together; a stack gains little beyond 64.
    """
    # A loop takes as long for any number of members.
    copies = stack.select(np.arange(min(len(stack), 2 if isinstance(execution, LoopExecution) else most)))
    steps = 4
    batches = torch.arange(len(copies) * steps * batch_size, device=images.labels.device) % len(images)
    batches = batches.view(len(copies), steps, batch_size)
    optimizer = Optimizer("adam") if "first_moment" in stack.slots else Optimizer(momentum=0.5 * bool(stack.slots))

    def timed(steps: int) -> float:
        # A learning rate of 0 cannot diverge. The result is on the CPU, so a GPU has finished when it is there.
        begin = time.perf_counter()
        execution.train_epoch(copies, images, optimizer, Epoch(batches[:, :steps], [0.0] * steps))
        return (time.perf_counter() - begin) / (steps * len(copies))

    first = timed(1)
    if first * len(copies) > _LONG_STEP_SECONDS:  # what a first call costs is little beside it
        return min(first, timed(1))
    return min(timed(steps) for _ in range(3))
