"""How hot is the noise of batches in a real network, how far do its replicas come apart, and how wide is the boundary?

For each seed, order and size of batches two replicas train from the same weights on the same data, with independent
batches. Their distance and the widths of their boundaries are measured on the way, and once more after a descent
without noise. From the first replica several runs then go on, beside twins in a small field along eigenvectors of the
Hessian: the temperature is that of fluctuation against response (nnval.measure.field_response). Conditions are compared
seed by seed. Linear theory has a prediction for the temperature, with the noise of single samples at the weights of the
runs (theory.effective_temperature); it has none for the widths.

Files are those of nnval.paired_trainings, such as ``seeds/0003/reshuffled_20.json``. Seeds can be added later.

Reference: [mignacco2022] the three measurements, and their claims
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import vector_to_parameters

from nnval.effective_temperature_findings import findings_of, theory_comparisons, widths_when_stopped
from nnval.effective_temperature_study import (
    MEASURED,
    ConditionResult,
    EffectiveTemperature,
    EffectiveTemperatureConfig,
)
from nnval.measure.batch_gradients import BatchGradients, flat_weights
from nnval.measure.boundary_width import measure_boundary_width
from nnval.measure.example_variance import example_variance
from nnval.measure.field_response import HeatMeasurement, linear_modes, predicted_heat
from nnval.measure.full_loss import FullLoss
from nnval.measure.hessian import eigenpairs
from nnval.measure.parallel_descent import ParallelDescent, with_blank
from nnval.measure.replicas import replica_distance
from nnval.paired_trainings import PairedTrainings, Progress, SharedSeed, Task, described, seeds_of, settled
from sim.batch_order import batches_per_epoch
from sim.random_streams import stream
from theory.absorbing import Floats
from theory.gradient_noise import WhiteNoise
from theory.noise_arguments import number
from theory.weight_variance import stationary_variances

_LEAST_RESPONSE = 0.1
"""Of theory's: a direction along which a network responds less has no temperature, and is left out."""

_VARIANCE_POINTS = 2
"""Runs at whose weights the noise of single samples is taken."""


def run_effective_temperature(
    config: EffectiveTemperatureConfig,
    directory: str | Path,
    *,
    tolerance: float = 0.1,
    progress: Progress | None = None,
    checkpoint_seconds: float = 5.0,
    threads: int | None = 1,
) -> EffectiveTemperature:
    """Train all conditions from all seeds, measure and compare; or go on with that, or read what is finished.

    Args:
        config: what to do.
        directory: of the run: absent, empty, or holding this very experiment, maybe with other seeds.
        tolerance: see ``EffectiveTemperature``. It is no part of the run: a finished one can be read with another.
        progress, checkpoint_seconds, threads: see ``PairedTrainings.records``.

    Returns:
        The result. A finished run is only read.

    Raises:
        ValueError: for data, networks (Dropout, BatchNorm) or orders that this can't be done with, if a training
            diverges, or if no condition has a temperature.
        RunDirectoryError, StorageError, Interrupted: see ``PairedTrainings.records``.

    Example:
        >>> run_effective_temperature(EffectiveTemperatureConfig(batch_sizes=[5, 10], window=9), "runs/hot")
        Traceback (most recent call last):
        ValueError: window=9 must be longer than an epoch of 80 batches of 5: slow temperatures are means ...
    """
    directory = Path(directory)
    granted = number("tolerance", tolerance)
    if not 0 <= granted < 1:
        raise ValueError(f"tolerance={tolerance} must satisfy 0 <= tolerance < 1")
    training, data = settled(config.training, directory)
    samples = len(data.train)
    batches_per_epoch(samples, training.batch_size)
    for name, size in config.conditions:  # refuses what has no theory, before anything is trained
        batches = batches_per_epoch(samples, size)
        config.order(name, samples, size).noise(samples, size)
        if batches >= config.window:
            raise ValueError(
                f"window={config.window} must be longer than an epoch of {batches} batches of {size}: slow "
                "temperatures are means over an epoch of lags; raise window or leave that batch size out"
            )
    config = dataclasses.replace(config, training=training)
    seed_of = seeds_of(training)
    tasks = {
        (member, condition): Task(
            f"seeds/{member:04d}/{_place(*condition)}",
            f"seed {member}, {condition[0]}, batches of {condition[1]}",
            training.epochs + 2 + config.windows,
            partial(_Experiment, config, seed_of, member, *condition),
        )
        for member in config.members
        for condition in config.conditions
    }
    trainings = PairedTrainings(
        directory,
        described("effective-temperature", config.to_dict()),
        list(tasks.values()),
        training,
        lambda record: record.get("epoch") == list(config.epochs) and "slope" in record,
    )
    records = trainings.records(progress=progress, checkpoint_seconds=checkpoint_seconds, threads=threads)
    found = dict(zip(tasks, records, strict=True))
    conditions = tuple(
        ConditionResult.of_records(*each, [found[member, each] for member in config.members])
        for each in config.conditions
    )
    if not any(each.is_known for each in conditions):
        raise ValueError(
            "in no condition two seeds have a direction that responds to the field as near a minimum: train longer, or "
            f"take a smaller field={config.field:g} or fewer than directions={config.directions}, in another directory"
        )
    stops = widths_when_stopped(conditions, config.epochs, config.early)
    return EffectiveTemperature(
        config=config,
        directory=directory,
        weights=records[0]["weights"],
        samples=samples,
        conditions=conditions,
        stops=stops,
        findings=findings_of(conditions, stops),
        comparisons=theory_comparisons(conditions, granted),
        tolerance=granted,
    )


def _place(order: str, size: int) -> str:
    name = "".join(c if c.isalnum() or c in "_.-" else "_" for c in order)
    return f"{name}_{size}"


class _Experiment:
    """Two replicas of one condition, from their training to the temperature.

    Epochs are those of the training; then one of the descent without noise, one of burn-in, and one for each window.
    """

    def __init__(
        self,
        config: EffectiveTemperatureConfig,
        seed_of: Callable[[int], SharedSeed],
        member: int,
        order: str,
        batch_size: int,
    ) -> None:
        training, self._config, self._seed = config.training, config, seed_of(member)
        images = self._seed.data.train
        self._name, self._batch_size, self._samples = order, batch_size, len(images)
        self._order = config.order(order, self._samples, batch_size)
        self._module = self._seed.network().eval()
        self._start = flat_weights(self._module)
        self._loss = FullLoss(
            self._seed.module, images, images.labels, dtype=torch.float32, device=images.labels.device
        )
        self._gradients = BatchGradients(
            self._seed.module,
            blank := with_blank(images),
            blank.labels,
            stacked=True,
            device=images.labels.device,
        )
        self._updates = batches_per_epoch(self._samples, training.batch_size)
        self._descent = self._new_descent("replica", self._start.repeat(2, 1))
        self._heat: HeatMeasurement | None = None
        self._axes: dict[str, torch.Tensor] = {}
        self._rest: dict[str, float] = {}
        self._at_runs: list[list[float]] = []
        self._done = 0
        self._rows = [self._measured(self._descent.weights)]

    def _draw(self, purpose: str, run: int) -> np.random.Generator:
        training = self._config.training
        name = f"{training.stream}/{self._order.label}/{self._batch_size}/{purpose}"
        return stream(training.seed, name, self._seed.member, run)

    def _new_descent(self, purpose: str, weights: torch.Tensor, buffer: torch.Tensor | None = None) -> ParallelDescent:
        training = self._config.training
        return ParallelDescent(
            self._gradients,
            self._order,
            self._batch_size,
            [partial(self._draw, purpose, run) for run in range(len(weights))],
            weights,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            velocity_buffer=buffer,
        )

    @property
    def epoch(self) -> int:
        return self._done

    @property
    def is_over(self) -> bool:
        return self._done >= self._config.training.epochs + 2 + self._config.windows

    def train_epoch(self) -> None:
        after = self._done - self._config.training.epochs
        if after < 0:
            for _ in range(self._updates):
                self._descent.step()
            if self._done + 1 in self._config.epochs:
                self._rows.append(self._measured(self._descent.weights))
        elif after == 0:
            self._come_to_rest()
        elif after == 1:
            self._begin_heat()
        else:
            assert self._heat is not None
            self._heat.run_window()
        self._done += 1

    def _measured(self, weights: torch.Tensor) -> dict[str, float]:
        """The epoch and ``MEASURED``, of two replicas."""
        if not bool(torch.isfinite(weights).all()):
            raise ValueError(
                f"{self._name} with batches of {self._batch_size} diverged from seed {self._seed.member}: lower "
                f"learning_rate={self._config.training.learning_rate:g}, in another directory"
            )
        test, labels, widths, accuracies = self._seed.data.test, [], [], []
        for each in weights:
            vector_to_parameters(each.to(self._start), self._module.parameters())
            widths.append(measure_boundary_width(self._module, self._seed.data.train, self._config.quantile))
            with torch.no_grad():
                labels.append(torch.cat([self._module(inputs).argmax(1) for inputs, _ in test.chunks(1024)]))
            accuracies.append(float((labels[-1] == test.labels).double().mean()))
        means = {
            "margin": [each.margin for each in widths],
            "input_distance": [each.distance for each in widths],
            "train_loss": [each.loss for each in widths],
            "train_error": [each.error for each in widths],
            "test_accuracy": accuracies,
        }
        apart = replica_distance(self._start, weights[0], weights[1], labels[0], labels[1])
        return {
            "epoch": self._done + 1 if self._descent.update else 0,
            **vars(apart),
            **{name: float(np.mean(values)) for name, values in means.items()},
        }

    def _come_to_rest(self) -> None:
        """Descent of both replicas with all samples."""
        training, everything = self._config.training, torch.arange(self._samples, device=self._gradients.device)
        weights, buffer = self._descent.weights.clone(), torch.zeros_like(self._descent.weights)
        for _ in range(self._config.rest):
            gradient = self._gradients(weights, [everything] * 2, self._samples) + training.weight_decay * weights
            buffer.mul_(training.momentum).add_(gradient)
            weights.add_(buffer, alpha=-training.learning_rate)
        self._rest = self._measured(weights)

    def _begin_heat(self) -> None:
        """Burn-in, and the directions at its beginning."""
        config, runs = self._config, self._config.runs
        first = self._descent.weights[0].clone()
        pairs = eigenpairs(
            self._loss,
            first,
            min(config.directions, self._loss.size),
            rng=stream(config.training.seed, f"{config.training.stream}/eigenpairs", self._seed.member),
            tolerance=1e-2,
        )
        curvature = torch.from_numpy(pairs.curvatures) + config.training.weight_decay
        if not bool((curvature > 0).all()):
            raise ValueError(
                f"directions={config.directions} includes curvatures <= 0, which have no stationary state: ask for "
                "fewer, or add weight decay"
            )
        self._axes = {"directions": pairs.directions.to(first), "curvature": curvature}
        self._heat = self._new_heat(first.repeat(runs, 1), self._descent.buffer[:1].repeat(runs, 1), config.burn_in)

    def _new_heat(self, weights: torch.Tensor, buffer: torch.Tensor, burn_in: int) -> HeatMeasurement:
        config, directions = self._config, self._axes["directions"]
        descent = self._new_descent("runs", weights, buffer)
        for _ in range(burn_in):
            descent.step()
        if not self._at_runs:
            self._at_runs.append(self._noise(descent.weights[0]))
        training = config.training
        modes, _ = linear_modes(training.learning_rate, self._axes["curvature"].numpy(), training.momentum)
        # Of white noise: a theory of persistent batches may be far off, and a field in its unit too strong.
        white = WhiteNoise(self._order.noise(self._samples, self._batch_size).variance)
        variance = stationary_variances(modes, white).weight * np.asarray(self._at_runs[0])
        fields = config.field * np.asarray(modes.curvature) * np.sqrt(np.maximum(variance, 1e-30))
        self._runs = descent
        return HeatMeasurement(descent, directions, fields, config.window, lambda window: self._draw("signs", window))

    def _noise(self, weights: torch.Tensor) -> list[float]:
        directions, persistent = self._axes["directions"], not self._order.same_size
        at = weights.to(self._loss.dtype)
        return example_variance(self._loss, at, directions.to(at), about_zero=persistent).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {
            "done": self._done,
            "rows": self._rows,
            "rest": self._rest,
            "descent": self._descent.state_dict(),
            "axes": self._axes,
            "at_runs": self._at_runs,
            "heat": None if self._heat is None else self._heat.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._done, self._rows, self._rest = state["done"], state["rows"], state["rest"]
        self._descent.load_state_dict(state["descent"])
        self._axes = {name: each.to(self._start.device) if name == "directions" else each
                      for name, each in state["axes"].items()}  # fmt: skip
        self._at_runs = state["at_runs"]
        if state["heat"] is not None:
            anywhere = self._start.repeat(self._config.runs, 1)
            self._heat = self._new_heat(anywhere, torch.zeros_like(anywhere), 0)
            self._heat.load_state_dict(state["heat"])

    def record(self) -> dict[str, Any]:
        """What was measured, as plain JSON."""
        assert self._heat is not None
        config, heat, directions = self._config, self._heat.result(), self._axes["directions"]
        ends = [*self._at_runs, *(self._noise(self._runs.weights[run]) for run in range(_VARIANCE_POINTS))]
        mean = self._runs.weights[: config.runs].mean(0)  # curvatures are taken there
        products = self._loss.product(mean, directions)
        curvature = (products * directions).sum(1).double().cpu().numpy() + config.training.weight_decay
        modes, near_a_minimum = linear_modes(config.training.learning_rate, curvature, config.training.momentum)
        unit = self._order.noise(self._samples, self._batch_size)
        lags, longest = list(config.lags), config.window - 2
        # Slopes over an epoch of lags: orders without replacement go up and down within.
        epoch = list(range(longest - batches_per_epoch(self._samples, self._batch_size) + 1, longest + 1))
        predicted = {
            name: predicted_heat(modes, unit, np.mean(ends, axis=0), some)
            for name, some in (("lags", lags), ("epoch", epoch))
        }
        predicted_x = predicted["epoch"].responses
        integrated = heat.responses[:, epoch].mean(0).sum(0)
        responses = heat.responses[:, longest].mean(0)
        halves = heat.half_responses[:, longest].mean(0)
        answered = np.minimum(responses, halves) > _LEAST_RESPONSE * predicted_x[-1]
        answered &= (integrated > _LEAST_RESPONSE * predicted_x.sum(0)) & near_a_minimum

        def over(values: Floats) -> Any:
            """Mean over the directions that respond; None if there are none."""
            there = values[..., answered]
            return there.mean(axis=-1).tolist() if answered.any() else np.full(there.shape[:-1], None).tolist()

        def ratio(above: Floats, below: Floats) -> Floats:
            return np.divide(above, below, out=np.ones_like(above), where=answered)

        response = over(np.log(ratio(responses, predicted_x[-1])))
        predicted_slow = (predicted["epoch"].temperatures * predicted_x).sum(0) / predicted_x.sum(0)
        columns = {name: [row[name] for row in self._rows] for name in ("epoch", *MEASURED)}
        return {
            "weights": self._loss.size,
            **columns,
            "rest": {name: self._rest[name] for name in MEASURED},
            "curvature": curvature.tolist(),
            "temperature": over(heat.temperatures(lags)),
            "predicted_temperature": over(predicted["lags"].temperatures),
            "slope": [
                over(heat.temperatures([1])[0]),
                over(ratio(heat.fluctuations(epoch).mean(0).sum(0), integrated)),
            ],
            "predicted_slope": [over(predicted["lags"].temperatures[0]), over(predicted_slow)],
            "response": None if response is None else math.exp(response),
            "linearity": over(ratio(responses, halves)),
            "unanswered": int((~answered).sum()),
            "drift": float(np.median(heat.drift)),
        }
