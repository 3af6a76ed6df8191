"""Every batch order of sim.batch_order as a batch sampler for anybody's ``DataLoader``, resumable in mid-epoch.

    order                 next epoch
    "with_replacement"    every sample of every batch drawn independently of all others
    "reshuffled"          a new order; with ``every=E`` only every E epochs
    "shuffled_once"       the first order again
    "persistent"          samples enter and leave the batch at random; its size fluctuates around S

An epoch is M = N // S full batches. The last N - M S samples of its order are dropped, as with torch's
``drop_last=True``: other ones each time, but for "shuffled_once", which never sees them. ``DataLoader(shuffle=True)``
by itself is "reshuffled", with a short batch at the end. What noise the orders make is in theory.gradient_noise.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from nnval.measure.batch_orders import Batches, BatchOrder
from sim.batch_order import Indices, batches_per_epoch, persistent_masks
from theory.absorbing import whole_number


class BatchOrderSampler(Sampler[list[int]]):
    """Batches of indices in one of the orders of sim.batch_order, epoch after epoch.

    ``DataLoader(dataset, batch_sampler=BatchOrderSampler("reshuffled", len(dataset), 50, rng=rng))``. Each ``iter`` is
    the next epoch, whole; one that was left in the middle is not gone on with. The batches are, number for number,
    those that the iterators of sim.batch_order give with a generator in the same state. Epochs follow one another by
    themselves, so that there is no ``set_epoch`` to call.

    With ``num_workers`` a DataLoader asks for batches ahead (``prefetch_factor`` for each worker), so that ``position``
    is ahead of the training: say ``state_dict(done)`` then, with the number of batches of this epoch that were trained
    on. Workers don't see the sampler, and the batches are the same for any number of them.

    Persistent batches have different sizes: divide the *sum* of their gradients by S (``batch_size``), not by the size.
    One may be empty (with a probability of about e^-S), which torch's default ``collate_fn`` refuses.

    Args:
        order: ``"with_replacement"``, ``"reshuffled"``, ``"shuffled_once"`` or ``"persistent"``.
        samples: N, the length of the data set.
        batch_size: S, samples in a batch.
        rng: where orders come from; the sampler's own from now on, since its state is part of ``state_dict``.
        every: E >= 1, epochs that share an order; of "reshuffled" only.
        entry_probability: p in (0, min(1, b / (1 - b))] with b = S / N, with which a sample that is outside enters the
            batch; of "persistent" only, which needs it.

    Attributes:
        epoch: epochs begun: 1 in the first.
        position: batches of it that were handed out.

    Raises:
        ValueError: for an unknown order, numbers out of range, or an option of another order.

    Example:
        >>> sampler = BatchOrderSampler("reshuffled", 7, 2, rng=np.random.default_rng(0))
        >>> len(sampler), len(set(sum(sampler, [])))  # three batches of two, all different
        (3, 6)
        >>> batches = iter(sampler)
        >>> _ = next(batches)
        >>> state = sampler.state_dict()
        >>> other = BatchOrderSampler("reshuffled", 7, 2, rng=np.random.default_rng(1))
        >>> other.load_state_dict(state)
        >>> list(other) == list(batches), list(other) == list(sampler)  # the rest of the epoch, and the next one
        (True, True)

    Reference: [mignacco2022] persistent batches
    """

    def __init__(
        self,
        order: str,
        samples: int,
        batch_size: int,
        *,
        rng: np.random.Generator,
        every: int = 1,
        entry_probability: float | None = None,
    ) -> None:
        self._order = BatchOrder(order, every, entry_probability)
        self._batches_per_epoch = batches_per_epoch(samples, batch_size)
        self._samples, self._batch_size = whole_number("samples", samples, 1), whole_number("batch_size", batch_size, 1)
        self._order.epochs(self._samples, self._batch_size, np.random.default_rng(0))  # refuses what is out of range
        self._rng = rng
        self.epoch = self.position = 0
        # What decides about the order of this epoch: the generator's state when it was drawn, how many epochs have
        # begun with it since, and the members of the batch before, if they matter.
        self._generator, self._repeated = _plain(rng.bit_generator.state), 0
        self._members: list[int] | None = None
        self._epochs: Batches | None = None
        self._batches: Indices | Sequence[Indices] = ()
        self._resumes = False
        self._turn = object()

    def __len__(self) -> int:
        """M, the batches in an epoch."""
        return self._batches_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the next epoch, or what is left of the one whose state was loaded.

        The epoch begins when the first batch is asked for: a DataLoader with workers calls ``iter`` twice.
        """
        if not self._resumes:
            self._begin_epoch()
        turn = self._turn = object()
        self._resumes, batches = False, self._batches
        for number in range(self.position, len(batches)):
            if turn is self._turn:  # an older iterator that is still in use tells nothing about this epoch
                self.position = number + 1
            yield batches[number].tolist()

    def _begin_epoch(self) -> None:
        period = math.inf if self._order.name == "shuffled_once" else self._order.every
        if self.epoch and self._repeated + 1 < period:
            self._repeated += 1
        else:
            self._generator, self._repeated = _plain(self._rng.bit_generator.state), 0
            if self.epoch and self._order.name == "persistent":
                self._members = self._batches[-1].tolist()
        if self._epochs is None:
            self._epochs = self._epochs_from_here()
        self._batches = next(self._epochs)
        self.epoch, self.position = self.epoch + 1, 0

    def _epochs_from_here(self) -> Batches:
        if self._members is None:
            return self._order.epochs(self._samples, self._batch_size, self._rng)
        assert self._order.entry_probability is not None
        rng = _Recalling(self._rng, np.bincount(self._members, minlength=self._samples) > 0)
        masks = persistent_masks(self._samples, self._batch_size, rng, entry_probability=self._order.entry_probability)
        next(masks)  # the members that it was given
        count = self._batches_per_epoch
        return ([np.flatnonzero(mask) for mask in itertools.islice(masks, count)] for _ in itertools.count())

    def _settings(self) -> dict[str, Any]:
        return {"order": self._order.label, "samples": self._samples, "batch_size": self._batch_size}

    def state_dict(self, done: int | None = None) -> dict[str, Any]:
        """All that is needed to go on in the middle of an epoch: numbers and text, for torch.save or JSON.

        Args:
            done: batches of this epoch that were trained on, counted from its beginning, at least one (an epoch that
                is just about to begin is the end of the one before); None: all that were handed out, which is right
                without workers that prefetch.

        Returns:
            The state.

        Raises:
            ValueError: unless 1 <= done <= ``position``.
        """
        position = self.position if done is None else whole_number("done", done, 1)
        if position > self.position:
            raise ValueError(
                f"done={done} must be at most {self.position}, the batches of this epoch handed out so far"
            )
        generator = self._generator if self.epoch else _plain(self._rng.bit_generator.state)
        return {
            **self._settings(),
            "epoch": self.epoch,
            "position": position,
            "repeated": self._repeated,
            "members": self._members,
            "generator": generator,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict``: the next ``iter`` is the rest of its epoch, or the next one if that was over.

        Args:
            state: of a sampler with the same order, samples and batch size, and a generator of the same kind.

        Raises:
            ValueError: if it is of another one; nothing is changed then.
        """
        for name, value in self._settings().items():
            if state[name] != value:
                raise ValueError(f"the state has {name}={state[name]!r}, this sampler {value!r}: make one like it")
        kind, found = self._rng.bit_generator.state["bit_generator"], state["generator"]["bit_generator"]
        if kind != found:
            raise ValueError(
                f"the state is of a generator {found}, this sampler has {kind}: pass rng of the other kind"
            )
        self._rng.bit_generator.state = state["generator"]
        self._generator, self._repeated, self._members = state["generator"], state["repeated"], state["members"]
        self.epoch, self.position, self._epochs, self._batches = state["epoch"], state["position"], None, ()
        if self.epoch:
            self._epochs = self._epochs_from_here()
            for _ in range(self._repeated + 1):
                self._batches = next(self._epochs)
        self._resumes, self._turn = self.position < len(self._batches), object()


class _Recalling(np.random.Generator):
    """Draws what another generator draws, but first what puts given samples, and no others, into a persistent batch."""

    def __init__(self, rng: np.random.Generator, members: npt.NDArray[np.bool_]) -> None:
        super().__init__(rng.bit_generator)
        self._members: npt.NDArray[np.bool_] | None = members

    def random(self, *arguments: Any, **options: Any) -> Any:
        """Uniform numbers; the first time 0 for members, which is below any fraction, and 1 for all others."""
        if self._members is None:
            return super().random(*arguments, **options)
        members, self._members = self._members, None
        return np.where(members, 0.0, 1.0)


def _plain(state: Any) -> Any:
    """A generator's state without arrays, which JSON and ``torch.load(weights_only=True)`` don't know."""
    if isinstance(state, np.ndarray):
        return state.tolist()
    return {name: _plain(value) for name, value in state.items()} if isinstance(state, dict) else state
