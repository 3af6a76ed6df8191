"""Named random streams: every consumer of randomness has its own, addressed by name and index.

A stream depends on (seed, name, index) alone, so a new consumer does not shift the old ones and the answer does not
depend on how the work is spread over threads, processes or stacks of networks.
"""

import zlib

import numpy as np
import numpy.typing as npt


def _seed_sequence(seed: int, name: str, index: tuple[int, ...]) -> np.random.SeedSequence:
    if seed < 0:
        raise ValueError(f"seed={seed} must be >= 0")
    # CRC-32 is stable across Python versions and processes, which hash() is not.
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()), *index))


def stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """The generator of the stream (seed, name, index).

    Args:
        seed: the run's seed, >= 0.
        name: what the stream is for, such as ``"bootstrap"``.
        index: which of many streams of that name, such as a chunk or a member.

    Returns:
        A fresh PCG64 generator at the beginning of its stream.

    Raises:
        ValueError: if the seed is negative.

    Example:
        >>> bool(stream(0, "bootstrap", 3).random() == stream(0, "bootstrap", 3).random())
        True
        >>> bool(stream(0, "bootstrap", 3).random() == stream(0, "bootstrap", 4).random())
        False
    """
    return np.random.default_rng(_seed_sequence(seed, name, index))


def kernel_key(rng: np.random.Generator) -> npt.NDArray[np.uint64]:
    """A key for the kernels of ``sim``, whose trajectories have streams of their own: (key, number of the trajectory).

    Args:
        rng: source of randomness; two draws are taken.

    Returns:
        uint64, shape (2,).
    """
    return rng.integers(2**64, size=2, dtype=np.uint64)


class CountedStream:
    """A stream in blocks that can be visited in any order: ``at(k)`` is block k, whatever was drawn before.

    A training member takes its shuffle of epoch k from ``at(k)``. There is no generator state to checkpoint: a resumed,
    a branched and an uninterrupted member see the same numbers. Philox is used because its position is a counter;
    setting it costs a third of seeding a new generator.

    Args:
        seed: the run's seed, >= 0.
        name: what the stream is for.
        index: which of many streams of that name.

    Raises:
        ValueError: if the seed is negative.

    Example:
        >>> order = CountedStream(0, "batch_order", 7)
        >>> third = order.at(3).permutation(5)
        >>> _ = order.at(1).random(100)
        >>> bool((order.at(3).permutation(5) == third).all())
        True
    """

    def __init__(self, seed: int, name: str, *index: int) -> None:
        key = _seed_sequence(seed, name, index).generate_state(2, np.uint64)
        self._bit_generator = np.random.Philox(key=key)
        self._generator = np.random.Generator(self._bit_generator)
        self._origin = self._bit_generator.state

    def at(self, block: int) -> np.random.Generator:
        """The generator at the beginning of a block; it is shared, so draw before asking for another block.

        Args:
            block: number of the block, 0 <= block < 2**64; each holds 2**194 numbers.

        Returns:
            The generator, positioned at the block's beginning.
        """
        self._origin["state"]["counter"][3] = block
        self._bit_generator.state = self._origin
        return self._generator

    def seed_at(self, block: int) -> int:
        """A 63-bit seed drawn from a block, for generators of other libraries.

        Args:
            block: number of the block.

        Returns:
            An integer in [0, 2**63).
        """
        return int(self.at(block).integers(2**63))
