"""One network trained by one method of nnval.adaptive_noise; a plain loop of torch around the drop-in.

Batches come from counted streams and the noise from a generator that checkpoints hold, so that a training that goes on
from a checkpoint between two epochs makes the same steps.
"""

import math
import time
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from nnval.adaptive_noise_methods import Method, NoiseOptions
from nnval.drop_in.adaptive_noise import AdaptiveNoise
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import ImageData
from nnval.engine.device import Numerics, seeded_generators
from nnval.engine.images import Images
from nnval.engine.schedules import learning_rates
from theory.noise_schedule import NoiseSchedule

RATIO_EVERY = 20
"""Steps from one measurement of the norm of the noise to the next."""

_EVALUATED = 1024
"""Images at once."""


class NoisyTraining:
    """Trains a network epoch by epoch, and measures.

    Args:
        module: the network, on the device of the data; it is trained in place.
        data: training, validation and test images.
        method: the method.
        training: learning rate, epochs and what else belongs to the optimizer; with the method's schedule.
        noise: of the method; None to attach nothing to the optimizer.
        options: common to all noises.
        seed: of the noise.

    Attributes:
        epoch: completed ones.
        diverged: whether weights or losses are no numbers any more.
    """

    def __init__(
        self,
        module: nn.Module,
        data: ImageData,
        method: Method,
        training: TrainingConfig,
        noise: NoiseSchedule | None,
        options: NoiseOptions,
        seed: int,
    ) -> None:
        self.module, self.epoch, self.diverged = module, 0, False
        self._data, self._method, self._training = data, method, training
        self._numerics = Numerics.of(training)
        self._optimizer = _optimizer(module, method, training)
        self._clock = _Clock(self._optimizer, data.train.labels.device)
        self._noise: AdaptiveNoise | None = None
        self._length = _NoiseLength(module, options.include_norm)
        if noise is not None:
            self._clock.begin_hooks()
            self._optimizer.register_step_post_hook(self._before_noise)
            self._clock.mark_post_hooks()
            self._noise = AdaptiveNoise(
                self._optimizer,
                noise,
                mode=options.mode,
                machine=options.machine(),
                metric=options.metric,
                horizon=options.horizon,
                include_norm=options.include_norm,
                seed=seed,
            )
            self._clock.end_hooks()
            self._optimizer.register_step_post_hook(self._after_noise)
        self._log: list[list[float]] = []
        self._best = (-1.0, 0, 0.0)  # validation accuracy, epoch, test accuracy

    def train_epoch(self, batches: torch.Tensor, augmentations: torch.Tensor | None, seed: int) -> None:
        """One epoch, and what is measured after it.

        Args:
            batches: indices of the samples, shape (M, S).
            augmentations: of these, likewise, or None.
            seed: of what layers such as dropout draw.
        """
        device, losses = batches.device, torch.zeros((), device=batches.device)
        rates = learning_rates(self._training, self.epoch + 1, len(batches))
        self.module.train()
        self._clock.start()
        with seeded_generators(seed, device), warnings.catch_warnings():
            # That something is not finite is in the results.
            warnings.simplefilter("ignore", RuntimeWarning)
            for number, (samples, rate) in enumerate(zip(batches, rates, strict=True)):
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                chosen = None if augmentations is None else augmentations[number]
                inputs = self._numerics.laid_out(self._data.train.inputs(samples, chosen))
                self._optimizer.zero_grad()
                with self._numerics.autocast(device):
                    loss = F.cross_entropy(self.module(inputs), self._data.train.labels[samples])
                loss.backward()
                self._optimizer.step()
                losses += loss.detach()
        mean_loss = float(losses) / len(batches)  # waits for the device
        self._clock.stop()
        self.epoch += 1
        self._evaluate(mean_loss)

    def _before_noise(self, *_: Any) -> None:
        if self._noise is not None and self._method.is_noisy and self._noise.steps % RATIO_EVERY == 0:
            self._length.keep()

    def _after_noise(self, *_: Any) -> None:
        if self._noise is not None and self._length.is_kept:
            self._length.measure(self._noise.metrics.get("noise/update_size", 0.0))

    def _evaluate(self, train_loss: float) -> None:
        loss, accuracy = self._loss_and_accuracy(self._data.validation)
        weights = all(bool(torch.isfinite(each).all()) for each in self.module.parameters())
        self.diverged = not (weights and math.isfinite(loss) and math.isfinite(train_loss))
        if self.diverged:
            return
        if accuracy > self._best[0]:
            self._best = (accuracy, self.epoch, self._loss_and_accuracy(self._data.test)[1])
        seconds = self._clock.total - (0.0 if self._method.is_noisy else self._clock.hooks)
        self._log.append([train_loss, loss, accuracy, seconds])

    @torch.no_grad()
    def _loss_and_accuracy(self, images: Images) -> tuple[float, float]:
        self.module.eval()
        loss, right = 0.0, 0
        for inputs, labels in images.chunks(_EVALUATED):
            with self._numerics.autocast(labels.device):
                logits = self.module(self._numerics.laid_out(inputs)).float()
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
        return loss / len(images), right / len(images)

    def record(self) -> dict[str, Any]:
        """What was measured in all epochs, as plain JSON; what is not known is None."""
        noise, guess = None, 1 / self._data.classes
        if self._noise is not None:
            noise = {
                "changes": [list(change) for change in self._noise.changes],
                "steps": self._noise.steps,
                "injected": self._noise.injected,
                "skipped": self._noise.skipped,
                "ratio": self._length.ratio,
            }
        plain = self._clock.total - self._clock.hooks
        return {
            "learning_rate": self._training.learning_rate,
            "weights": sum(each.numel() for each in self.module.parameters()),
            "classes": self._data.classes,
            "diverged": self.diverged,
            "log": self._log,
            "test_accuracy": guess if self.diverged else self._loss_and_accuracy(self._data.test)[1],
            "best_epoch": self._best[1],
            "best_test_accuracy": self._best[2] if self._best[1] else guess,
            "seconds": self._clock.total,
            "noise": noise,
            "overhead": None if noise is None or not plain > 0 else self._clock.hooks / plain,
        }

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on between two epochs, readable by ``torch.load(weights_only=True)``."""
        return {
            "epoch": self.epoch,
            "diverged": self.diverged,
            "module": {name: tensor.clone() for name, tensor in self.module.state_dict().items()},
            "optimizer": self._optimizer.state_dict(),
            "noise": None if self._noise is None else self._noise.state_dict(),
            "clock": [self._clock.total, self._clock.hooks],
            "length": self._length.sums,
            "log": self._log,
            "best": list(self._best),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict`` of the same training."""
        self.epoch, self.diverged = state["epoch"], state["diverged"]
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._noise is not None:
            self._noise.load_state_dict(state["noise"])
        self._clock.total, self._clock.hooks = state["clock"]
        self._length.sums = list(state["length"])
        accuracy, epoch, test = state["best"]
        self._log, self._best = [list(row) for row in state["log"]], (accuracy, epoch, test)


def _optimizer(module: nn.Module, method: Method, training: TrainingConfig) -> Optimizer:
    rate, decay = training.learning_rate, training.weight_decay
    if method.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), lr=rate, betas=training.betas[:2], weight_decay=decay)  # pyright: ignore[reportArgumentType] -- two of them
    return torch.optim.SGD(
        module.parameters(), lr=rate, momentum=training.momentum, nesterov=training.nesterov, weight_decay=decay
    )


class _NoiseLength:
    """The norm of the noise over that of the update, at some steps."""

    def __init__(self, module: nn.Module, include_norm: bool) -> None:
        self._parameters = [each for each in module.parameters() if include_norm or each.dim() > 1]
        self._before: list[torch.Tensor] = []
        self.sums = [0.0, 0]

    @property
    def is_kept(self) -> bool:
        """Whether there is something to measure."""
        return bool(self._before)

    @torch.no_grad()
    def keep(self) -> None:
        """Before the noise."""
        self._before = [each.clone() for each in self._parameters]

    @torch.no_grad()
    def measure(self, update: float) -> None:
        """After it."""
        squares = [(a - b).square().sum() for a, b in zip(self._parameters, self._before, strict=True)]
        length, self._before = float(torch.stack(squares).sum().sqrt()), []
        if math.isfinite(length) and update > 0:
            self.sums = [self.sums[0] + length / update, self.sums[1] + 1]

    @property
    def ratio(self) -> float | None:
        """The mean."""
        return self.sums[0] / self.sums[1] if self.sums[1] else None


class _Clock:
    """Seconds of training, and of the drop-in's hooks in it: of the processor; on other devices, of the clock there."""

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self.total = self.hooks = 0.0
        self._optimizer, self._cuda = optimizer, device.type == "cuda"
        self._now = time.process_time if device.type == "cpu" else time.perf_counter
        self._marks: list[Any] = []
        self._begin = 0.0

    def begin_hooks(self) -> None:
        """To be called before the drop-in registers its own."""
        self._optimizer.register_step_pre_hook(self._mark)

    def mark_post_hooks(self) -> None:
        """To be called right before it, after other hooks that are to run before."""
        self._optimizer.register_step_post_hook(self._mark)

    def end_hooks(self) -> None:
        """To be called after it."""
        self._optimizer.register_step_pre_hook(self._mark)
        self._optimizer.register_step_post_hook(self._mark)

    def _mark(self, *_: Any) -> None:
        if self._cuda:  # the device lags behind
            event: Any = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(self._now())

    def start(self) -> None:
        """An epoch begins; the device has nothing left to do."""
        self._marks.clear()
        self._begin = self._now()

    def stop(self) -> None:
        """It ends, likewise."""
        self.total += self._now() - self._begin
        for first, last in zip(self._marks[::2], self._marks[1::2], strict=False):
            self.hooks += first.elapsed_time(last) / 1000 if self._cuda else last - first
