"""One network that descends its loss with one of four noises: two of mini-batches, two that are injected.

    method              gradient                 noise
    "with_replacement"  of batches of S samples  white, depends on the weights
    "reshuffled"        of batches of S samples  sums to zero in each epoch (but for its dependence on the weights)
    "pgd"               of all samples           white, added to the weights
    "anti_pgd"          of all samples           increments of white noise, added to the weights

An epoch is M = N // S updates for all of them, so that epochs are equally many updates. Made of the drop-ins: what is
done here, anybody's training loop can do.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from nnval.drop_in.anti_pgd import AntiPGD
from nnval.drop_in.batch_samplers import BatchOrderSampler
from nnval.engine.images import Images
from nnval.measure.batch_gradients import summed_cross_entropy
from sim.batch_order import batches_per_epoch
from theory.noise_arguments import checked_rate

INJECTED = {"pgd": "white", "anti_pgd": "anti"}
"""Methods whose noise is added to the weights, and the correlation of that noise."""

METHODS = ("with_replacement", "reshuffled", *INJECTED)

_VALUES_AT_ONCE = 2**22
"""Input values in a forward pass of the full gradient."""


class NoisyDescent:
    """Trains a network by one of ``METHODS``.

    Args:
        module: the network, on the device of the images; it is trained in place.
        images: inputs of any shape, and labels.
        method: one of ``METHODS``.
        batch_size: S, which also makes the M updates of an epoch without batches.
        learning_rate: eta, constant.
        momentum: beta of torch's SGD.
        weight_decay: a; it adds a to every curvature of the loss.
        noise_scale: standard deviation of each coordinate of xi, for "pgd" and "anti_pgd".
        distribution: of xi, ``"gaussian"`` or ``"rademacher"``.
        loss: (outputs, labels) -> the losses of the samples, summed.
        rng: where batches come from.
        generator: where xi comes from.

    Raises:
        ValueError: for an unknown method, or a number out of range.
    """

    def __init__(
        self,
        module: nn.Module,
        images: Images,
        method: str,
        *,
        batch_size: int,
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        noise_scale: float,
        distribution: str = "gaussian",
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = summed_cross_entropy,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method={method!r} must be one of {', '.join(METHODS)}")
        self.module, self.epoch = module, 0
        self._images, self._loss = images, loss
        self._updates = batches_per_epoch(len(images), batch_size)
        self._batch_size = batch_size
        self._optimizer = torch.optim.SGD(
            [each for each in module.parameters() if each.requires_grad],
            lr=checked_rate("learning_rate", learning_rate),
            momentum=momentum,
            weight_decay=weight_decay,
        )
        self._sampler: BatchOrderSampler | None = None
        self._noise: AntiPGD | None = None
        if method in INJECTED:
            self._noise = AntiPGD(
                self._optimizer,
                noise_scale,
                correlation=INJECTED[method],
                distribution=distribution,
                generator=generator,
            )
        else:
            self._sampler = BatchOrderSampler(method, len(images), batch_size, rng=rng)

    def train_epoch(self) -> None:
        """M updates."""
        if self._sampler is None:
            for _ in range(self._updates):
                self._optimizer.zero_grad()
                self._add_full_gradient()
                self._optimizer.step()
        else:
            for batch in self._sampler:
                samples = torch.tensor(batch, device=self._images.labels.device)
                self._optimizer.zero_grad()
                outputs = self.module(self._images.inputs(samples))
                (self._loss(outputs, self._images.labels[samples]) / self._batch_size).backward()
                self._optimizer.step()
        self.epoch += 1

    def _add_full_gradient(self) -> None:
        values = max(1, self._images.pixels[0].numel())
        for inputs, labels in self._images.chunks(max(1, _VALUES_AT_ONCE // values)):
            (self._loss(self.module(inputs), labels) / len(self._images)).backward()

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(torch.isfinite(each).all()) for each in self.module.parameters())

    def without_injected_noise(self) -> contextlib.AbstractContextManager[None]:
        """Where the weights of Anti-PGD lack the noise; those of the other methods are as they are."""
        return contextlib.nullcontext() if self._noise is None else self._noise.without_noise()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on between two epochs, readable by ``torch.load(weights_only=True)``."""
        return {
            "epoch": self.epoch,
            "module": {name: tensor.clone() for name, tensor in self.module.state_dict().items()},
            "optimizer": self._optimizer.state_dict(),
            "sampler": None if self._sampler is None else self._sampler.state_dict(),
            "noise": None if self._noise is None else self._noise.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict`` of the same training."""
        self.epoch = state["epoch"]
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._sampler is not None:
            self._sampler.load_state_dict(state["sampler"])
        if self._noise is not None:
            self._noise.load_state_dict(state["noise"])
