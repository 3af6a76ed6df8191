"""Simulated first passages: jostle against vectorised NumPy, and against the packages of others that are installed.

    python benchmarks/first_passage.py [--quick] [--csv FILE]

Problems: drifted Brownian motion from 0 to 1 (v = 1, D = 1/2; E[T] = 1), the same between -1 and 1 (E[T] = tanh 1), and
an Ornstein-Uhlenbeck process from 0 to 1 (k = D = 1; E[T] = 2.0934). All candidates take turns in one process on one
thread, and the best of several short turns counts, as others may use the machine too. Peers run if they can be
imported:

    pip install kramers sinistra ssm-simulators diffusionx pyfpt stochrare

Bias is that of the mean, of all turns together, beside its standard error. Most peers have the O(sqrt dt) bias of a
walker that is seen at multiples of dt only; their time step is 0.001. The last tables are ratios.
"""

import argparse
import importlib.metadata
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from headlines import headline
from numba import njit

from sim import langevin
from sim.first_passage import Diffusion, simulate_diffusion
from sim.lanes import LANES, normal_pairs
from sim.random_streams import stream
from sim.resetting import simulate_restarted
from theory.diffusion_laws import DriftDiffusion
from theory.ornstein_uhlenbeck import OrnsteinUhlenbeck

EXACT = {"drift": 1.0, "interval": math.tanh(1.0), "ornstein-uhlenbeck": 2.093406649678322}
LAWS = {"drift": DriftDiffusion(1.0, 1.0, 0.5), "ornstein-uhlenbeck": OrnsteinUhlenbeck(0.0, 1.0, 1.0, 1.0)}
PROCESSES = {problem: Diffusion.of_law(law) for problem, law in LAWS.items()}
PROCESSES["interval"] = Diffusion(np.array([1.0]), 0.5, 0.0, 1.0, -1.0)
FINE = 0.001

Draw = Callable[[int, int], tuple[np.ndarray, float]]
"""(runs, turn) -> (times, steps taken, nan if unknown)."""


@dataclass
class Candidate:
    """One way to simulate one problem."""

    problem: str
    name: str
    draw: Draw
    runs: int
    seconds: list[float] = field(default_factory=list)
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    steps: float = 0.0

    def turn(self, number: int) -> None:
        begin = time.perf_counter()
        times, steps = self.draw(self.runs, number)
        self.seconds.append(time.perf_counter() - begin)
        times = np.asarray(times, dtype=float)
        self.count += len(times)
        self.total += float(times.sum())
        self.squares += float((times**2).sum())
        self.steps = steps

    @property
    def per_second(self) -> float:
        return self.runs / min(self.seconds)

    @property
    def bias(self) -> tuple[float, float]:
        mean = self.total / self.count
        deviation = math.sqrt(max(self.squares / self.count - mean**2, 0.0))
        exact = EXACT[self.problem]
        return mean / exact - 1, deviation / math.sqrt(self.count) / exact


def numpy_vectorised(problem: str) -> Draw:
    """What one writes: all runs step together, the finished ones are dropped."""
    process = PROCESSES[problem]
    noise = math.sqrt(2 * process.diffusivity * FINE)

    def draw(runs: int, turn: int) -> tuple[np.ndarray, float]:
        rng = stream(turn, "numpy", len(problem))
        times, alive, x, steps, step = np.empty(runs), np.arange(runs), np.zeros(runs), 0, 0
        while len(alive):
            step += 1
            force = 1.0 if problem != "ornstein-uhlenbeck" else -x
            x += force * FINE + noise * rng.standard_normal(len(x))
            steps += len(x)
            out = (x >= process.upper) | (x <= process.lower)
            if out.any():
                times[alive[out]] = step * FINE
                x, alive = x[~out], alive[~out]
        return times, steps

    return draw


def jostle_bridge(problem: str, time_step: float | None) -> Draw:
    process = PROCESSES[problem]

    def draw(runs: int, turn: int) -> tuple[np.ndarray, float]:
        passages = simulate_diffusion(
            process, runs, stream(turn, "bridge", len(problem)), time_step=time_step, threads=1
        )
        return passages.times, float(passages.times.sum()) / (time_step or process.default_time_step)

    return draw


def jostle_exact(runs: int, turn: int) -> tuple[np.ndarray, float]:
    return simulate_restarted(LAWS["drift"], None, runs, stream(turn, "exact"), threads=1).times, math.nan


# ---- Peers -----------------------------------------------------------------------------------------------------------


def kramers_peer(problem: str) -> Draw:
    from kramers.solvers import simulate

    process = PROCESSES[problem]
    lower = process.lower if math.isfinite(process.lower) else None

    def draw(runs: int, turn: int) -> tuple[np.ndarray, float]:
        drift = (lambda x: -x) if problem == "ornstein-uhlenbeck" else np.ones_like
        result = simulate.first_passage_times(
            drift,
            process.diffusivity,
            0.0,
            n_paths=runs,
            dt=FINE,
            t_max=1e3,
            absorbing=(lower, process.upper),
            seed=turn,
        )
        return np.asarray(result.times), math.nan

    return draw


def sinistra_peer(problem: str) -> Draw:
    import sinistra

    if problem != "interval":
        raise ValueError("knows two targets and a constant drift only")

    def draw(runs: int, turn: int) -> tuple[np.ndarray, float]:
        return np.asarray(sinistra.simulate(1.0, 2.0, 0.5, 0.0, runs, turn)[1]), math.nan

    return draw


def ssms_peer(problem: str) -> Draw:
    from ssms.basic_simulators.simulator import simulator

    if problem != "interval":
        raise ValueError("knows two targets and a constant drift only")

    def draw(runs: int, turn: int) -> tuple[np.ndarray, float]:
        result = simulator([1.0, 1.0, 0.5, 0.0], "ddm", runs, FINE, 20.0, random_state=turn, smooth_unif=False)
        return np.asarray(result["rts"]).ravel(), math.nan

    return draw


def diffusionx_peer(problem: str) -> Draw:
    from diffusionx import simulation

    if problem != "ornstein-uhlenbeck":
        raise ValueError("its Langevin class, which a drift needs, never returns from fpt_moment")
    process = simulation.OU(1.0, math.sqrt(2.0), 0.0)

    def draw(runs: int, _turn: int) -> tuple[np.ndarray, float]:
        mean = process.fpt_moment((-1e6, 1.0), 1, particles=runs, time_step=FINE)
        return np.full(runs, math.nan if mean is None else mean), math.nan

    return draw


def pyfpt_peer(problem: str) -> Draw:
    from pyfpt.numerics import is_simulation

    if problem == "interval":
        raise ValueError("knows one target only")
    drift = (lambda x, _t: -x) if problem == "ornstein-uhlenbeck" else (lambda _x, _t: 1.0)
    sigma = math.sqrt(2 * PROCESSES[problem].diffusivity)

    def draw(runs: int, _turn: int) -> tuple[np.ndarray, float]:
        # It returns a histogram: its mean cannot be held against the exact one to 0.1 %.
        is_simulation(
            drift, lambda _x, _t: sigma, 0.0, 1.0, runs, 0.0, FINE, estimator="naive", min_bin_size=10, display=False
        )
        return np.full(runs, math.nan), math.nan

    return draw


def stochrare_peer(problem: str) -> Draw:
    import stochrare.dynamics.diffusion1d as diffusion1d  # fails beside scipy >= 1.12

    raise ValueError(f"{diffusion1d.__name__} has no fast path for {problem}")


PEERS = {
    "kramers": (kramers_peer, 2_000),
    "sinistra": (sinistra_peer, 20_000),
    "ssm-simulators": (ssms_peer, 10_000),
    "diffusionx": (diffusionx_peer, 2_000),
    "pyfpt": (pyfpt_peer, 400),
    "stochrare": (stochrare_peer, 100),
}


def candidates() -> tuple[list[Candidate], list[str]]:
    chosen, absent = [], []
    for problem in EXACT:
        chosen.append(Candidate(problem, "numpy vectorised, dt 0.001", numpy_vectorised(problem), 4_000))
        step = PROCESSES[problem].default_time_step
        chosen.append(Candidate(problem, f"jostle, bridge, dt {step:g}", jostle_bridge(problem, None), 200_000))
        chosen.append(Candidate(problem, "jostle, bridge, dt 0.001", jostle_bridge(problem, FINE), 8_192))
        if problem == "drift":
            chosen.append(Candidate(problem, "jostle, exact", jostle_exact, 1_000_000))
        for package, (make, runs) in PEERS.items():
            try:
                version = importlib.metadata.version(package)
                chosen.append(Candidate(problem, f"{package} {version}", make(problem), runs))
            except (ImportError, ValueError, importlib.metadata.PackageNotFoundError) as error:
                absent.append(f"{package}, {problem}: {error}")
    return chosen, absent


# ---- Normal numbers --------------------------------------------------------------------------------------------------


@njit(nogil=True)
def _many_normals(state, normals, calls):
    for _ in range(calls):
        normal_pairs(state, normals)


def normal_generators(turns: int) -> dict[str, float]:
    """Nanoseconds for a standard normal number, the best of many short turns in rotation."""
    state = stream(0, "lanes").integers(2**64, size=4 * LANES, dtype=np.uint64)
    normals, buffer = np.empty(2 * LANES), np.empty(4096)
    generators = {
        name: np.random.Generator(bits(1)) for name, bits in (("PCG64", np.random.PCG64), ("SFC64", np.random.SFC64))
    }
    calls = 500
    _many_normals(state, normals, 1)
    best = {"jostle": math.inf, **{f"numpy {name}": math.inf for name in generators}}
    for _ in range(turns):
        begin = time.perf_counter()
        _many_normals(state, normals, calls)
        best["jostle"] = min(best["jostle"], (time.perf_counter() - begin) / (calls * 2 * LANES))
        for name, generator in generators.items():
            begin = time.perf_counter()
            for _ in range(5):
                generator.standard_normal(out=buffer)
            best[f"numpy {name}"] = min(best[f"numpy {name}"], (time.perf_counter() - begin) / (5 * len(buffer)))
    return {name: 1e9 * seconds for name, seconds in best.items()}


def two_threads(turns: int) -> float:
    """How many times faster two threads are than one."""
    best = {1: math.inf, 2: math.inf}
    for turn in range(turns):
        for threads in best:
            begin = time.perf_counter()
            simulate_diffusion(PROCESSES["ornstein-uhlenbeck"], 400_000, stream(turn, "threads"), threads=threads)
            best[threads] = min(best[threads], time.perf_counter() - begin)
    return best[1] / best[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--csv", help="write the table there too")
    arguments = parser.parse_args()
    turns = 4 if arguments.quick else 25
    chosen, absent = candidates()
    for candidate in chosen:
        candidate.turn(0)  # compiles
        candidate.seconds.clear()
    for number in range(1, turns + 1):
        for candidate in chosen:
            # Slow ones need few turns: their time varies little, and their bias is large.
            if number <= 3 or candidate.name.startswith(("jostle", "numpy")):
                candidate.turn(number)
    normals = normal_generators(20 * turns)
    threads = two_threads(max(turns // 4, 2))

    baseline = {c.problem: c.per_second for c in chosen if c.name.startswith("numpy")}
    rows = []
    for c in chosen:
        value, error = c.bias
        step = 1e9 / c.per_second / (c.steps / c.runs) if math.isfinite(c.steps) else math.nan
        rows.append(
            (c.problem, c.name, c.per_second, c.per_second / baseline[c.problem], step, 100 * value, 100 * error)
        )
    print(f"numba on {platform.processor() or platform.machine()}; Python {platform.python_version()}; one thread\n")
    print(f"{'problem':19}{'candidate':32}{'runs/s':>11}{'x numpy':>9}{'ns/step':>9}  bias of E[T]")
    for problem, name, speed, ratio, step, value, error in rows:
        bias = "unknown" if math.isnan(value) else f"{value:+.3f} % +- {error:.3f}"
        shown = "" if math.isnan(step) else f"{step:.2f}"
        print(f"{problem:19}{name:32}{speed:11.3g}{ratio:9.3g}{shown:>9}  {bias}")
        if name.startswith("jostle"):
            headline(
                f"{problem}: {name.removeprefix('jostle, ')}", ratio, "numpy vectorised, dt 0.001", note=f"bias {bias}"
            )
    for reason in absent:
        print(f"  not run: {reason}")
    print(f"\n{'normal numbers':24}{'ns':>7}{'x jostle':>10}")
    for name, nanoseconds in normals.items():
        print(f"{name:24}{nanoseconds:7.2f}{nanoseconds / normals['jostle']:10.2f}")
    print(f"\ntwo threads: {threads:.2f} times as fast as one ({langevin.__name__})")
    print(f"{'to 0.1 % of E[T]':24}{'seconds':>9}")
    for c in chosen:
        if c.name.startswith("jostle") and "0.001" not in c.name:
            spread = c.squares / c.count / (c.total / c.count) ** 2 - 1
            print(f"{c.problem + ', ' + c.name:52}{spread * 1e6 / c.per_second:9.3f}")
    if arguments.csv:
        with open(arguments.csv, "w", encoding="utf-8") as file:
            file.write("problem,candidate,runs_per_second,ratio_to_numpy,ns_per_step,bias_percent,bias_error_percent\n")
            for problem, name, *numbers in rows:
                file.write(f'{problem},"{name}",' + ",".join(f"{number:.5g}" for number in numbers) + "\n")


if __name__ == "__main__":
    main()
