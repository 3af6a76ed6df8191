"""What an experiment on the variance of weights trains and measures."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnval.engine.schedules import learning_rate_at
from nnval.experiment_config import ExperimentConfig
from nnval.measure.batch_orders import BatchOrder
from nnval.measure.fluctuations import LEAST_RUNS
from nnval.measure.recording_files import LEAST_EPOCHS, RecordingConfig
from theory.absorbing import whole_number
from theory.noise_arguments import number
from theory.recording_window import DRIFTS


def _listed(name: str, values: Any) -> Sequence[Any]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name}={values!r} must be a list")
    return values


@dataclass(frozen=True, kw_only=True)
class VarianceConfig(ExperimentConfig):
    """What is trained and measured.

    Attributes:
        training: of the network: plain SGD without Nesterov's step, augmentation or reduced precision. It has one
            member; ``target``, ``perturbation``, ``snapshots`` and ``execution="auto"`` are set here.
        orders: of the batches that are recorded, as ``BatchOrder.parsed`` reads them.
        learning_rate: frozen; None: that of the last epoch of training.
        momentum: while settling and recording; None: that of training.
        batch_size: likewise.
        settle: epochs between training and the weights where the Hessian is taken, at least 20.
        burn_in: epochs of each run before its recording.
        epochs: that are recorded, at least 20.
        runs: for each order, at least 4; with 16 or more errors are those of independent runs.
        directions: how many of the largest curvatures.
        near: curvatures around which more directions are taken.
        near_directions: how many, around each.
        drift: what is subtracted from the weights of a run, ``"mean"`` or ``"line"``.
        full_gradients: of each run in each recorded epoch, from which curvatures in motion come
            (nnval.measure.restoring_force); 0: none. Each costs what an epoch does.
        hessian_dtype: ``"float64"`` or ``"float32"``, of the Hessian and its eigenvectors.
        seed: of the orders of batches while settling and recording.

    Raises:
        ValueError: if a value is out of its range, or theory does not cover it.

    Example:
        >>> from nnval.engine.config import TrainingConfig
        >>> VarianceConfig(training=TrainingConfig(label_noise=0.0, members=1, learning_rate=0.05)).frozen_rate
        0.05
    """

    orders: Sequence[str] = ("reshuffled", "with_replacement")
    learning_rate: float | None = None
    momentum: float | None = None
    batch_size: int | None = None
    settle: int = LEAST_EPOCHS
    burn_in: int = 10
    epochs: int = LEAST_EPOCHS
    runs: int = 16
    directions: int = 40
    near: Sequence[float] = ()
    near_directions: int = 10
    drift: str = "mean"
    full_gradients: int = 0
    hessian_dtype: str = "float64"
    seed: int = 0

    def __post_init__(self) -> None:
        training = self.training
        if training.optimizer != "sgd" or training.nesterov:
            raise ValueError(
                f"optimizer={training.optimizer!r}, nesterov={training.nesterov}: theory is about plain SGD"
            )
        if training.augmentation != "none":
            raise ValueError(
                f"augmentation={training.augmentation!r} must be 'none': with random images the mean loss is random, "
                "and the noise of an epoch does not sum to zero"
            )
        if training.precision != "float32":
            raise ValueError(f"precision={training.precision!r} must be 'float32': rounding is no noise of batches")
        plain = {"members": 1, "target": None, "perturbation": None, "interval": None, "snapshots": (training.epochs,)}
        if training.execution == "auto":  # which measures speed, so that rounding would differ from run to run
            plain["execution"] = "loop"
        object.__setattr__(self, "training", dataclasses.replace(training, **plain))
        if isinstance(self.orders, str) or not all(isinstance(order, str) for order in _listed("orders", self.orders)):
            raise ValueError(f"orders={self.orders!r} must be a list of names, such as ['reshuffled']")
        orders = tuple(BatchOrder.parsed(order).label for order in self.orders)
        if not orders or len(set(orders)) < len(orders):
            raise ValueError(f"orders={list(self.orders)} must be different ones, at least one")
        object.__setattr__(self, "orders", orders)
        near = tuple(number("near", value) for value in _listed("near", self.near))
        if not all(map(math.isfinite, near)):
            raise ValueError(f"near={list(near)} must be finite curvatures")
        object.__setattr__(self, "near", near)
        for name, least in (("settle", LEAST_EPOCHS), ("runs", LEAST_RUNS), ("directions", 1), ("near_directions", 1)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.drift not in DRIFTS:
            raise ValueError(f"drift={self.drift!r} must be one of {', '.join(DRIFTS)}")
        if self.hessian_dtype not in ("float32", "float64"):
            raise ValueError(f"hessian_dtype={self.hessian_dtype!r} must be 'float32' or 'float64'")
        for order in orders:
            self.recording(order)  # refuses what is out of range

    @property
    def frozen_rate(self) -> float:
        """The learning rate while settling and recording."""
        if self.learning_rate is not None:
            return self.learning_rate
        return learning_rate_at(self.training, self.training.epochs)

    def recording(self, order: str) -> RecordingConfig:
        """What is recorded of an order."""
        training = self.training
        return RecordingConfig(
            order=BatchOrder.parsed(order),
            batch_size=training.batch_size if self.batch_size is None else self.batch_size,
            learning_rate=self.frozen_rate,
            momentum=training.momentum if self.momentum is None else self.momentum,
            weight_decay=training.weight_decay,
            burn_in=self.burn_in,
            epochs=self.epochs,
            runs=self.runs,
            seed=self.seed,
            full_gradients=self.full_gradients,
        )
