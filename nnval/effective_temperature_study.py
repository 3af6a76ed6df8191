"""What the experiment of nnval.effective_temperature is made of: its config, its results, and what is tested."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from nnval.engine.config import TrainingConfig
from nnval.measure.batch_orders import ORDERS, BatchOrder
from nnval.widening_valley_study import PLAIN
from theory.absorbing import Floats, whole_number
from theory.estimate import Comparison, Estimate, compare, holm
from theory.noise_arguments import number

REPLICA_COLUMNS = ("distance", "cosine", "disagreement")
WIDTHS = ("margin", "input_distance")
MEASURED = (*REPLICA_COLUMNS, *WIDTHS, "train_loss", "train_error", "test_accuracy")
"""Columns of what is measured in training, beside the epoch; all but the first three are means of two replicas."""

STOPS = ("early", "late", "equal_loss", "zero_error", "at_rest")
"""When widths are compared: after equally many updates, twice; at equal loss; at convergence, twice."""

TEMPERATURES = ("fast", "slow")
"""T(1), and the slope of fluctuation against response over the last epoch of lags."""


def _quick_training() -> TrainingConfig:
    return TrainingConfig(
        data="digits",
        train_size=400,
        label_noise=0.05,
        hidden=(32,),
        learning_rate=0.1,
        weight_decay=0.002,
        batch_size=20,
        epochs=80,
        members=6,
    )


@dataclass(frozen=True, kw_only=True)
class EffectiveTemperatureConfig:
    """What is trained and measured.

    Attributes:
        training: network, data, learning rate, momentum, weight decay and seeds: member k has the initial weights of
            member k of ``jostle train``, and its own split of the data (``data_seed`` + k), in which all conditions
            share. An epoch is ``train_size // batch_size`` updates, for all conditions alike. Other fields must be as
            in ``nnval.widening_valley_study.PLAIN``.
        orders: of batches: names or labels of ``BatchOrder``. ``"persistent"`` alone gets its option from ``stay``.
        batch_sizes: S, each with all orders.
        stay: updates that a sample stays in a persistent batch, on average, > 1.
        measure_every: epochs between measurements; there is one before training, and one after it.
        early: epoch at which widths are compared early; rounded up to one that is measured.
        rest: updates of descent with all samples after training, without noise.
        quantile: of the training points, by which boundary widths are measured.
        directions: k, eigenvectors of the largest curvatures after training.
        runs: R >= 2 that are recorded from there, with batches of their own.
        burn_in: updates before that.
        window: L, updates in a field; lags are below.
        windows: how many, >= 2.
        field: the static displacement that it makes, in standard deviations of theory with white noise as large.

    Raises:
        ValueError: if a value is out of its range.
    """

    training: TrainingConfig = field(default_factory=_quick_training)
    orders: Sequence[str] = ORDERS
    batch_sizes: Sequence[int] = (20, 80)
    stay: float = 5.0
    measure_every: int = 5
    early: int = 10
    rest: int = 300
    quantile: float = 0.1
    directions: int = 8
    runs: int = 4
    burn_in: int = 100
    window: int = 100
    windows: int = 8
    field: float = 0.3

    def __post_init__(self) -> None:
        for name, allowed in PLAIN.items():
            value = getattr(self.training, name)
            if value != allowed:
                raise ValueError(
                    f"{name}={value!r} must be {allowed!r} here: conditions may differ by their noise only, and "
                    "nothing may change in time"
                )
        if self.training.members < 2:
            raise ValueError("members must be >= 2: one network for each condition has no standard error")
        least = {"measure_every": 1, "early": 1, "rest": 1, "directions": 1, "runs": 2, "burn_in": 0, "window": 3,
                 "windows": 2}  # fmt: skip
        for name, lowest in least.items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name), lowest))
        for name in ("measure_every", "early"):
            if getattr(self, name) > self.training.epochs:
                raise ValueError(f"{name}={getattr(self, name)} must be at most epochs={self.training.epochs}")
        for name, holds, allowed in (
            ("stay", lambda x: x > 1, "> 1"),
            ("quantile", lambda x: 0 < x < 1, "strictly between 0 and 1"),
            ("field", lambda x: 0 < x <= 10, "> 0 and at most 10"),
        ):
            value = number(name, getattr(self, name))
            if not holds(value):
                raise ValueError(f"{name}={value} must be {allowed}")
            object.__setattr__(self, name, value)
        for name in ("orders", "batch_sizes"):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise ValueError(f"{name}={values!r} must be a list of at least one")
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={list(values)} must be different from one another")
            object.__setattr__(self, name, tuple(values))
        sizes = tuple(whole_number("batch_sizes", size, 1) for size in self.batch_sizes)
        object.__setattr__(self, "batch_sizes", tuple(sorted(sizes)))
        if len(self.conditions) < 3:
            raise ValueError(
                f"orders={list(self.orders)} and batch_sizes={list(sizes)} give {len(self.conditions)} conditions: at "
                "least 3 are needed to see whether one thing rises with another"
            )
        for name in self.orders:
            if name != "persistent":
                BatchOrder.parsed(name)

    @property
    def conditions(self) -> tuple[tuple[str, int], ...]:
        """(order, batch size) of each, in the order in which they are trained."""
        return tuple((order, size) for order in self.orders for size in self.batch_sizes)

    def order(self, name: str, samples: int, batch_size: int) -> BatchOrder:
        """The order that a name of ``orders`` means for batches of some size.

        Raises:
            ValueError: if persistent batches can't be as short-lived as that.
        """
        if name != "persistent":
            return BatchOrder.parsed(name)
        fraction = batch_size / samples
        if not fraction < 1:
            raise ValueError(f"batch_size={batch_size} of {samples} samples leaves none out: lower batch_sizes")
        return BatchOrder("persistent", entry_probability=fraction / (1 - fraction) / self.stay)

    @property
    def epochs(self) -> tuple[int, ...]:
        """At which is measured."""
        return (*range(0, self.training.epochs, self.measure_every), self.training.epochs)

    @property
    def lags(self) -> tuple[int, ...]:
        """Of the temperatures that are kept, from 1 to L - 2: about equally far apart on a logarithmic axis."""
        spaced = np.unique(np.geomspace(1, self.window - 2, 16).round().astype(int))
        return tuple(spaced.tolist())

    @property
    def members(self) -> range:
        """The seeds."""
        return range(self.training.first_member, self.training.first_member + self.training.members)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "training"}
        return json.loads(json.dumps({"training": self.training.to_dict(), **values}))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The experiment with these fields, such as those of a preset; those left out have their defaults.

        Raises:
            ValueError: for an unknown field, or a value out of range.
        """
        known = [each.name for each in dataclasses.fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ValueError(f"unknown field {', '.join(map(repr, unknown))}; the experiment has {', '.join(known)}")
        chosen = dict(values)
        if isinstance(chosen.get("training"), Mapping):
            chosen["training"] = TrainingConfig.from_dict(_quick_training().to_dict() | dict(chosen["training"]))
        return cls(**chosen)


@dataclass(frozen=True, eq=False)
class ConditionResult:
    """What one order of batches of one size did, seed by seed (n seeds).

    Attributes:
        order: name of the order, as in the config.
        batch_size: S.
        curves: each of ``MEASURED``, (n, epochs).
        rest: the same after the descent without noise, (n,) each.
        temperature: T(n) at the lags, mean over directions, (n, lags) [loss].
        predicted_temperature: of linear theory with the noise and the Hessian at the weights of the runs, likewise.
        slope: ``TEMPERATURES``, means over directions, (n, 2) [loss].
        predicted_slope: likewise.
        response: X over that of theory at the longest lag, geometric mean over directions, (n,).
        linearity: X in the whole field over X in half of it, at the longest lag, mean over directions, (n,).
        drift: median over directions of ``Heat.drift``, (n,).
    """

    order: str
    batch_size: int
    curves: Mapping[str, Floats]
    rest: Mapping[str, Floats]
    temperature: Floats
    predicted_temperature: Floats
    slope: Floats
    predicted_slope: Floats
    response: Floats
    linearity: Floats
    drift: Floats


@dataclass(frozen=True)
class Finding:
    """A number of the real networks, and whether it is shown.

    Attributes:
        question: its group.
        quantity: in words.
        estimate: mean over seeds.
        comparison: with zero, corrected for all findings of the study (Holm, 1 %). Its p-value is the larger one of
            Student's over seeds and of random orders of the conditions, one for each seed.
    """

    question: str
    quantity: str
    estimate: Estimate
    comparison: Comparison

    @property
    def shown(self) -> bool:
        """Whether it is different from zero, at a family-wise error rate of 1 %."""
        return self.comparison.verdict == "disagrees"


@dataclass(frozen=True, eq=False)
class EffectiveTemperature:
    """The result.

    Attributes:
        config: with device and check sum of the data filled in.
        directory: of the run.
        weights: d, of the network.
        samples: N.
        conditions: one for each order and batch size.
        stops: (conditions, seeds) of each of ``STOPS``, for both widths: nan where a network did not get there.
        findings: answers to the questions, with verdicts that hold together.
        comparisons: with linear theory, whose verdicts hold together.
        tolerance: model error that theory is granted, as a fraction.
    """

    config: EffectiveTemperatureConfig
    directory: Path
    weights: int
    samples: int
    conditions: tuple[ConditionResult, ...]
    stops: Mapping[tuple[str, str], Floats]
    findings: tuple[Finding, ...]
    comparisons: tuple[Comparison, ...]
    tolerance: float

    @property
    def all_agree(self) -> bool:
        """Whether no comparison with theory disagrees."""
        return all(each.verdict != "disagrees" for each in self.comparisons)


# ---- When one stops --------------------------------------------------------------------------------------------------


def widths_when_stopped(
    conditions: Sequence[ConditionResult], epochs: Sequence[int], early: int
) -> dict[tuple[str, str], Floats]:
    """Both widths of all conditions and seeds, at each of ``STOPS``.

    Equal loss is, for each seed, the lowest that all of its conditions have come to in training; between measurements
    widths go in a straight line with the logarithm of the loss. Zero error is the first measurement at which both
    replicas are right about all training points.

    Args:
        conditions: with the same seeds.
        epochs: at which they were measured.
        early: epoch of the early comparison.

    Returns:
        (stop, width) -> (conditions, seeds); nan where a network did not get there.
    """
    loss = np.log(np.stack([each.curves["train_loss"] for each in conditions]))
    error = np.stack([each.curves["train_error"] for each in conditions])
    level = loss.min(axis=2).max(axis=0)  # of each seed
    first = int(np.searchsorted(epochs, early))
    found = {}
    for name in WIDTHS:
        curve = np.stack([each.curves[name] for each in conditions])
        found["early", name], found["late", name] = curve[:, :, first], curve[:, :, -1]
        found["at_rest", name] = np.stack([each.rest[name] for each in conditions])
        at_level, at_zero = np.full((2, *curve.shape[:2]), np.nan)
        for place in np.ndindex(*curve.shape[:2]):
            after = int(np.argmax(loss[place] <= level[place[1]]))
            at_level[place] = curve[place][after]
            if after:
                share = (loss[place][after - 1] - level[place[1]]) / (loss[place][after - 1] - loss[place][after])
                at_level[place] = (1 - share) * curve[place][after - 1] + share * curve[place][after]
            right = np.flatnonzero(error[place] == 0)
            if len(right):
                at_zero[place] = curve[place][right[0]]
        found["equal_loss", name], found["zero_error", name] = at_level, at_zero
    return found


# ---- What is tested --------------------------------------------------------------------------------------------------


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Spearman's, over the places where both are numbers; 0 if one is constant, None for fewer than two places.

    Example:
        >>> rank_correlation(np.array([1.0, 5.0, 9.0]), np.array([0.1, 0.2, 4.0]))
        1.0
    """
    from scipy.stats import rankdata

    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 2:
        return None
    x, y = (rankdata(each[both]) for each in (first, second))
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return round(float(x @ y) / size, 12) if size else 0.0


def _over_seeds(values: Sequence[float | None]) -> Estimate | None:
    known = [each for each in values if each is not None]
    return Estimate.from_samples(known) if len(known) >= 2 else None


def _groups(conditions: Sequence[ConditionResult], same: Callable[[ConditionResult], Any]) -> list[list[int]]:
    """Places of conditions that have something in common."""
    groups: dict[Any, list[int]] = {}
    for place, each in enumerate(conditions):
        groups.setdefault(same(each), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def findings_of(conditions: Sequence[ConditionResult], stops: Mapping[tuple[str, str], Floats]) -> tuple[Finding, ...]:
    """Rank correlations over conditions, seed by seed, against none at all.

    Args:
        conditions: with the same seeds.
        stops: of ``widths_when_stopped``.

    Returns:
        Findings; those for which fewer than two seeds have networks that got there are left out.
    """
    heat = np.stack([each.slope[:, TEMPERATURES.index("slow")] for each in conditions])
    seeds = range(heat.shape[1])
    everything = list(range(len(conditions)))
    cases = {
        "all conditions": [everything],
        "over orders, at equal batch size": _groups(conditions, lambda each: each.batch_size),
        "over batch sizes, in equal order": _groups(conditions, lambda each: each.order),
    }

    def chance(groups: list[list[int]]) -> float:
        """Standard deviation of the mean correlation if each seed had its values in random order."""
        return math.sqrt(sum(1 / (len(group) - 1) for group in groups)) / len(groups) / math.sqrt(len(seeds))

    def correlation(values: Floats, groups: list[list[int]]) -> Estimate | None:
        of_seeds = []
        for seed in seeds:
            each = [rank_correlation(heat[group, seed], values[group, seed]) for group in groups]
            known = [one for one in each if one is not None]
            of_seeds.append(float(np.mean(known)) if known else None)
        return _over_seeds(of_seeds)

    found: list[tuple[str, str, Estimate]] = []
    random: list[float] = []
    for name, words in (("distance", "distance of weights"), ("disagreement", "share of different predictions")):
        values = np.stack([each.curves[name][:, -1] for each in conditions])
        for case, groups in cases.items():
            if groups and (estimate := correlation(values, groups)) is not None:
                found.append(("replicas", f"{words}, {case}", estimate))
                random.append(chance(groups))
    for name in WIDTHS:
        for stop in STOPS:
            if (estimate := correlation(stops[stop, name], [everything])) is not None:
                found.append((name, stop, estimate))
                random.append(chance([everything]))
    nothing = Estimate(0.0, 0.0, 1)
    compared = []
    for (question, quantity, measured), spread in zip(found, random, strict=True):
        plain = compare(f"{question}: {quantity}", nothing, measured)
        # A few seeds that are all alike have no error, and a correlation of two conditions is 1 or -1 by chance.
        by_chance = math.erfc(abs(measured.value) / spread / math.sqrt(2))
        compared.append(dataclasses.replace(plain, p_value=max(plain.p_value, by_chance)))
    return tuple(Finding(*each, comparison) for each, comparison in zip(found, holm(compared), strict=True))


def theory_comparisons(
    conditions: Sequence[ConditionResult], tolerance: float, *, stationary: float = 0.1
) -> tuple[Comparison, ...]:
    """Measured over predicted, against one: slow temperature, response, and the whole field against half of it.

    Args:
        conditions: with the same seeds.
        tolerance: model error that is granted.
        stationary: median drift beyond which a condition is outside the regime of the theory.

    Returns:
        Comparisons whose verdicts hold together at 1 %.
    """
    compared = []
    one = Estimate(1.0, 0.0, 1)
    slow = TEMPERATURES.index("slow")
    for each in conditions:
        drift = float(np.mean(each.drift))
        reasons = [f"still on its way: the runs drift together by {drift:.2g}"] if drift > stationary else []
        for name, values, about_theory in (
            ("temperature", each.slope[:, slow] / each.predicted_slope[:, slow], True),
            ("response", each.response, True),
            ("linearity", each.linearity, False),
        ):
            label = f"{name}, {each.order}, S={each.batch_size}"
            why = reasons if about_theory else []
            compared.append(compare(label, one, Estimate.from_samples(values), margin=tolerance, reasons=why))
    return tuple(holm(compared))
