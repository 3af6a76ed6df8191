"""Advice from 1,000 curves of 200 epochs, 2,000 bootstrap replicates included, against a loop that one would write.

    python benchmarks/advice.py [--quick] [--csv FILE]

The curves are synthetic, shaped like the published ones of ResNet-18 on CIFAR-10: three in ten runs never get there;
the published ones are timed too where ../shared is there. Reading and advice are timed separately, after the imports,
as processor time, of which the best turn counts, as others may use the machine too. The loop does one part of the
advice only: for each replicate Kaplan-Meier's product, and E[min(T_P, H)] under restarts at each P. It runs for a few
of the replicates, with the same resamples, and must give the same numbers; its time is for all of them. It stands
beside the same part as jostle does it.
"""

import argparse
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from headlines import headline

from nnval.advice import Advice, advise
from nnval.measure.curves import read_curves
from sim.random_streams import stream
from theory.bootstrap import bootstrap_weights
from theory.discrete_resetting import sharp_restart_restricted_mean
from theory.prediction import PerturbationData
from theory.survival import FirstPassages

RUNS, EPOCHS, TARGET, REPLICATES = 1000, 200, 0.72, 2000
PUBLISHED = Path(__file__).resolve().parents[2] / "shared/data/meir2025_cifar10_resnet18/unperturbed.csv.gz"


def synthetic() -> pd.DataFrame:
    """Accuracies with four decimals that rise for a dozen epochs; 30 % of the runs level off below the target."""
    rng = stream(0, "benchmark curves")
    level = np.where(rng.random(RUNS) < 0.3, rng.normal(0.69, 0.008, RUNS), rng.normal(0.735, 0.008, RUNS))
    epoch, rate = np.arange(1, EPOCHS + 1), rng.uniform(0.25, 0.45, RUNS)
    values = level[:, None] * (1 - np.exp(-rate[:, None] * epoch)) + rng.normal(0, 0.003, (RUNS, EPOCHS))
    run, column = np.indices(values.shape)
    return pd.DataFrame({"run": run.ravel(), "epoch": column.ravel() + 1, "accuracy": values.ravel().round(4)})


@dataclass
class Timed:
    """Seconds of one table."""

    name: str
    reading: float
    advising: float
    part: float
    loop: float
    advice: Advice


def timed(name: str, file: Path, turns: int, looped: int) -> Timed:
    reading, advising, advice = [], [], None
    for _ in range(turns):
        begin = time.process_time()
        curves = read_curves(file)
        middle = time.process_time()
        advice = advise(curves, target=TARGET, replicates=REPLICATES)
        reading.append(middle - begin)
        advising.append(time.process_time() - middle)
    assert advice is not None
    return Timed(name, min(reading), min(advising), *compared_loop(advice, turns, looped), advice)


# ---- The loop --------------------------------------------------------------------------------------------------------


def kaplan_meier(times: list[int], observed: list[bool], horizon: int) -> list[float]:
    """Psi(0..H), epoch by epoch."""
    events, ends = [0] * (horizon + 1), [0] * (horizon + 1)
    for t, reached in zip(times, observed, strict=True):
        ends[t] += 1
        events[t] += reached
    psi, at_risk = [1.0], len(times)
    for t in range(1, horizon + 1):
        psi.append(psi[-1] * (1 - events[t] / at_risk) if at_risk else psi[-1])
        at_risk -= ends[t]
    return psi


def restarted(psi: list[float], interval: int, horizon: int) -> float:
    """E[min(T_P, H)]: the sum of Psi(P)^k Psi(s) over t = k P + s < H."""
    total, cycle, phase = 0.0, 1.0, 0
    for _ in range(horizon):
        total += cycle * psi[phase]
        phase += 1
        if phase == interval:
            cycle, phase = cycle * psi[interval], 0
    return total


def loop(passages: FirstPassages, weights: np.ndarray, horizon: int) -> np.ndarray:
    """E[min(T_P, H)] for each resample and P = 1..H."""
    result = []
    for counts in weights:
        drawn = np.repeat(np.arange(passages.n), counts)
        psi = kaplan_meier(passages.times[drawn].tolist(), passages.observed[drawn].tolist(), horizon)
        result.append([restarted(psi, interval, horizon) for interval in range(1, horizon + 1)])
    return np.array(result)


def compared_loop(advice: Advice, turns: int, looped: int) -> tuple[float, float]:
    """Seconds of jostle and of the loop for that part; those replicates that the loop ran have the same numbers."""
    passages, horizon, seconds = advice.first_passages, advice.horizon, []
    intervals, vectorised = np.arange(1, horizon + 1), np.empty(0)
    for _ in range(turns):
        begin = time.process_time()
        data = PerturbationData(passages, horizon=horizon, replicates=REPLICATES, rng=stream(advice.seed, "bootstrap"))
        vectorised = data.replicates(lambda psi, _: sharp_restart_restricted_mean(psi, intervals, horizon))
        seconds.append(time.process_time() - begin)
    weights = bootstrap_weights(passages.n, REPLICATES, stream(advice.seed, "bootstrap"))[:looped]
    begin = time.process_time()
    numbers = loop(passages, weights, horizon)
    in_loop = time.process_time() - begin
    np.testing.assert_allclose(numbers, vectorised[:looped], rtol=1e-10)
    return min(seconds), in_loop / looped * REPLICATES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--csv", help="write the table there too")
    arguments = parser.parse_args()
    turns, looped = (3, 20) if arguments.quick else (7, 100)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "curves.csv.gz"
        synthetic().to_csv(file, index=False)
        results = [timed("synthetic", file, turns, looped)]
    if PUBLISHED.is_file():
        results.append(timed("published", PUBLISHED, turns, looped))
    print(f"{platform.processor() or platform.machine()}; Python {platform.python_version()}; one thread\n")
    print(f"{'curves':12}{'read':>8}{'advise':>8}{'total':>8}{'part':>8}{'loop':>8}{'ratio':>8}  best")
    for r in results:
        best = r.advice.best
        assert best is not None
        where = f"{best.label}, P = {best.interval} ({best.low} to {best.high})"
        seconds = "".join(f"{x:8.2f}" for x in (r.reading, r.advising, r.reading + r.advising, r.part, r.loop))
        print(f"{r.name:12}{seconds}{r.loop / r.part:8.0f}  {where}")
        headline(f"restarts at all P, {r.name} curves", r.loop / r.part, "a loop over replicates and P")
    print(f"\nseconds; {REPLICATES:,} replicates; ratio of the loop to the same part of jostle, with the same numbers")
    if arguments.csv:
        with open(arguments.csv, "w", encoding="utf-8") as table:
            table.write("curves,read_s,advise_s,part_s,loop_s\n")
            for r in results:
                table.write(f"{r.name},{r.reading:.4g},{r.advising:.4g},{r.part:.4g},{r.loop:.4g}\n")


if __name__ == "__main__":
    main()
