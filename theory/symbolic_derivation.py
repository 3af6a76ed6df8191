"""What a derivation by computer algebra is, and how one is found by its name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from theory.symbolic_laws import algebra

if TYPE_CHECKING:
    import sympy

    from theory.symbolic_laws import Steps


@dataclass(frozen=True)
class Derivation:
    """A result and the way to it.

    Attributes:
        name: such as ``"poisson_mean brownian"``.
        symbols: the result's variables, in the order of the function's arguments.
        steps: texts, each with the equation that it leads to.
        result: the closed form.
    """

    name: str
    symbols: "tuple[sympy.Symbol, ...]"
    steps: "Steps"
    result: "sympy.Expr"

    def latex(self) -> str:
        """The steps as one block for a LaTeX document that loads amsmath.

        Returns:
            An ``align*`` environment.
        """
        sympy = algebra()
        lines = []
        for text, equation in self.steps:
            lines.append(rf"& \text{{{text}:}}")
            lines.append(f"{sympy.latex(equation.lhs)} &= {sympy.latex(equation.rhs)}")
        return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}\n"

    def function(self) -> Callable[..., Any]:
        """The result as a function of numbers or arrays.

        Returns:
            A function of as many arguments as there are symbols, in their order.
        """
        return algebra().lambdify(self.symbols, self.result, modules=["scipy", "numpy"])


Catalogue = dict[str, Callable[[], Derivation]]
"""Derivations by their names, derived when called."""


def by_name(families: Iterable[tuple[Callable[[str], Derivation], Iterable[str]]]) -> Catalogue:
    """Name the derivations of some families.

    Args:
        families: functions, each with the cases that it derives.

    Returns:
        The derivations by the name of the function and the case, such as ``"poisson_mean brownian"``.
    """
    return {f"{family.__name__} {case}": partial(family, case) for family, cases in families for case in cases}
