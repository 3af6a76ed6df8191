"""A Krylov basis on disk, saved block by block, so that nothing is written twice.

::

    DIR/problem.json         what is computed; written first, never changed
        rows-0002-00128.pt   of cycle 2: basis vectors from number 128 on, and their columns of the projected operator
        state.pt             the rest, written after the rows that it counts
        eigenpairs.pt        the result; all else is then removed

All files are whole or absent and hold tensors only.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnval.engine.checkpoint import UNREADABLE, loaded
from nnval.engine.run_directory import RunDirectoryError, differing, make_directory, read_json, remove, write_whole

PROBLEM, STATE, RESULT = "problem.json", "state.pt", "eigenpairs.pt"


@dataclass(frozen=True)
class SavedKrylov:
    """What was saved.

    Attributes:
        header: the next block, its coupling, and the counts.
        pieces: rows of the basis with their columns of the projected operator, in order.
    """

    header: dict[str, Any]
    pieces: list[dict[str, torch.Tensor]]


class KrylovFiles:
    """The files of one computation.

    Args:
        directory: created if absent.
        problem: what is computed, as JSON.

    Raises:
        RunDirectoryError: if the directory holds another computation, or something else.
        StorageError: if it cannot be written.
    """

    def __init__(self, directory: Path, problem: dict[str, Any]) -> None:
        self._directory = directory
        make_directory(directory)
        if not (directory / PROBLEM).exists():
            foreign = sorted(entry.name for entry in directory.iterdir() if not entry.name.startswith("."))
            if foreign:
                raise RunDirectoryError(
                    f"{directory} is not empty and holds no eigenpairs (it has {', '.join(foreign[:3])}); choose a new "
                    "directory"
                )
            write_whole(directory / PROBLEM, (json.dumps(problem, indent=2) + "\n").encode())
        there = read_json(directory / PROBLEM)
        if not isinstance(there, dict):
            raise RunDirectoryError(f"{directory / PROBLEM} is damaged; remove {directory} to begin anew")
        lines = differing(there, problem)
        if lines:
            raise RunDirectoryError(
                f"{directory} holds eigenpairs of something else; choose another directory:\n  " + "\n  ".join(lines)
            )

    def save_block(self, krylov: Any, begin: int) -> None:
        """Save the rows from ``begin`` on, and the state after them.

        Raises:
            StorageError: if they cannot be written.
        """
        self._save_rows(krylov, begin, krylov.rows)
        self._save_header(krylov)

    def save_cycle(self, krylov: Any, block: int) -> None:
        """Save a basis that was reduced, and remove the one before.

        Raises:
            StorageError: if that fails.
        """
        step = max(block, 64)
        for begin in range(0, krylov.rows, step):
            self._save_rows(krylov, begin, min(begin + step, krylov.rows))
        self._save_header(krylov)
        for path in self._directory.glob("rows-*.pt"):
            if not path.name.startswith(f"rows-{krylov.cycle:04d}-"):
                remove(path)

    def load(self) -> SavedKrylov | None:
        """What was saved; None if nothing was.

        Raises:
            RunDirectoryError: if a file cannot be read.
        """
        if not (self._directory / STATE).exists():
            return None
        header, pieces, begin = _read(self._directory / STATE), [], 0
        while begin < header["rows"]:
            pieces.append(_read(self._directory / self._rows_name(header["cycle"], begin)))
            begin += len(pieces[-1]["rows"])
        return SavedKrylov(header, pieces)

    def save_result(self, result: dict[str, Any]) -> None:
        """Save what came out and remove the basis.

        Raises:
            StorageError: if that fails.
        """
        _write(self._directory / RESULT, result)
        self._remove_basis()

    def _remove_basis(self) -> None:
        for path in (self._directory / STATE, *self._directory.glob("rows-*.pt")):
            remove(path)

    def result(self) -> dict[str, Any] | None:
        """What came out, if that was saved.

        Raises:
            RunDirectoryError: if the file cannot be read.
        """
        if not (self._directory / RESULT).exists():
            return None
        self._remove_basis()  # a killed process may have had no time for that
        return _read(self._directory / RESULT)

    def _rows_name(self, cycle: int, begin: int) -> str:
        return f"rows-{cycle:04d}-{begin:05d}.pt"

    def _save_rows(self, krylov: Any, begin: int, end: int) -> None:
        columns = torch.from_numpy(krylov.projected[:end, begin:end].copy())
        rows = krylov.basis[begin:end].cpu().clone()  # a view would be saved with the whole basis
        _write(self._directory / self._rows_name(krylov.cycle, begin), {"rows": rows, "columns": columns})

    def _save_header(self, krylov: Any) -> None:
        header = {name: getattr(krylov, name) for name in ("rows", "cycle", "applications", "drawn", "scale")}
        header["following"] = krylov.following.cpu().clone()
        for name in ("coupling", "confirming"):
            header[name] = torch.from_numpy(getattr(krylov, name).copy())
        _write(self._directory / STATE, header)


def _write(path: Path, payload: dict[str, Any]) -> None:
    target = io.BytesIO()
    torch.save(payload, target)
    write_whole(path, target.getvalue())


def _read(path: Path) -> dict[str, Any]:
    try:
        return loaded(path.read_bytes())
    except (*UNREADABLE, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise RunDirectoryError(f"cannot read {path} ({reason}); remove {path.parent} to begin anew") from error
