"""What is trained and how: one frozen, validated record per ensemble, with a fingerprint of what affects numbers."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

SCHEDULES = ("constant", "cosine")
EXECUTIONS = ("auto", "stacked", "loop")

# Where the files of a data set lie says nothing about what is in them.
WITHOUT_EFFECT = ("data_dir",)


def _whole(name: str, value: Any, lowest: int, meaning: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise ValueError(f"{name}={value!r} must be a whole number >= {lowest}: {meaning}")


def _number(name: str, value: Any, allowed: str, holds: bool, meaning: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r} must be a number {allowed}: {meaning}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def canonical_json(value: Any) -> str:
    """JSON of one spelling only: sorted keys, no spaces, no nan."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One ensemble: members ``first_member`` to ``first_member + members - 1`` of the same training.

    Attributes:
        data: name of the data set, see ``datasets.DATASETS``.
        data_dir: where its files lie; the embedded ``digits`` need none. Not part of the fingerprint.
        train_size: training samples.
        validation_size: validation samples, which decide when a target is reached; the rest is the test split.
        label_noise: fraction of the *training* labels that are replaced by another label, uniformly, in [0, 1].
        data_seed: seed of the splits and the label noise; shared by all members.
        model: name of the network, see ``models.MODELS``.
        hidden: widths of the hidden layers of ``mlp``; other models ignore them.
        initialisation: scheme of ``nnval.drop_in.initialisation``.
        learning_rate: of SGD, at the beginning of the schedule, > 0.
        momentum: of SGD, in [0, 1); 0 has no velocity.
        weight_decay: added to the gradient as ``weight_decay * weight``, >= 0.
        schedule: ``"constant"``, or ``"cosine"``: constant within an epoch, from ``learning_rate`` down to 0 over
            ``epochs`` epochs, counted from the last restart of the schedule.
        batch_size: samples in a batch; the last short batch of an epoch is dropped.
        epochs: the horizon: no member trains longer.
        members: how many.
        first_member: the id of the first; a member's curve depends on its id and not on its companions.
        seed: of all randomness but the data's.
        stream: name of the lane of randomness; two ensembles with different names are independent.
        perturbation: ``{"name": ..., option: value}``, see ``nnval.drop_in.perturbations``; None for none.
        interval: the perturbation acts after the evaluation of epochs P, 2P, ... on members that are not complete.
        target: a member stops at its first epoch with a validation accuracy >= target, in (0, 1]; None trains all to
            the horizon.
        snapshots: epochs, 0 included, after which the whole state of the members still in training is kept.
        stack_size: members that train together and share a checkpoint; None: as many as pays, see ``ensemble``.
        execution: ``"stacked"``, ``"loop"`` (member after member) or ``"auto"``: the faster one, measured at the start.
        device: of torch, such as ``"cpu"`` or ``"cuda"``.

    Raises:
        ValueError: if a value is out of its range.

    Example:
        >>> TrainingConfig(learning_rate=.05).learning_rate
        0.05
    """

    data: str = "digits"
    data_dir: str | None = None
    train_size: int = 500
    validation_size: int = 400
    label_noise: float = 0.2
    data_seed: int = 0
    model: str = "mlp"
    hidden: tuple[int, ...] = (32, 32)
    initialisation: str = "torch_default"
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    batch_size: int = 20
    epochs: int = 150
    members: int = 64
    first_member: int = 0
    seed: int = 0
    stream: str = "unperturbed"
    perturbation: Mapping[str, Any] | None = None
    interval: int | None = None
    target: float | None = None
    snapshots: tuple[int, ...] = ()
    stack_size: int | None = None
    execution: str = "auto"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("data", "model", "initialisation", "stream", "device"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name}={value!r} must be a name, a string that is not empty")
        if self.data_dir is not None:
            self._set(data_dir=str(self.data_dir))  # a Path is welcome, JSON wants text
        for name in ("hidden", "snapshots"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ValueError(f"{name}={value!r} must be a list of whole numbers")
            self._set(**{name: tuple(value)})
        self._check_sizes()
        self._check_optimiser()
        self._check_perturbation()
        for name, allowed in (("schedule", SCHEDULES), ("execution", EXECUTIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}")

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_sizes(self) -> None:
        _whole("train_size", self.train_size, 1, "training samples")
        _whole("validation_size", self.validation_size, 1, "validation samples decide when a target is reached")
        _whole("batch_size", self.batch_size, 1, "samples in a batch")
        if self.batch_size > self.train_size:
            raise ValueError(
                f"batch_size={self.batch_size} must be <= train_size={self.train_size}: an epoch has full batches only"
            )
        _whole("epochs", self.epochs, 1, "the horizon")
        _whole("members", self.members, 1, "networks in the ensemble")
        for name in ("first_member", "seed", "data_seed"):
            _whole(name, getattr(self, name), 0, "it numbers random streams")
        if self.stack_size is not None:
            _whole("stack_size", self.stack_size, 1, "members that train together; None chooses")
        for width in self.hidden:
            _whole("hidden", width, 1, "widths of the hidden layers")
        for epoch in self.snapshots:
            _whole("snapshots", epoch, 0, "epochs whose state is kept")
            if epoch > self.epochs:
                raise ValueError(f"snapshots={epoch} must be <= epochs={self.epochs}: no member trains longer")
        self._set(snapshots=tuple(sorted(set(self.snapshots))))

    def _check_optimiser(self) -> None:
        checks = (
            ("label_noise", lambda x: 0 <= x <= 1, "in [0, 1]", "the fraction of training labels that are wrong"),
            ("learning_rate", lambda x: x > 0, "> 0", "the step along the gradient of the mean loss"),
            ("momentum", lambda x: 0 <= x < 1, "in [0, 1)", "0 is SGD without memory"),
            ("weight_decay", lambda x: x >= 0, ">= 0", "0 is none"),
        )
        if self.target is not None:
            checks += (("target", lambda x: 0 < x <= 1, "in (0, 1]", "a validation accuracy; None trains on"),)
        for name, holds, allowed, meaning in checks:
            value = getattr(self, name)
            _number(name, value, allowed, _is_number(value) and holds(value), meaning)
            self._set(**{name: float(value)})  # 1 and 1.0 are the same training, so they need the same JSON

    def _check_perturbation(self) -> None:
        if self.perturbation is not None:
            if not isinstance(self.perturbation, Mapping) or not isinstance(self.perturbation.get("name"), str):
                raise ValueError(
                    f"perturbation={self.perturbation!r} must be a mapping with a 'name' and the perturbation's options"
                )
            try:
                self._set(perturbation=json.loads(canonical_json(dict(self.perturbation))))
            except (TypeError, ValueError) as error:
                raise ValueError(f"perturbation={self.perturbation!r} must be plain JSON: {error}") from None
        if self.interval is not None:
            _whole("interval", self.interval, 1, "epochs between perturbations")
            if self.perturbation is None:
                raise ValueError(f"interval={self.interval} needs a perturbation that acts; leave it out for none")

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; ``from_dict`` turns them back into an equal config."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.loads(canonical_json(values))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config of these fields; those left out have their defaults.

        Raises:
            ValueError: if a field is unknown or a value out of its range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ValueError(f"unknown field {', '.join(map(repr, unknown))}; a training config has {', '.join(known)}")
        return cls(**values)

    def fingerprint(self) -> str:
        """SHA-256 of all that may affect numbers: ``execution``, ``stack_size`` and ``device`` do so by rounding.

        Example:
            >>> TrainingConfig(seed=1).fingerprint() == TrainingConfig(seed=1, data_dir="elsewhere").fingerprint()
            True
        """
        return fingerprint_of({name: value for name, value in self.to_dict().items() if name not in WITHOUT_EFFECT})
