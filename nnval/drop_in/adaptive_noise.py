r"""Noise on the weights whose size follows the phase of the training, for anybody's optimizer and loop.

After each step of the optimizer its metrics are measured (``nnval.measure.training_metrics``), a machine tells the
phase from them (``theory.training_phases``), and a schedule the size of the noise (``theory.noise_schedule``), which is
added to the weights:

.. math:: \theta \leftarrow \theta + \varepsilon(\text{phase}, t)\,s_i\,\xi, \qquad \xi \sim N(0, 1)

for each weight of tensor i, where the mode says what the deviation :math:`\varepsilon s_i` is:

===================  ==============================================================================================
mode                 standard deviation of the noise of a weight
===================  ==============================================================================================
``absolute``         :math:`\varepsilon`, as published: a random walk, by :math:`\varepsilon\sqrt n` in n steps
``relative_update``  :math:`\varepsilon D / \sqrt d`: the noise is as long as epsilon times the update, D
``relative_weight``  :math:`\varepsilon |\theta_i| / \sqrt{d_i}`, so epsilon times the root mean square of this tensor
``sgld``             :math:`\sqrt{2\,\text{lr}\,\varepsilon}`: epsilon is the temperature of Langevin dynamics
===================  ==============================================================================================

with d weights in all tensors that get noise and :math:`d_i` in this one. Neither momentum nor D contain the noise. What
it does to the weights in the end is predicted in ``theory.adaptive_noise``.

Reference: [satybaldiev2025] the idea, mode ``absolute`` and the phases; other modes, and updates measured before the
noise, are jostle's
"""

import copy
import dataclasses
import functools
import math
import warnings
from collections import Counter, deque
from typing import Any, NoReturn

import torch
from torch.optim import Optimizer

from nnval.drop_in.noise_arguments import check_optimizer, noise_generator
from nnval.measure.training_metrics import StepMetrics, TrainingMetrics
from theory.absorbing import whole_number
from theory.adaptive_noise import MODES
from theory.noise_schedule import NoiseSchedule
from theory.training_phases import PHASES, PhaseMachine, phase_path, smoothness

_torch: Any = torch  # the _foreach functions have no annotations


class AdaptiveNoise:
    r"""Adds noise after every step of an optimizer, more or less of it by the phase of the training, until removed.

    Attach it, and train as before::

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        noise = AdaptiveNoise(optimizer, NoiseSchedule("full", (0.3, 0.1, 0.03), decay=1e-3), seed=0)
        # in the loop, as ever: zero_grad, backward, optimizer.step(); print(noise.phase, noise.metrics)

    In Lightning, in ``configure_optimizers``::

        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        self.noise = AdaptiveNoise(optimizer, seed=0)
        return optimizer

    with ``checkpoint["noise"] = self.noise.state_dict()`` in ``on_save_checkpoint``; what ``on_load_checkpoint`` finds
    there is kept until there is a ``self.noise`` to load it.

    No benefit of the noise is claimed: that is what ``jostle validate adaptive-noise`` measures.

    Each step of the optimizer counts, however many backward passes were accumulated for it. One that a ``GradScaler``
    skips does not, and gets no noise. Gradients are taken as the optimizer gets them: averaged, unscaled, clipped. Of a
    closure that is evaluated several times in a step they are the last. Parameters that have no gradient at a step, or
    are frozen, get no noise. If gradients or weights are not finite (on a measured step), there is no noise, the phase
    stays, ``skipped`` counts it, and the first time there is a warning.

    Processes that train one network together need the same seed: then they draw the same noise. Each must hold all the
    weights. Weights in bfloat16 or float16 lose noise that is smaller than their spacing.

    Cost: two copies of the parameters (one with ``gradient_norm``), one more for a moment, one wait for the device at
    each measured step, and the time to draw the noise. On one CPU core that was 0.5 % of a step of ResNet-20 with 128
    images (0.3 % with ``gradient_norm``), 0.7 % with the noise; see benchmarks/adaptive_noise_overhead.py. With
    ``every`` above 1 the steps in between cost the noise alone, relative to what was measured last; the machine is told
    of measured steps only, so that its ``horizon`` and ``min_dwell`` count those.

    Args:
        optimizer: any of torch's kind; hooks on its ``step`` do the work. They are lost when it is copied or pickled.
        schedule: epsilon of each step; its decay is per step of the optimizer. None: ``NoiseSchedule()``.
        mode: what epsilon means, see above.
        machine: which tells phases, not used before. None: ``PhaseMachine()``.
        metric: ``"gradient_variance"``, the trace of the covariance of gradients; or ``"gradient_norm"``, the variance
            of their norm, which needs less memory.
        horizon: W >= 2, measured steps over which that variance is taken.
        every: steps from one measurement to the next.
        include_norm: whether parameters of one dimension (biases, scales of normalisation layers) get noise too.
        generator: where the noise comes from, and nothing else should; on the device of the weights it is fastest.
        seed: of a generator on the device of the weights, instead of ``generator``.

    Attributes:
        machine: the phase machine.
        schedule: may be replaced between two steps.
        scale: epsilon of the last step.
        steps: made by the optimizer.
        injected: sum of epsilon^2 over them; divided by ``steps`` it is a budget for
            ``theory.noise_schedule.with_budget``.
        skipped: steps without noise because something was not finite.

    Raises:
        ValueError: for a choice or number out of range, or if the optimizer cannot be served: the message says why.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(50, 20))
        >>> optimizer = torch.optim.SGD([weight], lr=0.5)
        >>> noise = AdaptiveNoise(optimizer, NoiseSchedule("fixed", (0.3, 0.1, 0.03)), seed=0)
        >>> weight.grad = torch.full((50, 20), 2.0)
        >>> optimizer.step()
        >>> noise.phase, noise.scale, round(noise.metrics["noise/update_size"], 3)
        ('exploration', 0.1, 31.623)
        >>> round(weight.std().item(), 2)  # a tenth of the step that each weight made
        0.1
        >>> noise.remove()

    Reference: [satybaldiev2025]; the resolutions of what it leaves open are jostle's
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: NoiseSchedule | None = None,
        *,
        mode: str = "relative_update",
        machine: PhaseMachine | None = None,
        metric: str = "gradient_variance",
        horizon: int = 20,
        every: int = 1,
        include_norm: bool = False,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} must be one of {', '.join(MODES)}")
        self.schedule = NoiseSchedule() if schedule is None else schedule
        self.machine = PhaseMachine() if machine is None else machine
        if not isinstance(self.schedule, NoiseSchedule) or not isinstance(self.machine, PhaseMachine):
            raise ValueError("schedule must be a theory.noise_schedule.NoiseSchedule, machine a PhaseMachine")
        if self.machine.steps:
            raise ValueError(f"machine has seen {self.machine.steps} steps of another training: give a new one")
        self.optimizer, self.mode, self.include_norm = optimizer, mode, bool(include_norm)
        self.every = whole_number("every", every, 1)
        self._tracker = TrainingMetrics(metric, horizon)
        check_optimizer(optimizer, include_norm=self.include_norm, mode=mode)
        if any(
            isinstance(getattr(h, "__self__", None), AdaptiveNoise)
            for h in optimizer._optimizer_step_post_hooks.values()
        ):
            raise ValueError(
                "the optimizer has an AdaptiveNoise already, whose noise would be taken for updates: remove() it first"
            )
        self.generator = noise_generator(generator, seed, self._parameters()[0].device)
        self.scale = self.injected = 0.0
        self.steps = self.skipped = 0
        self._last: StepMetrics | None = None
        self._unit = 0.0
        self._units: dict[torch.Tensor, float] = {}
        self._losses: deque[float] = deque(maxlen=3 * horizon)
        self._started = False
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    # ---- Hooks -------------------------------------------------------------------------------------------------------

    def _before_step(self, *_: Any) -> None:
        # Again if a step is not over: that one failed, or it calls the step of a parent class, which has hooks too.
        self._started = True
        if self.steps % self.every == 0:
            self._tracker.keep([parameter for parameter in self._parameters() if parameter.requires_grad])

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if not self._started:  # the parent's hook has done all
            return
        self._started = False
        moved = [p for p in self._parameters() if p.requires_grad and p.grad is not None]
        # A GradScaler lets fused optimizers find out by themselves that there is nothing to do.
        found = getattr(optimizer, "found_inf", None)
        if not moved:
            return
        if self.steps % self.every == 0:
            measured = self._tracker.measure(moved, weights=self.mode == "relative_weight", skipped=found)
            if measured is None:
                return
            self._last = measured
            self._tell(measured, moved)
        elif found is not None and bool(found):
            return
        self.scale = 0.0
        if self._last is not None and self._last.finite:
            self.scale = self.schedule.scale(self.phase, self.steps_in_phase, self.steps)
            self._add_noise([p for p in moved if self.include_norm or p.dim() > 1])
        else:
            self.skipped += 1
        self.injected += self.scale**2
        self.steps += 1

    def _tell(self, measured: StepMetrics, moved: list[torch.Tensor]) -> None:
        if not measured.finite:
            self.machine.update(math.nan, math.nan)
            if not self.skipped:
                warnings.warn(
                    f"gradients or weights at step {self.steps + 1} are not finite: no noise is added then; training "
                    "has probably diverged",
                    RuntimeWarning,
                    stacklevel=4,
                )
            return
        self.machine.update(measured.variance, measured.update)
        self._unit = measured.update
        if self.mode == "relative_weight":
            norms = zip(moved, measured.weight_norms, strict=True)
            self._units = {p: norm / math.sqrt(max(p.numel(), 1)) for p, norm in norms}

    @torch.no_grad()
    def _add_noise(self, parameters: list[torch.Tensor]) -> None:
        counts = [parameter.numel() for parameter in parameters]
        if not self.scale or not sum(counts):
            return
        # All in one draw, which on a GPU is faster than one for each tensor.
        dtype = functools.reduce(torch.promote_types, {p.dtype for p in parameters}, torch.float32)
        drawn = torch.randn(sum(counts), dtype=dtype, device=self.generator.device, generator=self.generator)
        noise = list(drawn.split(counts))
        _torch._foreach_mul_(noise, self._deviations(parameters))
        _torch._foreach_add_(parameters, [n.view(p.shape).to(p) for n, p in zip(noise, parameters, strict=True)])

    def _deviations(self, parameters: list[torch.Tensor]) -> list[float]:
        if self.mode == "relative_weight":
            return [self.scale * self._units.get(parameter, 0.0) for parameter in parameters]
        if self.mode == "sgld":
            groups = self.optimizer.param_groups
            rates = {parameter: float(group["lr"]) for group in groups for parameter in group["params"]}
            return [math.sqrt(2 * rates[parameter] * self.scale) for parameter in parameters]
        weights = sum(parameter.numel() for parameter in parameters)
        unit = self._unit / math.sqrt(weights) if self.mode == "relative_update" else 1.0
        return [self.scale * unit] * len(parameters)

    def remove(self) -> None:
        """Ends: from here on training is as any other. Noise that was added stays; a second call does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._tracker.clear()
        self._units.clear()

    # ---- What it knows -----------------------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        """The present one, of ``theory.training_phases.PHASES``."""
        return self.machine.phase

    @property
    def changes(self) -> list[tuple[int, str]]:
        """(step, phase entered) of each change, steps of the optimizer counted from 1."""
        return [((number - 1) * self.every + 1, phase) for number, phase in self.machine.changes]

    @property
    def steps_in_phase(self) -> int:
        """Steps of the optimizer in the present phase, with that which entered it: t_phase of the next one."""
        changes = self.machine.changes
        return self.steps - ((changes[-1][0] - 1) * self.every if changes else 0)

    @property
    def phase_path(self) -> list[str]:
        """The phase at each step so far."""
        return phase_path(self.changes, self.steps)

    @property
    def phase_counts(self) -> dict[str, int]:
        """Steps in each phase so far."""
        counts = Counter(self.phase_path)
        return {phase: counts[phase] for phase in PHASES}

    @property
    def metrics(self) -> dict[str, float]:
        """Plain numbers for a log; empty before the first step.

        ``noise/epsilon``, ``noise/phase`` (0, 1, 2 in the order of ``PHASES``), ``noise/gradient_variance`` (or
        ``noise/gradient_norm_variance``) and ``noise/update_size`` of the last measured step, both relative to their
        peaks and smoothed as the phase machine sees them (``..._relative``), ``noise/mean_square_epsilon`` and
        ``noise/skipped`` up to now, and ``noise/loss_smoothness`` if losses were reported.
        """
        if self._last is None or not self.steps:
            return {}
        name = f"{self._tracker.metric.removesuffix('_variance')}_variance"
        relative = self.machine.relative
        found = {
            "epsilon": self.scale,
            "phase": float(PHASES.index(self.phase)),
            name: self._last.variance,
            f"{name}_relative": relative[0],
            "update_size": self._last.update,
            "update_size_relative": relative[1],
            "mean_square_epsilon": self.injected / self.steps,
            "skipped": float(self.skipped),
        }
        losses = [loss for loss in self._losses if math.isfinite(loss)]
        if len(losses) == self._losses.maxlen:
            found["loss_smoothness"] = smoothness(losses, self._tracker.horizon)
        return {f"noise/{key}": value for key, value in found.items()}

    def report(self, loss: float | torch.Tensor) -> None:
        """Takes the loss of a step, for ``noise/loss_smoothness`` in the metrics; no phase depends on it.

        Args:
            loss: a number, or a tensor with one, for which this waits.
        """
        self._losses.append(float(loss.detach() if isinstance(loss, torch.Tensor) else loss))

    # ---- State -------------------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        schedule, machine = self.schedule, self.machine
        return {
            "mode": self.mode,
            "metric": self._tracker.metric,
            "horizon": self._tracker.horizon,
            "every": self.every,
            "include_norm": self.include_norm,
            "schedule": {"kind": schedule.kind, "epsilon": list(schedule.epsilon), "decay": schedule.decay},
            "thresholds": dataclasses.asdict(machine.thresholds),
            "machine": {name: getattr(machine, name) for name in ("horizon", "min_dwell", "monotone")},
        }

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on with the same bits, beside the states of model and optimizer."""
        parameters = self._parameters()
        last = self._last
        return {
            "settings": self._settings(),
            "tracker": self._tracker.state_dict(parameters),
            "machine": self.machine.state_dict(),
            "generator": self.generator.get_state(),
            "units": [self._units.get(parameter) for parameter in parameters],
            "last": None if last is None else [last.variance, last.update, last.finite],
            "unit": self._unit,
            "losses": list(self._losses),
            **{name: getattr(self, name) for name in _COUNTS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict``; whether model and optimizer are loaded before or after doesn't matter.

        Args:
            state: of an ``AdaptiveNoise`` with the same settings, on the same kind of device.

        Raises:
            ValueError: if the state is of other settings or parameters; nothing is changed then.
        """
        for name, value in self._settings().items():
            if state["settings"].get(name) != value:
                raise ValueError(
                    f"the state has {name}={state['settings'].get(name)!r}, this one {value!r}: make one alike"
                )
        parameters, drawn = self._parameters(), state["generator"].cpu()
        # These fail before anything is changed.
        torch.Generator(self.generator.device).set_state(drawn)
        copy.deepcopy(self.machine).load_state_dict(state["machine"])
        self._tracker.load_state_dict(state["tracker"], parameters)
        self.machine.load_state_dict(state["machine"])
        self.generator.set_state(drawn)
        self._units = {p: unit for p, unit in zip(parameters, state["units"], strict=True) if unit is not None}
        self._unit = state["unit"]
        self._last = None if state["last"] is None else StepMetrics(*state["last"], weight_norms=[])
        self._losses = deque(state["losses"], maxlen=self._losses.maxlen)
        for name in _COUNTS:
            setattr(self, name, state[name])

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "AdaptiveNoise cannot be copied or pickled: it is tied to its optimizer by hooks, which a copy would lack; "
            "make another for the copy of the optimizer, and load this one's state_dict() into it"
        )


_COUNTS = ("scale", "injected", "steps", "skipped")
