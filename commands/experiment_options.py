"""What the experiments with networks on the noise of batches share: options of their trainings, and presets."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from commands.options import LEARNING_RATE, Decorator, run_option, with_options

TRAINING_FIELDS = (
    "epochs",
    "learning_rate",
    "momentum",
    "weight_decay",
    "batch_size",
    "train_size",
    "label_noise",
    "model",
    "device",
    "seed",
)
"""Options that replace a field of ``[training]``."""


PRESET = "Name, or path of a TOML file; other options override it."
SHOW_PRESET = "Print the preset, to copy and change, and stop."


def _training_options(preset: str) -> Decorator:
    return with_options(
        run_option,
        click.option("--preset", default=preset, show_default=True, help=PRESET),
        click.option("--show-preset", is_flag=True, help=SHOW_PRESET),
        click.option("--data", help="digits, cifar10, ...; or the path of a folder or tar of images."),
        click.option("--train-size", type=int, help="Training samples."),
        click.option("--label-noise", type=float, help="Fraction of wrong training labels."),
        click.option("--model", help="mlp, lenet, ...; or package.module:function of your own."),
        click.option(*LEARNING_RATE, type=float, help="Learning rate, the highest of the schedule."),
        click.option("--momentum", type=float, help="Of SGD."),
        click.option("--weight-decay", type=float, help="It adds to every curvature."),
        click.option("--batch-size", type=int, help="Samples in a batch."),
        click.option("--epochs", type=int, help="Of a training."),
        click.option("--device", help="cpu, cuda, mps, or auto."),
        click.option("--seed", type=click.IntRange(min=0), help="Of all random numbers. Default: the preset's."),
        click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="Of each process."),
    )


@dataclass(frozen=True)
class ExperimentRun:
    """What the command of an experiment was told.

    Attributes:
        experiment: one of ``nnval.experiment_presets.EXPERIMENTS``.
        directory: of the run.
        preset: name, or path of a TOML file.
        training: values of ``TRAINING_FIELDS``; None if not given.
        begin: now, by the monotonic clock.
        data: name of a data set or path of images; None for the preset's.
        threads: of each process.
        as_json: print one JSON object instead of tables.
        quiet: no progress and no hints.
    """

    experiment: str
    directory: Path
    preset: str
    training: dict[str, Any]
    begin: float
    data: str | None
    threads: int
    as_json: bool
    quiet: bool

    def fields(self, options: dict[str, Any], **training: Any) -> dict[str, Any]:
        """The fields of the preset with those of the command line over them.

        Args:
            options: fields of the experiment; None or empty tuples if not given.
            **training: other fields of ``[training]``.

        Returns:
            The fields.
        """
        return experiment_fields(self.experiment, self.preset, self.data, self.training | training, options)


def experiment_options(experiment: str, *, preset: str, example: str) -> Decorator:
    """``--out``, ``--preset``, and the fields of the training that are changed most often.

    Args:
        experiment: one of ``nnval.experiment_presets.EXPERIMENTS``.
        preset: the default.
        example: of ``--out``, for the message if it is missing.

    Returns:
        A decorator. The command gets an `ExperimentRun` and its own options. With ``--show-preset`` it is not called.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*, out: Path | None, preset: str, show_preset: bool, **options: Any) -> None:
            if show_preset:
                _show(experiment, preset)
                return
            training = {name: options.pop(name) for name in TRAINING_FIELDS}
            told = {name: options.pop(name) for name in ("data", "threads", "as_json", "quiet")}
            run = ExperimentRun(experiment, run_directory(out, example), preset, training, time.monotonic(), **told)
            function(run, **options)

        return _training_options(preset)(command)

    return decorate


def _show(experiment: str, preset: str) -> None:
    from nnval.experiment_presets import experiment_text, load_experiment

    load_experiment(experiment, preset)  # a damaged one is refused
    click.echo(experiment_text(experiment, preset), nl=False)


def run_directory(out: Path | None, example: str) -> Path:
    """The directory of ``--out``.

    Args:
        out: what was given.
        example: of one, for the message.

    Returns:
        The path.

    Raises:
        ValueError: if none was given.
    """
    if out is None:
        raise ValueError(f"--out is missing: name the directory of the run, such as --out {example}")
    return out


def experiment_fields(
    experiment: str, preset: str, data: str | None, training: dict[str, Any], fields: dict[str, Any]
) -> dict[str, Any]:
    """The fields of a preset with those of the command line over them.

    Args:
        experiment: one of ``nnval.experiment_presets.EXPERIMENTS``.
        preset: name, or path of a TOML file.
        data: name of a data set or path of images; None for the preset's.
        training: fields of ``[training]``; None if not given.
        fields: of the experiment, likewise; empty tuples are not given either.

    Returns:
        The fields.
    """
    from nnval.engine.datasets import data_options
    from nnval.experiment_presets import load_experiment

    values = load_experiment(experiment, preset)
    of_data = {} if data is None else {"data_dir": None, "data_sha256": None} | data_options(data)
    values["training"] |= of_data | {name: value for name, value in training.items() if value is not None}
    return values | {name: value for name, value in fields.items() if value is not None and value != ()}
