"""Gradients of batches as functions of flat weight vectors, for several runs at once."""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from nnval.engine.images import Images
from nnval.engine.stack import ChainExecution, MappedExecution

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs, labels) -> the losses of the samples, summed."""


def summed_cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy, summed over the samples."""
    return F.cross_entropy(outputs, labels, reduction="sum")


def flat_weights(module: nn.Module) -> torch.Tensor:
    """A copy of all trained parameters in one vector, in the order of ``module.named_parameters()``."""
    return torch.cat([each.detach().reshape(-1) for each in module.parameters() if each.requires_grad])


class BatchGradients:
    """Sums of the gradients of a batch's samples over the nominal batch size, R runs at a time.

    The module is used as it evaluates (``eval()``), with its buffers as they are.

    Args:
        module: the network; it is copied. Its weights are the parameters with ``requires_grad``, in the order of
            ``named_parameters()``.
        inputs: of all N samples, a tensor (N, ...), or images that are normalised batch by batch.
        labels: (N, ...).
        loss: summed over the samples of a batch.
        stacked: whether the runs are computed together (see nnval.engine.stack), which small networks and GPUs like,
            and for which all batches must have one size; otherwise run after run.
        dtype: of weights and inputs.
        device: where they are.

    Raises:
        ValueError: if numbers of inputs and labels differ, or the network has no parameters.

    Example:
        >>> inputs = torch.eye(2)
        >>> gradients = BatchGradients(nn.Linear(2, 2), inputs, torch.tensor([0, 1]))
        >>> gradients.size
        6
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: torch.Tensor | Images,
        labels: torch.Tensor,
        *,
        loss: Loss = summed_cross_entropy,
        stacked: bool = True,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(inputs) != len(labels):
            raise ValueError(f"{len(inputs)} inputs and {len(labels)} labels must be as many")
        self.device, self.dtype, self.stacked = torch.device(device), dtype, stacked
        self._module = copy.deepcopy(module).to(self.device, dtype).eval()
        self._shapes = {name: each.shape for name, each in self._module.named_parameters() if each.requires_grad}
        self.size = sum(shape.numel() for shape in self._shapes.values())
        if not self.size:
            raise ValueError("module has no parameters with requires_grad: there are no weights to record")
        self._inputs = inputs.to(self.device) if isinstance(inputs, Images) else inputs.to(self.device, dtype)
        self._labels = labels.to(self.device)
        self._loss = loss
        way = ChainExecution if ChainExecution.suits(self._module) else MappedExecution
        self._together = way(self._module)

    @property
    def samples(self) -> int:
        """N, the number of training samples."""
        return len(self._labels)

    def _pieces(self, weights: torch.Tensor) -> Iterator[tuple[tuple[str, torch.Size], torch.Tensor]]:
        pieces = weights.split([shape.numel() for shape in self._shapes.values()], dim=-1)
        return zip(self._shapes.items(), pieces, strict=True)

    def _summed(self, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        named = {name: piece.view(shape) for (name, shape), piece in self._pieces(weights)}
        return self._loss(functional_call(self._module, named, (inputs,)), labels)

    def _batch(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if isinstance(self._inputs, Images):
            return self._inputs.inputs(samples).to(self.dtype), self._labels[samples]
        return self._inputs[samples], self._labels[samples]

    def __call__(self, weights: torch.Tensor, batches: Sequence[torch.Tensor], batch_size: int) -> torch.Tensor:
        """Gradients at the weights of each run, on its batch.

        Args:
            weights: (R, d).
            batches: R index tensors.
            batch_size: S, by which the sums are divided, whatever the sizes of the batches.

        Returns:
            (R, d).

        Raises:
            ValueError: for stacked runs with batches of different sizes.
        """
        if not self.stacked:
            return (
                torch.stack([self._one(each, some) for each, some in zip(weights, batches, strict=True)]) / batch_size
            )
        if len({len(some) for some in batches}) != 1:
            raise ValueError(
                "stacked=True needs batches of one size; persistent batches are computed with stacked=False"
            )
        together = torch.stack(list(batches))
        inputs, labels = self._batch(together.reshape(-1))
        inputs = inputs.view(*together.shape, *inputs.shape[1:])
        labels = labels.view(*together.shape, *labels.shape[1:])
        # All samples of all runs in one sum: the gradient of each run comes from its own.
        leaf, runs = weights.detach().requires_grad_(), len(weights)
        named = {name: piece.reshape(runs, *shape) for (name, shape), piece in self._pieces(leaf)}
        for name, each in self._module.named_parameters():
            if name not in named:
                named[name] = each.detach().expand(runs, *each.shape)
        buffers = {name: each.expand(runs, *each.shape) for name, each in self._module.named_buffers()}
        outputs = self._together.logits(named, buffers, inputs)
        return torch.autograd.grad(self._loss(outputs.flatten(0, 1), labels.flatten(0, 1)), leaf)[0] / batch_size

    def _one(self, weights: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        if not len(samples):
            return torch.zeros_like(weights)
        leaf = weights.detach().clone().requires_grad_()
        return torch.autograd.grad(self._summed(leaf, *self._batch(samples)), leaf)[0]
