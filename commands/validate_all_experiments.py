"""What ``jostle validate all`` runs: the commands of all phenomena, with their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from commands.activation_temperature import simulate_activation_temperature
from commands.adaptive_noise import simulate_adaptive_noise
from commands.effective_temperature import simulate_effective_temperature
from commands.experiment_options import experiment_fields
from commands.perturbation import simulate_perturbation
from commands.resetting import simulate_resetting
from commands.shared import Progress
from commands.validate import validate_perturbation
from commands.validate_activation_temperature import validate_activation_temperature
from commands.validate_adaptive_noise import validate_adaptive_noise
from commands.validate_all_parts import NETWORKS, Asked, Experiment, Outcome, Part, Row, Simulation
from commands.validate_effective_temperature import validate_effective_temperature
from commands.validate_weight_variance import validate_weight_variance
from commands.validate_widening_valley import validate_widening_valley
from commands.weight_variance import simulate_weight_variance
from commands.widening_valley import simulate_widening_valley

QUICK = {
    "perturbation": ("digits-quick", 91),
    "weight-variance": ("quick", 31),
    "effective-temperature": ("quick", 111),
    "widening-valley": ("quick", 51),
    "activation-temperature": ("quick", 49),
    "adaptive-noise": ("quick", 37),
}
"""Experiment -> preset and seconds of one core (Intel Xeon, 2.8 GHz), measured. Sizes were chosen by time alone."""

FULL = {
    "perturbation": ("digits-demo", 220),
    "weight-variance": ("digits", 180),
    "effective-temperature": ("digits", 240),
    "widening-valley": ("digits", 180),
    "activation-temperature": ("digits", 240),
    "adaptive-noise": ("digits", 240),
}
"""The same without --quick; these seconds are rough, from what the presets say of themselves."""

PERSISTENT = (
    "known (docs/effective-temperature.md): persistent batches of 20 had 0.133 of the temperature of linear theory and "
    "1.96 of its response"
)

KNOWN = (
    (
        "temperature, reshuffled, S=20",
        1.51,
        "known (docs/effective-temperature.md): reshuffled batches of 20 were 1.51 times as hot as linear theory says",
    ),
    ("temperature, persistent, S=20", 0.133, PERSISTENT),
    ("response, persistent, S=20", 1.96, PERSISTENT),
)
"""(Words of a quantity, what the full experiment measured, note): linear theory of temperatures ends there."""


def all_parts(quick: bool) -> tuple[Part, ...]:
    """What is run, in this order.

    Args:
        quick: smaller networks, fewer of them, and two instead of four orders of batches of the mixture.

    Returns:
        Simulations, then experiments; the seconds of simulations were measured (one core, Intel Xeon, 2.8 GHz).
    """
    mixture = ("--model", "mixture")
    if quick:
        mixture += ("--order", "bernoulli:b=0.25", "--order", "reshuffled:M=4")
    brownian = ("--law", "brownian:distance=1,diffusivity=1")
    walk = ("--chain", "trap_with_barrier")
    heat = "effective-temperature"
    return (
        Simulation("resetting", "resetting", simulate_resetting, brownian, 4, "E[T], Brownian motion, ", "sharp"),
        Simulation("perturbation", "perturbation", simulate_perturbation, walk, 8, "E[T_P], random walk, ", "P = 10"),
        Simulation(
            "weight-variance",
            "weight-variance",
            simulate_weight_variance,
            seconds=10,
            headline="reshuffled, curvature 0.2, weight",
        ),
        Simulation(heat, heat, simulate_effective_temperature, (), 11, "quadratic, ", "reshuffled, curvature 0.2, rat"),
        Simulation(
            f"{heat}-mixture",
            heat,
            simulate_effective_temperature,
            mixture,
            25 if quick else 50,
            "mixture, ",
            "T_eff(1)",
        ),
        Simulation("widening-valley", "widening-valley", simulate_widening_valley, (), 13, "|u|^2, ", "anti_pgd"),
        Simulation(
            "activation-temperature",
            "activation-temperature",
            simulate_activation_temperature,
            seconds=4,
            headline="P, 16 channels, step 0.1 sd",
        ),
        Simulation("adaptive-noise", "adaptive-noise", simulate_adaptive_noise, seconds=12, headline="mean steps"),
        *(_experiment(name, preset, seconds) for name, (preset, seconds) in (QUICK if quick else FULL).items()),
    )


def _experiment(name: str, preset: str, seconds: float) -> Experiment:
    command, train, told, headline = {
        "perturbation": (validate_perturbation, _perturbation, _of_perturbation, "P=20"),
        "weight-variance": (
            validate_weight_variance,
            _weight_variance,
            _of_weight_variance,
            "reshuffled, Var(theta)",  # the last is the flattest direction, where reshuffling cools
        ),
        "effective-temperature": (
            validate_effective_temperature,
            _effective_temperature,
            _of_effective_temperature,
            "temperature, reshuffled",
        ),
        "widening-valley": (validate_widening_valley, _widening_valley, _of_widening_valley, ""),
        "activation-temperature": (
            validate_activation_temperature,
            _activation_temperature,
            _of_activation_temperature,
            "",
        ),
        "adaptive-noise": (validate_adaptive_noise, _adaptive_noise, _of_adaptive_noise, ""),
    }[name]
    phenomena = ("resetting", "perturbation") if name == "perturbation" else (name,)
    known = KNOWN if name == "effective-temperature" else ()
    return Experiment(name, phenomena, command, preset, seconds, train, told, headline, known)


# ---- How experiments are run, and what they say ----------------------------------------------------------------------


def _fields(experiment: str, preset: str, seed: int) -> dict[str, Any]:
    return experiment_fields(experiment, preset, None, {"seed": seed}, {})


def _perturbation(preset: str, directory: Path, asked: Asked, progress: Progress | None) -> Any:
    from nnval.engine.recipes import load_study
    from nnval.perturbation import run_study
    from nnval.study import StudyConfig

    values = load_study(preset)
    values["training"]["seed"] = asked.seed
    return run_study(StudyConfig.from_dict(values), directory, progress=progress, workers=asked.workers)


def _of_perturbation(study: Any) -> Outcome:
    # Full resets of networks are what Eq. (5) predicts from unperturbed ones alone.
    return Outcome(
        tuple(
            Row("resetting" if predictor == "restart" else "perturbation", NETWORKS, comparison)
            for (_, predictor, _, _), comparison in zip(study.rows, study.comparisons, strict=True)
        )
    )


def _weight_variance(preset: str, directory: Path, asked: Asked, progress: Progress | None) -> Any:
    from nnval.engine.datasets import load_data
    from nnval.weight_variance import measure_weight_variance
    from nnval.weight_variance_config import VarianceConfig
    from nnval.weight_variance_study import VarianceStudy, frozen_noise

    fields = _fields("weight-variance", preset, asked.seed) | {"seed": asked.seed}
    for of_the_command in ("pairs", "scan"):
        fields.pop(of_the_command, None)
    config = VarianceConfig.from_dict(fields)
    data = load_data(config.training)
    result = measure_weight_variance(
        config, directory, progress=progress, data=data, tolerance=_granted(validate_weight_variance), threads=1
    )
    return VarianceStudy(result, frozen_noise(result, data), None, ())


def _of_weight_variance(study: Any) -> Outcome:
    import dataclasses

    from nnval.weight_variance_tables import QUANTITIES

    found = []
    for order in study.result.orders:
        for attribute in QUANTITIES:
            for comparison in getattr(order, attribute):
                named = dataclasses.replace(comparison, quantity=f"{order.order.label}, {comparison.quantity}")
                found.append(named)
    found += [comparison for noise in study.noise for comparison in noise.comparisons]
    return Outcome(tuple(Row("weight-variance", NETWORKS, comparison) for comparison in found))


def _effective_temperature(preset: str, directory: Path, asked: Asked, progress: Progress | None) -> Any:
    from nnval.effective_temperature import run_effective_temperature
    from nnval.effective_temperature_study import EffectiveTemperatureConfig

    config = EffectiveTemperatureConfig.from_dict(_fields("effective-temperature", preset, asked.seed))
    return run_effective_temperature(
        config, directory, tolerance=_granted(validate_effective_temperature), progress=progress, threads=1
    )


def _of_effective_temperature(result: Any) -> Outcome:
    import dataclasses

    from nnval.effective_temperature_tables import QUESTIONS, conclusions

    rows = tuple(
        Row(
            "effective-temperature", NETWORKS, dataclasses.replace(each, quantity=f"measured / theory: {each.quantity}")
        )
        for each in result.comparisons
    )
    lines = [line for line in conclusions(result) if line.startswith(tuple(QUESTIONS.values()))]
    return Outcome(rows, tuple(("effective-temperature", line) for line in lines))


def _widening_valley(preset: str, directory: Path, asked: Asked, progress: Progress | None) -> Any:
    from nnval.widening_valley import run_widening_valley
    from nnval.widening_valley_study import WideningValleyConfig

    config = WideningValleyConfig.from_dict(_fields("widening-valley", preset, asked.seed))
    return run_widening_valley(config, directory, progress=progress, threads=1)


def _of_widening_valley(result: Any) -> Outcome:
    from nnval.widening_valley_tables import conclusions

    return Outcome((), tuple(("widening-valley", line) for line in conclusions(result)))


def _activation_temperature(preset: str, directory: Path, asked: Asked, progress: Progress | None) -> Any:
    from nnval.activation_temperature import run_cooling_study
    from nnval.activation_temperature_study import CoolingStudyConfig

    config = CoolingStudyConfig.from_dict(_fields("activation-temperature", preset, asked.seed))
    return run_cooling_study(config, directory, progress=progress, threads=1)


def _of_activation_temperature(result: Any) -> Outcome:
    from nnval.activation_temperature_tables import conclusions

    return Outcome((), tuple(("activation-temperature", line) for line in conclusions(result)))


def _adaptive_noise(preset: str, directory: Path, asked: Asked, progress: Progress | None) -> Any:
    from nnval.adaptive_noise import run_noise_study
    from nnval.adaptive_noise_study import NoiseStudyConfig

    config = NoiseStudyConfig.from_dict(_fields("adaptive-noise", preset, asked.seed))
    return run_noise_study(config, directory, progress=progress, threads=1)


def _of_adaptive_noise(result: Any) -> Outcome:
    from nnval.adaptive_noise_tables import conclusions

    return Outcome((), tuple(("adaptive-noise", line) for line in conclusions(result)))


def _granted(command: click.Command) -> float:
    """The model error that the command grants theory unless told otherwise."""
    return next(float(option.default) for option in command.params if option.name == "tolerance")  # pyright: ignore[reportArgumentType] -- a number
