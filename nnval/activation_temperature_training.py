"""One network trained with one schedule, and the temperatures of its steps; a plain loop of torch around drop-ins.

All that is drawn comes from counted streams, so that a training that goes on from a checkpoint between two epochs, and
those with other schedules, see the same batches.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nnval.activation_temperature_schedules import Schedule
from nnval.activation_temperature_study import SWEPT_RATES
from nnval.drop_in.actcoolr import ActCooLR
from nnval.drop_in.observed_step import ObservedStep
from nnval.engine.datasets import ImageData
from nnval.engine.device import seeded_generators
from nnval.measure.activation_patterns import PatternRule, lr_sweep

MEASURED = ("step", "rate", "temperature", "first", "last", "target", "gradient", "weights")
"""Columns of what is measured in a step."""

_CLOCK: tuple[str, ...] = ("plain_seconds", "plain_steps", "measuring_seconds", "measuring_steps")


class ScheduledTraining:
    """Trains a network epoch by epoch, and measures.

    Args:
        module: the network, on the device of the data; it is trained in place.
        data: training and test images.
        schedule: of the learning rate.
        learning_rate: see ``Schedule.rate``.
        momentum, nesterov, weight_decay: of torch's SGD.
        epochs: of the training.
        steps_per_epoch: of it.
        every: steps between measurements, which are made in the middle between those of ActCooLR.
        samples: of each batch to measure with.
        sweep_steps: in which learning rates are swept.

    Attributes:
        epoch: completed ones.
        diverged: whether the weights are no numbers any more.
        epochs_log: a (train loss, test accuracy) for each epoch.
        measured: a row of ``MEASURED`` for each measured step; nan, as None, where there is no target.
        swept: plain records of the sweeps.

    Raises:
        ValueError: for a schedule that this training can't have.
    """

    def __init__(
        self,
        module: nn.Module,
        data: ImageData,
        schedule: Schedule,
        *,
        learning_rate: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        epochs: int,
        steps_per_epoch: int,
        every: int,
        samples: int,
        sweep_steps: Sequence[int],
    ) -> None:
        self.module, self.epoch, self.diverged = module, 0, False
        self._data, self._schedule, self._every = data, schedule, every
        self._optimizer = torch.optim.SGD(
            module.parameters(),
            lr=schedule.rate(learning_rate),
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
        )
        self._scheduler = schedule.on(self._optimizer, module, epochs * steps_per_epoch, every)
        self._observed = ObservedStep(self._optimizer, module, PatternRule(), samples)
        self._sweep_steps = frozenset(sweep_steps)
        self._cooled = self._scheduler if isinstance(self._scheduler, ActCooLR) else None
        self._cooled_every = int(schedule.options.get("every", every))
        self._step = 0
        self.coldest: float | None = None
        self.layers: int | None = None
        self.epochs_log: list[tuple[float, float]] = []
        self.measured: list[tuple[float | None, ...]] = []
        self.swept: list[dict[str, Any]] = []
        self._clock: dict[str, float] = dict.fromkeys(_CLOCK, 0.0)

    def train_epoch(self, batches: torch.Tensor, augmentations: torch.Tensor | None, seed: int) -> None:
        """One epoch, and the test accuracy after it.

        Args:
            batches: indices of the samples, shape (M, S).
            augmentations: of these, likewise, or None.
            seed: of what layers such as dropout draw.

        Raises:
            ValueError: if the schedule cannot go on.
        """
        losses = torch.zeros((), device=batches.device)
        self.module.train()
        with seeded_generators(seed, batches.device), warnings.catch_warnings():
            # What ActCooLR warns of (the cap, lost measurements, sigma) is in the results.
            warnings.simplefilter("ignore", RuntimeWarning)
            for number, samples in enumerate(batches):
                chosen = None if augmentations is None else augmentations[number]
                losses += self._one_step(
                    self._data.train.inputs(samples, chosen), self._data.train.labels[samples]
                ).detach()
        self.epoch += 1
        loss = float(losses) / len(batches)
        self.diverged = not all(bool(torch.isfinite(each).all()) for each in self.module.parameters())
        accuracy = 1 / self._data.classes if self.diverged else self._accuracy()
        self.epochs_log.append((loss if math.isfinite(loss) else math.nan, accuracy))

    def _one_step(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        begin, number = time.process_time(), self._step + 1
        measured, swept = number % self._every == self._every // 2, number in self._sweep_steps
        before = self._parameters() if swept else {}
        if measured:
            self._observed.arm()
        self._optimizer.zero_grad()
        loss = F.cross_entropy(self.module(inputs), labels)
        loss.backward()
        rate = float(self._optimizer.param_groups[0]["lr"])
        self._optimizer.step()
        self._observed.steps_made()
        self._step = number
        try:
            self._scheduler.step()
        except RuntimeError as error:
            raise ValueError(f"{self._schedule.label}: {error}") from error
        if measured:
            self._measure(number, rate)
        if swept:
            self._sweep(number, rate, inputs, before)
        if not measured and not swept:
            kind = "measuring" if number % self._cooled_every == 0 else "plain"
            self._clock[f"{kind}_seconds"] += time.process_time() - begin
            self._clock[f"{kind}_steps"] += 1
        return loss

    def _parameters(self) -> dict[str, torch.Tensor]:
        return {name: each.detach().clone() for name, each in self.module.named_parameters()}

    def _measure(self, number: int, rate: float) -> None:
        changes = self._observed.measure()
        self.coldest, self.layers = changes.coldest, len(changes.patterns)
        if not changes.finite:
            return
        layers = changes.layers
        parameters = list(self.module.parameters())
        gradient, weights = (
            float(torch.stack([torch.linalg.vector_norm(each.detach()) for each in found]).norm())
            for found in ([p.grad for p in parameters if p.grad is not None], parameters)
        )
        norms = (norm if math.isfinite(norm) else None for norm in (gradient, weights))
        first_and_last = layers[[0, -1]].tolist()
        self.measured.append((number, rate, float(changes.temperature), *first_and_last, self._target(number), *norms))

    def _target(self, number: int) -> float | None:
        """C of a step; none of those up to the first that ActCooLR measured, after which it is followed."""
        if self._cooled is None or number <= self._cooled_every:
            return None
        return self._cooled.target(number)

    def _sweep(self, number: int, rate: float, inputs: torch.Tensor, before: dict[str, torch.Tensor]) -> None:
        """The step that was just made at other learning rates; its direction is torch's, not a small difference."""
        settings, direction = self._optimizer.param_groups[0], {}
        for name, parameter in self.module.named_parameters():
            if parameter.grad is None:
                continue
            step = torch.add(parameter.grad, before[name], alpha=settings["weight_decay"])
            if settings["momentum"]:
                velocity = self._optimizer.state[parameter]["momentum_buffer"]
                step = torch.add(step, velocity, alpha=settings["momentum"]) if settings["nesterov"] else velocity
            direction[name] = -step.detach()
        sweep = lr_sweep(self.module, inputs, before, direction, SWEPT_RATES.tolist())
        self.swept.append(
            {
                "step": number,
                "used": rate,
                "changed": sweep.changed.tolist(),
                "patterns": sweep.patterns.tolist(),
                "finite": sweep.finite.tolist(),
            }
        )

    @torch.no_grad()
    def _accuracy(self) -> float:
        self.module.eval()
        right = sum(int((self.module(x).argmax(1) == labels).sum()) for x, labels in self._data.test.chunks(1024))
        return right / len(self._data.test)

    def summary(self) -> dict[str, Any]:
        """What is known at the end, as plain numbers."""
        metrics = self._cooled.last_metrics if self._cooled else {}
        clock, overhead = self._clock, None
        if self._cooled and clock["plain_steps"] and clock["measuring_steps"] and not self._on_gpu:
            plain = clock["plain_seconds"] / clock["plain_steps"]
            extra = clock["measuring_seconds"] / clock["measuring_steps"] - plain
            overhead = extra / (self._cooled_every * plain)
        return {
            "coldest": self.coldest,
            "layers": self.layers,
            "diverged": self.diverged,
            "share_at_cap": metrics.get("apt/share_at_cap"),
            "lost": metrics.get("apt/lost"),
            "sigma": self._cooled.sigma if self._cooled else None,
            "overhead": overhead,
        }

    @property
    def _on_gpu(self) -> bool:
        return self._data.train.labels.is_cuda

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on between two epochs, readable by ``torch.load(weights_only=True)``."""
        return {
            "epoch": self.epoch,
            "diverged": self.diverged,
            "step": self._step,
            "module": {name: tensor.clone() for name, tensor in self.module.state_dict().items()},
            "optimizer": self._optimizer.state_dict(),
            "scheduler": _plain(self._scheduler.state_dict()),
            "clock": self._clock,
            "log": [list(each) for each in self.epochs_log],
            "measured": [list(each) for each in self.measured],
            "swept": self.swept,
            "coldest": self.coldest,
            "layers": self.layers,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict`` of the same training."""
        self.epoch, self.diverged, self._step = state["epoch"], state["diverged"], state["step"]
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        self._clock, self.swept = dict(state["clock"]), list(state["swept"])
        self.epochs_log = [(loss, accuracy) for loss, accuracy in state["log"]]
        self.measured = [tuple(each) for each in state["measured"]]
        self.coldest, self.layers = state["coldest"], state["layers"]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Without functions, which weights_only refuses, and Counters."""
    return {
        name: dict(value) if isinstance(value, dict) else value
        for name, value in state.items()
        if not isinstance(value, Callable)
    }
