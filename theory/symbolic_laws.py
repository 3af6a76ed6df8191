"""The Laplace transforms of first-passage laws as symbols, each from the law's own equation, for theory.symbolic.

Time, lengths and rates are positive symbols in any consistent units. sympy is imported when something is derived.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy

    Steps = tuple[tuple[str, Any], ...]
    Transform = tuple[tuple[sympy.Symbol, ...], Steps, Any]

LAWS = ("brownian", "drift_diffusion", "interval", "exponential", "gamma", "hyperexponential")
"""Laws with a closed transform."""


def algebra() -> Any:
    """The sympy module; its results have no types worth checking.

    Returns:
        The module.
    """
    import sympy

    return sympy


def positive_symbols(names: str) -> "tuple[sympy.Symbol, ...]":
    """Symbols of positive numbers.

    Args:
        names: separated by blanks.

    Returns:
        The symbols, equal ones for equal names.
    """
    sp = algebra()
    return tuple(sp.symbols(names, positive=True, seq=True))


def passage_transform() -> Any:
    """The symbol of the Laplace transform T~.

    Returns:
        An undefined function.
    """
    sp = algebra()
    return sp.Function(r"\tilde{T}")


def check_law(law: str, laws: tuple[str, ...]) -> None:
    """Refuse a law without this derivation.

    Args:
        law: its name.
        laws: those with it.

    Raises:
        ValueError: if it is not among them.
    """
    if law not in laws:
        raise ValueError(f"law={law!r} is not one of those with this derivation: {', '.join(laws)}")


@cache
def transform_of(law: str) -> "Transform":
    """T~(s) of a law.

    Args:
        law: one of ``LAWS``.

    Returns:
        Parameters, the steps of the derivation, and T~ in the symbol s.

    Raises:
        ValueError: for another law.
    """
    sp = algebra()
    check_law(law, LAWS)
    if law in ("brownian", "drift_diffusion"):
        return _line_transform(law)
    if law == "interval":
        return _interval_transform()
    s, t = positive_symbols("s t")
    parameters, density = density_of(law, t)
    transform = sp.simplify(sp.integrate(sp.expand(density * sp.exp(-s * t)), (t, 0, sp.oo), conds="none"))
    steps: Steps = (
        ("Density of the waiting time", sp.Eq(sp.Function("f")(t), density)),
        ("Its Laplace transform", sp.Eq(passage_transform()(s), transform)),
    )
    return parameters, steps, transform


def density_of(law: str, t: "sympy.Symbol") -> "tuple[tuple[sympy.Symbol, ...], Any]":
    """Density of a waiting time.

    Args:
        law: exponential, gamma, erlang_2, hyperexponential or weibull_half.
        t: the symbol of time.

    Returns:
        Parameters and f(t).
    """
    sp = algebra()
    k, theta, p, a, b = positive_symbols("k theta p a b")
    return {
        "exponential": ((k,), k * sp.exp(-k * t)),
        "gamma": ((k, theta), t ** (k - 1) * sp.exp(-t / theta) / (theta**k * sp.gamma(k))),
        "erlang_2": ((k,), k**2 * t * sp.exp(-k * t)),
        "hyperexponential": ((p, a, b), p * a * sp.exp(-a * t) + (1 - p) * b * sp.exp(-b * t)),
        "weibull_half": ((theta,), sp.exp(-sp.sqrt(t / theta)) / (2 * sp.sqrt(t * theta))),
    }[law]


def _line_transform(law: str) -> "Transform":
    """Diffusion from the distance L, with the drift v towards the target: the bounded solution of its equation."""
    sp = algebra()
    distance, d, s, x = positive_symbols("L D s x")
    v = sp.Symbol("v", real=True) if law == "drift_diffusion" else sp.Integer(0)
    q, u = sp.Symbol("q"), sp.Function("u")(x)
    backward = sp.Eq(d * u.diff(x, 2) - v * u.diff(x), s * u)
    characteristic = sp.expand((backward.lhs - backward.rhs).subs(u, sp.exp(q * x)).doit() / sp.exp(q * x))
    roots = sp.solve(characteristic, q)
    decaying = min(roots, key=lambda root: float(root.subs({d: 1, s: 1, v: 1})))
    transform = sp.exp(decaying * distance)
    steps: Steps = (
        ("Backward equation of the transform u at distance x, with u(0) = 1", backward),
        ("Exponential solutions", sp.Eq(characteristic, 0)),
        ("The one that stays bounded", sp.Eq(q, decaying)),
        ("Laplace transform of the first-passage time", sp.Eq(passage_transform()(s), transform)),
    )
    return ((distance, v, d) if law == "drift_diffusion" else (distance, d)), steps, transform


def _interval_transform() -> "Transform":
    """Diffusion between two absorbing ends."""
    sp = algebra()
    length, start, d, s, x = positive_symbols("ell x_0 D s x")
    a, b = sp.symbols("a b")
    u = sp.Function("u")(x)
    ansatz = a * sp.cosh(sp.sqrt(s / d) * (x - length / 2)) + b * sp.sinh(sp.sqrt(s / d) * (x - length / 2))
    constants = sp.solve([ansatz.subs(x, 0) - 1, ansatz.subs(x, length) - 1], [a, b], dict=True)[0]
    transform = sp.simplify(ansatz.subs(constants).subs(x, start))
    steps: Steps = (
        ("Backward equation of the transform u, with u = 1 at both ends", sp.Eq(d * u.diff(x, 2), s * u)),
        ("General solution", sp.Eq(u, ansatz)),
        ("From the two ends", sp.Eq(a, sp.simplify(constants[a]))),
        ("and", sp.Eq(b, sp.simplify(constants[b]))),
        ("Laplace transform of the first-passage time", sp.Eq(passage_transform()(s), transform)),
    )
    return (length, start, d), steps, transform
