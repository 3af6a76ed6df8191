"""Every benchmark, one after the other, and one table of ratios against their baselines in the end.

    python benchmarks/all.py [NAME ...] [--quick] [--csv FILE]

Each script runs in a process of its own and prints its own tables. Ratios are of two ways that took turns in one
process: they travel from machine to machine far better than seconds do. A script that fails is named, and the others
still run; the exit code is then 1. ``gpu_training`` runs where there is a CUDA device.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from headlines import FILE

HERE = Path(__file__).resolve().parent
QUICK = {
    "actcoolr_overhead": ("--rounds", "3"),
    "adaptive_noise_overhead": ("--rounds", "3"),
    "advice": ("--quick",),
    "ensemble": ("16",),
    "first_passage": ("--quick",),
    "gpu_training": ("--quick",),
    "lenet_throughput": ("--rounds", "3", "--images", "1000"),
    "mean_field": ("--quick",),
    "weight_variance": ("--quick",),
}
"""Script -> its arguments when there is little time; none at all otherwise."""


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def run(name: str, quick: bool) -> tuple[list[dict[str, object]], int, float]:
    """The rows of one script, its exit code and its seconds."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "headlines.jsonl"
        begin = time.monotonic()
        command = [sys.executable, str(HERE / f"{name}.py"), *(QUICK[name] if quick else ())]
        code = subprocess.run(command, env=os.environ | {FILE: str(file)}, check=False).returncode
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [json.loads(line) for line in lines], code, time.monotonic() - begin


def processor() -> str:
    """What /proc/cpuinfo calls it, where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(QUICK)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer turns and smaller sizes")
    parser.add_argument("--csv", help="write the table there too, with the hardware")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(QUICK):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; choose of {', '.join(QUICK)}")
    names = arguments.names or [name for name in QUICK if name != "gpu_training" or has_cuda()]
    rows, failed = [], []
    for name in names:
        print(f"== benchmarks/{name}.py", flush=True)
        found, code, seconds = run(name, arguments.quick)
        rows += [{"benchmark": name, **row} for row in found]
        if code:
            failed.append(f"{name} (exit code {code})")
        print(f"-- {seconds:.0f} s\n", flush=True)

    machine = f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}"
    machine += "".join(f", {package} {version(package)}" for package in ("numpy", "numba", "torch"))
    print(machine + ("; quick" if arguments.quick else ""))
    widths = {key: max((len(str(row[key])) for row in rows), default=0) for key in ("benchmark", "what", "baseline")}
    for row in rows:
        left = "  ".join(str(row[key]).ljust(widths[key]) for key in ("benchmark", "what"))
        print(
            f"{left}  {row['ratio']:8.3g} x  {str(row['baseline']).ljust(widths['baseline'])}  {row['note']}".rstrip()
        )
    print("x: times as fast as the baseline, in the same process")
    if arguments.csv:
        with open(arguments.csv, "w", encoding="utf-8", newline="") as file:
            words = " ".join(("python benchmarks/all.py", *arguments.names, *["--quick"] * arguments.quick))
            file.write(f"# {words}: times as fast as the baseline, both in turns in one process\n# {machine}; ")
            file.write(f"no GPU; measured {time.strftime('%Y-%m-%d')}\n" if not has_cuda() else "CUDA\n")
            table = csv.DictWriter(file, ("benchmark", "what", "baseline", "ratio", "note"), lineterminator="\n")
            table.writeheader()
            table.writerows({**row, "ratio": f"{row['ratio']:.4g}"} for row in rows)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
