"""Have the surviving runs reached a quasi-steady state, G(theta, t) = phi(theta) Psi(t)?

Two necessary conditions can be examined, neither of which is sufficient: the distribution of a collective variable A
(an accuracy) among survivors stops changing, and the hazard is constant (``theory.hazard.constant_hazard_test``).

The published criterion, p > 0.05 in a Kolmogorov-Smirnov test against the mean distribution of late epochs, is here for
reproduction (``kolmogorov_smirnov_relaxation``). Its answer grows with the number of runs (13 epochs with 50 runs, 29
with 1,000 on the same data), because it asks whether a difference can be seen and not whether it is small. What the
predictors use is ``stationarity``: a distance with a bootstrap over runs and a tolerance.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.absorbing import whole_number
from theory.bootstrap import bootstrap_weights, percentile_interval
from theory.law_arguments import LARGEST
from theory.survival import FirstPassages, Floats

TOLERANCES = {"wasserstein": 0.25, "kolmogorov_smirnov": 0.1}
"""Distances that count as stationary by default: in either unit about a quarter of a standard deviation."""

DISTANCES = tuple(TOLERANCES)

MINIMUM_SURVIVORS = 20
"""An epoch with fewer survivors cannot be significantly outside the tolerance: from resamples of 10 or 5 runs that
happens by chance at every 200th or every 30th epoch, and some late epoch would always spoil t_r."""

GRID_POINTS = 200


@dataclass(frozen=True, eq=False)
class Stationarity:
    """Distance of the survivors' collective variable from its late distribution, epoch by epoch.

    Attributes:
        epochs: 1..H, shape (H,).
        distance: shape (H,), without what chance contributes; negative where it is smaller than by chance, nan where
            fewer than two runs survive.
        low: lower end of its 95 % bootstrap interval, shape (H,).
        high: upper end, shape (H,).
        kind: ``"wasserstein"`` (in standard deviations of the reference) or ``"kolmogorov_smirnov"``.
        reference: (first, last) epoch whose survivors make up the reference distribution.
        tolerance: distance that counts as stationary.
        relaxation_epoch: t_r, the first epoch within the tolerance after the last one that is significantly outside
            it (whole interval above, of 20 survivors at least), up to the reference's end; None if there is none.
        relaxation_interval: 95 % bootstrap interval of t_r; its upper end is None if some replicates never relax.
    """

    epochs: npt.NDArray[np.int64]
    distance: Floats
    low: Floats
    high: Floats
    kind: str
    reference: tuple[int, int]
    tolerance: float
    relaxation_epoch: int | None
    relaxation_interval: tuple[int | None, int | None]


def survivors(values: Floats, first_passages: FirstPassages) -> npt.NDArray[np.bool_]:
    """Which runs are still unfinished, and followed, after each epoch.

    Args:
        values: collective variable, shape (n, H); column t - 1 is epoch t.
        first_passages: of the same n runs.

    Returns:
        Shape (n, H): True where run i has T > t and a value at t.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if values.ndim != 2 or len(values) != first_passages.n:
        raise ValueError(f"values of shape {values.shape} do not belong to {first_passages.n} runs")
    epochs = np.arange(1, values.shape[1] + 1)
    alive = (first_passages.times[:, None] > epochs) | ~first_passages.observed[:, None]
    alive &= np.isfinite(values)
    largest = np.abs(values).max(initial=0.0, where=alive)
    if largest > LARGEST:
        raise ValueError(f"values has an entry of size {largest}; at most {LARGEST:g} is allowed: choose other units")
    return alive


def stationarity(
    values: Floats,
    first_passages: FirstPassages,
    *,
    reference: tuple[int, int],
    rng: np.random.Generator,
    kind: str = "wasserstein",
    tolerance: float | None = None,
    replicates: int = 200,
) -> Stationarity:
    """Distance of the survivors' distribution at each epoch from its mean over late epochs.

    ``"wasserstein"`` is the area between the two distribution functions in units of the reference's standard deviation:
    a shift by 0.25 standard deviations has distance 0.25. ``"kolmogorov_smirnov"`` is their largest difference.

    Distances are positive even between samples of one law, the more so the fewer survive. The bootstrap over whole runs
    (whose epochs are correlated) measures the error of the difference of the two functions, and the mean square D0^2 of
    the distance that the error alone makes. D^2 - D0^2 is reported, as a root with its sign: its mean is about zero at
    stationarity, for any number of runs, and the correction fades where D is well above D0. (D - D0 would be zero at
    stationarity as well, but far from it too small by all of D0.)

    Args:
        values: collective variable such as the validation accuracy, shape (n, H).
        first_passages: of the same runs; finished runs leave the distribution.
        reference: (first, last) epoch of the reference, 1 <= first <= last <= H.
        rng: generator of the bootstrap.
        kind: ``"wasserstein"`` or ``"kolmogorov_smirnov"``.
        tolerance: distance that counts as stationary, by default that of ``TOLERANCES``.
        replicates: number of bootstrap replicates.

    Returns:
        The distances and the relaxation epoch.

    Raises:
        ValueError: for an unknown kind, a reference out of range or without survivors, or one at which all have one
            value, so that there is no scale.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> runs = FirstPassages(np.full(60, 15), np.full(60, False))  # none finishes
        >>> accuracy = rng.normal(size=(60, 15)) + 3 * 0.5 ** np.arange(15)
        >>> stationarity(accuracy, runs, reference=(10, 15), rng=rng, replicates=20).relaxation_epoch
        6

    Reference: Derived for jostle; it replaces the p-value criterion of [meir2025] arXiv 2502.04121 v1, section III B
    """
    if kind not in DISTANCES:
        raise ValueError(f"kind={kind!r} is unknown; choose from {', '.join(DISTANCES)}")
    tolerance = TOLERANCES[kind] if tolerance is None else tolerance
    alive = survivors(values, first_passages)
    first, last = _checked_reference(reference, alive)
    grid = _grid(values, alive, first, last)
    # Row 0 is the data, the others are resamples of whole runs.
    weights = np.concatenate([np.ones((1, len(values))), bootstrap_weights(len(values), replicates, rng)])
    cdf = [_distribution(values[:, t], alive[:, t], weights, grid) for t in range(values.shape[1])]
    spread = _spread(_samples(values, alive)[first - 1 : last], reference)
    late = _mean_of_known(np.stack(cdf[first - 1 : last]))
    spreads = spread * _relative_spreads(late, grid)
    distance, by_chance = np.empty((len(cdf), replicates + 1)), np.empty((len(cdf), replicates))
    for t, of_epoch in enumerate(cdf):  # one epoch fits the cache, all together would not
        difference = of_epoch - late
        noise = difference[1:] - difference[:1]
        if kind == "wasserstein":
            distance[t], by_chance[t] = _area(np.abs(difference), grid) / spreads, _area(np.abs(noise), grid) / spread
        else:
            distance[t], by_chance[t] = np.abs(difference).max(axis=-1), np.abs(noise).max(axis=-1)
    chance = _mean_of_known(by_chance.T**2)
    # A resample has its own noise on top of that of the data.
    resampled = _signed_root(distance[:, 1:] ** 2 - 2 * chance[:, None])
    corrected = _signed_root(distance[:, 0] ** 2 - chance)
    enough = alive.sum(axis=0) >= 2
    corrected[~enough] = np.nan
    lower, upper = np.full((2, len(enough)), np.nan)
    # Resamples without a survivor know nothing and do not count.
    lower[enough], upper[enough] = np.nanquantile(resampled[enough], [0.025, 0.975], axis=1)
    outside = np.flatnonzero((lower > tolerance)[:last] & (alive.sum(axis=0) >= MINIMUM_SURVIVORS)[:last])
    settled = int(outside[-1]) + 1 if len(outside) else 0
    epochs = [_relaxation(resampled[:, b], tolerance, settled, last) for b in range(replicates)]
    low, high = percentile_interval([np.inf if e is None else e for e in epochs])
    return Stationarity(
        epochs=np.arange(1, values.shape[1] + 1),
        distance=corrected,
        low=lower,
        high=upper,
        kind=kind,
        reference=(first, last),
        tolerance=tolerance,
        relaxation_epoch=_relaxation(corrected, tolerance, settled, last),
        relaxation_interval=(_whole(low), _whole(high)),
    )


def distance_to(
    values: Floats,
    first_passages: FirstPassages,
    reference_values: Floats,
    reference_passages: FirstPassages,
    *,
    reference: tuple[int, int],
) -> Floats:
    """Wasserstein distance of one ensemble's survivors, epoch by epoch, from the late distribution of another's.

    Tells how long perturbed runs take to look like the unperturbed quasi-steady state again. In units of the
    reference's standard deviation. As in ``stationarity`` the squared distance that chance contributes is subtracted
    from the square and the root keeps the sign. Here it is that of n independent samples of the reference F, whose mean
    is the integral of sqrt(2 F (1 - F) / (pi n)).

    Args:
        values: collective variable of the ensemble in question, shape (m, F).
        first_passages: of its runs.
        reference_values: collective variable of the reference ensemble, shape (n, H).
        reference_passages: of its runs.
        reference: (first, last) epoch of the reference.

    Returns:
        Shape (F,); negative where it is smaller than by chance, nan where nobody survives.

    Raises:
        ValueError: for a reference out of range or without survivors, or shapes that do not fit.

    Reference: Derived for jostle; see docs/decisions/002-three-predictors.md
    """
    alive, reference_alive = survivors(values, first_passages), survivors(reference_values, reference_passages)
    first, last = _checked_reference(reference, reference_alive)
    late = _samples(reference_values, reference_alive)[first - 1 : last]
    spread = _spread(late, reference)
    grid = np.unique(np.concatenate([*late, values[alive]]))
    target = _mean_of_steps(late, grid)
    squared = np.full(values.shape[1], np.nan)
    for t, sample in enumerate(_samples(values, alive)):
        if len(sample):
            by_chance = np.sqrt(2 * target * (1 - target) / (np.pi * len(sample)))
            squared[t] = _area(np.abs(_steps(sample, grid) - target), grid) ** 2 - _area(by_chance, grid) ** 2
    return _signed_root(squared) / spread


def kolmogorov_smirnov_p_values(values: Floats, first_passages: FirstPassages, *, reference: tuple[int, int]) -> Floats:
    """p-value of a one-sample KS test of each epoch's survivors against the mean distribution of the reference epochs.

    For reproduction only: sample and reference overlap and are correlated in time, so these are not calibrated.

    Args:
        values: collective variable, shape (n, H).
        first_passages: of the same runs.
        reference: (first, last) epoch of the reference.

    Returns:
        Shape (H,); nan where no run survives.

    Raises:
        ValueError: for a reference out of range or without survivors.

    Reference: [meir2025] arXiv 2502.04121 v1, section III B
    """
    from scipy.special import kolmogorov

    alive = survivors(values, first_passages)
    first, last = _checked_reference(reference, alive)
    grid, samples = np.unique(values[alive]), _samples(values, alive)
    late = _mean_of_steps(samples[first - 1 : last], grid)
    statistic = [np.abs(_steps(sample, grid) - late).max() if len(sample) else np.nan for sample in samples]
    return kolmogorov(np.sqrt(alive.sum(axis=0)) * statistic)


def kolmogorov_smirnov_relaxation(
    values: Floats, first_passages: FirstPassages, *, reference: tuple[int, int]
) -> int | None:
    """The first epoch with p > 0.05, the published definition of the relaxation time.

    Args:
        values: collective variable, shape (n, H).
        first_passages: of the same runs.
        reference: (first, last) epoch of the reference.

    Returns:
        The epoch, or None. 1-based: one more than the 0-based numbers in the paper.

    Raises:
        ValueError: for a reference out of range or without survivors.

    Reference: [meir2025] arXiv 2502.04121 v1, section III B
    """
    relaxed = kolmogorov_smirnov_p_values(values, first_passages, reference=reference) > 0.05
    return int(relaxed.argmax()) + 1 if relaxed.any() else None


def _checked_reference(reference: tuple[int, int], alive: npt.NDArray[np.bool_]) -> tuple[int, int]:
    first, last = reference
    if not 1 <= first <= last <= alive.shape[1]:
        raise ValueError(f"reference={reference} must be two epochs between 1 and {alive.shape[1]}, in order")
    first, last = whole_number("reference", first, 1), whole_number("reference", last, 1)
    if alive[:, first - 1 : last].sum(axis=0).max() < 2:
        raise ValueError(f"fewer than two runs survive epochs {first} to {last}: there is no reference distribution")
    return first, last


def _grid(values: Floats, alive: npt.NDArray[np.bool_], first: int, last: int) -> Floats:
    """Points at which distribution functions are compared: all values taken, or quantiles if these are many.

    Accuracies rise through a range a hundred times as wide as that in which they stay. So most points belong to the
    reference epochs, dense at its ends, and the others span all values.
    """
    points = np.unique(values[alive])
    if len(points) <= GRID_POINTS:
        return points
    late = values[:, first - 1 : last][alive[:, first - 1 : last]]
    levels = (1 - np.cos(np.linspace(0, np.pi, 3 * GRID_POINTS // 5))) / 2
    wide = np.quantile(points, np.linspace(0, 1, 2 * GRID_POINTS // 5))
    return np.unique(np.concatenate([np.quantile(late, levels), wide]))


def _distribution(values: Floats, alive: npt.NDArray[np.bool_], weights: npt.NDArray, grid: Floats) -> Floats:
    """Distribution function of the survivors on the grid for every weighting of the runs, shape (B, G)."""
    if not alive.any():
        return np.full((len(weights), len(grid)), np.nan)
    w = weights[:, alive].astype(np.float32)  # counts: exact, and twice as fast
    below = (values[alive, None] <= grid).astype(np.float32)
    total = w.sum(axis=1, dtype=np.float64)[:, None]
    return np.divide(w @ below, total, out=np.full((len(w), len(grid)), np.nan), where=total > 0)


def _samples(values: Floats, alive: npt.NDArray[np.bool_]) -> list[Floats]:
    """The survivors' values after each epoch, sorted."""
    return [np.sort(values[alive[:, t], t]) for t in range(values.shape[1])]


def _steps(sample: Floats, at: Floats) -> Floats:
    """Distribution function of a sorted sample."""
    return np.searchsorted(sample, at, side="right") / len(sample)


def _mean_of_steps(samples: list[Floats], at: Floats) -> Floats:
    """Mean of the distribution functions of the samples that are not empty."""
    known = [sample for sample in samples if len(sample)]
    total = np.zeros(len(at))
    for sample in known:  # not all at once: the points may be as many as all values
        total += _steps(sample, at)
    return total / len(known)


def _spread(samples: list[Floats], reference: tuple[int, int]) -> float:
    """Standard deviation of the mean of their distributions."""
    known = [sample for sample in samples if len(sample)]
    mean = np.mean([sample.mean() for sample in known])
    spread = float(np.sqrt(np.mean([((sample - mean) ** 2).mean() for sample in known])))
    if spread <= 1e-12 * abs(mean):
        first, last = reference
        raise ValueError(f"all survivors of epochs {first} to {last} have one value: there is no scale to compare with")
    return spread


def _relative_spreads(cdf: Floats, grid: Floats) -> Floats:
    """Standard deviations of several distributions in units of the first; nan for one at a single point."""
    mass, centred = np.diff(cdf, prepend=0.0, axis=-1), grid - grid.mean()
    variance = mass @ centred**2 - (mass @ centred) ** 2
    if variance[0] <= 0:  # all between two points of the grid
        return np.ones(len(variance))
    return np.sqrt(np.where(variance > 1e-12 * variance[0], variance / variance[0], np.nan))


def _mean_of_known(x: Floats) -> Floats:
    """Mean over the first axis of what is not nan; nan where nothing is left."""
    known = ~np.isnan(x)
    count = known.sum(axis=0)
    return np.divide(np.where(known, x, 0).sum(axis=0), count, out=np.full(x.shape[1:], np.nan), where=count > 0)


def _area(height: Floats, grid: Floats) -> Floats:
    """Integral over the grid of a step function on the last axis."""
    return height[..., :-1] @ np.diff(grid)


def _signed_root(x: Floats) -> Floats:
    return np.sign(x) * np.sqrt(np.abs(x))


def _relaxation(distance: Floats, tolerance: float, settled: int, last: int) -> int | None:
    """First epoch after ``settled`` with a distance within the tolerance."""
    within = np.flatnonzero(distance[settled:last] <= tolerance)
    return settled + int(within[0]) + 1 if len(within) else None


def _whole(epoch: float) -> int | None:
    return int(epoch) if np.isfinite(epoch) else None
