"""Members stacked along the first axis of every tensor, and the ways to train them.

A small network spends its life in Python and in the launching of kernels. Stacked, K members share that: one batched
matrix product serves all. Every way ("execution") computes the same numbers up to rounding, and in none of them does a
member's arithmetic involve another member's row.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from nnval.engine.images import Images

Tensors = dict[str, torch.Tensor]
Rows = npt.NDArray[np.int64] | npt.NDArray[np.bool_]

# Input values per member in one forward pass of an evaluation. It must not depend on the number of members, or rounding
# would; 2**18 is the whole digits data set, and 85 colour images of 32x32.
_EVALUATION_VALUES = 2**18


@dataclass(frozen=True)
class MemberView:
    """The state of one member, as views into the stack."""

    parameters: Tensors
    buffers: Tensors
    velocity: Tensors | None


@dataclass
class MemberStack:
    """The state of K members.

    Attributes:
        members: (K,), their ids.
        parameters: name to tensor (K, ...).
        buffers: likewise.
        velocity: likewise, torch's momentum buffer per parameter; None without momentum.
    """

    members: npt.NDArray[np.int64]
    parameters: Tensors
    buffers: Tensors
    velocity: Tensors | None

    @classmethod
    def of(cls, members: Sequence[int], states: Sequence[tuple[Tensors, Tensors]], *, momentum: bool) -> Self:
        """Stacks copies of (parameters, buffers) of each member; velocities, if any, begin at 0."""

        def stacked(tensors: Sequence[Tensors]) -> Tensors:
            return {name: torch.stack([each[name].detach() for each in tensors]) for name in tensors[0]}

        parameters = stacked([parameters for parameters, _ in states])
        velocity = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()} if momentum else None
        return cls(np.asarray(members, np.int64), parameters, stacked([buffers for _, buffers in states]), velocity)

    def __len__(self) -> int:
        return len(self.members)

    def _map(self, act: Callable[[torch.Tensor], torch.Tensor]) -> tuple[Tensors, Tensors, Tensors | None]:
        def of(tensors: Tensors) -> Tensors:
            return {name: act(tensor) for name, tensor in tensors.items()}

        return of(self.parameters), of(self.buffers), None if self.velocity is None else of(self.velocity)

    def member(self, row: int) -> MemberView:
        """Row ``row``; writing to its tensors writes to the stack."""
        return MemberView(*self._map(lambda tensor: tensor[row]))

    def select(self, rows: Rows) -> Self:
        """A stack of copies of these rows, given by number or as a mask (K,)."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        where = torch.from_numpy(np.asarray(index, np.int64))
        return type(self)(self.members[index], *self._map(lambda tensor: tensor[where.to(tensor.device)]))

    def to(self, device: torch.device | str) -> Self:
        """The same stack on a device; shares memory if it is there already."""
        return type(self)(self.members, *self._map(lambda tensor: tensor.to(device)))

    def finite(self) -> npt.NDArray[np.bool_]:
        """(K,): whether all of a member's weights and buffers are numbers."""
        everything = torch.ones(len(self), dtype=torch.bool)
        for tensor in (*self.parameters.values(), *self.buffers.values()):
            everything &= tensor.unsqueeze(-1).flatten(1).isfinite().all(1).cpu()
        return everything.numpy()


@dataclass(frozen=True)
class SgdStep:
    """One step of torch.optim.SGD: g += weight_decay w; v = momentum v + g; w -= learning_rate v.

    A velocity that begins at 0 gives the first step that torch's, which begins as a copy of the gradient, gives.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    @torch.no_grad()
    def update(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor],
        velocity: Sequence[torch.Tensor] | None,
    ) -> None:
        """Acts in place on parameters and velocity."""
        for number, (weights, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            if self.weight_decay:
                gradient = gradient.add(weights, alpha=self.weight_decay)
            if velocity is not None:
                gradient = velocity[number].mul_(self.momentum).add_(gradient)
            weights.add_(gradient, alpha=-self.learning_rate)


class Execution(Protocol):
    """A way to train and evaluate a stack."""

    def train_epoch(
        self, stack: MemberStack, images: Images, batches: torch.Tensor, step: SgdStep
    ) -> npt.NDArray[np.float64]:
        """One epoch of SGD on the mean cross entropy, in place.

        Args:
            stack: K members.
            images: N of them.
            batches: (K, M, S), indices of the samples of each member's batches.
            step: learning rate, momentum and weight decay.

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
    """Common to the ways that compute all members at once; a subclass gives the logits."""

    def logits(self, parameters: Tensors, images: torch.Tensor) -> torch.Tensor:
        """(K, S, classes) from parameters (K, ...) and images (K, S, channels, height, width)."""
        raise NotImplementedError

    def train_epoch(
        self, stack: MemberStack, images: Images, batches: torch.Tensor, step: SgdStep
    ) -> npt.NDArray[np.float64]:
        """See ``Execution.train_epoch``."""
        members, count, size = batches.shape
        # Leaves of autograd that share memory with the stack, so that an update of the stack is one of the leaves.
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in stack.parameters.items()}
        velocity = None if stack.velocity is None else [stack.velocity[name] for name in leaves]
        losses = []
        for number in range(count):
            samples = batches[:, number].reshape(-1)
            batch = images.inputs(samples).view(members, size, *images.shape)
            wanted = images.labels.index_select(0, samples).view(members, size)
            logits = self.logits({name: _never_alone(leaf) for name, leaf in leaves.items()}, _never_alone(batch))
            entropies = F.cross_entropy(logits.transpose(1, 2), _never_alone(wanted), reduction="none")
            loss = entropies.mean(1)[:members]
            gradients = torch.autograd.grad(loss.sum(), list(leaves.values()))
            step.update([stack.parameters[name] for name in leaves], gradients, velocity)
            losses.append(loss.detach())
        return _epoch_mean(losses)

    @torch.no_grad()
    def correct(self, stack: MemberStack, images: Images) -> npt.NDArray[np.int64]:
        """See ``Execution.correct``."""
        parameters = {name: _never_alone(tensor) for name, tensor in stack.parameters.items()}
        members = max(2, len(stack))
        right = torch.zeros(members, dtype=torch.int64, device=images.labels.device)
        for some, wanted in _chunks(images):
            logits = self.logits(parameters, some.unsqueeze(0).expand(members, *some.shape))
            right += (logits.argmax(-1) == wanted).sum(1)
        return right[: len(stack)].cpu().numpy()


_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Identity)


class ChainExecution(_StackedExecution):
    """Fully connected networks as a chain of batched matrix products.

    torch.vmap over the same module was 1.4 to 2.4 times slower.
    """

    def __init__(self, module: nn.Module) -> None:
        self._layers = list(module.named_children())

    @staticmethod
    def suits(module: nn.Module) -> bool:
        """Whether a module is nn.Sequential of one Flatten, then Linear layers and elementwise activations."""
        if type(module) is not nn.Sequential or len(module) == 0:
            return False
        first, *others = module
        # Exact types: a subclass may compute anything.
        whole = type(first) is nn.Flatten and (first.start_dim, first.end_dim) == (1, -1)
        return whole and all(type(layer) is nn.Linear or type(layer) in _ELEMENTWISE for layer in others)

    def logits(self, parameters: Tensors, images: torch.Tensor) -> torch.Tensor:
        """See ``_StackedExecution.logits``."""
        # Features before samples, (K, features, S): the gradient of the weights then comes out in their own layout, and
        # the softmax is vectorised over samples. The other way round took a quarter longer.
        values = images.flatten(2).transpose(1, 2)
        for name, layer in self._layers[1:]:
            if not isinstance(layer, nn.Linear):
                values = layer(values)
            elif layer.bias is None:
                values = torch.bmm(parameters[f"{name}.weight"], values)
            else:
                values = torch.baddbmm(parameters[f"{name}.bias"].unsqueeze(2), parameters[f"{name}.weight"], values)
        return values.transpose(1, 2)


class MappedExecution(_StackedExecution):
    """Any module without buffers, by torch.func.vmap; pays on a GPU and for tiny images."""

    def __init__(self, module: nn.Module) -> None:
        self._logits = vmap(lambda parameters, images: functional_call(module, parameters, (images,)))

    @staticmethod
    def suits(module: nn.Module) -> bool:
        """Whether a module has parameters and no buffers, which vmap could not update in place."""
        return next(module.parameters(), None) is not None and next(module.buffers(), None) is None

    def logits(self, parameters: Tensors, images: torch.Tensor) -> torch.Tensor:
        """See ``_StackedExecution.logits``."""
        return self._logits(parameters, images)


class LoopExecution:
    """Member after member: plain PyTorch on a real module whose parameters are pointed at the member's rows."""

    def __init__(self, module: nn.Module) -> None:
        # A copy, since its weights will be rows of stacks.
        self._module = copy.deepcopy(module)

    def _enter(self, view: MemberView) -> None:
        for name, parameter in self._module.named_parameters():
            parameter.data = view.parameters[name]
        for name, buffer in self._module.named_buffers():
            buffer.data = view.buffers[name]

    def _leave(self, view: MemberView) -> None:
        for name, buffer in self._module.named_buffers():
            if buffer.data_ptr() != view.buffers[name].data_ptr():  # the module assigned a new tensor
                view.buffers[name].copy_(buffer)

    def train_epoch(
        self, stack: MemberStack, images: Images, batches: torch.Tensor, step: SgdStep
    ) -> npt.NDArray[np.float64]:
        """See ``Execution.train_epoch``."""
        self._module.to(images.labels.device).train()
        names = [name for name, _ in self._module.named_parameters()]
        means = []
        for row in range(len(stack)):
            view = stack.member(row)
            self._enter(view)
            parameters = list(self._module.parameters())
            velocity = None if view.velocity is None else [view.velocity[name] for name in names]
            losses = []
            for samples in batches[row]:
                logits = self._module(images.inputs(samples))
                loss = F.cross_entropy(logits, images.labels.index_select(0, samples))
                step.update(parameters, torch.autograd.grad(loss, parameters), velocity)
                losses.append(loss.detach())
            self._leave(view)
            means.append(_epoch_mean(losses))
        return np.array(means)

    @torch.no_grad()
    def correct(self, stack: MemberStack, images: Images) -> npt.NDArray[np.int64]:
        """See ``Execution.correct``."""
        self._module.to(images.labels.device).eval()
        right = torch.zeros(len(stack), dtype=torch.int64, device=images.labels.device)
        for row in range(len(stack)):
            self._enter(stack.member(row))
            for some, wanted in _chunks(images):
                right[row] += (self._module(some).argmax(-1) == wanted).sum()
        return right.cpu().numpy()


def executions(module: nn.Module) -> dict[str, Execution]:
    """The ways that a module can be trained, by the names that ``TrainingConfig.execution`` has for them."""
    ways: dict[str, Execution] = {"loop": LoopExecution(module)}
    if ChainExecution.suits(module):
        ways["stacked"] = ChainExecution(module)
    elif MappedExecution.suits(module):
        ways["stacked"] = MappedExecution(module)
    return ways


def seconds_per_member_step(
    execution: Execution,
    stack: MemberStack,
    images: Images,
    batch_size: int,
    *,
    most: int = 64,
) -> float:
    """How long a step of SGD takes per member: the best of three, on throwaway copies of a few members.

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
    # A learning rate of 0 cannot diverge. The result is on the CPU, so a GPU has finished when train_epoch returns.
    still = SgdStep(0.0, 0.5 if stack.velocity is not None else 0.0)
    execution.train_epoch(copies, images, batches[:, :1], still)
    durations = []
    for _ in range(3):
        begin = time.perf_counter()
        execution.train_epoch(copies, images, batches, still)
        durations.append(time.perf_counter() - begin)
    return min(durations) / (steps * len(copies))
