"""The numbers of ActCooLR: from measured temperatures to the learning rate of every step. No network is in it.

Steps are counted from 1. The temperature of step n, which was made at a known learning rate, gives the learning rate of
step n + every; in between it goes in a straight line.

Reference: [actcoolr2021] section 4
"""

import math
import statistics
from typing import Any

from theory.absorbing import whole_number
from theory.activation_temperature import LINKS, CloglogLink, CoolingController, ErfLink, target_curve
from theory.noise_arguments import number

USUAL_SIGMA = 1.2
"""Of the erf link, where it cannot be measured: 1.0 to 1.5 was seen in all networks."""
HOTTEST_START = 1.0
"""The highest start that is chosen without being asked for [bits]: half of the patterns change. Hotter ones broke
networks, see docs/activation-temperature.md."""
LARGEST_LOG_RATE = 700.0
"""Where the cap is infinite: beyond there are no floats."""

_MORE_SAMPLES = (
    "more samples (probe_samples=None takes the whole batch, batch=inputs any number of them: ten times as many show a "
    "tenth of the temperature)"
)
"""What to do where temperatures are too low to be seen."""

_SETTINGS = ("total_steps", "gamma", "every", "link", "lr_max", "lr_min", "largest_change", "calibration")
_STATE = ("own_rate", "scale", "start", "interval", "location", "coldest", "seen", "limited")


class CoolingSchedule:
    """Learning rates of all steps, given measurements.

    Args:
        own_rate: the learning rate before there is a measurement, finite and > 0.
        total_steps, t_start, gamma, every, link, sigma, lr_max, lr_min, largest_change, calibration: see ``ActCooLR``.

    Attributes:
        scale: sigma of the erf link, None until it is known; 1 for the other link.
        start: C(0), None until it is known [bits].
        limited: how many measurements had their correction cut by ``largest_change``.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> schedule = CoolingSchedule(0.1, 100, t_start=3.17, sigma=1.2, lr_max=1.0)
        >>> schedule.follow(10, 0.1, temperature=3.17, coldest=1e-4)
        >>> [round(schedule.rate_of(step), 5) for step in (10, 15, 20)]
        [0.1, 0.0859, 0.0718]
    """

    def __init__(
        self,
        own_rate: float,
        total_steps: int,
        *,
        t_start: float | None = None,
        gamma: float = 1.0,
        every: int = 10,
        link: str = "erf",
        sigma: float | None = None,
        lr_max: float | None = None,
        lr_min: float = 1e-8,
        largest_change: float = math.inf,
        calibration: int | None = None,
    ) -> None:
        every = whole_number("every", every, 1)
        total_steps = whole_number("total_steps", total_steps, every + 1)
        if calibration is None:
            calibration = max(min(max(5 * every, total_steps // 20), total_steps // 2), every)
        calibration = whole_number("calibration", calibration, every)
        if t_start is None and calibration >= total_steps:
            raise ValueError(f"calibration={calibration} must end before total_steps={total_steps}: some must cool")
        if link not in LINKS:
            raise ValueError(f"link={link!r} must be one of {', '.join(LINKS)}")
        if link != "erf" and sigma is not None:
            raise ValueError(f"sigma={sigma} belongs to link='erf'; leave it out with link={link!r}")
        if lr_max is None:
            lr_max = 3 * own_rate
        elif not number("lr_max", lr_max) >= own_rate:
            raise ValueError(f"lr_max={lr_max} must be >= the optimizer's own learning rate, {own_rate}")
        if not 0 < number("lr_min", lr_min) < own_rate:
            raise ValueError(f"lr_min={lr_min} must be > 0 and below the optimizer's own learning rate, {own_rate}")
        self.total_steps, self.every, self.calibration = total_steps, every, calibration
        self.gamma, self.link = gamma, link
        self.lr_max, self.lr_min, self.largest_change = lr_max, lr_min, largest_change
        self.scale = 1.0 if link == "cloglog" else sigma
        self._controller()  # refuses what is out of range, as does the next
        target_curve(0.0, gamma, 1.0 if t_start is None else t_start)
        self.own_rate, self.start, self.given_start = own_rate, t_start, t_start is not None
        self.interval = (0, every, own_rate, own_rate)  # first and last step, and their learning rates
        self.location: float | None = None
        self.coldest = math.inf  # of all measurements
        self.seen: list[float] = []  # T at the own rate, while there is no start
        self.limited = 0

    def is_due(self, number: int) -> bool:
        """Whether a step is to be measured: each ``every``-th but the last."""
        return number % self.every == 0 and number < self.total_steps

    def rate_of(self, number: int) -> float:
        """The learning rate of a step that is not beyond the next measurement; ``lr_min`` beyond the last step."""
        first, last, begin, end = self.interval
        part = (number - first) / (last - first)
        return end if part >= 1 else min(begin + (end - begin) * part, self.lr_max)

    def target(self, number: int) -> float | None:
        """C of a step, None until its start is known [bits]."""
        if self.start is None:
            return None
        return float(target_curve(number / self.total_steps, self.gamma, self.start))

    def hold(self, made: int, rate: float) -> None:
        """A step could not be measured: its learning rate stays.

        Args:
            made: the step.
            rate: its learning rate.
        """
        self.interval = (made, self._following(made), rate, rate)

    def follow(self, made: int, rate: float, temperature: float, coldest: float) -> None:
        """A step was measured: what comes until the next measurement.

        Args:
            made: the step.
            rate: its learning rate, > 0.
            temperature: T, > 0 [bits].
            coldest: the lowest T that can be seen, > 0 [bits]. Below twice that a measurement says little, and the last
                good one is used: some are made with the few samples of an epoch's last batch.

        Raises:
            RuntimeError: if the curve starts at a temperature that cannot be seen.
        """
        controller, log_rate, following = self._controller(), math.log(rate), self._following(made)
        self.coldest = min(self.coldest, coldest)
        is_good = temperature >= 2 * coldest
        is_usual = is_good or coldest < 2 * self.coldest
        if self.location is None or is_good:
            self.location = float(controller.link.located(log_rate, temperature))
        target, highest = HOTTEST_START, self.own_rate  # as long as there is no start
        if self.start is not None or self._calibrated(made, log_rate, temperature, is_usual):
            target, highest = self.target(following) or 0.0, self.lr_max
        if self.start is not None and self.start < 2 * self.coldest:
            raise RuntimeError(self._unseen_start())
        if following == self.total_steps:
            self.interval = (made, following, rate, self.lr_min)
            return
        wanted = float(controller.next_log_rate(log_rate, self.location, target))
        wanted = min(wanted, math.log(highest), LARGEST_LOG_RATE)
        self.limited += abs(wanted - log_rate) >= self.largest_change * (1 - 1e-12)
        self.interval = (made, following, rate, highest if wanted == math.log(highest) else math.exp(wanted))

    def settings(self) -> dict[str, Any]:
        """What must be the same in a schedule that goes on from a state."""
        return {name: getattr(self, name) for name in _SETTINGS}

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        state = {name: getattr(self, name) for name in _STATE}
        return {**state, "interval": list(self.interval), "seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict``."""
        for name in _STATE:
            setattr(self, name, state[name])
        first, last, begin, end = state["interval"]
        self.interval, self.seen = (first, last, begin, end), list(state["seen"])

    def _unseen_start(self) -> str:
        """What it means, and what to do, if the curve starts below what measurements can show."""
        least = 2 * self.coldest
        found = f"the curve starts at T={self.start:.3g} bits, but {least:.3g} is the least that can be seen: "
        if self.given_start:
            return found + f"raise t_start to {least:.2g} or more, or measure {_MORE_SAMPLES}"
        return (
            f"{found}raise one of the two. At the optimizer's learning rate, {self.own_rate:g}, a step changes too few "
            "activation patterns to be counted in so few samples, as is usual for small networks and for Adam at 1e-3. "
            f"Either measure {_MORE_SAMPLES}; or give a start that can be seen, such as "
            f"t_start={max(2 * least, 0.1):.1g}, for which learning rates rise (up to lr_max); or begin with a higher "
            "learning rate"
        )

    def _following(self, made: int) -> int:
        return min(made + self.every, self.total_steps)

    def _controller(self) -> CoolingController:
        scale = USUAL_SIGMA if self.scale is None else self.scale
        link = CloglogLink(0.0) if self.link == "cloglog" else ErfLink(0.0, scale)
        return CoolingController(link, self.lr_min, self.lr_max, self.largest_change)

    def _calibrated(self, made: int, log_rate: float, temperature: float, is_usual: bool) -> bool:
        """Notes the temperature at the own learning rate, and takes the median for the start at the end."""
        is_last = made + self.every > self.calibration
        if (2 * made > self.calibration and is_usual) or (is_last and not self.seen):
            link = self._controller().link
            there = link.moved(float(link.located(log_rate, temperature)))
            self.seen.append(float(there.temperature(math.log(self.own_rate))))
        if not is_last:
            return False
        self.start = min(statistics.median(self.seen), HOTTEST_START)
        return True
