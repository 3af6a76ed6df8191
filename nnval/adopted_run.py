"""A run of ``jostle train`` as the unperturbed ensemble of a study of perturbations."""

import os
from pathlib import Path

from nnval.engine import run_directory as disk
from nnval.engine.config import TrainingConfig
from nnval.engine.results import load_ensemble

UNPERTURBED = "unperturbed"
"""Where a study has its unperturbed ensemble."""


def adoptable(run: str | Path) -> TrainingConfig:
    """The training of a run that a study can begin with.

    Args:
        run: its directory.

    Returns:
        The config with all members that are there.

    Raises:
        ValueError: if it is unfinished, has a perturbation, stops at a target, is a branch or took no snapshots of the
            weights, without which survivors cannot be perturbed.
    """
    config = load_ensemble(run).config
    refused = {
        "a perturbation": config.perturbation is not None,
        f"the target {config.target}, where members stopped": config.target is not None,
        "members that were branched from another run": disk.read_description(Path(run))["branch"] is not None,
        "no snapshots of its survivors: train it with --snapshots EPOCHS, those at which they are to be perturbed": (
            not config.snapshots
        ),
    }
    for what, holds in refused.items():
        if holds:
            raise ValueError(f"{run} cannot be the unperturbed ensemble of a study: it has {what}")
    return config


def adopt(run: str | Path, directory: str | Path) -> None:
    """Let a study use a run in place: by a link, so that no weights are copied.

    Args:
        run: its directory.
        directory: of the study, which is there.

    Raises:
        ValueError: if the study has an unperturbed ensemble that is another one.
        OSError: if the link cannot be made.
    """
    place = Path(directory) / UNPERTURBED
    if place.exists() or place.is_symlink():
        if not place.exists() or not place.samefile(run):
            raise ValueError(f"{place} is there already and is not {run}; choose another directory for the study")
        return
    place.symlink_to(os.path.relpath(Path(run).resolve(), Path(directory).resolve()), target_is_directory=True)
