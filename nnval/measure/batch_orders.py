"""The orders of batches by name: the batches, from sim.batch_order, and the noise that theory says they make.

With the variance C_0 = (1 / N) sum_n (gradient_n - mean)^2 of the gradients of single samples along a direction,
batches of S samples make noise whose variance and autocovariance are known for each order (theory.gradient_noise). If S
does not divide N, a reshuffled epoch leaves N - M S samples out, others each time. Its noise then does not sum to zero:
it is that of M batches which do, of variance C_0 (M - 1) / (N - 1), and white noise of variance
C_0 (N - M S) / (S (N - 1)), because batches of one epoch have the covariance -C_0 / (N - 1), and those of different
epochs none. Derived for jostle.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sim import batch_order
from theory.absorbing import whole_number
from theory.gradient_noise import GradientNoise, Persistent, Reshuffled, ReshuffledEvery, ShuffledOnce, WhiteNoise

ORDERS = ("with_replacement", "reshuffled", "shuffled_once", "persistent")

Batches = Iterator[batch_order.Indices | Sequence[batch_order.Indices]]
"""Epoch by epoch without end, M index arrays each."""


@dataclass(frozen=True)
class BatchOrder:
    """An order of batches.

    Attributes:
        name: one of ``ORDERS``, functions of sim.batch_order.
        every: of ``"reshuffled"``: epochs that share an order.
        entry_probability: of ``"persistent"``: that a sample outside of the batch enters it, per update.

    Raises:
        ValueError: for an unknown name, or options that the order does not have.

    Example:
        >>> BatchOrder("reshuffled").noise(samples=60, batch_size=6)
        Reshuffled(batches_per_epoch=10, variance=0.15254237288135594)
    """

    name: str = "reshuffled"
    every: int = 1
    entry_probability: float | None = None

    def __post_init__(self) -> None:
        if self.name not in ORDERS:
            raise ValueError(f"order={self.name!r} must be one of {', '.join(ORDERS)}")
        object.__setattr__(self, "every", whole_number("every", self.every, 1))
        if self.every > 1 and self.name != "reshuffled":
            raise ValueError(f"every={self.every} belongs to order='reshuffled'; leave it out for {self.name!r}")
        if (self.entry_probability is not None) != (self.name == "persistent"):
            raise ValueError(
                f"entry_probability={self.entry_probability} belongs to order='persistent', which needs it; the order "
                f"is {self.name!r}"
            )

    @classmethod
    def parsed(cls, text: str) -> "BatchOrder":
        """The order that a text names: a name, ``"reshuffled:every=3"`` or ``"persistent:entry_probability=0.01"``.

        Args:
            text: as ``label`` writes it.

        Returns:
            The order.

        Raises:
            ValueError: if it means none.

        Example:
            >>> BatchOrder.parsed("reshuffled:every=3").label
            'reshuffled:every=3'
        """
        name, _, option = text.partition(":")
        key, _, value = option.partition("=")
        try:
            if key == "every":
                return cls(name, every=int(value))
            if key == "entry_probability":
                return cls(name, entry_probability=float(value))
        except ValueError as error:
            raise ValueError(f"order={text!r} cannot be read: {error}") from None
        if option:
            raise ValueError(f"order={text!r}: its option must be every=E or entry_probability=P")
        return cls(name)

    @property
    def label(self) -> str:
        """The order as one word."""
        if self.every > 1:
            return f"{self.name}:every={self.every}"
        return (
            self.name if self.entry_probability is None else f"{self.name}:entry_probability={self.entry_probability!r}"
        )

    @property
    def same_size(self) -> bool:
        """Whether all batches have S samples."""
        return self.name != "persistent"

    def epochs(self, samples: int, batch_size: int, rng: np.random.Generator) -> Batches:
        """The batches.

        Args:
            samples: N, the number of training samples.
            batch_size: S, samples in a batch; the mean number for ``"persistent"``.
            rng: the run's generator.

        Returns:
            M = N // S index arrays for each epoch, without end.

        Raises:
            ValueError: for arguments out of range.
        """
        if self.name == "with_replacement":
            return batch_order.with_replacement_epochs(samples, batch_size, rng)
        if self.name == "reshuffled":
            return batch_order.reshuffled_epochs(samples, batch_size, rng, every=self.every)
        if self.name == "shuffled_once":
            return batch_order.shuffled_once_epochs(samples, batch_size, rng)
        assert self.entry_probability is not None
        return batch_order.persistent_epochs(samples, batch_size, rng, entry_probability=self.entry_probability)

    def noise(self, samples: int, batch_size: int) -> GradientNoise:
        """The noise of batch gradients at fixed weights, if that of single samples has the variance C_0 = 1.

        Args:
            samples: N, the number of training samples.
            batch_size: S.

        Returns:
            The noise. That of persistent batches is for a mean gradient of zero.

        Raises:
            ValueError: unless there are two batches in an epoch, and for orders that leave the same samples out in
                several epochs: their noise is not stationary.
        """
        batches = batch_order.batches_per_epoch(samples, batch_size)
        if batches < 2:
            raise ValueError(
                f"batch_size={batch_size} of {samples} samples gives {batches} batch per epoch: at least 2 are needed, "
                "or there is no order of batches; lower batch_size"
            )
        rest = samples - batches * batch_size
        if self.name == "with_replacement":
            return WhiteNoise.with_replacement(1.0, samples, batch_size)
        if self.name == "persistent":
            assert self.entry_probability is not None
            return Persistent.two_state(1.0, samples, batch_size, self.entry_probability)
        variance = (batches - 1) / (samples - 1)
        if self.name == "reshuffled" and self.every == 1:
            summing_to_zero = Reshuffled(batches, variance)
            return summing_to_zero + WhiteNoise(rest / (batch_size * (samples - 1))) if rest else summing_to_zero
        if rest:
            raise ValueError(
                f"batch_size={batch_size} must divide the {samples} samples for order={self.label!r}: otherwise the "
                f"same {rest} are left out epoch after epoch; change batch_size or the number of samples"
            )
        return (
            ShuffledOnce(batches, variance)
            if self.name == "shuffled_once"
            else ReshuffledEvery(batches, self.every, variance)
        )


def order_file(label: str) -> str:
    """The label of an order of batches, as part of a file's name.

    Example:
        >>> order_file("reshuffled:every=3")
        'reshuffled_every_3'
    """
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in label)
