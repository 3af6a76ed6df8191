"""The rows of a benchmark that go into the one table of ``make bench``.

A script calls ``headline`` for what matters of its own tables. Alone it changes nothing; benchmarks/all.py names a file
in the environment, and gathers the rows there.
"""

import json
import os

FILE = "JOSTLE_HEADLINES"
"""Environment variable with the path of the file that rows are appended to."""


def headline(what: str, ratio: float, baseline: str, *, note: str = "") -> None:
    """Record a ratio to a baseline that ran in the same process.

    Args:
        what: was measured, with its size.
        ratio: how many times as fast as the baseline; above 1 is faster.
        baseline: by name.
        note: what the ratio does not say, such as a bias.
    """
    path = os.environ.get(FILE)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, "ratio": ratio, "baseline": baseline, "note": note}) + "\n")
