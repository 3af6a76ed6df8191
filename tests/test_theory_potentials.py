"""Values and forces against derivatives written by hand, and texts that try to be more than a formula."""

import math
import pickle
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.expressions import DEEPEST_NESTING, FUNCTIONS, LONGEST_TEXT
from theory.potentials import (
    BUILT_IN,
    Potential,
    double_well,
    harmonic,
    linear,
    logarithmic,
    potential,
    quartic,
    trap_with_barrier,
)

EXACT = 1e-12
X = np.array([-1.7, -0.3, 0.0, 0.4, 2.5])
POSITIVE = np.array([0.1, 1.0, 7.0])


@pytest.mark.parametrize(
    ("well", "x", "value", "force"),
    [
        (harmonic(2.0, 0.5), X, (X - 0.5) ** 2, -2 * (X - 0.5)),
        (double_well(3.0, 2.0), X, 3 * ((X / 2) ** 2 - 1) ** 2, -3 * X * ((X / 2) ** 2 - 1)),
        (quartic(0.5), X, X**4 / 8, -0.5 * X**3),
        (linear(-0.7), X, 0.7 * X, np.full(5, -0.7)),
        (logarithmic(3.0), POSITIVE, 3 * np.log(POSITIVE), -3 / POSITIVE),
        (Potential("exp(-x)*sin(pi*x)"), X, None, np.exp(-X) * (np.sin(np.pi * X) - np.pi * np.cos(np.pi * X))),
        (Potential("log(cosh(x)) + abs(x)"), X, np.log(np.cosh(X)) + abs(X), -np.tanh(X) - np.sign(X)),
        (Potential("sqrt(x)**3 - tan(2)"), POSITIVE, POSITIVE**1.5 - math.tan(2), -1.5 * np.sqrt(POSITIVE)),
        (Potential("abs(log(x))"), POSITIVE[[0, 2]], np.abs(np.log(POSITIVE[[0, 2]])), [10, -1 / 7]),
        (Potential("2**x + e**(-x)"), X, 2**X + np.exp(-X), -math.log(2) * 2**X + np.exp(-X)),
        (Potential("-x**2"), X, -(X**2), 2 * X),
        (Potential("+1e-3*x + .5"), X, 1e-3 * X + 0.5, np.full(5, -1e-3)),
        (Potential("7"), X, np.full(5, 7.0), np.zeros(5)),
    ],
)
def test_values_and_forces(well: Potential, x: np.ndarray, value: np.ndarray | None, force: np.ndarray) -> None:
    if value is not None:
        assert well.value(x) == pytest.approx(value, rel=EXACT, abs=EXACT)
    assert well.force(x) == pytest.approx(np.asarray(force), rel=EXACT, abs=EXACT)
    assert well.force(x.reshape(-1, 1)).shape == (len(x), 1)
    assert np.ndim(well.force(float(x[0]))) == 0


def test_the_trap_has_the_force_of_its_three_roots() -> None:
    force = -4 * (X + 1) * (X + 0.55) * (X - 1.2)
    assert trap_with_barrier().force(X) == pytest.approx(force, rel=EXACT)
    assert trap_with_barrier(2.0, 1.2, 0.3, -1.0).force([-1.0, 0.3, 1.2]) == pytest.approx(0, abs=EXACT)


@pytest.mark.parametrize(
    ("well", "coefficients"),
    [
        (harmonic(0.3, 2.0), [0.6, -0.3]),
        (double_well(), [0, 4, 0, -4]),
        (quartic(0.1), [0, 0, 0, -0.1]),
        (linear(0.1), [0.1]),
        # -4 (x^3 + 0.35 x^2 - 1.31 x - 0.66), the floats that a reader would write
        (trap_with_barrier(), [2.64, 5.24, -1.4, -4.0]),
        (Potential("x**3/x + 0.1*x - 0.3*x + 5"), [0.2, -2]),
        (Potential("log(exp(x**2))"), [0, -2]),
        (Potential("3"), [0]),
    ],
)
def test_polynomial_coefficients_are_the_nearest_floats(well: Potential, coefficients: list[float]) -> None:
    found = well.force_polynomial()
    assert found is not None
    assert found.tolist() == coefficients
    assert np.polynomial.polynomial.polyval(X[[0, 1, 3, 4]], found) == pytest.approx(well.force(X[[0, 1, 3, 4]]))


@pytest.mark.parametrize("text", ["log(x)", "1/x", "abs(x)", "x**0.5", "exp(-x**2)", "x**2.5", "cos(x)"])
def test_other_forces_have_no_coefficients(text: str) -> None:
    assert Potential(text).force_polynomial() is None


def test_lookup_by_name_is_the_function() -> None:
    assert potential("harmonic") == harmonic()
    assert potential(" trap_with_barrier : barrier = -0.3 , strength=2 ") == trap_with_barrier(2.0, barrier=-0.3)
    assert potential("logarithmic:strength=3").domain == (0, math.inf)
    assert potential("x") == Potential("x")
    for name, function in BUILT_IN.items():
        assert potential(name) == function()
        assert potential(name + ":") == function()


def test_a_potential_travels_to_another_process() -> None:
    well = double_well(2.0)
    well.force(X)
    assert pickle.loads(pickle.dumps(well)).force(X).tolist() == well.force(X).tolist()


def test_walls_are_infinite_and_overflow_is_no_warning() -> None:
    assert Potential("1/x**2").value([0.0, 1.0]).tolist() == [math.inf, 1]
    assert Potential("cosh(x)").value(1e4) == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Potential("log(x)").value([1.0, -2.0]), r"U of the potential log\(x\) is nan at x=-2\.0"),
        (lambda: Potential("log(x)").value(0.0), r"is -inf at x=0\.0; it must be a real number"),
        (lambda: Potential("x**0.5").force(-1.0), r"the force of the potential x\*\*0\.5 is nan at x=-1\.0"),
        (lambda: Potential("cosh(x)").force(1e4), r"the force of the potential cosh\(x\) is -inf at x=10000\.0"),
        (lambda: logarithmic().value([1.0, 0.0]), r"x=0\.0 is outside the domain 0\.0 < x < inf"),
        (lambda: harmonic().value(math.nan), r"x=nan is outside the domain"),
        (lambda: Potential("x", (1.0, 1.0)), r"domain=\(1\.0, 1\.0\) must be \(low, high\) with low < high"),
        (lambda: harmonic(math.inf), r"stiffness=inf must be a finite number"),
        (lambda: double_well(half_width=0), r"half_width=0 must be > 0"),
        (lambda: trap_with_barrier(barrier=2.0), r"barrier=2\.0 must lie between trap=-1\.0 and well=1\.2"),
        (lambda: potential("harmonics"), r"potential 'harmonics' is unknown; choose from harmonic, double_well"),
        (lambda: potential("harmonics:a=1"), r"potential 'harmonics' is unknown; choose from harmonic"),
        (lambda: potential("harmonic:stifness=2"), r"'stifness=2' is no parameter of harmonic.*stiffness=1,centre=0"),
        (lambda: potential("harmonic:stiffness=1,stiffness=2"), r"or given twice"),
        (lambda: potential("harmonic:stiffness"), r"'stiffness' is no parameter of harmonic"),
        (lambda: potential("harmonic:stiffness=two"), r"stiffness=two of the potential harmonic must be a number"),
        (lambda: potential("harmonic:stiffness=nan"), r"stiffness=nan must be a finite number"),
    ],
)
def test_refuses(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


HOSTILE = [
    ("__import__('os').system('true')", r"character \"'\" at position 12"),
    ("__import__(x)", r"'__import__\(x\)' is not allowed"),
    ("x.__class__", r"'x\.__class__' is not allowed"),
    ("exp.__globals__", r"is not allowed"),
    ("(lambda: 0)()", r"character ':' at position 8"),
    ("x if x else 1", r"'x if x else 1' is not allowed"),
    ("[x][0]", r"character '\['"),
    ("x; x", r"character ';'"),
    ("x = 1", r"character '='"),
    ("x := 1", r"character ':'"),
    ("x\n+1", r"character '\\n' at position 2"),
    ("x\x00", r"character '\\x00'"),
    ("f'{x}'", r"character \"'\""),
    ("x and x", r"'x and x' is not allowed"),
    ("not x", r"is not allowed"),
    ("x % 2", r"character '%'"),
    ("x // 2", r"'x // 2' is not allowed"),
    ("(x, x)", r"is not allowed"),
    ("exp(*x)", r"is not allowed"),
    ("exp(x, x)", r"'exp\(x, x\)' is not allowed"),
    ("exp()", r"is not allowed"),
    ("exp", r"name 'exp' is unknown"),
    ("x(x)", r"'x\(x\)' is not allowed"),
    ("eval(x)", r"'eval\(x\)' is not allowed"),
    ("True", r"'True' is not allowed"),
    ("...", r"'\.\.\.' is not allowed"),
    ("y**2", r"name 'y' is unknown; known are x, pi, e"),
    ("X**2", r"name 'X' is unknown"),
    ("\uff58**2", r"character '\uff58' at position 1"),  # a full-width x, which Python would read as x
    ("x\u00b2", r"character '\u00b2' at position 2 .* write \*\* for powers"),
    ("x^2", r"write \*\* for powers"),
    ("\u2212x", r"character '\u2212'"),
    ("2x", r"'2x' in '2x' lacks an operation; write 2\*x"),
    ("3(x)", r"'3\(x\)' is not allowed"),
    ("1or 2", r"'1or' in '1or 2' lacks an operation"),
    ("0x10", r"lacks an operation"),
    ("1j*x", r"lacks an operation"),
    ("1_0", r"lacks an operation"),
    ("007", r"'007' is not a formula in x"),
    ("", r"'' is not a formula in x"),
    ("x +", r"'x \+' is not a formula in x"),
    ("(x", r"is not a formula in x"),
    ("x)", r"is not a formula in x"),
    ("9**9**9", r"'9\*\*9\*\*9' has an exponent above 32"),
    ("((9**32)**32)**32", r"'\(9\*\*32\)\*\*32' is a number that is too large"),
    ("x**100", r"has an exponent above 32"),
    ("((x+1)**32)**32", r"polynomial of degree 1024"),
    ("(((x+1)**9+1)**9+1)**9", r"polynomial of degree 81"),
    ("x**-33", r"has an exponent above 32"),
    ("x**x", r"'x\*\*x' has x in the exponent; then the base must be a positive number"),
    ("(-2)**x", r"has x in the exponent"),
    ("1e999", r"number '1e999' must be 0 or between"),
    ("1e-999 + 1e-200", r"number '1e-200' must be 0 or between"),
    ("9" * 200, r"must be 0 or between"),
    ("exp(exp(exp(100)))", r"'exp\(exp\(100\)\)' is not a real number"),
    ("log(0)", r"'log\(0\)' is not a real number"),
    ("log(-1)*x", r"'log\(-1\)' is not a real number"),
    ("(-1)**0.5", r"is not a real number"),
    ("sqrt(-x**2)", r"is not a real number for any x"),
    ("(-x**2)**(1/3)", r"is not a real number for any x"),
    ("1/0", r"'1/0' divides by zero"),
    ("1/(x-x)", r"divides by zero"),
    ("0**-1", r"divides by zero"),
    ("(" * 70 + "x" + ")" * 70, None),
    ("(" * 240 + "x" + ")" * 240, r"is not a formula in x"),
    ("-" * 400 + "x", r"is nested too deeply"),
    ("exp(" * 90 + "x" + ")" * 90, r"is nested too deeply"),
    ("x+" * 99 + "x", r"is nested too deeply"),
    ("x" * 501, r"the formula is 501 characters long; at most 500"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_is_never_more_than_a_formula(text: str, message: str | None) -> None:
    began = time.process_time()
    if message is None:
        assert Potential(text).force(1.0) == -1
    else:
        with pytest.raises(ValueError, match=message):
            Potential(text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "exp(-" * (DEEPEST_NESTING // 2) + "x" + ")" * (DEEPEST_NESTING // 2),
        "sin(" * DEEPEST_NESTING + "x" + ")" * DEEPEST_NESTING,
        "*".join(["(x+1.1)"] * 60),
        "((x+0.123456789)**8+0.987654321)**8",
        "(x+1e-99)**32*(x+1e99)**32",
        "sin(x)**32*cos(x)**32/(1+x**2)**32",
        "sin(1e90*x)",
    ],
)
def test_the_largest_formulas_are_quick(text: str) -> None:
    assert len(text) <= LONGEST_TEXT
    began = time.process_time()
    well = Potential(text)
    assert well.value(0.3) is not None
    well.force_polynomial()
    with suppress(ValueError):  # 1e99^63 overflows
        well.force(0.3)
    assert time.process_time() - began < 5


LEAVES = st.sampled_from(["x", "pi", "e", "2", "0.5", "3", "1e-3"])


def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return (
        st.tuples(st.sampled_from(FUNCTIONS), inner).map(lambda part: f"{part[0]}({part[1]})")
        | st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner).map(lambda part: f"({''.join(part)})")
        | inner.map(lambda part: f"(-{part})")
    )


@given(st.recursive(LEAVES, grow, max_leaves=6))
def test_any_formula_has_a_force_that_is_its_slope_or_a_clear_error(text: str) -> None:
    try:
        well = Potential(text)
        at, step = 1.37, 1e-5
        force, (below, above) = float(well.force(at)), well.value([at - step, at + step])
    except ValueError:
        return
    assert math.isfinite(force)
    if abs(force) < 1e6 and abs(below) < 1e4:
        assert force == pytest.approx((below - above) / (2 * step), rel=1e-2, abs=1e-4 * (1 + abs(below)))


@given(st.text(max_size=40) | st.text(alphabet="x1.+-*/() esinlog", max_size=30))
def test_any_text_is_a_formula_or_a_clear_error(text: str) -> None:
    with suppress(ValueError):
        potential(text)
