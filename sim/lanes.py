"""Random numbers and elementary functions for kernels that advance LANES trajectories at once.

One trajectory is a chain of dependent operations: a processor waits most of the time. Sixty-four in step fill its
vector units, which takes three things: loops over ``range(LANES)`` with a frozen bound, no call of the C library inside
them (hence the polynomials here) and ``error_model="numpy"``, because a branch for division by zero forbids vectors.
Multiply and add may fuse (``contract``) but nothing is reordered, so that results depend neither on the vector width
nor on the number of lanes.

Each trajectory has a xoshiro256++ generator of its own, seeded by SplitMix64 from a key and the trajectory's number:
its random numbers are the same in whatever lane, chunk or thread it runs, and it can be replayed alone. State arrays
hold word k of lane i at ``k * LANES + i``.

Reference: [blackman2021] xoshiro256++; [steele2014] SplitMix64
"""

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

LANES = 64

KERNEL: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}, "cache": True}
"""Options of every kernel: see above. ``fastmath=True`` would reorder sums and break equality across machines."""

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""Step from a ticket of the stream of rare events to the next."""

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(0x3FF0000000000000)  # the bits of 1.0
_EXPONENT_BIAS = np.uint64(1023)
_SQRT_HALF = np.uint64(0x3FE6A09E667F3BCD)
_U1, _U2, _U4 = np.uint64(1), np.uint64(2), np.uint64(4)
_U12, _U17, _U19, _U23, _U24, _U40, _U41, _U45 = (np.uint64(n) for n in (12, 17, 19, 23, 24, 40, 41, 45))
_U27, _U30, _U31, _U52, _U61, _U62 = (np.uint64(n) for n in (27, 30, 31, 52, 61, 62))


def _generate_wide_vectors(_context: Any) -> Any:

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        # llvmlite's own `add` accepts a fixed list of attributes only, which this one is not on.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


def _generate_as_float(_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float64))

    return types.float64(types.uint64), generate


def _generate_as_bits(_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint64))

    return types.uint64(types.float64), generate


wide_vectors: Any = intrinsic(_generate_wide_vectors)
"""Asks LLVM for vectors of 512 bits in the calling kernel: on some processors that have them it would prefer 256.

Worth a third of the time of ``normal_pairs`` there; elsewhere, and for the results, without effect.
"""

_as_float: Any = intrinsic(_generate_as_float)
_as_bits: Any = intrinsic(_generate_as_bits)


# ---- Memory ----------------------------------------------------------------------------------------------------------


@njit(**KERNEL)
def aligned_floats(size):
    """Zeros, at an address that is a multiple of 64: a vector of 512 bits elsewhere straddles two lines of the cache.

    That costs a third of the time of ``normal_pairs``, and numba's own arrays lie at multiples of 32.
    """
    buffer = np.zeros(size + 8)
    begin = (64 - buffer.ctypes.data % 64) % 64 // 8
    return buffer[begin : begin + size]


@njit(**KERNEL)
def aligned_words(size):
    """The same for uint64."""
    buffer = np.zeros(size + 8, np.uint64)
    begin = (64 - buffer.ctypes.data % 64) % 64 // 8
    return buffer[begin : begin + size]


# ---- Elementary functions without calls, inlined into vector loops ---------------------------------------------------


@njit(**KERNEL, inline="always")
def uniform(bits):
    """A uniform number in (0, 1) from 64 random bits."""
    return (_as_float((bits >> _U12) | _ONE) - 1.0) + 1.1102230246251565e-16


@njit(**KERNEL, inline="always")
def exponential(bits):
    """-ln u for u uniform in (0, 1], from 64 random bits, to 8e-12; at most 36."""
    # u = m 2^e with m in [sqrt(1/2), sqrt(2)), and a polynomial in f = m - 1.
    u = _as_bits(2.0 - _as_float((bits >> _U12) | _ONE))
    exponent = np.int64(u - _SQRT_HALF) >> np.int64(52)
    f = _as_float(u - (np.uint64(exponent) << _U52)) - 1.0
    p = -0.05005739856074896
    p = p * f + 0.09036918082473439
    p = p * f - 0.09109977501765226
    p = p * f + 0.09031007216275544
    p = p * f - 0.09922838167177782
    p = p * f + 0.11109481863170483
    p = p * f - 0.12503219754385583
    p = p * f + 0.1428586067782367
    p = p * f - 0.16666611733567152
    p = p * f + 0.19999997848702775
    p = p * f - 0.25000000267154865
    p = p * f + 0.333333333374911
    square = f * f
    return np.float64(exponent) * -0.6931471805599453 - (f - 0.5 * square + square * f * p)


@njit(**KERNEL, inline="always")
def direction(bits):
    """Cosine and sine of a uniform angle, from 64 random bits, to 2e-11."""
    # An angle in [-pi/4, pi/4) from the high bits; low ones turn it into any of the four quadrants.
    a = (_as_float((bits >> _U12) | _ONE) - 1.5) * 1.5707963267948966
    y = a * a
    c = -2.730095920390147e-07
    c = c * y + 2.480060037715673e-05
    c = c * y - 0.001388888767201679
    c = c * y + 0.0416666666643212
    cosine = 1.0 - 0.5 * y + y * y * c
    s = 2.724992580305979e-06
    s = s * y - 0.00019840086735384846
    s = s * y + 0.008333331874710208
    s = s * y - 0.1666666666385529
    sine = a + a * y * s
    turned = (bits & _U1) != np.uint64(0)
    one = cosine if turned else sine
    other = sine if turned else cosine
    return _as_float(_as_bits(one) ^ ((bits & _U2) << _U62)), _as_float(_as_bits(other) ^ ((bits & _U4) << _U61))


@njit(**KERNEL, inline="always")
def exp_of_minus(t):
    """e^-t for t >= 0 to a relative 3e-9; beyond t = 700 it stays what it is there."""
    t = t if t < 700.0 else 700.0
    shifted = t * -1.4426950408889634 + 6755399441055744.0  # 1.5 * 2^52: the sum's last bits are the nearest integer
    r = -t - (shifted - 6755399441055744.0) * 0.6931471805599453
    p = 0.0013941108434077287
    p = p * r + 0.008375126398237096
    p = p * r + 0.0416663528967739
    p = p * r + 0.1666641551465227
    p = p * r + 0.5000000047117757
    p = p * r + 1.0000000377162142
    p = p * r + 1.0
    return p * _as_float((_as_bits(shifted) + _EXPONENT_BIAS) << _U52)


# ---- Streams ---------------------------------------------------------------------------------------------------------


@njit(**KERNEL, inline="always")
def hashed(ticket):
    """64 random bits from a number: SplitMix64's output function, a bijection."""
    ticket = (ticket ^ (ticket >> _U30)) * _MIX_1
    ticket = (ticket ^ (ticket >> _U27)) * _MIX_2
    return ticket ^ (ticket >> _U31)


@njit(**KERNEL, inline="always")
def seed_lane(state, lane, tickets, key, number):
    """Start the streams of trajectory ``number`` in a lane.

    Args:
        state: xoshiro256++ words, uint64, shape (4 * LANES,).
        lane: where it runs.
        tickets: position in the stream of rare events (a hit, a restart), uint64, shape (LANES,).
        key: of the run, uint64, shape (2,).
        number: of the trajectory, >= 0.
    """
    # Two chains with keys of their own: equal states of two trajectories would take a coincidence of 128 bits.
    first = hashed(key[0] + np.uint64(number) * GAMMA)
    second = hashed(key[1] + np.uint64(number) * GAMMA)
    state[lane], state[LANES + lane] = first, hashed(first + GAMMA)
    state[2 * LANES + lane], state[3 * LANES + lane] = second, hashed(second + GAMMA)
    tickets[lane] = first ^ (second << _U1)


@njit(**KERNEL, inline="always")
def event_bits(tickets, lane):
    """64 random bits for a rare event of a lane."""
    tickets[lane] += GAMMA
    return hashed(tickets[lane])


@njit(**KERNEL)
def normal_pairs(state, normals):
    """Two standard normal numbers for each lane, by Box and Muller's method: sqrt(-2 ln u) (cos a, sin a).

    Accurate to 2e-11; the largest possible is 8.5 in absolute value. One word of 64 bits serves a pair, which saves a
    tenth of the time: its high bits make u, its low ones the angle. Both have more digits than that, but u to 2^-37 and
    the angle to 2^-26 of a turn are made of different bits, and independent.

    Args:
        state: xoshiro256++ words, uint64, shape (4 * LANES,); advanced once.
        normals: filled; the first of lane i at i, the second at LANES + i, shape (2 * LANES,).
    """
    wide_vectors()
    for i in range(LANES):
        s0, s1, s2, s3 = state[i], state[LANES + i], state[2 * LANES + i], state[3 * LANES + i]
        total = s0 + s3
        bits = ((total << _U23) | (total >> _U41)) + s0
        shifted = s1 << _U17
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= shifted
        s3 = (s3 << _U45) | (s3 >> _U19)
        state[i], state[LANES + i], state[2 * LANES + i], state[3 * LANES + i] = s0, s1, s2, s3
        radius = math.sqrt(2.0 * exponential(bits))
        cosine, sine = direction((bits << _U40) | (bits >> _U24))
        normals[i], normals[LANES + i] = radius * cosine, radius * sine
