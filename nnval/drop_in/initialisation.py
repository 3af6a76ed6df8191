"""Named initialisations drawn from a ``torch.Generator``, so that fresh weights never depend on the global RNG.

A module is recognised by its ``reset_parameters``: what is drawn here is what that very function would draw. A subclass
that overrides it is unknown, and refused rather than initialised by a law that its author replaced. What cannot be seen
is an initialisation that the model's constructor applies afterwards (``_init_weights`` loops, zeroed output layers):
such a model needs its constructor, the ``init_fn`` of every perturbation.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import init

Parameters = dict[str, torch.Tensor]
Scheme = Literal["torch_default", "kaiming_fan_out"]
# A module's tensors are typed `Tensor | Module` by torch, hence Any: _RULES guarantees the classes.
_Rule = Callable[[Any, Scheme, torch.Generator], None]


def _fill(tensor: torch.Tensor, draw: Callable[[torch.Tensor], object], generator: torch.Generator) -> None:
    """Draws into a contiguous tensor on the generator's device: memory format and device don't alter the numbers."""
    if tensor.is_contiguous() and tensor.device == generator.device:
        draw(tensor)
    else:
        drawn = torch.empty(tensor.shape, dtype=tensor.dtype, device=generator.device)
        draw(drawn)
        tensor.copy_(drawn)


def _uniform(tensor: torch.Tensor, bound: float, generator: torch.Generator) -> None:
    _fill(tensor, lambda drawn: init.uniform_(drawn, -bound, bound, generator), generator)


def _linear_or_convolution(module: Any, scheme: Scheme, generator: torch.Generator) -> None:
    weight = module.weight

    def draw(drawn: torch.Tensor) -> None:
        if scheme == "kaiming_fan_out" and weight.dim() > 2 and not module.transposed:
            init.kaiming_normal_(drawn, mode="fan_out", nonlinearity="relu", generator=generator)
        else:
            init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)

    _fill(weight, draw, generator)
    if module.bias is not None:
        fan_in = weight.shape[1:].numel()
        _uniform(module.bias, 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0, generator)


def _bilinear(module: Any, _: Scheme, generator: torch.Generator) -> None:
    for tensor in module.parameters(recurse=False):
        _uniform(tensor, 1 / math.sqrt(module.in1_features), generator)


def _recurrent(module: Any, _: Scheme, generator: torch.Generator) -> None:
    for tensor in module.parameters(recurse=False):
        _uniform(tensor, 1 / math.sqrt(module.hidden_size), generator)


def _embedding(module: Any, _: Scheme, generator: torch.Generator) -> None:
    _fill(module.weight, lambda drawn: init.normal_(drawn, generator=generator), generator)
    if module.padding_idx is not None:
        module.weight[module.padding_idx].fill_(0)


def _constant(module: Any, _scheme: Scheme, _generator: torch.Generator) -> None:
    module.reset_parameters()  # ones, zeros and running statistics: it draws nothing


_RULES: dict[object, _Rule] = {
    nn.Linear.reset_parameters: _linear_or_convolution,
    nn.Conv2d.reset_parameters: _linear_or_convolution,  # all six, transposed ones included, share this function
    nn.Bilinear.reset_parameters: _bilinear,
    nn.RNN.reset_parameters: _recurrent,  # GRU and LSTM too
    nn.RNNCell.reset_parameters: _recurrent,  # GRUCell and LSTMCell too
    nn.Embedding.reset_parameters: _embedding,
    nn.EmbeddingBag.reset_parameters: _embedding,
    nn.BatchNorm2d.reset_parameters: _constant,  # batch and instance norms of every dimension
    nn.LayerNorm.reset_parameters: _constant,
    nn.GroupNorm.reset_parameters: _constant,
    nn.RMSNorm.reset_parameters: _constant,
    nn.PReLU.reset_parameters: _constant,
}


@torch.no_grad()
def initialise(model: nn.Module, scheme: Scheme, generator: torch.Generator) -> None:
    r"""Gives every module of a model new initial parameters and running statistics, in place.

    ``"torch_default"``: exactly what ``reset_parameters`` of torch's own modules draws. Linear and convolution: weight
    and bias uniform on :math:`\pm 1/\sqrt{n_{in}}`; normalisation layers: 1 and 0, running statistics reset; embedding:
    standard normal; recurrent: uniform on :math:`\pm 1/\sqrt{n_{hidden}}`. With a CPU generator these are bit by bit
    the numbers that ``reset_parameters`` gives after ``torch.manual_seed`` of the same seed, in the order of
    ``model.modules()``.

    ``"kaiming_fan_out"``: the same but for the weights of (not transposed) convolutions, which are normal with standard
    deviation :math:`\sqrt{2/n_{out}}`, where :math:`n_{out}` is output channels times kernel area. So are torchvision's
    ResNets initialised, and the networks of [meir2025]'s released code, where its text says "default".

    Nothing is changed when a module is refused.

    Args:
        model: any module; frozen parameters are initialised too.
        scheme: one of the two names above.
        generator: where the numbers come from; the model may live on another device and gets the same numbers.

    Raises:
        ValueError: if the scheme is unknown, or a module has parameters of its own that no rule here covers.

    Example:
        >>> layer, same = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> initialise(layer, "torch_default", torch.Generator().manual_seed(5))
        >>> initialise(same, "torch_default", torch.Generator().manual_seed(5))
        >>> torch.equal(layer.weight, same.weight)
        True

    Reference: [he2015] arXiv 1502.01852 v1, section 2.2 (backward case); [meir2025] arXiv 2502.04121 v1, section V.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme={scheme!r} must be one of {', '.join(get_args(Scheme))}; else pass init_fn")
    work = []
    for name, module in model.named_modules():
        rule = _RULES.get(getattr(type(module), "reset_parameters", None))
        own = [key for key, _ in module.named_parameters(recurse=False)]
        # A subclass may add parameters that the reset_parameters it inherits doesn't know: they would stay as they are.
        unknown = own if rule is None else sorted(set(own) - {"weight", "bias"}) if rule is not _recurrent else []
        if unknown:
            raise ValueError(
                f"module {name or 'model'!r} is a {type(module).__name__} with its own {', '.join(unknown)}: scheme "
                f"{scheme!r} doesn't know how to initialise that; pass init_fn, a function that builds a new model"
            )
        if rule is not None:
            work.append((rule, module))
    for rule, module in work:
        rule(module, scheme, generator)


def trainable_state(model: nn.Module) -> tuple[Parameters, Parameters]:
    """A model's own tensors by name: trainable parameters, and buffers but those of modules that are frozen whole.

    Raises:
        ValueError: if no parameter is trainable.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("the model has no parameter with requires_grad=True: there is nothing to perturb")
    frozen = set()
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            frozen.add(name)
    return parameters, {name: b for name, b in model.named_buffers() if name.rpartition(".")[0] not in frozen}


@contextlib.contextmanager
def _global_rng_seeded_from(generator: torch.Generator) -> Iterator[None]:
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    # A CUDA that was never used is left asleep: seeding it would queue a seed that outlives this block.
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def _matching(fresh: Parameters, current: Parameters) -> Parameters:
    wrong = [name for name, tensor in current.items() if name not in fresh or fresh[name].shape != tensor.shape]
    if wrong:
        raise ValueError(
            f"init_fn built a model without a {wrong[0]!r} of shape {tuple(current[wrong[0]].shape)} ({len(wrong)} of "
            f"{len(current)} tensors differ in name or shape): it must build the same model; if the perturbed one is "
            "wrapped (DataParallel, torch.compile), pass the module inside"
        )
    return {name: fresh[name].detach().to(tensor) for name, tensor in current.items()}


def _copy_without_hooks(model: nn.Module) -> nn.Module:
    # What hooks hold would be copied with them: the optimizer, other drop-ins, batches.
    tables = [
        table
        for module in model.modules()
        for name, table in vars(module).items()
        if "_hooks" in name and isinstance(table, dict)
    ]
    return copy.deepcopy(model, {id(table): type(table)() for table in tables})


def fresh_state(
    model: nn.Module, generator: torch.Generator, init_fn: Callable[[], nn.Module] | None = None
) -> tuple[Parameters, Parameters]:
    """New initial parameters and buffers of a model, which itself stays as it is.

    Args:
        model: whose names, shapes, types and devices are wanted.
        generator: where the numbers come from.
        init_fn: the model's own constructor. It runs with torch's global RNG seeded from ``generator`` and restored
            afterwards; it must not draw from numpy or Python. Without it a copy of the model is initialised by
            ``"torch_default"``, and buffers other than running statistics (tables, masks) keep their values.

    Returns:
        Parameters and buffers by name, sharing no memory with the model.

    Raises:
        ValueError: if ``init_fn`` doesn't build the same model anew, or is missing where a module is unknown.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> parameters, buffers = fresh_state(model, torch.Generator().manual_seed(0))
        >>> sorted(parameters), buffers, bool((parameters["weight"] != model.weight).all())
        (['bias', 'weight'], {}, True)
    """
    if init_fn is None:
        network = _copy_without_hooks(model)
        initialise(network, "torch_default", generator)
    else:
        with _global_rng_seeded_from(generator):
            network = init_fn()
        if not isinstance(network, nn.Module) or network is model:
            what = "the perturbed model itself" if network is model else f"a {type(network).__name__}"
            raise ValueError(f"init_fn returned {what}: it must build a new nn.Module on every call")
    return (
        _matching(dict(network.named_parameters()), dict(model.named_parameters())),
        _matching(dict(network.named_buffers()), dict(model.named_buffers())),
    )
