r"""ActCooLR: a learning rate that makes the activation-pattern temperature of a network follow a falling curve.

Every few steps, the share of activation patterns that a step changed gives the temperature T (see
``nnval.measure.activation_patterns``). What is known of how T depends on the learning rate turns T, and the wanted

.. math:: C(i) = T_\text{start}\,\bigl(1 - (i / i_\text{total})^\gamma\bigr),

into the next learning rate (see ``theory.cooling_controller``), which is reached in a straight line by the next
measurement.

Reference: [actcoolr2021] section 4; start, link, limits and what happens on trouble are jostle's own
"""

import math
import warnings
import weakref
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer, Rprop
from torch.optim.lr_scheduler import LRScheduler

from nnval.drop_in.cooling_schedule import USUAL_SIGMA, CoolingSchedule
from nnval.drop_in.observed_step import ObservedStep
from nnval.measure.activation_patterns import PatternRule
from nnval.measure.pattern_passes import unwrapped
from theory.absorbing import whole_number

PLAUSIBLE_SIGMA = (0.3, 4.0)
PROBE_FACTORS = tuple(10 ** (number / 2) for number in range(-6, 7))
"""Times the learning rate, for the fit of sigma."""
MANY_AT_CAP = 0.2
"""Share of the steps at the cap from which on there is a warning."""


class ActCooLR(LRScheduler):
    r"""Sets learning rates so that the activation-pattern temperature falls along a curve, in anybody's loop.

    ``step()`` after ``optimizer.step()``, as with any scheduler that acts in each step, and no argument::

        scheduler = ActCooLR(optimizer, model, total_steps=epochs * len(loader))
        for inputs, labels in batches:
            optimizer.zero_grad()
            criterion(model(inputs), labels).backward()
            optimizer.step()
            scheduler.step()

    In Lightning, from ``configure_optimizers``::

        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        scheduler = ActCooLR(optimizer, self, total_steps=self.trainer.estimated_stepping_batches, batch=self.probe)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    where ``self.probe`` holds some inputs, since Lightning calls ``training_step`` and not the module. (If that calls a
    network ``self.net``, give ``self.net`` instead of ``self``, and no batch.)

    What it does, step by step. For the first ``every`` steps the learning rate is the optimizer's own. Then T is
    measured, and, for the erf link, sigma: by 13 passes with the same step at other learning rates. With a ``t_start``
    the curve is followed from there. The last step has ``lr_min``, which stays if there are more.

    Without a ``t_start``, it is T at the optimizer's own learning rate, but at most ``HOTTEST_START`` = 1 bit, where
    half of the patterns change: the learning rate that you chose sets the scale, unless it is hotter than what all
    networks bore that were tried (docs/activation-temperature.md has the numbers). To find out takes ``calibration``
    steps, at the learning rate of your choice; or, from the first measurement on, below it, at that of 1 bit, where
    yours is hotter. What T would be at yours then follows from the link, and the median over the later half counts.

    What is measured is a step that was made, on (the first samples of) the batch that it was made with, by two forward
    passes that leave no trace; see ``ObservedStep``, also for closures, gradient accumulation and mixed precision.
    ``step()`` counts the optimizer's steps: a call without one (a ``GradScaler`` skipped it; gradients are still being
    accumulated) does nothing, and more than one step between two calls is an error. With several parameter groups the
    largest learning rate is the one spoken of, and the ratios between groups stay.

    What else moves the weights before ``step()``, such as the noise of another drop-in, counts as part of the step.

    Losses that explode but are finite make T large, and the learning rate falls. If an activation is no finite number,
    that measurement is lost: the learning rate stays as it is until the next, and there is a warning, but no error:
    whether training goes on is not a scheduler's business.

    At the cap ``lr_max`` the temperature is not under control: what was asked for is not there at any safe learning
    rate. The share of such steps is reported, and there is a warning if it is large.

    Args:
        optimizer: with learning rates that scale its steps: anything but LBFGS and Rprop. If it is to be loaded from a
            checkpoint, do so after making this.
        model: the module that the loop calls, with ReLUs; if it is compiled or wrapped for parallel training, the
            compiled or wrapped one.
        total_steps: of the optimizer in this training, more than ``every``.
        t_start: C(0) [bits]; 3.17 in the paper, at which many networks break. None: T at the optimizer's own learning
            rate, at most 1.
        gamma: shape of the curve; 1 is a straight line, more stays hot for longer.
        every: steps between two measurements.
        link: ``"erf"``, the paper's; or ``"cloglog"``, T in proportion to the learning rate, which is the better for T
            below about 0.5, needs no sigma, and corrects fully at all T, where the erf link overshoots for T above 1
            and falls short below (`theory.cooling_controller`).
        sigma: of the erf link. None: measured.
        lr_max: the cap; None is three times the optimizer's own learning rate.
        lr_min: the floor, > 0 and below the optimizer's own learning rate, at which training ends.
        largest_change: of ln(learning rate) from one measurement to the next.
        calibration: steps to find the start in, at least ``every``, if there is no ``t_start``. None: the twentieth
            part of all, but at least 5 measurements (or half of the training).
        pattern, reduce, channel_dim, smooth: see ``nnval.measure.activation_patterns.PatternRule``.
        probe_samples: of a batch to measure with; None for all.
        batch: inputs to measure with, all the time, instead of those that the model is called with.

    Attributes:
        last_metrics: plain numbers for a log, of the last measurement: ``apt/temperature``, ``apt/target`` (C at that
            step), ``apt/learning_rate`` and ``apt/sigma``; and up to now ``apt/share_at_cap`` (of the steps),
            ``apt/share_limited`` (of the measurements, by ``largest_change``), ``apt/measurements`` and ``apt/lost``.

    Raises:
        ValueError: for arguments out of range, or an optimizer that cannot be steered.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> scheduler = ActCooLR(optimizer, model, total_steps=200, sigma=1.2)
        >>> inputs = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
        >>> for _ in range(200):
        ...     optimizer.zero_grad()
        ...     (model(inputs) - inputs.prod(1, keepdim=True)).square().mean().backward()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr(), scheduler.last_metrics["apt/measurements"]
        ([1e-08], 19.0)

    Reference: [actcoolr2021] section 4
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        total_steps: int,
        *,
        t_start: float | None = None,
        gamma: float = 1.0,
        every: int = 10,
        link: str = "erf",
        sigma: float | None = None,
        lr_max: float | None = None,
        lr_min: float = 1e-8,
        largest_change: float = math.inf,
        calibration: int | None = None,
        pattern: str = "position",
        reduce: str = "temperature",
        channel_dim: int = 1,
        smooth: bool = False,
        probe_samples: int | None = 32,
        batch: Any = None,
    ) -> None:
        rule = PatternRule(pattern, reduce, channel_dim, smooth)
        if probe_samples is not None:
            probe_samples = whole_number("probe_samples", probe_samples, 1)
        self._schedule = CoolingSchedule(
            _checked_rate(optimizer, model),
            total_steps,
            t_start=t_start,
            gamma=gamma,
            every=every,
            link=link,
            sigma=sigma,
            lr_max=lr_max,
            lr_min=lr_min,
            largest_change=largest_change,
            calibration=calibration,
        )
        self._settings = {**self._schedule.settings(), "t_start": t_start, "pattern": pattern, "reduce": reduce}
        self._capped = self._measured = self._lost = 0
        self._warned = False
        self.last_metrics: dict[str, float] = {}
        self._observed: ObservedStep | None = None
        super().__init__(optimizer)  # calls step()
        self._observed = ObservedStep(optimizer, model, rule, probe_samples, batch)
        # Else one that was thrown away without remove() would go on measuring.
        weakref.finalize(self, self._observed.remove).atexit = False
        self._arm_if_due()

    # ---- What torch calls --------------------------------------------------------------------------------------------

    def step(self, epoch: int | None = None) -> None:
        """Sets the learning rates for the next step of the optimizer, if there was one since the last call.

        Args:
            epoch: not supported, as the schedule cannot be at a step that it has not seen.

        Raises:
            ValueError: if an epoch is given.
            RuntimeError: if the optimizer made several steps since the last call, or the curve starts at a temperature
                too low to be seen.
        """
        if epoch is not None:
            raise ValueError(f"epoch={epoch} must be left out: call step() after each step of the optimizer")
        if self._observed is None:  # the constructor of torch's class sets the first learning rates
            super().step()
            return
        steps = self._observed.steps_made()
        if steps == 0:
            return
        if steps > 1:
            raise RuntimeError(
                f"the optimizer made {steps} steps since the last step() of ActCooLR: call it after each of them (in "
                'Lightning: "interval": "step")'
            )
        made = self.last_epoch + 1
        self._capped += self._rate() >= self._schedule.lr_max * (1 - 1e-6)  # a learning rate may be a float32
        if self._schedule.is_due(made):
            self._measure(made, self._observed)
        self._warn_of_cap(made)
        super().step()
        self._arm_if_due()

    @property
    def t_start(self) -> float | None:
        """C(0), at which the curve starts; None until it is known [bits]."""
        return self._schedule.start

    @property
    def sigma(self) -> float | None:
        """Of the erf link; None until it is known, and for the other link."""
        return self._schedule.scale if self._schedule.link == "erf" else None

    def target(self, step: int) -> float | None:
        """The temperature wanted of a step, C(step).

        Args:
            step: of the optimizer, from 1 to ``total_steps``; 0 has ``t_start``.

        Returns:
            C; None until ``t_start`` is known [bits].

        Raises:
            ValueError: for a step out of range.
        """
        step = whole_number("step", step, 0)
        if step > self._schedule.total_steps:
            raise ValueError(f"step={step} must be at most total_steps={self._schedule.total_steps}")
        return self._schedule.target(step)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Learning rates of all parameter groups for the next step."""
        rate = self._schedule.rate_of(self.last_epoch + 1)
        return [rate * (float(own) / self._schedule.own_rate) for own in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, from which a resumed training goes on with the same bits.

        Raises:
            RuntimeError: between a step of the optimizer and ``step()``, when a measurement may be half done.
        """
        if self._observed is not None and self._observed.is_pending:
            raise RuntimeError("take the state of ActCooLR after its step(), not between optimizer.step() and that")
        return {
            "settings": dict(self._settings),
            "last_epoch": self.last_epoch,
            "last_lr": [float(rate) for rate in self.get_last_lr()],
            "base_lrs": [float(rate) for rate in self.base_lrs],
            "metrics": dict(self.last_metrics),
            "schedule": self._schedule.state_dict(),
            **{name: getattr(self, f"_{name}") for name in _COUNTS},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from ``state_dict``, in the middle of an interval too. The optimizer's learning rates are set.

        Raises:
            ValueError: if the state is of other settings; nothing is changed then.
        """
        other = state_dict["settings"]
        differing = [name for name, value in self._settings.items() if other.get(name) != value]
        if differing or len(state_dict["base_lrs"]) != len(self.base_lrs):
            values = ", ".join(f"{name}={other.get(name)!r}, not {self._settings[name]!r}" for name in differing)
            raise ValueError(f"the state is of another ActCooLR: {values or 'other parameter groups'}; make one alike")
        self._schedule.load_state_dict(state_dict["schedule"])
        for name in _COUNTS:
            setattr(self, f"_{name}", state_dict[name])
        self.last_epoch, self.last_metrics = state_dict["last_epoch"], dict(state_dict["metrics"])
        self.base_lrs, self._last_lr = list(state_dict["base_lrs"]), list(state_dict["last_lr"])
        self._step_count = self.last_epoch + 1
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._arm_if_due()

    def remove(self) -> None:
        """Takes the hooks off the model and the optimizer; ``step()`` does nothing any more."""
        if self._observed is not None:
            self._observed.remove()
            self._observed.steps_made()

    # ---- Measurements ------------------------------------------------------------------------------------------------

    def _arm_if_due(self) -> None:
        if self._observed is not None and self._schedule.is_due(self.last_epoch + 1):
            self._observed.arm(keep_weights=self._measured == 0)

    def _rate(self) -> float:
        """The learning rate of the step that was just made, whoever set it."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def _measure(self, made: int, observed: ObservedStep) -> None:
        rate, changes = self._rate(), observed.measure()
        if not (changes.finite and 0 < rate < math.inf):
            self._lost += 1
            self._schedule.hold(made, rate)
            self._report(made, {})
            if self._lost == 1:
                warnings.warn(
                    f"activations at step {made} are not finite, so that no temperature can be measured: the learning "
                    "rate stays as it is; training has probably diverged",
                    RuntimeWarning,
                    stacklevel=3,
                )
            return
        self._measured += 1
        if self._schedule.scale is None:
            self._schedule.scale = _probed_sigma(observed, rate)
        measured = float(changes.temperature)
        self._schedule.follow(made, rate, measured, changes.coldest)
        report = {"temperature": measured, "learning_rate": rate, "sigma": self._schedule.scale}
        target = self._schedule.target(made)
        self._report(made, report if target is None else {**report, "target": target})

    def _report(self, made: int, measured: dict[str, float]) -> None:
        measurements = self._measured + self._lost
        self.last_metrics = {f"apt/{name}": float(value) for name, value in measured.items()} | {
            "apt/share_at_cap": self._capped / made,
            "apt/share_limited": self._schedule.limited / measurements,
            "apt/measurements": float(measurements),
            "apt/lost": float(self._lost),
        }

    def _warn_of_cap(self, made: int) -> None:
        # In the first tenth of the training it is too early to say.
        if self._warned or 10 * made < self._schedule.total_steps or self._capped <= MANY_AT_CAP * made:
            return
        self._warned = True
        warnings.warn(
            f"{self._capped} of {made} steps were at lr_max={self._schedule.lr_max:g}, where the temperature is not "
            "under control: a lower t_start is reached by smaller learning rates",
            RuntimeWarning,
            stacklevel=3,
        )


_COUNTS = ("capped", "measured", "lost", "warned")


def _probed_sigma(observed: ObservedStep, rate: float) -> float:
    sweep = observed.sweep([factor * rate for factor in PROBE_FACTORS], rate)
    try:
        sigma = sweep.fit("erf").link.scale
        reason = f"sigma={sigma:.3g} is not plausible"
    except ValueError as error:
        sigma, reason = math.nan, str(error)
    if PLAUSIBLE_SIGMA[0] <= sigma <= PLAUSIBLE_SIGMA[1]:
        return sigma
    warnings.warn(f"{reason}: {USUAL_SIGMA} is used; give sigma, or link='cloglog'", RuntimeWarning, stacklevel=4)
    return USUAL_SIGMA


def _checked_rate(optimizer: Optimizer, model: nn.Module) -> float:
    """The largest learning rate of an optimizer that can be steered."""
    if isinstance(optimizer, (LBFGS, Rprop)):
        raise ValueError(
            f"{type(optimizer).__name__} makes steps whose length is not in proportion to the learning rate, by which "
            "it cannot be cooled; use SGD, Adam or the like"
        )
    if not isinstance(optimizer, Optimizer) or not all("lr" in group for group in optimizer.param_groups):
        raise ValueError(f"optimizer={type(optimizer).__name__} must be a torch.optim.Optimizer with learning rates")
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not trained & {id(parameter) for parameter in unwrapped(model).parameters()}:
        raise ValueError(
            f"the optimizer trains no parameter of this {type(model).__name__}: give the network it trains"
        )
    # Another scheduler's beginning counts, as for all of torch's.
    rate = max(float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups)
    if not 0 < rate < math.inf:
        raise ValueError(f"the optimizer's learning rate, {rate}, must be finite and > 0")
    return rate
