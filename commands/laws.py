"""Laws of a first-passage time as a user types them: ``NAME:parameter=value,...``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theory.passage_law_base import PassageLaw

LAWS = (
    "brownian, drift_diffusion, ornstein_uhlenbeck, interval, exponential, hyperexponential, gamma, erlang, weibull, "
    "log_normal, pareto, empirical"
)
"""What ``parse_law`` knows."""

SEVERAL, WHOLE = ("weights", "rates"), ("stages",)
"""Parameters that are several numbers, or a whole one."""


def _makers() -> dict[str, Callable[..., PassageLaw]]:
    from theory import diffusion_laws, heavy_tailed_times, ornstein_uhlenbeck, waiting_times

    return {
        "brownian": diffusion_laws.Brownian,
        "drift_diffusion": diffusion_laws.DriftDiffusion,
        "ornstein_uhlenbeck": ornstein_uhlenbeck.OrnsteinUhlenbeck,
        "interval": diffusion_laws.Interval,
        "exponential": waiting_times.Exponential,
        "hyperexponential": waiting_times.Hyperexponential,
        "gamma": waiting_times.Gamma,
        "erlang": waiting_times.erlang,
        "weibull": heavy_tailed_times.Weibull,
        "log_normal": heavy_tailed_times.LogNormal,
        "pareto": heavy_tailed_times.Pareto,
    }


def parse_law(text: str) -> PassageLaw:
    """The law that a text names.

    Args:
        text: such as ``drift_diffusion:distance=1,drift=0.5,diffusivity=1``, with numbers separated by ``/`` where a
            law takes several (``hyperexponential:weights=0.5/0.5,rates=10/0.1``), or ``empirical:FILE`` with a time on
            each line.

    Returns:
        The law.

    Raises:
        ValueError: for an unknown name, missing or unknown parameters, or values out of range.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    name = name.replace("-", "_")
    if name == "empirical":
        return _empirical(rest)
    makers = _makers()
    if name not in makers:
        raise ValueError(f"law {name!r} is unknown; choose from {LAWS}")
    wanted = _parameters(makers[name])
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        parameter, _, number = (part.strip() for part in item.partition("="))
        if parameter not in wanted or parameter in values:
            raise ValueError(f"{item!r} is no parameter of {name}, or given twice; write {_usage(name, wanted)}")
        values[parameter] = _value(parameter, number)
    if len(values) < len(wanted):
        missing = ", ".join(p for p in wanted if p not in values)
        raise ValueError(f"law {name} needs {missing}: write {_usage(name, wanted)}")
    return makers[name](**values)


def _parameters(maker: Callable[..., PassageLaw]) -> list[str]:
    if isinstance(maker, type) and dataclasses.is_dataclass(maker):
        return [field.name for field in dataclasses.fields(maker) if field.init]
    import inspect

    return list(inspect.signature(maker).parameters)


def _usage(name: str, wanted: list[str]) -> str:
    return f"{name}:" + ",".join(f"{parameter}=..." for parameter in wanted)


def _value(name: str, text: str) -> Any:
    what = "numbers separated by /" if name in SEVERAL else "a whole number" if name in WHOLE else "a number"
    try:
        if name in SEVERAL:
            return tuple(float(part) for part in text.split("/"))
        return int(text) if name in WHOLE else float(text)
    except ValueError:
        raise ValueError(f"{name}={text} must be {what}") from None


def _empirical(file: str) -> PassageLaw:
    import numpy as np

    from theory.passage_laws import EmpiricalLaw

    if not file:
        raise ValueError("law empirical needs a file with a time on each line: write empirical:FILE")
    try:
        lines = Path(file).read_text(encoding="utf-8").split()
        times = np.array([float(line) for line in lines])
    except FileNotFoundError:
        raise ValueError(f"{file} does not exist; write empirical:FILE, a file with a time on each line") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} is not a list of times, one on each line: {error}") from None
    if len(times) == 0:
        raise ValueError(f"{file} holds no times")
    return EmpiricalLaw(times)
