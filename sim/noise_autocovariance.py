"""Noise that real batches of indices make at fixed weights, measured: the counterpart of theory.gradient_noise.

Every sample has a gradient of its own, drawn once from a skewed law, as real ones are; batches are those of
sim.batch_order. Their autocovariance depends on the law by its variance only.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from sim import batch_order
from theory.absorbing import Floats, whole_number
from theory.estimate import Estimate
from theory.gradient_noise import GradientNoise, Persistent, Reshuffled, ReshuffledEvery, ShuffledOnce, WhiteNoise

Order = Callable[[int, int, np.random.Generator], Iterator[Sequence[batch_order.Indices] | batch_order.Indices]]


def measured_autocovariance(
    noise: GradientNoise,
    rng: np.random.Generator,
    *,
    batches_per_epoch: int,
    batch_size: int,
    lags: Sequence[int],
    epochs: int,
    replicas: int = 200,
) -> tuple[Estimate, ...]:
    """Autocovariance c_h of the gradients of real batches along one direction, in units of c_0 as theory has it.

    Averaged over the updates k of whole epochs, dg_k dg_{k+h}; every replica has its own batches, of the same samples.

    Args:
        noise: names the order of the batches: WhiteNoise, Reshuffled, ReshuffledEvery, ShuffledOnce or Persistent; its
            variance is ignored.
        rng: source of randomness.
        batches_per_epoch: M; there are N = M S samples.
        batch_size: S.
        lags: h >= 0.
        epochs: to average over, in each replica; rounded up to whole periods of ReshuffledEvery.
        replicas: >= 2.

    Returns:
        c_h / c_0 for each lag, to be held against ``noise.normalised().autocovariance(lags)``.

    Raises:
        ValueError: for numbers out of range, or a noise that no batches make.

    Example:
        >>> at_0, at_1 = measured_autocovariance(
        ...     Reshuffled(2), np.random.default_rng(0), batches_per_epoch=2, batch_size=3, lags=[0, 1], epochs=20
        ... )
        >>> abs(at_0.value - 1) < 0.2, abs(at_1.value + 0.5) < 0.2
        (True, True)
    """
    batches = whole_number("batches_per_epoch", batches_per_epoch, 2)
    size, epochs = whole_number("batch_size", batch_size, 1), whole_number("epochs", epochs, 1)
    replicas, chosen = whole_number("replicas", replicas, 2), [whole_number("lags", lag, 0) for lag in lags]
    order, variance = _order_of(noise, batches, size)
    period = noise.epochs if isinstance(noise, ReshuffledEvery) else 1
    span = batches * period * -(-epochs // period)
    following = -(-max(chosen, default=0) // batches)
    gradients = rng.standard_exponential(batches * size)
    gradients = (gradients - gradients.mean()) / gradients.std()
    products = np.empty((replicas, len(chosen)))
    for row in products:
        dg = _batch_gradients(order, gradients, size, span // batches + following, rng)
        row[:] = [dg[:span] @ dg[lag : lag + span] / span for lag in chosen]
    return Estimate.from_columns(products / variance)


def _order_of(noise: GradientNoise, batches: int, size: int) -> tuple[Order, float]:
    """The batches that make a noise, and its variance if the gradients of the samples have variance 1."""
    samples = batches * size
    if isinstance(noise, WhiteNoise):
        return batch_order.with_replacement_epochs, WhiteNoise.with_replacement(1.0, samples, size).variance
    if isinstance(noise, Persistent):
        # One in M samples is in a batch; r = 1 - entry probability / b.
        entry = (1 - noise.correlation) / batches
        order = partial(batch_order.persistent_epochs, entry_probability=entry)
        return order, Persistent.two_state(1.0, samples, size, entry).variance
    if getattr(noise, "batches_per_epoch", batches) != batches:
        raise ValueError(f"batches_per_epoch={batches} must be that of noise={noise}")
    variance = Reshuffled.of_examples(1.0, samples, size).variance
    if isinstance(noise, Reshuffled):
        return batch_order.reshuffled_epochs, variance
    if isinstance(noise, ReshuffledEvery):
        return partial(batch_order.reshuffled_epochs, every=noise.epochs), variance
    if isinstance(noise, ShuffledOnce):
        return batch_order.shuffled_once_epochs, variance
    raise ValueError(f"noise={noise} is made by no order of batches; leave it out")


def _batch_gradients(order: Order, gradients: Floats, size: int, epochs: int, rng: np.random.Generator) -> Floats:
    """Update by update; sums over a batch divided by its mean size, which matters where sizes vary."""
    drawn = itertools.islice(order(len(gradients), size, rng), epochs)
    return np.concatenate(
        [
            gradients[epoch].sum(axis=1) if isinstance(epoch, np.ndarray) else [gradients[some].sum() for some in epoch]
            for epoch in drawn
        ]
    ) / np.float64(size)
