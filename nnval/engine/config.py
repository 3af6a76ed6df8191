"""What is trained and how: one frozen, validated record per ensemble, with a fingerprint of what affects numbers."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine", "sgdr", "one_cycle")
AUGMENTATIONS = ("none", "crop_flip")
PRECISIONS = ("float32", "bfloat16", "float16")
EXECUTIONS = ("auto", "stacked", "loop")
VALIDATION_SOURCES = ("train", "test")

WITHOUT_EFFECT = ("data_dir", "members", "first_member")
"""Fields that affect nobody's numbers: where the files of a data set lie, and how many members there are."""


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
        data: name of the data set, see ``datasets.DATASETS``; ``"image_folder"`` is any folder or tar archive.
        data_dir: where its files lie; the embedded ``digits`` need none. Not part of the fingerprint.
        data_sha256: of the decoded images and labels; None: whatever is there, which is filled in when training begins.
        train_size: training samples; None: all that are not validation samples.
        validation_size: validation samples, which decide when a target is reached.
        validation_from: ``"train"``: the training images of a data set that comes with test images, which then report;
            ``"test"``: its test images, of which the others report, or the same if there are no others. It makes no
            difference for data that comes in one piece: what neither trains nor decides reports.
        label_noise: fraction of the *training* labels that are replaced by another label, uniformly, in [0, 1].
        data_seed: seed of the splits and the label noise; shared by all members.
        augmentation: of training images, ``"none"`` or ``"crop_flip"``: shifted by up to four pixels, zeros outside,
            and mirrored every other time.
        model: name of the network, see ``models.MODELS``, or ``"package.module:function"`` for one's own.
        hidden: widths of the hidden layers of ``mlp``; other models ignore them.
        initialisation: scheme of ``nnval.drop_in.initialisation``.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``, as torch has them.
        learning_rate: the highest of the schedule, > 0.
        momentum: of SGD, in [0, 1); 0 has no velocity.
        nesterov: whether SGD looks ahead; needs momentum.
        betas: of Adam and AdamW, each in [0, 1).
        weight_decay: >= 0; added to the gradient as ``weight_decay * weight``, for AdamW taken from the weights.
        schedule: of the learning rate, counted from the last restart of the schedule: ``"constant"``; ``"step"``:
            multiplied by ``decay`` after the epochs in ``milestones``; ``"cosine"``: down to 0 over ``epochs`` epochs;
            ``"sgdr"``: cosines of ``cycle_epochs`` epochs, each ``cycle_growth`` times longer than the one before;
            ``"one_cycle"``: up for a fraction ``warm_up`` of all steps, then down. The last changes from step to step,
            the others from epoch to epoch.
        milestones: epochs, ascending.
        decay: in (0, 1].
        cycle_epochs: >= 1; needed for ``"sgdr"``.
        cycle_growth: >= 1.
        warm_up: in (0, 1).
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
        device: of torch, such as ``"cpu"`` or ``"cuda"``; ``"auto"``: a GPU if there is one, which is filled in when
            training begins.
        precision: of matrix products and convolutions (autocast); weights and optimizer stay in float32. No loss
            scaling.
        channels_last: memory format of images and convolutions.
        compiled: whether networks go through torch.compile.
        deterministic: whether torch must refuse algorithms whose result varies from call to call, as some on GPUs do.

    Raises:
        ValueError: if a value is out of its range.

    Example:
        >>> TrainingConfig(learning_rate=.05).learning_rate
        0.05
    """

    data: str = "digits"
    data_dir: str | None = None
    data_sha256: str | None = None
    train_size: int | None = 500
    validation_size: int = 400
    validation_from: str = "train"
    label_noise: float = 0.2
    data_seed: int = 0
    augmentation: str = "none"
    model: str = "mlp"
    hidden: tuple[int, ...] = (32, 32)
    initialisation: str = "torch_default"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    cycle_epochs: int | None = None
    cycle_growth: int = 1
    warm_up: float = 0.3
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
    precision: str = "float32"
    channels_last: bool = False
    compiled: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name in ("data", "model", "initialisation", "stream", "device"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name}={value!r} must be a name, a string that is not empty")
        if self.data_dir is not None:
            self._set(data_dir=str(self.data_dir))  # a Path is welcome, JSON wants text
        for name in ("hidden", "snapshots", "milestones", "betas"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ValueError(f"{name}={value!r} must be a list of numbers")
            self._set(**{name: tuple(value)})
        self._check_choices()
        self._check_sizes()
        self._check_optimizer()
        self._check_schedule()
        self._check_perturbation()

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_choices(self) -> None:
        for name, allowed in (
            ("validation_from", VALIDATION_SOURCES),
            ("augmentation", AUGMENTATIONS),
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("execution", EXECUTIONS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}")
        for name in ("nesterov", "channels_last", "compiled", "deterministic"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r} must be true or false")
        digest = self.data_sha256
        if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise ValueError(f"data_sha256={digest!r} must be 64 hexadecimal digits, or None for whatever is there")

    def _check_sizes(self) -> None:
        if self.train_size is not None:
            _whole("train_size", self.train_size, 1, "training samples; None takes all")
        _whole("validation_size", self.validation_size, 1, "validation samples decide when a target is reached")
        _whole("batch_size", self.batch_size, 1, "samples in a batch")
        if self.train_size is not None and self.batch_size > self.train_size:
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

    def _check_optimizer(self) -> None:
        checks = (
            ("label_noise", lambda x: 0 <= x <= 1, "in [0, 1]", "the fraction of training labels that are wrong"),
            ("learning_rate", lambda x: x > 0, "> 0", "the step along the gradient of the mean loss"),
            ("momentum", lambda x: 0 <= x < 1, "in [0, 1)", "0 is SGD without memory"),
            ("weight_decay", lambda x: x >= 0, ">= 0", "0 is none"),
            ("decay", lambda x: 0 < x <= 1, "in (0, 1]", "the factor of a step of the schedule"),
            ("warm_up", lambda x: 0 < x < 1, "in (0, 1)", "the fraction of a one_cycle schedule that goes up"),
        )
        if self.target is not None:
            checks += (("target", lambda x: 0 < x <= 1, "in (0, 1]", "a validation accuracy; None trains on"),)
        for name, holds, allowed, meaning in checks:
            value = getattr(self, name)
            _number(name, value, allowed, _is_number(value) and holds(value), meaning)
            self._set(**{name: float(value)})  # 1 and 1.0 are the same training, so they need the same JSON
        if len(self.betas) != 2 or not all(_is_number(beta) and 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={list(self.betas)} must be two numbers in [0, 1): the memories of Adam")
        self._set(betas=tuple(float(beta) for beta in self.betas))
        if self.optimizer != "sgd" and self.momentum:
            raise ValueError(f"momentum={self.momentum} belongs to optimizer='sgd'; {self.optimizer} has betas")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs momentum > 0: it looks ahead along the velocity")

    def _check_schedule(self) -> None:
        for epoch in self.milestones:
            _whole("milestones", epoch, 1, "epochs after which the learning rate falls")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones={list(self.milestones)} must be ascending")
        _whole("cycle_growth", self.cycle_growth, 1, "how much longer each cycle is than the one before")
        if self.cycle_epochs is not None:
            _whole("cycle_epochs", self.cycle_epochs, 1, "epochs in the first cycle")
        for schedule, name, missing in (
            ("step", "milestones", not self.milestones),
            ("sgdr", "cycle_epochs", self.cycle_epochs is None),
        ):
            if self.schedule == schedule and missing:
                raise ValueError(f"schedule={schedule!r} needs {name}")

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
