"""The command line of jostle: options, printing and exit codes; no physics.

Exit codes: 0 done or agreed; 1 failed; 2 usage; 3 theory and measurement disagree; 4 stopped early, resumable.
Everything heavy is imported inside the command that needs it, so that ``jostle --help`` is there at once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from nnval.study import Study, StudyConfig
    from theory.estimate import Estimate
    from theory.prediction import Prediction

FAILED, USAGE, DISAGREES, STOPPED = 1, 2, 3, 4


class _Commands(click.Group):
    """A group whose commands turn the library's errors into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            _fail(str(error), USAGE)
        except ModuleNotFoundError as error:
            _fail(f"{error.name} is not installed; training needs the extra 'nn': pip install 'jostle[nn]'", FAILED)
        except KeyboardInterrupt:
            _fail("stopped; run the same command again to go on", STOPPED)
        except RuntimeError as error:
            if "allocate" in str(error):  # torch has no class of its own for this
                _fail(f"out of memory: {error}", FAILED)
            if type(error).__name__ != "Interrupted":  # its module imports torch's neighbours: known by name only
                raise
            _fail(str(error), STOPPED)
        except MemoryError:
            _fail("out of memory: take fewer or smaller networks, or a shorter horizon", FAILED)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except OSError as error:
            _fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), FAILED)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"Error: {message}" if code != STOPPED else message, err=True)
    sys.exit(code)


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(package_name="jostle")
def main() -> None:
    """Training as a first-passage process: predict, measure and perturb the time to a target accuracy.

    \b
    jostle validate perturbation --preset digits-demo --out runs/demo
    jostle train --members 64 --epochs 100 --out runs/plain
    jostle predict resetting --curves runs/plain --target 0.94
    """


@main.group()
def predict() -> None:
    """Closed forms and deterministic numerics, from training curves."""


@main.group()
def validate() -> None:
    """Real networks beside the theory."""


# ---- What several commands share ------------------------------------------------------------------------------------


def _output_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--quiet", is_flag=True, help="No progress and no hints on stderr."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table."),
    ):
        command = option(command)
    return command


def _curve_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--out", type=click.Path(path_type=Path), help="Directory for predictions.csv and a figure."),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the bootstrap."),
        click.option("--replicates", default=2000, show_default=True, type=click.IntRange(min=100), help="Bootstrap."),
        click.option("--interval", "-P", "intervals", multiple=True, type=click.IntRange(min=1), help="P, repeatable."),
        click.option("--horizon", type=click.IntRange(min=1), help="Of the restricted means; default: the data's."),
        click.option("--direction", type=click.Choice(["up", "down"]), default="up", show_default=True),
        click.option("--zero-based", is_flag=True, help="The file counts its epochs from 0."),
        click.option("--metric", help="Column to read, if the file has several."),
        click.option("--target", required=True, type=float, help="Value of the metric at which training is over."),
        click.option("--curves", required=True, type=click.Path(), help="CSV (run,epoch,metric) or a run directory."),
    ):
        command = option(command)
    return command


def _emit_json(command: str, parameters: dict[str, Any], seed: int, result: Any) -> None:
    import platform

    import numpy
    import scipy

    environment = {"python": platform.python_version(), "numpy": numpy.__version__, "scipy": scipy.__version__}
    record = {
        "schema": 1,
        "command": command,
        "parameters": parameters,
        "seed": seed,
        "result": result,
        "environment": environment,
    }
    click.echo(json.dumps(_plain(record), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no infinity: it is written as text."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, left: Sequence[int] = (0,)) -> None:
    """Plain aligned columns: they can be read, piped and copied."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        line = "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo(line.rstrip())
        if number == 0:
            click.echo("  ".join("-" * width for width in widths))


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar with the time left on a terminal, a line every 15 seconds elsewhere, nothing with --quiet."""
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        begin = last = time.monotonic()
        first: list[int] = []

        def lines(done: int, total: int, text: str) -> None:
            nonlocal last
            now = time.monotonic()
            first[:] = first or [done]  # what was there before a resume took no time now
            if now - last >= 15 and done > first[0]:
                left = (now - begin) / (done - first[0]) * (total - done)
                click.echo(f"{done / total:4.0%}, about {left:.0f} s left: {text}", err=True)
                last = now

        yield lines
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


def _hint(message: str, quiet: bool) -> None:
    if not quiet:
        click.echo(message, err=True)


# ---- predict --------------------------------------------------------------------------------------------------------


def _estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    values = {"value": estimate.value, "standard_error": estimate.standard_error, "n": estimate.n}
    return values | {"interval95": list(estimate.interval())}


def _prediction_json(prediction: Prediction) -> dict[str, Any]:
    return {
        "predictor": prediction.predictor,
        "interval": prediction.interval,
        "horizon": prediction.horizon,
        "restricted_mean": _estimate_json(prediction.restricted_mean),
        "mean": _estimate_json(prediction.mean),
        "speed_up": _estimate_json(prediction.speed_up),
        "valid": prediction.valid,
        "reasons": list(prediction.reasons),
    }


def _print_predictions(predictions: Sequence[Prediction], horizon: int) -> None:
    def mean(p: Prediction) -> str:
        return "-" if p.mean is None else f"{p.mean.value:.2f}"

    rows = []
    for p in predictions:
        low, high = p.restricted_mean.interval()
        restricted = f"{p.restricted_mean.value:.2f} ({low:.2f} to {high:.2f})"
        note = "" if p.horizon == horizon else f"horizon {p.horizon}; "
        verdict = note + ("; ".join(p.reasons) or "valid")
        rows.append((p.interval, p.predictor, mean(p), restricted, f"{p.speed_up.value:.2f}", verdict))
    header = ("P", "predictor", "E[T_P]", f"E[min(T_P,{horizon})], 95 %", "speed-up", "validity")
    _print_table(header, rows, left=(1, 5))


def _horizon(asked: int | None, known: int) -> int:
    """The horizon asked for, which may exceed that of runs that all finished, but not absurdly."""
    if asked is not None and asked > max(10 * known, 1000):
        raise ValueError(f"horizon={asked} is more than ten times the {known} epochs of the data")
    return asked or known


def _intervals(asked: Sequence[int], special: int, longest: int) -> list[int]:
    """Those asked for, or a few round ones and a special one for a table."""
    steps = [p * 10**k for k in range(7) for p in (1, 2, 3, 5, 7)]
    return sorted(set(asked) or {*(p for p in steps if p <= longest), special})


def _with_curve(intervals: Sequence[int], longest: int, out: Path | None) -> list[int]:
    """The intervals of a table and, if a figure is wanted, enough between them for a smooth curve."""
    curve = {round(longest ** (k / 200)) for k in range(201)} if out is not None else set()
    return sorted({*intervals, *curve})


def _write_predictions(
    out: Path, label: str, predictions: Sequence[Prediction], unperturbed: Estimate, horizon: int
) -> None:
    """``predictions.csv`` and ``training_time.png``, into a directory that is made if it isn't there."""
    from figures.perturbation import figure_training_time
    from figures.style import png_bytes
    from nnval.engine.run_directory import make_directory, write_whole
    from nnval.tables import PREDICTION_COLUMNS, Table, prediction_rows

    by_predictor = {p.predictor: [q for q in predictions if q.predictor == p.predictor] for p in predictions}
    figure = figure_training_time(unperturbed, {label: by_predictor}, {}, horizon=horizon)
    make_directory(out)
    table = Table(PREDICTION_COLUMNS, tuple(prediction_rows(label, predictions)))
    write_whole(out / "predictions.csv", table.to_csv().encode())
    write_whole(out / "training_time.png", png_bytes(figure))


@predict.command("resetting")
@_curve_options
@_output_options
def predict_resetting(
    curves: str,
    target: float,
    metric: str | None,
    zero_based: bool,
    direction: str,
    horizon: int | None,
    intervals: tuple[int, ...],
    replicates: int,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Training time if every run began anew every P epochs, from curves of unperturbed runs (Eq. 5, exact).

    \b
    jostle predict resetting --curves runs/plain --target 0.94
    jostle predict resetting --curves my_runs.csv --metric val_acc --target 0.72 -P 10 -P 20
    """
    from nnval.measure.curves import read_curves
    from sim.random_streams import stream
    from theory.prediction import PerturbationData, speed_up_lower_bound
    from theory.resetting import optimal_restart_interval
    from theory.survival import Survival

    data = read_curves(curves, metric=metric, zero_based=zero_based)
    first_passages = data.first_passages(target, direction=direction)
    survival = Survival.of(first_passages)
    last = _horizon(horizon, first_passages.horizon)
    study = PerturbationData(first_passages, horizon=last, replicates=replicates, rng=stream(seed, "bootstrap"))
    best = optimal_restart_interval(study.psi)
    shown = _intervals(intervals, best.interval, last)
    predictions = [study.predict("restart", interval) for interval in _with_curve(shown, last, out)]
    unperturbed = survival.restricted_mean(last)
    unfinished = survival.at(last)
    bound = speed_up_lower_bound(survival, study.predict("restart", best.interval))
    if out is not None:
        _write_predictions(out, "full_reset", predictions, unperturbed, last)
        predictions = [p for p in predictions if p.interval in shown]
    if as_json:
        result = {
            "metric": data.metric,
            "runs": survival.n,
            "unfinished": unfinished,
            "unperturbed_restricted_mean": _estimate_json(unperturbed),
            "best": dataclasses.asdict(best) | {"speed_up_lower_bound": bound},
            "predictions": [_prediction_json(p) for p in predictions],
        }
        parameters = {"curves": curves, "metric": metric, "zero_based": zero_based, "target": target}
        parameters |= {"direction": direction, "horizon": last, "intervals": shown, "replicates": replicates}
        _emit_json("predict resetting", parameters, seed, result)
        return
    click.echo(f"{survival.n} runs, {data.metric}, target {target:g}: {unfinished:.1%} unfinished at epoch {last}")
    click.echo(f"unperturbed: E[min(T,{last})] = {unperturbed.value:.2f} +- {unperturbed.standard_error:.2f} epochs")
    _print_predictions(predictions, last)
    where = " (the last known interval: the optimum may lie beyond)" if best.is_boundary else ""
    click.echo(f"best: restart every {best.interval} epochs{where}, E[T_P] = {best.mean:.2f}; seed {seed}")
    if bound is not None and bound > 1:
        click.echo(f"speed-up of the unrestricted means: E[T] / E[T_P] >= {bound:.2f}")
    if study.predict("restart", best.interval).restricted_mean.value >= unperturbed.value:
        _hint("restarting does not help within this horizon", quiet)


@predict.command("perturbation")
@_curve_options
@click.option("--perturbed-once", required=True, type=click.Path(), help="Curves from the perturbation on (epoch 1).")
@click.option("--branch-epoch", required=True, type=click.IntRange(min=1), help="P*, where these were perturbed.")
@click.option(
    "--tolerance",
    default=0.25,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=100),
    help="Of the quasi-steady state, in standard deviations.",
)
@_output_options
def predict_perturbation(
    curves: str,
    target: float,
    metric: str | None,
    zero_based: bool,
    direction: str,
    horizon: int | None,
    intervals: tuple[int, ...],
    replicates: int,
    seed: int,
    out: Path | None,
    perturbed_once: str,
    branch_epoch: int,
    tolerance: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Training time under a perturbation every P epochs, from unperturbed curves and curves perturbed once.

    The perturbed curves count their epochs from the perturbation, which acted after the evaluation of epoch P*.

    \b
    jostle predict perturbation --curves runs/demo/unperturbed --target 0.9425 \\
        --perturbed-once runs/demo/perturbed_once/shrink_perturb/P0040 --branch-epoch 40
    """
    from nnval.measure.curves import read_curves
    from sim.random_streams import stream
    from theory.hazard import constant_hazard_test
    from theory.prediction import PerturbationData, PerturbedOnce
    from theory.quasi_steady_state import stationarity
    from theory.survival import Survival

    data = read_curves(curves, metric=metric, zero_based=zero_based)
    children = read_curves(perturbed_once, metric=metric, zero_based=zero_based)
    first_passages = data.first_passages(target, direction=direction)
    survival = Survival.of(first_passages)
    last = _horizon(horizon, first_passages.horizon)
    if not branch_epoch < data.horizon:
        raise ValueError(f"branch-epoch={branch_epoch} must be < {data.horizon}, the last epoch of {curves}")
    steady = stationarity(
        data.values,
        first_passages,
        reference=((branch_epoch + 1) // 2, branch_epoch),
        tolerance=tolerance,
        rng=stream(seed, "stationarity"),
    )
    relaxed = steady.relaxation_epoch
    hazard = constant_hazard_test(survival, relaxed) if relaxed and relaxed < survival.horizon else None
    once = PerturbedOnce(children.first_passages(target, direction=direction), branch_epoch, children.horizon)
    study = PerturbationData(first_passages, once, horizon=last, replicates=replicates, rng=stream(seed, "bootstrap"))
    longest = min(branch_epoch, children.horizon, last)
    shown = _intervals(intervals, longest, longest)
    predictions = [
        study.predict(predictor, interval, relaxation_epoch=relaxed, hazard_test=hazard)
        for interval in _with_curve(shown, longest, out)
        for predictor in ("rare", "renewal")
    ]
    if out is not None:
        _write_predictions(out, "perturbation", predictions, survival.restricted_mean(last), last)
        predictions = [p for p in predictions if p.interval in shown]
    if as_json:
        result = {
            "runs": survival.n,
            "perturbed_runs": once.residuals.n,
            "relaxation_epoch": relaxed,
            "hazard": None if hazard is None else hazard.describe(),
            "predictions": [_prediction_json(p) for p in predictions],
        }
        parameters = {"curves": curves, "perturbed_once": perturbed_once, "branch_epoch": branch_epoch}
        parameters |= {"metric": metric, "zero_based": zero_based, "target": target, "direction": direction}
        parameters |= {"horizon": last, "intervals": shown, "replicates": replicates, "tolerance": tolerance}
        _emit_json("predict perturbation", parameters, seed, result)
        return
    click.echo(f"{survival.n} runs and {once.residuals.n} perturbed once at epoch {branch_epoch}; target {target:g}")
    click.echo(f"quasi-steady state: {'none found' if relaxed is None else f'from epoch {relaxed}'}")
    if hazard is not None:
        click.echo(f"hazard: {hazard.describe()}")
    _print_predictions(predictions, last)
    click.echo(f"seed {seed}")


# ---- train ----------------------------------------------------------------------------------------------------------


def _parse_perturbation(text: str) -> dict[str, Any]:
    """``shrink_perturb:shrink=0.7,noise=0.3`` as a dictionary; values are JSON, or text if they are not."""
    name, _, options = text.partition(":")
    result: dict[str, Any] = {"name": name.strip()}
    for item in filter(None, (part.strip() for part in options.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"perturbation option {item!r} must have the form name=value")
        try:
            result[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            result[key.strip()] = value.strip()
    return result


@main.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory; resumed if it exists.")
@click.option("--data", default="digits", show_default=True, help="Data set; digits is embedded.")
@click.option("--model", default="mlp", show_default=True, help="mlp or lenet.")
@click.option("--hidden", default="32,32", show_default=True, help="Widths of the hidden layers of mlp.")
@click.option("--members", default=64, show_default=True, help="Networks in the ensemble.")
@click.option("--epochs", default=150, show_default=True, help="Horizon.")
@click.option("--lr", "learning_rate", default=0.1, show_default=True, help="Learning rate of SGD.")
@click.option("--batch-size", default=20, show_default=True)
@click.option("--momentum", default=0.0, show_default=True)
@click.option("--weight-decay", default=0.0, show_default=True)
@click.option("--schedule", default="constant", show_default=True, help="constant or cosine.")
@click.option("--train-size", default=500, show_default=True)
@click.option("--validation-size", default=400, show_default=True, help="Decides when the target is reached.")
@click.option("--label-noise", default=0.0, show_default=True, help="Fraction of wrong training labels.")
@click.option("--perturbation", help="NAME or NAME:option=value,... such as shrink_perturb:shrink=0.4,noise=0.1.")
@click.option("--interval", "-P", type=int, help="The perturbation acts every P epochs.")
@click.option("--target", type=float, help="Validation accuracy at which a network stops; default: none does.")
@click.option("--execution", default="auto", show_default=True, help="auto, stacked or loop.")
@click.option("--stack-size", type=int, help="Networks trained together; default: as many as pays.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Of torch.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@_output_options
def train(
    out: Path, hidden: str, perturbation: str | None, threads: int, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Train an ensemble; resumable, and a finished run is only read.

    \b
    jostle train --members 64 --epochs 100 --lr 0.2 --out runs/plain
    jostle train --perturbation shrink_perturb:shrink=0.7,noise=0.3 -P 10 --target 0.94 --out runs/perturbed
    """
    try:
        widths = tuple(int(width) for width in hidden.split(",") if width.strip())
    except ValueError:
        raise ValueError(f"hidden={hidden!r} must be whole numbers separated by commas, such as 32,32") from None
    acts = None if perturbation is None else _parse_perturbation(perturbation)
    from nnval.engine.config import TrainingConfig
    from nnval.engine.ensemble import train_ensemble

    config = TrainingConfig(hidden=widths, perturbation=acts, **options)
    finished = (out / "done.json").exists()
    with _progress(quiet) as progress:
        result = train_ensemble(config, out, progress=progress, threads=threads)
    counts = {status: int((result.status == status).sum()) for status in ("reached", "horizon", "diverged")}
    if finished:
        _hint(f"{out} was finished already; nothing was trained", quiet)
    if as_json:
        summary = {"directory": str(out), "members": len(result.members), **counts}
        _emit_json("train", config.to_dict(), config.seed, summary)
        return
    finite = result.test_accuracy[result.test_accuracy == result.test_accuracy]
    click.echo(f"{len(result.members)} networks: " + ", ".join(f"{n} {s}" for s, n in counts.items() if n))
    if len(finite):
        click.echo(f"test accuracy at the end: mean {finite.mean():.4f}, from {finite.min():.4f} to {finite.max():.4f}")
    click.echo(f"curves: {out / 'curves.csv'}; seed {config.seed}")


# ---- validate -------------------------------------------------------------------------------------------------------


def _preset_text(name: str) -> str:
    """A preset that comes with jostle, or a user's TOML file."""
    presets = resources.files("nnval") / "presets"
    file = Path(name) if name.endswith(".toml") else presets / f"{name}.toml"
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = sorted(p.name.removesuffix(".toml") for p in presets.iterdir() if p.name.endswith(".toml"))
        raise ValueError(f"preset {name!r} does not exist; choose {', '.join(known)} or the path of a .toml") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text: {error}") from None


def _study_config(
    preset: str, overrides: dict[str, Any], training: dict[str, Any], perturbations: Sequence[str]
) -> StudyConfig:
    import tomllib

    from nnval.study import StudyConfig

    try:
        values = tomllib.loads(_preset_text(preset))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{preset} is not TOML: {error}") from None
    values |= {key: value for key, value in overrides.items() if value is not None and value != ()}
    own = values.get("training", {})
    if not isinstance(own, dict):
        raise ValueError("the preset's [training] must be a table")
    values["training"] = own | {key: value for key, value in training.items() if value is not None}
    if perturbations:
        parsed = [_parse_perturbation(text) for text in perturbations]
        names = [p["name"] for p in parsed]
        labels = [n if names.count(n) == 1 else f"{n}_{names[:k].count(n) + 1}" for k, n in enumerate(names)]
        values["perturbations"] = dict(zip(labels, parsed, strict=True))
    return StudyConfig.from_dict(values)


@validate.command("perturbation")
@click.option("--out", type=click.Path(path_type=Path), help="Directory of the study; resumed if it exists.")
@click.option("--preset", default="digits-demo", show_default=True, help="Name, or path of a TOML file.")
@click.option("--show-preset", is_flag=True, help="Print the preset, to copy and change, and stop.")
@click.option("--members", type=int, help="Unperturbed networks.")
@click.option("--periodic-members", type=int, help="Networks at each interval.")
@click.option("--epochs", type=int, help="Horizon.")
@click.option("--lr", "learning_rate", type=float, help="Learning rate.")
@click.option("--target", type=float, help="Validation accuracy at which training is over.")
@click.option("--perturbation", "perturbations", multiple=True, help="NAME or NAME:option=value,...; repeatable.")
@click.option("--interval", "-P", "intervals", multiple=True, type=int, help="Measured interval; repeatable.")
@click.option("--branch-epoch", "branch_epochs", multiple=True, type=int, help="Epoch of one perturbation; repeatable.")
@click.option("--follow", type=int, help="Epochs for which perturbed survivors are followed.")
@click.option("--seed", type=click.IntRange(min=0), help="Default: the preset's.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes; default: one per core, at most 4.")
@_output_options
def validate_perturbation(
    out: Path | None,
    preset: str,
    show_preset: bool,
    members: int | None,
    epochs: int | None,
    learning_rate: float | None,
    seed: int | None,
    perturbations: tuple[str, ...],
    workers: int | None,
    as_json: bool,
    quiet: bool,
    **overrides: Any,
) -> None:
    """Train, perturb survivors once, predict every interval, and check against training with the perturbation.

    \b
    jostle validate perturbation --preset digits-demo --out runs/demo
    jostle validate perturbation --perturbation full_reset -P 15 -P 30 --members 128 --out runs/reset
    jostle validate perturbation --show-preset > my.toml
    """
    if show_preset:
        click.echo(_preset_text(preset), nl=False)
        return
    if out is None:
        raise ValueError("--out is missing: name the directory of the study, such as --out runs/demo")
    training = {"members": members, "epochs": epochs, "learning_rate": learning_rate, "seed": seed}
    config = _study_config(preset, overrides, training, perturbations)
    from nnval.perturbation import run_study, untrained
    from nnval.study_tables import is_saved, save

    finished = is_saved(out) and (out / "report.html").exists() and not untrained(config, out)
    begin = time.monotonic()
    with _progress(quiet) as progress:
        study = run_study(config, out, progress=progress, workers=workers or _default_workers())
    if finished:
        _hint(f"{out} was finished already; nothing was trained", quiet)
    else:
        save(study)
        _write_report(study)
    _print_study(study, as_json)
    _hint(f"report: {out / 'report.html'} ({time.monotonic() - begin:.0f} s)", quiet)
    if not study.agrees:
        sys.exit(DISAGREES)


def _default_workers() -> int:
    import os

    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@_output_options
def report(run: Path, as_json: bool, quiet: bool) -> None:
    """Write the figures and the report of a finished study anew, and print its table.

    \b
    jostle report runs/demo
    """
    from nnval.engine.run_directory import read_description
    from nnval.perturbation import run_study, untrained
    from nnval.study import StudyConfig
    from nnval.study_tables import save

    plain = read_description(run)["config"]
    if "perturbations" not in plain:
        raise ValueError(f"{run} holds no study of 'jostle validate perturbation'")
    config = StudyConfig.from_dict(plain)
    if missing := untrained(config, run):
        raise ValueError(f"{run} is not finished ({missing[0]} is missing): run jostle validate perturbation again")
    study = run_study(config, run)
    save(study)
    _write_report(study)
    _print_study(study, as_json)
    _hint(f"report: {run / 'report.html'}", quiet)


def _print_study(study: Study, as_json: bool) -> None:
    from nnval.study_tables import comparison_table, comparisons_json, conclusions, facts, measurement_table

    if as_json:
        result = {
            "directory": str(study.directory),
            "target": study.target,
            "relaxation_epoch": study.relaxation_epoch,
            "unperturbed": _estimate_json(study.survival.restricted_mean(study.config.training.epochs)),
            "comparisons": comparisons_json(study),
            "agrees": study.agrees,
        }
        _emit_json("validate perturbation", study.config.to_dict(), study.config.training.seed, result)
        return
    lines = facts(study)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name.ljust(width)}  {text}")
    table, notes = comparison_table(study)
    horizon = study.config.training.epochs
    click.echo(f"\nE[min(T_P, {horizon})], epochs to the target with a perturbation every P epochs:")
    _print_table(table.header, table.rows, left=(0, 2, 6))
    for note in notes:
        click.echo(note)
    measured = measurement_table(study)
    click.echo("\nMeasured (unperturbed networks are tested at the horizon, others where they reached the target):")
    _print_table(measured.header, measured.rows)
    click.echo()
    for line in conclusions(study):
        click.echo(line)
    click.echo(f"seed {study.config.training.seed}")


# ---- Figures and report ---------------------------------------------------------------------------------------------


def _study_figures(study: Study) -> dict[str, tuple[bytes, str, str]]:
    """File name -> (PNG, caption, what it shows in words) of a study."""
    from figures import first_passage, perturbation
    from figures.style import png_bytes
    from nnval.study import measured_speed_up

    config, accuracy = study.config, study.unperturbed.curves["validation_accuracy"]
    horizon = config.training.epochs
    protocols = study.protocols
    fastest = {p.label: min(p.periodic, key=lambda r: r.survival.restricted_mean(horizon).value) for p in protocols}
    curves = {label: (r.interval, r.ensemble.curves["validation_accuracy"]) for label, r in fastest.items()}
    predictions = {p.label: p.predictions for p in protocols}
    means = {p.label: [(r.interval, r.survival.restricted_mean(horizon)) for r in p.periodic] for p in protocols}
    ratios = {p.label: [(r.interval, measured_speed_up(study, r)) for r in p.periodic] for p in protocols}
    residuals = {p.label: [(r.interval, r.residual_mean) for r in p.periodic if r.residual_mean] for p in protocols}
    once = {
        p.label: [(o.epoch, o.survival.restricted_mean(config.follow)) for o in p.once] for p in protocols if p.once
    }
    drawn = {
        "training_time": (
            perturbation.figure_training_time(
                study.survival.restricted_mean(horizon), predictions, means, horizon=horizon
            ),
            "Training time against the perturbation interval. Bands are 95 % bootstrap intervals; dashed stretches are "
            "outside the predictor's regime.",
            "predicted and measured training time for every perturbation interval",
        ),
        "speed_up": (
            perturbation.figure_speed_up(predictions, ratios, horizon=horizon),
            f"The same as a ratio of means restricted to {horizon} epochs.",
            "predicted and measured speed-up for every perturbation interval",
        ),
        "curves": (
            first_passage.figure_curves(accuracy, study.target, perturbed=curves),
            "Validation accuracy without perturbation, and with each at its best measured interval.",
            "accuracy against epochs",
        ),
        "survival": (
            first_passage.figure_survival(
                study.survival,
                residuals={p.label: [(o.epoch, o.survival) for o in p.once] for p in protocols},
                relaxation_epoch=study.relaxation_epoch,
                hazard_test=study.hazard_test,
            ),
            "The share of runs that have not reached the target, and of perturbed survivors that have not.",
            "survival against epochs",
        ),
        "residual_time": (
            perturbation.figure_residual_time(measured=residuals, once=once, horizon=horizon, followed=config.follow),
            "Time from the first perturbation to the target. Eq. (9) takes it to be the same for all P.",
            "residual training time against the perturbation interval",
        ),
    }
    if study.quasi_steady_state is not None:
        drawn["quasi_steady_state"] = (
            first_passage.figure_quasi_steady_state(
                accuracy,
                study.first_passages,
                study.quasi_steady_state,
                target=study.target,
                published_relaxation_epoch=study.published_relaxation_epoch,
            ),
            "Accuracy of the unfinished runs, and its distance from their late distribution.",
            "violins of accuracy and distance from the quasi-steady state",
        )
    return {name: (png_bytes(figure), caption, words) for name, (figure, caption, words) in drawn.items()}


def _typeset(text: str) -> str:
    """What a terminal can't be trusted with."""
    return text.replace("+-", "±").replace(">=", "≥")


def _write_report(study: Study) -> None:
    """The figures as PNG files, and all of the study in one HTML page."""
    from figures.report import ReportFigure, ReportSection, ReportTable, render_report
    from nnval.engine.run_directory import ENVIRONMENT, read_json, write_whole
    from nnval.study_tables import comparison_table, conclusions, facts, measurement_table

    figures = {name: ReportFigure(*content) for name, content in _study_figures(study).items()}
    for name, figure in figures.items():
        write_whole(study.directory / f"{name}.png", figure.png)

    def cells(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
        return [[_typeset(str(cell)) for cell in row] for row in rows]

    table, notes = comparison_table(study)
    measured = measurement_table(study)
    horizon = study.config.training.epochs
    how = (
        f"Each row is one prediction and an independent measurement of E[min(T_P, {horizon})], in epochs. Errors of "
        "predictions include the sampling error of the survival curves. Eq. (9) and the renewal predictor are granted "
        "5 % of model error; z counts standard errors beyond that, and verdicts hold at 1 % for all rows together."
    )
    sections = [
        ReportSection(
            "Predicted and measured", [how], table=ReportTable(table.header, cells(table.rows), "verdict"), notes=notes
        ),
        ReportSection("Training time", figure=figures["training_time"]),
        ReportSection("Speed-up", figure=figures["speed_up"]),
        ReportSection(
            "Measured",
            [
                "Validation accuracy decides when a network is done; the test accuracy is that of other images, then "
                "(at the horizon for unperturbed networks)."
            ],
            table=ReportTable(measured.header, cells(measured.rows)),
        ),
        ReportSection("The ensembles", table=ReportTable(("what", "finding"), cells(facts(study)))),
        ReportSection("Curves", figure=figures["curves"]),
        ReportSection("Survival", figure=figures["survival"]),
    ]
    if "quasi_steady_state" in figures:
        sections.append(ReportSection("Quasi-steady state", figure=figures["quasi_steady_state"]))
    sections.append(ReportSection("Residual time", figure=figures["residual_time"]))
    environment = {"seed": study.config.training.seed, **read_json(study.directory / ENVIRONMENT)}
    lead, title = " ".join(_typeset(line) for line in conclusions(study)), "Training under perturbations"
    page = render_report(title=title, lead=lead, sections=sections, environment=environment)
    write_whole(study.directory / "report.html", page.encode())


if __name__ == "__main__":
    main()
