"""Schedules of the learning rate by name and options, made of torch's own and ActCooLR; all act in each step.

    constant    the learning rate
    step        a tenth of it from half of all steps on, a hundredth in the last quarter
    cosine      half a cosine down to 0
    one_cycle   torch's OneCycleLR without its change of momentum: up for the part ``warm_up`` of all steps (0.3), then
                down; the learning rate is its highest
    actcoolr    by activation-pattern temperature, see nnval.drop_in.actcoolr

``actcoolr:t_start=3.17,gamma=2`` sets options; ``lr`` is one of every schedule.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, MultiStepLR, OneCycleLR

from nnval.drop_in.actcoolr import ActCooLR

COOLED = "actcoolr"
REFERENCES = ("constant", "step", "cosine", "one_cycle")
"""Schedules that ActCooLR is compared with."""

OPTIONS = (
    "t_start",
    "gamma",
    "every",
    "link",
    "sigma",
    "lr_max",
    "lr_min",
    "largest_change",
    "calibration",
    "pattern",
    "reduce",
    "probe_samples",
)
"""Of ActCooLR, beside ``lr``."""

_WORDS = {"none": None, "inf": math.inf}


@dataclass(frozen=True)
class Schedule:
    """One schedule.

    Attributes:
        name: ``"actcoolr"`` or one of ``REFERENCES``.
        options: those that are not left at their defaults.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def parsed(cls, text: str) -> Self:
        """From a name and options.

        Args:
            text: such as ``"actcoolr:gamma=2"``.

        Raises:
            ValueError: for an unknown name or option, or a value that is none.

        Example:
            >>> Schedule.parsed("actcoolr: t_start=3.17,lr_max=inf").label
            'actcoolr:t_start=3.17,lr_max=inf'
        """
        name, _, rest = text.partition(":")
        name, options = name.strip(), dict[str, Any]()
        if name not in (COOLED, *REFERENCES):
            raise ValueError(f"schedule {text!r} must be one of {', '.join((*REFERENCES, COOLED))}, maybe with options")
        known = ("lr", *(OPTIONS if name == COOLED else ("warm_up",) if name == "one_cycle" else ()))
        for item in filter(None, (part.strip() for part in rest.split(","))):
            key, equals, value = (part.strip() for part in item.partition("="))
            if not equals or not value:
                raise ValueError(f"schedule {text!r}: {item!r} must have the form option=value")
            if key not in known:
                raise ValueError(f"schedule {text!r} has no option {key!r}; known are {', '.join(known)}")
            if key in options:
                raise ValueError(f"schedule {text!r} has {key!r} twice")
            options[key] = _value(value)
        rate = options.get("lr", 1.0)
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < math.inf:
            raise ValueError(f"schedule {text!r}: lr={rate} must be a finite number > 0")
        part = options.get("warm_up", 0.3)
        if not isinstance(part, float) or not 0 < part < 1:
            raise ValueError(f"schedule {text!r}: warm_up={part} must be the part of all steps that goes up, in (0, 1)")
        return cls(name, options)

    @property
    def label(self) -> str:
        """Name and options, as ``parsed`` reads them."""
        words = [f"{name}={_word(value)}" for name, value in self.options.items()]
        return self.name + (":" + ",".join(words) if words else "")

    @property
    def file_name(self) -> str:
        """The label in letters that any file system takes."""
        return self.label.replace(":", "-").replace(",", "-").replace("=", "_")

    def rate(self, default: float) -> float:
        """The learning rate of the optimizer at first; of ``one_cycle`` the highest."""
        return float(self.options.get("lr", default))

    def check(self, default: float, total_steps: int, every: int) -> None:
        """Refuses now what ``on`` would refuse when a training begins.

        Args:
            default: see ``rate``.
            total_steps, every: see ``on``.

        Raises:
            ValueError: for options out of range.
        """
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=self.rate(default))
        try:
            self.on(optimizer, model, total_steps, every)
        except ValueError as error:
            raise ValueError(f"schedule {self.label!r}: {error}") from error

    def on(self, optimizer: torch.optim.Optimizer, model: nn.Module, total_steps: int, every: int) -> LRScheduler:
        """The scheduler.

        Args:
            optimizer: with the learning rate of ``rate``.
            model: that it trains.
            total_steps: of the training.
            every: steps between measurements of ActCooLR, if no option says so.

        Raises:
            ValueError: for options out of range.
        """
        match self.name:
            case "step":
                return MultiStepLR(optimizer, [max(1, total_steps // 2), max(2, 3 * total_steps // 4)], gamma=0.1)
            case "cosine":
                return CosineAnnealingLR(optimizer, total_steps)
            case "one_cycle":
                rate = optimizer.param_groups[0]["lr"]
                part = float(self.options.get("warm_up", 0.3))
                return OneCycleLR(optimizer, rate, total_steps=total_steps, pct_start=part, cycle_momentum=False)
            case "actcoolr":
                options: dict[str, Any] = {"every": every} | {
                    name: value for name, value in self.options.items() if name != "lr"
                }
                return ActCooLR(optimizer, model, total_steps, **options)
        return ConstantLR(optimizer, factor=1.0, total_iters=0)


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (int, float)) else text


def _word(value: Any) -> str:
    if value is None or not isinstance(value, float):
        return "none" if value is None else str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
