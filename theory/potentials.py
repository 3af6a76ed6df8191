"""Potentials U(x) of a diffusing coordinate, dx = -U'(x) dt + sqrt(2 D) dW: built in, or typed by a user.

A potential is a text such as ``(x**2 - 1)**2`` (see theory.expressions for what it may contain). It is differentiated
symbolically, with rational numbers, so that coefficients are exact.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from theory.absorbing import Floats
from theory.expressions import CONSTANTS, LARGEST_NUMBER, parse_expression, position

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Potential:
    """A potential U(x) and its force -U'(x).

    Attributes:
        expression: U as text: numbers, x, pi, e, + - * / **, and functions of
            ``theory.expressions.FUNCTIONS``.
        domain: (low, high), the open interval in which U is defined; by default all x.

    Raises:
        ValueError: for a text that is no formula, or is too large, with the piece that offends.

    Example:
        >>> well = Potential("(x**2 - 1)**2")
        >>> well.value([0.0, 2.0]).tolist(), well.force([0.0, 2.0]).tolist(), well.force_polynomial().tolist()
        ([1.0, 9.0], [0.0, -24.0], [0.0, 4.0, 0.0, -4.0])
    """

    expression: str
    domain: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        low, high = self.domain
        if not low < high:
            raise ValueError(f"domain={self.domain} must be (low, high) with low < high")
        # Parsed now, so that a mistake in the text is found where it is typed.
        _ = self._symbolic

    def __getstate__(self) -> dict[str, Any]:
        # Without the compiled functions, which cannot be sent to another process.
        return {"expression": self.expression, "domain": self.domain}

    def value(self, x: npt.ArrayLike) -> Floats:
        """U(x).

        Args:
            x: position, any shape, inside the domain.

        Returns:
            Shape of x; ``inf`` where U exceeds the largest float or has a wall.

        Raises:
            ValueError: outside the domain, or where U is not a real number.
        """
        return self._evaluate("U", self._value, x, walls=True)

    def force(self, x: npt.ArrayLike) -> Floats:
        """-U'(x).

        Args:
            x: position, any shape, inside the domain.

        Returns:
            Shape of x.

        Raises:
            ValueError: outside the domain, or where the force is not a finite number.
        """
        return self._evaluate("the force", self._force, x, walls=False)

    def force_polynomial(self) -> Floats | None:
        """Coefficients of the force, if it is a polynomial: -U'(x) = sum_k c_k x^k.

        Returns:
            c, ascending powers, each the float nearest to the exact one, shape (degree + 1,); None for other forces.

        Example:
            >>> harmonic(stiffness=0.3, centre=2).force_polynomial().tolist()
            [0.6, -0.3]
        """
        import sympy

        force = -self._symbolic.diff(position())
        if not force.is_polynomial(position()):
            return None
        coefficients = sympy.Poly(force, position()).all_coeffs()[::-1]
        return np.array([float(coefficient) for coefficient in coefficients])

    @cached_property
    def _symbolic(self) -> "sympy.Expr":
        return parse_expression(self.expression)

    @cached_property
    def _value(self) -> Callable[[Floats], npt.ArrayLike]:
        import sympy

        return sympy.lambdify(position(), self._symbolic, "numpy")

    @cached_property
    def _force(self) -> Callable[[Floats], npt.ArrayLike]:
        import sympy

        return sympy.lambdify(position(), -self._symbolic.diff(position()), "numpy")

    def _evaluate(
        self, what: str, function: Callable[[Floats], npt.ArrayLike], x: npt.ArrayLike, *, walls: bool
    ) -> Floats:
        positions = np.asarray(x, dtype=float)
        low, high = self.domain
        outside = ~((positions > low) & (positions < high))
        if outside.any():
            raise ValueError(f"x={positions[outside].flat[0]} is outside the domain {low} < x < {high} of {self}")
        with np.errstate(all="ignore"):
            # An array even of what does not depend on x.
            result = np.array(np.broadcast_to(function(positions), positions.shape), dtype=float)
        bad = ~(np.isfinite(result) | (walls & (result == np.inf)))
        if bad.any():
            raise ValueError(
                f"{what} of the potential {self} is {result[bad].flat[0]} at x={positions[bad].flat[0]}; it must be a "
                "real number: stay away from logarithms and roots of negative numbers, and from poles"
            )
        return result[()]

    def __str__(self) -> str:
        return self.expression


# ---- Built-in potentials ---------------------------------------------------------------------------------------------


def harmonic(stiffness: float = 1.0, centre: float = 0.0) -> Potential:
    """U = stiffness (x - centre)^2 / 2: the Ornstein-Uhlenbeck process.

    Args:
        stiffness: k; negative for a hilltop.
        centre: of the parabola.

    Returns:
        The potential.
    """
    return Potential(f"{_number('stiffness', stiffness)}/2*(x - {_number('centre', centre)})**2")


def double_well(barrier: float = 1.0, half_width: float = 1.0) -> Potential:
    """U = barrier ((x / half_width)^2 - 1)^2: wells at +-half_width, the barrier between them at 0.

    Args:
        barrier: height above the wells.
        half_width: distance of the wells from 0, > 0.

    Returns:
        The potential.

    Raises:
        ValueError: if half_width is not above 0.
    """
    if not half_width > 0:
        raise ValueError(f"half_width={half_width} must be > 0")
    return Potential(f"{_number('barrier', barrier)}*((x/{_number('half_width', half_width)})**2 - 1)**2")


def quartic(strength: float = 1.0) -> Potential:
    """U = strength x^4 / 4: the force is -strength x^3.

    Args:
        strength: of the force at distance 1.

    Returns:
        The potential.
    """
    return Potential(f"{_number('strength', strength)}*x**4/4")


def linear(drift: float = 1.0) -> Potential:
    """U = -drift x: drift-diffusion.

    Args:
        drift: the force, to the right if positive.

    Returns:
        The potential.
    """
    return Potential(f"-{_number('drift', drift)}*x")


def logarithmic(strength: float = 1.0) -> Potential:
    """U = strength ln x for x > 0: a force -strength / x.

    Args:
        strength: U0; the origin is approached if positive. E[T] to 0 is finite for U0 > D only.

    Returns:
        The potential.
    """
    return Potential(f"{_number('strength', strength)}*log(x)", (0.0, math.inf))


def trap_with_barrier(
    strength: float = 4.0, trap: float = -1.0, barrier: float = -0.55, well: float = 1.2
) -> Potential:
    """The potential of the force -strength (x - trap)(x - barrier)(x - well): a trap, a barrier, a wide well.

    With a start about the barrier and the target left of the bottom of the well, some runs arrive soon and the others
    escape slowly from the trap: the shape of survival that training to a hard target shows.

    Args:
        strength: factor of the force.
        trap: minimum of U.
        barrier: maximum of U, between the minima.
        well: the other minimum.

    Returns:
        The potential.

    Raises:
        ValueError: unless the barrier is between the minima.
    """
    if not (trap < barrier < well or well < barrier < trap):
        raise ValueError(f"barrier={barrier} must lie between trap={trap} and well={well}")
    c, t, b, w = (
        _number(*item) for item in [("strength", strength), ("trap", trap), ("barrier", barrier), ("well", well)]
    )
    return Potential(f"{c}*(x**4/4 - ({t}+{b}+{w})*x**3/3 + ({t}*{b}+{t}*{w}+{b}*{w})*x**2/2 - {t}*{b}*{w}*x)")


BUILT_IN: Mapping[str, Callable[..., Potential]] = MappingProxyType(
    {
        function.__name__: function
        for function in (harmonic, double_well, quartic, linear, logarithmic, trap_with_barrier)
    }
)
"""Built-in potentials by the names that ``potential`` knows."""


def potential(text: str) -> Potential:
    """A potential as a user types it: a built-in one by name, with or without parameters, or an expression in x.

    Args:
        text: ``NAME``, ``NAME:parameter=value,...`` with a name of ``BUILT_IN``, or what ``Potential`` accepts.

    Returns:
        The potential.

    Raises:
        ValueError: for an unknown name or parameter, a value that is not a number, or an invalid expression.

    Example:
        >>> float(potential("harmonic:stiffness=2,centre=1").value(3.0)), float(potential("x**4").value(2.0))
        (4.0, 16.0)
    """
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if name not in BUILT_IN:
        if colon or (name.isidentifier() and name not in ("x", *CONSTANTS)):
            raise ValueError(
                f"potential {name!r} is unknown; choose from {', '.join(BUILT_IN)}, or write a formula in x"
            )
        return Potential(text)
    known = inspect.signature(BUILT_IN[name]).parameters
    values: dict[str, float] = {}
    for item in rest.split(",") if rest else []:
        parameter, equals, number = (part.strip() for part in item.partition("="))
        if parameter not in known or not equals or parameter in values:
            defaults = ",".join(f"{key}={value.default:g}" for key, value in known.items())
            raise ValueError(f"{item.strip()!r} is no parameter of {name}, or given twice; write {name}:{defaults}")
        try:
            values[parameter] = float(number)
        except ValueError:
            raise ValueError(f"{parameter}={number} of the potential {name} must be a number") from None
    return BUILT_IN[name](**values)


def _number(name: str, value: float) -> str:
    """A parameter as a piece of an expression."""
    if not (math.isfinite(value) and abs(value) <= LARGEST_NUMBER):
        raise ValueError(f"{name}={value} must be a finite number, at most {LARGEST_NUMBER:.0e} in size")
    return f"({float(value)!r})"
