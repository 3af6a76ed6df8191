"""Do the intervals of the advisor cover the truth, and are its probabilities frequencies?

Each study is made from a random chain whose exact training times are known: runs of two kinds, each with quick states
and perhaps a slow one, some of them stopped early; survivors perturbed once; other runs perturbed every P epochs, by a
random perturbation that may help or harm. It goes through ``advise`` like anybody's curves. docs/advice.md has tables.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import stats

from nnval import protocol_ranking
from nnval.advice import Advice, advise, every, once
from nnval.measure.curves import Curves
from theory.bootstrap import percentile_interval
from theory.branch_epochs import APPROXIMATION_MARGIN
from theory.markov_chain import Chain, restart_kernel, survival
from theory.perturbation import predicted_restricted_mean
from theory.perturbed_chain import periodic_survival, residual_survival_once
from theory.prediction import PerturbationData
from theory.protocol_choice import ProtocolChoice, ProtocolMeans, choose_protocol
from theory.survival import FirstPassages, restricted_mean

pytestmark = pytest.mark.slow

STUDIES, REPLICATES, TARGET = 500, 300, 0.9
BINS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
HALF_PERCENT = 0.005
"""A restart later than nearly all first passages changes the mean by less than that, which no interval need resolve."""


# ---- Random worlds and studies in them -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class World:
    """A chain, two perturbations of it, and the accuracy that is seen in each state."""

    chain: Chain
    perturbations: dict[str, np.ndarray]
    accuracy: np.ndarray

    def restricted_mean(self, label: str, interval: int, horizon: int) -> float:
        """The exact E[min(T_P, H)]."""
        if label == "none":
            return float(survival(self.chain, horizon)[:horizon].sum())
        kernel = restart_kernel(self.chain) if label == "full_reset" else self.perturbations[label]
        return float(periodic_survival(self.chain, kernel, interval, horizon)[:horizon].sum())


def random_kind(rng: np.random.Generator) -> np.ndarray:
    """Two to four quick states in a row before the target, and a slow one that runs may fall into."""
    quick = int(rng.integers(2, 5))
    moves, fall = np.zeros((quick + 1, quick + 1)), rng.uniform(0.05, 0.6) if rng.random() < 0.7 else 0.0
    for i in range(quick):
        going = rng.uniform(0.15, 0.7)
        moves[i, i], moves[i, quick] = 1 - going, fall / quick * going
        if i < quick - 1:
            moves[i, i + 1] = going - moves[i, quick]
    leaving = 10 ** rng.uniform(-3, -1.2)
    moves[quick, quick] = 1 - leaving
    moves[quick, rng.integers(quick)] += leaving * rng.random()
    return moves


def random_world(rng: np.random.Generator) -> World:
    """Runs of two kinds. A perturbation keeps the state with some probability, else draws it from a random law.

    One in two favours slow states, and may harm at any interval.
    """
    first, second = random_kind(rng), random_kind(rng)
    n, k = len(first) + len(second), len(first)
    transient, initial = np.zeros((n, n)), np.zeros(n)
    transient[:k, :k], transient[k:, k:] = first, second
    initial[0] = rng.uniform(0.2, 0.9)
    initial[k] = 1 - initial[0]
    perturbations = {}
    for label in ("one", "other"):
        kept, slow = rng.uniform(0, 0.7), rng.uniform(0.2, 0.9) if rng.random() < 0.5 else 0.0
        law = (1 - slow) * rng.dirichlet(np.full(n, 0.3))
        law[[k - 1, n - 1]] += slow * rng.dirichlet([1.0, 1.0])
        perturbations[label] = kept * np.eye(n) + (1 - kept) * law
    return World(Chain(transient, initial), perturbations, rng.uniform(0.2, 0.8, size=n))


def draw(rows: np.ndarray, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    cumulative = np.cumsum(rows, axis=1)
    return (rng.random((len(states), 1)) * cumulative[:, -1:][states] > cumulative[states]).sum(axis=1)


def train(
    world: World, states: np.ndarray, epochs: int, rng: np.random.Generator, label: str = "", interval: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies and states after each epoch, both (runs, epochs); the last state is the target."""
    n = world.chain.states
    epoch = np.vstack([np.column_stack([world.chain.transient, world.chain.exits]), np.eye(n + 1)[n]])
    kick = np.eye(n + 1)
    if label:
        kick[:n, :n] = world.perturbations[label]
    path = np.empty((len(states), epochs), dtype=int)
    for t in range(epochs):
        states = draw(epoch, states, rng)
        path[:, t] = states
        if label and (t + 1) % interval == 0:
            states = draw(kick, states, rng)
    seen = np.append(world.accuracy, 1.0)[path] + 0.04 * rng.standard_normal(path.shape)
    return np.where(path == n, 1.0, np.minimum(seen, TARGET - 0.01)), path


def stopped(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the runs ends early, whatever they are doing; the first one never."""
    n, epochs = values.shape
    last = np.where(rng.random(n) < share, rng.integers(1, epochs + 1, n), epochs)
    last[0] = epochs
    return np.where(np.arange(1, epochs + 1) <= last[:, None], values, np.nan)


def named(values: np.ndarray, parents: Sequence[str] | None = None) -> Curves:
    runs = tuple(f"run {i}" for i in range(len(values)))
    return Curves("accuracy", runs, values, parents=None if parents is None else tuple(parents))


def study(rng: np.random.Generator) -> tuple[World, Advice]:
    """A random study in a random world, and what the advisor makes of it."""
    world = random_world(rng)
    n, horizon, share = int(rng.integers(40, 401)), int(rng.integers(60, 101)), float(rng.choice([0, 0.15, 0.3]))
    states = np.arange(world.chain.states)

    def begin(runs: int) -> np.ndarray:
        return rng.choice(states, size=runs, p=world.chain.initial)

    values, path = train(world, begin(n), horizon, rng)
    unperturbed, perturbed = named(stopped(values, share, rng)), []
    branch, follow = int(rng.integers(20, 41)), int(rng.integers(30, 61))
    followed = ~np.isnan(unperturbed.values[:, branch - 1])
    parents = np.flatnonzero(followed & (path[:, branch - 1] < world.chain.states))
    if len(parents) > 1:
        kicked = draw(world.perturbations["one"], path[parents, branch - 1], rng)
        residuals, _ = train(world, kicked, follow, rng)
        children = named(stopped(residuals, share, rng), [unperturbed.runs[i] for i in parents])
        perturbed.append(once("one", branch, children))
    for label, several in (("one", 2), ("other", 3)):
        for interval in rng.choice([2, 3, 5, 7, 10, 15, 20, 25], size=several, replace=False).tolist():
            measured, _ = train(world, begin(int(rng.integers(30, 151))), horizon, rng, label, interval)
            perturbed.append(every(label, interval, named(stopped(measured, share, rng))))
    seed = int(rng.integers(2**31))
    return world, advise(unperturbed, target=TARGET, perturbed=perturbed, replicates=REPLICATES, seed=seed)


# ---- What came out ---------------------------------------------------------------------------------------------------


@dataclass
class Record:
    """Which intervals covered, and which probabilities came true, by name."""

    covered: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    came_true: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def interval(self, name: str, interval: tuple[float, float], truth: float, tolerance: float = 1e-9) -> None:
        low, high = interval
        self.covered[name].append(low - tolerance * truth <= truth <= high + tolerance * truth)

    def reliability(self, name: str) -> list[tuple[int, float, float]]:
        """Of each bin that has entries: how many, what was said, what came true."""
        said, true = np.array(self.came_true[name]).T
        bins = np.clip(np.searchsorted(BINS, said, side="right"), 1, len(BINS) - 1)
        return [(int((bins == b).sum()), said[bins == b].mean(), true[bins == b].mean()) for b in np.unique(bins)]

    def calibration_error(self, name: str) -> float:
        """Mean distance between what was said and what came true."""
        table = self.reliability(name)
        return sum(n * abs(said - true) for n, said, true in table) / sum(n for n, _, _ in table)


def add_predictions(record: Record, world: World, advice: Advice, rng: np.random.Generator) -> None:
    """Intervals at one interval P that was not chosen for its outcome."""
    psi = survival(world.chain, advice.horizon)
    for e in advice.evidence:
        for predictor, predictions in e.predictions.items():
            inside = [p for p in predictions if p.valid]
            if not inside:
                continue
            p = inside[rng.integers(len(inside))]
            truth, estimate = world.restricted_mean(e.label, p.interval, p.horizon), p.restricted_mean
            record.interval(f"{predictor} at a given P", estimate.interval(), truth)
            without = world.restricted_mean("none", 0, p.horizon)
            record.interval(f"{predictor} at a given P, speed-up", p.speed_up.interval(), without / truth, HALF_PERCENT)
            if predictor == "restart":
                continue
            margin = APPROXIMATION_MARGIN * estimate.value / truth
            record.interval(f"{predictor} at a given P, granted 5 %", estimate.interval(), truth, margin)
            assert e.branch_epoch is not None
            kernel = world.perturbations[e.label]
            residuals = residual_survival_once(world.chain, kernel, e.branch_epoch, advice.horizon)
            exact = predicted_restricted_mean(predictor, psi, residuals, p.interval, p.horizon)
            record.interval(f"{predictor} at a given P, itself", estimate.interval(), float(exact))
        known = [(m.interval, r) for m in e.measured if (r := m.restricted_mean(advice.horizon)) is not None]
        if known:
            interval, estimate = known[rng.integers(len(known))]
            truth = world.restricted_mean(e.label, interval, advice.horizon)
            record.interval("measured at a given P", estimate.interval(), truth)


def add_ranking(record: Record, world: World, advice: Advice, known: Sequence[ProtocolMeans]) -> None:
    """Intervals and probabilities at the chosen P, and what they would be if the choice were ignored."""
    truths = {c.label: world.restricted_mean(c.label, c.interval, advice.horizon) for c in advice.choices}
    fastest, naive = min(truths.values()), np.stack([means.replicates.min(axis=1) for means in known])
    share = 1 / sum(truth == fastest for truth in truths.values())
    for first, c in zip((True, *[False] * len(advice.choices)), advice.choices, strict=False):
        truth, gain = truths[c.label], truths["none"] / truths[c.label]
        for name in (c.source, *(["the first"] if first else [])):
            record.interval(f"{name}, chosen", c.restricted_mean.interval(), truth)
            if c.label != "none":
                record.interval(f"{name}, chosen, speed-up", c.speed_up.interval(), gain, HALF_PERCENT)
        record.came_true["best"].append((c.best, share * (truth == fastest)))
        if c.label == "none":
            kinds = {"fewer than 100 runs": advice.curves.n < 100, "all runs finished": advice.survival.is_complete}
            for name in (kind for kind, applies in kinds.items() if applies):
                record.interval(f"unperturbed, {name}", c.restricted_mean.interval(), truth)
        else:
            record.came_true["helps"].append((c.helps, float(truth < truths["none"])))
    for i, means in enumerate(known):
        c, truth = advice.choice(means.label), truths[means.label]
        assert c is not None
        record.came_true["best, naive"].append(
            (float((naive[i] == naive.min(axis=0)).mean()), share * (truth == fastest))
        )
        if c.label == "none":
            continue
        record.interval(f"{c.source}, chosen, naive", percentile_interval(naive[i]), truth)
        ratio = percentile_interval(known[0].replicates[:, 0] / naive[i])
        record.interval(f"{c.source}, chosen, speed-up, naive", ratio, truths["none"] / truth, HALF_PERCENT)


def run(studies: int, seed: int) -> Record:
    """As many studies, each in a world of its own."""
    record, known = Record(), []

    def watched(unperturbed: ProtocolMeans, others: Sequence[ProtocolMeans]) -> tuple[ProtocolChoice, ...]:
        known[:] = [unperturbed, *others]
        return choose_protocol(unperturbed, others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol_ranking, "choose_protocol", watched)
        for number in range(studies):
            rng = np.random.default_rng([seed, number])
            world, advice = study(rng)
            add_predictions(record, world, advice, rng)
            add_ranking(record, world, advice, known)
    return record


def covers(hits: Sequence[bool]) -> bool:
    """Whether so many hits are possible with a true coverage between 92 and 98 %."""
    n, k = len(hits), sum(hits)
    return bool(min(stats.binom.cdf(k, n, 0.92), stats.binom.sf(k - 1, n, 0.98)) > 1e-3)


def is_calibrated(table: Sequence[tuple[int, float, float]], *, caution: bool = False) -> bool:
    """Whether each bin is possible with frequencies within 5 points of what was said; or any that are above it."""
    for n, said, true in table:
        k, most = round(n * true), 1.0 if caution else min(said + 0.05, 1.0)
        if min(stats.binom.cdf(k, n, max(said - 0.05, 0.0)), stats.binom.sf(k - 1, n, most)) < 1e-3:
            return False
    return True


@pytest.fixture(scope="module")
def record() -> Record:
    return run(STUDIES, 0)


COVER = [
    "unperturbed, chosen",
    "restart at a given P",
    "restart at a given P, speed-up",
    "restart, chosen",
    "restart, chosen, speed-up",
    "measured at a given P",
    "measured, chosen",
    "measured, chosen, speed-up",
    "renewal at a given P, itself",
    "renewal at a given P, granted 5 %",
    "the first, chosen",
    "the first, chosen, speed-up",
]


@pytest.mark.parametrize("name", COVER)
def test_intervals_cover(record: Record, name: str) -> None:
    hits = record.covered[name]
    assert len(hits) >= 150
    assert covers(hits), f"{name}: {sum(hits)} of {len(hits)}"


@pytest.mark.parametrize("name", ["renewal, chosen, naive", "measured, chosen, naive"])
def test_intervals_that_ignore_the_choice_cover_too_seldom(record: Record, name: str) -> None:
    hits = record.covered[name]
    assert len(hits) >= 80
    assert not covers(hits), f"{name}: {sum(hits)} of {len(hits)}"


def test_probability_of_being_best_is_a_frequency(record: Record) -> None:
    table = record.reliability("best")
    assert len(table) == len(BINS) - 1
    assert sum(n for n, _, _ in table) >= 1900
    assert record.calibration_error("best") < 0.03
    assert is_calibrated(table), table


def test_probability_of_helping_errs_on_the_side_of_caution(record: Record) -> None:
    table = record.reliability("helps")
    assert len(table) == len(BINS) - 1
    assert sum(n for n, _, _ in table) >= 1400
    assert record.calibration_error("helps") < 0.05
    assert is_calibrated(table, caution=True), table


def test_probabilities_that_ignore_the_choice_are_too_bold(record: Record) -> None:
    *_, (n, said, true) = record.reliability("best, naive")
    assert n >= 200
    assert true < said - 0.05
    assert not is_calibrated(record.reliability("best, naive"))


# ---- A limit ---------------------------------------------------------------------------------------------------------


def test_slow_runs_that_no_sample_shows_are_beyond_any_interval(seed: int) -> None:
    """One run in a hundred is slow: of 100 runs none is in 37 % of all samples, and these know nothing of it."""
    rng, horizon, truth = np.random.default_rng(seed), 80, 0.99 * 4 + 0.01 * 80
    hits = {True: [], False: []}
    for _ in range(400):
        times = np.where(rng.random(100) < 0.01, horizon, 1 + rng.binomial(6, 0.5, 100))
        runs = FirstPassages(times, times < horizon)
        data = PerturbationData(runs, horizon=horizon, replicates=REPLICATES, rng=rng)
        low, high = data.estimate(lambda psi, _: restricted_mean(psi, horizon)).interval()
        hits[bool(runs.observed.all())].append(low <= truth <= high)
    assert len(hits[True]) / 400 == pytest.approx(0.99**100, abs=0.12)
    assert not any(hits[True])
    assert np.mean(hits[False]) > 0.9
