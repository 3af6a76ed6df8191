"""``jostle generate``."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.files import prepared_directory, write_file
from commands.options import output_options, parse_perturbation
from commands.shared import emit_json, hint
from commands.training_options import GROUPS, GroupedCommand, config_of, given_options, refuse_beside

if TYPE_CHECKING:
    from nnval.engine.config import TrainingConfig
    from nnval.script_perturbations import ScriptNoise

_OF_ENSEMBLES = ("out", "members", "status", "download", "snapshots")
_COMPUTATION = ("threads", "device", "precision", "channels_last", "compiled", "deterministic")

_SCRIPT = [
    click.Option(["--out"], type=click.Path(path_type=Path), help="The script to write, such as train.py."),
    click.Option(["--run"], type=click.Path(path_type=Path), help="A run of jostle train, whose training is written."),
    click.Option(["--member"], type=click.IntRange(min=0), help="Which network of the ensemble. Default: the first."),
    click.Option(
        ["--noise"],
        help="Adaptive noise after each step: KIND or KIND:option=value,... such as full:high=0.3,medium=0.1,low=0.03 "
        "(phase_only, schedule_only, fixed; mode, decay, metric, horizon, min_dwell, monotone, include_norm, and "
        "thresholds such as variance_high).",
    ),
    click.Option(["--use-library"], is_flag=True, help="A short script that calls jostle, for any data and network."),
    click.Option(["--overwrite"], is_flag=True, help="Also over files with other content."),
]
_BESIDE_RUN = ("out", "run", "member", "noise", "use_library", "overwrite", "threads", "as_json", "quiet")
_NOT_OF_SCRIPT = ("out", "overwrite", "as_json", "quiet")


def _groups() -> dict[str, list[click.Option]]:
    """The options of ``jostle train``, without those of ensembles."""
    kept = {
        title: [
            option
            for option in options
            if option.name not in _OF_ENSEMBLES and (title != "Computation" or option.name in _COMPUTATION)
        ]
        for title, options in GROUPS.items()
    }
    return {"Script": _SCRIPT, "Training": kept.pop("Run"), **kept}


@click.command(
    cls=GroupedCommand, groups=_groups(), short_help="Write the training of one network as one readable script."
)
@output_options
@click.pass_context
def generate(
    context: click.Context,
    out: Path | None,
    run: Path | None,
    preset: str | None,
    member: int | None,
    noise: str | None,
    use_library: bool,
    overwrite: bool,
    threads: int,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Write the training of one network as one readable script, which needs torch and numpy alone.

    It computes what 'jostle train --execution loop' does, to the same bits, is resumable, and reads digits.csv, which
    is written beside it, or the original archive of CIFAR-10 or CIFAR-100.

    \b
    jostle generate --preset meir2025-small --out train.py
    jostle generate --model resnet20 --lr 0.1 --momentum 0.9 --schedule cosine --out train.py
    jostle generate --perturbation shrink_perturb:shrink=0.7,noise=0.3 -P 10 --out train.py
    jostle generate --noise full:high=0.3,medium=0.1,low=0.03,decay=0.001 --out train.py
    jostle generate --run runs/plain --member 3 --out train.py
    """
    given = given_options(context)
    if out is None:
        raise ValueError("--out is missing: name the script, such as --out train.py")
    if run is not None:
        refuse_beside(given, "--run", _BESIDE_RUN)
        config = _config_of_run(run, quiet)
    else:
        config = config_of(options, preset, given)
    if member is not None:
        config = dataclasses.replace(config, first_member=member)
    if config.snapshots:
        hint("snapshots are left out: a script keeps its checkpoint alone", quiet)

    from nnval.training_script import files_beside, library_script, standalone_script

    write = library_script if use_library else standalone_script
    script = write(config, noise=_noise_of(noise), threads=threads, command=_command(context, given)).encode()
    files = files_beside(config) if not use_library or noise is not None else {}
    _write(out, script, files, overwrite)
    _print(out, script, files, config, as_json)


def _config_of_run(run: Path, quiet: bool) -> TrainingConfig:
    """What a run of ``jostle train`` trained."""
    from nnval.engine.config import TrainingConfig
    from nnval.engine.run_directory import EXECUTION, read_description, read_json

    description = read_description(run)
    if description["branch"] is not None:
        raise ValueError(f"--run={run} begins with networks of another run, which a script cannot hold; name that one")
    if (run / EXECUTION).is_file() and read_json(run / EXECUTION).get("execution") == "stacked":
        hint(f"{run} trained its networks stacked; the script has other rounding, as --execution loop has", quiet)
    config = TrainingConfig.from_dict(description["config"])
    return dataclasses.replace(config, execution="auto")  # as said: what was stacked is written as a loop


def _noise_of(text: str | None) -> ScriptNoise | None:
    """``full:high=0.3,mode=absolute`` as noise."""
    if text is None:
        return None
    from nnval.adaptive_noise_methods import NoiseOptions
    from nnval.script_perturbations import ScriptNoise
    from theory.training_phases import PhaseThresholds

    values = parse_perturbation(text, option="noise option")
    kind = values.pop("name")
    defaults = dict(zip(("high", "medium", "low"), NoiseOptions().epsilon, strict=True))
    epsilon = tuple(values.pop(name, value) for name, value in defaults.items())
    names = [field.name for field in dataclasses.fields(PhaseThresholds)]
    thresholds = {name: values.pop(name) for name in names if name in values}
    if "thresholds" in values or "epsilon" in values:
        raise ValueError(f"noise: give {', '.join((*defaults, *names))} one by one")
    known = [field.name for field in dataclasses.fields(NoiseOptions) if field.name not in ("epsilon", "thresholds")]
    if unknown := [name for name in values if name not in known]:
        raise ValueError(
            f"noise has no option {', '.join(map(repr, unknown))}; its options are "
            f"{', '.join((*defaults, *known, *names))}"
        )
    return ScriptNoise(kind, NoiseOptions.from_dict({**values, "epsilon": epsilon, "thresholds": thresholds}))


def _command(context: click.Context, given: Mapping[str, str]) -> list[str]:
    """What was asked for, as a command; without where to write it."""
    words = ["jostle", "generate"]
    for option in context.command.params:
        name = option.name or ""
        if name not in given or name in _NOT_OF_SCRIPT:
            continue
        value = context.params[name]
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
        else:
            words += [option.opts[0], str(value)]
    return words


def _write(out: Path, script: bytes, files: Mapping[str, bytes], overwrite: bool) -> None:
    """Checks everything before the first file is written."""
    if out.is_dir():
        raise ValueError(f"{out} is a directory; name the script, such as --out {out / 'train.py'}")
    if out.name in files:
        raise ValueError(f"--out={out} must have another name: the data are written to {out.name}")
    contents = {**{out.with_name(name): content for name, content in files.items()}, out: script}
    for path, content in contents.items():
        if path.exists() and not overwrite and not (path.is_file() and path.read_bytes() == content):
            raise ValueError(f"{path} exists, with other content; choose another --out, or --overwrite")
    prepared_directory(out.parent)
    for path, content in contents.items():
        if not path.exists() or path.read_bytes() != content:
            write_file(path, content)


def _print(out: Path, script: bytes, files: Mapping[str, bytes], config: TrainingConfig, as_json: bool) -> None:
    lines = script.count(b"\n")
    if as_json:
        summary = {"script": str(out), "lines": lines, "sha256": hashlib.sha256(script).hexdigest()}
        beside = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        emit_json("generate", config.to_dict(), config.seed, {**summary, "files": beside})
        return
    click.echo(
        f"{out}: network {config.first_member} of {config.model} on {config.data}, seed {config.seed}, {lines} lines"
    )
    for name, content in files.items():
        click.echo(f"{out.with_name(name)}: the data that it reads, {len(content)} bytes")
    click.echo(f"to train it: python {out} --out run")
