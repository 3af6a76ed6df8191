"""A command that is several: ``--model`` chooses which, and each has options of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click


def model_option(models: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``--model``, for each of the commands that a `ModelCommand` chooses from.

    Args:
        models: names, the default first.

    Returns:
        A decorator; the command itself does not get the value.
    """
    return click.option(
        "--model",
        type=click.Choice(models),
        default=models[0],
        show_default=True,
        expose_value=False,
        help="What is trained; each has options of its own.",
    )


class ModelCommand(click.Command):
    """Hands over to the command of the model; ``--help`` without ``--model`` lists the options of all."""

    def __init__(self, name: str, models: Mapping[str, click.Command], *, help: str, short_help: str) -> None:
        """Make the command.

        Args:
            name: its word.
            models: name of a model -> command, which has `model_option`; the first is the default.
            help, short_help: for all.
        """
        super().__init__(name, help=help, short_help=short_help)
        self.models = dict(models)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments as the model's command does.

        Raises:
            ValueError: for an option of another model.
        """
        named = _named(args)
        helps = set(parent.help_option_names if parent is not None else ("--help",))
        if named is None and helps & set(args):
            return super().make_context(info_name, ["--help"], parent, **extra)
        chosen = named if named in self.models else next(iter(self.models))  # an unknown name is refused there
        # Names of help, too: click remembers the first that it meets, and a model without a group has only --help.
        settings = {**self.context_settings, **extra}
        try:
            return self.models[chosen].make_context(info_name, args, parent, **settings)
        except click.NoSuchOption as error:
            owners = [name for name, command in self.models.items() if error.option_name in _options(command)]
            if not owners:
                raise
            raise ValueError(
                f"{error.option_name} can only be used with --model {' or '.join(owners)}, not with {chosen}"
            ) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What all models have in common, then what belongs to each."""
        records = {
            name: [record for option in command.params if (record := option.get_help_record(ctx)) is not None]
            for name, command in self.models.items()
        }
        first, *others = records.values()
        common = [record for record in first if all(record in other for other in others)]
        for place, (name, found) in enumerate(records.items()):
            with formatter.section(f"Options of --model {name}" + ("" if place else ", the default")):
                formatter.write_dl([record for record in found if record not in common])
        with formatter.section("Options of all models"):
            formatter.write_dl([*common, (", ".join(ctx.help_option_names), "Show this message and exit.")])


def _options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _named(args: Sequence[str]) -> str | None:
    """The model that was asked for; the last one counts."""
    named = None
    for place, word in enumerate(args):
        if word == "--model" and place + 1 < len(args):
            named = args[place + 1]
        elif word.startswith("--model="):
            named = word.partition("=")[2]
    return named
