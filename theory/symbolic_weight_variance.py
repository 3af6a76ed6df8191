"""Weight and velocity variance of epoch-based SGD with momentum, derived by computer algebra, Eqs. (7) to (17).

Each derivation starts from the update of one mode of curvature lambda at a quadratic minimum,

    v_k = -eta (lambda theta_{k-1} + dg_k) + beta v_{k-1},    theta_k = theta_{k-1} + v_k,

and keeps its steps. dg_k is the noise of the gradient, of variance sigma^2; its autocovariance is that of independent
batches (``white``) or of M batches per epoch, drawn without replacement in a new order each epoch (``reshuffled``). The
results hold for 0 <= beta < 1 and 0 < eta lambda < 2 (1 + beta); ``reshuffled_flat`` is the limit lambda -> 0. Units of
variances are those of the weights, squared, of correlation times steps. The tests hold every function against
theory.weight_variance.

In floating point the form for any M loses all digits for flat modes (at eta lambda = 1e-7, M = 1000 even the sign): it
is for reading and for high precision, theory.weight_variance for numbers.

Reference: [kuhn2023] arXiv 2306.05300; the closed forms for M = 1, 2, 3 and lambda -> 0 derived for jostle
"""

from functools import cache
from typing import TYPE_CHECKING, Any

from theory.symbolic_derivation import Catalogue, Derivation, by_name
from theory.symbolic_laws import algebra, positive_symbols

if TYPE_CHECKING:
    from theory.symbolic_laws import Steps

NOISES = ("white", "reshuffled", "reshuffled_1", "reshuffled_2", "reshuffled_3", "reshuffled_flat")
"""Batches drawn independently; without replacement, any M; M = 1, 2, 3; any M in the limit lambda -> 0."""

NOISES_WITH_TIME = tuple(noise for noise in NOISES if noise != "reshuffled_1")
"""Those with a correlation time: one batch per epoch makes no noise."""


def _parameters() -> Any:
    """eta, lambda, beta, sigma, M."""
    return positive_symbols("eta lambda beta sigma M")


def _vector(first: Any, second: Any) -> Any:
    return algebra().ImmutableMatrix([first, second])


def _ordered(name: str) -> Any:
    """A matrix or a vector by its name, so that products keep their order."""
    return algebra().Symbol(name, commutative=False)


def _variance_symbols() -> Any:
    sp = algebra()
    return sp.Symbol(r"{\sigma_\theta^2}"), sp.Symbol(r"{\sigma_v^2}")


def _correlation() -> Any:
    return _ordered(r"{\langle x_{k-1} \delta g_k \rangle}")


def _equal(left: Any, right: Any) -> Any:
    return algebra().Eq(left, right, evaluate=False)


def _common_denominator() -> Any:
    eta, curvature, beta, _, _ = _parameters()
    return (1 - beta) * (2 * (1 + beta) - eta * curvature)


def _over(expression: Any, denominator: Any) -> Any:
    """A variance with eta^2 sigma^2 in front and a given denominator, whatever else remains."""
    sp = algebra()
    eta, _, _, sigma, _ = _parameters()
    rest = sp.cancel(expression * denominator / (eta * sigma) ** 2)
    return eta**2 * sigma**2 * rest / denominator


# ---- The covariance, for any noise -----------------------------------------------------------------------------------


@cache
def _covariance() -> "tuple[Steps, Any, Any]":
    """D of Eq. (17) and F of Eq. (12), from the recursion."""
    sp = algebra()
    eta, curvature, beta, sigma, _ = _parameters()
    names = (r"{\theta_k}", r"{\theta_{k-1}}", r"{\theta_{k-2}}", r"{\delta g_k}", "{v_k}", "{v_{k-1}}")
    now, before, earlier, noise, velocity, velocity_before = (sp.Symbol(name) for name in names)
    update = beta * velocity_before - eta * (curvature * before + noise)
    recursion = sp.collect(sp.expand(before + update.subs(velocity_before, before - earlier)), (before, earlier))
    propagator = sp.ImmutableMatrix([[recursion.coeff(before), recursion.coeff(earlier)], [1, 0]])

    variance, velocity_variance = _variance_symbols()
    neighbours = sp.Symbol(r"{\langle \theta_k \theta_{k-1} \rangle}")
    q_first, q_second, a_first, a_second = sp.symbols("Q_11 Q_12 a_1 a_2")
    moments = sp.ImmutableMatrix([[variance, neighbours], [neighbours, variance]])
    source = sp.ImmutableMatrix([[q_first, q_second], [q_second, 0]])
    balance = moments - propagator * moments * propagator.T - source
    solution = sp.solve([balance[0, 0], balance[0, 1]], [variance, neighbours], dict=True)[0]
    solved = _vector(solution[variance], 2 * solution[variance] - 2 * solution[neighbours])
    common = _common_denominator()
    jacobian = solved.jacobian([q_first, q_second])
    response = sp.ImmutableMatrix(jacobian.applyfunc(lambda entry: sp.factor(sp.cancel(entry * common)) / common))

    d, x, first, sigma_matrix, q = (_ordered(name) for name in ("D", "{x_k}", "{e_1}", r"\Sigma", "Q"))
    by_noise = sp.ImmutableMatrix([[eta**2 * sigma**2 - 2 * eta * a_first, -eta * a_second], [-eta * a_second, 0]])
    steps: Steps = (
        ("Update of the velocity", _equal(velocity, update)),
        ("Recursion of the weight", _equal(now, recursion)),
        ("The last two weights as a vector, Eq. (7)", _equal(x, d * _ordered("{x_{k-1}}") - eta * noise * first)),
        ("Eq. (17)", _equal(d, propagator)),
        ("Its covariance, Eq. (10)", _equal(sigma_matrix, d * sigma_matrix * _ordered(r"{D^\top}") + q)),
        ("in which, stationary", _equal(sigma_matrix, moments)),
        ("The noise adds", _equal(q, by_noise)),
        ("with the correlation of noise and weights", _equal(_vector(a_first, a_second), d * _correlation())),
        ("Velocity variance", _equal(velocity_variance, 2 * variance - 2 * neighbours)),
        (
            "Solved, Eq. (11)",
            _equal(_vector(variance, velocity_variance), _ordered("F") * _ordered(r"{(Q_{11}, Q_{12})^\top}")),
        ),
        ("Eq. (12)", _equal(_ordered("F"), response)),
    )
    return steps, propagator, response


# ---- The noise of each order of batches ------------------------------------------------------------------------------


def _over_epochs(z: Any, power: Any) -> Any:
    """E as a function of a number z in place of D, with z^M = power: sum_h (M - h) z^h / (M (M - 1))."""
    batches = _parameters()[-1]
    return z * (power + (1 - z) * batches - 1) / ((1 - z) ** 2 * batches * (batches - 1))


@cache
def _reshuffled() -> "Steps":
    """Eqs. (13), (16) and (14)."""
    sp = algebra()
    eta, _, _, sigma, batches = _parameters()
    lag, z = positive_symbols("h z")
    weight = (batches - lag) / (batches * (batches - 1))
    geometric = (batches - lag) * z ** (lag - 1)
    # The branch of sympy's answer that is not z = 1.
    total = sp.summation(geometric, (lag, 1, batches - 1)).replace(sp.Piecewise, lambda *branches: branches[-1][0])
    compact = (z**batches + (1 - z) * batches - 1) / (1 - z) ** 2
    assert sp.simplify(total - compact) == 0
    d, first, transposed, e = (_ordered(name) for name in ("D", "{e_1}", r"{e_1^\top}", "E"))
    in_d = (d**batches + (1 - d) * batches - 1) * (1 - d) ** (-2) / (batches * (batches - 1))
    iterated = sp.Sum(weight * d ** (lag - 1), (lag, 1, batches - 1))
    variances = _ordered(r"{(\sigma_\theta^2, \sigma_v^2)^\top}")
    return (
        ("Autocovariance of the noise at lags below M, Eq. (2)", _equal(sp.Symbol("c_h"), -(sigma**2) * weight)),
        ("Recursion iterated", _equal(_correlation(), eta * sigma**2 * iterated * first)),
        ("The sum, of a number", _equal(sp.Sum(geometric, (lag, 1, batches - 1)), compact)),
        ("and of D, Eq. (13)", _equal(_correlation(), eta * sigma**2 * in_d * first)),
        ("Eq. (16)", _equal(e, d * in_d * first * transposed)),
        (
            "Eq. (14)",
            _equal(variances, eta**2 * sigma**2 * _ordered("F") * (first - (e + _ordered(r"{E^\top}")) * first)),
        ),
    )


@cache
def _variances(noise: str) -> "tuple[Steps, Any, Any]":
    """Steps, sigma_theta^2 and sigma_v^2."""
    if noise not in NOISES:
        raise ValueError(f"noise={noise!r} is not one of those with this derivation: {', '.join(NOISES)}")
    steps = _covariance()[0]
    if noise == "white":
        weight, velocity = _from_entries(0, 0)
        correlation = ("Independent noise has none", _equal(_correlation(), algebra().Integer(0)))
        return (*steps, correlation), weight, velocity
    if noise == "reshuffled_1":
        more, weight, velocity = _one_batch()
        return (*steps, *more), weight, velocity
    steps = (*steps, *_reshuffled())
    if noise == "reshuffled":
        more, weight, velocity = _any_number_of_batches()
    elif noise == "reshuffled_flat":
        more, weight, velocity = _flat()
    else:
        more, weight, velocity = _few_batches(int(noise[-1]))
    return (*steps, *more), weight, velocity


def _from_entries(first: Any, second: Any) -> Any:
    """Eq. (14) from E_11 and E_21."""
    eta, _, _, sigma, _ = _parameters()
    return eta**2 * sigma**2 * _covariance()[2] * _vector(1 - 2 * first, -second)


def _few_batches(count: int) -> "tuple[Steps, Any, Any]":
    sp = algebra()
    propagator, batches = _covariance()[1], _parameters()[-1]
    total = sp.zeros(2)
    for lag in range(1, count):
        total += sp.Rational(count - lag, count * (count - 1)) * propagator**lag
    e = (total * sp.Matrix([[1, 0], [0, 0]])).applyfunc(sp.factor).as_immutable()
    steps: Steps = (
        ("Batches per epoch", _equal(batches, sp.Integer(count))),
        ("Eq. (16)", _equal(_ordered("E"), e)),
    )
    denominator = sp.binomial(count, 2) * _common_denominator()
    return (steps, *(_over(entry, denominator) for entry in _from_entries(e[0, 0], e[1, 0])))


def _one_batch() -> "tuple[Steps, Any, Any]":
    sp = algebra()
    sigma, batches = _parameters()[-2:]
    samples, of_samples = positive_symbols("N C_0")
    value = of_samples * (batches - 1) / (samples - 1)
    steps = (
        ("Of N samples of variance C in M batches", _equal(sigma**2, value)),
        ("One batch is the full batch", _equal(sigma**2, value.subs(batches, 1))),
    )
    return steps, sp.Integer(0), sp.Integer(0)


def _by_roots(larger: Any, smaller: Any, larger_power: Any, smaller_power: Any) -> Any:
    """E_11 and E_21; e_1 is the difference of the eigenvectors (z, 1) of D over that of its eigenvalues z."""
    of_larger, of_smaller = _over_epochs(larger, larger_power), _over_epochs(smaller, smaller_power)
    difference = larger - smaller
    return (larger * of_larger - smaller * of_smaller) / difference, (of_larger - of_smaller) / difference


def _any_number_of_batches() -> "tuple[Steps, Any, Any]":
    sp = algebra()
    beta, _, batches = _parameters()[2:]
    z, z_plus, z_minus, upper, lower = sp.symbols("z z_+ z_- E_11 E_21")
    propagator = _covariance()[1]
    characteristic = (z * sp.eye(2) - propagator).det()
    middle, root = propagator[0, 0] / 2, sp.sqrt(propagator[0, 0] ** 2 - 4 * beta) / 2
    roots = {z_plus: middle + root, z_minus: middle - root}
    assert all(sp.expand(characteristic.subs(z, value)) == 0 for value in roots.values())
    first, second = _by_roots(z_plus, z_minus, z_plus**batches, z_minus**batches)
    steps: Steps = (
        ("Eigenvalues of D", _equal(characteristic, sp.Integer(0))),
        ("that is", _equal(z_plus, roots[z_plus])),
        ("and", _equal(z_minus, roots[z_minus])),
        ("Upper left entry of E", _equal(upper, first)),
        ("Lower left entry of E", _equal(lower, second)),
        ("In Eq. (14)", _equal(_vector(*_variance_symbols()), _from_entries(upper, lower))),
    )
    return (steps, *(entry.subs(roots) for entry in _from_entries(first, second)))


def _flat() -> "tuple[Steps, Any, Any]":
    """The leading coefficients in epsilon, with the eigenvalues 1 - epsilon and beta / (1 - epsilon) of D."""
    sp = algebra()
    eta, curvature, beta, _, batches = _parameters()
    z, power, small = positive_symbols("z Z epsilon")
    of_z = (1 - z) * (1 - beta / z) / eta
    powers = sum(sp.ff(batches, k) / sp.factorial(k) * (-small) ** k for k in range(4))
    expressions = _from_entries(*_by_roots(z, beta / z, power, beta**batches / power))
    limits = []
    for expression in expressions.subs(curvature, of_z):
        numerator, denominator = (
            sp.Poly(sp.expand(part.subs({z: 1 - small, power: powers})), small).all_coeffs()[::-1]
            for part in sp.fraction(sp.together(expression))
        )
        pairs = ((sp.factor(n), sp.factor(d)) for n, d in zip(numerator, denominator, strict=False))
        limits.append(next(n / d for n, d in pairs if d != 0))
    weight, velocity = (
        _over(limit, factor * batches * (batches - 1) * (1 - beta) ** order * (1 + beta))
        for limit, factor, order in zip(limits, (6, 1), (5, 3), strict=True)
    )
    steps: Steps = (
        ("One eigenvalue of D is z, the other", _equal(sp.Symbol("z_-"), beta / z)),
        ("Trace of D", _equal(curvature, of_z)),
        ("Limit", _equal(z, sp.Integer(1))),
    )
    return steps, weight, velocity


# ---- Results ---------------------------------------------------------------------------------------------------------


def _symbols(noise: str) -> Any:
    """Those that the results depend on, in the order of the function's arguments."""
    eta, curvature, beta, sigma, batches = _parameters()
    return {
        "reshuffled": (eta, curvature, beta, sigma, batches),
        "reshuffled_flat": (eta, beta, sigma, batches),
    }.get(noise, (eta, curvature, beta, sigma))


def _derivation(quantity: str, noise: str, symbol: Any, result: Any, steps: "Steps") -> Derivation:
    if noise != "reshuffled":  # its result with the eigenvalues filled in is too long to read
        steps = (*steps, ("Result", _equal(symbol, result)))
    return Derivation(f"{quantity} {noise}", _symbols(noise), steps, result)


def weight_variance(noise: str) -> Derivation:
    """sigma_theta^2, the stationary variance of the weight, averaged over the steps of an epoch.

    Args:
        noise: one of ``NOISES``.

    Returns:
        The derivation. Its symbols are eta, lambda, beta, sigma, then M for ``reshuffled``; without lambda for
        ``reshuffled_flat``. The function for ``reshuffled`` wants a complex lambda where D has complex eigenvalues.

    Raises:
        ValueError: for another noise.

    Example:
        >>> weight_variance("reshuffled_2").result
        eta**2*sigma**2/((1 - beta)*(2*beta - eta*lambda + 2))
    """
    steps, weight, _ = _variances(noise)
    return _derivation("weight_variance", noise, _variance_symbols()[0], weight, steps)


def velocity_variance(noise: str) -> Derivation:
    """sigma_v^2, the stationary variance of v_k = theta_k - theta_{k-1}.

    Args:
        noise: one of ``NOISES``.

    Returns:
        The derivation, with symbols as of `weight_variance`.

    Raises:
        ValueError: for another noise.

    Example:
        >>> velocity_variance("white").result
        2*eta**2*sigma**2/((1 - beta)*(2*beta - eta*lambda + 2))
    """
    steps, _, velocity = _variances(noise)
    return _derivation("velocity_variance", noise, _variance_symbols()[1], velocity, steps)


def correlation_time(noise: str) -> Derivation:
    """The correlation time tau = 2 sigma_theta^2 / sigma_v^2 of the velocity, Eq. (18), in steps.

    Args:
        noise: one of ``NOISES_WITH_TIME``.

    Returns:
        The derivation, with symbols as of `weight_variance`; sigma does not matter.

    Raises:
        ValueError: for another noise.

    Example:
        >>> correlation_time("white").result
        (beta + 1)/(eta*lambda)
    """
    tau, symbols = algebra().Symbol(r"\tau"), _variance_symbols()
    if noise not in NOISES_WITH_TIME:
        raise ValueError(f"noise={noise!r} is not one of those with a correlation time: {', '.join(NOISES_WITH_TIME)}")
    steps, weight, velocity = _variances(noise)
    by_definition = ("Correlation time, Eq. (18)", _equal(tau, 2 * symbols[0] / symbols[1]))
    if noise != "reshuffled":
        steps = (
            *steps,
            ("Weight variance", _equal(symbols[0], weight)),
            ("Velocity variance", _equal(symbols[1], velocity)),
        )
    return _derivation("correlation_time", noise, tau, 2 * weight / velocity, (*steps, by_definition))


def catalogue() -> Catalogue:
    """The derivations of this module.

    Returns:
        Derivations by their names, derived when called.
    """
    families = ((weight_variance, NOISES), (velocity_variance, NOISES), (correlation_time, NOISES_WITH_TIME))
    return by_name(families)
