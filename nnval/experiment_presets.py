"""Presets of experiments: TOML files in ``nnval/presets/EXPERIMENT``, and copies of them.

A preset has the fields of the experiment's config, its training in a table ``[training]``, whose fields are those of
``TrainingConfig``. What is left out has its default.
"""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from nnval.engine.recipes import ALL_SAMPLES

EXPERIMENTS = (
    "activation-temperature",
    "adaptive-noise",
    "effective-temperature",
    "weight-variance",
    "widening-valley",
)

_PRESETS = resources.files("nnval") / "presets"


def experiment_presets(experiment: str) -> list[str]:
    """The presets that come with jostle.

    Args:
        experiment: one of ``EXPERIMENTS``.

    Example:
        >>> "digits" in experiment_presets("widening-valley")
        True
    """
    files = (_PRESETS / experiment).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def experiment_text(experiment: str, name: str) -> str:
    """A preset as it is, with its comments, to be copied.

    Args:
        experiment: one of ``EXPERIMENTS``.
        name: of a preset that comes with jostle, or the path of a file that ends in ``.toml``.

    Raises:
        ValueError: if there is no such preset or file, or it is not text.
    """
    offered = experiment_presets(experiment)
    missing = f"preset {name!r} does not exist; choose {', '.join(offered)} or the path of a .toml"
    if not name.endswith(".toml"):
        if name not in offered:
            raise ValueError(missing)
        return (_PRESETS / experiment / f"{name}.toml").read_text(encoding="utf-8")
    try:
        return Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(missing) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text: {error}") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None


def load_experiment(experiment: str, name: str) -> dict[str, Any]:
    """The fields that a preset sets; the experiment's config checks them.

    Args:
        experiment: one of ``EXPERIMENTS``.
        name: of a preset that comes with jostle, or the path of a file that ends in ``.toml``.

    Returns:
        Field to value; ``training`` is always there.

    Raises:
        ValueError: if there is no such preset or file, or it is not TOML.

    Example:
        >>> load_experiment("widening-valley", "digits")["training"]["data"]
        'digits'
    """
    try:
        values = tomllib.loads(experiment_text(experiment, name))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}") from None
    training = values.setdefault("training", {})
    if not isinstance(training, dict):
        raise ValueError(f"{name}: the preset's [training] must be a table")
    if training.get("train_size") == ALL_SAMPLES:
        training["train_size"] = None
    return values
