"""torchvision, imported where it is needed: it costs a second, and imports only beside the torch it was made for."""

import importlib
from importlib import metadata
from types import ModuleType

import torch


def matching_torchvision(torch_version: str) -> str | None:
    """The torchvision release made for a release of torch; None if torch is not of the 2 series.

    Args:
        torch_version: such as ``torch.__version__``.

    Example:
        >>> matching_torchvision("2.14.1+cpu")
        '0.29'
    """
    major, minor = torch_version.split(".")[:2]
    return f"0.{int(minor) + 15}" if major == "2" else None


def import_torchvision(module: str) -> ModuleType:
    """A module of torchvision.

    Args:
        module: such as ``"torchvision.models"``.

    Raises:
        ValueError: if torchvision is missing, or does not fit torch; it says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"torchvision cannot be imported ({error}): {_remedy()}") from None
    except Exception as error:  # torch's loader of operators raises what it likes
        found = next((found.version for found in metadata.distributions(name="torchvision")), "of unknown version")
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"torchvision {found} does not fit torch {torch.__version__} ({reason}): {_remedy()}"
        ) from None


def _remedy() -> str:
    release = matching_torchvision(torch.__version__)
    if release is None:
        return "pip install 'jostle[nn]'"
    series = ".".join(torch.__version__.split(".")[:2])
    return f"install the pair, from one index: pip install 'torch=={series}.*' 'torchvision=={release}.*'"
