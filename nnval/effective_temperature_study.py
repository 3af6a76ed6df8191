"""What the experiment of nnval.effective_temperature is made of: its config and its results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnval.engine.config import TrainingConfig
from nnval.measure.batch_orders import ORDERS, BatchOrder
from nnval.paired_config import PairedConfig
from nnval.widening_valley_study import PLAIN
from theory.absorbing import Floats, whole_number
from theory.estimate import Comparison, Estimate
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
class EffectiveTemperatureConfig(PairedConfig):
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

    Example:
        >>> config = EffectiveTemperatureConfig(orders=["reshuffled", "with_replacement"], batch_sizes=[20, 80])
        >>> config.conditions
        (('reshuffled', 20), ('reshuffled', 80), ('with_replacement', 20), ('with_replacement', 80))
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
        self.check_training(PLAIN, "conditions may differ by their noise only, and nothing may change in time")
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


_HEAT = ("temperature", "predicted_temperature", "slope", "predicted_slope", "response", "linearity", "drift")


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
        unanswered: directions without the response of a minimum, or steeper than is stable, which the means leave
            out, (n,). Where none is left, temperatures, slopes, response and linearity are nan.
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
    unanswered: npt.NDArray[np.int_]

    @classmethod
    def of_records(cls, order: str, batch_size: int, records: Sequence[Mapping[str, Any]]) -> "ConditionResult":
        """What the networks of all seeds have left on disk."""

        def column(name: str) -> Any:
            return np.array([record[name] for record in records], dtype=float)

        return cls(
            order,
            batch_size,
            curves={name: column(name) for name in MEASURED},
            rest={name: np.array([record["rest"][name] for record in records]) for name in MEASURED},
            **{name: column(name) for name in _HEAT},
            unanswered=np.array([record.get("unanswered", 0) for record in records]),
        )

    @property
    def responds(self) -> npt.NDArray[np.bool_]:
        """Which seeds have a direction with the response of a minimum, and so a temperature, (n,)."""
        return np.isfinite(self.response)

    @property
    def is_known(self) -> bool:
        """Whether two seeds at least have a temperature."""
        return int(self.responds.sum()) >= 2


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

    Example:
        >>> from theory.estimate import compare
        >>> agrees = compare("temperature", Estimate(1.0, 0.0, 1), Estimate(1.01, 0.02, 6))
        >>> EffectiveTemperature(
        ...     EffectiveTemperatureConfig(), Path("runs/hot"), 2410, 400, (), {}, (), (agrees,), tolerance=0.1
        ... ).all_agree
        True
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
