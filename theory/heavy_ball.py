"""SGD with momentum on a quadratic loss: each eigenvector of the Hessian is a linear filter of the gradient noise.

With gradient noise dg_k, learning rate eta, momentum beta and curvature lambda a mode obeys

    theta_k = (1 + beta - eta lambda) theta_{k-1} - beta theta_{k-2} - eta dg_k,    v_k = theta_k - theta_{k-1}.

Let g_j be its impulse response, kappa(h) = sum_j g_j g_{j+h}, and D the delay h -> h + 1 of kappa. D obeys the same
equation, D^2 = (1 + beta - eta lambda) D - beta, so that any sum over lags is a + b U with U = 1 - D. A flat mode has
kappa(h) = 1 / (eta lambda) minus a little, and sums over noise without a zero-frequency part are all in that little: in
terms of U flat modes lose no digits, and zero curvature is no special case. Near the stability bound, where kappa(h)
alternates, they lose digits for noise without a part at the frequency pi: about 1e-16 over the distance to the bound as
a fraction of it, if the noise has no other formula there. The two characteristic roots never appear, so neither is
critical damping. Sums over n lags take log2(n) doublings. Derived for jostle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.noise_arguments import checked_rate, finite_frequencies, number, real_numbers


@dataclass(frozen=True, eq=False)
class HeavyBall:
    """Modes of a quadratic loss under SGD with momentum.

    Attributes:
        learning_rate: eta, 1e-100 <= eta <= 1e100.
        curvature: lambda >= 0, eigenvalues of the Hessian of the mean loss, any shape; eta lambda < 2 (1 + beta).
        momentum: beta, 0 <= beta < 1.

    Example:
        >>> modes = HeavyBall(learning_rate=0.1, curvature=[1.0, 2.0], momentum=0.9)
        >>> [round(float(gain), 12) for gain in abs(modes.transfer_function(0.0))]
        [1.0, 0.5]
    """

    learning_rate: float
    curvature: npt.ArrayLike
    momentum: float = 0.0

    def __post_init__(self) -> None:
        rate, momentum = checked_rate("learning_rate", self.learning_rate), number("momentum", self.momentum)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={self.momentum} must satisfy 0 <= momentum < 1")
        curvature = real_numbers("curvature", self.curvature)
        bad = curvature[~(np.isfinite(curvature) & (curvature >= 0))]
        if bad.size:
            raise ValueError(f"curvature={bad[0]} must be finite and >= 0; there is no stationary state at a maximum")
        steepest, bound = rate * float(curvature.max(initial=0.0)), 2 * (1 + momentum)
        if steepest >= bound:
            raise ValueError(
                f"learning_rate * curvature = {steepest:g} must be < 2 (1 + momentum) = {bound:g}: beyond it SGD "
                "diverges; lower the learning rate"
            )
        curvature.flags.writeable = False
        for name, value in (("learning_rate", rate), ("curvature", curvature), ("momentum", momentum)):
            object.__setattr__(self, name, value)

    @cached_property
    def contraction(self) -> Floats:
        """Eta lambda, the share of a displacement that one gradient step takes back, in the curvature's shape."""
        return np.asarray(self.learning_rate * np.asarray(self.curvature))

    @cached_property
    def distance_to_bound(self) -> Floats:
        """2 (1 + beta) - eta lambda, with all its digits up to the stability bound."""
        return (2 - self.contraction) + 2 * self.momentum

    @cached_property
    def drop(self) -> Floats:
        """kappa(0) - kappa(1) = 1 / ((1 - beta) (2 (1 + beta) - eta lambda)), finite for flat modes."""
        return 1 / ((1 - self.momentum) * self.distance_to_bound)

    @property
    def scaled_level(self) -> Floats:
        """Eta lambda kappa(0), finite for flat modes."""
        return (1 + self.momentum) * self.drop

    @property
    def level(self) -> Floats:
        """kappa(0) = sum_j g_j^2, the variance under white noise for eta = 1; ``inf`` at zero curvature."""
        positive = self.contraction > 0
        with np.errstate(over="ignore"):
            return np.where(positive, self.scaled_level / np.where(positive, self.contraction, 1.0), np.inf)

    def transfer_function(self, frequency: npt.ArrayLike) -> npt.NDArray[np.complex128]:
        """G(omega) = -eta / (1 - (1 + beta - eta lambda) e^{-i omega} + beta e^{-2 i omega}), weight over gradient.

        Args:
            frequency: omega [radians per update]; broadcast against the curvature. Not 0 where the curvature is.

        Returns:
            G; |G|^2 times the noise's spectrum is the spectrum of the weight.

        Raises:
            ValueError: for frequencies that are not finite numbers, and at omega = 0 for a mode of zero curvature,
                whose response is infinite.
        """
        omega = finite_frequencies(frequency)
        delay = np.exp(-1j * omega)
        # (1 - x)(1 - beta x) + eta lambda x for the delay x, with 1 - x written without cancellation.
        step = 2j * np.sin(omega / 2) * np.exp(-0.5j * omega)
        denominator = step * (1 - self.momentum * delay) + self.contraction * delay
        if (denominator == 0).any():
            raise ValueError("frequency=0 with curvature=0: the response is infinite; take a frequency > 0")
        return -self.learning_rate / denominator

    def power_gain(self, frequency: npt.ArrayLike) -> Floats:
        """|G(omega)|^2 / eta^2, with all its digits up to the stability bound.

        That is 1 / ((eta lambda - 2 (1 + beta) sin^2(omega / 2))^2 + ((1 - beta) sin(omega))^2).

        Args:
            frequency: omega [radians per update]; broadcast against the curvature. Not 0 where the curvature is.

        Returns:
            The gain, at most 1e300.

        Raises:
            ValueError: for frequencies that are not finite numbers, and at omega = 0 for a mode of zero curvature,
                whose response is infinite.
        """
        omega, scale = finite_frequencies(frequency), 2 * (1 + self.momentum)
        detuning = np.where(
            self.contraction < 1 + self.momentum,
            self.contraction - scale * np.sin(omega / 2) ** 2,
            scale * np.cos(omega / 2) ** 2 - self.distance_to_bound,
        )
        size = np.hypot(detuning, (1 - self.momentum) * np.sin(omega))
        if (size == 0).any():
            raise ValueError("frequency=0 with curvature=0: the response is infinite; take a frequency > 0")
        return np.maximum(size, 1e-150) ** -2.0

    # ---- The algebra of lags -----------------------------------------------------------------------------------------

    @property
    def one(self) -> "LagPolynomial":
        """The polynomial 1."""
        return LagPolynomial(self, np.ones_like(self.contraction), np.zeros_like(self.contraction))

    @property
    def difference(self) -> "LagPolynomial":
        """The polynomial U = 1 - D."""
        return LagPolynomial(self, np.zeros_like(self.contraction), np.ones_like(self.contraction))

    def first_difference(self, polynomial: "LagPolynomial") -> Floats:
        """sum_h p_h [kappa(h) - kappa(h + 1)] for the polynomial p = sum_h p_h D^h."""
        skew = self.contraction - 2 * self.momentum
        return self.drop * (polynomial.constant + skew * polynomial.slope)

    def second_difference(self, polynomial: "LagPolynomial") -> Floats:
        """sum_h p_h [kappa(h) - 2 kappa(h + 1) + kappa(h + 2)] for the polynomial p = sum_h p_h D^h."""
        beta, contraction = self.momentum, self.contraction
        third = contraction * (contraction - 3 * beta) - 2 * beta * (1 - beta)
        return self.drop * ((contraction - 2 * beta) * polynomial.constant + third * polynomial.slope)


class LagPolynomial:
    """A polynomial (or power series) in the delay D of some modes, reduced to a + b U with U = 1 - D.

    Args:
        modes: the modes.
        constant: a, in the shape of their curvature.
        slope: b, likewise.

    Example:
        >>> modes = HeavyBall(1.0, 0.5, 0.5)
        >>> delay = modes.one - modes.difference
        >>> square = delay * delay  # = d1 D - beta with d1 = 1 and beta = 0.5
        >>> float(square.constant), float(square.slope)
        (0.5, -1.0)
    """

    __slots__ = ("constant", "modes", "slope")

    def __init__(self, modes: HeavyBall, constant: Floats, slope: Floats) -> None:
        self.modes, self.constant, self.slope = modes, constant, slope

    def __add__(self, other: "LagPolynomial") -> "LagPolynomial":
        return LagPolynomial(self.modes, self.constant + other.constant, self.slope + other.slope)

    def __sub__(self, other: "LagPolynomial") -> "LagPolynomial":
        return LagPolynomial(self.modes, self.constant - other.constant, self.slope - other.slope)

    def __mul__(self, factor: "LagPolynomial | float") -> "LagPolynomial":
        if not isinstance(factor, LagPolynomial):
            return LagPolynomial(self.modes, self.constant * factor, self.slope * factor)
        # U^2 = (1 - beta + eta lambda) U - eta lambda.
        product = self.slope * factor.slope
        return LagPolynomial(
            self.modes,
            self.constant * factor.constant - self.modes.contraction * product,
            self.constant * factor.slope + self.slope * factor.constant + self._trace * product,
        )

    __rmul__ = __mul__

    @property
    def _trace(self) -> Floats:
        return self.modes.contraction + (1 - self.modes.momentum)

    def differenced(self) -> "LagPolynomial":
        """U times this."""
        return LagPolynomial(self.modes, -self.modes.contraction * self.slope, self.constant + self._trace * self.slope)

    def delayed(self) -> "LagPolynomial":
        """D times this."""
        return self - self.differenced()

    def inverse(self) -> "LagPolynomial":
        """One over this: (a + b tr U - b U) / norm, the norm being the product of both roots' values."""
        conjugate = self.constant + self._trace * self.slope
        norm = self.constant * conjugate + self.modes.contraction * self.slope**2
        return LagPolynomial(self.modes, conjugate / norm, -self.slope / norm)


@dataclass(frozen=True, eq=False)
class PowerSums:
    """Sums over the powers 0 .. n - 1 of a polynomial A, with positive weights only.

    Attributes:
        first: sum_j A^j = (1 - A^n) / (1 - A).
        second: sum_j (n - 1 - j) A^j, the sum of ``first`` over 0 .. n - 1.
        third: sum_j C(n - 1 - j, 2) A^j, the sum of ``second`` over 0 .. n - 1.
        rising: sum_j (j + 1) A^j.
        humped: sum_j (j + 1) (n - 1 - j) A^j.
    """

    first: LagPolynomial
    second: LagPolynomial
    third: LagPolynomial
    rising: LagPolynomial
    humped: LagPolynomial


def power_sums(complement: LagPolynomial, count: int) -> PowerSums:
    """Sums over the powers of A = 1 - complement, by doubling their number log2(count) times.

    Args:
        complement: 1 - A, such as ``modes.difference`` for A = D.
        count: n >= 1.

    Returns:
        The sums.

    Example:
        >>> modes = HeavyBall(1.0, 0.5)  # without momentum D is the number 0.5
        >>> sums = power_sums(modes.difference, 3)
        >>> [float(s.constant + 0.5 * s.slope) for s in (sums.first, sums.second, sums.third, sums.rising, sums.humped)]
        [1.75, 2.5, 1.0, 2.75, 3.0]
    """
    one = complement.modes.one
    zero = one * 0.0
    first, second, third, rising, humped = one, zero, zero, one, zero
    n = 1
    for bit in bin(count)[3:]:
        power = one - complement * first
        half_first = first
        first = first + power * first
        third = third + second * float(n) + half_first * (n * (n - 1) / 2) + power * third
        humped = humped + rising * float(n) + power * (humped + second * float(n))
        rising = rising + power * (rising + half_first * float(n))
        second = second + half_first * float(n) + power * second
        n *= 2
        if bit == "1":
            power = one - complement * first
            third, humped = third + second, humped + rising
            second, rising = second + first, rising + power * float(n + 1)
            first = first + power
            n += 1
    return PowerSums(first, second, third, rising, humped)


def triangular_sums(complement: LagPolynomial, least: int, count: int) -> Iterator[LagPolynomial]:
    """sum_{j<n} (n - j) A^j for n = least, least + 1, ..., from log2(least) doublings on one by one.

    Args:
        complement: 1 - A, such as ``modes.difference`` for A = D.
        least: >= 0.
        count: how many sums.

    Yields:
        The sums.
    """
    sums = power_sums(complement, least + 1)
    triangle, added = sums.second, sums.first
    power = complement.modes.one - complement * added
    for _ in range(count):
        yield triangle
        triangle, added, power = triangle + added, added + power, power - complement * power


def responses(modes: HeavyBall, polynomial: LagPolynomial, first: int, last: int) -> Floats:
    """sum_i p_i g_{n+i} for n = first .. last, with the impulse response g_j and the polynomial p = sum_i p_i D^i.

    Args:
        modes: the modes.
        polynomial: of the same modes.
        first: >= 0.
        last: >= first.

    Returns:
        Shape (last - first + 1, ...) with the shape of the curvature at the end.

    Example:
        >>> modes = HeavyBall(1.0, 0.5, 0.5)  # g_j = 1, 1, 0.5, 0
        >>> responses(modes, modes.one - modes.difference, 0, 2).tolist()
        [1.0, 0.5, 0.0]
    """
    # The slope of D^{j+1} is -g_j.
    current = polynomial.delayed()
    if first:
        current = current - current * power_sums(modes.difference, first).first.differenced()
    values = np.empty((last - first + 1, *modes.contraction.shape))
    for position in range(len(values)):
        values[position] = -current.slope
        current = current.delayed()
    return values
