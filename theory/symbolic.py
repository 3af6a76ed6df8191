"""Closed forms of restarted first-passage times, derived by computer algebra, as LaTeX and as functions.

Each derivation starts from the renewal equation and from the law's own equation (the backward equation of a diffusion,
or the density of a waiting time) and keeps its steps. The tests hold every function against theory.resetting and
theory.linear_response. Time, lengths and rates are positive symbols in any consistent units.

Reference: [evans2011] the mean for Brownian motion; [reuveni2016] and [pal2017] the general renewal formulas;
[reuveni2014] enzymes
"""

from functools import cache
from typing import TYPE_CHECKING, Any

from theory.symbolic_derivation import Catalogue, Derivation, by_name
from theory.symbolic_laws import (
    LAWS,
    algebra,
    check_law,
    density_of,
    passage_transform,
    positive_symbols,
    transform_of,
)

if TYPE_CHECKING:
    import sympy

    from theory.symbolic_laws import Steps

FINITE_LAWS = LAWS[1:]
"""Laws with a finite mean, and so a linear response to restarts; drift_diffusion with v > 0."""

SHARP_LAWS = ("brownian", "exponential", "erlang_2", "hyperexponential", "weibull_half")
"""Laws whose mean under sharp restart has a closed form here."""

SCALED_LAWS = ("brownian", "drift_diffusion")
"""Laws whose best rate solves one equation in one unknown and no more than one parameter."""


def _mean_symbol(subscript: str) -> "sympy.Symbol":
    sp = algebra()
    # In braces, or sympy would read what follows the underscore as a subscript.
    return sp.Symbol(rf"{{\langle T_{subscript} \rangle}}")


# ---- Poisson restart -------------------------------------------------------------------------------------------------


@cache
def _renewal() -> "tuple[Steps, sympy.Expr]":
    """The transform of the restarted time, in terms of T~."""
    sp = algebra()
    r, s, t = positive_symbols("r s t")
    restarted, passage = sp.Symbol(r"\tilde{T}_r(s)"), passage_transform()
    survives = (1 - passage(s + r)) / (s + r)
    transformed = sp.Integral(sp.exp(-(s + r) * t) * sp.Function("Psi")(t), (t, 0, sp.oo))
    renewal = sp.Eq(restarted, passage(s + r) + r * survives * restarted)
    solution = sp.simplify(sp.solve(renewal, restarted)[0])
    steps: Steps = (
        ("Transform of the survival without restart, by parts", sp.Eq(transformed, survives)),
        ("A run ends before the first restart, or begins anew then", renewal),
        ("Solved", sp.Eq(restarted, solution)),
    )
    return steps, solution


@cache
def _general_moment(order: int) -> "sympy.Expr":
    """E[T_r^n] in terms of T~(r) and its derivative."""
    sp = algebra()
    _, restarted = _renewal()
    (s,) = positive_symbols("s")
    return sp.simplify(((-1) ** order * restarted.diff(s, order)).subs(s, 0).doit())


def _of_law(general: Any, transform: Any) -> "sympy.Expr":
    r, s = positive_symbols("r s")
    passage = passage_transform()(r)
    filled = general.subs(passage.diff(r), transform.diff(s).subs(s, r)).subs(passage, transform.subs(s, r))
    return _tidy(filled)


def _tidy(expression: Any) -> "sympy.Expr":
    """Simplified where that is quick and shortens it."""
    sp = algebra()
    derivative_of_interval = expression.has(sp.cosh) and expression.has(sp.sinh)
    return expression if derivative_of_interval else sp.simplify(expression)


def _poisson_moment(law: str, order: int, name: str) -> Derivation:
    sp = algebra()
    parameters, steps, transform = transform_of(law)
    general = _general_moment(order)
    result = _of_law(general, transform)
    moment = _mean_symbol("r") if order == 1 else sp.Symbol(r"{\langle T_r^2 \rangle}")
    derivative = "Minus the derivative at s = 0" if order == 1 else "The second derivative at s = 0"
    steps = (*steps, *_renewal()[0], (derivative, sp.Eq(moment, general)), ("With this law", sp.Eq(moment, result)))
    return Derivation(f"{name} {law}", (*parameters, *positive_symbols("r")), steps, result)


def poisson_mean(law: str) -> Derivation:
    """E[T_r] under restarts at the rate r.

    Args:
        law: one of ``LAWS``.

    Returns:
        The derivation; its symbols are the law's parameters, then r.

    Raises:
        ValueError: for another law.

    Example:
        >>> poisson_mean("brownian").result
        (exp(L*sqrt(r)/sqrt(D)) - 1)/r
    """
    return _poisson_moment(law, 1, "poisson_mean")


def poisson_second_moment(law: str) -> Derivation:
    """E[T_r^2] under restarts at the rate r.

    Args:
        law: one of ``LAWS``.

    Returns:
        The derivation; its symbols are the law's parameters, then r.

    Raises:
        ValueError: for another law.
    """
    return _poisson_moment(law, 2, "poisson_second_moment")


def poisson_optimum(law: str) -> Derivation:
    """dE[T_r] / dr, which vanishes at the best rate.

    Args:
        law: one of ``LAWS``.

    Returns:
        The derivation; its symbols are the law's parameters, then r.

    Raises:
        ValueError: for another law.
    """
    sp = algebra()
    mean = poisson_mean(law)
    r = mean.symbols[-1]
    slope = _tidy(mean.result.diff(r))
    step = ("The best rate makes this vanish", sp.Eq(sp.Derivative(_mean_symbol("r"), r), slope))
    return Derivation(f"poisson_optimum {law}", mean.symbols, (*mean.steps, step), slope)


def scaled_optimum(law: str) -> Derivation:
    """The equation of the best rate without units, which vanishes there.

    ``brownian``: z / 2 - 1 + e^{-z} in z = L sqrt(r / D). ``drift_diffusion``: (y^2 - Pe^2) / (2 y) - 1 + e^{Pe - y} in
    the Peclet number Pe = L v / (2 D) and y = (L / 2 D) sqrt(v^2 + 4 D r).

    Args:
        law: one of ``SCALED_LAWS``.

    Returns:
        The derivation; its symbols are z, or Pe and y.

    Raises:
        ValueError: for another law.
    """
    sp = algebra()
    check_law(law, SCALED_LAWS)
    mean = poisson_mean(law)
    distance, d, r, z, y = positive_symbols("L D r z y")
    peclet, v = sp.Symbol("Pe", real=True), sp.Symbol("v", real=True)
    if law == "brownian":
        unknown, units = z, {r: d * z**2 / distance**2}
        weight, symbols = z**3 * sp.exp(-z) / 2, (z,)
    else:
        unknown, units = y, {r: d * (y**2 - peclet**2) / distance**2, v: 2 * d * peclet / distance}
        weight, symbols = (y**2 - peclet**2) ** 2 * sp.exp(peclet - y) / (2 * y), (peclet, y)
    scaled = sp.simplify(sp.simplify(mean.result.subs(list(units.items()))) * d / distance**2)
    condition = sp.expand(sp.simplify(sp.expand(scaled.diff(unknown) * weight)))
    steps: Steps = (
        *mean.steps,
        *(("Without units", sp.Eq(symbol, value)) for symbol, value in units.items()),
        ("Mean", sp.Eq(_mean_symbol("r") * d / distance**2, scaled)),
        ("Stationary where", sp.Eq(condition, 0)),
    )
    return Derivation(f"scaled_optimum {law}", symbols, steps, condition)


def poisson_slope(law: str) -> Derivation:
    """dE[T_r] / dr at r = 0, from the first two moments of the law.

    Args:
        law: one of ``FINITE_LAWS``.

    Returns:
        The derivation; its symbols are the law's parameters.

    Raises:
        ValueError: for another law; Brownian motion has an infinite mean.
    """
    sp = algebra()
    check_law(law, FINITE_LAWS)
    parameters, steps, transform = transform_of(law)
    r, s, q, first, second, drift = positive_symbols("r s q m_1 m_2 v")
    # A mean is finite only with a drift towards the target.
    positive = {symbol: drift for symbol in parameters if str(symbol) == "v"}
    parameters = tuple(positive.get(symbol, symbol) for symbol in parameters)
    # In q = sqrt(s), because the transform of the interval is written with roots.
    series = sp.series(transform.subs(positive).subs(s, q**2), q, 0, 5).removeO()
    moments = {first: sp.simplify(-series.coeff(q, 2)), second: sp.simplify(2 * series.coeff(q, 4))}
    passage = 1 - first * r + second * r**2 / 2
    general = sp.series((1 - passage) / (r * passage), r, 0, 2).removeO().coeff(r, 1)
    result = sp.simplify(general.subs(moments))
    slope = sp.Derivative(_mean_symbol("r"), r)
    steps = (
        *steps,
        *(("Moment, from the series in s", sp.Eq(symbol, value)) for symbol, value in moments.items()),
        ("Series of the mean under restart", sp.Eq(slope, general)),
        ("With this law", sp.Eq(slope, result)),
    )
    return Derivation(f"poisson_slope {law}", parameters, steps, result)


# ---- Sharp restart, enzymes, linear response -------------------------------------------------------------------------


def sharp_mean(law: str) -> Derivation:
    """E[T_P] under restarts at P, 2P, ...

    Args:
        law: one of ``SHARP_LAWS``; weibull_half is Psi = exp(-sqrt(t / theta)), erlang_2 two stages of rate k.

    Returns:
        The derivation; its symbols are the law's parameters, then P.

    Raises:
        ValueError: for another law.
    """
    sp = algebra()
    check_law(law, SHARP_LAWS)
    distance, d, t, x, interval, w, u = positive_symbols("L D t x P w u")
    if law == "brownian":
        parameters = (distance, d)
        images = sp.exp(-((x - distance) ** 2) / (4 * d * t)) - sp.exp(-((x + distance) ** 2) / (4 * d * t))
        images = images / sp.sqrt(4 * sp.pi * d * t)
        psi = sp.simplify(sp.integrate(sp.expand(images), (x, 0, sp.oo)))
        start: tuple[str, sympy.Eq] = ("Method of images, x from the target", sp.Eq(sp.Function("p")(x, t), images))
        # With w = L / sqrt(4 D t)
        duration = distance**2 / (2 * d) * sp.integrate(sp.erf(w) / w**3, (w, u, sp.oo))
        duration = sp.simplify(duration.subs(u, distance / sp.sqrt(4 * d * interval)))
    else:
        parameters, density = density_of(law, t)
        psi = sp.simplify(sp.integrate(density, (t, x, sp.oo), conds="none").subs(x, t))
        start = ("Density of the waiting time", sp.Eq(sp.Function("f")(t), density))
        duration = sp.simplify(sp.integrate(psi, (t, 0, interval)))
    psi_end = psi.subs(t, interval)
    mean, a, b = _mean_symbol("P"), sp.Symbol("A"), sp.Symbol("B")
    renewal = sp.Eq(mean, a + b * mean)
    numerator, denominator = sp.fraction(sp.solve(renewal, mean)[0])
    general = -numerator / -denominator if denominator == b - 1 else numerator / denominator
    result = general.subs({a: duration, b: psi_end})
    if law != "brownian":  # sympy would expand its result to three lines
        result = sp.simplify(result)
    survival = sp.Function("Psi")(t)
    steps = (
        start,
        ("Survival", sp.Eq(survival, psi)),
        ("Time in a cycle", sp.Eq(a, sp.Integral(survival, (t, 0, interval)))),
        ("that is", sp.Eq(a, duration)),
        ("Probability of a restart", sp.Eq(b, psi_end)),
        ("Renewal equation", renewal),
        ("Solved", sp.Eq(mean, general)),
        ("With this law", sp.Eq(mean, result)),
    )
    return Derivation(f"sharp_mean {law}", (*parameters, interval), steps, result)


def michaelis_menten(law: str) -> Derivation:
    """Mean turnover time of an enzyme with this law of catalysis, mean binding time tau_on and unbinding rate k_off.

    Args:
        law: of catalysis, one of ``LAWS``.

    Returns:
        The derivation; its symbols are the law's parameters, then tau_on and k_off.

    Raises:
        ValueError: for another law.
    """
    sp = algebra()
    parameters, steps, transform = transform_of(law)
    binding, unbinding, s = positive_symbols("tau_on k_off s")
    turnover, passage = sp.Symbol(r"{\langle T \rangle}"), passage_transform()(unbinding)
    bound = (1 - passage) / unbinding
    renewal = sp.Eq(turnover, binding + bound + (1 - passage) * turnover)
    general = sp.simplify(sp.solve(renewal, turnover)[0])
    result = sp.simplify(general.subs(passage, transform.subs(s, unbinding)))
    steps = (
        *steps,
        ("Binding, then catalysis or a new beginning", renewal),
        ("Solved", sp.Eq(turnover, general)),
        ("With this law", sp.Eq(turnover, result)),
    )
    return Derivation(f"michaelis_menten {law}", (*parameters, binding, unbinding), steps, result)


def linear_response() -> Derivation:
    """dE[T_r] / dr at r = 0 for rare perturbations of any kind, from E[T], E[T^2] and the mean rest taubar.

    Returns:
        The derivation; its symbols are m_1, m_2 and taubar.
    """
    sp = algebra()
    r, t, first, second, rest = positive_symbols("r t m_1 m_2 taubar")
    psi, tau = sp.Function("Psi")(t), sp.Function("tau")(t)
    integrand = sp.exp(-r * t) * psi * (1 + r * tau)
    slope = sp.Derivative(_mean_symbol("r"), r)
    expanded = sp.expand(integrand.diff(r).subs(r, 0))
    averages = {tau * psi: first * rest, t * psi: second / 2}
    result = sp.Add(*(term.subs(averages) for term in expanded.args))
    steps: Steps = (
        (
            "Time until the first perturbation, and the rest after it",
            sp.Eq(_mean_symbol("r"), sp.Integral(integrand, (t, 0, sp.oo))),
        ),
        ("Derivative at r = 0", sp.Eq(slope, sp.Integral(expanded, (t, 0, sp.oo)))),
        ("Average over the time spent", sp.Eq(sp.Integral(tau * psi, (t, 0, sp.oo)), first * rest)),
        ("Second moment, by parts", sp.Eq(sp.Integral(t * psi, (t, 0, sp.oo)), second / 2)),
        ("Linear response", sp.Eq(slope, result)),
    )
    return Derivation("linear_response", (first, second, rest), steps, result)


def inverse_response() -> Derivation:
    """CV^2 of the unperturbed law from the measured slope dE[T_r] / dr, E[T] and taubar.

    Returns:
        The derivation; its symbols are m_1, taubar and the slope.
    """
    sp = algebra()
    forward = linear_response()
    first, second, rest = forward.symbols
    slope = sp.Symbol("sigma", real=True)
    moment = sp.solve(sp.Eq(slope, forward.result), second)[0]
    result = sp.expand(moment / first**2 - 1)
    steps = (
        *forward.steps,
        ("Solved for the second moment, with the slope measured", sp.Eq(second, moment)),
        ("Squared coefficient of variation", sp.Eq(sp.Symbol("CV") ** 2, result)),
    )
    return Derivation("inverse_response", (first, rest, slope), steps, result)


# ---- By name ---------------------------------------------------------------------------------------------------------


def catalogue() -> Catalogue:
    """The derivations of this module.

    Returns:
        Derivations by their names, derived when called.
    """
    families = (
        (poisson_mean, LAWS),
        (poisson_second_moment, LAWS),
        (poisson_optimum, LAWS),
        (poisson_slope, FINITE_LAWS),
        (scaled_optimum, SCALED_LAWS),
        (sharp_mean, SHARP_LAWS),
        (michaelis_menten, LAWS),
    )
    return {**by_name(families), "linear_response": linear_response, "inverse_response": inverse_response}
