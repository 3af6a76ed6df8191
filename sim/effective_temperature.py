"""Effective temperatures of SGD with momentum on a quadratic, simulated: beside theory.effective_temperature.

Fluctuations are measured along each recursion, the answer to a force by twins that share its noise, and both are put
into the fluctuation-dissipation theorem. Replicas give honest errors. The noise is that of sim.weight_variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.ensemble import Progress, run_in_chunks
from sim.random_streams import kernel_key
from sim.weight_variance import chunk_of_recursions, steps_to_forget
from theory.absorbing import Floats, whole_number
from theory.effective_temperature import mass, response
from theory.estimate import Estimate
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall

CHUNK = 256
"""Recursions in a chunk at most: four groups of lanes."""

FORCE = 0.125
"""On the twins, in standard deviations of the noise. The answer is linear; a power of two rounds least."""

SILENCE = 1e-9
"""Answers below this fraction of the learning rate are lost in rounding."""


@dataclass(frozen=True, eq=False)
class SimulatedTemperatures:
    """What replicas of each mode gave. Means over the recorded steps of each replica, with 0 as the mean of theta.

    Attributes:
        modes: the modes, n of them.
        autocovariance: mean of theta_k theta_{k+h}, h = 0 .. largest lag + 1, shape (replicas, n, largest lag + 2)
            [weight^2].
        response: d theta_{k+h} / d f_k of one twin each, likewise [weight^2 / loss].
        squared_velocity: mean of v^2, shape (replicas, n) [weight^2].
        requested: replicas asked for; more than ``replicas`` after Ctrl-C.

    Example:
        >>> from theory.gradient_noise import WhiteNoise
        >>> modes, rng = HeavyBall(learning_rate=0.1, curvature=[0.5, 2.0]), np.random.default_rng(0)
        >>> found = simulate_effective_temperature(modes, WhiteNoise(), rng, lags=[1, 2], steps=100, replicas=8)
        >>> len(found.temperature(2)), found.temperature_samples(1).shape
        (2, (8, 2))
    """

    modes: HeavyBall
    autocovariance: Floats
    response: Floats
    squared_velocity: Floats
    requested: int

    @property
    def replicas(self) -> int:
        """Of each mode that are complete."""
        return len(self.autocovariance)

    @property
    def configurational(self) -> tuple[Estimate, ...]:
        """Curvature times <theta^2> of each mode [loss]."""
        return Estimate.from_columns(np.ravel(self.modes.curvature) * self.autocovariance[:, :, 0])

    @property
    def kinetic(self) -> tuple[Estimate, ...]:
        """Mass times <v^2> of each mode [loss]."""
        return Estimate.from_columns(mass(self.modes) * self.squared_velocity)

    @property
    def equipartition_index(self) -> tuple[Estimate, ...]:
        """Configurational over kinetic temperature of each mode, a ratio of means with the error of its linear part."""
        configurational = np.ravel(self.modes.curvature) * self.autocovariance[:, :, 0]
        return Estimate.ratio_of_columns(configurational, mass(self.modes) * self.squared_velocity)

    def temperature_samples(self, lag: int) -> Floats:
        """T_eff(n) = -[C(n + 1) - C(n - 1)] / (2 chi(n)) of each replica.

        Args:
            lag: n, from 1 to the largest lag that was asked for.

        Returns:
            [loss], shape (replicas, n).

        Raises:
            ValueError: for a lag out of range, or after which a mode does not answer.
        """
        largest = self.autocovariance.shape[2] - 2
        if not 1 <= whole_number("lag", lag, 1) <= largest:
            raise ValueError(f"lag={lag} must lie between 1 and {largest}, the largest that was simulated")
        _refuse_silence(self.modes, (lag,))
        difference = self.autocovariance[:, :, lag + 1] - self.autocovariance[:, :, lag - 1]
        return -difference / (2 * self.response[:, :, lag])

    def temperature(self, lag: int) -> tuple[Estimate, ...]:
        """T_eff(n) of each mode.

        Args:
            lag: as in ``temperature_samples``.

        Returns:
            The estimates [loss].

        Raises:
            ValueError: as ``temperature_samples``.
        """
        return Estimate.from_columns(self.temperature_samples(lag))


def simulate_effective_temperature(
    modes: HeavyBall,
    noise: GradientNoise,
    rng: np.random.Generator,
    *,
    lags: Sequence[int],
    steps: int,
    replicas: int = 256,
    burn_in: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SimulatedTemperatures:
    """Fluctuations of each mode, averaged over whole epochs, and its answer to a small force in one update.

    Args:
        modes: the modes, curvature > 0 of shape (n,).
        noise: WhiteNoise, Reshuffled, ReshuffledEvery, ShuffledOnce, AntiCorrelatedIncrements or Persistent.
        rng: source of randomness: two draws make the key of all recursions.
        lags: n >= 1 at which T_eff(n) will be asked for; costs grow with the largest, which all share.
        steps: that are recorded, a whole number of epochs if the noise has epochs; more than the largest lag.
        replicas: independent recursions of each mode.
        burn_in: steps before, likewise; by default 12 relaxation times of the slowest mode and at least ten epochs.
        threads: by default one for each processor; the result does not depend on it.
        progress: told after each chunk of recursions.

    Returns:
        Autocovariances and answers; of fewer replicas than asked for after Ctrl-C.

    Raises:
        ValueError: for a noise that has no simulation here, numbers out of range, steps that are no whole epochs, a
            flat mode, or lags after which a mode does not answer.

    Example:
        >>> from theory.effective_temperature import lag_temperature
        >>> from theory.gradient_noise import WhiteNoise
        >>> modes, noise = HeavyBall(learning_rate=0.1, curvature=[0.5, 2.0], momentum=0.9), WhiteNoise()
        >>> rng = np.random.default_rng(0)
        >>> found = simulate_effective_temperature(modes, noise, rng, lags=[1], steps=200, replicas=64)
        >>> exact = lag_temperature(modes, noise, 1)
        >>> [bool(abs(one.value - e) < 4 * one.standard_error) for one, e in zip(found.temperature(1), exact)]
        [True, True]
    """
    from sim.fluctuation_response import run_fluctuation_response
    from sim.gaussian_noise import filter_of

    noise_filter = filter_of(noise)
    period = noise_filter.period
    curvature = np.ravel(modes.curvature)
    if (curvature == 0).any():
        raise ValueError("curvature=0.0 must be > 0: a flat mode has no stationary autocovariance; leave it out")
    chosen = [whole_number("lags", lag, 1) for lag in lags]
    if not chosen:
        raise ValueError("lags=() must hold at least one lag")
    _refuse_silence(modes, chosen)
    needed = max(chosen) + 2
    steps, replicas = whole_number("steps", steps, 1), whole_number("replicas", replicas, 2)
    if burn_in is None:
        before = max(steps_to_forget(modes, period), period * -(-needed // period))
    else:
        before = whole_number("burn_in", burn_in, 0)
    for name, value in (("steps", steps), ("burn_in", before)):
        if value % period:
            raise ValueError(
                f"{name}={value} must be a whole number of epochs (those of a shared order together), {period} steps"
            )
        if value < needed:
            raise ValueError(f"{name}={value} must be >= {needed}, two more than the largest lag")
    # Replica by replica, so that what is complete after Ctrl-C is complete for all modes.
    recursions = np.tile(modes.learning_rate * curvature, replicas)
    products, answers = (np.empty((len(recursions), needed)) for _ in range(2))
    velocities = np.empty(len(recursions))
    key, cancel = kernel_key(rng), np.zeros(1, np.bool_)

    def kernel(first: int, stop: int) -> None:
        run_fluctuation_response(
            products[first:stop],
            answers[first:stop],
            velocities[first:stop],
            key,
            first,
            recursions[first:stop],
            float(modes.momentum),
            noise_filter,
            FORCE,
            before,
            steps,
            cancel,
        )

    done = run_in_chunks(
        kernel,
        len(recursions),
        threads=threads,
        chunk=chunk_of_recursions(needed * (before + steps), CHUNK),
        progress=progress,
        cancel=cancel,
    ) // len(curvature)
    if done < 2:
        raise KeyboardInterrupt
    unit = modes.learning_rate**2 * noise.variance

    def by_replica(values: Floats) -> Floats:
        return values[: done * len(curvature)].reshape(done, len(curvature), *values.shape[1:])

    return SimulatedTemperatures(
        modes,
        unit / steps * by_replica(products),
        modes.learning_rate / FORCE * by_replica(answers),
        unit / steps * by_replica(velocities),
        replicas,
    )


def _refuse_silence(modes: HeavyBall, lags: Sequence[int]) -> None:
    """Where a mode does not answer, the theorem has nothing to divide by."""
    answers = response(modes, list(lags)).reshape(len(lags), -1)
    silent = (abs(answers) < SILENCE * modes.learning_rate).any(axis=1)
    if silent.any():
        lag = list(lags)[int(silent.argmax())]
        raise ValueError(f"lags={lag}: a mode does not answer after so many updates, chi(n) = 0; take other lags")
