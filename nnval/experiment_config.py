"""What the configs of all experiments have in common: a training, and plain JSON there and back."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nnval.engine.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A config with a training. Where a subclass gives that a default, the training of a preset is completed with it.

    Attributes:
        training: network, data and seeds.
    """

    training: TrainingConfig

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "training"}
        plain = {name: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for name, v in values.items()}  # pyright: ignore[reportArgumentType] -- no field is a class
        return json.loads(json.dumps({"training": self.training.to_dict(), **plain}))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The experiment with these fields, such as those of a preset; those left out have their defaults.

        Raises:
            ValueError: for an unknown or missing field, or a value out of range.
        """
        known = {each.name: each for each in dataclasses.fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise ValueError(f"unknown field {', '.join(map(repr, unknown))}; the experiment has {', '.join(known)}")
        nothing = dataclasses.MISSING
        needed = [name for name, each in known.items() if each.default is nothing and each.default_factory is nothing]
        if missing := [name for name in needed if name not in values]:
            raise ValueError(f"missing field {', '.join(map(repr, missing))}")
        given = values.get("training", {})
        if not isinstance(given, Mapping):
            raise ValueError(f"training={given!r} must be a table")
        default = known["training"].default_factory
        usual = {} if default is nothing else default().to_dict()
        return cls(**{**values, "training": TrainingConfig.from_dict({**usual, **given})})
