"""Several networks that descend beside each other, on the same data, each with batches of its own.

Small networks spend their time between operations: R of them together take little longer than one. Persistent
batches, whose sizes differ, are filled up with a sample that has no gradient (``with_blank``). What was drawn is drawn
again when a descent goes on, so that there is no generator state to keep.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from nnval.engine.images import Images
from nnval.measure.batch_gradients import BatchGradients
from nnval.measure.batch_orders import Batches, BatchOrder
from sim.batch_order import batches_per_epoch

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


def with_blank(images: Images) -> Images:
    """The images and one more, which no loss counts.

    Args:
        images: N of them.

    Returns:
        N + 1; the last one has the label ``IGNORED``.
    """
    blank, label = torch.zeros_like(images.pixels[:1]), torch.full_like(images.labels[:1], IGNORED)
    return dataclasses.replace(
        images, pixels=torch.cat([images.pixels, blank]), labels=torch.cat([images.labels, label])
    )


class ParallelDescent:
    """SGD of R networks, update by update.

    A *field* f is a constant force: it is added to minus the gradient, so that an update moves by eta f more. Copies of
    a row see the same batches (``copy_rows``).

    Args:
        gradients: of N samples and, last, of one without any gradient.
        order: of the batches.
        batch_size: S.
        draws: a function that makes the generator of each order of batches, from its beginning.
        weights: where the rows begin, shape (R, d); copied.
        learning_rate: eta.
        momentum: beta of torch's SGD.
        weight_decay: a.
        velocity_buffer: torch's momentum buffer to begin with, likewise (R, d).
    """

    def __init__(
        self,
        gradients: BatchGradients,
        order: BatchOrder,
        batch_size: int,
        draws: Sequence[Callable[[], np.random.Generator]],
        weights: torch.Tensor,
        *,
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        velocity_buffer: torch.Tensor | None = None,
    ) -> None:
        self._gradients, self._order, self._batch_size, self._draws = gradients, order, batch_size, draws
        self._samples = gradients.samples - 1
        self._batches_per_epoch = batches_per_epoch(self._samples, batch_size)
        self._rates = learning_rate, momentum, weight_decay
        self._rows = list(range(len(weights)))
        self.weights = weights.detach().clone()
        self.buffer = torch.zeros_like(self.weights) if velocity_buffer is None else velocity_buffer.detach().clone()
        self.field: torch.Tensor | None = None
        self.update = 0
        self._begin()

    def _begin(self) -> None:
        self._epochs: list[Batches] = [
            self._order.epochs(self._samples, self._batch_size, draw()) for draw in self._draws
        ]
        self._current: torch.Tensor | None = None

    def _next_epoch(self) -> None:
        """The batches of an epoch, filled up to one size: (M, generators, most samples in a batch)."""
        epochs = [next(each) for each in self._epochs]
        most = max(1, max(len(batch) for epoch in epochs for batch in epoch))
        filled = np.full((self._batches_per_epoch, len(epochs), most), self._samples)
        for number, epoch in enumerate(epochs):
            for place, batch in enumerate(epoch):
                filled[place, number, : len(batch)] = batch
        self._current = torch.from_numpy(filled).to(self._gradients.device)

    def step(self) -> None:
        """One update of all rows."""
        place = self.update % self._batches_per_epoch
        if place == 0 or self._current is None:
            self._next_epoch()
        assert self._current is not None
        rate, momentum, decay = self._rates
        step = self._gradients(self.weights, list(self._current[place][self._rows]), self._batch_size)
        if decay:
            step = step + decay * self.weights
        if self.field is not None:
            step = step - self.field
        self.buffer.mul_(momentum).add_(step)
        self.weights.add_(self.buffer, alpha=-rate)
        self.update += 1

    def copy_rows(self, sources: Sequence[int]) -> None:
        """Goes on with copies of some rows.

        Args:
            sources: for each row to come the one that it continues, with its batches.
        """
        chosen = list(sources)
        self.weights, self.buffer = self.weights[chosen].clone(), self.buffer[chosen].clone()
        self._rows = [self._rows[each] for each in chosen]

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        rows = {"rows": list(self._rows), "update": self.update}
        return {"weights": self.weights.clone(), "buffer": self.buffer.clone()} | rows

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict`` of the same descent."""
        self.weights, self.buffer = state["weights"].to(self.weights), state["buffer"].to(self.buffer)
        self._rows, self.update = list(state["rows"]), state["update"]
        self._begin()
        for _ in range(-(-self.update // self._batches_per_epoch)):
            self._next_epoch()
