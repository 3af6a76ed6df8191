"""Files of an experiment's results."""

from collections.abc import Mapping
from pathlib import Path

from nnval.engine import run_directory as disk
from nnval.tables import Table


def save_tables(directory: Path, tables: Mapping[str, Table]) -> None:
    """Write ``arrays/NAME.csv`` into the directory of a run.

    Args:
        directory: of the run.
        tables: name to table.

    Raises:
        StorageError: if a file can't be written; the run is intact.
    """
    disk.make_directory(directory / "arrays")
    for name, table in tables.items():
        disk.write_whole(directory / "arrays" / f"{name}.csv", table.to_csv().encode())
