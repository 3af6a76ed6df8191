"""What the tests of derivations ask of the LaTeX of each of them."""

import sympy

from theory.symbolic_derivation import Derivation


def check_latex(derivation: Derivation) -> str:
    """A complete block with two lines for each step, of a result without open sums or integrals; returns it."""
    assert not derivation.result.has(sympy.Integral, sympy.Derivative, sympy.Subs, sympy.Sum)
    assert set(derivation.result.free_symbols) <= set(derivation.symbols)
    text = derivation.latex()
    assert text.startswith("\\begin{align*}\n")
    assert text.endswith("\n\\end{align*}\n")
    assert text.count("\\left") == text.count("\\right")
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    lines = text.split("\n")[1:-2]
    assert len(lines) == 2 * len(derivation.steps)
    assert all(line.endswith(" \\\\") for line in lines[:-1])
    for step, _ in derivation.steps:  # words only: nothing that LaTeX would read as a command
        assert not set(step) & set("_^#$%&{}\\~")
    return text
