"""Formulas in x that a user types, as symbolic expressions.

The text is parsed by Python's own grammar and never evaluated: numbers, x, pi, e, the operations + - * / ** and a list
of functions pass, each turned into a symbolic node here; all else is refused, with the piece that offends. Limits on
length, nesting and the size of numbers keep what passes quick. Numbers are rational until they are needed.
"""

import ast
import math
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import sympy

FUNCTIONS = ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "abs")
"""Functions that an expression may use."""

CONSTANTS = MappingProxyType({"pi": math.pi, "e": math.e})
"""Names of numbers."""

LONGEST_TEXT = 500
DEEPEST_NESTING = 60
LARGEST_EXPONENT = 32
LARGEST_DEGREE = 64
LARGEST_NUMBER = 10**100


def position() -> "sympy.Symbol":
    """x, a real number.

    Returns:
        The symbol in all expressions of this module.
    """
    import sympy

    return sympy.Symbol("x", real=True)


def parse_expression(text: str) -> "sympy.Expr":
    """The symbolic expression that a text stands for.

    Args:
        text: such as ``(x**2 - 1)**2 + exp(-x)``.

    Returns:
        An expression in ``position()`` whose other numbers are rational.

    Raises:
        ValueError: for a text that is no formula, or is too large, with the piece that offends.

    Example:
        >>> parse_expression("0.1*x**2 + exp(-x)").diff(position())
        x/5 - exp(-x)
    """
    from sympy import preorder_traversal

    if len(text) > LONGEST_TEXT:
        raise ValueError(f"the formula is {len(text)} characters long; at most {LONGEST_TEXT} are allowed")
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    stranger = re.search(r"[^0-9A-Za-z_.+\-*/(), ]", text)
    if stranger:
        hint = "; write ** for powers" if stranger[0] in "^²³" else ""
        raise ValueError(
            f"character {stranger[0]!r} at position {stranger.start() + 1} of {shown} is not allowed{hint}"
        )
    # Python would read some of these as two words, with a warning.
    glued = re.search(r"(?<![A-Za-z_0-9])((?>\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?+)([A-Za-z_]\w*)", text)
    if glued:
        raise ValueError(f"{glued[0]!r} in {shown} lacks an operation; write {glued[1]}*{glued[2]}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "nested too deeply"
        raise ValueError(f"{shown} is not a formula in x: {reason}") from None
    result = _build(tree.body, text.strip(), 0)
    if any(number.is_number and not number.is_extended_real for number in preorder_traversal(result)):
        raise ValueError(f"{shown} is not a real number for any x: it has a root or logarithm of a negative number")
    return result


def _build(node: ast.expr, text: str, depth: int) -> "sympy.Expr":
    """The symbolic expression of one node of the syntax tree; what is not listed here does not pass."""
    import sympy

    piece = ast.get_source_segment(text, node) or text
    piece = piece if len(piece) <= 60 else piece[:57] + "..."
    if depth > DEEPEST_NESTING:
        raise ValueError(f"{piece!r} is nested too deeply; at most {DEEPEST_NESTING} operations may enclose another")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            result = _rational(value, piece)
        case ast.Name(id="x"):
            result = position()
        case ast.Name(id=name) if name in CONSTANTS:
            result = _rational(CONSTANTS[name], piece)
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            inner = _build(operand, text, depth + 1)
            result = inner if isinstance(sign, ast.UAdd) else -inner
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow() as operation, right=right
        ):
            result = _combine(operation, _build(left, text, depth + 1), _build(right, text, depth + 1), piece)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            result = _apply(name, _build(argument, text, depth + 1), piece)
        case ast.Name(id=name):
            raise ValueError(
                f"name {name!r} is unknown; known are x, {', '.join(CONSTANTS)}, and functions: {', '.join(FUNCTIONS)}"
            )
        case _:
            raise ValueError(
                f"{piece!r} is not allowed; a formula is made of numbers, x, {', '.join(CONSTANTS)}, + - * / **, and "
                f"functions of one argument: {', '.join(FUNCTIONS)}"
            )
    if isinstance(result, sympy.Rational) and max(abs(result.p), result.q) > LARGEST_NUMBER**3:
        raise ValueError(f"{piece!r} is a number that is too large, too small or too long")
    degree = _degree(result)
    if degree is not None and degree > LARGEST_DEGREE:
        raise ValueError(f"{piece!r} is a polynomial of degree {degree}; at most {LARGEST_DEGREE} is allowed")
    return result


def _combine(operation: ast.operator, left: "sympy.Expr", right: "sympy.Expr", piece: str) -> "sympy.Expr":
    import sympy

    match operation:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            if right == 0:
                raise ValueError(f"{piece!r} divides by zero")
            return left / right
    if isinstance(right, sympy.Rational):
        if abs(right) > LARGEST_EXPONENT:
            raise ValueError(f"{piece!r} has an exponent above {LARGEST_EXPONENT} in size")
        if left == 0 and right < 0:
            raise ValueError(f"{piece!r} divides by zero")
        if isinstance(left, sympy.Rational) and not right.is_integer:
            return _of_numbers(lambda: math.pow(float(left), float(right)), piece)
    elif not (isinstance(left, sympy.Rational) and left > 0):
        raise ValueError(f"{piece!r} has x in the exponent; then the base must be a positive number, as in 2**x")
    return left**right


def _apply(name: str, argument: "sympy.Expr", piece: str) -> "sympy.Expr":
    import sympy

    if isinstance(argument, sympy.Rational):
        function = abs if name == "abs" else getattr(math, name)
        return _of_numbers(lambda: function(float(argument)), piece)
    if name == "abs":
        # Of what is not known to be real, the derivative of an absolute value has no real form.
        return sympy.Abs(argument) if argument.is_extended_real else sympy.sqrt(argument**2)
    return getattr(sympy, name)(argument)


def _of_numbers(compute: Callable[[], float], piece: str) -> "sympy.Expr":
    """Functions of numbers become numbers at once: symbolic ones such as exp(exp(exp(9))) could take for ever."""
    try:
        return _rational(compute(), piece)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"{piece!r} is not a real number of size up to {LARGEST_NUMBER:.0e}") from None


def _rational(value: float, piece: str) -> "sympy.Rational":
    """The number that was typed, not the binary one nearest to it: 0.1 is 1/10."""
    import sympy

    if not (math.isfinite(value) and (value == 0 or 1 / LARGEST_NUMBER <= abs(value) <= LARGEST_NUMBER)):
        raise ValueError(f"number {piece!r} must be 0 or between {1 / LARGEST_NUMBER:.0e} and {LARGEST_NUMBER:.0e}")
    return cast("sympy.Rational", sympy.Rational(repr(value)))


def _degree(expression: "sympy.Basic") -> int | None:
    """Degree of a polynomial without multiplying it out, or a bound of it; None of what is no polynomial."""
    if expression.is_Number:
        return 0
    if expression.is_Symbol:
        return 1
    if expression.is_Pow:
        base, exponent = expression.args
        inner = _degree(base)
        is_power = exponent.is_Integer and exponent.is_nonnegative
        return inner * int(str(exponent)) if is_power and inner is not None else None
    if not (expression.is_Add or expression.is_Mul):
        return None
    degrees = [_degree(argument) for argument in expression.args]
    known = [degree for degree in degrees if degree is not None]
    if len(known) < len(degrees):
        return None
    return max(known) if expression.is_Add else sum(known)
