"""The public names of each package: complete, documented with an example that runs, and imported only when used."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("theory", "sim", "nnval", "nnval.drop_in", "nnval.measure", "figures")


def public_names(package: str) -> list[str]:
    return list(getattr(importlib.import_module(package), "__all__", []))


NAMES = [(package, name) for package in PACKAGES for name in public_names(package)]
names_with_package = pytest.mark.parametrize(("package", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
packages_with_names = pytest.mark.parametrize("package", [package for package in PACKAGES if public_names(package)])


def named(package: str, name: str) -> Any:
    return getattr(importlib.import_module(package), name)


def own_methods(item: type) -> list[Any]:
    """Public methods, properties and constructors that the class itself defines."""
    return [member for name, member in vars(item).items() if not name.startswith("_") and inspect.getdoc(member)]


def what_lacks(item: Any) -> list[str]:
    """What the documentation of a public function or class does not have."""
    text = inspect.getdoc(item) or ""
    if inspect.isclass(item):
        texts = [text, *(inspect.getdoc(member) or "" for member in own_methods(item))]
        is_made = "__dataclass_fields__" in vars(item) or "__init__" in vars(item)
        # Of an abstract class, what its methods take is enough.
        sections = [("Attributes:", "Args:")] if is_made and inspect.signature(item).parameters else []
    else:
        texts = [text]
        signature = inspect.signature(item)
        returns_nothing = signature.return_annotation in (None, "None")
        sections = [("Args:",)] * bool(signature.parameters) + [("Returns:", "Yields:")] * (not returns_nothing)
    lacks = [wanted[0] for wanted in sections if not any(section in text for section in wanted)]
    return lacks + ["an example"] * (not any(">>> " in text for text in texts)) + ["a docstring"] * (not text)


@names_with_package
def test_a_public_name_is_documented_with_an_example(package: str, name: str) -> None:
    item = named(package, name)
    assert not name.startswith("_")
    assert inspect.isclass(item) or inspect.isroutine(item) or callable(item)
    assert item.__module__.startswith(f"{package}."), "it belongs to another package"
    assert item.__name__ == name
    assert what_lacks(item) == []


def test_the_check_sees_what_is_missing() -> None:
    def bare(number: int) -> int:
        return number

    def documented() -> None:
        """Say nothing.

        Example:
            >>> documented()
        """

    assert what_lacks(bare) == ["Args:", "Returns:", "an example", "a docstring"]
    assert what_lacks(documented) == []


@packages_with_names
def test_public_names_are_listed_for_readers_and_for_type_checkers(package: str) -> None:
    module = importlib.import_module(package)
    names = public_names(package)
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(module))
    words = set(re.findall(r"\w+", module.__doc__ or ""))
    assert [name for name in names if name not in words] == [], "the package's docstring lists all its names"

    assert module.__file__
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    branches = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for branch in branches for node in branch.body if isinstance(node, ast.ImportFrom)]
    # `as` the same name: what type checkers take as public.
    aliases = [(str(node.module), alias) for node in imports for alias in node.names]
    assert [alias.name for _, alias in aliases if alias.asname != alias.name] == []
    assert sorted(alias.name for _, alias in aliases) == sorted(names)
    for source, alias in aliases:
        assert getattr(importlib.import_module(source), alias.name) is named(package, alias.name)


@packages_with_names
def test_no_public_name_is_that_of_a_submodule(package: str) -> None:
    submodules = {path.stem for path in (ROOT / package.replace(".", "/")).iterdir()}
    assert sorted(submodules & set(public_names(package))) == []


def test_importing_the_packages_imports_nothing_else() -> None:
    code = f"""
import importlib, json, sys
before = set(sys.modules)
packages = [importlib.import_module(name) for name in {PACKAGES!r}]
loaded = sorted(set(sys.modules) - before)
import theory
try:
    theory.Restart
except AttributeError as error:
    unknown = str(error)
from theory import erlang
print(json.dumps([loaded, unknown, erlang.__module__, "theory.waiting_times" in sys.modules, "erlang" in vars(theory)]))
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded, unknown, module, is_loaded, is_kept = json.loads(process.stdout)
    ours = [name for name in loaded if name.split(".")[0] in PACKAGES]
    assert ours == sorted([*PACKAGES, "theory.lazy_exports"])
    heavy = {"numpy", "scipy", "sympy", "numba", "torch", "matplotlib", "pandas", "sklearn"}
    assert heavy & set(loaded) == set()
    assert unknown == "module 'theory' has no attribute 'Restart'"
    assert (module, is_loaded, is_kept) == ("theory.waiting_times", True, True)
