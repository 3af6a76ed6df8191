"""What an activation pattern is, and counts of how many changed.

Reference: [actcoolr2021] section 3; counting half a pattern at both ends is jostle's own
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from theory.absorbing import Floats
from theory.activation_temperature import LinkFit, fit_link_to_shares, share_of, temperature_of, temperature_of_counts

PATTERNS = ("position", "sample", "bit")
REDUCTIONS = ("temperature", "probability")


@dataclass(frozen=True)
class PatternRule:
    """What a pattern is, and how layers make a network.

    Attributes:
        pattern: of ``PATTERNS``.
        reduce: ``"temperature"``, the mean of T over layers, or ``"probability"``, T of the mean share.
        channel_dim: the dimension of channels where there are more than two; -1 for (batch, time, channels).
        smooth: count the signs of the inputs of SiLU, GELU and their like as well.

    Raises:
        ValueError: for one out of range.

    Example:
        >>> PatternRule("sample", reduce="probability")
        PatternRule(pattern='sample', reduce='probability', channel_dim=1, smooth=False)
    """

    pattern: str = "position"
    reduce: str = "temperature"
    channel_dim: int = 1
    smooth: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("pattern", PATTERNS), ("reduce", REDUCTIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}")
        if self.channel_dim == 0:
            raise ValueError("channel_dim=0 must not be the first dimension, which is that of the samples")

    def channels_of(self, shape: Sequence[int]) -> int:
        """The dimension of channels in inputs of a shape, (B, C, ...) or with the channels elsewhere.

        Raises:
            ValueError: if there is no such dimension.
        """
        if len(shape) == 2:
            return 1
        if not -len(shape) < self.channel_dim < len(shape):
            raise ValueError(
                f"channel_dim={self.channel_dim} must be a dimension after the first, that of the samples, of every "
                f"input of a ReLU; one has the shape {tuple(shape)}"
            )
        return self.channel_dim


@dataclass(frozen=True, eq=False)
class PatternChanges:
    """How many patterns changed between two sets of weights; or, with R rows, between one set and R others.

    Attributes:
        changed: shape (L,) or (R, L), for L layers in the order in which they are called.
        patterns: compared in each layer, shape (L,).
        finite: whether all inputs of ReLUs were finite numbers, shape () or (R,). Where not, the counts mean nothing.
        reduce: see ``PatternRule``.

    Example:
        >>> changes = PatternChanges(np.array([64, 0]), np.array([128, 128]), np.array(True))
        >>> changes.layers.round(4).tolist(), round(float(changes.temperature), 4)
        ([1.0, 0.0056], 0.5028)
    """

    changed: np.ndarray[Any, np.dtype[np.int64]]
    patterns: np.ndarray[Any, np.dtype[np.int64]]
    finite: np.ndarray[Any, np.dtype[np.bool_]]
    reduce: str = "temperature"

    @property
    def layers(self) -> Floats:
        """T of each layer, in the shape of ``changed`` [bits]."""
        return temperature_of_counts(self.changed, self.patterns)

    @property
    def temperature(self) -> Floats:
        """T of the network, shape () or (R,) [bits]."""
        return self._reduced(self.changed)

    @property
    def share(self) -> Floats:
        """P of the network, 1 - 2^-T, in the shape of ``temperature``."""
        return share_of(self.temperature)

    @property
    def coldest(self) -> float:
        """T of the network if no pattern changes, the lowest that can be seen [bits]."""
        return float(self._reduced(np.zeros_like(self.patterns)))

    def row(self, number: int) -> "PatternChanges":
        """That of one of the R others alone, without its dimension."""
        return PatternChanges(self.changed[number], self.patterns, self.finite[number], self.reduce)

    def _reduced(self, changed: np.ndarray[Any, Any]) -> Floats:
        if self.reduce == "temperature":
            return temperature_of_counts(changed, self.patterns).mean(-1)
        return temperature_of(np.clip(changed / self.patterns, 0.5 / self.patterns, 1 - 0.5 / self.patterns).mean(-1))


@dataclass(frozen=True, eq=False)
class RateSweep(PatternChanges):
    """Changes of patterns by one step, had it been made at R other learning rates.

    Attributes:
        rates: shape (R,).

    Example:
        >>> changed, patterns = np.array([[8], [64]]), np.array([128])
        >>> sweep = RateSweep(changed, patterns, np.array([True, True]), rates=np.array([0.01, 0.1]))
        >>> sweep.temperature.round(3).tolist()
        [0.093, 1.0]
    """

    rates: Floats = field(kw_only=True)

    def fit(self, link: str = "erf", layer: int | None = None) -> LinkFit:
        """A link fitted to the shares at all rates at which everything was finite, by least squares.

        Args:
            link: of `theory.activation_temperature.LINKS`.
            layer: 0-based, or None for the network.

        Raises:
            ValueError: if there is no best fit: sweep a wider range.
        """
        shares = self.share if layer is None else share_of(self.layers[:, layer])
        return fit_link_to_shares(np.log(self.rates[self.finite]), shares[self.finite], link)
