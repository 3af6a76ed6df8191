"""``jostle predict resetting`` and ``jostle simulate resetting``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.curves import CURVE_ONLY, curve_options, resetting_from_curves
from commands.files import prepared_directory, write_csv, write_figure
from commands.laws import LAWS, parse_law
from commands.options import output_options, refuse_options, simulation_options, with_options
from commands.shared import emit_json, hint, noted_interrupts, print_derivations, print_table, simulation_progress
from commands.simulations import comparison_json, comparison_row, end_simulation, print_remarks

if TYPE_CHECKING:
    from theory.optimal_restart import Optimum
    from theory.passage_law_base import PassageLaw

INTERVAL = "Sharp restart every P, repeatable."

LAW_ONLY = ("rates", "overhead", "latex")

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the optimum, for the rows of a table."""

INVERSION_ERROR = 1e-8
"""Relative error granted to closed forms: some are inverted Laplace transforms, good to 1e-9."""


_law_options = with_options(
    click.option("--law", help=f"NAME:parameter=value,... of a single attempt: {LAWS}."),
    click.option("--rate", "-r", "rates", multiple=True, type=float, help="Poisson restart at this rate, repeatable."),
    click.option("--overhead", default=0.0, show_default=True, help="Time lost by each restart."),
)


@click.command("resetting", short_help="Time to the target with restarts: of a law, or from training curves.")
@_law_options
@click.option("--latex", is_flag=True, help="With --law: print the derivation of its formulas, in LaTeX.")
@curve_options(interval_type=float, interval=INTERVAL, target="Value of the metric at which training is over.")
@output_options
@click.pass_context
def predict_resetting(
    context: click.Context,
    law: str | None,
    rates: tuple[float, ...],
    overhead: float,
    latex: bool,
    curves: str | None,
    intervals: tuple[float, ...],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **curve_settings: Any,
) -> None:
    """Time to the target if the process began anew at a rate or every P: of a law, or from curves of unperturbed runs.

    \b
    jostle predict resetting --law brownian:distance=1,diffusivity=1
    jostle predict resetting --law drift_diffusion:distance=1,drift=0.5,diffusivity=1 --rate 1 -P 0.5 --overhead 0.1
    jostle predict resetting --law brownian:distance=1,diffusivity=1 --latex
    jostle predict resetting --curves runs/plain --target 0.94
    """
    if (law is None) == (curves is None):
        raise ValueError("give either --law, for closed forms, or --curves, for measured training curves")
    if curves is not None:
        refuse_options(context, LAW_ONLY, "--law")
        resetting_from_curves(curves, intervals=intervals, out=out, as_json=as_json, quiet=quiet, **curve_settings)
        return
    refuse_options(context, ("target", *CURVE_ONLY), "--curves")
    assert law is not None
    if latex:
        refuse_options(context, ("rates", "overhead", "intervals", "out", "as_json"), "closed forms, without --latex")
        _print_latex(law)
        return
    _predict_law(law, parse_law(law), rates, intervals, overhead, out, as_json)


def _print_latex(law: str) -> None:
    from theory.derivations import derivation_names

    known = derivation_names("restart")
    law_name, _, values = (part.strip() for part in law.partition(":"))
    law_name = law_name.replace("-", "_")
    names = [name for name in known if name.split()[-1] == law_name]
    if values and names:
        parse_law(law)  # the derivation needs no values, but wrong ones are a mistake
    if not names:
        laws = sorted({name.split()[-1] for name in known if " " in name})
        raise ValueError(f"no derivation for the law {law_name!r}; there are some for {', '.join(laws)}")
    print_derivations(names)


def _optimum(find: Callable[..., Optimum], law: PassageLaw, overhead: float) -> Optimum | None:
    """The optimum; None, and a line on stderr, for a law of which none is known."""
    from theory.optimal_restart import NoOptimumFound

    try:
        return find(law, overhead)
    except NoOptimumFound as error:
        hint(str(error), quiet=False)
        return None


def _optimum_in_words(what: str, optimum: Optimum | None) -> str:
    if optimum is None:
        return f"best {what}: none was found"
    if optimum.boundary is None:
        return f"best {what}: {optimum.value:.6g}, E[T] = {optimum.mean:.6g}"
    if optimum.boundary == "neutral":
        return f"best {what}: all are equal, E[T] = {optimum.mean:.6g} (no memory)"
    never = optimum.value == (0 if what == "rate" else math.inf)
    words = "never restart" if never else "the more often the better"
    return f"best {what}: {words}, E[T] -> {optimum.mean:.6g} (at the boundary {what} {optimum.value:g})"


def _interior(optimum: Optimum | None) -> list[float]:
    """The value of an optimum that is not at an edge."""
    return [optimum.value] if optimum is not None and 0 < optimum.value < math.inf else []


def _values(asked: Sequence[float], optimum: Optimum | None, scale: float) -> list[float]:
    """What is asked for, or a few values around the optimum."""
    return sorted(set(asked)) or [(_interior(optimum) or [scale])[0] * factor for factor in FACTORS]


def _known_intervals(law: PassageLaw, intervals: Sequence[float]) -> list[float]:
    """Those that are long enough for a mean to be known (of most laws, all)."""
    from theory.restart_attempt import least_success

    return [interval for interval in intervals if float(law.arrived(interval)) >= least_success(law)]


def _timers(rates: Sequence[float], intervals: Sequence[float]) -> list[tuple[str, float, PassageLaw]]:
    from theory.passage_laws import Deterministic
    from theory.waiting_times import Exponential

    for interval in intervals:
        if not 0 < interval < math.inf:
            raise ValueError(f"--interval {interval:g} must be finite and > 0")
    poisson = [("Poisson, rate", rate, Exponential(rate)) for rate in rates]
    return [*poisson, *(("sharp, every", interval, Deterministic(interval)) for interval in intervals)]


def _predict_law(
    text: str,
    law: PassageLaw,
    rates: Sequence[float],
    intervals: Sequence[float],
    overhead: float,
    out: Path | None,
    as_json: bool,
) -> None:
    from theory.optimal_restart import optimal_interval, optimal_rate
    from theory.resetting import Restarted
    from theory.restart_criterion import restart_helps

    criterion = restart_helps(law, overhead)
    directory = None if out is None else prepared_directory(out)
    best_rate, best_interval = _optimum(optimal_rate, law, overhead), _optimum(optimal_interval, law, overhead)
    asked = bool(rates or intervals)
    rows = []
    shown_rates = _values(rates, best_rate, 1 / law.time_scale) if rates or not asked else []
    shown_intervals = list(intervals) if asked else _known_intervals(law, _values((), best_interval, law.time_scale))
    for kind, value, timer in _timers(shown_rates, shown_intervals):
        restarted = Restarted(law, timer, overhead=overhead)
        mean = restarted.mean
        variance = restarted.variance if math.isfinite(mean) else math.inf
        rows.append((kind, value, mean, math.sqrt(variance)))
    if as_json:
        keys = ("restart", "parameter", "mean", "standard_deviation")
        result = {
            "mean": law.mean,
            "variance": law.variance,
            "cv_squared": criterion.cv_squared,
            "cv_threshold": criterion.threshold,
            "rare_restarts_help": criterion.helps,
            "optimal_rate": _optimum_json(best_rate),
            "optimal_interval": _optimum_json(best_interval),
            "restarted": [dict(zip(keys, row, strict=True)) for row in rows],
        }
        parameters = {"law": text, "rates": list(rates), "intervals": list(intervals), "overhead": overhead}
        emit_json("predict resetting", parameters, None, result)
    else:
        click.echo(f"{law}: E[T] = {law.mean:.6g}, CV^2 = {criterion.cv_squared:.6g}")
        verdict = "rare restarts shorten the mean" if criterion.helps else "rare restarts do not shorten the mean"
        click.echo(f"{verdict}: CV^2 {'>' if criterion.helps else '<='} {criterion.threshold:.6g}")
        click.echo(_optimum_in_words("rate", best_rate))
        click.echo(_optimum_in_words("interval", best_interval))
        click.echo()
        table = [(kind, f"{v:.5g}", f"{m:.6g}", f"{sd:.6g}", _ratio(law.mean, m)) for kind, v, m, sd in rows]
        print_table(("restart", "", "E[T]", "sd", "speed-up"), table)
    if directory is not None:
        _write_law(directory, text, law, overhead, best_rate, best_interval, [])


def _ratio(mean: float, restarted: float) -> str:
    if math.isinf(restarted):
        return "-" if math.isinf(mean) else "0"
    if math.isinf(mean):
        return "inf"
    ratio = mean / restarted
    return f"{ratio:.3f}" if 0.01 <= ratio < 1e6 else f"{ratio:.3g}"


def _optimum_json(optimum: Optimum | None) -> dict[str, Any] | None:
    return None if optimum is None else {"value": optimum.value, "mean": optimum.mean, "boundary": optimum.boundary}


def _write_law(
    out: Path,
    text: str,
    law: PassageLaw,
    overhead: float,
    best_rate: Optimum | None,
    best_interval: Optimum | None,
    simulated: Sequence[tuple[str, float, Any]],
) -> None:
    """``restart_mean.csv`` with the means over four decades, and ``restart_mean.png``."""
    from figures.resetting import figure_restart_mean
    from figures.toy_processes import restart_means
    from theory.passage_laws import Deterministic
    from theory.waiting_times import Exponential

    panels, lines = [], [("restart", "parameter", "mean")]
    for kind, timer, optimum in (
        ("Poisson, rate", Exponential, best_rate),
        ("sharp, every", Deterministic, best_interval),
    ):
        points = [(value, estimate) for name, value, estimate in simulated if name == kind]
        panel = restart_means(law, timer, optimum, overhead=overhead, simulated=points)
        lines += [(kind, *row) for row in zip(panel.values.tolist(), panel.means.tolist(), strict=True)]
        panels.append(panel)
    write_csv(out / "restart_mean.csv", lines)
    figure = figure_restart_mean(text, rate=panels[0], interval=panels[1], undisturbed=law.mean)
    write_figure(out / "restart_mean.png", figure)


def _known(process: PassageLaw, horizon: float, what: str) -> tuple[float, float]:
    """The mean to be compared, and the standard deviation if there is no horizon (else 0).

    Samples of a heavy tail underrate their own deviation.
    """
    if math.isfinite(horizon):
        return process.restricted_mean(horizon), 0.0
    mean, variance = process.mean, process.variance
    if math.isinf(variance) and math.isfinite(mean):  # of an infinite mean the simulator knows more to say
        raise ValueError(f"{what}: the variance of T is infinite, and means of samples tell little; give a --horizon")
    return mean, math.sqrt(variance)


@click.command("resetting", short_help="A restarted process, beside closed forms.")
@_law_options
@click.option("--interval", "-P", "intervals", multiple=True, type=float, help=INTERVAL)
@click.option("--horizon", type=float, default=math.inf, help="Runs are stopped then, and E[min(T, H)] is compared.")
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "bridge"]),
    default="auto",
    show_default=True,
    help="Draw times from their law, or step through time.",
)
@click.option("--time-step", type=float, help="Of the bridge method. Default: an error below 0.1 %.")
@simulation_options(runs=200_000)
@output_options
def simulate_resetting(
    law: str | None,
    rates: tuple[float, ...],
    intervals: tuple[float, ...],
    overhead: float,
    horizon: float,
    method: str,
    time_step: float | None,
    runs: int,
    threads: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Simulate a restarted process and hold it against the theory. Exit code 3 if they disagree.

    \b
    jostle simulate resetting --law brownian:distance=1,diffusivity=1 --rate 1 -P 0.5
    jostle simulate resetting --law ornstein_uhlenbeck:start=0,target=1,stiffness=1,diffusivity=1 --rate 1 -P 0.5
    """
    if law is None:
        raise ValueError(
            "--law is missing: name the law of a single attempt, such as brownian:distance=1,diffusivity=1"
        )
    from sim.random_streams import stream
    from sim.resetting import simulate_restarted
    from theory.estimate import Estimate, compare, holm
    from theory.optimal_restart import optimal_interval, optimal_rate
    from theory.resetting import Restarted

    single = parse_law(law)
    directory = None if out is None else prepared_directory(out)
    asked: list[tuple[str, float, PassageLaw | None]] = [*_timers(rates, intervals)]
    # The search for the optima may take seconds.
    wanted = not asked or out is not None
    best_rate = _optimum(optimal_rate, single, overhead) if wanted else None
    best_interval = _optimum(optimal_interval, single, overhead) if wanted else None
    if not asked:
        asked = [*_timers(_interior(best_rate), _interior(best_interval))]
        if math.isfinite(single.variance) or math.isfinite(horizon):
            asked.insert(0, ("none", 0.0, None))
    if not asked:
        raise ValueError(
            "without restarts mean or variance of T are infinite, and no rate or interval is the best: give --rate, "
            "--interval or --horizon"
        )
    comparisons, results = [], []
    with noted_interrupts() as interrupted, simulation_progress(quiet) as progress:
        for number, (kind, value, timer) in enumerate(asked):
            process = single if timer is None else Restarted(single, timer, overhead=overhead)
            what = f"{kind} {value:.5g}" if timer is not None else "none"
            predicted, deviation = _known(process, horizon, what)
            passages = simulate_restarted(
                single,
                timer,
                runs,
                stream(seed, "simulate resetting", number),
                overhead=overhead,
                horizon=horizon,
                method=method,
                time_step=time_step,
                threads=threads,
                progress=progress,
            )
            measured = passages.restricted_mean(horizon if math.isfinite(horizon) else None)
            error = max(measured.standard_error, deviation / math.sqrt(measured.n))
            measured = Estimate(measured.value, error, measured.n)
            margin = 0.001 if passages.method == "bridge" else INVERSION_ERROR
            comparisons.append(compare(what, Estimate(predicted, 0.0, 1), measured, margin=margin))
            results.append((kind, value, passages))
            if interrupted() or passages.n < runs:
                break
    comparisons = holm(comparisons)
    stopped = len(results) < len(asked) or results[-1][2].n < runs
    if as_json:
        rows = [
            {
                "restart": kind,
                "parameter": value,
                "method": passages.method,
                "time_step": passages.time_step,
                "restarts_per_run": None if passages.restarts is None else float(passages.restarts.mean()),
                **comparison_json(c),
            }
            for (kind, value, passages), c in zip(results, comparisons, strict=True)
        ]
        parameters = {"law": law, "rates": list(rates), "intervals": list(intervals), "overhead": overhead}
        parameters |= {"horizon": horizon, "runs": runs, "method": method, "time_step": time_step}
        emit_json("simulate resetting", parameters, seed, {"comparisons": rows, "stopped_early": stopped})
    else:
        quantity = "E[T]" if math.isinf(horizon) else f"E[min(T, {horizon:g})]"
        click.echo(f"{single}: {quantity}")
        rows = [
            (
                *comparison_row(c),
                passages.method + ("" if passages.time_step is None else f", dt {passages.time_step:.3g}"),
            )
            for (_, _, passages), c in zip(results, comparisons, strict=True)
        ]
        print_table(("restart", "theory", "simulated", "z", "verdict", "method"), rows, left=(0, 4, 5))
        print_remarks(comparisons, (), ())
        click.echo(f"{results[0][2].n} runs each; seed {seed}")
        if any(passages.method == "bridge" for _, _, passages in results):
            hint("time steps are granted an error of 0.1 %; z counts standard errors beyond it", quiet)
    if directory is not None:
        points = [(kind, value, c.measured) for (kind, value, _), c in zip(results, comparisons, strict=True)]
        _write_law(directory, law, single, overhead, best_rate, best_interval, points if math.isinf(horizon) else [])
    end_simulation(comparisons, stopped)
