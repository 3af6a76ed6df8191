"""Everything about an ensemble that is known before its directory is touched, and the choice of how it is computed."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnval.drop_in.perturbations import Perturbation, make_perturbation
from nnval.engine import run_directory as disk
from nnval.engine.branch import Branch, Origin, look_up
from nnval.engine.config import TrainingConfig, fingerprint_of
from nnval.engine.datasets import ImageData, load_data
from nnval.engine.device import resolve_device
from nnval.engine.loop import InitialWeights, TrainingLoop
from nnval.engine.models import build_model
from nnval.engine.stack import Execution, executions, seconds_per_member_step

# A stack gains little beyond 64 members and nothing beyond 256 (benchmarks/ensemble.py). Large networks gain nothing at
# all, and the checkpoint of a block must stay small.
_MOST_MEMBERS_IN_STACK = 256
_MOST_BYTES_IN_STACK = 64 * 2**20


@dataclass(frozen=True)
class Plan:
    """An ensemble that was asked for.

    Attributes:
        config: with what it left open filled in: options of the perturbation, device, check sum of the data, and in a
            branch the members.
        members: ids, in increasing order.
        origin: of a branch.
        data: on the device.
        module: the architecture, on the CPU.
        perturbation: what acts.
        device: where members train.
        ways: how they can be trained, by name.
        description: what ``config.json`` holds.
    """

    config: TrainingConfig
    members: list[int]
    origin: Origin | None
    data: ImageData
    module: nn.Module
    perturbation: Perturbation | None
    device: torch.device
    ways: dict[str, Execution]
    description: dict[str, Any]

    @property
    def children(self) -> list[int] | None:
        """All members of a branch; None from scratch."""
        return None if self.origin is None else self.origin.children

    def loop(self, execution: Execution) -> TrainingLoop:
        """The training loop of this ensemble."""
        return TrainingLoop(self.config, self.data, self.module, execution, self.perturbation, self.device)


def _device_of(config: TrainingConfig, directory: Path) -> str:
    """The device asked for; if that is open, the device of the run that is there: another one would round otherwise."""
    if config.device == "auto" and (directory / disk.CONFIG).is_file():
        return disk.read_description(directory)["config"].get("device", config.device)
    return config.device


def make_plan(config: TrainingConfig, branch: Branch | None, directory: Path, data: ImageData | None = None) -> Plan:
    """Checks what was asked for; nothing is written.

    Args:
        config: what to train.
        branch: where members come from; None for fresh ones.
        directory: of the run, which may be there.
        data: if it is loaded already.

    Raises:
        ValueError: if config, branch and data do not fit together, or this machine cannot compute that.
    """
    perturbation = None if config.perturbation is None else make_perturbation(**config.perturbation)
    if perturbation is not None:
        # With all options spelled out: a default may change, a run may not.
        config = dataclasses.replace(config, perturbation=perturbation.to_dict())
    if branch is None:
        if perturbation is not None and config.interval is None:
            raise ValueError("interval=None needs a branch, where the perturbation acts once; give the interval P >= 1")
        origin, members = None, list(range(config.first_member, config.first_member + config.members))
    else:
        if config.interval is not None:
            raise ValueError(
                f"interval={config.interval} must be None in a branch: the perturbation acts once, at once"
            )
        origin = look_up(branch, config, perturbation)
        members = origin.children
        config = dataclasses.replace(config, members=len(members), first_member=members[0])
    device = resolve_device(_device_of(config, directory))
    data = (load_data(config) if data is None else data).to(device)
    config = dataclasses.replace(config, device=str(device), data_sha256=data.sha256)
    module = build_model(config, data.shape, data.classes)
    InitialWeights(module, config.initialisation, device)(0)  # refuses an unknown scheme before a directory is made
    ways = executions(module, config)
    record = None if origin is None else origin.record
    fingerprint = config.fingerprint()
    description = {
        "schema": disk.SCHEMA,
        "fingerprint": fingerprint if record is None else fingerprint_of({"config": fingerprint, "branch": record}),
        "config": {name: value for name, value in config.to_dict().items() if name not in disk.OF_MEMBERS},
        "branch": record,
    }
    return Plan(config, members, origin, data, module, perturbation, device, ways, description)


def _default_stack_size(plan: Plan) -> int:
    tensors = [*plan.module.parameters(), *plan.module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return max(1, min(_MOST_MEMBERS_IN_STACK, _MOST_BYTES_IN_STACK // size))


def _choose_execution(plan: Plan, stack_size: int) -> dict[str, Any]:
    """What ``execution.json`` holds; measured only if there is a choice."""
    asked, ways = plan.config.execution, plan.ways
    choice: dict[str, Any] = {"execution": asked, "stack_size": stack_size}
    if asked != "auto":
        return choice
    if len(ways) == 1:
        return choice | {"execution": next(iter(ways))}
    data, config = plan.data, plan.config
    stack = plan.loop(ways["loop"]).initial_state(plan.members[: min(64, stack_size)]).stack
    seconds = {name: seconds_per_member_step(way, stack, data.train, config.batch_size) for name, way in ways.items()}
    measured = {name: round(1e6 * value, 1) for name, value in seconds.items()}
    return choice | {"execution": min(seconds, key=seconds.__getitem__), "microseconds_per_member_step": measured}


def choose_execution(plan: Plan, directory: Path) -> None:
    """Writes down how a run is computed, unless it is; another way would give other rounding. The directory is held."""
    if not (directory / disk.EXECUTION).exists():
        choice = _choose_execution(plan, plan.config.stack_size or _default_stack_size(plan))
        disk.write_json(directory / disk.EXECUTION, choice)


def recorded_execution(plan: Plan, directory: Path) -> tuple[Execution, int]:
    """The choice that a run began with, and the largest size of its blocks."""
    choice = disk.read_json(directory / disk.EXECUTION)
    return plan.ways[choice["execution"]], choice["stack_size"]
