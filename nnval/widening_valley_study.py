"""What the experiment of nnval.widening_valley is made of: its config and its results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnval.drop_in.anti_pgd import DISTRIBUTIONS
from nnval.engine.config import TrainingConfig
from nnval.noisy_descent import METHODS
from nnval.paired_config import PairedConfig
from nnval.paired_differences import PairedDifference, paired_differences
from theory.absorbing import Floats, whole_number
from theory.estimate import Estimate
from theory.noise_arguments import checked_scale

PAIRS = (
    ("anti_pgd", "pgd"),
    ("reshuffled", "with_replacement"),
    ("anti_pgd", "reshuffled"),
    ("pgd", "with_replacement"),
)
"""Methods that are compared: anti-correlated against white noise, then injected noise against that of batches."""

PLAIN: dict[str, Any] = {
    "optimizer": "sgd",
    "nesterov": False,
    "schedule": "constant",
    "augmentation": "none",
    "perturbation": None,
    "interval": None,
    "target": None,
    "snapshots": (),
    "precision": "float32",
    "channels_last": False,
    "compiled": False,
    "execution": "auto",
    "stack_size": None,
}
"""Fields of a training that must be so: nothing but the noise may differ between methods, or change in time."""


def _quick_training() -> TrainingConfig:
    return TrainingConfig(
        data="digits",
        train_size=500,
        label_noise=0.2,
        hidden=(32,),
        learning_rate=0.1,
        batch_size=20,
        epochs=60,
        members=8,
    )


@dataclass(frozen=True, kw_only=True)
class WideningValleyConfig(PairedConfig):
    """What is trained and measured.

    Attributes:
        training: network, data, learning rate, momentum, weight decay, batch size, epochs and seeds: member k has the
            initial weights of member k of ``jostle train``, and its own split of the data (``data_seed`` + k), in which
            all methods share. Other fields must be as in ``PLAIN``.
        noise_scale: standard deviation of each weight's injected noise xi, > 0 [weight].
        distribution: of xi, ``"gaussian"`` or ``"rademacher"``.
        methods: those that are trained, of ``noisy_descent.METHODS``.
        measure_every: epochs between measurements; the first is before, the last after training.
        probes: random vectors for each trace, >= 2.

    Raises:
        ValueError: if a value is out of its range.

    Example:
        >>> WideningValleyConfig(measure_every=30).epochs
        (0, 30, 60)
    """

    training: TrainingConfig = field(default_factory=_quick_training)
    noise_scale: float = 0.05
    distribution: str = "gaussian"
    methods: Sequence[str] = METHODS
    measure_every: int = 20
    probes: int = 64

    def __post_init__(self) -> None:
        self.check_training(PLAIN, "methods may differ by their noise only, and nothing may change in time")
        object.__setattr__(self, "noise_scale", checked_scale("noise_scale", self.noise_scale))
        if not self.noise_scale:
            raise ValueError("noise_scale=0 must be > 0: without noise PGD and Anti-PGD are the same")
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution={self.distribution!r} must be one of {', '.join(DISTRIBUTIONS)}")
        given = self.methods if isinstance(self.methods, list | tuple) else ()
        chosen = tuple(method for method in METHODS if method in given)
        if len(chosen) < 2 or not all(method in METHODS for method in given):
            raise ValueError(f"methods={self.methods!r} must be two or more of {', '.join(METHODS)}")
        object.__setattr__(self, "methods", chosen)
        every = whole_number("measure_every", self.measure_every, 1)
        if every > self.training.epochs:
            raise ValueError(f"measure_every={every} must be at most epochs={self.training.epochs}")
        object.__setattr__(self, "measure_every", every)
        object.__setattr__(self, "probes", whole_number("probes", self.probes, 2))

    @property
    def epochs(self) -> tuple[int, ...]:
        """At which is measured."""
        return (*range(0, self.training.epochs, self.measure_every), self.training.epochs)


@dataclass(frozen=True, eq=False)
class MethodCurves:
    """What one method did, seed by seed.

    A trace is that of a minimum only where the training loss is low: read them beside each other. White noise that is
    too strong to train with also leads to small traces.

    Attributes:
        method: its name.
        trace: Tr H of the mean training loss, without weight decay, shape (seeds, epochs); of the weights without
            the noise, for Anti-PGD [loss / weight^2].
        probe_error: its standard error from the random probes, which all methods share, likewise.
        train_loss: mean over the training samples at the same weights, likewise.
        test_accuracy: in [0, 1], likewise.
    """

    method: str
    trace: Floats
    probe_error: Floats
    train_loss: Floats
    test_accuracy: Floats

    def estimates(self, quantity: str) -> tuple[Estimate, ...]:
        """The mean over seeds at each epoch, of ``"trace"``, ``"train_loss"`` or ``"test_accuracy"``."""
        return Estimate.from_columns(getattr(self, quantity))


@dataclass(frozen=True, eq=False)
class WideningValley:
    """The result.

    Attributes:
        config: with device and check sum of the data filled in.
        directory: of the run.
        weights: d, of the network.
        epochs: at which was measured.
        curves: one for each method.
        differences: at the last epoch, for all of ``PAIRS`` that were trained.

    Example:
        >>> import tempfile
        >>> from nnval.widening_valley import run_widening_valley
        >>> training = TrainingConfig(train_size=40, hidden=(4,), epochs=2, members=2)
        >>> config = WideningValleyConfig(training=training, methods=["pgd", "anti_pgd"], measure_every=1, probes=2)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     result = run_widening_valley(config, directory)
        >>> result.epochs, result.of("pgd").trace.shape
        ((0, 1, 2), (2, 3))
    """

    config: WideningValleyConfig
    directory: Path
    weights: int
    epochs: tuple[int, ...]
    curves: tuple[MethodCurves, ...]
    differences: tuple[PairedDifference, ...]

    def of(self, method: str) -> MethodCurves:
        """The curves of a method.

        Raises:
            ValueError: if it was not trained.
        """
        for curves in self.curves:
            if curves.method == method:
                return curves
        raise ValueError(f"method={method!r} must be one of {', '.join(each.method for each in self.curves)}")


def end_differences(curves: Sequence[MethodCurves]) -> tuple[PairedDifference, ...]:
    """All differences at the last epoch, with verdicts that hold together.

    Args:
        curves: of methods whose seeds are the same, in the same order; at least two seeds.

    Returns:
        Those of ``PAIRS`` that are there, for the trace, the training loss and the test accuracy.
    """
    by_name = {each.method: each for each in curves}
    pairs = [pair for pair in PAIRS if set(pair) <= by_name.keys()]
    return paired_differences(
        (quantity, *pair, *(getattr(by_name[name], quantity)[:, -1] for name in pair))
        for quantity in ("trace", "train_loss", "test_accuracy")
        for pair in pairs
    )
