"""What simulations of perceptrons share: replicas with generators of their own, and what they will cost."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.ensemble import Progress, available_threads, run_in_chunks
from sim.perceptron_training import mean_batch, training_samples
from sim.random_streams import kernel_key
from theory.absorbing import whole_number
from theory.batch_selection import BatchSelection
from theory.mixture_model import MixturePerceptron

LARGEST_BYTES = 16e9
"""Memory beyond which a simulation is refused."""

PRODUCTS_PER_SECOND = 1e9
"""Of one ordinary core: inputs times weights, read once for field and force together."""

SECONDS_PER_STEP = 1e-4
"""What a step takes besides."""


@dataclass(frozen=True)
class SimulationCost:
    """What a simulation will take.

    Attributes:
        memory: the most that is held at a time [bytes].
        seconds: on so many ordinary cores as there are threads.
    """

    memory: float
    seconds: float

    def refuse_too_large(self, asked: str, remedy: str) -> None:
        """Refuse what no ordinary machine holds.

        Args:
            asked: what was asked for.
            remedy: what to take less of.

        Raises:
            ValueError: if it needs more than ``LARGEST_BYTES``.
        """
        if self.memory > LARGEST_BYTES:
            raise ValueError(
                f"{asked} need {self.memory / 1e9:.1f} GB, more than {LARGEST_BYTES / 1e9:g}: take fewer {remedy}"
            )


@dataclass(frozen=True)
class Sizes:
    """Numbers that decide what a simulation costs.

    Attributes:
        dimensions: N.
        samples: round(alpha N).
        replicas: of them.
        at_once: replicas that are simulated at a time.
    """

    dimensions: int
    samples: int
    replicas: int
    at_once: int

    @classmethod
    def of(
        cls,
        model: MixturePerceptron,
        selection: BatchSelection,
        *,
        dimensions: int,
        replicas: int,
        threads: int | None,
    ) -> "Sizes":
        """The sizes, checked.

        Args:
            model: the perceptron and its data.
            selection: how batches are made.
            dimensions: N >= 2.
            replicas: >= 2.
            threads: by default one for each processor.

        Returns:
            The sizes.

        Raises:
            ValueError: for arguments out of range, or batches that cannot be.
        """
        size, count = whole_number("dimensions", dimensions, 2), whole_number("replicas", replicas, 2)
        samples = training_samples(model, size)
        mean_batch(selection, samples)
        width = available_threads() if threads is None else whole_number("threads", threads, 1)
        return cls(size, samples, count, min(width, count))

    @property
    def pairs(self) -> float:
        """Inputs of all samples of a replica."""
        return float(self.samples) * self.dimensions


def run_replicas(
    run: Callable[[int, np.random.Generator, npt.NDArray[np.bool_]], None],
    replicas: int,
    rng: np.random.Generator,
    *,
    threads: int | None,
    progress: Progress | None,
) -> int:
    """Run replica after replica, each with a generator of its own, so that threads do not change it.

    Args:
        run: called with a replica's number, its generator, and an array whose only entry tells to stop.
        replicas: number of them.
        rng: source of randomness: two draws make the key of all replicas.
        threads: by default one for each processor.
        progress: told after each replica.

    Returns:
        How many are complete, the first ones.

    Raises:
        KeyboardInterrupt: if fewer than two were complete.
    """
    key, cancel = kernel_key(rng), np.zeros(1, np.bool_)

    def kernel(first: int, stop: int) -> None:
        for replica in range(first, stop):
            run(replica, np.random.default_rng([*key.tolist(), replica]), cancel)

    done = run_in_chunks(kernel, replicas, threads=threads, chunk=1, progress=progress, cancel=cancel)
    if done < 2:
        raise KeyboardInterrupt
    return done
