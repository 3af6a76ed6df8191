"""The state of several members of an ensemble, stacked along the first axis of every tensor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

Tensors = dict[str, torch.Tensor]
Rows = npt.NDArray[np.int64] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MemberView:
    """The state of one member, as views into the stack."""

    parameters: Tensors
    buffers: Tensors
    slots: dict[str, Tensors]


@dataclass
class MemberStack:
    """The state of K members.

    Attributes:
        members: (K,), their ids.
        parameters: name to tensor (K, ...).
        buffers: likewise.
        slots: what the optimizer remembers, see ``Optimizer.slots``: name of the slot to tensors as of ``parameters``.
        steps: how often all members have been updated since their slots were 0.
    """

    members: npt.NDArray[np.int64]
    parameters: Tensors
    buffers: Tensors
    slots: dict[str, Tensors] = field(default_factory=dict)
    steps: int = 0

    @classmethod
    def of(
        cls, members: Sequence[int], states: Sequence[tuple[Tensors, Tensors]], *, slots: Sequence[str] = ()
    ) -> Self:
        """Stacks copies of (parameters, buffers) of each member; slots begin at 0."""

        def stacked(tensors: Sequence[Tensors]) -> Tensors:
            return {name: torch.stack([each[name].detach() for each in tensors]) for name in tensors[0]}

        parameters = stacked([parameters for parameters, _ in states])
        empty = {slot: {name: torch.zeros_like(tensor) for name, tensor in parameters.items()} for slot in slots}
        return cls(np.asarray(members, np.int64), parameters, stacked([buffers for _, buffers in states]), empty)

    def __len__(self) -> int:
        return len(self.members)

    def _map(self, act: Callable[[torch.Tensor], torch.Tensor]) -> tuple[Tensors, Tensors, dict[str, Tensors]]:
        def of(tensors: Tensors) -> Tensors:
            return {name: act(tensor) for name, tensor in tensors.items()}

        return of(self.parameters), of(self.buffers), {slot: of(tensors) for slot, tensors in self.slots.items()}

    def member(self, row: int) -> MemberView:
        """Row ``row``; writing to its tensors writes to the stack."""
        return MemberView(*self._map(lambda tensor: tensor[row]))

    def select(self, rows: Rows) -> Self:
        """A stack of copies of these rows, given by number or as a mask (K,)."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        where = torch.from_numpy(np.asarray(index, np.int64))
        return type(self)(self.members[index], *self._map(lambda tensor: tensor[where.to(tensor.device)]), self.steps)

    def to(self, device: torch.device | str) -> Self:
        """The same stack on a device; shares memory if it is there already."""
        return type(self)(self.members, *self._map(lambda tensor: tensor.to(device)), self.steps)

    def clear_slots(self) -> None:
        """The optimizer forgets, as if it had never made a step."""
        for tensors in self.slots.values():
            for tensor in tensors.values():
                tensor.zero_()
        self.steps = 0

    def finite(self) -> npt.NDArray[np.bool_]:
        """(K,): whether all of a member's weights and buffers are numbers."""
        tensors = (*self.parameters.values(), *self.buffers.values())
        # Put together on the device: each look at a result there would wait for it.
        each = [tensor.unsqueeze(-1).flatten(1).isfinite().all(1) for tensor in tensors]
        return torch.stack(each).all(0).cpu().numpy() if each else np.ones(len(self), bool)
