"""Trainings as TOML files: those that come with jostle (``nnval/presets``), and copies of them that users change.

A recipe is a table ``[training]`` with fields of ``TrainingConfig``. A study of ``jostle validate perturbation`` has
more around that table: perturbations, and what is measured. It is a recipe too, of its unperturbed ensemble.
"""

import dataclasses
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from nnval.engine.config import TrainingConfig

ALL_SAMPLES = "all"
"""What a file says for ``train_size=None``: TOML has no word for None."""

OF_A_STUDY = ("perturbations", "intervals", "branch_epochs", "follow")
"""Fields that only a study has, and that have no default there."""

_PRESETS = resources.files("nnval") / "presets"


def recipe_names() -> list[str]:
    """The trainings that come with jostle, studies included.

    Example:
        >>> "meir2025-small" in recipe_names()
        True
    """
    return sorted(file.name.removesuffix(".toml") for file in _PRESETS.iterdir() if file.name.endswith(".toml"))


def study_names() -> list[str]:
    """The perturbation studies that come with jostle.

    Example:
        >>> "digits-demo" in study_names()
        True
    """
    return [name for name in recipe_names() if _is_study(_parsed(name, preset_text(name)))]


def preset_text(name: str) -> str:
    """A preset as it is, with its comments, to be copied.

    Args:
        name: of a preset that comes with jostle, or the path of a file that ends in ``.toml``.

    Raises:
        ValueError: if there is no such preset or file, or it is not text.
    """
    return _text(name, recipe_names)


def load_recipe(name: str) -> dict[str, Any]:
    """The fields of ``TrainingConfig`` that a recipe sets; ``TrainingConfig`` itself checks their values.

    Args:
        name: of a recipe that comes with jostle, or the path of a file that ends in ``.toml``.

    Returns:
        Field to value; what is left out has its default.

    Raises:
        ValueError: if there is no such recipe or file, it is not TOML, has no table ``[training]``, or says something
            that no training knows.

    Example:
        >>> TrainingConfig.from_dict(load_recipe("meir2025") | {"epochs": 100}).learning_rate
        0.02
    """
    values = _parsed(name, preset_text(name))
    if "training" not in values:
        raise ValueError(f"{name} has no table [training]: put the fields of the training under that heading")
    outside = [field for field in values if field != "training"]
    if outside and not _is_study(values):
        raise ValueError(
            f"{name}: {', '.join(map(repr, outside))} stands outside [training], where only a study has fields; put it "
            "under that heading"
        )
    return _training(name, values)


def load_study(name: str) -> dict[str, Any]:
    """The fields of a study, ``nnval.study.StudyConfig``, which itself checks them; ``training`` is a table of fields.

    Args:
        name: of a study that comes with jostle, or the path of a file that ends in ``.toml``.

    Returns:
        Field to value; what is left out has its default.

    Raises:
        ValueError: if there is no such study or file, it is not TOML, it is a training only, or its table
            ``[training]`` says something that no training knows.

    Example:
        >>> load_study("digits-demo")["intervals"]
        [10, 20, 40]
    """
    values = _parsed(name, _text(name, study_names))
    if not _is_study(values):
        raise ValueError(
            f"preset {name!r} is a training without perturbations, for jostle train --preset {name}; a study such as "
            f"{study_names()[0]} also has {', '.join(OF_A_STUDY)}"
        )
    return values | {"training": _training(name, values)}


def _text(name: str, offered: Callable[[], list[str]]) -> str:
    missing = "preset {!r} does not exist; choose {} or the path of a .toml"
    if not name.endswith(".toml"):
        if name not in recipe_names():
            raise ValueError(missing.format(name, ", ".join(offered())))
        return (_PRESETS / f"{name}.toml").read_text(encoding="utf-8")
    try:
        return Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(missing.format(name, ", ".join(offered()))) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text: {error}") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}") from None


def _is_study(values: dict[str, Any]) -> bool:
    return any(field in values for field in OF_A_STUDY)


def _training(name: str, values: dict[str, Any]) -> dict[str, Any]:
    table = values.get("training", {})
    if not isinstance(table, dict):
        raise ValueError(f"{name}: the preset's [training] must be a table")
    known = [field.name for field in dataclasses.fields(TrainingConfig)]
    if unknown := [field for field in table if field not in known]:
        raise ValueError(
            f"{name}: unknown field {', '.join(map(repr, unknown))} in [training]; a training has {', '.join(known)}"
        )
    return table | ({"train_size": None} if table.get("train_size") == ALL_SAMPLES else {})
