"""How the mean first-passage time answers to rare perturbations, of any strength: the universal linear response.

A run is followed to its end at T, undisturbed. Now a perturbation is activated at the random time R, if T > R, and
from then on the rest takes tau_R on average. For any law of R that is independent of the process,

    E[T_R] - E[T] = E[ Psi(R) (tau_R - MRL(R)) ],        MRL(t) = E[T - t | T > t],

and perturbations that come as a Poisson process of a small rate r give

    dE[T_r] / dr = E[T] taubar - E[T^2] / 2    at r = 0,

with taubar the average of the mean rest after a perturbation, over the states where undisturbed runs spend their time.
Rare perturbations help if taubar is below E[T^2] / (2 E[T]), which exceeds E[T] / 2: longer runs offer more time to be
perturbed in. For restarts taubar = E[T], and they help if CV > 1. Read backwards, a measured slope tells E[T^2].

``perturbed_mean`` is taubar throughout. The functions ``chain_...`` take it from a chain and are exact.

Reference: [keidar2024] abstract: the statement; the formulas here were derived for jostle and checked on chains.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory import continuous_chain
from theory.absorbing import Absorption, Floats, average, whole_number
from theory.continuous_chain import ContinuousChain
from theory.markov_chain import Chain

# ---- From moments ----------------------------------------------------------------------------------------------------


def poisson_slope(mean: float, second_moment: float, perturbed_mean: float) -> float:
    """dE[T_r] / dr at r = 0: E[T] taubar - E[T^2] / 2, for a Poisson process of perturbations.

    Args:
        mean: E[T] > 0, finite [time].
        second_moment: E[T^2] >= E[T]^2, possibly ``inf`` [time^2].
        perturbed_mean: taubar >= 0, possibly ``inf`` [time]; E[T] for restarts.

    Returns:
        [time^2]; ``-inf`` for an infinite second moment, ``inf`` for an infinite perturbed mean.

    Raises:
        ValueError: for moments that no law has, or if both of the last two are infinite.

    Example:
        >>> poisson_slope(2.0, 8.0, 2.0)  # restarts of an exponential law
        0.0
    """
    _check_moments(mean, second_moment)
    if not perturbed_mean >= 0:
        raise ValueError(f"perturbed_mean={perturbed_mean} must be >= 0")
    if math.isinf(second_moment) and math.isinf(perturbed_mean):
        raise ValueError(f"second_moment={second_moment} and perturbed_mean={perturbed_mean}: one must be finite")
    return mean * perturbed_mean - second_moment / 2


def timer_slope(density_at_zero: float, mean: float, second_moment: float, perturbed_mean: float) -> float:
    """dE[T_R] / dr at r = 0 for independent intervals R with the density r g(r t): g(0) times the Poisson slope.

    A timer that is never early, g(0) = 0, has no linear response: see ``erlang_coefficient``.

    Args:
        density_at_zero: g(0) >= 0, of the interval in units of 1 / r; 1 for a Poisson process.
        mean: E[T] > 0, finite [time].
        second_moment: E[T^2], finite [time^2].
        perturbed_mean: taubar >= 0, finite [time].

    Returns:
        [time^2].

    Raises:
        ValueError: for a negative density, infinite moments or those that no law has.
    """
    if not (density_at_zero >= 0 and math.isfinite(density_at_zero)):
        raise ValueError(f"density_at_zero={density_at_zero} must be finite and >= 0")
    _check_finite(second_moment=second_moment, perturbed_mean=perturbed_mean)
    return density_at_zero * poisson_slope(mean, second_moment, perturbed_mean)


def erlang_coefficient(stages: int, weighted_residual: float, moment: float) -> float:
    """The factor of r^k in E[T_R] - E[T] for Erlang intervals of k stages and mean 1 / r: their first response.

    k^k / (k - 1)! [ int t^(k-1) Psi(t) tau(t) dt - E[T^(k+1)] / (k (k + 1)) ], so that the order of a timer selects
    the moment that it measures. For restarts the integral is E[T] E[T^k] / k. One stage is the Poisson process.

    Args:
        stages: k >= 1.
        weighted_residual: the integral, >= 0, finite [time^(k+1)].
        moment: E[T^(k+1)] >= 0, finite [time^(k+1)].

    Returns:
        [time^(k+1)].

    Raises:
        ValueError: if the stages are not a whole number >= 1, or for numbers that are negative or infinite.

    Example:
        >>> erlang_coefficient(2, 2.0, 6.0)  # restarts of the exponential law of mean 1: E[T] E[T^2] / 2 = 1, not 2
        4.0
    """
    k = whole_number("stages", stages, 1)
    _check_finite(weighted_residual=weighted_residual, moment=moment)
    return k**k / math.factorial(k - 1) * (weighted_residual - moment / (k * (k + 1)))


def moment_slope(moment: float, perturbed_total: float) -> float:
    """dE[T_r^n] / dr at r = 0: int Psi(t) E[(t + tau_t)^n] dt - E[T^(n+1)].

    Args:
        moment: E[T^(n+1)] >= 0, finite [time^(n+1)].
        perturbed_total: the integral, >= 0, finite [time^(n+1)]; tau_t is the rest after a perturbation at t.

    Returns:
        [time^(n+1)].

    Raises:
        ValueError: for numbers that are negative or infinite.
    """
    _check_finite(moment=moment, perturbed_total=perturbed_total)
    return perturbed_total - moment


def second_moment_from_slope(mean: float, perturbed_mean: float, slope: float) -> float:
    """E[T^2] = 2 (E[T] taubar - slope): fluctuations without perturbation, from the mean response to rare ones.

    Args:
        mean: E[T] > 0, finite [time].
        perturbed_mean: taubar >= 0, finite [time].
        slope: dE[T_r] / dr at r = 0, finite [time^2].

    Returns:
        [time^2].

    Raises:
        ValueError: for a mean that is not > 0, infinite numbers, or if they imply a negative variance.

    Example:
        >>> second_moment_from_slope(2.0, 2.0, 0.0)
        8.0
    """
    _check_finite(mean=mean, perturbed_mean=perturbed_mean)
    mean, square = float(mean), float(mean) * float(mean)
    second_moment = 2 * (mean * float(perturbed_mean) - float(slope))
    if not 0 < square <= second_moment < math.inf:
        raise ValueError(
            f"slope={slope} implies E[T^2]={second_moment}, which must be finite and >= E[T]^2={square}: "
            "a slope this large is an error of measurement, or taubar is one of other perturbations"
        )
    return second_moment


def cv_squared_from_slope(mean: float, perturbed_mean: float, slope: float) -> float:
    """CV^2 = 2 taubar / E[T] - 1 - 2 slope / E[T]^2 of the unperturbed law.

    Args:
        mean: E[T] > 0, finite [time].
        perturbed_mean: taubar >= 0, finite [time]; E[T] for restarts.
        slope: dE[T_r] / dr at r = 0, finite [time^2].

    Returns:
        Variance / mean^2.

    Raises:
        ValueError: for a mean that is not > 0, infinite numbers, or if they imply a negative variance.

    Example:
        >>> cv_squared_from_slope(2.0, 2.0, 0.0)
        1.0
    """
    return second_moment_from_slope(mean, perturbed_mean, slope) / float(mean) / float(mean) - 1


def _check_moments(mean: float, second_moment: float) -> None:
    if not (mean > 0 and math.isfinite(mean)):
        raise ValueError(f"mean={mean} must be finite and > 0: an infinite mean has no linear response")
    square = float(mean) * float(mean)
    if not second_moment >= square * (1 - 1e-12):
        raise ValueError(f"second_moment={second_moment} must be >= mean^2={square}")


def _check_finite(**values: float) -> None:
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}={value} must be finite and >= 0")


# ---- Exactly, on a chain in continuous time --------------------------------------------------------------------------


class _Response:
    """Products such as mu N K N 1 of a chain whose mean first-passage time is finite."""

    def __init__(self, absorption: Absorption, initial: Floats, factors: dict[str, Floats]) -> None:
        self._absorption, self._initial, self._factors = absorption, initial, factors
        if not math.isfinite(self.value("N")):
            raise ValueError("chain has an infinite mean first-passage time, and so no linear response")

    def value(self, product: str) -> float:
        """Mu (product) 1; infinite entries count only where their weight is not zero."""
        total = np.ones(len(self._initial))
        for factor in reversed(product):
            if factor == "N":
                total = self._absorption.expected_total(total)
            else:
                total = np.asarray(average(self._factors[factor], total))
        return float(average(self._initial, total))


def _response(chain: ContinuousChain, perturbation: npt.ArrayLike) -> _Response:
    return _Response(Absorption(chain.rates, chain.exits), chain.initial, {"K": chain.checked(perturbation)})


def chain_perturbed_mean(chain: ContinuousChain, perturbation: npt.ArrayLike) -> float:
    """Taubar = mu N K N 1 / E[T], the mean rest after a perturbation at a random moment of a random run.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).

    Returns:
        [time]; ``inf`` if the perturbation may lead where the target is never met.

    Raises:
        ValueError: for an invalid perturbation, or an infinite mean first-passage time.

    Example:
        >>> decay = ContinuousChain(np.array([[-2.0]]), np.array([1.0]))
        >>> chain_perturbed_mean(decay, np.array([[1.0]]))
        0.5
    """
    response = _response(chain, perturbation)
    return response.value("NKN") / response.value("N")


def chain_poisson_slope(chain: ContinuousChain, perturbation: npt.ArrayLike) -> float:
    """dE[T_r] / dr at r = 0: mu N K N 1 - mu N N 1.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).

    Returns:
        [time^2], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation, or an infinite mean first-passage time.

    Example:
        >>> chain = ContinuousChain([[-3.0, 1.0], [1.0, -1.0]], [1.0, 0.0])  # state 0 exits at the rate 2, 1 is a trap
        >>> restart = [[1.0, 0.0], [1.0, 0.0]]
        >>> chain_poisson_slope(chain, restart)  # E[T]^2 - E[T^2] / 2: rare restarts help
        -0.5
    """
    return chain_moment_slope(chain, perturbation, 1)


def chain_moment_slope(chain: ContinuousChain, perturbation: npt.ArrayLike, order: int) -> float:
    """dE[T_r^n] / dr at r = 0: n! [ sum_{j=1..n} mu N^(n-j+1) K N^j 1 - n mu N^(n+1) 1 ].

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        order: n >= 1.

    Returns:
        [time^(n+1)], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation or order, or an infinite mean first-passage time.
    """
    n, response = whole_number("order", order, 1), _response(chain, perturbation)
    perturbed = sum(response.value("N" * (n - j + 1) + "K" + "N" * j) for j in range(1, n + 1))
    return math.factorial(n) * (perturbed - n * response.value("N" * (n + 1)))


def chain_erlang_coefficient(chain: ContinuousChain, perturbation: npt.ArrayLike, stages: int) -> float:
    """The factor of r^k in E[T_R] - E[T] for Erlang intervals: k^k (mu N^k K N 1 - mu N^(k+1) 1).

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        stages: k >= 1, of intervals with mean 1 / r.

    Returns:
        [time^(k+1)], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation or number of stages, or an infinite mean first-passage time.
    """
    k, response = whole_number("stages", stages, 1), _response(chain, perturbation)
    return k**k * (response.value("N" * k + "KN") - response.value("N" * (k + 1)))


@dataclass(frozen=True)
class PeriodicChange:
    """What a perturbation every P does to the mean first-passage time.

    Attributes:
        exact: E[T_P] - E[T] = Psi(P) (taubar_P - MRL(P)), later perturbations included in taubar_P.
        first_order: the same with the rest after a single perturbation: for rare ones.
    """

    exact: float
    first_order: float


def chain_periodic_change(chain: ContinuousChain, perturbation: npt.ArrayLike, interval: float) -> PeriodicChange:
    """E[T_P] - E[T], exactly and to first order, without subtracting the two means.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        interval: P > 0 [time].

    Returns:
        Both changes [time]; ``inf`` where the perturbation may prevent the end.

    Raises:
        ValueError: for an invalid perturbation or interval, or an infinite mean first-passage time.
    """
    _response(chain, perturbation)  # refuses an infinite mean
    psi, rest = continuous_chain.survival(chain, interval), continuous_chain.survivors(chain, interval)
    perturbed = continuous_chain.survivors(chain, interval, perturbation)
    remaining = continuous_chain.moment(rest, 1)
    return PeriodicChange(
        psi * (continuous_chain.periodic_mean(perturbed, perturbation, interval) - remaining),
        psi * (continuous_chain.moment(perturbed, 1) - remaining),
    )


# ---- Exactly, on a chain in discrete time ----------------------------------------------------------------------------


def chain_geometric_slope(chain: Chain, perturbation: npt.ArrayLike, *, consumes_epoch: bool) -> float:
    """dE[T] / dp at p = 0, perturbed by chance after each epoch.

    ``consumes_epoch=False``: mu N Q (K - I) N 1 = (E[T] - 1) tauhat - (E[T^2] - E[T]) / 2, tauhat being the mean rest
    after a perturbation, averaged over the survivors of epochs t >= 1. ``consumes_epoch=True``: mu N (K - Q) N 1.

    Args:
        chain: the chain.
        perturbation: K, row-stochastic, shape (n, n).
        consumes_epoch: which of the two conventions of theory.perturbed_chain.geometric_mean.

    Returns:
        [epochs], possibly ``inf``.

    Raises:
        ValueError: for an invalid perturbation, or an infinite mean first-passage time.

    Example:
        >>> coin = Chain([[0.75]], [1.0])
        >>> chain_geometric_slope(coin, [[1.0]], consumes_epoch=False)
        0.0
    """
    factors = {"K": chain.checked(perturbation), "Q": chain.transient}
    response = _Response(Absorption(chain.transient, chain.exits), chain.initial, factors)
    return response.value("NKN" if consumes_epoch else "NQKN") - response.value("NQN")
