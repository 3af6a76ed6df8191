"""What the experiments on the noise of batches share: options of their trainings, presets, and the end of a run."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from commands.shared import hint, progress_bar

Progress = Callable[[int, int, str], None]
Result = TypeVar("Result")

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

COMPARISONS, REPORT = "comparisons.json", "report.html"


def experiment_options(experiment: str, *, preset: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``--out``, ``--preset``, and the fields of the training that are changed most often.

    Args:
        experiment: one of ``nnval.experiment_presets.EXPERIMENTS``.
        preset: the default.

    Returns:
        A decorator. With ``--show-preset`` the command is not called.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*, preset: str, show_preset: bool, **options: Any) -> None:
            if show_preset:
                _show(experiment, preset)
            else:
                function(preset=preset, **options)

        for option in reversed(
            (
                click.option(
                    "--out", type=click.Path(path_type=Path), help="Directory of the run; resumed if it exists."
                ),
                click.option("--preset", default=preset, show_default=True, help="Name, or path of a TOML file."),
                click.option("--show-preset", is_flag=True, help="Print the preset, to copy and change, and stop."),
                click.option("--data", help="digits, cifar10, ...; or the path of a folder or tar of images."),
                click.option("--train-size", type=int, help="Training samples."),
                click.option("--label-noise", type=float, help="Fraction of wrong training labels."),
                click.option("--model", help="mlp, lenet, ...; or package.module:function of your own."),
                click.option("--lr", "learning_rate", type=float, help="Learning rate of the training."),
                click.option("--momentum", type=float, help="Of SGD."),
                click.option("--weight-decay", type=float, help="It adds to every curvature."),
                click.option("--batch-size", type=int, help="Samples in a batch."),
                click.option("--epochs", type=int, help="Of the training."),
                click.option("--device", help="cpu, cuda, mps, or auto."),
                click.option("--seed", type=click.IntRange(min=0), help="Default: the preset's."),
                click.option(
                    "--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="Of one process."
                ),
            )
        ):
            command = option(command)
        return command

    return decorate


def _show(experiment: str, preset: str) -> None:
    from nnval.experiment_presets import experiment_text, load_experiment

    load_experiment(experiment, preset)  # a damaged one is refused
    click.echo(experiment_text(experiment, preset), nl=False)


def experiment_fields(
    experiment: str, preset: str, data: str | None, training: dict[str, Any], fields: dict[str, Any]
) -> dict[str, Any]:
    """The fields of a preset with those of the command line over them.

    Args:
        experiment: one of ``nnval.experiment_presets.EXPERIMENTS``.
        preset: name, or path of a TOML file.
        data: name of a data set or path of images; None for the preset's.
        training: values of ``TRAINING_FIELDS``; None if not given.
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


def prepared(out: Path | None, example: str) -> Path:
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


def carry_out(
    directory: Path,
    quiet: bool,
    *,
    run: Callable[[Progress | None], Result],
    record: Callable[[Result], Any],
    write: Callable[[Result], None],
    show: Callable[[Result], None],
) -> Result:
    """Run an experiment under a progress bar, write its files unless they are there, and print it.

    Args:
        directory: of the run.
        quiet: no progress and no hints.
        run: trains and measures, or reads what is finished.
        record: the result as ``comparisons.json`` holds it.
        write: all files.
        show: prints.

    Returns:
        The result.
    """
    begin = time.monotonic()
    with progress_bar(quiet) as progress:
        result = run(progress)
    if is_written(directory, record(result)):
        hint(f"{directory} was finished already; nothing was trained", quiet)
    else:
        write(result)
    show(result)
    hint(f"report: {directory / REPORT} ({time.monotonic() - begin:.0f} s)", quiet)
    return result


def echo_facts(lines: list[tuple[str, str]]) -> None:
    """Names and sentences in two columns.

    Args:
        lines: (name, sentence).
    """
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name.ljust(width)}  {text}")


def typeset(text: str) -> str:
    """What a terminal can't be trusted with.

    Args:
        text: for a terminal.

    Returns:
        The same for a page.
    """
    return text.replace("+-", "±").replace(">=", "≥").replace("sigma^2", "σ²").replace("sigma", "σ")


def is_written(directory: Path, record: Any) -> bool:
    """Whether the files of exactly these results are there.

    Args:
        directory: of the run.
        record: what ``comparisons.json`` must say; it is written last.

    Returns:
        True if they are.
    """
    from nnval.engine.run_directory import read_json

    path = directory / COMPARISONS
    return path.exists() and (directory / REPORT).exists() and read_json(path) == record


def write_files(directory: Path, pictures: dict[str, bytes], page: str, record: Any) -> None:
    """Figures, the page, and ``comparisons.json`` last: where it is, everything else is there.

    Args:
        directory: of the run.
        pictures: name -> PNG.
        page: HTML.
        record: plain JSON.

    Raises:
        StorageError: if a file can't be written; the run is intact.
    """
    from nnval.engine.run_directory import write_json, write_whole

    for name, content in pictures.items():
        write_whole(directory / f"{name}.png", content)
    write_whole(directory / REPORT, page.encode())
    write_json(directory / COMPARISONS, record)
