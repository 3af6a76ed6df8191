"""How hot SGD with momentum is at a quadratic minimum, by the fluctuation-dissipation theorem in discrete time.

A force f_k is added to minus the gradient at theta_k, so that theta_{k+1} moves by eta f_k. A mode of curvature lambda
answers, with theta(omega) = sum_k theta_k e^{-i omega k}, as a particle of mass m and friction gamma:

    chi(omega) = 1 / (lambda - 4 m sin^2(omega / 2) + i gamma sin(omega)),
    m = (1 + beta) / (2 eta),    gamma = (1 - beta) / eta.

At a temperature T it would fluctuate with the spectrum 2 T |Im chi| / sin(omega). Gradient noise of spectrum S makes it
|chi|^2 S, as if

    T_eff(omega) = S(omega) / (2 gamma) = eta S(omega) / (2 (1 - beta)),

whatever the curvature and however large eta lambda. Independent batches have one temperature at all frequencies; with
reshuffled batches slow motion is cold, with persistent ones hot. In time, with C(n) = Cov(theta_k, theta_{k+n}),

    T_eff(n) = -[C(n + 1) - C(n - 1)] / (2 chi(n)),    chi(n) = d theta_{k+n} / d f_k,    n >= 1;

with forward differences the theorem would be off by O(eta lambda). The configurational temperature lambda sigma_theta^2
and the kinetic one m sigma_v^2 are averages over all frequencies, with different weights. The unit is that of the loss.
All for linear modes and noise that does not depend on the weights.

Derived for jostle.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import finite_frequencies, signed_lags
from theory.weight_variance import stationary_variances


def mass(modes: HeavyBall) -> float:
    """The inertia of a weight, m = (1 + beta) / (2 eta).

    Args:
        modes: the modes; their curvature does not matter.

    Returns:
        [loss / weight^2 updates^2].

    Example:
        >>> mass(HeavyBall(learning_rate=0.5, curvature=1.0, momentum=0.5))
        1.5
    """
    return (1 + modes.momentum) / (2 * modes.learning_rate)


def friction(modes: HeavyBall) -> float:
    """The damping of a weight, gamma = (1 - beta) / eta.

    Args:
        modes: the modes; their curvature does not matter.

    Returns:
        [loss / weight^2 updates].
    """
    return (1 - modes.momentum) / modes.learning_rate


def susceptibility(modes: HeavyBall, frequency: npt.ArrayLike) -> npt.NDArray[np.complex128]:
    """chi(omega) = 1 / (lambda - 4 m sin^2(omega / 2) + i gamma sin(omega)), the weight's answer to a periodic force.

    Args:
        modes: the modes.
        frequency: omega [radians per update]; broadcast against the curvature. Not 0 where the curvature is.

    Returns:
        chi [weight^2 / loss].

    Raises:
        ValueError: for frequencies that are not finite numbers, and at omega = 0 for a mode of zero curvature, whose
            answer is infinite.

    Example:
        >>> complex(susceptibility(HeavyBall(0.1, 4.0, 0.9), 0.0))  # 1 / lambda
        (0.25+0j)
    """
    omega, curvature = finite_frequencies(frequency), np.asarray(modes.curvature)
    inverse = curvature - 4 * mass(modes) * np.sin(omega / 2) ** 2 + 1j * friction(modes) * np.sin(omega)
    if (inverse == 0).any():
        raise ValueError("frequency=0 with curvature=0: the answer is infinite; take a frequency > 0")
    return 1 / inverse


def response(modes: HeavyBall, lags: npt.ArrayLike) -> Floats:
    """chi(n) = d theta_{k+n} / d f_k, the weight's answer to a force in one update.

    chi(1) = eta and chi(n) = (1 + beta - eta lambda) chi(n - 1) - beta chi(n - 2); zero for n < 1.

    Args:
        modes: the modes.
        lags: n, whole numbers of updates of any shape; a simulation of up to the largest.

    Returns:
        [weight^2 / loss], in the shape of the lags followed by that of the curvature.

    Raises:
        ValueError: for lags that are not of an integer type.

    Example:
        >>> response(HeavyBall(0.1, 5.0), [0, 1, 2, 3]).round(9).tolist()
        [0.0, 0.1, 0.05, 0.025]
    """
    n = signed_lags(lags)
    return _responses(modes, int(n.max(initial=0)))[np.maximum(n, 0)]


def _responses(modes: HeavyBall, largest: int) -> Floats:
    """chi(0), ..., chi(largest), or at least up to chi(1)."""
    result = np.zeros((max(largest, 1) + 1, *modes.contraction.shape))
    result[1] = modes.learning_rate
    for n in range(2, len(result)):
        result[n] = (1 + modes.momentum - modes.contraction) * result[n - 1] - modes.momentum * result[n - 2]
    return result


# ---- Temperatures ----------------------------------------------------------------------------------------------------


def spectral_temperature(modes: HeavyBall, noise: GradientNoise, frequency: npt.ArrayLike) -> Floats:
    """T_eff(omega) = eta S(omega) / (2 (1 - beta)), equal to S_theta sin(omega) / (2 |Im chi|) for every mode.

    Args:
        modes: the modes; their curvature does not matter.
        noise: of the gradient. Lines in its spectrum, as of one order for all epochs, are infinitely hot and left out.
        frequency: omega [radians per update], any shape.

    Returns:
        [loss], in the shape of the frequencies.

    Raises:
        ValueError: for frequencies that are not finite numbers.

    Example:
        >>> from theory.gradient_noise import WhiteNoise
        >>> float(spectral_temperature(HeavyBall(0.1, 1.0, 0.5), WhiteNoise(3.0), 0.2).round(12))
        0.3
    """
    return np.asarray(noise.spectrum(frequency)) / (2 * friction(modes))


def lag_temperature(modes: HeavyBall, noise: GradientNoise, lags: npt.ArrayLike) -> Floats:
    """T_eff(n) = -[C(n + 1) - C(n - 1)] / (2 chi(n)) = sum_h c_h chi_odd(n - h) / (2 gamma chi(n)).

    c_h is the autocovariance of the noise and chi_odd(n) the odd continuation of chi(n). The second form is free of the
    variances, which are infinite for white noise and a flat mode. Where chi(n) changes its sign, as it does in damped
    oscillations unless the noise is white, T_eff(n) goes through infinity.

    Args:
        modes: the modes.
        noise: of the gradient.
        lags: n >= 1, whole numbers of updates of any shape; costs grow with the largest, for `ShuffledOnce` with M, and
            for tables with their length.

    Returns:
        [loss], in the shape of the lags followed by that of the curvature.

    Raises:
        ValueError: for lags that are not whole numbers >= 1, or where a mode does not answer at all, chi(n) = 0.

    Example:
        >>> from theory.gradient_noise import Reshuffled
        >>> modes = HeavyBall(0.1, [0.0, 1.0])
        >>> lag_temperature(modes, Reshuffled(batches_per_epoch=3), [1, 2]).round(6).tolist()
        [[0.033333, 0.036583], [0.008333, 0.009731]]
    """
    n = signed_lags(lags, least=1)
    largest = int(n.max(initial=1))
    answers = _responses(modes, largest)
    if (answers[n] == 0).any():
        silent = n[(answers[n] == 0).reshape(*n.shape, -1).any(axis=-1)][0]
        raise ValueError(f"lags={silent}: a mode does not answer after so many updates, chi(n) = 0; take other lags")
    beta, values = modes.momentum, noise.autocovariance(np.arange(largest))
    # The noise after n, which sees chi_odd < 0, and that before: past_n = sum_{h<n} c_h chi(n - h).
    after = modes.learning_rate * noise.forcing(modes, largest + 2)
    past = np.empty((largest + 1, *modes.contraction.shape))
    past[0], past[1] = after[1], after[0]
    for k in range(2, largest + 1):
        past[k] = (1 + beta - modes.contraction) * past[k - 1] - beta * past[k - 2]
        past[k] += modes.learning_rate * values[k - 1]
    return (past[n] - after[n + 1]) / (2 * friction(modes) * answers[n])


@dataclass(frozen=True, eq=False)
class StaticTemperatures:
    """The two temperatures of a stationary mode that do not need a measured answer, in the shape of the curvature.

    Attributes:
        configurational: lambda sigma_theta^2 [loss].
        kinetic: m sigma_v^2 [loss].
    """

    configurational: Floats
    kinetic: Floats

    @property
    def equipartition_index(self) -> Floats:
        """Configurational over kinetic = eta lambda tau / (1 + beta), with tau = 2 sigma_theta^2 / sigma_v^2.

        1 for white noise at any eta lambda; below 1 for reshuffled batches, above for persistent ones.

        Raises:
            ValueError: if a mode has no velocity.
        """
        if (np.asarray(self.kinetic) == 0).any():
            raise ValueError("kinetic=0 somewhere: a mode without noise has no equipartition to compare")
        return self.configurational / self.kinetic


def static_temperatures(modes: HeavyBall, noise: GradientNoise) -> StaticTemperatures:
    """Configurational and kinetic temperature of each mode, lambda sigma_theta^2 and m sigma_v^2.

    White noise has both equal, eta sigma^2 (1 + beta) / ((1 - beta) (2 (1 + beta) - eta lambda)). The configurational
    temperature of a flat mode is T_eff(omega = 0).

    Args:
        modes: the modes.
        noise: of the gradient.

    Returns:
        The temperatures.

    Example:
        >>> from theory.gradient_noise import Reshuffled
        >>> temperatures = static_temperatures(HeavyBall(1.0, 0.05, 0.8), Reshuffled(batches_per_epoch=20))
        >>> round(float(temperatures.configurational), 9), round(float(temperatures.kinetic), 9)
        (1.560008583, 2.403663467)
        >>> round(float(temperatures.equipartition_index), 6)
        0.649013
    """
    variances, curvature = stationary_variances(modes, noise), np.asarray(modes.curvature)
    flat = noise.sum_of_autocovariance / (2 * friction(modes))
    moving = curvature > 0
    configurational = np.where(moving, curvature * np.where(moving, variances.weight, 0.0), flat)
    return StaticTemperatures(configurational, np.asarray(mass(modes) * variances.velocity))
