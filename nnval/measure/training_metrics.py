r"""Metrics of each step of a training, for what tells its phases: variance of gradients, and size of updates.

Gradient variance. With :math:`g_k` the gradient of all parameters at measurement k, and averages over the past with
weights that fall by :math:`1 - 1/W` a measurement and add up to 1 (exponential moving averages, bias-corrected),

.. math:: V = \mathrm{tr}\,\mathrm{Cov}(g) = \sum_\text{weights} \left(\langle g^2\rangle - \langle g\rangle^2\right).

It is computed as :math:`V \leftarrow (1 - a)\,(V + a\,|g - m|^2)`, :math:`m \leftarrow m + a\,(g - m)`, with
:math:`a = (1/W) / (1 - (1 - 1/W)^k)`: the same number without the difference of two large ones, and with one average in
memory instead of two. Of independent gradients its mean is :math:`1 - 1/(2W - 1)` times the trace of their covariance
once :math:`k \gg W`, and less before: 0 at the first measurement, one half of it at the second. Gradients whose mean
drifts add what it moves in W measurements.

Gradient norm, which is cheaper: the variance of :math:`|g|` over the last W measurements. It is another number, and
small where gradients change direction but not length; only ratios of it at two times are comparable.

Update size: :math:`D = |\theta_t - \theta_{t-1}|` over all parameters, of what happens between `keep` and `measure`.

Reference: [satybaldiev2025] names the metrics; which variance, and how it is computed, is jostle's
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from theory.absorbing import whole_number

_torch: Any = torch  # the _foreach functions have no annotations

METRICS = ("gradient_variance", "gradient_norm")


@dataclass(frozen=True)
class StepMetrics:
    """What was measured at one step.

    Attributes:
        variance: V, or the variance of the gradient norm; unchanged from the last one if this step is not finite.
        update: D.
        finite: whether gradients, updates and weights are finite.
        weight_norms: of each parameter behind the step, if asked for.
    """

    variance: float
    update: float
    finite: bool
    weight_norms: list[float]


@dataclass
class TrainingMetrics:
    """Measures V and D of the steps of an optimizer, each time with a single wait for the device.

    Memory: two copies of the parameters (one for ``gradient_norm``), and one more for a moment. Averages of gradients
    in half precision are float32. A parameter without a gradient at a step, and one that has its first, adds nothing
    to V at that step.

    Args:
        metric: ``"gradient_variance"`` or ``"gradient_norm"``.
        horizon: W >= 2 [measurements].

    Raises:
        ValueError: for another metric or a horizon out of range.

    Example:
        >>> weight, metrics = torch.nn.Parameter(torch.zeros(2)), TrainingMetrics(horizon=2)
        >>> for gradient in ([1.0, 0.0], [0.0, 3.0]):
        ...     weight.grad = torch.tensor(gradient)
        ...     metrics.keep([weight])
        ...     with torch.no_grad():
        ...         weight -= 0.5 * weight.grad
        ...     measured = metrics.measure([weight])
        >>> round(measured.variance, 6), measured.update  # weights of the two gradients: 1/3 and 2/3
        (2.222222, 1.5)

    Reference: [satybaldiev2025]
    """

    metric: str = "gradient_variance"
    horizon: int = 20
    variance: float = field(default=0.0, init=False)
    _weight: float = field(default=0.0, init=False)
    _norms: deque[float] = field(init=False)
    _means: dict[torch.Tensor, torch.Tensor] = field(default_factory=dict, init=False)
    _before: dict[torch.Tensor, torch.Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r} must be one of {', '.join(METRICS)}")
        whole_number("horizon", self.horizon, 2)  # of one value there is no variance
        self._norms = deque(maxlen=self.horizon)

    @torch.no_grad()
    def keep(self, parameters: Sequence[torch.Tensor]) -> None:
        """Copies the weights, before a step that is to be measured.

        Args:
            parameters: all that the step may move.
        """
        for parameter in parameters:
            if parameter not in self._before:
                self._before[parameter] = torch.empty_like(parameter)
        if parameters:
            _torch._foreach_copy_([self._before[parameter] for parameter in parameters], list(parameters))

    @torch.no_grad()
    def measure(
        self, parameters: Sequence[torch.Tensor], *, weights: bool = False, skipped: torch.Tensor | None = None
    ) -> StepMetrics | None:
        """Measures the step that was made since ``keep``, whose copies it uses up.

        Args:
            parameters: those that have gradients, at least one, of those kept.
            weights: whether to measure their norms too.
            skipped: not 0 if there was no step, as a ``GradScaler`` tells fused optimizers.

        Returns:
            The metrics, or None if there was no step. If they are not finite, averages stay as they were.

        Raises:
            ValueError: for sparse gradients.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if any(gradient.layout is not torch.strided for gradient in gradients):
            raise ValueError("gradients must be dense to be measured: use sparse=False in nn.Embedding and the like")
        steps = [self._before[parameter] for parameter in parameters]
        _torch._foreach_sub_(steps, list(parameters))
        new, deviations = [], gradients
        if self.metric == "gradient_variance":
            new = [parameter for parameter in parameters if parameter not in self._means]
            for parameter in new:
                assert parameter.grad is not None
                self._means[parameter] = parameter.grad.to(_wide(parameter.dtype), copy=True)
            deviations = _torch._foreach_sub(gradients, [self._means[parameter] for parameter in parameters])
        rows = [_norms(deviations), _norms(steps), *([_norms(parameters)] if weights else [])]
        numbers = [norm for row in rows for norm in row] + ([] if skipped is None else [skipped.reshape(())])
        device = numbers[0].device
        together = [number if number.device == device else number.to(device) for number in numbers]
        measured = torch.stack(together).tolist()  # the wait for the device

        count = len(gradients)
        was_skipped = skipped is not None and measured.pop() != 0
        deviation, update = math.hypot(*measured[:count]), math.hypot(*measured[count : 2 * count])
        square = deviation * deviation
        finite = all(map(math.isfinite, measured)) and math.isfinite(square)
        if was_skipped or not finite:
            for parameter in new:
                del self._means[parameter]
        elif self.metric == "gradient_norm":
            self._norms.append(deviation)
            self.variance = _variance(self._norms)
        else:
            self._weight += (1 - self._weight) / self.horizon
            share = 1 / (self.horizon * self._weight)
            self.variance = (1 - share) * (self.variance + share * square)
            _torch._foreach_add_([self._means[parameter] for parameter in parameters], deviations, alpha=share)
        if was_skipped:
            return None
        return StepMetrics(self.variance, update, finite, measured[2 * count :])

    def clear(self) -> None:
        """Forgets all, and gives the memory back."""
        self.variance = self._weight = 0.0
        for kept in (self._norms, self._means, self._before):
            kept.clear()

    def state_dict(self, parameters: Sequence[torch.Tensor]) -> dict[str, Any]:
        """What is needed to go on with the same bits: numbers, and copies of tensors.

        Args:
            parameters: all of the optimizer, in its order.
        """
        return {
            "variance": self.variance,
            "weight": self._weight,
            "norms": list(self._norms),
            "means": [self._means[p].clone() if p in self._means else None for p in parameters],
        }

    def load_state_dict(self, state: dict[str, Any], parameters: Sequence[torch.Tensor]) -> None:
        """Goes on from ``state_dict``.

        Args:
            state: of the same metric and horizon.
            parameters: as there.

        Raises:
            ValueError: if the state is of other parameters; nothing is changed then.
        """
        means = state["means"]
        if len(means) != len(parameters) or any(
            mean is not None and mean.shape != parameter.shape
            for parameter, mean in zip(parameters, means, strict=True)
        ):
            raise ValueError(
                f"the state is of {len(means)} parameters, which are not the {len(parameters)} of this optimizer"
            )
        self.variance, self._weight = state["variance"], state["weight"]
        self._norms = deque(state["norms"], maxlen=self.horizon)
        self._means = {
            p: torch.empty_like(p, dtype=_wide(p.dtype)).copy_(mean)
            for p, mean in zip(parameters, means, strict=True)
            if mean is not None
        }


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _norms(tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    if all(tensor.dtype in (torch.float32, torch.float64) for tensor in tensors):
        return _torch._foreach_norm(list(tensors))
    return [torch.linalg.vector_norm(tensor, dtype=_wide(tensor.dtype)) for tensor in tensors]


def _variance(values: deque[float]) -> float:
    """Unbiased; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
