"""How hot a network is along directions: its fluctuations against the response of twins to a small constant field.

R runs go on from one point, each with batches of its own. Beside each of them two twins see the same batches: one with
a constant field, f = sum_i s_i h_i p_i with random signs s_i along all directions p_i at once, and one with half of it.
Every L updates the twins are put back to their run. What noise does, it does to both, so that their distance is the
response X(n) = s_i p_i.(theta' - theta) / h_i = sum_{m<=n} chi(m), nearly without noise. Along eigenvectors of the
Hessian the field along one direction does not move the others; what it does otherwise, the random signs average out.

With B(n) = <(theta_{k+n} - theta_k)^2> / 2 = C(0) - C(n) of the runs, the temperature up to lag n is

    T(n) = [B(n + 1) + B(n) - B(1)] / (2 X(n)) = sum_{m<=n} chi(m) T_eff(m) / sum_{m<=n} chi(m),

the mean of the temperatures at lags of theory.effective_temperature with the responses as weights. White noise has
T(n) = eta sigma^2 / (2 (1 - beta)) for all n, however large eta lambda; the one-sided [C(0) - C(n)] / X(n) has not. No
curvature is needed, and no mean is subtracted. Derived for jostle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnval.measure.parallel_descent import ParallelDescent
from theory.absorbing import Floats, whole_number
from theory.effective_temperature import response
from theory.gradient_noise import GradientNoise
from theory.heavy_ball import HeavyBall
from theory.noise_arguments import signed_lags
from theory.weight_variance import squared_displacements


@dataclass(frozen=True, eq=False)
class Heat:
    """What runs and twins did, for R runs and k directions.

    Attributes:
        half_displacements: B(n) of each run for n = 0 .. L, (R, L + 1, k) [weight^2].
        responses: X(n) for n = 0 .. L - 1 with the whole field, means over windows, (R, L, k) [weight^2 / loss].
        half_responses: with half of it, likewise.
        drift: how far the runs moved together in L updates, squared, over twice the largest B(n), (k,); it should be
            much below 1.
    """

    half_displacements: Floats
    responses: Floats
    half_responses: Floats
    drift: Floats

    def fluctuations(self, lags: npt.ArrayLike) -> Floats:
        """[B(n + 1) + B(n) - B(1)] / 2 of each run, (R, lags, k); lags up to L - 1."""
        n, b = np.asarray(lags), self.half_displacements
        return (b[:, n + 1] + b[:, n] - b[:, [1]]) / 2

    def temperatures(self, lags: npt.ArrayLike) -> Floats:
        """T(n), with means over the runs above and below, (lags, k) [loss]; lags from 1 to L - 1."""
        return self.fluctuations(lags).mean(0) / self.responses[:, np.asarray(lags)].mean(0)


class HeatMeasurement:
    """Runs and their twins, window by window; between two windows it can be saved.

    Args:
        descent: of the R runs, where the measurement begins; burn-in is up to the caller.
        directions: p_i, orthonormal rows (k, d).
        fields: h_i > 0, (k,) [gradient].
        window: L, updates with a field; the largest lag is L - 1.
        signs: a function from the number of a window to the generator of its signs.
    """

    def __init__(
        self,
        descent: ParallelDescent,
        directions: torch.Tensor,
        fields: Floats,
        window: int,
        signs: Callable[[int], np.random.Generator],
    ) -> None:
        self._window, self._signs = whole_number("window", window, 2), signs
        self._fields = np.asarray(fields, dtype=float)
        if self._fields.shape != (len(directions),) or not (np.isfinite(self._fields) & (self._fields > 0)).all():
            raise ValueError(f"fields={self._fields} must be {len(directions)} finite numbers > 0, one per direction")
        self._runs, self._descent, self._directions = len(descent.weights), descent, directions
        self._origin = descent.weights[0].clone()
        descent.copy_rows(list(range(self._runs)) * 3)
        self._paths: list[Floats] = [self._projected(descent.weights[: self._runs] - self._origin)[None]]
        self._responses = np.zeros((2, self._runs, self._window, len(directions)))
        self.windows = 0

    def _projected(self, vectors: torch.Tensor) -> Floats:
        return (vectors @ self._directions.T).cpu().double().numpy()

    def run_window(self) -> None:
        """L updates from where the runs are."""
        runs, descent = self._runs, self._descent
        descent.copy_rows(list(range(runs)) * 3)
        signs = self._signs(self.windows).choice([-1.0, 1.0], size=(runs, len(self._directions)))
        along = torch.from_numpy(signs * self._fields).to(descent.weights) @ self._directions
        descent.field = torch.cat([torch.zeros_like(along), along, along / 2])
        path = np.empty((self._window, runs, len(self._directions)))
        for n in range(self._window):
            descent.step()
            run = descent.weights[:runs]
            path[n] = self._projected(run - self._origin)
            for half, factor in ((0, 1.0), (1, 2.0)):
                moved = self._projected(descent.weights[(half + 1) * runs : (half + 2) * runs] - run)
                self._responses[half, :, n] += factor * moved * signs / self._fields
        descent.field = None
        self._paths.append(path)
        self.windows += 1

    def result(self) -> Heat:
        """All windows so far.

        Raises:
            ValueError: before there are two windows, or if a run diverged.
        """
        if self.windows < 2:
            raise ValueError(f"windows={self.windows} must be >= 2: displacements over one window need more than one")
        path = np.concatenate(self._paths)  # (1 + windows L, R, k)
        if not np.isfinite(path).all() or not np.isfinite(self._responses).all():
            raise ValueError("a run diverged: lower the learning rate or the field")
        half = np.zeros((self._runs, self._window + 1, path.shape[2]))
        for n in range(1, self._window + 1):
            half[:, n] = np.square(path[n:] - path[:-n]).mean(0) / 2
        steps = (path[-1] - path[0]).mean(0) / self.windows
        responses = np.concatenate([np.zeros_like(self._responses[:, :, :1]), self._responses], axis=2) / self.windows
        return Heat(
            half,
            responses[0, :, : self._window],
            responses[1, :, : self._window],
            steps**2 / (2 * np.maximum(half.mean(0).max(0), 1e-300)),
        )

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on between two windows."""
        return {
            "descent": self._descent.state_dict(),
            "origin": self._origin.clone(),
            "paths": [torch.from_numpy(path) for path in self._paths],
            "responses": torch.from_numpy(self._responses.copy()),
            "windows": self.windows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict`` of the same measurement."""
        self._descent.load_state_dict(state["descent"])
        self._origin = state["origin"].to(self._origin)
        self._paths = [path.numpy() for path in state["paths"]]
        self._responses, self.windows = state["responses"].numpy().copy(), state["windows"]


def linear_modes(
    learning_rate: float, curvature: npt.NDArray[np.float64], momentum: float
) -> tuple[HeavyBall, npt.NDArray[np.bool_]]:
    """Modes with the curvatures of a network, which may be those of no minimum.

    Args:
        learning_rate: eta.
        curvature: along each direction, (k,); the stable ones lie between 0 and the edge 2 (1 + momentum) / eta.
        momentum: beta.

    Returns:
        Modes with the curvatures moved into that range, and which of them were there, (k,): of the others linear theory
        says nothing.

    Example:
        >>> modes, stable = linear_modes(0.1, np.array([-1.0, 3.0, 25.0]), 0.0)
        >>> modes.curvature.round(6).tolist(), stable.tolist()
        ([0.0, 3.0, 19.98], [False, True, False])
    """
    edge = 0.999 * 2 * (1 + momentum) / learning_rate
    modes = HeavyBall(learning_rate, np.clip(curvature, 1e-12, edge), momentum)
    return modes, (curvature > 0) & (curvature < edge)


@dataclass(frozen=True, eq=False)
class PredictedHeat:
    """What linear theory says of the same numbers.

    Attributes:
        temperatures: T(n), (lags, k) [loss].
        responses: X(n), (lags, k) [weight^2 / loss].
    """

    temperatures: Floats
    responses: Floats


def predicted_heat(
    modes: HeavyBall, noise: GradientNoise, example_variance: npt.ArrayLike, lags: Sequence[int]
) -> PredictedHeat:
    """T(n) and X(n) of linear modes.

    Args:
        modes: of which the curvature has shape (k,); weight decay is part of it.
        noise: of batches, where that of single samples has the variance 1 (``BatchOrder.noise``).
        example_variance: C_0 along each direction, (k,).
        lags: n >= 1.

    Returns:
        The prediction.

    Raises:
        ValueError: for lags that are not whole numbers >= 1.

    Example:
        >>> from theory.gradient_noise import WhiteNoise
        >>> modes = HeavyBall(learning_rate=0.1, curvature=[1.0, 9.0], momentum=0.5)
        >>> predicted_heat(modes, WhiteNoise(3.0), [1.0, 2.0], [1, 50]).temperatures.round(12).tolist()
        [[0.3, 0.6], [0.3, 0.6]]
    """
    n = signed_lags(np.asarray(lags), least=1)
    largest = int(n.max())
    half = squared_displacements(modes, noise, largest + 1) * np.asarray(example_variance) / 2
    summed = np.cumsum(response(modes, np.arange(largest + 1)), axis=0)[n]
    return PredictedHeat((half[n + 1] + half[n] - half[1]) / (2 * summed), summed)
