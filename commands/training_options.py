"""The options of ``jostle train``: groups for its help, and how they become a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from commands.options import LEARNING_RATE, RUN_DIRECTORY, parse_perturbation
from nnval.engine.config import (
    AUGMENTATIONS,
    EXECUTIONS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    VALIDATION_SOURCES,
    TrainingConfig,
)

DEFAULTS: dict[str, Any] = {"label_noise": 0.0, "device": "auto"}
"""Where the command differs from ``TrainingConfig``."""

_CONFIG = TrainingConfig(**DEFAULTS)


def _field(*names: str, help: str = "", **attributes: Any) -> click.Option:
    """An option for a field of the config, whose default help shows; None if not given, so that a preset may say it."""
    option = click.Option(list(names), default=None, help=help, **attributes)
    value = getattr(_CONFIG, option.name or "", None)
    text = ",".join(map(str, value)) if isinstance(value, tuple) else value
    if text is not None and text is not False and text != "":
        option.help = f"{help} [default: {text}]".strip()
    return option


def _setting(*names: str, **attributes: Any) -> click.Option:
    return click.Option(list(names), **attributes)


GROUPS: dict[str, list[click.Option]] = {
    "Run": [
        _setting("--out", type=click.Path(path_type=Path), help=RUN_DIRECTORY),
        _setting("--preset", help="Name such as meir2025-small, or path of a TOML file; other options override it."),
        _field("--members", help="N, or A:B for those numbered A to B - 1, to extend a run or to share it."),
        _field("--epochs", type=int, help="Of a training at most: the horizon."),
        _field("--target", type=float, help="Validation accuracy at which training is over. Default: none."),
        _field("--seed", type=click.IntRange(min=0), help="Of all random numbers."),
        _setting(
            "--status", type=click.Path(path_type=Path), metavar="RUN", help="Say how far a run is, and nothing else."
        ),
    ],
    "Data": [
        _field(
            "--data", help="digits, cifar10, cifar100, mnist, fashion-mnist; or the path of a folder or tar of images."
        ),
        _field("--data-dir", help="Where the files of a data set of torchvision lie."),
        _setting("--download", is_flag=True, help="Fetch a data set of torchvision that is missing."),
        _field("--train-size", help="Training samples; or all."),
        _field("--validation-size", type=int, help="Samples that decide when the target is reached."),
        _field("--validation-from", type=click.Choice(VALIDATION_SOURCES), help="Images that these are taken from."),
        _field("--label-noise", type=float, help="Fraction of wrong training labels."),
        _field("--augmentation", type=click.Choice(AUGMENTATIONS), help="Of training images, anew in each epoch."),
    ],
    "Network and optimizer": [
        _field("--model", help="mlp, lenet, resnet18, ...; or package.module:function of your own."),
        _field("--hidden", help="Widths of the hidden layers of mlp."),
        _field("--initialisation", help="torch_default, kaiming_fan_out, ..."),
        _field("--optimizer", type=click.Choice(OPTIMIZERS), help="Those of torch.optim."),
        _field(*LEARNING_RATE, type=float, help="Learning rate, the highest of the schedule."),
        _field("--batch-size", type=int, help="Samples in a batch."),
        _field("--momentum", type=float, help="Of sgd."),
        _field("--nesterov/--no-nesterov", help="Of sgd with momentum."),
        _field("--betas", help="Of adam and adamw."),
        _field("--weight-decay", type=float, help="As that optimizer of torch defines it."),
        _field("--schedule", type=click.Choice(SCHEDULES), help="Of the learning rate."),
        _field("--milestones", help="Of step: epochs such as 60,120,160."),
        _field("--decay", type=float, help="Of step: the factor at a milestone."),
        _field("--cycle-epochs", type=int, help="Of sgdr: length of the first cycle."),
        _field("--cycle-growth", type=int, help="Of sgdr: how much longer the next one is."),
        _field("--warm-up", type=float, help="Of one_cycle: the fraction that goes up."),
        _field("--perturbation", help="NAME or NAME:option=value,... such as shrink_perturb:shrink=0.4,noise=0.1."),
        _field("--interval", "-P", type=int, help="The perturbation acts every P epochs."),
        _field("--snapshots", help="Epochs such as 20,40 whose weights are kept, for 'validate perturbation --run'."),
    ],
    "Computation": [
        _setting("--workers", default="1", show_default=True, help="Processes; auto: one per core."),
        _setting("--scheduler", help="Address of a Dask scheduler, tcp://host:8786, in place of --workers."),
        _setting("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Of each process."),
        _setting("--no-lock", is_flag=True, help="For file systems without locks: nobody else may train in --out."),
        _field("--device", help="cpu, cuda, ...; auto: a GPU if there is one."),
        _field("--precision", type=click.Choice(PRECISIONS), help="Below float32: by autocast."),
        _field("--channels-last/--no-channels-last", help="Memory format of images."),
        _field("--compile/--no-compile", "compiled", help="By torch.compile."),
        _field("--deterministic/--no-deterministic", help="Refuse algorithms that vary from call to call."),
        _field(
            "--execution",
            type=click.Choice(EXECUTIONS),
            help="Many networks at once (stacked) or one by one (loop); auto: what pays.",
        ),
        _field("--stack-size", type=int, help="Networks trained together. Default: as many as pays."),
    ],
}

MOST_WORKERS, MOST_MEMBERS = 256, 10**7
"""What is asked for beyond this is a slip of the finger."""

_BELONGS_TO = {
    "hidden": ("model", ("mlp",)),
    "momentum": ("optimizer", ("sgd",)),
    "nesterov": ("optimizer", ("sgd",)),
    "betas": ("optimizer", ("adam", "adamw")),
    "milestones": ("schedule", ("step",)),
    "decay": ("schedule", ("step",)),
    "cycle_epochs": ("schedule", ("sgdr",)),
    "cycle_growth": ("schedule", ("sgdr",)),
    "warm_up": ("schedule", ("one_cycle",)),
}
"""Options that would be ignored unless another one has one of these values."""


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups."""

    def __init__(
        self, *args: Any, groups: Mapping[str, Sequence[click.Option]], params: list[Any], **more: Any
    ) -> None:
        """Make the command.

        Args:
            *args: of ``click.Command``.
            groups: title -> options.
            params: other options, which come last, as output.
            **more: of ``click.Command``.
        """
        self.groups = {**groups, "Output": params}
        super().__init__(*args, params=[option for options in self.groups.values() for option in options], **more)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See ``click.Command``."""
        known = [option for options in self.groups.values() for option in options]
        more = [option for option in self.get_params(ctx) if option not in known]  # --help
        for title, options in self.groups.items():
            shown = [*options, *more] if title == "Output" else options
            rows = [row for option in shown if (row := option.get_help_record(ctx)) is not None]
            with formatter.section(title):
                formatter.write_dl(rows)


def given_options(context: click.Context) -> dict[str, str]:
    """Names of the parameters that were given, and what the user calls them."""
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def _numbers(name: str, text: str, kind: type, example: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{name}={text!r} must be {what} separated by commas, such as {example}") from None


def _members(text: str) -> dict[str, int]:
    first, _, end = text.partition(":") if ":" in text else ("0", ":", text)
    try:
        range_ = range(int(first), int(end))
    except ValueError:
        range_ = range(0)
    if not 0 <= range_.start < range_.stop <= MOST_MEMBERS:
        raise ValueError(
            f"members={text!r} must be a number >= 1, or A:B for those numbered A to B - 1: "
            f"0 <= A < B <= {MOST_MEMBERS}"
        )
    return {"members": len(range_), "first_member": range_.start}


def _train_size(text: str) -> int | None:
    try:
        return None if text == "all" else int(text)
    except ValueError:
        raise ValueError(f"train_size={text!r} must be a whole number, or all") from None


def parse_workers(text: str) -> int:
    """A number of processes; 0 for one per core."""
    if text == "auto":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise ValueError(f"workers={text!r} must be a whole number from 1 to {MOST_WORKERS}, or auto for one per core")
    return int(text)


def config_of(options: Mapping[str, Any], preset: str | None, given: Mapping[str, str]) -> TrainingConfig:
    """The config that was asked for: options over preset over defaults.

    Args:
        options: values of the parameters that are fields; None if not given.
        preset: name of a recipe, or path.
        given: see ``given_options``.

    Raises:
        ValueError: if a value is wrong, or would be ignored.
    """
    from nnval.engine.datasets import data_options  # here, with the recipes: they import torch's neighbours
    from nnval.engine.recipes import load_recipe

    recipe = {} if preset is None else load_recipe(preset)
    asked = {name: value for name, value in options.items() if value is not None}
    fields: dict[str, Any] = {**DEFAULTS, **recipe}
    if "data" in asked:
        of_data = data_options(asked.pop("data"))
        if "data_dir" in of_data and "data_dir" in asked:
            raise ValueError(f"--data-dir={asked['data_dir']} and --data with a path exclude each other")
        fields = {name: value for name, value in fields.items() if name not in ("data_dir", "data_sha256")} | of_data
    lists = (
        ("hidden", int, "32,32"),
        ("milestones", int, "60,120"),
        ("snapshots", int, "20,40"),
        ("betas", float, "0.9,0.999"),
    )
    for name, kind, example in lists:
        if name in asked:
            asked[name] = _numbers(name, asked[name], kind, example)
    if "members" in asked:
        asked |= _members(asked["members"])
    if "train_size" in asked:
        asked["train_size"] = _train_size(asked["train_size"])
    if "perturbation" in asked:
        asked["perturbation"] = parse_perturbation(asked["perturbation"])
    config = TrainingConfig.from_dict(fields | asked)
    for name, (other, allowed) in _BELONGS_TO.items():
        if name in given and getattr(config, other) not in allowed:
            raise ValueError(f"{given[name]} can only be used with --{other} {' or '.join(allowed)}")
    if config.data == "digits" and (useless := [given[name] for name in ("data_dir", "download") if name in given]):
        raise ValueError(f"{', '.join(useless)} cannot be used with --data digits, which is embedded")
    if config.data == "image_folder" and "download" in given:
        raise ValueError("--download cannot be used with one's own images")
    return config


def refuse_beside(given: Mapping[str, str], option: str, allowed: tuple[str, ...]) -> None:
    """Refuses all options but some.

    Raises:
        ValueError: if others were given.
    """
    others = [text for name, text in given.items() if name not in allowed]
    if others:
        raise ValueError(f"{', '.join(others)} cannot be used with {option}")
