"""Mean-field theory of the mixture perceptron and its simulation, order by order: numbers with errors, comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from commands.mixture_options import Setting
from commands.shared import hint
from commands.words import duration, size_words

if TYPE_CHECKING:
    import numpy as np

    from sim.perceptron import SimulatedPerceptron
    from theory.absorbing import Floats
    from theory.batch_selection import BatchSelection
    from theory.estimate import Comparison, Estimate
    from theory.mean_field_ridge import RidgeMeanField
    from theory.mean_field_solution import MeanFieldSolution
    from theory.mean_field_temperature import MeanFieldTemperature

FINITE_SIZE = 4.0
"""Simulated means may differ from theory's by so much over N, as a part of theory's (sim.perceptron)."""

TRANSIENT = 1e-4
"""Part of C that fluctuations and temperatures may differ by at least: where they are less, the start is not forgotten
yet, and how fast it is depends on N."""

SETTLED = 0.1
"""Most that C(n) may still fall over the last quarter of its lags, as a part of what it fell in all."""

MEASURABLE = 4.0
"""Standard errors that a response must be from zero to be divided by."""

ROUNDING = 1e-9
"""What is smaller is zero, as the temperature of gradient descent is."""


@dataclass(frozen=True, eq=False)
class OrderResult:
    """Everything about one order.

    Attributes:
        selection: its batches.
        solution: theory, sampled.
        exact: theory, exactly, where it is known.
        temperature: of the sampled theory, at those lags where it is known well enough; None if at none.
        refusal: why it is not known at others.
        simulated: in finite dimensions.
    """

    selection: BatchSelection
    solution: MeanFieldSolution
    exact: RidgeMeanField | None
    temperature: MeanFieldTemperature | None
    refusal: str | None
    simulated: SimulatedPerceptron | None = None

    @property
    def replicas(self) -> int:
        """What is complete of the slowest part."""
        return len(self.solution.overlap) if self.simulated is None else self.simulated.replicas

    @property
    def requested(self) -> int:
        """What was asked for of the same."""
        return self.solution.populations_asked if self.simulated is None else self.simulated.requested

    def with_simulation(self, simulated: SimulatedPerceptron) -> OrderResult:
        """The same beside a simulation.

        Args:
            simulated: of the same order.

        Returns:
            The result with both.
        """
        return dataclasses.replace(self, simulated=simulated)

    @property
    def stopped(self) -> bool:
        """Whether Ctrl-C cut a part of it short."""
        return len(self.solution.overlap) < self.solution.populations_asked or self.replicas < self.requested


def solve_order(setting: Setting, selection: BatchSelection, rng: np.random.Generator, progress: Any) -> OrderResult:
    """Theory of one order.

    Args:
        setting: what the options name.
        selection: the batches.
        rng: source of randomness.
        progress: told after each step.

    Returns:
        The result, without a simulation.

    Raises:
        ValueError: for weights that diverge, or too much memory.
        KeyboardInterrupt: if fewer than two populations were complete.
    """
    from theory.batch_selection import BernoulliBatches, FullBatch
    from theory.mean_field import solve_mean_field
    from theory.mean_field_ridge import solve_ridge

    solution = solve_mean_field(
        setting.model,
        setting.training,
        selection,
        setting.steps,
        rng,
        particles=setting.particles,
        populations=setting.populations,
        replicas=setting.replicas,
        progress=progress,
    )
    model, exact = setting.model, None
    closes = (model.loss, model.clusters, model.activation) == ("square", 2, "linear")
    if closes and isinstance(selection, BernoulliBatches | FullBatch):
        exact = solve_ridge(model, setting.training, selection, setting.steps)
    return OrderResult(selection, solution, exact, *_known_temperature(setting, solution))


def _known_temperature(setting: Setting, solution: MeanFieldSolution) -> tuple[MeanFieldTemperature | None, str | None]:
    """The temperature at as many lags as possible, and why not at more."""
    from theory.mean_field_temperature import temperature_of_solution

    refusal = None
    for known in range(len(setting.lags), 0, -1):
        try:
            return temperature_of_solution(solution, setting.lags[:known], start=setting.start), refusal
        except ValueError as error:
            refusal = refusal or str(error)
    return None, refusal


def unsettled(setting: Setting, result: OrderResult) -> str | None:
    """Why the slope is not yet the temperature of the slowest motion, if so.

    Args:
        setting: what the options name.
        result: of an order.

    Returns:
        The reason: C(n) still falls at the longest lags, by averages over whole epochs.
    """
    import numpy as np

    period, longest = result.selection.period, setting.longest_lag
    width = max(longest // 4 // period, 1) * period
    if 2 * width >= longest:
        return None
    starts = setting.starts(result.selection)
    lost = np.array([relaxation(result.solution, starts, n)[0].mean() for n in range(longest - 2 * width, longest)])
    before, after = lost[:width].mean(), lost[width:].mean()
    if abs(after - before) <= SETTLED * abs(after):
        return None
    return (
        f"C(n) still falls at n={longest}, by {(after - before) / after:.0%} in {width} updates: the slope is that of "
        f"shorter lags; take more --steps"
    )


def announce_theory(setting: Setting, quiet: bool) -> None:
    """Say what theory will take, before it starts.

    Args:
        setting: what the options name.
        quiet: do not.

    Raises:
        ValueError: for numbers out of range, or too much memory.
    """
    from theory.mean_field import LARGEST_BYTES, cost

    needed = cost(setting.steps, setting.particles, setting.populations, setting.replicas)
    if needed.memory > LARGEST_BYTES:
        raise ValueError(
            f"--steps {setting.steps} with --particles {setting.particles} need {needed.memory / 1e9:.1f} GB, more "
            f"than {LARGEST_BYTES / 1e9:g}: take fewer particles in more populations, or fewer steps"
        )
    orders = len(setting.orders)
    hint(
        f"theory: {orders} x {setting.populations} populations of {setting.particles} particles, {setting.steps} "
        f"steps: about {duration(orders * needed.seconds)} on one core, {size_words(needed.memory)}",
        quiet,
    )


# ---- Numbers ---------------------------------------------------------------------------------------------------------

FINAL = {
    "overlap m": ("overlap", ()),
    "norm C": ("correlation", None),
    "train loss": ("train_loss", ()),
    "train error": ("train_accuracy", ()),
    "test error": ("test_error", ()),
    "replica distance": ("replica_distance", ()),
    "margin, 1 %": ("margin_quantiles", (0,)),
    "margin, 10 %": ("margin_quantiles", (1,)),
    "margin, 50 %": ("margin_quantiles", (2,)),
}
"""Quantities at a time: name -> array, and what follows t among its indices (None: t once more)."""


def samples_of(source: Any, quantity: str, *index: int) -> Floats | None:
    """A number in each population or run; one for an exact solution.

    Args:
        source: theory or simulation.
        quantity: name of its array.
        index: times, and the number of a quantile.

    Returns:
        Shape (n,); None if the source does not have it.
    """
    import numpy as np

    if hasattr(source, "samples"):
        return source.samples(quantity, *index)
    values = getattr(source, quantity, None)
    return None if values is None else np.array([values[index]])


def at_time(source: Any, name: str, time: int) -> Estimate | None:
    """One of ``FINAL``.

    Args:
        source: theory or simulation.
        name: of the quantity.
        time: t.

    Returns:
        The estimate; None if the source does not have it.
    """
    quantity, more = FINAL[name]
    if name == "replica distance" and _single(source):
        return None
    samples = samples_of(source, quantity, time, *((time,) if more is None else more))
    if samples is None:
        return None
    return estimate_of(1 - samples if name == "train error" else samples)


def _single(source: Any) -> bool:
    """Whether there is no second replica."""
    name = "replica_distance" if hasattr(source, "replicas") else "replica_correlation"
    return getattr(source, name) is None


def estimate_of(samples: Floats) -> Estimate:
    """Mean with its error; without one for a single number, and nothing but zero for rounding.

    Args:
        samples: shape (n,).

    Returns:
        The estimate.
    """
    from theory.estimate import Estimate

    if len(samples) == 1:
        return Estimate(float(samples[0]), 0.0, 1)
    estimate = Estimate.from_samples(samples)
    if abs(estimate.value) < ROUNDING and estimate.standard_error < ROUNDING:
        return Estimate(0.0, 0.0, estimate.n)
    return estimate


def relaxation(source: Any, starts: Sequence[int], lag: int) -> tuple[Floats, Floats, Floats]:
    """Averages over start times t, in each population or run.

    Args:
        source: theory or simulation, which has all times that are needed.
        starts: t.
        lag: n >= 1.

    Returns:
        C(t, t) - C(t+n, t), half of C(t+n-1, t) - C(t+n+1, t), and R(t+n, t); shape (n,) each.
    """
    import numpy as np

    def mean(quantity: str, n: int) -> Floats:
        rows = [samples_of(source, quantity, t + n, t) for t in starts]
        return np.mean([row for row in rows if row is not None], axis=0)

    here, before, after = (mean("correlation", n) for n in (lag, lag - 1, lag + 1))
    return mean("correlation", 0) - here, (before - after) / 2, mean("response", lag)


def temperature_at(source: Any, starts: Sequence[int], lag: int, learning_rate: float) -> Estimate | None:
    """T_eff(n) from the averages of `relaxation`, with the error of the ratio's linear part.

    Args:
        source: theory or simulation.
        starts: t.
        lag: n.
        learning_rate: eta.

    Returns:
        The estimate; None if the response cannot be told from zero.
    """
    _, above, answer = relaxation(source, starts, lag)
    below = estimate_of(learning_rate * answer)
    if below.value == 0 or abs(below.value) < MEASURABLE * below.standard_error:
        return None
    ratio = above.mean() / below.value
    return estimate_of(ratio + (above - ratio * learning_rate * answer) / below.value)


def compare_order(text: str, setting: Setting, result: OrderResult) -> tuple[list[Comparison], list[str]]:
    """Theory beside simulation; where theory is exact, that.

    Args:
        text: of the order.
        setting: what the options name.
        result: with a simulation.

    Returns:
        The comparisons, verdicts not yet corrected, and what could not be compared.
    """
    from theory.estimate import compare

    simulated = result.simulated
    assert simulated is not None
    rows: list[tuple[str, Callable[[Any], Estimate | None]]] = [
        (name, lambda source, name=name: at_time(source, name, setting.steps)) for name in FINAL
    ]
    starts, last = setting.simulated_starts(result.selection), setting.lags[-1]
    rows.append((f"C(0) - C({last})", lambda source: estimate_of(relaxation(source, starts, last)[0])))
    rows.append((f"R({last})", lambda source: estimate_of(relaxation(source, starts, last)[2])))
    rate = setting.training.learning_rate
    rows += [(f"T_eff({n})", lambda source, n=n: temperature_at(source, starts, n, rate)) for n in setting.lags]
    found: list[tuple[str, Estimate, Estimate]] = []
    left_out = []
    for name, number in rows:
        measured = number(simulated)
        theory = None if result.exact is None else number(result.exact)
        theory = number(result.solution) if theory is None else theory
        if theory is not None and measured is not None:
            found.append((name, theory, measured))
        elif name != "replica distance":
            left_out.append(f"{text}, {name}: its response cannot be told from zero")
    # Temperatures are differences: their finite-size error is in units of the highest one, as their refusal is.
    highest = max((abs(theory.value) for name, theory, _ in found if name.startswith("T_eff")), default=0.0)
    norm = next(theory.value for name, theory, _ in found if name == "norm C")
    comparisons = []
    for name, theory, measured in found:
        size, allowed = abs(theory.value), FINITE_SIZE / simulated.dimensions * abs(theory.value)
        if name.startswith("T_eff"):
            allowed = max(FINITE_SIZE / simulated.dimensions * highest, TRANSIENT * norm)
        elif name.startswith("C(0)"):
            allowed = max(allowed, TRANSIENT * norm)
        comparisons.append(compare(f"{text}, {name}", theory, measured, margin=allowed / size if size else 0.0))
    return comparisons, left_out
