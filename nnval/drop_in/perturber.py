"""When a perturbation acts in anybody's own training loop: schedules, and the ``Perturber`` that follows one."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nnval.drop_in.initialisation import fresh_state, trainable_state
from nnval.drop_in.perturbations import Perturbation


def periodic(interval: int) -> Callable[[int], bool]:
    """Schedule: after epochs P, 2P, 3P, ...

    Args:
        interval: P >= 1.

    Returns:
        Whether the perturbation acts after an epoch, as a function of that.

    Raises:
        ValueError: for an interval out of range.

    Example:
        >>> [epoch for epoch in range(1, 8) if periodic(3)(epoch)]
        [3, 6]
    """
    if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
        raise ValueError(f"interval={interval!r} must be a whole number of epochs >= 1")
    return lambda epoch: epoch % interval == 0


def at(epochs: Iterable[int]) -> Callable[[int], bool]:
    """Schedule: after these epochs, counted from 1.

    Args:
        epochs: at least one.

    Returns:
        Whether the perturbation acts after an epoch, as a function of that.

    Raises:
        ValueError: for none, or one below 1.

    Example:
        >>> [epoch for epoch in range(1, 8) if at([2, 5])(epoch)]
        [2, 5]
    """
    chosen = frozenset(epochs)
    if not chosen or min(chosen) < 1:
        raise ValueError(f"epochs={sorted(chosen)} must be one or more, all >= 1: completed epochs are counted")
    return lambda epoch: epoch in chosen


@dataclass(frozen=True)
class geometric:  # named like its two siblings; a class, so that Perturber knows to pass its generator
    """Schedule: after each epoch with this probability, drawn from the generator of the ``Perturber``.

    Attributes:
        probability: in (0, 1]; 1 / probability is the mean interval.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sum(geometric(0.25)(epoch, generator) for epoch in range(1, 1001)) // 50
        5
    """

    probability: float

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability={self.probability} must be in (0, 1]: 1 / probability is the mean interval")

    def __call__(self, epoch: int, generator: torch.Generator) -> bool:  # noqa: D102 -- of the protocol
        return bool(torch.rand((), generator=generator, device=generator.device) < self.probability)


class Perturber:
    """Applies a perturbation in somebody's training loop, after the evaluation of epochs P, 2P, ...

    Call ``step(epoch)`` last in every epoch, after the evaluation and after the scheduler's step, and not at all once
    the run has met its goal: a run that is complete at epoch P is not perturbed.

    Args:
        perturbation: what acts. It is tried once on a copy, so that a model it can't handle fails here, not at epoch P.
        interval: P in epochs, or None if ``when`` is given.
        model: what it acts on.
        optimizer: its optimiser, whose state a perturbation may clear and whose learning rates it may restart.
        scheduler: anything with ``state_dict`` and ``load_state_dict``. ``learning_rate="restart"`` puts it and the
            learning rates back to what they are now: construct the Perturber before training.
        when: instead of ``interval``: ``at(...)``, ``geometric(...)`` or any function of the completed epoch.
        generator: where all numbers come from; its state is part of ``state_dict``.
        init_fn: see ``Perturbation.apply``. It must not seed torch's global generator (``torch.manual_seed``,
            ``seed_everything``): every fresh network would be the same one, and every restart the same run again; the
            loop's own random numbers go on undisturbed. What it seeds or draws of numpy's and Python's global
            generators is not undone, and the loop goes on from there.

    Attributes:
        count: how often it has acted.

    Raises:
        ValueError: unless exactly one of ``interval`` and ``when`` is given, if a schedule shall restart and there is
            no optimiser, or if the perturbation can't act on the model.

    Example:
        >>> from nnval.drop_in.perturbations import ShrinkPerturb
        >>> model = nn.Linear(2, 1)
        >>> perturber = Perturber(ShrinkPerturb(.4, .1), 3, model, generator=torch.Generator().manual_seed(0))
        >>> [epoch for epoch in range(1, 8) if perturber.step(epoch)]
        [3, 6]
    """

    def __init__(
        self,
        perturbation: Perturbation,
        interval: int | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Any = None,
        *,
        when: Callable[..., bool] | None = None,
        generator: torch.Generator,
        init_fn: Callable[[], nn.Module] | None = None,
    ) -> None:
        if interval is not None and when is None:
            when = periodic(interval)
        elif interval is not None or when is None:
            raise ValueError(f"interval={interval!r} and when={when!r}: give exactly one of them, the other as None")
        if perturbation.learning_rate == "restart" and optimizer is None:
            raise ValueError(f"{perturbation.name} restarts the learning rate: pass the optimizer (and its scheduler)")
        self.perturbation, self.when, self.generator, self.init_fn = perturbation, when, generator, init_fn
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.count = self.last_epoch = 0

        rehearsal = torch.Generator(generator.device)
        copies = [{name: tensor.clone() for name, tensor in state.items()} for state in trainable_state(model)]
        perturbation.perturb(*copies, fresh=lambda: fresh_state(model, rehearsal, init_fn), generator=rehearsal)

        # Momentum is part of the schedule in OneCycleLR and CyclicLR only.
        keys = {"lr", "momentum", "betas"} if getattr(scheduler, "cycle_momentum", False) else {"lr"}
        groups = optimizer.param_groups if optimizer is not None else []
        initial_groups = [{key: group[key] for key in keys & group.keys()} for group in groups]
        initial_schedule = scheduler.state_dict() if scheduler is not None else None
        self._initial = copy.deepcopy({"param_groups": initial_groups, "scheduler": initial_schedule})

    def step(self, epoch: int) -> bool:
        """Acts if it is time to.

        Args:
            epoch: the number of completed epochs: 1 after the first one.

        Returns:
            Whether it acted.

        Raises:
            ValueError: if ``epoch`` is not larger than at the last call.
        """
        if epoch <= self.last_epoch:
            raise ValueError(f"epoch={epoch} must be > {self.last_epoch}, the last one: count completed epochs from 1")
        self.last_epoch = epoch
        due = self.when(epoch, self.generator) if isinstance(self.when, geometric) else self.when(epoch)
        if due:
            self.perturbation.apply(self.model, self.optimizer, generator=self.generator, init_fn=self.init_fn)
            if self.perturbation.learning_rate == "restart" and self.optimizer is not None:
                self._restart_learning_rate(self.optimizer)
            self.count += 1
        return bool(due)

    def _restart_learning_rate(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scheduler is not None:
            self.scheduler.load_state_dict(copy.deepcopy(self._initial["scheduler"]))
        for group, initial in zip(optimizer.param_groups, self._initial["param_groups"], strict=True):
            for key, value in initial.items():
                if isinstance(group[key], torch.Tensor):
                    group[key].fill_(value)  # captured and compiled optimisers hold on to this tensor
                else:
                    group[key] = value

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: the generator, the counts, and what a restart of the schedule returns to."""
        return {
            "generator": self.generator.get_state(),
            "count": self.count,
            "last_epoch": self.last_epoch,
            "initial": copy.deepcopy(self._initial),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict``; whether optimiser and scheduler are loaded before or after doesn't matter."""
        self.generator.set_state(state["generator"].cpu())
        self.count, self.last_epoch = state["count"], state["last_epoch"]
        self._initial = copy.deepcopy(state["initial"])
