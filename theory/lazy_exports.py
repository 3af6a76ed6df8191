"""Public names of a package that are imported only when they are used, so that importing the package costs nothing."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names live in its submodules (PEP 562).

    The package's `__init__` lists the names once more for type checkers and editors, which don't run it:

        if TYPE_CHECKING:
            from theory.estimate import Estimate as Estimate
        else:
            __getattr__, __dir__ = lazy_exports(__name__, {"Estimate": "estimate"})

    The first use of a name imports its submodule; from then on it is an ordinary attribute of the package.

    Args:
        package: Full name of the package, its `__name__`.
        names: The submodule, without the package, of each public name. No name may be that of a submodule: importing
            that would replace it.

    Returns:
        What the package binds to `__getattr__` and `__dir__`. The former raises AttributeError for other names.

    Example:
        >>> get, list_names = lazy_exports("theory", {"Estimate": "estimate"})
        >>> get("Estimate").__module__
        'theory.estimate'
        >>> "Estimate" in list_names()
        True
        >>> get("nothing_like_it")
        Traceback (most recent call last):
        AttributeError: module 'theory' has no attribute 'nothing_like_it'
    """

    def get(name: str) -> Any:
        module = sys.modules[package]
        if name not in names:
            # With these two arguments Python proposes the nearest name.
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=module)
        value = getattr(importlib.import_module(f"{package}.{names[name]}"), name)
        setattr(module, name, value)  # the next use does not come here
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return get, list_names
