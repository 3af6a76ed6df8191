r"""Perturbations of a training run, for any ``nn.Module`` in any loop and for stacked ensembles, in one implementation.

A perturbation is a map of the weights *and* what becomes of everything else that a run remembers. Each states all of
it, because published perturbations that share a name differ in it:

===================  ==========================================  ===============  =======  =============
perturbation         weights                                     optimizer_state  buffers  learning_rate
===================  ==========================================  ===============  =======  =============
``ShrinkPerturb``    shrink * theta + noise * theta_fresh        clear            keep     keep
``PartialReset``     a fraction of the entries drawn anew        keep             keep     keep
``FullReset``        all drawn anew                              clear            reset    restart
``WarmRestart``      unchanged                                   clear            keep     restart
``GaussianNoise``    theta + std * standard normal               keep             keep     keep
===================  ==========================================  ===============  =======  =============

The columns on the right are defaults; each is a keyword argument. Noise that acts at *every* step of the optimiser
(scaled by its last update, or by the learning rate as in Langevin dynamics) is another thing and not here.
Frozen parameters (``requires_grad=False``) are left alone, and so are the buffers of modules that are frozen whole.
"""

import functools
import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from nnval.drop_in.initialisation import Parameters, fresh_state, trainable_state

Fresh = Callable[[], tuple[Parameters, Parameters]]


def _clear_state(optimizer: torch.optim.Optimizer) -> None:
    optimizer.state.clear()
    if isinstance(optimizer, torch.optim.Adagrad):  # it alone has state from its constructor; older torch fails without
        groups = [dict(group) for group in optimizer.param_groups]
        optimizer.state.update(torch.optim.Adagrad(groups, **optimizer.defaults).state)


def _standard_normal(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype, device=generator.device)
    return drawn.to(tensor.device)


def _root_mean_square(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor)) / math.sqrt(max(tensor.numel(), 1))


def _smallest(keys: torch.Tensor, count: int) -> torch.Tensor:
    """Mask of exactly ``count`` smallest entries; of equal ones those that come first, nan being the largest."""
    if count == 0:
        return torch.zeros_like(keys, dtype=torch.bool)
    threshold = torch.kthvalue(keys, count).values  # torch.quantile refuses more than 2^24 entries
    mask = keys <= threshold
    if int(mask.count_nonzero()) != count:
        keys, threshold = keys.nan_to_num(math.inf, math.inf), threshold.nan_to_num(math.inf, math.inf)
        below, ties = keys < threshold, keys == threshold
        mask = below | (ties & (ties.cumsum(0) <= count - below.count_nonzero()))
    return mask


@dataclass(frozen=True)
class Perturbation(ABC):
    """What acts on a network in training: a map of its weights, and three policies for what else a run remembers.

    Attributes:
        optimizer_state: ``"clear"`` forgets momentum and other moments, ``"keep"`` leaves them.
        buffers: ``"keep"``, ``"reset"`` to those of a fresh network, or (shrink and perturb) ``"mix"`` like weights.
        learning_rate: ``"restart"`` begins the schedule anew; up to whoever owns the schedule, such as ``Perturber``.

    Example:
        >>> perturbation = Perturbation.from_dict({"name": "warm_restart"})
    """

    _: KW_ONLY
    optimizer_state: Literal["keep", "clear"]
    buffers: Literal["keep", "reset", "mix"]
    learning_rate: Literal["keep", "restart"]
    name: ClassVar[str]
    ranges: ClassVar[dict[str, tuple[float, float, str]]] = {}  # of each number: lowest, highest, what they mean

    def __post_init__(self) -> None:
        for field in fields(self):
            value, choices = getattr(self, field.name), get_args(field.type)
            if choices and value not in choices:
                raise ValueError(f"{self.name}: {field.name}={value!r} must be one of {', '.join(map(repr, choices))}")
        for option, (lowest, highest, meaning) in self.ranges.items():
            value = getattr(self, option)
            number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
            if not (math.isfinite(number) and lowest <= number <= highest):
                allowed = f"in [{lowest}, {highest}]" if math.isfinite(highest) else f">= {lowest} and finite"
                raise ValueError(f"{self.name}: {option}={value!r} must be a number {allowed}: {meaning}")
            object.__setattr__(self, option, number)

    @torch.no_grad()
    def perturb(self, parameters: Parameters, buffers: Parameters, *, fresh: Fresh, generator: torch.Generator) -> None:
        """Acts in place on one network's tensors; gradients and the global RNG are not touched.

        Optimiser state and schedule are the caller's: see ``optimizer_state`` and ``learning_rate``.

        Args:
            parameters: name to tensor, which may be a view into a stack of networks.
            buffers: likewise; may be empty.
            fresh: returns new initial parameters and buffers of the same names and shapes; called at most once, and
                only when needed. It may draw from ``generator``.
            generator: where all other numbers come from.
        """
        fresh = functools.cache(fresh)
        # Buffers come first: if `fresh` fails then nothing has been changed yet.
        self._act_on_buffers(buffers, fresh)
        self._act_on_parameters(parameters, fresh, generator)

    def apply(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        generator: torch.Generator,
        init_fn: Callable[[], nn.Module] | None = None,
    ) -> None:
        """Acts in place on a model, and clears the state of its optimiser if the policy says so.

        Args:
            model: any module; call this between an optimiser's step and the next forward pass.
            optimizer: the optimiser of this model alone, since its whole state is cleared; None if there is none.
            generator: where all numbers come from. A CPU generator gives a model the same numbers on every device.
            init_fn: builds a new model. Needed when the model has modules other than torch's common layers, or an
                initialisation of its own: see ``initialisation.fresh_state``.

        Raises:
            ValueError: if no parameter is trainable, or a fresh network is needed and can't be built.
        """
        parameters, buffers = trainable_state(model)
        self.perturb(parameters, buffers, fresh=lambda: fresh_state(model, generator, init_fn), generator=generator)
        if optimizer is not None and self.optimizer_state == "clear":
            _clear_state(optimizer)

    def to_dict(self) -> dict[str, Any]:
        """Name and all options, ready for JSON; ``from_dict`` makes an equal perturbation of it."""
        return {"name": self.name} | {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def from_dict(options: dict[str, Any]) -> "Perturbation":
        """The perturbation that ``to_dict`` described; options left out have their defaults."""
        if "name" not in options:
            raise ValueError(f"perturbation {options!r} has no 'name': add one of {', '.join(PERTURBATIONS)}")
        return make_perturbation(**options)

    @abstractmethod
    def _act_on_parameters(self, parameters: Parameters, fresh: Fresh, generator: torch.Generator) -> None: ...

    def _act_on_buffers(self, buffers: Parameters, fresh: Fresh) -> None:
        if self.buffers == "reset":
            for name, tensor in buffers.items():
                tensor.copy_(fresh()[1][name])


@dataclass(frozen=True)
class ShrinkPerturb(Perturbation):
    r"""Shrink and perturb: all weights shrunk towards zero, and a little of a fresh network added.

    .. math:: \theta \leftarrow \lambda\,\theta + \gamma\,\theta_{fresh}

    so weights of variance :math:`v` come out with :math:`\lambda^2 v + \gamma^2 v_{fresh}`. All parameters take part,
    biases and the scales of normalisation layers included. (1, 0) is a warm start, (0, 1) fresh weights.

    The code of [ashadams2020] mixes parameters only and takes running statistics from the fresh network
    (``buffers="reset"``); that of [meir2025] mixes the whole state dictionary (``buffers="mix"``): floating buffers
    with the same two weights; of the integer ones the counters ``num_batches_tracked``, cut off to whole numbers as
    ``load_state_dict`` does there. Other integers (indices, masks) are kept here. Both rebuild the optimiser.

    Attributes:
        shrink: :math:`\lambda` in [0, 1].
        noise: :math:`\gamma \ge 0`; 0 needs no fresh network.
        fresh: ``"init"``: a fresh network, which has the initial scale of every layer; ``"gaussian"``: standard normal
            times the present root mean square of each tensor, for networks whose initialisation is unknown. Repeated,
            that scale falls by :math:`\sqrt{\lambda^2+\gamma^2}` each time; tensors that are all zero stay so.

    Example:
        >>> tensors = {"weight": torch.ones(2)}
        >>> ShrinkPerturb(.4, .1).perturb(
        ...     tensors, {}, fresh=lambda: ({"weight": torch.full((2,), 3.)}, {}), generator=torch.Generator())
        >>> torch.allclose(tensors["weight"], torch.full((2,), .4 * 1 + .1 * 3))
        True

    Reference: [ashadams2020] arXiv 1910.08475; [meir2025] arXiv 2502.04121 v1, section III C ([zaidi2023]'s values).
    """

    shrink: float = 0.4
    noise: float = 0.1
    _: KW_ONLY
    fresh: Literal["init", "gaussian"] = "init"
    optimizer_state: Literal["keep", "clear"] = "clear"
    buffers: Literal["keep", "reset", "mix"] = "keep"
    learning_rate: Literal["keep", "restart"] = "keep"
    name: ClassVar[str] = "shrink_perturb"
    ranges: ClassVar = {
        "shrink": (0, 1, "1 keeps the weights, 0 forgets them"),
        "noise": (0, math.inf, "0 adds nothing, 1 a whole fresh network"),
    }

    def _act_on_parameters(self, parameters: Parameters, fresh: Fresh, generator: torch.Generator) -> None:
        for name, tensor in parameters.items():
            if self.noise == 0:
                tensor.mul_(self.shrink)
                continue
            if self.fresh == "init":
                added, scale = fresh()[0][name], self.noise
            else:
                added, scale = _standard_normal(tensor, generator), self.noise * _root_mean_square(tensor)
            tensor.mul_(self.shrink).add_(added, alpha=scale)

    def _act_on_buffers(self, buffers: Parameters, fresh: Fresh) -> None:
        if self.buffers != "mix":
            return super()._act_on_buffers(buffers, fresh)
        for name, tensor in buffers.items():
            if tensor.is_floating_point() or name.rpartition(".")[2] == "num_batches_tracked":
                mixed = self.shrink * tensor.double()  # counters are integers; copy_ cuts off what is behind the point
                tensor.copy_(mixed.add_(fresh()[1][name], alpha=self.noise) if self.noise else mixed)


@dataclass(frozen=True)
class PartialReset(Perturbation):
    r"""Part of the weights drawn anew: exactly ``round(fraction * n)`` entries take the values of a fresh network.

    Equal entries are told apart by position, so the count holds always; what is not a number counts as largest. The
    released code of [meir2025] redraws one entry more, and all ties, from uniform :math:`\pm 1/\sqrt{\mathrm{shape}_1}`
    whatever the initialisation was; its paper says what is done here. Its driver keeps the optimiser's state.

    Attributes:
        fraction: in [0, 1].
        by: which entries: ``"smallest"`` or ``"largest"`` in absolute value, or ``"random"``.
        scope: ``"global"`` ranks the entries of all tensors together, ``"tensor"`` takes the fraction of each.
        parameters: ``"weights"``: tensors with ``weight`` in their name (so scales of normalisation layers, but no
            biases); ``"all"``: every one.

    Example:
        >>> tensors = {"weight": torch.tensor([0.1, -3.0, 2.0, 0.2])}
        >>> PartialReset(0.5).perturb(
        ...     tensors, {}, fresh=lambda: ({"weight": torch.ones(4)}, {}), generator=torch.Generator())
        >>> tensors["weight"].tolist()  # the two smallest are those of the fresh network
        [1.0, -3.0, 2.0, 1.0]

    Reference: [meir2025] arXiv 2502.04121 v1, section III C.
    """

    fraction: float = 0.3
    _: KW_ONLY
    by: Literal["smallest", "largest", "random"] = "smallest"
    scope: Literal["global", "tensor"] = "global"
    parameters: Literal["weights", "all"] = "weights"
    optimizer_state: Literal["keep", "clear"] = "keep"
    buffers: Literal["keep", "reset"] = "keep"
    learning_rate: Literal["keep", "restart"] = "keep"
    name: ClassVar[str] = "partial_reset"
    ranges: ClassVar = {"fraction": (0, 1, "0.3 draws 30 % of the entries anew")}

    def _mask(self, tensors: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        count = round(self.fraction * len(flat))
        if self.by == "random":
            keys = torch.rand(len(flat), generator=generator, dtype=torch.double, device=generator.device)
            return _smallest(keys, count).to(flat.device)
        return _smallest(flat.abs(), count) if self.by == "smallest" else ~_smallest(flat.abs(), len(flat) - count)

    def _act_on_parameters(self, parameters: Parameters, fresh: Fresh, generator: torch.Generator) -> None:
        taking = {name: t for name, t in parameters.items() if self.parameters == "all" or "weight" in name}
        if not taking:
            raise ValueError(
                f"partial_reset: parameters='weights' finds no name with 'weight' among {', '.join(parameters)}; "
                "use parameters='all'"
            )
        if self.fraction == 0:
            return
        masks: Parameters = {}
        for names in [list(taking)] if self.scope == "global" else [[name] for name in taking]:
            mask = self._mask([taking[name] for name in names], generator)
            masks |= zip(names, mask.split([taking[name].numel() for name in names]), strict=True)
        initial = fresh()[0]
        for name, tensor in taking.items():
            torch.where(masks[name].view_as(tensor), initial[name], tensor, out=tensor)


@dataclass(frozen=True)
class FullReset(Perturbation):
    """Stochastic resetting to a new initial network: weights, buffers, optimiser state and schedule all begin anew.

    Attributes:
        optimizer_state, buffers, learning_rate: see ``Perturbation``.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> FullReset().apply(model, generator=torch.Generator().manual_seed(0))  # so is any perturbation applied

    Reference: [meir2025] arXiv 2502.04121 v1, section II, Eq. (5).
    """

    _: KW_ONLY
    optimizer_state: Literal["keep", "clear"] = "clear"
    buffers: Literal["keep", "reset"] = "reset"
    learning_rate: Literal["keep", "restart"] = "restart"
    name: ClassVar[str] = "full_reset"

    def _act_on_parameters(self, parameters: Parameters, fresh: Fresh, generator: torch.Generator) -> None:
        for name, tensor in parameters.items():
            tensor.copy_(fresh()[0][name])


@dataclass(frozen=True)
class WarmRestart(Perturbation):
    """The optimiser forgets and the learning-rate schedule begins anew; weights and buffers stay.

    Also a control for perturbations that shrink weights in front of a normalisation layer, which mostly raise the
    effective learning rate there.

    Attributes:
        optimizer_state, buffers, learning_rate: see ``Perturbation``.

    Example:
        >>> WarmRestart().optimizer_state, WarmRestart().buffers, WarmRestart().learning_rate
        ('clear', 'keep', 'restart')

    Reference: [loshchilov2017] arXiv 1608.03983 (its cosine schedule is up to the scheduler here).
    """

    _: KW_ONLY
    optimizer_state: Literal["keep", "clear"] = "clear"
    buffers: Literal["keep", "reset"] = "keep"
    learning_rate: Literal["keep", "restart"] = "restart"
    name: ClassVar[str] = "warm_restart"

    def _act_on_parameters(self, parameters: Parameters, fresh: Fresh, generator: torch.Generator) -> None:
        pass


@dataclass(frozen=True)
class GaussianNoise(Perturbation):
    r"""Independent normal noise on every weight: :math:`\theta \leftarrow \theta + \sigma s\,\xi`. Jostle's own.

    Attributes:
        std: :math:`\sigma \ge 0`.
        mode: ``"absolute"``: :math:`s = 1`; ``"relative_weight"``: the root mean square of each tensor, so that tensors
            that are all zero stay so.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> GaussianNoise(0.1, mode="relative_weight").apply(model, generator=torch.Generator().manual_seed(0))
    """

    std: float
    _: KW_ONLY
    mode: Literal["absolute", "relative_weight"] = "absolute"
    optimizer_state: Literal["keep", "clear"] = "keep"
    buffers: Literal["keep", "reset"] = "keep"
    learning_rate: Literal["keep", "restart"] = "keep"
    name: ClassVar[str] = "gaussian_noise"
    ranges: ClassVar = {"std": (0, math.inf, "in units of the weights, or of their root mean square if relative")}

    def _act_on_parameters(self, parameters: Parameters, fresh: Fresh, generator: torch.Generator) -> None:
        for tensor in parameters.values() if self.std else ():
            scale = 1.0 if self.mode == "absolute" else _root_mean_square(tensor)
            tensor.add_(_standard_normal(tensor, generator), alpha=self.std * scale)


PERTURBATIONS: dict[str, type[Perturbation]] = {
    kind.name: kind for kind in (ShrinkPerturb, PartialReset, FullReset, WarmRestart, GaussianNoise)
}


def make_perturbation(name: str, **options: Any) -> Perturbation:
    """The perturbation of that name.

    Args:
        name: such as ``"shrink_perturb"``; of the class in words, with underscores.
        **options: of that perturbation.

    Returns:
        The perturbation.

    Raises:
        ValueError: if there is no such name or option, an option is missing, or a value is out of its range.

    Example:
        >>> make_perturbation("shrink_perturb", noise=.2).to_dict()["noise"]
        0.2
    """
    if name not in PERTURBATIONS:
        raise ValueError(f"perturbation={name!r} must be one of {', '.join(PERTURBATIONS)}")
    known = [field.name for field in fields(PERTURBATIONS[name])]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(map(repr, unknown))}; its options are {', '.join(known)}")
    try:
        return PERTURBATIONS[name](**options)
    except TypeError as error:  # an option without a default is missing
        raise ValueError(f"{name}: {error}; its options are {', '.join(known)}") from None
