"""Python text that is safe and stays as ruff formats it: literals, constants, comments, and the library's own source.

Whatever a user chose enters a script as a literal: the templates' environment turns everything into one that is not
marked as ``Code``. Code is what jostle itself wrote.
"""

import ast
import functools
import inspect
import math
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

WIDTH = 120
"""Columns of a script."""

_PIECE = 80


class Code(str):
    """Text of a script that jostle wrote: never anything that came from a user."""

    __slots__ = ()


def _quoted(text: str) -> str:
    """A literal with the quotes that ruff prefers: double ones, unless they would need more backslashes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    inner = (f"\\{char}" if char == quote else char if char in "'\"" else ascii(char)[1:-1] for char in text)
    return f"{quote}{''.join(inner)}{quote}"


def literal(value: Any) -> Code:
    r"""The literal of a value, on one line.

    Args:
        value: None, a truth value, a finite number, text, or a tuple, list or dictionary of such.

    Returns:
        It; text with the quotes that ruff prefers, and escapes for all but printable ASCII.

    Raises:
        ValueError: for anything else.

    Example:
        >>> print(literal("it's"), literal((1, 2.5)), literal("a\nb"))
        "it's" (1, 2.5) "a\nb"
    """
    if isinstance(value, str):
        return Code(_quoted(str(value)))
    if isinstance(value, tuple | list):
        items = ", ".join(literal(item) for item in value)
        return Code(f"({items},)" if len(value) == 1 else f"({items})")
    if isinstance(value, dict):
        return Code("{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}")
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return Code(repr(value))
    raise ValueError(f"{value!r} has no literal: a script holds texts, finite numbers and tuples of them")


def _assigned(begin: str, value: Any, end: str = "") -> str:
    """``begin`` and the literal of a value, on as many lines as ruff gives it."""
    line = f"{begin}{literal(value)}{end}"
    if len(line) <= WIDTH or isinstance(value, int | float):
        return line
    indent = " " * (len(begin) - len(begin.lstrip()))
    if isinstance(value, str):
        # As many characters as fit: \U0001f600 is the longest escape.
        size = _PIECE if len(literal(value)) < 1.2 * len(value) else _PIECE // 10
        items = [literal(value[first : first + size]) for first in range(0, len(value), size)]
    elif isinstance(value, dict):
        items = [f"{literal(key)}: {literal(item)}," for key, item in value.items()]
    else:
        items = [f"{literal(item)}," for item in value]
    left, right = "{}" if isinstance(value, dict) else "()"
    return "\n".join([begin + left, *(f"{indent}    {item}" for item in items), indent + right + end])


def call(name: str, function: str, arguments: dict[str, Any]) -> Code:
    """An assignment of what a call gives, an argument on each line.

    Args:
        name: of the constant, jostle's.
        function: jostle's.
        arguments: their names are jostle's; see ``literal`` for their values.
    """
    lines = [_assigned(f"    {argument}=", value, ",") for argument, value in arguments.items()]
    return Code("\n".join([f"{name} = {function}(", *lines, ")"]) if lines else f"{name} = {function}()")


def constant(name: str, value: Any, comment: str = "") -> Code:
    """An assignment that ruff leaves as it is, however long the value.

    Args:
        name: of the constant, jostle's.
        value: see ``literal``.
        comment: jostle's; behind a value that leaves room for it, else above.

    Returns:
        One or several lines, the last without its end.
    """
    line = _assigned(f"{name} = ", value)
    if not comment:
        return Code(line)
    if "\n" in line or len(line) + len(comment) + 4 > WIDTH:
        return Code(f"# {comment}\n{line}")
    return Code(f"{line}  # {comment}")


def command_comment(arguments: Sequence[str]) -> Code:
    """A command, quoted for a shell, as lines of a comment; all but printable ASCII is shown by escapes.

    Args:
        arguments: of the command, its name first.
    """
    lines, line = [], ""
    for argument in arguments:
        word = "".join(char if " " <= char <= "~" else ascii(char)[1:-1] for char in shlex.quote(argument))
        if line and len(line) + len(word) + 1 > WIDTH - 10:
            lines.append(line + " \\")
            line = "   "
        line = f"{line} {word}" if line else word
    lines.append(line)
    pieces = [line[begin : begin + WIDTH - 6] for line in lines for begin in range(0, len(line), WIDTH - 6)]
    return Code("\n".join(f"# {piece}".rstrip() for piece in pieces))


@functools.cache
def source_of(thing: Callable[..., Any], **names: str) -> Code:
    """The source of one of jostle's functions or classes, of its docstring the first line only.

    Args:
        thing: a function or class of a module.
        names: what names of its module are called in the script.
    """
    text = inspect.getsource(thing).rstrip("\n")
    lines = text.split("\n")
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in sorted(nodes, key=lambda node: -node.lineno):
        document = node.body[0]
        if isinstance(document, ast.Expr) and isinstance(document.value, ast.Constant) and ast.get_docstring(node):
            begin, end = document.lineno - 1, document.end_lineno
            summary = (ast.get_docstring(node) or "").split("\n")[0]
            lines[begin:end] = [" " * document.col_offset + f'"""{summary}"""']
    text = "\n".join(lines)
    for name, new in names.items():
        text = re.sub(rf"(?<![\w.]){re.escape(name)}\b", new, text)
    return Code(text)


def _final(value: Any) -> str:
    return value if isinstance(value, Code) else literal(value)


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        autoescape=False,  # no markup: see _final
        finalize=_final,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def rendered(template: str, values: dict[str, Any]) -> str:
    """A template of ``nnval/templates``, filled in.

    Args:
        template: name of the file.
        values: for it; all that is not ``Code`` becomes a literal.
    """
    return _templates().get_template(template).render(values)
