"""What the configs of the experiments have in common that compare networks seed by seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnval.experiment_config import ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class PairedConfig(ExperimentConfig):
    """A config with a training of at least two seeds, to which subclasses give a default."""

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
