"""What the configs of the experiments have in common that compare networks seed by seed."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nnval.engine.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class PairedConfig:
    """A config with a training. Subclasses give that a default, with which the training of a preset is completed.

    Attributes:
        training: network, data and seeds.
    """

    training: TrainingConfig

    @property
    def members(self) -> range:
        """The seeds."""
        return range(self.training.first_member, self.training.first_member + self.training.members)

    def check_training(self, plain: Mapping[str, Any], reason: str) -> None:
        """Refuse trainings that an experiment can't have.

        Args:
            plain: fields, and the value that each must have.
            reason: for the message.

        Raises:
            ValueError: for another value, or a single seed.
        """
        for name, allowed in plain.items():
            value = getattr(self.training, name)
            if value != allowed:
                raise ValueError(f"{name}={value!r} must be {allowed!r} here: {reason}")
        if self.training.members < 2:
            raise ValueError("members must be >= 2: one network of each kind has no standard error")

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "training"}
        plain = {name: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for name, v in values.items()}  # pyright: ignore[reportArgumentType] -- no field is a class
        return json.loads(json.dumps({"training": self.training.to_dict(), **plain}))

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
        if "training" in chosen:
            given = chosen["training"]
            if not isinstance(given, Mapping):
                raise ValueError(f"training={given!r} must be a table")
            (default,) = (each.default_factory for each in dataclasses.fields(cls) if each.name == "training")
            assert default is not dataclasses.MISSING
            chosen["training"] = TrainingConfig.from_dict(default().to_dict() | dict(given))
        return cls(**chosen)
