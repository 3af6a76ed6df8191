r"""Anti-PGD and PGD for anybody's optimizer: noise on the weights whose increments, or which itself, is white.

With the optimizer's step :math:`-\eta\nabla L(w_n)` (or whatever it makes of the gradient) the weights move by

.. math::
    \text{Anti-PGD}\quad w_{n+1} = w_n - \eta\nabla L(w_n) + \xi_{n+1} - \xi_n, \qquad
    \text{PGD}\quad w_{n+1} = w_n - \eta\nabla L(w_n) + \xi_{n+1},

:math:`\xi_n` independent with mean 0 and standard deviation :math:`\sigma` in each coordinate. The increments of
Anti-PGD telescope: :math:`w_n = z_n + \xi_n`, where :math:`z_{n+1} = z_n - \eta\nabla L(z_n + \xi_n)` descends the loss
averaged over the noise, which is :math:`L + (\sigma^2/2)\,\mathrm{Tr}\,H` to leading order. PGD is the control: its
noise has the same size, but adds up. What both do to the sharpness is in theory.widening_valley.

Reference: [orvieto2022] arXiv 2202.02831
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from theory.noise_arguments import checked_scale

CORRELATIONS = ("anti", "white")
DISTRIBUTIONS = ("gaussian", "rademacher")


class AntiPGD:
    r"""Adds noise to the weights after every step of an optimizer, until it is removed.

    Attach it, and train as before. :math:`\xi_0 = 0`, so that training begins at the weights as they are. Of Anti-PGD
    the clean weights z are kept beside the noise: the optimizer steps from z with the gradient that was taken at
    :math:`z + \xi`, and no rounding of the noise ever gets into z. With gradients that don't depend on the weights,
    removal gives bit by bit what training without noise gives. This costs two copies of the weights and the time to
    draw the noise: on one CPU core a step of LeNet with 50 samples took 12 to 25 % longer, one of a small perceptron
    0.4 ms. PGD keeps nothing, and cannot take out what has become part of the weights.

    What else acts on the weights inside of the step acts on z: weight decay (whose share of the noise,
    :math:`\eta\,\xi` times the decay, is missing), and norms of the weights. Closures are evaluated at
    :math:`z + \xi`, with the same noise all through a step. If the weights are changed between two steps, z changes by
    as much; a perturbation or a reset belongs inside of ``without_noise``, where it acts on z itself.

    A step that a ``GradScaler`` skips because of infinite gradients draws no noise, and none is added. Parameters that
    are frozen get none; those that are frozen later keep what they have until ``remove``. Averages of the weights, such
    as ``swa_utils.AveragedModel``, average the noise too: update them inside of ``without_noise``.

    Args:
        optimizer: any of torch's kind; hooks on its ``step`` do the work. They are lost when it is copied or pickled.
        sigma: standard deviation of each coordinate of xi, in units of the weights: one for all parameter groups, those
            added later included, or one for each group.
        correlation: ``"anti"`` for Anti-PGD, ``"white"`` for PGD.
        distribution: of each coordinate: ``"gaussian"``, or ``"rademacher"``, which is :math:`\pm\sigma`.
        generator: where the noise comes from, and nothing else should; on the device of the weights it is fastest.

    Attributes:
        steps: how often noise was drawn.

    Raises:
        ValueError: for a choice or number out of range, or a number of sigmas that is not that of the groups.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(3))
        >>> optimizer = torch.optim.SGD([weight], lr=0.5)
        >>> noise = AntiPGD(optimizer, 0.1, generator=torch.Generator().manual_seed(0))
        >>> for _ in range(10):
        ...     weight.grad = torch.tensor([1.0, 0.0, -1.0])
        ...     optimizer.step()
        >>> bool((weight != torch.tensor([-5.0, 0.0, 5.0])).all())
        True
        >>> noise.remove()
        >>> weight.tolist()
        [-5.0, 0.0, 5.0]

    Reference: [orvieto2022] arXiv 2202.02831; the exact removal is jostle's own
    """

    def __init__(
        self,
        optimizer: Optimizer,
        sigma: float | Sequence[float],
        *,
        correlation: str = "anti",
        distribution: str = "gaussian",
        generator: torch.Generator,
    ) -> None:
        for name, value, allowed in (
            ("correlation", correlation, CORRELATIONS),
            ("distribution", distribution, DISTRIBUTIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(allowed)}")
        self.optimizer, self.generator = optimizer, generator
        self.correlation, self.distribution = correlation, distribution
        self.sigma = sigma
        self._scales()  # refuses what is out of range
        self.steps = 0
        self._noise: dict[torch.Tensor, torch.Tensor] = {}
        self._clean: dict[torch.Tensor, torch.Tensor] = {}
        self._taken_out = False
        self._hooks = [optimizer.register_step_post_hook(self._after_step)]
        if correlation == "anti":
            self._hooks.append(optimizer.register_step_pre_hook(self._before_step))

    def _scales(self) -> list[float]:
        """Sigma of each group, as it is now."""
        groups = len(self.optimizer.param_groups)
        if not isinstance(self.sigma, Sequence):
            return [checked_scale("sigma", self.sigma)] * groups
        if len(self.sigma) != groups:
            raise ValueError(
                f"sigma={list(self.sigma)} must be one number, or one for each of the {groups} parameter groups of the "
                "optimizer"
            )
        return [checked_scale("sigma", value) for value in self.sigma]

    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    # ---- Hooks -------------------------------------------------------------------------------------------------------

    def _before_step(self, _: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._take_out()
        if kwargs.get("closure") is not None:
            return args, {**kwargs, "closure": self._with_noise(kwargs["closure"])}
        if len(args) > 1 and args[1] is not None:  # the first is the optimizer
            return (args[0], self._with_noise(args[1]), *args[2:]), kwargs
        return None

    def _with_noise(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def evaluate() -> Any:
            self._put_in()
            try:
                return closure()
            finally:
                self._take_out()

        return evaluate

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        # A GradScaler lets fused optimizers find out by themselves that there is nothing to do.
        found = getattr(optimizer, "found_inf", None)
        if found is None or not bool(found):
            self._draw()
        if self.correlation == "anti":
            self._put_in()

    # ---- Noise in and out of the weights -----------------------------------------------------------------------------

    @torch.no_grad()
    def _draw(self) -> None:
        """New noise: instead of the old one, or at once into the weights if it is white."""
        for group, sigma in zip(self.optimizer.param_groups, self._scales(), strict=True):
            for parameter in group["params"]:
                if not parameter.requires_grad:
                    continue
                if self.correlation == "white":
                    if sigma:
                        parameter.add_(self._drawn(parameter, sigma))
                elif sigma:
                    self._noise[parameter] = self._drawn(parameter, sigma)
                elif parameter in self._noise:  # sigma was lowered to 0
                    del self._noise[parameter], self._clean[parameter]
        self.steps += 1

    def _drawn(self, parameter: torch.Tensor, sigma: float) -> torch.Tensor:
        if not parameter.is_floating_point():
            raise ValueError(f"a parameter of type {parameter.dtype} cannot get noise; use sigma=0 for its group")
        drawn = torch.empty(parameter.shape, dtype=parameter.dtype, device=self.generator.device)
        if self.distribution == "gaussian":
            drawn.normal_(generator=self.generator)
        else:
            drawn.random_(0, 2, generator=self.generator).mul_(2).sub_(1)
        return drawn.mul_(sigma).to(parameter.device)

    @torch.no_grad()
    def _take_out(self) -> None:
        """From w to z, unless that has been done: a step may have ended in an exception."""
        if self._taken_out:
            return
        for parameter, noise in self._noise.items():
            clean = self._clean[parameter]
            # Where somebody has changed the weights since, z is what is left without the noise.
            parameter.copy_(torch.where(parameter == clean + noise, clean, parameter - noise))
        self._taken_out = True

    @torch.no_grad()
    def _put_in(self) -> None:
        """From z, which may have moved, to w."""
        for parameter, noise in self._noise.items():
            if parameter in self._clean:
                self._clean[parameter].copy_(parameter)
            else:
                self._clean[parameter] = parameter.detach().clone(memory_format=torch.preserve_format)
            parameter.add_(noise)
        self._taken_out = False

    @contextlib.contextmanager
    def without_noise(self) -> Iterator[None]:
        """The weights are z inside of this context, to evaluate or save them, and w again behind it.

        Of PGD they are w all the time.

        Example:
            >>> weight = torch.nn.Parameter(torch.zeros(1))
            >>> optimizer = torch.optim.SGD([weight], lr=0.5)
            >>> noise = AntiPGD(optimizer, 0.1, generator=torch.Generator().manual_seed(0))
            >>> weight.grad = torch.ones(1)
            >>> optimizer.step()
            >>> with noise.without_noise():
            ...     weight.item()
            -0.5
        """
        if self._taken_out:
            yield
            return
        self._take_out()
        try:
            yield
        finally:
            self._put_in()

    def remove(self) -> None:
        """Takes the noise out of the weights, which are z then, and ends: the optimizer is as it was.

        PGD just ends. A second call does nothing.
        """
        self._take_out()
        for hook in self._hooks:
            hook.remove()
        self._noise.clear()
        self._clean.clear()

    # ---- State -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on with the same bits, beside the states of model and optimizer.

        Raises:
            RuntimeError: inside of ``without_noise`` or after a step that failed, when the weights lack the noise.
        """
        if self._taken_out and self._noise:
            raise RuntimeError(
                "the weights lack the noise inside of without_noise() and after a step that failed: take the state "
                "between two steps"
            )

        def copies(tensors: dict[torch.Tensor, torch.Tensor]) -> list[torch.Tensor | None]:
            return [tensors[p].clone() if p in tensors else None for p in self._parameters()]

        return {
            "correlation": self.correlation,
            "distribution": self.distribution,
            "sigma": list(self.sigma) if isinstance(self.sigma, Sequence) else self.sigma,
            "steps": self.steps,
            "generator": self.generator.get_state(),
            "noise": copies(self._noise),
            "clean": copies(self._clean),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict``; whether model and optimizer are loaded before or after doesn't matter.

        Raises:
            ValueError: if the state is of another correlation or distribution, or of other parameters; nothing is
                changed then.
        """
        for name in ("correlation", "distribution"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"the state has {name}={state[name]!r}, this one {getattr(self, name)!r}: make one alike"
                )
        parameters = self._parameters()
        shapes = [None if noise is None else noise.shape for noise in state["noise"]]
        if len(shapes) != len(parameters) or any(
            shape not in (None, parameter.shape) for shape, parameter in zip(shapes, parameters, strict=True)
        ):
            raise ValueError(
                f"the state is of {len(shapes)} parameters, which are not the {len(parameters)} of this optimizer"
            )

        def own(tensors: list[torch.Tensor | None]) -> dict[torch.Tensor, torch.Tensor]:
            pairs = zip(parameters, tensors, strict=True)
            return {p: torch.empty_like(p).copy_(tensor) for p, tensor in pairs if tensor is not None}

        with torch.no_grad():
            self._noise, self._clean = own(state["noise"]), own(state["clean"])
        self.generator.set_state(state["generator"].cpu())
        self.sigma, self.steps, self._taken_out = state["sigma"], state["steps"], False
