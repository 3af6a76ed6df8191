"""A polynomial of a symmetric operator that is largest at a chosen number: interior eigenvalues become extreme ones.

p(x) = sum_j a_j T_j(x) with the Chebyshev polynomials T_j on the spectrum scaled to [-1, 1], and the coefficients of a
delta function at x_0 damped by Jackson's kernel, normalised to p(x_0) = 1: nearly a Gaussian of standard deviation
pi sqrt(1 - x_0^2) / n for degree n. Each application takes n of the operator.

Reference: [weisse2006] Jackson kernel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from theory.absorbing import Floats

HIGHEST_DEGREE = 2000


@dataclass(frozen=True, eq=False)
class SpectrumFilter:
    """p of an operator.

    Attributes:
        apply: the operator, vectors (n, d) to vectors (n, d).
        lower, upper: bounds of its spectrum.
        coefficients: a_0 .. a_n.
    """

    apply: Callable[[torch.Tensor], torch.Tensor]
    lower: float
    upper: float
    coefficients: Floats

    @classmethod
    def around(
        cls,
        near: float,
        apply: Callable[[torch.Tensor], torch.Tensor],
        ritz_values: Floats,
        weights: Floats,
        wanted: float,
        degree: int | None = None,
    ) -> "SpectrumFilter":
        """A filter about as wide as the wanted number of eigenvalues lie apart.

        Args:
            near: where p is largest.
            apply: the operator.
            ritz_values: from a few Lanczos steps; the outermost ones bound the spectrum.
            weights: the share of eigenvalues around each of them.
            wanted: the share of eigenvalues to let through.
            degree: of p; by default from the above.

        Returns:
            The filter.

        Raises:
            ValueError: if ``near`` is not inside the spectrum, or the degree is out of range.
        """
        spread = ritz_values.max() - ritz_values.min()
        lower, upper = ritz_values.min() - 0.01 * spread, ritz_values.max() + 0.01 * spread
        if not lower < near < upper:
            raise ValueError(
                f"near={near} lies outside of the spectrum, which reaches from {ritz_values.min():.4g} to "
                f"{ritz_values.max():.4g}; leave it out for the largest eigenvalues, or take smallest=True"
            )
        half = (upper - lower) / 2
        place = (near - (lower + upper) / 2) / half
        if degree is None:
            order = np.argsort(np.abs(ritz_values - near))
            enough = int(np.searchsorted(np.cumsum(weights[order]), wanted))
            width = abs(ritz_values[order[min(enough, len(order) - 1)]] - near) / half
            degree = math.ceil(min(math.pi * math.sqrt(1 - place**2) / max(width, 1e-12), HIGHEST_DEGREE))
            degree = max(degree, 8)
        if not 2 <= degree <= HIGHEST_DEGREE:
            raise ValueError(f"filter_degree={degree} must lie between 2 and {HIGHEST_DEGREE}")
        j = np.arange(degree + 1)
        angle = math.pi / (degree + 2)
        jackson = ((degree + 2 - j) * np.sin(angle) * np.cos(j * angle) + np.cos(angle) * np.sin(j * angle)) / (
            (degree + 2) * np.sin(angle)
        )
        chebyshev = np.cos(j * math.acos(place))
        coefficients = np.where(j == 0, 1.0, 2.0) * jackson * chebyshev
        return cls(apply, float(lower), float(upper), coefficients / (coefficients @ chebyshev))

    @property
    def degree(self) -> int:
        """n, applications of the operator for one of the filter."""
        return len(self.coefficients) - 1

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """The polynomial times vectors, by the recurrence T_{j+1} = 2 x T_j - T_{j-1}."""
        middle, half = (self.lower + self.upper) / 2, (self.upper - self.lower) / 2

        def scaled(block: torch.Tensor) -> torch.Tensor:
            return (self.apply(block) - middle * block) / half

        before, now = vectors, scaled(vectors)
        result = float(self.coefficients[0]) * before + float(self.coefficients[1]) * now
        for coefficient in self.coefficients[2:].tolist():
            before, now = now, 2 * scaled(now) - before
            result = result + coefficient * now
        return result
