"""A diffusing coordinate on a grid: dx = -U'(x) dt + sqrt(2 D) dW as a Markov chain, to which any perturbation applies.

``grid_chain`` is watched at the ends of epochs only, as training is, and gives a theory.markov_chain.Chain.
``generator`` is watched at all times, and gives a theory.continuous_chain.ContinuousChain; its unperturbed moments are
those of theory.escape.

Rates between neighbouring cells are exponentially fitted: exact for a force that is constant between two centres,

    rate(i -> j) = (D / h^2) B((U_j - U_i) / D),   B(z) = z / (e^z - 1),

so that they obey detailed balance whatever the cell size h, and are never negative.

Reference: [scharfetter1969], [wang2003]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from theory.absorbing import Floats, whole_number
from theory.continuous_chain import ContinuousChain
from theory.law_arguments import LARGEST, positive
from theory.markov_chain import Chain
from theory.potentials import Potential

MOST_MOVES = 1e12
"""Expected moves in an epoch; rounding adds up to about this times 1e-15."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of a coordinate x, and perturbations of x as kernels on them.

    Attributes:
        centres: x of the cells, ascending, equally spaced, shape (n,).
        fresh_deviation: standard deviation of a fresh draw of shrink-and-perturb.
    """

    centres: Floats
    fresh_deviation: float

    def shrink_and_perturb(self, shrink: float, perturb: float) -> Floats:
        """The kernel of x -> shrink x + perturb xi, with xi normal of mean zero and ``fresh_deviation``.

        The first and last cell take what lands beyond them.

        Args:
            shrink: factor of the state; 1 keeps it.
            perturb: factor of the fresh draw; above 0.

        Returns:
            K, shape (n, n).

        Raises:
            ValueError: if perturb, or the deviation of a fresh draw, is not above 0.

        Reference: [ashadams2020]
        """
        if not perturb * self.fresh_deviation > 0:
            raise ValueError(
                f"perturb={perturb} must be > 0, and so must the deviation {self.fresh_deviation} of a fresh draw; "
                "without noise the map is partial_reset"
            )
        return gaussian_cells(self.centres, shrink * self.centres, perturb * self.fresh_deviation)

    def partial_reset(self, fraction: float) -> Floats:
        """The kernel of x -> fraction x; what lands between two centres is split so that its mean is exact.

        The split widens by at most h / 2, which matters for fractions near 1 only.

        Args:
            fraction: a in [0, 1]; 0 is a full reset to x = 0, 1 changes nothing.

        Returns:
            K, shape (n, n).

        Raises:
            ValueError: for a fraction outside [0, 1], or one that moves x out of the grid.

        Reference: [talfriedman2022]
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction={fraction} must be in [0, 1]")
        return point_cells(self.centres, fraction * self.centres)


@dataclass(frozen=True, eq=False)
class GridChain(Grid):
    """A coordinate on a grid that is watched at the ends of epochs.

    A full reset is ``theory.markov_chain.restart_kernel(grid.chain)``.

    Attributes:
        chain: the chain; a state is a cell. Those of the target take part: a perturbation may land there.
    """

    chain: Chain


@dataclass(frozen=True, eq=False)
class GridGenerator(Grid):
    """A coordinate on a grid between a wall and a target that is watched at all times.

    Attributes:
        chain: the chain in continuous time; a state is a cell.
    """

    chain: ContinuousChain


@dataclass(frozen=True)
class Refinement:
    """A quantity on two grids, with an error of second order in the cell size.

    Attributes:
        coarse: on n cells.
        fine: on 2 n cells.
        extrapolated: (4 fine - coarse) / 3; what it differs from ``fine`` is the error of ``fine``.
    """

    coarse: float
    fine: float
    extrapolated: float


def grid_chain(
    potential: Potential,
    *,
    diffusivity: float,
    epoch: float,
    limits: tuple[float, float],
    cells: int,
    initial_mean: float,
    initial_deviation: float,
    target: float,
    time_step: float | None = None,
) -> GridChain:
    """The chain of one epoch, watched at its end.

    With a time step, the Euler-Maruyama process x' = x - U'(x) dt + sqrt(2 D dt) N(0, 1): each step spreads the
    probability of a cell from its centre, and what leaves the grid stays in its last cell. Without one, the diffusion
    itself: e^{L epoch} with the exponentially fitted rates L, and walls at the limits. A run may go beyond the target
    and return within an epoch: the limits have to be far on that side, too.

    The error is of second order in the cell size if the target is an edge of cells on all the grids. Where steps are
    shorter than h, perturbed means settle on a coarser grid than E[T], which depends on the barrier exponentially.

    Args:
        potential: U, defined between the limits.
        diffusivity: D > 0.
        epoch: duration of an epoch [time].
        limits: lowest and highest edge of the grid.
        cells: number of cells, >= 2.
        initial_mean: of the normal initial law.
        initial_deviation: of the initial law, and of fresh draws of shrink-and-perturb; 0 for a point.
        target: met by cells whose centre is there or beyond, as seen from ``initial_mean``.
        time_step: dt, a whole fraction of the epoch; None for the limit dt -> 0.

    Returns:
        The chain on its grid.

    Raises:
        ValueError: for parameters out of range, a target outside the grid, or a potential undefined on it.

    Example:
        >>> from theory.markov_chain import mean_first_passage_time
        >>> from theory.potentials import harmonic
        >>> well = grid_chain(
        ...     harmonic(), diffusivity=1.0, epoch=0.1, limits=(-5.0, 3.0), cells=80, initial_mean=0.0,
        ...     initial_deviation=0.0, target=1.0,
        ... )
        >>> round(0.1 * mean_first_passage_time(well.chain), 2)  # 2.09 if watched at all times
        3.22
    """
    positive("diffusivity", diffusivity)
    positive("epoch", epoch)
    low, high = limits
    if not (low < target < high and low <= initial_mean <= high and target != initial_mean):
        raise ValueError(
            f"target={target} and initial_mean={initial_mean} must differ, and lie between the limits {low} and {high}"
        )
    centres = _centres(low, high, cells)
    initial = _initial_law(centres, initial_mean, initial_deviation)
    if time_step is None:
        kernel = _propagator(*_rates(potential, diffusivity, centres), epoch)
    else:
        positive("time_step", time_step)
        steps = round(epoch / time_step)
        if steps < 1 or abs(steps * time_step / epoch - 1) > 1e-9:
            raise ValueError(f"time_step={time_step} must divide epoch={epoch}")
        means = centres + time_step * potential.force(centres)
        step = gaussian_cells(centres, means, _step_deviation(diffusivity, time_step, centres))
        kernel = np.linalg.matrix_power(step, steps)
    is_target = centres >= target if target > initial_mean else centres <= target
    return GridChain(centres, initial_deviation, Chain.from_kernel(kernel, is_target, initial))


def generator(
    potential: Potential,
    *,
    diffusivity: float,
    reflecting: float,
    target: float,
    cells: int,
    initial_mean: float,
    initial_deviation: float = 0.0,
) -> GridGenerator:
    """The diffusion between a reflecting wall and an absorbing target, in continuous time.

    Moments have an error of second order in the cell size. One more cell, beyond the target, takes what starts or is
    perturbed to there; it is left to the target at the fastest of all rates.

    Args:
        potential: U, defined from the wall to the target.
        diffusivity: D > 0.
        reflecting: the wall; far enough that it is not reached if there is none.
        target: on either side of the wall.
        cells: number of cells between them, >= 2.
        initial_mean: of the normal initial law, between the wall and the target.
        initial_deviation: of the initial law, and of fresh draws of shrink-and-perturb; 0 for a point.

    Returns:
        The chain on its grid.

    Raises:
        ValueError: for parameters out of range, or a potential undefined on the grid.

    Example:
        >>> from theory.continuous_chain import moment
        >>> from theory.potentials import linear
        >>> free = generator(linear(0.0), diffusivity=1.0, reflecting=0.0, target=1.0, cells=50, initial_mean=0.0)
        >>> round(moment(free.chain, 1), 3)  # L^2 / 2 D
        0.5
    """
    positive("diffusivity", diffusivity)
    low, high = min(reflecting, target), max(reflecting, target)
    if not (low < high and low <= initial_mean <= high):
        raise ValueError(f"initial_mean={initial_mean} must lie between reflecting={reflecting} and target={target}")
    centres = _centres(low, high, cells)
    up, down = _rates(potential, diffusivity, centres)
    # The target is half a cell from the last centre.
    width = centres[1] - centres[0]
    last, beyond, width = (-1, cells, width) if target > reflecting else (0, 0, -width)
    rise = np.atleast_1d(potential.value(target) - potential.value(centres[last])) / diffusivity
    exits = np.zeros(cells)
    exits[last] = 2 * _cell_rate(diffusivity, centres) * _bernoulli(rise)[0]
    rates = np.diag(up, 1) + np.diag(down, -1)
    leave = rates.sum(axis=1) + exits
    rates = np.insert(np.insert(rates - np.diag(leave), beyond, 0, axis=0), beyond, 0, axis=1)
    rates[beyond, beyond] = -leave.max()
    centres = np.insert(centres, beyond, centres[last] + width)
    initial = _initial_law(centres, initial_mean, initial_deviation)
    return GridGenerator(centres, initial_deviation, ContinuousChain(rates, initial))


def refine(quantity: Callable[[int], float], cells: int) -> Refinement:
    """A quantity on n and 2 n cells, and its extrapolation to h = 0.

    Right where the error is of second order: for moments of ``generator``, if the start is an edge of both grids, or
    the start is not a point.

    Args:
        quantity: of the number of cells.
        cells: n.

    Returns:
        Both values and the extrapolated one.

    Example:
        >>> refine(lambda cells: 2 + 8 / cells**2, 2)
        Refinement(coarse=4.0, fine=2.5, extrapolated=2.0)
    """
    coarse, fine = quantity(cells), quantity(2 * cells)
    return Refinement(coarse, fine, (4 * fine - coarse) / 3)


# ---- Laws on a grid --------------------------------------------------------------------------------------------------


def gaussian_cells(centres: Floats, means: Floats, deviation: float) -> Floats:
    """Probability of each cell under normal laws; the first and last cell take the tails.

    Args:
        centres: of the cells, equally spaced, shape (n,).
        means: shape (m,).
        deviation: standard deviation of all laws, > 0.

    Returns:
        Shape (m, n).
    """
    from scipy.special import ndtr

    edges = (centres[1:] + centres[:-1]) / 2
    below = ndtr((edges - np.asarray(means)[:, None]) / deviation)
    return np.diff(below, axis=1, prepend=0.0, append=1.0)


def point_cells(centres: Floats, positions: Floats) -> Floats:
    """Points as laws on the grid, each split between the two nearest cells so that its mean is exact.

    Args:
        centres: of the cells, equally spaced, shape (n,).
        positions: shape (m,); within half a cell of the first or last centre they belong to it as a whole.

    Returns:
        Shape (m, n).

    Raises:
        ValueError: for a position outside the grid.

    Example:
        >>> point_cells(np.array([0.0, 1.0, 2.0]), np.array([0.25, 2.5])).tolist()
        [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]
    """
    places = (np.asarray(positions) - centres[0]) / (centres[1] - centres[0])
    outside = (places < -0.5 - 1e-9) | (places > len(centres) - 0.5 + 1e-9)
    if outside.any():
        raise ValueError(f"x={np.asarray(positions)[outside][0]} is outside the grid {centres[0]} to {centres[-1]}")
    places = np.clip(places, 0, len(centres) - 1)
    lower = np.minimum(places.astype(int), len(centres) - 2)
    result = np.zeros((len(places), len(centres)))
    rows = np.arange(len(places))
    result[rows, lower] = 1 - (places - lower)
    result[rows, lower + 1] = places - lower
    return result


def _initial_law(centres: Floats, mean: float, deviation: float) -> Floats:
    if not (deviation >= 0 and math.isfinite(deviation)):
        raise ValueError(f"initial_deviation={deviation} must be finite and >= 0")
    position = np.array([mean])
    return (point_cells(centres, position) if deviation == 0 else gaussian_cells(centres, position, deviation))[0]


# ---- Rates and the propagator ----------------------------------------------------------------------------------------


def _centres(low: float, high: float, cells: int) -> Floats:
    if not max(abs(low), abs(high)) <= LARGEST:
        raise ValueError(f"limits {low} and {high} must be at most {LARGEST:g} in size; choose other units")
    edges = np.linspace(low, high, whole_number("cells", cells, 2) + 1)
    return (edges[1:] + edges[:-1]) / 2


def _rates(potential: Potential, diffusivity: float, centres: Floats) -> tuple[Floats, Floats]:
    """Rates i -> i + 1 and i + 1 -> i, shape (n - 1,) each."""
    rise = np.diff(potential.value(centres)) / diffusivity
    rate = _cell_rate(diffusivity, centres)
    return rate * _bernoulli(rise), rate * _bernoulli(-rise)


def _step_deviation(diffusivity: float, time_step: float, centres: Floats) -> float:
    """Of the normal law of a time step, before its numbers are rounded to centres.

    Rounding adds h^2 / 12 to the variance at every step (Sheppard), as if D were larger, which a barrier magnifies: to
    6 % of E[T] for trap_with_barrier on 400 cells. Taken off, it is 0.004 %. Steps shorter than h are left as they are.
    """
    variance, width = 2 * diffusivity * time_step, float(centres[1] - centres[0])
    return math.sqrt(variance - width**2 / 12 if variance >= width**2 else variance)


def _cell_rate(diffusivity: float, centres: Floats) -> float:
    return diffusivity / float(centres[1] - centres[0]) ** 2


def _bernoulli(z: Floats) -> Floats:
    """B(z) = z / (e^z - 1)."""
    with np.errstate(over="ignore"):
        return np.divide(z, np.expm1(z), out=np.ones_like(z), where=z != 0)


def _propagator(up: Floats, down: Floats, time: float) -> Floats:
    """e^{L time} of a chain that moves to neighbours only, by sums and products of nonnegative numbers.

    As in theory.continuous_chain: the chain jumps at the events of a Poisson process; a short stretch is doubled.
    """
    leave = np.append(up, 0.0) + np.append(0.0, down)
    fastest = max(float(leave.max()), 1 / time)
    if not fastest * time <= MOST_MOVES:
        raise ValueError(
            f"epoch={time:g} holds {fastest * time:.3g} moves between cells where they are fastest, more than "
            f"{MOST_MOVES:g}: take a shorter epoch, fewer cells, or limits where the potential is less steep"
        )
    doublings = max(math.ceil(math.log2(16 * fastest * time)), 0)
    mean = fastest * time / 2**doublings  # at most 1 / 16: beyond 12 events there is less than 1e-25
    stay = 1 - leave / fastest
    power, result = np.eye(len(leave)), np.zeros((len(leave), len(leave)))
    for events in range(13):
        result += math.exp(-mean) * mean**events / math.factorial(events) * power
        moved = power * stay
        moved[:, 1:] += power[:, :-1] * (up / fastest)
        moved[:, :-1] += power[:, 1:] * (down / fastest)
        power = moved
    for _ in range(doublings):
        result = result @ result
    return result
