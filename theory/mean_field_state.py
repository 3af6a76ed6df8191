"""How overlap, response and correlation move on, given the kernels: common to both solvers of mean-field theory.

    C(t, t') = w(t) . w(t') / N,    m(t) = w(t) . v* / N,
    R(t, t') = (1 / N) sum_i d w_i(t) / d f_i(t'),  f added to w(t' + 1): R(t' + 1, t') = 1, R = 0 for t <= t'.

Each f of m, a and the columns of R obeys

    f(t+1) = (1 - eta lambda) f(t) + beta (f(t) - f(t-1)) - eta sum_{t' <= t} Gamma(t, t') f(t'),

m gets -eta mu(t) besides, a(0) = 1, R(t+1, t) = 1; a(t) is what is left of the start. Then

    C = m m^T + s_0^2 a a^T + eta^2 R M R^T,

and likewise for two replicas with the kernel M_12 of both. All is causal: row t + 1 needs kernels up to t only, so one
pass solves the theory. Derived for jostle.
"""

from collections.abc import Callable

import numpy as np

from theory.absorbing import Floats
from theory.mixture_model import PerceptronTraining

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps asked for, what is being done)."""


class MeanFieldState:
    """The order parameters up to a time t, and the kernels they came from.

    Attributes:
        time: t, the last row that is known.
        overlap: m, shape (T+1,).
        remainder: a, shape (T+1,).
        response: R, shape (T+1, T+1).
        correlation: C, shape (T+1, T+1).
        replica_correlation: C_12 of two replicas of the same start and data, shape (T+1, T+1).
        memory: Gamma, shape (T, T).
        noise: M, shape (T, T).
        replica_noise: M_12, shape (T, T).
    """

    def __init__(self, training: PerceptronTraining, weight_decay: float, steps: int) -> None:
        self._training, self._decay = training, weight_decay
        self.time = 0
        self.overlap, self.remainder = np.zeros(steps + 1), np.zeros(steps + 1)
        self.response, self.correlation, self.replica_correlation = np.zeros((3, steps + 1, steps + 1))
        self.memory, self.noise, self.replica_noise = np.zeros((3, steps, steps))
        self.overlap[0], self.remainder[0] = training.initial_overlap, 1.0
        self.correlation[0, 0] = self.replica_correlation[0, 0] = (
            training.initial_overlap**2 + training.initial_spread**2
        )

    def advance(self, memory: Floats, drift: float, noise: Floats, replica_noise: Floats) -> None:
        """From t to t + 1.

        Args:
            memory: Gamma(t, 0..t).
            drift: mu(t).
            noise: M(t, 0..t).
            replica_noise: M_12(t, 0..t).
        """
        t, eta = self.time, self._training.learning_rate
        self.memory[t, : t + 1] = memory
        for kernel, row in ((self.noise, noise), (self.replica_noise, replica_noise)):
            kernel[t, : t + 1] = kernel[: t + 1, t] = row
        self.overlap[t + 1] = self._moved(self.overlap, memory) - eta * drift
        self.remainder[t + 1] = self._moved(self.remainder, memory)
        self.response[t + 1, : t + 1] = self._moved(self.response[:, : t + 1], memory)
        self.response[t + 1, t] = 1.0
        self.time = t + 1
        self._correlate(self.correlation, self.noise)
        self._correlate(self.replica_correlation, self.replica_noise)

    def _moved(self, values: Floats, memory: Floats) -> Floats:
        t, training = self.time, self._training
        velocity = values[t] - values[t - 1] if t else 0.0
        kept = (1 - training.learning_rate * self._decay) * values[t] + training.momentum * velocity
        return kept - training.learning_rate * (memory @ values[: t + 1])

    def _correlate(self, correlation: Floats, noise: Floats) -> None:
        """The row and column of time t of a correlation function."""
        t, training = self.time, self._training
        forced = self.response[: t + 1, :t] @ (self.response[t, :t] @ noise[:t, :t])
        row = self.overlap[t] * self.overlap[: t + 1] + training.learning_rate**2 * forced
        row += training.initial_spread**2 * self.remainder[t] * self.remainder[: t + 1]
        correlation[t, : t + 1] = correlation[: t + 1, t] = row
