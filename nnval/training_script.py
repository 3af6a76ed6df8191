"""A training as one script, ``train.py``, that does what ``jostle train`` does, to the same bits.

The flat script needs torch and numpy alone. It is the library's training of one network (``execution="loop"``): the
same random numbers, and the same operations in the same order. Networks are written layer by layer from the modules
that jostle trains, and small functions are the library's own source. The other kind of script calls the library.
"""

import dataclasses
import math
import re
import textwrap
from collections.abc import Sequence
from importlib import metadata
from typing import Any, get_args

import torch

from nnval.drop_in.initialisation import Scheme
from nnval.drop_in.perturbations import make_perturbation
from nnval.engine import schedules, stack
from nnval.engine.config import TrainingConfig, fingerprint_of
from nnval.engine.models import MODELS
from nnval.engine.own_network import is_own
from nnval.engine.results import CURVES_HEADER
from nnval.script_data import DATA, DIGITS_FILE, ScriptData, data_constants, data_of, data_values, digits_file
from nnval.script_networks import network_text
from nnval.script_perturbations import (
    ScriptNoise,
    noise_constants,
    noise_values,
    perturbation_constants,
    perturbation_values,
)
from nnval.script_text import WIDTH, Code, call, command_comment, constant, rendered, source_of

__all__ = ["ScriptNoise", "files_beside", "library_script", "standalone_script"]

_SECONDS = 5.0


def standalone_script(
    config: TrainingConfig,
    *,
    noise: ScriptNoise | None = None,
    threads: int = 1,
    command: Sequence[str] = ("jostle", "generate"),
) -> str:
    """A training as one flat script that needs torch and numpy alone.

    The script trains the config's first member, with checkpoints; it has options for epochs, seed, member, data, device
    and directory. Values of the config are in it as literals, and names come from jostle's lists: nothing that a config
    holds can become code. The same arguments give the same bytes.

    Args:
        config: what is trained. Members, stack size and snapshots are left out.
        noise: adaptive noise on the weights, which ``jostle train`` does not have.
        threads: of torch.
        command: what made the script, for its header.

    Returns:
        The script. It reads what ``files_beside`` holds.

    Raises:
        ValueError: if it cannot be written out: a network of one's own, data that jostle itself decodes, a stack, a
            perturbation without an interval.

    Example:
        >>> script = standalone_script(TrainingConfig(model="lenet", label_noise=0))
        >>> "nn.Conv2d(1, 6, 5, padding=2)," in script
        True
    """
    return _flat_script(config, noise, threads, command, by_library=False)


def _flat_script(
    config: TrainingConfig, noise: ScriptNoise | None, threads: int, command: Sequence[str], *, by_library: bool
) -> str:
    """Everything written out, but for noise that is the library's if it is asked for."""
    config = _flat(config, by_library)
    data = data_of(config)
    config = dataclasses.replace(config, data_sha256=data.sha256 or config.data_sha256)
    noise = None if noise is None or noise.kind == "none" else noise
    values = _values(config, data, noise, by_library) | _header(config, noise, threads, command)
    constants = _constants(config, data, noise, _threads(threads), by_library)
    # Without what a user chose: no text among the constants is taken for a use.
    code = rendered("train.py.j2", values | {"imports": Code(""), "constants": Code("Path()"), "command": Code("")})
    return rendered("train.py.j2", values | {"imports": _imports(code, by_library), "constants": constants})


def library_script(
    config: TrainingConfig,
    *,
    noise: ScriptNoise | None = None,
    threads: int = 1,
    command: Sequence[str] = ("jostle", "generate", "--use-library"),
) -> str:
    """A training as a short script that calls jostle: any data, and networks of one's own.

    Args:
        config: what is trained; its first member alone, as in ``standalone_script``.
        noise: adaptive noise; the script is then a flat one with jostle's ``AdaptiveNoise`` in it, since
            ``jostle train`` has none.
        threads: of torch.
        command: what made the script, for its header.

    Returns:
        The script.

    Raises:
        ValueError: for a stack, a perturbation without an interval, or a name that jostle does not know.

    Example:
        >>> "train_ensemble" in library_script(TrainingConfig())
        True
    """
    if noise is not None and noise.kind != "none":
        return _flat_script(config, noise, threads, command, by_library=True)
    config = _one_network(config)
    fields = [(field.name, getattr(config, field.name), field.default) for field in dataclasses.fields(config)]
    given = {name: value for name, value, default in fields if value != default}
    values = {
        "config": call("CONFIG", "TrainingConfig", given),
        "threads": constant("THREADS", _threads(threads), "of the processor; bits may depend on it"),
    }
    return rendered("train_by_library.py.j2", _header(config, None, threads, command) | values)


def files_beside(config: TrainingConfig) -> dict[str, bytes]:
    """What has to lie beside the flat script of a config: names and contents.

    Args:
        config: see ``standalone_script``.

    Raises:
        ValueError: if scikit-learn, from which the digits come, is missing.
    """
    return {DIGITS_FILE: digits_file()} if config.data == "digits" else {}


# ---- What can be written ---------------------------------------------------------------------------------------------


def _flat(config: TrainingConfig, by_library: bool) -> TrainingConfig:
    """The training of one network that a flat script is, if it can be written out."""
    remedy = "without --noise --use-library" if by_library else "--use-library"
    if is_own(config.model):
        raise ValueError(
            f"model={config.model!r} is a network of your own, whose code a script cannot hold: {remedy} writes one "
            "that imports it"
        )
    if config.data not in DATA:
        raise ValueError(
            f"data={config.data!r} is not among what a script can read by itself, {', '.join(DATA)}: {remedy} writes "
            "one that reads it through jostle"
        )
    return _one_network(config)


def _one_network(config: TrainingConfig) -> TrainingConfig:
    """The training of its first member, alone."""
    if config.model not in MODELS and not is_own(config.model):
        raise ValueError(f"model={config.model!r} must be one of {', '.join(MODELS)}")
    if config.initialisation not in get_args(Scheme):
        raise ValueError(f"initialisation={config.initialisation!r} must be one of {', '.join(get_args(Scheme))}")
    if config.execution == "stacked":
        raise ValueError(
            "execution='stacked' trains several networks as one, with another rounding; a script trains one network: "
            "leave it out, or use execution='loop'"
        )
    perturbation = None if config.perturbation is None else make_perturbation(**config.perturbation)
    if perturbation is not None and config.interval is None:
        raise ValueError("interval=None: say after how many epochs the perturbation acts, interval P >= 1")
    try:
        torch.device("cpu" if config.device == "auto" else config.device)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device={config.device!r} must be a device of torch, such as cpu or cuda: {reason}") from None
    return dataclasses.replace(
        config,
        members=1,
        execution="loop",
        stack_size=None,
        snapshots=(),
        perturbation=None if perturbation is None else perturbation.to_dict(),
    )


def _threads(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads={threads!r} must be a whole number >= 1")
    return threads


# ---- What is written -------------------------------------------------------------------------------------------------


def _version() -> str:
    try:
        return metadata.version("jostle")
    except metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


def _same_as(config: TrainingConfig, noise: ScriptNoise | None, threads: int) -> str:
    what = (
        f"ember {config.first_member} of `jostle train` with the same options, --execution loop and --threads {threads}"
    )
    if noise is not None:
        return (
            f"Without its noise this is m{what}, to the same bits where torch and processor are the same. The noise is "
            "that of nnval.drop_in.adaptive_noise.AdaptiveNoise on this optimizer, with the same seed."
        )
    return (
        f"M{what} has this very curve and these very weights, where torch and processor are the same; others round "
        "differently."
    )


def _header(config: TrainingConfig, noise: ScriptNoise | None, threads: int, command: Sequence[str]) -> dict[str, Any]:
    own = is_own(config.model)
    fingerprint = config.fingerprint()
    if noise is not None:
        fingerprint = fingerprint_of({"config": fingerprint, "noise": noise.to_dict()})
    return {
        # A stranger's names stay out of the text: they are among the constants.
        "model_word": Code("a network of one's own" if own else config.model),
        "data_word": Code(config.data if config.data in DATA else "images"),
        "same_as": Code(textwrap.fill(_same_as(config, noise, threads), WIDTH)),
        "version": Code(_version()),
        "fingerprint": Code(fingerprint),
        "command": command_comment(command),
    }


def _values(config: TrainingConfig, data: ScriptData, noise: ScriptNoise | None, by_library: bool) -> dict[str, Any]:
    """What the templates ask: truth values, names from jostle's lists, and code."""
    network = network_text(config, data.shape, data.classes)
    perturbation = None if config.perturbation is None else make_perturbation(**config.perturbation)
    special = config.precision != "float32" or config.channels_last
    has_cosine = config.schedule in ("sgdr", "one_cycle")
    of_noise = None if noise is None else noise_values(noise, by_library=by_library)
    return data_values(config, data) | {
        "network": network,
        "initialisation": config.initialisation,
        "optimizer": config.optimizer,
        "optimizer_class": Code({"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[config.optimizer]),
        "nesterov": config.nesterov,
        "schedule": config.schedule,
        "half_cosine": source_of(schedules._half_cosine, _half_cosine="half_cosine") if has_cosine else None,
        "special_logits": special,
        "channels_last": config.channels_last,
        "precision": config.precision,
        "precision_word": Code(config.precision),
        "logits_of_inputs": Code("logits(network, inputs)" if special else "network(inputs)"),
        "numbered": config.augmentation != "none" or config.schedule == "one_cycle",
        "deterministic": config.deterministic,
        "compiled": config.compiled,
        "target": config.target is not None,
        "perturbation": None if perturbation is None else perturbation_values(perturbation),
        "noise": of_noise,
        "noise_argument": Code("") if of_noise is None else of_noise["argument"],
        "noise_columns": Code("") if of_noise is None else of_noise["columns"],
        "noise_state": Code("" if noise is None else ', "noise": noise.state_dict()'),
    }


_SCHEDULE_CONSTANTS = {
    "constant": (),
    "step": ("milestones", "decay"),
    "cosine": (),
    "sgdr": ("cycle_epochs", "cycle_growth"),
    "one_cycle": ("warm_up",),
}


def _constants(
    config: TrainingConfig, data: ScriptData, noise: ScriptNoise | None, threads: int, by_library: bool
) -> Code:
    columns = [] if noise is None else ["epsilon", *(["phase"] if noise.schedule.has_phases else [])]
    groups: list[list[Code]] = [
        [
            constant("EPOCHS", config.epochs),
            *(
                [constant("TARGET", config.target, "the validation accuracy that ends training")]
                if config.target
                else []
            ),
            constant("SEED", config.seed),
            constant("MEMBER", config.first_member, "which network of an ensemble: each has random numbers of its own"),
            constant("STREAM", config.stream, "name of the ensemble's random numbers"),
        ],
        data_constants(config, data),
        [
            *([constant("CHANNELS", data.shape[0])] if config.model == "efficientnet_b0" else []),
            constant("BATCH_SIZE", config.batch_size),
            constant("LEARNING_RATE", config.learning_rate),
            constant("MOMENTUM", config.momentum) if config.optimizer == "sgd" else constant("BETAS", config.betas),
            constant("WEIGHT_DECAY", config.weight_decay),
            *(constant(name.upper(), getattr(config, name)) for name in _SCHEDULE_CONSTANTS[config.schedule]),
        ],
        []
        if config.perturbation is None
        else perturbation_constants(make_perturbation(**config.perturbation), config.interval),
        [] if noise is None else noise_constants(noise, by_library=by_library),
        [
            constant("DEVICE", config.device),
            constant("THREADS", threads, "of the processor; bits may depend on it"),
            constant(
                "EVALUATION_SIZE",
                max(1, stack._EVALUATION_VALUES // math.prod(data.shape)),
                "images that are evaluated at once",
            ),
            constant("CHECKPOINT_SECONDS", _SECONDS, "at least so far apart are checkpoints"),
            constant("CURVE_HEADER", ",".join([CURVES_HEADER.strip(), *columns]) + "\n"),
        ],
    ]
    return Code("\n\n".join("\n".join(group) for group in groups if group))


_STANDARD = {
    **{name: f"import {name}" for name in ("argparse", "bisect", "hashlib", "io", "json", "math", "os", "pickle")},
    **{name: f"import {name}" for name in ("sys", "tarfile", "time", "zipfile", "zlib")},
    "dataclass": "from dataclasses import dataclass",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
}
_OTHERS = {
    "np": "import numpy as np",
    "npt": "import numpy.typing as npt",
    "torch": "import torch",
    "F": "import torch.nn.functional as F",
    "nn": "from torch import nn",
}
_OWN = (
    "from nnval.drop_in.adaptive_noise import AdaptiveNoise",
    "from theory.noise_schedule import NoiseSchedule",
)


def _imports(code: str, by_library: bool) -> Code:
    """The imports of what code of jostle's own uses, in the order of isort."""
    used = set(re.findall(r"(?<![\w.])(\w+)(?:\.\w|[(\[\]])", code))
    groups = [[line for name, line in lines.items() if name in used] for lines in (_STANDARD, _OTHERS)]
    if by_library:  # to the user jostle is one more library
        phases = ", ".join(name for name in ("PHASES", "PhaseMachine", "PhaseThresholds") if name in used)
        groups[1][-1:] = [*_OWN, f"from theory.training_phases import {phases}", groups[1][-1]]
    return Code("\n\n".join("\n".join(lines) for lines in groups))
