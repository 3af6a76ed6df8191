"""Every command that writes, small: for tests of kills, full disks and second writers. Each writes to ``out``."""

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from figures.gallery_figure import GalleryFigure

BROWNIAN = ("--law", "brownian:distance=1,diffusivity=1")
CURVES = "run,epoch,accuracy\n" + "".join(
    f"{run},{epoch},{min(0.9, epoch / (10 + run)):.3f}\n" for run in range(12) for epoch in range(1, 25)
)
VALLEY = ("--dimension", "5", "--steps", "5")
MIXTURE = ("effective-temperature", "--model", "mixture", "--steps", "10")
PREDICTIONS = {
    "resetting": ("resetting", *BROWNIAN, "--rate", "1"),
    "resetting of curves": ("resetting", "--curves", "curves.csv", "--target", "0.8", "--replicates", "100"),
    "perturbation": ("perturbation", "--chain", "rational", "-P", "2"),
    "advice": ("perturbation", "--curves", "curves.csv", "--target", "0.8", "--replicates", "100"),
    "scan": ("perturbation", "--curves", "curves.csv", "--scan", "0.7:0.8:0.1", "--replicates", "100"),
    "weight-variance": ("weight-variance", "--batches", "4"),
    "effective-temperature": ("effective-temperature", "--batches", "4"),
    "mixture": MIXTURE,
    "widening-valley": ("widening-valley", "--kind", "pgd", *VALLEY),
    "activation-temperature": ("activation-temperature",),
    "adaptive-noise": ("adaptive-noise", "--steps", "50"),
}
WELL = (
    "--potential (x**2-1)**2 --diffusivity 0.15 --epoch 0.2 --time-step 0.02 --initial-mean 0 --initial-deviation 0.3"
)
WELL += " --target 0.8 --limits -2 2 --cells 20"
ORDER = ("--batches", "4", "--order", "anti_pgd", "--runs", "8")
"""Noise that is not of batches, so that none is measured."""

SIMULATIONS = {
    "resetting": ("resetting", *BROWNIAN, "--rate", "1", "-P", "0.5", "--runs", "64"),
    "perturbation": ("perturbation", *WELL.split(), "-P", "2", "-P", "5", "--runs", "64"),
    "weight-variance": ("weight-variance", *ORDER, "--epochs", "20", "--burn-in", "20"),
    "effective-temperature": ("effective-temperature", *ORDER, "--epochs", "20", "--burn-in", "20"),
    "mixture": (*MIXTURE, "--runs", "4", "--dimensions", "40"),
    "widening-valley": ("widening-valley", "--kind", "pgd", "--kind", "anti_pgd", *VALLEY, "--runs", "8"),
    "activation-temperature": ("activation-temperature", "--channels", "1", "--channels", "2", "--runs", "8"),
    "adaptive-noise": ("adaptive-noise", "--steps", "50", "--coordinates", "2", "--runs", "8"),
}
OTHERS = {
    "generate": ("generate", "--out", "out/train.py"),
    "figures": ("figures", "--out", "out"),
    "figures, the page": ("figures", "--list", "--out", "out", "--markdown", "out/gallery.md"),
}
COMMANDS: dict[str, tuple[Any, ...]] = {
    f"predict {name}": ("predict", *words, "--out", "out") for name, words in PREDICTIONS.items()
}
COMMANDS |= {f"simulate {name}": ("simulate", *words, "--out", "out") for name, words in SIMULATIONS.items()}
COMMANDS |= OTHERS

TRAINING = """
[training]
train_size = 60
validation_size = 10
hidden = [8]
batch_size = 20
epochs = 4
members = 2
"""
PRESETS = {
    "perturbation": """
target = 0.85
branch_epochs = [4]
follow = 8
intervals = [4, 6]
periodic_members = 12
replicates = 200
[training]
members = 16
epochs = 12
train_size = 200
label_noise = 0.0
learning_rate = 0.2
hidden = [16]
execution = "stacked"
[perturbations.full_reset]
name = "full_reset"
""",
    "weight-variance": "runs = 5\nburn_in = 3\ndirections = 4\nfull_gradients = 1\npairs = 3\n" + TRAINING,
    "effective-temperature": """
orders = ["reshuffled", "with_replacement", "persistent"]
batch_sizes = [20]
measure_every = 2
early = 2
rest = 2
directions = 2
runs = 2
burn_in = 2
window = 8
windows = 2
"""
    + TRAINING
    + "learning_rate = 0.2\nweight_decay = 0.02\n",
    "widening-valley": 'noise_scale = 0.02\nmethods = ["pgd", "anti_pgd"]\nmeasure_every = 3\nprobes = 3\n' + TRAINING,
    "adaptive-noise": """
methods = ["baseline", "fixed"]
rate_factors = [0.5, 1]
tuning_seeds = 1
target_accuracy = 0.5
last_epochs = 3
[noise]
min_dwell = 3
horizon = 3
"""
    + TRAINING,
}
COOLING = ("--model", "mlp", "--train-size", 60, "--batch-size", 20, "--seeds", 2, "--every", 4, "--samples", 20)
COOLING += ("--sweeps", 3, "--schedule", "step", "--schedule", "actcoolr:t_start=1", "--budget", 3)
EXPERIMENTS: dict[str, tuple[Any, ...]] = {
    "train": ("train", "--members", 4, "--epochs", 3, "--train-size", 60, "--snapshots", 2, "--execution", "stacked"),
    "validate activation-temperature": ("validate", "activation-temperature", *COOLING),
    **{f"validate {name}": ("validate", name, "--preset", f"{name}.toml") for name in PRESETS},
}
EXPERIMENTS["validate perturbation"] += ("--workers", 1)
EXPERIMENTS["validate all"] = ("validate", "all", "--quick")
EXPERIMENTS = {name: (*words, "--quiet", "--out", "out") for name, words in EXPERIMENTS.items()}


@functools.cache
def tiny_image() -> bytes:
    from figures.style import png_bytes

    return png_bytes(Figure(figsize=(0.1, 0.1)))


def quick_parts(quick: bool) -> tuple[Any, ...]:
    """Of `validate all`: one simulation and one experiment."""
    from commands.perturbation import simulate_perturbation
    from commands.validate_all_experiments import all_parts
    from commands.validate_all_parts import Experiment, Simulation

    valley = next(part for part in all_parts(quick) if part.name == "widening-valley" and isinstance(part, Experiment))
    walks = ("--chain", "rational", "-P", "3", "--runs", "200")
    return (
        Simulation("walks", "perturbation", simulate_perturbation, walks, prefix="E[T_P], ", headline="P = 3"),
        dataclasses.replace(valley, preset="widening-valley.toml", seconds=1.0),
    )


@contextmanager
def workplace(directory: Path) -> Iterator[Path]:
    """A directory to work in, with curves and presets; images cost nothing."""
    image = tiny_image()
    entries = tuple(
        GalleryFigure(name, "ours", "", "", ("theory",), (), lambda: Figure(figsize=(1, 1)), "All.")
        for name in ("one", "two")
    )
    directory.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        parts = quick_parts(True)
        patch.setattr("commands.validate_all.all_parts", lambda quick: parts)
        patch.setattr("figures.catalogue.catalogue", lambda: entries)
        patch.setattr("figures.style.png_bytes", lambda figure: image)
        patch.chdir(directory)
        (directory / "curves.csv").write_text(CURVES)
        for name, text in PRESETS.items():
            (directory / f"{name}.toml").write_text(text)
        yield directory


def contents(directory: Path) -> dict[str, bytes]:
    """All files but locks; names and bytes."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}
