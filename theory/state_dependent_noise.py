"""The second crossover: where the noise of reshuffled SGD depends on the weights, very flat modes fluctuate more again.

The gradient of a batch is (H + dH_k)(theta - theta*) + (noise at the minimum). The latter sums to zero over an epoch;
the former does not, as the weight moves meanwhile, and leaves noise S_i(0) at zero frequency along mode i:

    S_res,i = sum_j Var(dH_ij) Var(theta_j),   S_i(0) = c S_res,i,   1/2 <= c <= 1,
    Var(theta_i) ~ (that of reshuffled noise) + eta^2 S_i(0) kappa_i(0).

c = 1/2 if no mode relaxes within an epoch, about 0.9 where steep modes do. The excess overtakes the plateau of flat
modes at lambda_2 = rho lambda_cross, rho = S_i(0) / sigma_i^2. Leading order in rho. Derived for jostle.
"""

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.gradient_noise import Reshuffled, WhiteNoise
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import number, real_numbers
from theory.weight_variance import ModeVariances, stationary_variances
from theory.weight_variance_limits import crossover_curvature


def residual_noise(inputs: npt.ArrayLike, weight_variance: npt.ArrayLike, batch_size: int) -> Floats:
    """S_res,i = (M - 1) / (N - 1) sum_j Var_n(x_ni x_nj) Var(theta_j), for least squares and reshuffled batches.

    Args:
        inputs: x_n in the eigenbasis of the Hessian (1 / N) sum_n x_n x_n', shape (N, d).
        weight_variance: Var(theta_j), shape (d,) [weight^2].
        batch_size: S, which divides N at least twice.

    Returns:
        Variance of the gradient noise that comes with the fluctuations of the weights, shape (d,) [gradient^2].

    Raises:
        ValueError: for shapes or numbers out of range.

    Example:
        >>> inputs = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # x_n1 x_n2 = 1 or -1
        >>> residual_noise(inputs, [0.3, 0.6], batch_size=2).round(12).tolist()
        [0.2, 0.1]
    """
    x, variance = real_numbers("inputs", inputs), real_numbers("weight_variance", weight_variance)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"inputs of shape {x.shape} must be finite numbers, one row for each sample")
    if variance.shape != x.shape[1:] or not ((variance >= 0) & np.isfinite(variance)).all():
        raise ValueError(f"weight_variance of shape {variance.shape} must be {x.shape[1]} finite numbers >= 0")
    moments = (x**2).T @ x**2 / len(x) - (x.T @ x / len(x)) ** 2
    return Reshuffled.of_examples(1.0, len(x), batch_size).variance * np.maximum(moments, 0.0) @ variance


def state_dependent_fraction(excess_loss: float, label_variance: float) -> float:
    """Share rho = S_res / sigma^2 = 2 <L - L_min> / s^2, for least squares with Gaussian inputs.

    Args:
        excess_loss: <L - L_min> >= 0, mean loss above the minimum, of the loss (1 / 2N) sum_n (error_n)^2.
        label_variance: s^2 > 0 of the label noise.

    Returns:
        rho, the same for all modes up to the excess loss of a single one.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> state_dependent_fraction(excess_loss=0.00125, label_variance=0.25)
        0.01
    """
    if not 0 <= number("excess_loss", excess_loss) < np.inf:
        raise ValueError(f"excess_loss={excess_loss} must be finite and >= 0")
    if not 0 < number("label_variance", label_variance) < np.inf:
        raise ValueError(f"label_variance={label_variance} must be finite and > 0")
    return 2 * excess_loss / label_variance


def second_crossover_curvature(
    fraction: float, learning_rate: float, batches_per_epoch: int, momentum: float = 0.0
) -> float:
    """lambda_2 = rho lambda_cross, below which the variance rises again; flat modes obey the theory above it.

    To leading order in rho and in 1 / ((1 - beta) M). At beta = 0.9 it lies below the crossing of the exact variances
    (``state_dependent_variances``, rho = 0.001) by 38 % at (1 - beta) M = 5, 23 % at 10, 5.4 % at 50 and 0.6 % at 500;
    at beta = 0 above it by 10 % at M = 10. With rho it falls farther below, by 0.7 % at 0.01 and 7.6 % at 0.1 for
    M = 5000 without momentum.

    Args:
        fraction: rho = S(0) / sigma^2 >= 0.
        learning_rate: eta > 0.
        batches_per_epoch: M >= 2.
        momentum: beta, 0 <= beta < 1.

    Returns:
        lambda_2 [loss / weight^2].

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> second_crossover_curvature(0.01, learning_rate=0.005, batches_per_epoch=1000, momentum=0.9)
        0.0006
    """
    if not 0 <= number("fraction", fraction) < np.inf:
        raise ValueError(f"fraction={fraction} must be finite and >= 0")
    return fraction * crossover_curvature(learning_rate, batches_per_epoch, momentum)


def state_dependent_variances(
    modes: HeavyBall,
    batches_per_epoch: int,
    noise_variance: npt.ArrayLike,
    residual: npt.ArrayLike,
    zero_frequency_share: float = 1.0,
) -> ModeVariances:
    """Variances with the noise that depends on the weights, to leading order.

    The residual noise is taken as white of the strength c S_res.

    Args:
        modes: the modes.
        batches_per_epoch: M >= 2.
        noise_variance: sigma_i^2 > 0 of the batch gradients at the minimum, broadcast against the curvature.
        residual: S_res,i > 0, likewise (``residual_noise``).
        zero_frequency_share: c, 1/2 <= c <= 1.

    Returns:
        The variances; weights ``inf`` at zero curvature.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> modes = HeavyBall(learning_rate=1.0, curvature=[1e-5, 1e-3], momentum=0.9)
        >>> state_dependent_variances(modes, 50, 1.0, 0.01).weight.round(1).tolist()
        [5515.4, 537.5]
    """
    if not 0.5 <= number("zero_frequency_share", zero_frequency_share) <= 1:
        raise ValueError(f"zero_frequency_share={zero_frequency_share} must lie between 0.5 and 1")
    plateau = stationary_variances(modes, Reshuffled(batches_per_epoch)).scaled(noise_variance)
    residual = zero_frequency_share * real_numbers("residual", residual)
    return plateau + stationary_variances(modes, WhiteNoise()).scaled(residual)
