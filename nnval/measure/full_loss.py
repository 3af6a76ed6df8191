"""The mean loss of a network on all samples, as a deterministic function of one vector of weights, and its derivatives.

Hessian-vector products are exact: the gradient, by reverse differentiation, is differentiated forward along many
vectors at once (``vmap`` of ``jvp`` of ``grad``). On a CPU, the Hessian of LeNet times 16 vectors took 1.4 to 2 times
as long by double backward, batched (``is_grads_batched``) or vector by vector, and 2.4 times as long with one vector at
a time. The samples are read in chunks whose sums are added in float64.

Weight decay is no part of this loss: its coefficient adds to every curvature.
"""

import copy
import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap

from nnval.engine.images import Images
from nnval.measure.batch_gradients import Loss, summed_cross_entropy
from nnval.measure.evaluation_mode import prepare_for_evaluation, refuse_random_numbers
from theory.absorbing import whole_number

VECTORS_AT_ONCE = 16
"""Vectors that a Hessian-vector product differentiates along at once; more are taken in groups."""

IRREPRODUCIBLE = 1e-6
"""Two evaluations of a loss may differ by this, relative to it: order of summation on a GPU, but no random numbers."""

_EXAMPLE_GRADIENT_BYTES = 2**26


@functools.cache
def _load_forward_differentiation() -> None:
    """The first use of it in a process makes torch script some rules of its own, at which torch warns its users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


class FullLoss:
    """L(theta) = (1 / N) sum_n l_n(theta) with the network as it evaluates (``eval()``) and its buffers as they are.

    Args:
        module: the network; it is copied. Its weights are the parameters with ``requires_grad``, in the order of
            ``named_parameters()``; others stay as they are.
        inputs: of all N samples, a tensor (N, ...), or images that are normalised chunk by chunk.
        labels: (N, ...).
        loss: (outputs, labels) -> the losses of the samples, *summed*; by default the cross entropy.
        dtype: torch.float32 or torch.float64, of weights, inputs, and labels that are no integers.
        chunk: samples in a forward pass; samples times vectors, where there are several vectors. By default at least
            1024 on a CPU, which LeNet gets (with 4096 it took half as long again), and 32768 elsewhere; more for small
            networks on small inputs.
        device: where all is.
        frozen_statistics: allow BatchNorm, with its running statistics as constants. The training loss is another
            function then: ask for this knowingly.

    Attributes:
        samples: N.
        size: d, the number of weights.

    Raises:
        ValueError: for a network that in training computes something else (Dropout, BatchNorm, ...) or draws random
            numbers, a loss that is not a sum over samples, or arguments out of range.

    Example:
        >>> inputs = torch.tensor([[1.0], [2.0], [3.0]])
        >>> squares = lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2
        >>> loss = FullLoss(nn.Linear(1, 1), inputs, inputs, loss=squares)
        >>> weights = torch.tensor([0.0, 0.0], dtype=torch.float64)  # slope and offset
        >>> loss.value(weights), loss.gradient(weights).tolist(), loss.product(weights, torch.eye(2)).tolist()
        (2.3333, [-4.6667, -2.0], [[4.6667, 2.0], [2.0, 1.0]])
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: torch.Tensor | Images,
        labels: torch.Tensor,
        *,
        loss: Loss = summed_cross_entropy,
        dtype: torch.dtype = torch.float64,
        chunk: int | None = None,
        device: torch.device | str = "cpu",
        frozen_statistics: bool = False,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype={dtype} must be torch.float32 or torch.float64")
        if len(inputs) != len(labels) or not len(labels):
            raise ValueError(f"{len(inputs)} inputs and {len(labels)} labels must be as many, and at least one")
        self.device, self.dtype, self.samples = torch.device(device), dtype, len(labels)
        if chunk is not None:
            chunk = whole_number("chunk", chunk, 1)
        self._module = copy.deepcopy(module).to(self.device, dtype)
        self._shapes = {name: each.shape for name, each in self._module.named_parameters() if each.requires_grad}
        self.size = sum(shape.numel() for shape in self._shapes.values())
        if not self.size:
            raise ValueError("module has no parameters with requires_grad: there are no weights to differentiate by")
        self._inputs = inputs.to(self.device) if isinstance(inputs, Images) else inputs.to(self.device, dtype)
        self._labels = labels.to(self.device, dtype if labels.is_floating_point() else labels.dtype)
        few = self._batch(torch.arange(min(8, self.samples), device=self.device))
        # Small networks spend their time in launching operations, larger ones in memory beyond the caches.
        least, most = (1024, 2**16) if self.device.type == "cpu" else (2**15, 2**18)
        self.chunk = chunk or max(least, min(most, 2**26 // self.size, 2**22 // few[0][0].numel()))
        self._loss = loss
        self._sum_dtype = torch.float32 if self.device.type == "mps" else torch.float64
        _load_forward_differentiation()
        prepare_for_evaluation(self._module, few[0], frozen_statistics=frozen_statistics)
        self._check_sum_over_samples(*few)

    @property
    def weights(self) -> torch.Tensor:
        """A copy of the module's weights in one vector, shape (d,)."""
        trainable = (each for each in self._module.parameters() if each.requires_grad)
        return torch.cat([each.detach().reshape(-1) for each in trainable])

    def value(self, weights: torch.Tensor) -> float:
        """L at given weights.

        Args:
            weights: shape (d,).

        Returns:
            The mean loss.

        Raises:
            ValueError: for weights of another shape.
        """
        point = self._checked(weights)
        with torch.no_grad():
            return float(self._sum(lambda *batch: self._summed(point, *batch), self.chunk) / self.samples)

    def gradient(self, weights: torch.Tensor, samples: torch.Tensor | None = None) -> torch.Tensor:
        """Its gradient, or that of the mean loss of some samples.

        Args:
            weights: shape (d,).
            samples: indices, int64, of which some may be the same; all by default.

        Returns:
            Shape (d,).

        Raises:
            ValueError: for weights of another shape, or no samples.
        """
        point = self._checked(weights)
        if samples is not None and not len(samples):
            raise ValueError("samples is empty: the mean of no gradients is not a number")
        gradient = grad(self._summed)
        total = self._sum(lambda *batch: gradient(point, *batch), self.chunk, samples)
        return (total / (self.samples if samples is None else len(samples))).to(self.dtype)

    def product(self, weights: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """The Hessian of L times vectors.

        Args:
            weights: shape (d,).
            vectors: shape (k, d).

        Returns:
            Shape (k, d).

        Raises:
            ValueError: for shapes that do not fit.
        """
        point = self._checked(weights)
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise ValueError(f"vectors of shape {tuple(vectors.shape)} must have shape (k, {self.size})")
        return torch.cat([self._product(point, some) for some in vectors.split(VECTORS_AT_ONCE)])

    def _product(self, point: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        directions = vectors.to(self.device, self.dtype)

        def products(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            gradient = grad(lambda weights: self._summed(weights, inputs, labels))
            return vmap(lambda vector: jvp(gradient, (point,), (vector,))[1])(directions)

        return (self._sum(products, max(1, self.chunk // len(vectors))) / self.samples).to(self.dtype)

    def example_gradients(self, weights: torch.Tensor) -> Iterator[torch.Tensor]:
        """The gradients of the losses of single samples, chunk by chunk in the order of the samples.

        Args:
            weights: shape (d,).

        Yields:
            Shape (n, d), at most 64 MiB unless one is larger.

        Raises:
            ValueError: for weights of another shape.
        """
        point = self._checked(weights)
        size = min(self.chunk, max(1, _EXAMPLE_GRADIENT_BYTES // (self.size * point.element_size())))
        gradients = vmap(grad(lambda at, x, y: self._summed(at, x[None], y[None])), (None, 0, 0))
        for inputs, labels in self._batches(min(size, 64) if self.device.type == "cpu" else size):
            yield gradients(point, inputs, labels).detach()

    def irreproducibility(self, weights: torch.Tensor) -> float:
        """How far two evaluations of loss and gradient differ, relative to them; checked before anything is measured.

        Args:
            weights: shape (d,).

        Returns:
            0 if they are the same bit by bit.

        Raises:
            ValueError: if they differ by more than ``IRREPRODUCIBLE``, draw random numbers, or are not finite.
        """
        with refuse_random_numbers(self.device):
            first, second = ((self.value(weights), self.gradient(weights)) for _ in range(2))
        scale = float(first[1].abs().max())
        if not (torch.isfinite(first[1]).all() and torch.isfinite(torch.tensor(first[0]))):
            raise ValueError(f"loss={first[0]} or its gradient is not finite at these weights: nothing can be measured")
        differences = [abs(second[0] - first[0]) / max(abs(first[0]), 1e-300)]
        differences.append(float((second[1] - first[1]).abs().max()) / max(scale, 1e-300))
        worst = max(differences)
        if not worst <= IRREPRODUCIBLE:
            raise ValueError(
                f"loss is not deterministic: two evaluations at the same weights differ by {worst:.1g} of it; leave "
                "out augmentation, dropout and other random numbers"
            )
        return worst

    def digest(self, weights: torch.Tensor) -> str:
        """A hash of weights, data and network, by which a saved state is told from that of another loss.

        Args:
            weights: shape (d,).

        Returns:
            SHA-256, in hexadecimal digits.
        """
        images = self._inputs
        parts = [images.pixels, images.scale, images.offset] if isinstance(images, Images) else [images]
        constants = [*self._module.buffers(), *(p for p in self._module.parameters() if not p.requires_grad)]
        result = hashlib.sha256(repr((self._module, self.dtype, self.samples)).encode())
        if self._loss is not summed_cross_entropy:  # of which there is no more to see than the name, and what it gives
            result.update(getattr(self._loss, "__qualname__", type(self._loss).__qualname__).encode())
            result.update(f"{self.value(weights):.4g}".encode())
        for tensor in (self._checked(weights), self._labels, *parts, *constants):
            if tensor is not None:
                result.update(tensor.detach().cpu().contiguous().numpy().data)
        return result.hexdigest()

    def _checked(self, weights: torch.Tensor) -> torch.Tensor:
        if weights.shape != (self.size,):
            raise ValueError(f"weights of shape {tuple(weights.shape)} must have shape ({self.size},)")
        return weights.detach().to(self.device, self.dtype)

    def _summed(self, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        pieces = weights.split([shape.numel() for shape in self._shapes.values()])
        named = {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)}
        return self._loss(functional_call(self._module, named, (inputs,)), labels)

    def _batch(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if isinstance(self._inputs, Images):
            inputs = self._inputs.inputs(samples).to(self.dtype)
        else:
            inputs = self._inputs.index_select(0, samples)
        return inputs, self._labels.index_select(0, samples)

    def _batches(self, size: int, samples: torch.Tensor | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        chosen = torch.arange(self.samples) if samples is None else samples
        for some in chosen.to(self.device).split(size):
            yield self._batch(some)

    def _sum(self, function: Callable[..., torch.Tensor], size: int, samples: torch.Tensor | None = None) -> Any:
        """The sum of a function of inputs and labels over chunks of them; float32 stays float32 on a GPU too."""
        total: Any = 0
        # By default cuDNN rounds the numbers that it multiplies to ten bits.
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, deterministic=True, allow_tf32=False):
            for batch in self._batches(size, samples):
                total = total + function(*batch).detach().to(self._sum_dtype)
        return total

    @torch.no_grad()
    def _check_sum_over_samples(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        outputs = self._module(inputs)
        together = self._loss(outputs, labels)
        if together.ndim:
            raise ValueError(f"loss gives shape {tuple(together.shape)}; it must be one number, the sum over samples")
        apart = sum(float(self._loss(outputs[n : n + 1], labels[n : n + 1])) for n in range(len(labels)))
        tolerance = 1e-3 if self.dtype == torch.float32 else 1e-9
        if len(labels) > 1 and not abs(float(together) - apart) <= tolerance * abs(apart):
            raise ValueError(
                f"loss of {len(labels)} samples is {float(together):.6g}, the sum of their losses {apart:.6g}: it must "
                'be summed over the samples (reduction="sum"), not averaged'
            )
