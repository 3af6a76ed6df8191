"""Hostile arguments of the public theory, and what must hold of every answer, for test_theory_hostile_*.

Half of the numbers are usual; the others are extreme, infinite, nan, or of another type.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import theory
from theory import ReshuffledEvery, ShuffledOnce

Strategy = st.SearchStrategy[Any]

REFUSED = object()
"""What stands for an argument that its own class refused."""

ODD = (
    0.0,
    -0.0,
    5e-324,
    1e-300,
    1e-160,
    1e-9,
    0.999999,
    1.0 + 1e-12,
    7,
    1e6,
    1e16,
    1e160,
    1e308,
    -1.0,
    -1e-300,
    -1e308,
)
ODD += (math.nan, math.inf, -math.inf, True, False, np.float32(0.5), np.int64(3), np.float64(2.5), np.bool_(True))
ODD_COUNTS = (
    0,
    -1,
    7,
    10**18 + 1,
    2**63,
    10**30,
    True,
    np.int64(4),
    np.int32(5),
    2.5,
    np.float64(3.0),
    math.nan,
    math.inf,
)


def number(*usual: float) -> Strategy:
    return st.sampled_from(usual * (len(ODD) // len(usual)) + ODD)


def count(*usual: int, largest: float = math.inf) -> Strategy:
    """A whole number; what would make large arrays is left out by ``largest``."""
    odd = tuple(value for value in ODD_COUNTS if not largest < value < math.inf)
    return st.sampled_from(usual * (2 * len(odd) // len(usual)) + odd)


def array(item: Strategy, sizes: Sequence[int] = (0, 1, 2, 3, 5)) -> Strategy:
    lists = st.sampled_from(sizes).flatmap(lambda n: st.lists(item, min_size=n, max_size=n))
    return st.one_of(lists, lists.map(partial(np.array, dtype=float)), lists, item, st.just(np.full((2, 2), 0.5)))


def made(maker: Callable[..., Any], *arguments: Strategy, **named: Strategy) -> Strategy:
    """An object, or `REFUSED`."""

    def attempt(given_arguments: tuple[Any, ...], given_names: dict[str, Any]) -> Any:
        if REFUSED in map(id_or_value, given_arguments):
            return REFUSED
        try:
            return maker(*given_arguments, **given_names)
        except ValueError:
            return REFUSED

    return st.tuples(st.tuples(*arguments), st.fixed_dictionaries(named)).map(lambda both: attempt(*both))


def id_or_value(value: Any) -> Any:
    """Arrays cannot be compared by ==."""
    return value if value is REFUSED else None


POSITIVE, SIGNED, SHARE = (
    number(0.1, 0.5, 1.0, 2.0),
    number(-1.0, -0.5, 0.0, 0.3, 1.0, 2.0),
    number(0.1, 0.25, 0.5, 0.9),
)
EPOCHS, FEW = count(1, 2, 3, 5, largest=1000), count(1, 2, 3)
TIMES = array(number(0.0, 0.1, 1.0, 3.0))

LAW = st.one_of(
    made(theory.Deterministic, POSITIVE),
    made(theory.Exponential, POSITIVE),
    made(theory.Gamma, POSITIVE, POSITIVE),
    made(theory.erlang, FEW, POSITIVE),
    made(theory.Weibull, POSITIVE, POSITIVE),
    made(theory.LogNormal, SIGNED, POSITIVE),
    made(theory.Pareto, number(0.5, 1.5, 2.5), POSITIVE),
    made(theory.Brownian, POSITIVE, POSITIVE),
    made(theory.DriftDiffusion, POSITIVE, SIGNED, POSITIVE),
    made(theory.Interval, number(1.0, 2.0), SHARE, POSITIVE),
    made(theory.Hyperexponential, st.just((0.5, 0.5)), st.tuples(POSITIVE, POSITIVE)),
    made(theory.EmpiricalLaw, array(POSITIVE)),
)
CENTRAL = made(theory.OrnsteinUhlenbeck, SIGNED, st.just(0.0), POSITIVE, POSITIVE)
"""The one kind of Ornstein-Uhlenbeck law that is elementary, and quick."""
INVERTED = made(theory.OrnsteinUhlenbeck, SIGNED, number(-1.0, 0.5, 1.0, 2.0), POSITIVE, POSITIVE)
QUICK_LAW = st.sampled_from(
    [
        *(theory.Exponential(1.0), theory.Gamma(2.0, 0.5), theory.Weibull(0.5, 1.0), theory.Pareto(2.5, 1.0)),
        *(theory.Brownian(1.0, 1.0), theory.DriftDiffusion(1.0, -1.0, 1.0), theory.Deterministic(1.0)),
        theory.EmpiricalLaw(np.array([1.0, 2.0, 2.0, 5.0])),
    ]
)
TIMER = st.one_of(made(theory.Exponential, POSITIVE), made(theory.Deterministic, POSITIVE))
RESTARTED = made(theory.Restarted, QUICK_LAW, TIMER, number(0.0, 0.1))

MODES = made(theory.HeavyBall, number(0.1, 0.01), array(number(0.1, 1.0, 3.0)), number(0.0, 0.5, 0.9))
NOISE = st.one_of(
    made(theory.WhiteNoise, POSITIVE),
    made(theory.Reshuffled, FEW, POSITIVE),
    made(ReshuffledEvery, count(2, 3, largest=50), count(1, 2, largest=50), POSITIVE),
    made(ShuffledOnce, count(2, 5, largest=50), POSITIVE),
    made(theory.Persistent, SHARE, POSITIVE),
    made(theory.AntiCorrelatedIncrements, POSITIVE),
    made(theory.TabulatedNoise, array(number(1.0, 0.2, -0.1))),
)
TWO_MODES = st.sampled_from([theory.HeavyBall(0.1, [0.5, 2.0]), theory.HeavyBall(0.1, [0.5, 2.0], 0.9)])
USUAL_NOISE = st.sampled_from(
    [theory.WhiteNoise(1.0), theory.Reshuffled(5), ShuffledOnce(4), theory.Persistent(0.5), ReshuffledEvery(3, 2)]
)

SURVIVAL = st.one_of(
    st.tuples(st.sampled_from([0.5, 0.9, 1 - 1e-12, 1e-300, 1.0]), st.sampled_from([1, 4, 8])).map(
        lambda both: both[0] ** np.arange(both[1] + 1.0)
    ),
    array(SHARE).map(partial(np.asarray, dtype=float)),
)
CHAIN = made(theory.Chain, array(SHARE).map(lambda row: [row, row]), array(SHARE))
TWO_STATES = st.just(theory.Chain(np.array([[0.5, 0.3], [0.2, 0.6]]), np.array([0.5, 0.5])))
KERNEL = st.one_of(st.just(np.eye(2)), st.lists(st.lists(SHARE, min_size=2, max_size=2), min_size=2, max_size=2))
RUN = st.tuples(st.sampled_from([1, 2, 3, 5] * 8 + [0, -1]), st.booleans())
PASSAGES = st.lists(RUN, min_size=0, max_size=8).flatmap(
    lambda runs: made(
        theory.FirstPassages,
        st.just(np.array([t for t, _ in runs], dtype=int)),
        st.just(np.array([o for _, o in runs], dtype=bool)),
    )
)
SURVIVED = PASSAGES.flatmap(lambda passages: made(theory.Survival.of, st.just(passages)))
ESTIMATE = made(theory.Estimate, SIGNED, number(0.1, 1.0), count(2, 10, 200))
COMPARISON = made(partial(theory.compare, "quantity"), ESTIMATE, ESTIMATE)
POTENTIAL = st.sampled_from(["x**2", "(x**2-1)**2", "x", "1e-90*x**2", "x**4-x**2"]).map(theory.potential)
LINK = st.one_of(
    made(theory.ErfLink, number(-3.0, -1.0), number(1.0, 2.0)), made(theory.CloglogLink, SIGNED, number(1.0, 0.5))
)
VALLEY = made(theory.Valley, count(1, 2, 5), number(0.1, 0.01))
MODEL = made(theory.MixturePerceptron, number(1.0, 2.0), number(0.5, 1.0))
LOOP = made(theory.CoolingLoop, number(1.0, 0.5))


def calls(name: str) -> Callable[..., Any]:
    """A method or property of the first argument."""

    def call(owner: Any, *arguments: Any) -> Any:
        member = getattr(owner, name)
        return member(*arguments) if callable(member) else member

    return call


# ---- What must hold of answers -----------------------------------------------------------------------------------


def is_share(result: Any, *_: Any) -> bool:
    values = np.asarray(result)
    return bool(((values >= 0) & (values <= 1)).all())


def not_negative(result: Any, *_: Any) -> bool:
    return bool((np.asarray(result) >= 0).all())


def falls_in_time(result: Any, _law: Any, times: Any) -> bool:
    order = np.argsort(np.ravel(times), kind="stable")
    return is_share(result) and bool((np.diff(np.ravel(result)[order]) <= 1e-8).all())


def at_most(limit: Any, result: Any) -> bool:
    return bool(np.all(np.asarray(result) <= np.asarray(limit) * (1 + 1e-9)))


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, its arguments, and what holds of (result, *arguments)."""

    call: Callable[..., Any]
    arguments: tuple[Strategy, ...]
    holds: Callable[..., bool] = lambda *_: True


def case(call: Callable[..., Any], *arguments: Strategy, holds: Callable[..., bool] = lambda *_: True) -> Case:
    return Case(call, arguments, holds)


def law_case(name: str, *arguments: Strategy, holds: Callable[..., bool] = not_negative) -> Case:
    return Case(calls(name), (LAW, *arguments), holds)


# ---- The check ------------------------------------------------------------------------------------------------------


def holds_nan(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fc" and bool(np.isnan(value).any())
    if isinstance(value, float | complex | np.number):
        return bool(value != value)
    if isinstance(value, list | tuple):
        return any(map(holds_nan, value))
    if dataclasses.is_dataclass(value):
        return any(holds_nan(getattr(value, field.name)) for field in dataclasses.fields(value))
    return False


def check(tried: Case, examples: int) -> None:
    @settings(
        max_examples=examples, database=None, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(st.tuples(*tried.arguments))
    def run(arguments: tuple[Any, ...]) -> None:
        flat = [item for value in arguments for item in (value if isinstance(value, list) else [value])]
        if any(value is REFUSED for value in flat):
            return
        try:
            result = tried.call(*arguments)
        except np.linalg.LinAlgError:
            raise  # a ValueError that does not say which argument is wrong
        except ValueError:
            return
        assert not holds_nan(result), f"nan: {result}"
        assert tried.holds(result, *arguments), result

    run()
