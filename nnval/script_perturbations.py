"""What acts on the weights beside the optimizer, as a script writes it: perturbations, and adaptive noise."""

from dataclasses import asdict, dataclass, field
from typing import Any

from nnval.adaptive_noise_methods import NoiseOptions
from nnval.drop_in import perturbations
from nnval.drop_in.perturbations import Perturbation
from nnval.script_text import Code, constant, rendered, source_of
from theory.noise_schedule import NoiseSchedule

_SUMMARIES = {
    "shrink_perturb": "Shrink and perturb: all weights shrunk, and a little of new ones added.",
    "partial_reset": "Partial reset: a fraction of the weights drawn anew.",
    "full_reset": "Reset: a new network.",
    "warm_restart": "Warm restart: what the optimizer remembers is forgotten, and its schedule begins anew.",
    "gaussian_noise": "Normal noise on all weights.",
}

_NUMBERS = {"shrink": "SHRINK", "noise": "NOISE", "fraction": "FRACTION", "std": "STANDARD_DEVIATION"}
"""Options that are numbers, and their constants."""


def perturbation_values(perturbation: Perturbation) -> dict[str, Any]:
    """What the templates ask about a perturbation; the numbers that a user chose are constants.

    Args:
        perturbation: that acts.
    """
    options = perturbation.to_dict()
    name, buffers = options["name"], options["buffers"]
    is_silent = options.get("noise", options.get("std", 1)) == 0
    gaussian = name == "shrink_perturb" and options["fresh"] == "gaussian"
    relative = name == "gaussian_noise" and options["mode"] == "relative_weight"
    resets = name == "partial_reset" and options["fraction"] > 0
    by = options.get("by")
    adds_fresh = name == "shrink_perturb" and not is_silent and not gaussian
    adds_normal = (gaussian or name == "gaussian_noise") and not is_silent
    functions = []
    if adds_normal:
        functions.append(source_of(perturbations._standard_normal, _standard_normal="standard_normal"))
    if adds_normal and (gaussian or relative):
        functions.append(source_of(perturbations._root_mean_square, _root_mean_square="root_mean_square"))
    if resets:
        functions.append(source_of(perturbations._smallest, _smallest="smallest"))
        functions.append(Code(rendered("reset_mask.j2", {"by": by}).rstrip("\n")))
    return {
        "name": name,
        "summary": Code(_SUMMARIES[name]),
        "functions": functions,
        "fresh": adds_fresh
        or resets
        or name == "full_reset"
        or buffers == "reset"
        or (buffers == "mix" and not is_silent),
        "draws": adds_normal or (resets and by == "random"),
        "buffers": buffers,
        "is_silent": is_silent,
        "gaussian": gaussian,
        "relative": relative,
        "resets": resets,
        "weights_only": options.get("parameters") == "weights",
        "scope": options.get("scope"),
        "mask_argument": Code(", generator" if by == "random" else ""),
        "clears": options["optimizer_state"] == "clear",
        "restarts": options["learning_rate"] == "restart",
    }


def perturbation_constants(perturbation: Perturbation, interval: int | None) -> list[Code]:
    """The constants of a script about its perturbation.

    Args:
        perturbation: that acts.
        interval: in epochs.
    """
    options = perturbation.to_dict()
    numbers = [constant(name, options[option]) for option, name in _NUMBERS.items() if option in options]
    return [constant("PERTURBATION_INTERVAL", interval, "in epochs"), *numbers]


@dataclass(frozen=True)
class ScriptNoise:
    """Adaptive noise of a script.

    Attributes:
        kind: of ``theory.noise_schedule.KINDS``.
        options: epsilons, their decay and mode, and the machine that tells phases.

    Raises:
        ValueError: if there is no such kind.
    """

    kind: str = "full"
    options: NoiseOptions = field(default_factory=NoiseOptions)

    def __post_init__(self) -> None:
        self.schedule  # noqa: B018 -- it checks the kind

    @property
    def schedule(self) -> NoiseSchedule:
        """Epsilon of each step."""
        return self.options.schedule(self.kind)

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {"kind": self.kind, **asdict(self.options)}


_SCALES = {
    "fixed": "EPSILON",
    "schedule_only": "EPSILON * math.exp(-EPSILON_DECAY * self.steps)",
    "phase_only": "EPSILONS[self.machine.phase]",
    "full": "EPSILONS[self.machine.phase] * math.exp(-EPSILON_DECAY * (self.steps - self.entered))",
}
_MODES = {
    "absolute": "epsilon",
    "relative_update": "epsilon times the length of the update over the root of the number of weights",
    "relative_weight": "epsilon times the root mean square of the tensor",
    "sgld": "the root of twice the learning rate times epsilon",
}


def noise_values(noise: ScriptNoise, *, by_library: bool) -> dict[str, Any]:
    """What the templates ask about adaptive noise; the numbers that a user chose are constants.

    Args:
        noise: of another kind than ``"none"``.
        by_library: whether the noise is jostle's drop-in, or written out.
    """
    columns = ",{noise.scale!r}"
    if noise.schedule.has_phases:
        columns += ",{PHASES.index(noise.phase)}" if by_library else ",{noise.machine.phase}"
    if by_library:
        return {
            "template": "library_noise.j2",
            "by_library": True,
            "measures_update": False,
            "function": Code("attached_noise"),
            "columns": Code(columns),
            "argument": Code(""),
        }
    options, phases = noise.options, noise.schedule.has_phases
    relative = options.mode == "relative_update"
    return {
        "template": "noise.j2",
        "by_library": False,
        "function": Code("AdaptiveNoise"),
        "columns": Code(columns),
        "argument": Code(", noise"),
        "mode": options.mode,
        "phases": phases,
        "metric": options.metric,
        "measures_update": phases or relative,
        "absolute_thresholds": bool(options.thresholds["absolute"]),
        "forward": Code(">" if options.monotone else "!="),
        "include_norm": options.include_norm,
        "scale": Code(_SCALES[noise.kind]),
        "deviation_words": Code(_MODES[options.mode]),
        "unit": Code("update" if relative else ""),
        "unit_parameter": Code(", update: float" if relative else ""),
    }


def noise_constants(noise: ScriptNoise, *, by_library: bool) -> list[Code]:
    """The constants of a script about its noise.

    Args:
        noise: of another kind than ``"none"``.
        by_library: whether the noise is jostle's drop-in, or written out.
    """
    options, schedule = noise.options, noise.schedule
    high, medium, _ = schedule.epsilon
    if by_library:
        lines = [
            constant("NOISE_KIND", noise.kind),
            constant("NOISE_MODE", options.mode),
            constant("METRIC", options.metric),
            constant("MONOTONE", options.monotone),
            constant("INCLUDE_NORM", options.include_norm),
            constant("THRESHOLDS_ABSOLUTE", bool(options.thresholds["absolute"])),
            constant("EPSILONS", schedule.epsilon, "of exploration, convergence and fine-tuning"),
        ]
    elif schedule.has_phases:
        lines = [constant("EPSILONS", schedule.epsilon, "of exploration, convergence and fine-tuning")]
    else:
        lines = [constant("EPSILON", medium if noise.kind == "fixed" else high)]
    if by_library or noise.kind in ("full", "schedule_only"):
        lines.append(constant("EPSILON_DECAY", schedule.decay, "in 1/steps"))
    if not (by_library or schedule.has_phases):
        return lines
    thresholds = {name: value for name, value in options.thresholds.items() if name != "absolute"}
    return [
        *lines,
        constant("HORIZON", options.horizon, "steps over which metrics are averaged"),
        constant("MIN_DWELL", options.min_dwell, "steps for which a phase is kept at least"),
        *(constant(name.upper(), value) for name, value in thresholds.items()),
    ]
