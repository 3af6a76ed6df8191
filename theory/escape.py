"""Mean first-passage times in any one-dimensional potential, dx = -U'(x) dt + sqrt(2 D) dW, watched continuously.

With the target b above the start x and the far end r below it (a reflecting wall, or where the potential ends),

    E[T]   = (1/D) int_x^b dy e^{U(y)/D} int_r^y dz e^{-U(z)/D}
    E[T^2] = (2/D) int_x^b dy e^{U(y)/D} int_r^y dz e^{-U(z)/D} E_z[T],

and the mirror image for a target below. All integrands are positive, and are kept as logarithms, so that barriers of
hundreds of D cost no digits. Towards an end that is not a regular point (infinity, or an edge of the domain) panels
grow or shrink geometrically, and what is beyond the last follows from the exponent of the integrand there, which also
decides whether the integral is finite. Relative errors are below 1e-9, as the tests show.

Wells are found if they are wider than about a hundredth of their distance from the start, and are not behind a barrier
of more than 700 D.

Reference: [pontryagin1933], [siegert1951]
"""

import math
from dataclasses import dataclass

import numpy as np

from theory.absorbing import Floats
from theory.log_quadrature import Height, Mesh, resolve
from theory.potentials import Potential

CLOSEST = 1e-100
"""A start so close to the target counts as there."""

NEGLIGIBLE = 200.0
"""The mesh begins where U/D is this much above its minimum; if U confines weakly, there is still something beyond."""

TAIL = 40.0
"""The exponent of the integrand at infinity is taken over the last such rise of U/D."""

HIGHEST_BARRIER = 700.0
"""Nobody looks for wells behind a barrier of this many D."""

OVERFLOW = 1500.0
"""A barrier of this many D in front of the target takes longer than the largest float, however thin it is."""

FARTHEST = 1e150

EDGE_OCTAVES = 70
"""Panels towards an edge of the domain, each half as wide: to 1e-21 of the distance."""


@dataclass(frozen=True)
class IntervalExit:
    """First passage out of an interval whose two ends absorb.

    Attributes:
        mean: E[T].
        second_moment: E[T^2].
        upper_probability: of leaving through the upper end.
    """

    mean: float
    second_moment: float
    upper_probability: float


def mean_escape_time(
    potential: Potential, *, diffusivity: float, start: float, target: float, reflecting: float | None = None
) -> float:
    """E[T] from the start to the target, by the double integral above.

    Args:
        potential: U.
        diffusivity: D > 0.
        start: x, inside the domain of the potential.
        target: b, on either side of the start; it may be an edge of the domain.
        reflecting: r, a reflecting wall on the other side of the start; by default there is none, and an edge of the
            domain reflects if it can be reached.

    Returns:
        [time]; ``inf`` if the potential does not confine on the side away from the target, if the target cannot be
        reached, or if the time exceeds the largest float.

    Raises:
        ValueError: for a diffusivity that is not above 0, positions out of order or outside the domain, and a
            potential that is not smooth enough or too steep for quadrature.

    Example:
        >>> from theory.potentials import harmonic, linear
        >>> round(mean_escape_time(harmonic(), diffusivity=1.0, start=0.0, target=1.0), 12)
        2.093406649678
        >>> mean_escape_time(linear(drift=-1.0), diffusivity=1.0, start=0.0, target=1.0)
        inf
    """
    return _first_passage(potential, diffusivity, start, target, reflecting, moments=1)[0]


def second_moment(
    potential: Potential, *, diffusivity: float, start: float, target: float, reflecting: float | None = None
) -> float:
    """E[T^2] from the start to the target.

    Args:
        potential: U.
        diffusivity: D > 0.
        start: x, inside the domain of the potential.
        target: b, on either side of the start; it may be an edge of the domain.
        reflecting: r, a reflecting wall on the other side of the start.

    Returns:
        [time^2], possibly ``inf``: also with a finite mean, if the potential confines weakly.

    Raises:
        ValueError: as for ``mean_escape_time``.

    Example:
        >>> from theory.potentials import linear
        >>> round(second_moment(linear(), diffusivity=1.0, start=0.0, target=1.0), 12)  # 1 / v^2 + 2 D / v^3
        3.0
    """
    return _first_passage(potential, diffusivity, start, target, reflecting, moments=2)[1]


def interval_exit(
    potential: Potential, *, diffusivity: float, start: float, lower: float, upper: float
) -> IntervalExit:
    """First passage out of an interval, both ends absorbing.

    With S(p, q) = int_p^q e^{U/D} and u(z) = S(lower, z) / S(lower, upper), the probability of leaving above,

        D E_x[T] = (1 - u(x)) int_lower^x e^{-U(z)/D} S(lower, z) dz + u(x) int_x^upper e^{-U(z)/D} S(z, upper) dz,

    and E[T^2] is twice the same with the additional factor E_z[T].

    Args:
        potential: U.
        diffusivity: D > 0.
        start: x, between the ends.
        lower: end of the interval, inside the domain.
        upper: the other end.

    Returns:
        Moments and the splitting probability; ``inf`` where a moment exceeds the largest float.

    Raises:
        ValueError: for a diffusivity that is not above 0, positions out of order or outside the domain, and a
            potential that is not smooth enough or too steep for quadrature.

    Example:
        >>> from theory.potentials import linear
        >>> free = interval_exit(linear(drift=0.0), diffusivity=1.0, start=0.25, lower=0.0, upper=1.0)
        >>> round(free.mean, 12), round(free.upper_probability, 12)  # x (1 - x) / 2 D
        (0.09375, 0.25)
    """
    _check_diffusivity(diffusivity)
    start, lower, upper = float(start), float(lower), float(upper)  # numpy's short floats overflow sooner
    if not (lower <= start <= upper and lower < upper):
        raise ValueError(f"start={start} must lie between lower={lower} and upper={upper}, and these must differ")
    height = _height(potential, diffusivity, 1.0)
    height(np.array([lower, upper]))  # both inside the domain
    if start in (lower, upper):
        return IntervalExit(0.0, 0.0, float(start == upper))
    mesh = resolve(height, np.concatenate([_evenly(lower, start), _evenly(start, upper)[1:]]))
    at_start = mesh.edge(start)
    # Logs of S(lower, z) and of S(z, upper).
    below, above = mesh.integral_up_to(mesh.heights), mesh.integral_from(mesh.heights)
    total = below.edges[-1]

    def occupation(log_weight: Floats) -> tuple[Floats, float]:
        """Log of D times the expected integral of a weight until the exit: from all nodes, and from the start."""
        low = mesh.integral_up_to(log_weight - mesh.heights + below.nodes)
        high = mesh.integral_from(log_weight - mesh.heights + above.nodes)
        nodes = np.logaddexp(above.nodes + low.nodes, below.nodes + high.nodes) - total
        edges = np.logaddexp(above.edges + low.edges, below.edges + high.edges) - total
        return nodes, float(edges[at_start])

    log_means, log_mean = occupation(np.zeros_like(mesh.heights))
    _, log_half_square = occupation(log_means)
    log_rate = math.log(diffusivity)
    return IntervalExit(
        _exponential(log_mean - log_rate),
        _exponential(log_half_square + math.log(2) - 2 * log_rate),
        _exponential(float(below.edges[at_start] - total)),
    )


def _first_passage(
    potential: Potential, diffusivity: float, start: float, target: float, reflecting: float | None, *, moments: int
) -> list[float]:
    """E[T] and, if two moments are wanted, E[T^2]."""
    _check_diffusivity(diffusivity)
    start, target = float(start), float(target)
    low, high = potential.domain
    if not (low < start < high and low <= target <= high and math.isfinite(target)):
        raise ValueError(f"start={start} and target={target} must be finite and in the domain {low} < x < {high}")
    # Mirrored if necessary, so that the target is above the start.
    sign = 1.0 if target >= start else -1.0
    if reflecting is not None and not (sign * reflecting <= sign * start and low < reflecting < high):
        raise ValueError(
            f"reflecting={reflecting} must lie inside the domain {low} < x < {high}, on the side of start={start} that "
            f"is away from target={target}"
        )
    if abs(float(target) - float(start)) < CLOSEST:
        return [0.0] * moments
    height = _height(potential, diffusivity, sign)
    begin, end = sign * float(start), sign * float(target)
    if reflecting is None:
        far = _far_end(height, begin, sign * (low if sign > 0 else high), end - begin)
    else:
        far = _End(_evenly(sign * reflecting, begin), None)
    near = _target_at_edge(height, begin, end) if target in (low, high) else _End(_evenly(begin, end), None)
    if far is None or near is None:
        return [math.inf] * moments
    mesh = resolve(height, np.concatenate([far.panels, near.panels[1:]]))

    results: list[float] = []
    log_weight = np.zeros_like(mesh.heights)
    for order in range(1, moments + 1):
        # Log of e^{U(y)/D} int_r^y e^{-U(z)/D} weight dz at all nodes y, and of its integral from there to the target.
        log_inner = log_weight - mesh.heights
        before = _beyond_far_end(mesh, log_inner, far, begin)
        if before == math.inf:
            return results + [math.inf] * (moments - len(results))
        log_outer = mesh.heights + mesh.integral_up_to(log_inner, before).nodes
        remaining = mesh.integral_from(log_outer, _beyond_target(mesh, log_outer, near))
        log_moment = float(remaining.edges[mesh.edge(begin)]) + math.log(order) - order * math.log(diffusivity)
        results.append(_exponential(log_moment))
        log_weight = remaining.nodes
        if log_moment == math.inf:
            return results + [math.inf] * (moments - len(results))
    return results


# ---- The ends of the integrals ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _End:
    """Edges of panels, ascending, and the position (or -inf) that they approach if it is not a regular point."""

    panels: Floats
    approached: float | None


def _evenly(low: float, high: float) -> Floats:
    return np.linspace(low, high, 65) if low < high else np.array([high])


def _march(height: Height, begin: float, edge: float, scale: float, highest: float) -> tuple[Floats, Floats]:
    """Positions from begin on to an edge of the domain, or to -inf, and U/D there; 32 to an octave of the distance.

    Ends where an octave is higher than the lowest value by ``highest``.
    """
    fractions = np.arange(1, 33) / 32
    if math.isinf(edge):
        octaves = int(math.log2(FARTHEST / scale))
    else:  # not farther than floats can tell a position from the edge
        octaves = EDGE_OCTAVES if edge == 0 else min(EDGE_OCTAVES, max(8, 30 + round(math.log2(abs(begin / edge - 1)))))
    points, heights = np.array([begin]), height(np.array([begin]))
    for octave in range(octaves):
        if math.isinf(edge):
            new = begin - scale * (2.0**octave * (1 + fractions) - 1)
        else:
            new = edge + (begin - edge) * 2.0 ** -(octave + fractions)
        try:
            values = height(new)
        except ValueError:
            if heights[-1] < heights[0] - highest:  # U itself overflows on its way down
                break
            raise
        points, heights = np.append(points, new), np.append(heights, values)
        if values.min() > heights.min() + highest:
            break
    return points, heights


def _far_end(height: Height, begin: float, edge: float, scale: float) -> _End | None:
    """From the far end to begin; None if the potential does not confine there."""
    points, heights = _march(height, begin, edge, scale, HIGHEST_BARRIER)
    limit = heights.min() + NEGLIGIBLE
    last = int(np.flatnonzero(heights <= limit)[-1])
    if math.isinf(edge):
        # U0 ln x with U0 > D, the weakest that confines, would have been above the limit for long, unlike a cosine.
        if heights[-32:].min() <= heights.min() + HIGHEST_BARRIER and len(points) - last < 8 * 32:
            return None
    elif last == len(points) - 1:
        return _End(np.unique(points[::4]), edge)
    inside, outside = float(points[last]), float(points[last + 1])
    for _ in range(60):
        middle = (inside + outside) / 2
        if height(np.array([middle]))[0] <= limit:
            inside = middle
        else:
            outside = middle
    return _End(np.unique(np.append(points[: last + 1 : 4], inside)), edge if math.isinf(edge) else None)


def _target_at_edge(height: Height, begin: float, end: float) -> _End | None:
    """From begin to a target at the edge of the domain; None if a wall is in front of it."""
    points, heights = _march(height, begin, end, end - begin, OVERFLOW)
    return None if heights[-1] > heights.min() + OVERFLOW else _End(np.unique(points[::4]), end)


def _beyond_far_end(mesh: Mesh, logs: Floats, far: _End, begin: float) -> float:
    """Log of the integral beyond the mesh on the far side."""
    if far.approached is None:
        return -math.inf
    nodes, logs = mesh.nodes.ravel(), logs.ravel()
    if math.isfinite(far.approached):
        return _tail(nodes - far.approached, logs, mesh.edges[0] - far.approached, toward_zero=True)
    inner = int(np.argmax(mesh.heights.ravel() < mesh.heights[0, 0] - TAIL))
    return _tail(begin - nodes[[0, inner]], logs[[0, inner]], begin - mesh.edges[0], toward_zero=False)


def _beyond_target(mesh: Mesh, logs: Floats, near: _End) -> float:
    """Log of the integral between the mesh and a target at the edge of the domain."""
    if near.approached is None:
        return -math.inf
    distances = near.approached - mesh.nodes.ravel()[::-1]
    return _tail(distances, logs.ravel()[::-1], near.approached - mesh.edges[-1], toward_zero=True)


def _tail(distances: Floats, logs: Floats, last: float, *, toward_zero: bool) -> float:
    """Log of the integral beyond the last distance, of an integrand that is a power of the distance there.

    int_0^s u^p du = s s^p / (1 + p), and int_s^inf u^p du = s s^p / (-1 - p). By Karamata's theorem this holds for
    large or small s also if the power is multiplied by what varies slowly, such as a logarithm. The exponent p is a
    secant: between the first distance and one 64 times as far, or the last given.
    """
    other = int(np.argmax(distances > 64 * distances[0])) if toward_zero else -1
    exponent = (logs[other] - logs[0]) / math.log(distances[other] / distances[0])
    decay = 1 + exponent if toward_zero else -1 - exponent
    if decay < 1e-9:
        return math.inf
    return float(logs[0] + exponent * math.log(last / distances[0]) + math.log(last / decay))


# ---- Small helpers ---------------------------------------------------------------------------------------------------


def _height(potential: Potential, diffusivity: float, sign: float) -> Height:
    """U/D, mirrored if sign is -1."""

    def height(x: Floats) -> Floats:
        value = potential.value(sign * x)
        with np.errstate(over="ignore"):
            result = value / diffusivity
        if (np.isinf(result) & np.isfinite(value)).any():
            raise ValueError(f"diffusivity={diffusivity} is so small that U/D is no float; choose other units")
        return result

    return height


def _check_diffusivity(diffusivity: float) -> None:
    if not (diffusivity > 0 and math.isfinite(diffusivity)):
        raise ValueError(f"diffusivity={diffusivity} must be finite and > 0")


def _exponential(x: float) -> float:
    return math.exp(x) if x < math.log(1.7e308) else math.inf
