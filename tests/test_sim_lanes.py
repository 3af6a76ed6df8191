"""The random numbers of the kernels: against big-integer Python and the C library, and against the normal law."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit

from sim.lanes import (
    GAMMA,
    KERNEL,
    LANES,
    direction,
    event_bits,
    exp_of_minus,
    exponential,
    hashed,
    normal_pairs,
    seed_lane,
    uniform,
)
from sim.random_streams import kernel_key, stream
from theory.estimate import agreement

Bits = npt.NDArray[np.uint64]

# Not cached: numba would not see that what is inlined has changed.
COMPILED: dict[str, Any] = {**KERNEL, "cache": False}

MASK = 2**64 - 1
EDGES = [0, 1, 4095, 4096, 2**52, 2**63 - 1, 2**63, 2**64 - 4096, 2**64 - 1]


# ---- The same numbers in slow Python ---------------------------------------------------------------------------------


def python_hashed(ticket: int) -> int:
    ticket = ((ticket ^ (ticket >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    ticket = ((ticket ^ (ticket >> 27)) * 0x94D049BB133111EB) & MASK
    return ticket ^ (ticket >> 31)


def python_unhashed(value: int) -> int:
    """The inverse: there is one, so that different tickets have different hashes."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        result = value
        for _ in range(64 // shift):
            result = value ^ (result >> shift)
        value = (result * pow(factor, -1, 2**64)) & MASK
    return value


def python_xoshiro(words: list[int]) -> int:
    """The next output of xoshiro256++; the words are advanced."""

    def turned(value: int, by: int) -> int:
        return ((value << by) | (value >> (64 - by))) & MASK

    result = (turned((words[0] + words[3]) & MASK, 23) + words[0]) & MASK
    shifted = (words[1] << 17) & MASK
    words[2] ^= words[0]
    words[3] ^= words[1]
    words[1] ^= words[2]
    words[0] ^= words[3]
    words[2] ^= shifted
    words[3] = turned(words[3], 45)
    return result


def python_exponential(bits: int) -> float:
    return -math.log1p(-((bits >> 12) / 2**52)) if bits >> 63 == 0 else -math.log((2**52 - (bits >> 12)) / 2**52)


def python_direction(bits: int) -> tuple[float, float]:
    angle = ((bits >> 12) / 2**52 - 0.5) * math.pi / 2
    pair = (math.sin(angle), math.cos(angle)) if bits % 2 == 0 else (math.cos(angle), math.sin(angle))
    return pair[0] * (-1) ** (bits >> 1 & 1), pair[1] * (-1) ** (bits >> 2 & 1)


def test_python_generators_give_the_published_numbers() -> None:
    # SplitMix64 from seeds 0 and 1234567, xoshiro256++ from the words 1, 2, 3, 4.
    gamma = int(GAMMA)
    assert [python_hashed(k * gamma & MASK) for k in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    assert [python_hashed((1234567 + k * gamma) & MASK) for k in (1, 2)] == [6457827717110365317, 3203168211198807973]
    words = [1, 2, 3, 4]
    assert [python_xoshiro(words) for _ in range(6)] == [
        41943041,
        58720359,
        3588806011781223,
        3591011842654386,
        9228616714210784205,
        9973669472204895162,
    ]


# ---- Elementary functions and hashes ---------------------------------------------------------------------------------


@njit(**COMPILED)
def evaluated(bits, times, results, hashes):
    for i in range(len(bits)):
        results[0, i] = uniform(bits[i])
        results[1, i] = exponential(bits[i])
        results[2, i], results[3, i] = direction(bits[i])
        results[4, i] = exp_of_minus(times[i])
        hashes[i] = hashed(bits[i])


def evaluate(bits: Bits, times: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], Bits]:
    """Rows: uniform, exponential, cosine, sine, e^-t; and the hashes."""
    results, hashes = np.zeros((5, len(bits))), np.zeros(len(bits), np.uint64)
    evaluated(bits, np.resize(np.asarray(times, dtype=float), len(bits)), results, hashes)
    return results, hashes


def many_bits(seed: int, n: int) -> Bits:
    """Edges, both sides of u = sqrt(1/2) where the exponent of the logarithm changes, powers of two, random ones."""
    turn = int((1 - math.sqrt(0.5)) * 2**52) << 12
    special = [
        *EDGES,
        *(turn + (k << 12) for k in range(-3, 4)),
        *(2**k for k in range(64)),
        *(2**64 - 2**k for k in range(64)),
    ]
    drawn = stream(seed, "bits").integers(2**64, size=n, dtype=np.uint64)
    return np.concatenate([np.array(special, np.uint64), drawn])


def test_uniform_is_exact_and_never_0_or_1(seed: int) -> None:
    bits = many_bits(seed, 10_000)
    values = evaluate(bits, 0.0)[0][0]
    assert values.tolist() == [((int(word) >> 12) + 0.5) / 2**52 for word in bits]
    assert (values.min(), values.max()) == (2.0**-53, 1 - 2.0**-53)


def test_exponential_is_the_logarithm(seed: int) -> None:
    bits = many_bits(seed, 50_000)
    values = evaluate(bits, 0.0)[0][1]
    expected = np.array([python_exponential(int(word)) for word in bits])
    assert np.abs(values - expected).max() < 8e-12
    assert values[:2].tolist() == [0.0, 0.0]  # u = 1
    assert values.min() == 0
    assert values[len(EDGES) - 1] == values.max() == pytest.approx(52 * math.log(2), abs=8e-12)


def test_direction_is_cosine_and_sine(seed: int) -> None:
    bits = many_bits(seed, 50_000)
    _, _, cosine, sine, _ = evaluate(bits, 0.0)[0]
    expected = np.array([python_direction(int(word)) for word in bits]).T
    assert np.abs(cosine - expected[0]).max() < 2e-11
    assert np.abs(sine - expected[1]).max() < 2e-11


def test_directions_cover_the_circle_evenly() -> None:
    # Equally spaced high bits with each combination of the three low ones: the circle twice.
    high = (np.arange(512, dtype=np.uint64) << np.uint64(55)) + np.uint64(2**54)
    bits = (high[:, None] + np.arange(8, dtype=np.uint64)).ravel()
    _, _, cosine, sine, _ = evaluate(bits, 0.0)[0]
    angles = np.sort(np.arctan2(sine, cosine))
    assert angles == pytest.approx(-math.pi + 2 * math.pi / 2048 * (np.arange(4096) // 2 + 0.5), abs=1e-10)


def test_exp_of_minus_is_the_exponential(seed: int) -> None:
    rng = stream(seed, "times")
    times = np.concatenate([np.linspace(0, 700, 30_001), 10 ** rng.uniform(-300, 2.84, 20_000), [1e-300, 5e-324]])
    values = evaluate(np.zeros(len(times), np.uint64), times)[0][4]
    assert np.abs(values / np.exp(-times) - 1).max() < 3e-9
    assert evaluate(np.zeros(4, np.uint64), [0.0, -0.0, 1e-300, 5e-324])[0][4].tolist() == [1.0] * 4
    beyond = evaluate(np.zeros(5, np.uint64), [700.0, 701.0, 1e5, 1.7e308, math.inf])[0][4]
    assert beyond == pytest.approx(math.exp(-700), rel=3e-9, abs=0)


def test_hash_is_that_of_splitmix64_and_can_be_inverted(seed: int) -> None:
    bits = np.append(many_bits(seed, 10_000), GAMMA)
    hashes = evaluate(bits, 0.0)[1]
    assert int(hashes[-1]) == 0xE220A8397B1DCDAF
    assert hashes.tolist() == [python_hashed(int(word)) for word in bits]
    assert [python_unhashed(int(value)) for value in hashes] == bits.tolist()


# ---- Streams ---------------------------------------------------------------------------------------------------------


@njit(**COMPILED)
def seeded(state, tickets, key, numbers):
    """Trajectories in lanes 0, 1, ...; returns the first two rare events of each."""
    events = np.zeros((2, LANES), np.uint64)
    for lane in range(len(numbers)):
        seed_lane(state, lane, tickets, key, numbers[lane])
        events[0, lane], events[1, lane] = event_bits(tickets, lane), event_bits(tickets, lane)
    return events


def start(seed: int, numbers: npt.ArrayLike) -> tuple[Bits, Bits]:
    """(state, events) of these trajectories."""
    state, tickets = np.zeros(4 * LANES, np.uint64), np.zeros(LANES, np.uint64)
    events = seeded(state, tickets, kernel_key(stream(seed, "key")), np.asarray(numbers, np.int64))
    return state, events


def test_seeding_is_splitmix64_of_key_and_number(seed: int) -> None:
    numbers = [*range(LANES - 2), 2**40, 2**62]
    state, events = start(seed, numbers)
    key, gamma = [int(word) for word in kernel_key(stream(seed, "key"))], int(GAMMA)
    for lane, number in enumerate(numbers):
        first, second = (python_hashed((word + number * gamma) & MASK) for word in key)
        words = [first, python_hashed((first + gamma) & MASK), second, python_hashed((second + gamma) & MASK)]
        assert state[lane::LANES].tolist() == words
        ticket = first ^ ((second << 1) & MASK)
        assert events[:, lane].tolist() == [python_hashed((ticket + k * gamma) & MASK) for k in (1, 2)]
    assert len(set(state.tolist()) | set(events.ravel().tolist())) == 6 * LANES  # all different


def test_a_trajectory_is_the_same_in_any_lane(seed: int) -> None:
    state, events = start(seed, np.arange(LANES))
    other_state, other_events = start(seed, np.arange(LANES)[::-1])
    assert (state.reshape(4, LANES) == other_state.reshape(4, LANES)[:, ::-1]).all()
    assert (events == other_events[:, ::-1]).all()


def test_normal_pairs_are_box_and_muller_of_xoshiro(seed: int) -> None:
    state = stream(seed, "state").integers(2**64, size=4 * LANES, dtype=np.uint64)
    words = [[int(word) for word in state[lane::LANES]] for lane in range(LANES)]
    normals = np.zeros(2 * LANES)
    for _ in range(20):
        normal_pairs(state, normals)
        for lane in range(LANES):
            word = python_xoshiro(words[lane])
            radius = math.sqrt(2 * python_exponential(word))
            cosine, sine = python_direction((word << 40 | word >> 24) & MASK)
            assert normals[lane] == pytest.approx(radius * cosine, abs=1e-10)
            assert normals[LANES + lane] == pytest.approx(radius * sine, abs=1e-10)
    assert [state[lane::LANES].tolist() for lane in range(LANES)] == words


# ---- Statistics of two million normal numbers ------------------------------------------------------------------------


@pytest.fixture
def normals(seed: int) -> npt.NDArray[np.float64]:
    """Shape (calls, 2, LANES)."""
    state, result = start(seed, np.arange(LANES))[0], np.zeros((2**14, 2 * LANES))
    for row in result:
        normal_pairs(state, row)
    return result.reshape(-1, 2, LANES)


def test_moments_are_normal(normals: npt.NDArray[np.float64]) -> None:
    x = normals.ravel()
    assert agreement(x, 0.0)
    assert agreement(x**2, 1.0, detects=0.02)
    assert agreement(x**3, 0.0)
    assert agreement(x**4, 3.0, detects=0.1 / 3)
    # The sum of twelve uniform numbers, a common substitute, has a fourth moment of 2.9.
    assert not agreement(x**4, 2.9, detects=0.1 / 3)
    assert not agreement(x, 0.01)
    assert not agreement(x**3, 0.05)


def test_distribution_is_normal(normals: npt.NDArray[np.float64]) -> None:
    from scipy.special import ndtr
    from scipy.stats import kstest

    x = normals.ravel()
    few = x[: 2**17]
    assert kstest(few, ndtr).pvalue > 1e-6
    assert kstest(1.1 * few, ndtr).pvalue < 1e-6
    # Far out, where a Kolmogorov-Smirnov test sees nothing.
    assert agreement(np.abs(x) > 4, 2 * float(ndtr(-4.0)))
    assert not agreement(np.abs(x) > 4, 4 * float(ndtr(-4.0)))


def test_radius_and_angle_are_independent(normals: npt.NDArray[np.float64]) -> None:
    # They come from the same word. Coarse cells of both, and of digits that lie deeper, must be filled evenly.
    radius = np.exp(-0.5 * (normals[:, 0] ** 2 + normals[:, 1] ** 2)).ravel()  # uniform
    angle = (np.arctan2(normals[:, 1], normals[:, 0]).ravel() / (2 * math.pi)) % 1.0
    for scale in (1, 2**10):
        cells = (radius * 16 * scale % 16).astype(int) * 16 + (angle * 16 * scale % 16).astype(int)
        counts, expected = np.bincount(cells, minlength=256), len(cells) / 256
        chi_squared = float(((counts - expected) ** 2 / expected).sum())
        assert 140 < chi_squared < 400  # 255 +- 23: p > 1e-6 on both sides
    # An angle that knew the radius to one part in sixteen would not pass.
    known = (radius * 16).astype(int) * 16 + (radius * 16).astype(int)
    assert ((np.bincount(known, minlength=256) - expected) ** 2 / expected).sum() > 1e5


@pytest.mark.parametrize("power", [1, 2])
def test_normals_are_uncorrelated(normals: npt.NDArray[np.float64], power: int) -> None:
    # Squares, too: those of a pair share their radius, and are independent for the normal law only.
    x = (normals**power - (power - 1)) / math.sqrt(power)
    cosine, sine = x[:, 0], x[:, 1]
    pairs = {
        "of a pair": (cosine, sine),
        "of neighbouring lanes": (cosine[:, 1:], cosine[:, :-1]),
        "across neighbouring lanes": (cosine[:, 1:], sine[:, :-1]),
        "of distant lanes": (cosine[:, LANES // 2 :], cosine[:, : LANES // 2]),
        "of successive calls": (sine[1:], sine[:-1]),
        "across successive calls": (cosine[1:], sine[:-1]),
    }
    for one, other in pairs.values():
        products = (one * other).ravel()
        assert agreement(products, 0.0)
        assert not agreement(products, 0.02)
