"""Optimisers that act on rows of stacks: SGD, Adam and AdamW as torch has them, with their state held by the stack.

All tensors are updated by one call (torch's "foreach"), on a GPU by few kernels; on a CPU it saves what Python costs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch.optim.adam import adam

from nnval.engine.config import TrainingConfig

_torch: Any = torch  # its type stubs leave out what its own optimisers are made of

Update = Callable[[Sequence[torch.Tensor], float], None]
"""One step, in place, given the gradients and the learning rate."""

EPSILON = 1e-8
"""What Adam adds to the root of the second moment; torch's default."""


@dataclass(frozen=True)
class Optimizer:
    """A rule for one step from gradients.

    - ``"sgd"``: g += weight_decay w; v = momentum v + g; w -= learning_rate v, or, with ``nesterov``,
      w -= learning_rate (g + momentum v).
    - ``"adam"``: m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g^2;
      w -= learning_rate (m / (1 - beta1^t)) / (sqrt(s / (1 - beta2^t)) + 1e-8), with weight decay as SGD has it.
    - ``"adamw"``: likewise, but w -= learning_rate weight_decay w instead of a change of g.

    A slot that begins at 0 gives the first step that torch's, which begins as a copy of the gradient, gives.

    Attributes:
        name: of ``config.OPTIMIZERS``.
        momentum, nesterov, betas, weight_decay: see ``TrainingConfig``.

    Example:
        >>> Optimizer("adamw").slots
        ('first_moment', 'second_moment')
        >>> Optimizer("sgd").slots, Optimizer("sgd", momentum=.9).slots
        ((), ('velocity',))
    """

    name: str = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.0

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:
        """That of a config."""
        return cls(config.optimizer, config.momentum, config.nesterov, config.betas, config.weight_decay)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of what it remembers of each parameter: tensors of the parameter's shape."""
        if self.name == "sgd":
            return ("velocity",) if self.momentum else ()
        return ("first_moment", "second_moment")

    def on(self, parameters: Sequence[torch.Tensor], slots: Mapping[str, Sequence[torch.Tensor]], steps: int) -> Update:
        """The rule as a function that updates these tensors.

        Args:
            parameters: what is trained; tensors that autograd does not record.
            slots: for each name in ``self.slots`` as many tensors of the same shapes.
            steps: how often the slots have been updated since they were 0.
        """
        weights = list(parameters)
        if self.name == "sgd":
            return self._sgd(weights, list(slots["velocity"]) if self.momentum else [])
        first, second = list(slots["first_moment"]), list(slots["second_moment"])
        counts = [torch.tensor(float(steps)) for _ in weights]  # on the CPU for any device: torch reads them as numbers

        def update(gradients: Sequence[torch.Tensor], learning_rate: float) -> None:
            adam(
                weights,
                list(gradients),
                first,
                second,
                [],
                counts,
                foreach=True,
                decoupled_weight_decay=self.name == "adamw",
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=learning_rate,
                weight_decay=self.weight_decay,
                eps=EPSILON,
                maximize=False,
            )

        return update

    def _sgd(self, weights: list[torch.Tensor], velocity: list[torch.Tensor]) -> Update:
        # The operations of torch.optim.sgd, whose bookkeeping took longer than the steps of a small network. Nothing is
        # written to gradients: autograd may hand out the same memory for two of them.
        def update(gradients: Sequence[torch.Tensor], learning_rate: float) -> None:
            if self.weight_decay:
                gradients = _torch._foreach_add(gradients, weights, alpha=self.weight_decay)
            if velocity:
                _torch._foreach_mul_(velocity, self.momentum)
                _torch._foreach_add_(velocity, gradients)
                gradients = _torch._foreach_add(gradients, velocity, alpha=self.momentum) if self.nesterov else velocity
            _torch._foreach_add_(weights, gradients, alpha=-learning_rate)

        return update
