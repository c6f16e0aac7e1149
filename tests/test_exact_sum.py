"""Sums and quotients of the native core are the exact ones, rounded once.

The reference is Python's Fraction. Every test runs on three programs: as it is built for users,
under a hostile floating-point environment (rounding upward, subnormals flushed to zero), and under
the address and undefined-behaviour sanitizers.
"""

import math
import os
import random
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
FLAGS = {
    "optimised": ["-O3"],
    "sanitised": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
DTYPES = [np.float32, np.float64]

# The greatest finite number, the least one, and the last bit of 1, halved.
MAX32, MAX64 = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)
LEAST32, LEAST64 = 2.0**-149, 5e-324
HALF_ULP32, HALF_ULP64 = 2.0**-24, 2.0**-53


# The program ------------------------------------------------------------------------------------


class Results(NamedTuple):
    """Sum and quotient, in both types, as the program wrote them."""

    sum32: np.float32
    quotient32: np.float32
    sum64: np.float64
    quotient64: np.float64


class Program:
    """The driver, waiting for commands; it keeps eight sums, in slots."""

    def __init__(self, path, errors):
        self.errors = errors
        with errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )

    def send(self, letter, *numbers, array=None):
        formats = "".join("d" if isinstance(number, float) else "q" for number in numbers)
        command = letter.encode() + struct.pack(f"<{formats}", *numbers)
        try:
            self.process.stdin.write(command)
            if array is not None:
                self.process.stdin.write(array.tobytes())
            self.process.stdin.flush()
        except BrokenPipeError:
            pytest.fail(self.errors.read_text())

    def receive(self, size):
        answer = self.process.stdout.read(size)
        assert len(answer) == size, self.errors.read_text()
        return answer

    def clear(self, slot=0):
        self.send("z", slot)

    def add(self, memory, slot=0, count=None, stride=1, first=0):
        memory = np.asarray(memory)
        letter = {"float32": "f", "float64": "d"}[memory.dtype.name]
        count = len(memory) if count is None else count
        self.send(letter, slot, count, stride, first, len(memory), array=memory)

    def merge(self, into, source):
        self.send("m", into, source)

    def results(self, divisor=1.0, slot=0):
        self.send("r", slot, float(divisor))
        answer = self.receive(24)
        return Results(*np.frombuffer(answer[:8], "<f4"), *np.frombuffer(answer[8:], "<f8"))

    def quotient_at_once(self, values, divisor):
        self.send("q", float(divisor), len(values), array=np.asarray(values, np.float32))
        return np.frombuffer(self.receive(4), "<f4")[0]

    def digits(self, slot=0):
        self.send("s", slot)
        return self.receive(67 * 8)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait() == 0, self.errors.read_text()


def compiler():
    path = os.environ.get("CXX") or shutil.which("c++")
    if path is None:
        pytest.skip("no C++ compiler on the path")
    return path


def skip_without_sanitizers(folder):
    source = folder / "empty.cpp"
    source.write_text("int main() {}\n")
    command = [compiler(), *FLAGS["sanitised"], source, "-o", folder / "empty"]
    built = subprocess.run(command, capture_output=True, check=False)
    if built.returncode or subprocess.run([folder / "empty"], check=False).returncode:
        pytest.skip("a program with the two sanitizers does not build or run here")


@pytest.fixture(scope="session")
def executables(tmp_path_factory):
    """Compiles the driver with the flags of a name, once."""
    folder = tmp_path_factory.mktemp("exact_sum")
    sources = [ROOT / "native/exact_sum.cpp", ROOT / "tests/native/exact_sum_driver.cpp"]
    strict = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]

    def executable(name):
        path = folder / name
        if not path.exists():
            if name == "sanitised":
                skip_without_sanitizers(folder)
            command = [compiler(), *strict, *FLAGS[name], f"-I{ROOT}/native", *sources, "-o", path]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return path

    return executable


@pytest.fixture(scope="session", params=["optimised", "hostile", "sanitised"])
def program(request, executables, tmp_path_factory):
    build = "sanitised" if request.param == "sanitised" else "optimised"
    running = Program(executables(build), tmp_path_factory.mktemp(request.param) / "errors")
    if request.param == "hostile":
        running.send("h")
    yield running
    running.close()


# The reference ----------------------------------------------------------------------------------


def floor_log2(size):
    """The exponent of the greatest power of two that is not above a positive Fraction."""
    guess = size.numerator.bit_length() - size.denominator.bit_length()
    return guess if Fraction(2) ** guess <= size else guess - 1


def nearest(exact, dtype):
    """The number of the dtype nearest to a Fraction, ties to even; every zero is +0."""
    digits, least, beyond = (24, -149, 128) if dtype == np.float32 else (53, -1074, 1024)
    if exact == 0:
        return dtype(0)
    last = max(floor_log2(abs(exact)) - digits + 1, least)
    steps = round(exact / Fraction(2) ** last)  # Python rounds halves to even
    if abs(steps) * Fraction(2) ** last >= 2**beyond:
        return dtype(math.copysign(math.inf, steps))
    return dtype(math.ldexp(steps, last))


def exact_sum(values):
    """The sum of finite numbers as a Fraction, by integer sums for each exponent."""
    significands, exponents = np.frexp(np.asarray(values, np.float64))
    order = np.argsort(exponents, kind="stable")
    integers = (significands[order] * 2.0**53).astype(np.int64)
    groups, starts = np.unique(exponents[order], return_index=True)
    if len(starts) == 0:
        return Fraction(0)
    highs = np.add.reduceat(integers >> 26, starts).tolist()
    lows = np.add.reduceat(integers & (2**26 - 1), starts).tolist()
    return sum(
        ((high << 26) + low) * Fraction(2) ** (exponent - 53)
        for high, low, exponent in zip(highs, lows, groups.tolist(), strict=True)
    )


def assert_same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.tobytes() == expected.tobytes(), f"{actual!r} must be {expected!r}"


def assert_exact(results, total, divisor=1.0):
    """All four results are the roundings of the Fractions."""
    quotient = total / Fraction(divisor)
    assert_same_bits(results.sum32, nearest(total, np.float32))
    assert_same_bits(results.sum64, nearest(total, np.float64))
    assert_same_bits(results.quotient32, nearest(quotient, np.float32))
    assert_same_bits(results.quotient64, nearest(quotient, np.float64))


def as_doubles(exact):
    """Doubles whose exact sum is the Fraction, a multiple of 2^-1074."""
    parts = []
    while exact != 0:
        last = max(floor_log2(abs(exact)) - 52, -1074)
        steps = int(exact / Fraction(2) ** last)  # towards zero
        parts.append(math.ldexp(steps, last))
        exact -= Fraction(parts[-1])
    return np.array(parts, np.float64)


def test_reference_rounds_as_python_does():
    # Python's own division of integers, and from it float(Fraction), is correctly rounded.
    rng = random.Random(0)
    for _ in range(1000):
        exact = Fraction(rng.getrandbits(80) + 1, rng.getrandbits(80) + 1)
        exact *= Fraction(2) ** rng.randrange(-1090, 900)
        assert_same_bits(nearest(exact, np.float64), np.float64(float(exact)))


def test_reference_sums_as_fractions_do():
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        values = any_bits(rng, 500, dtype)
        assert exact_sum(values) == sum(map(Fraction, values.tolist()))


# Corners ----------------------------------------------------------------------------------------


def check(program, values, divisor=1.0):
    program.clear()
    program.add(values)
    assert_exact(program.results(divisor), exact_sum(values), divisor)
    if np.asarray(values).dtype == np.float32:
        expected = nearest(exact_sum(values) / Fraction(divisor), np.float32)
        assert_same_bits(program.quotient_at_once(values, divisor), expected)


@pytest.mark.parametrize(
    ("values", "sum32", "sum64"),
    [
        ([], 0.0, 0.0),
        ([-0.0], 0.0, 0.0),
        ([-0.0, -0.0], 0.0, 0.0),
        ([1.5, -1.5], 0.0, 0.0),
        ([1e300, LEAST64, -1e300], 0.0, LEAST64),
        ([-1e300, -LEAST64, 1e300], 0.0, -LEAST64),
        ([1.0, HALF_ULP32], 1.0, 1.0 + 2.0**-24),
        ([1.0 + 2.0**-23, HALF_ULP32], 1.0 + 2.0**-22, 1.0 + 3 * 2.0**-24),
        # Rounded to float64 first, it would lie on the tie of float32.
        ([1.0, HALF_ULP32, 2.0**-80], 1.0 + 2.0**-23, 1.0 + 2.0**-24),
        ([1.0, HALF_ULP32, -(2.0**-80)], 1.0, 1.0 + 2.0**-24),
        ([1.0, HALF_ULP64], 1.0, 1.0),
        ([1.0, HALF_ULP64, LEAST64], 1.0, 1.0 + 2.0**-52),
        ([1.0 + 2.0**-52, HALF_ULP64], 1.0, 1.0 + 2.0**-51),
        ([1.0 + 2.0**-52, HALF_ULP64, -LEAST64], 1.0, 1.0 + 2.0**-52),
        # The tie below a power of two rounds up into it.
        ([2.0, -(2.0**-53)], 2.0, 2.0),
        ([2.0, -(2.0**-53), -LEAST64], 2.0, 2.0 - 2.0**-52),
        # Ties with the least subnormal and with zero; the least normal number less a little.
        ([2.0**-150], 0.0, 2.0**-150),
        ([2.0**-150, LEAST64], LEAST32, 2.0**-150),
        ([-(2.0**-150), -LEAST64], -LEAST32, -(2.0**-150)),
        ([3 * 2.0**-150], 2 * LEAST32, 3 * 2.0**-150),
        ([2.0**-126, -(2.0**-150)], 2.0**-126, 2.0**-126 - 2.0**-150),
        ([2.0**-126, -(2.0**-149)], 2.0**-126 - 2.0**-149, 2.0**-126 - 2.0**-149),
        ([2.0**-1022, -LEAST64], 0.0, 2.0**-1022 - LEAST64),
        # Half a unit above the greatest number lies the tie with 2^128 and 2^1024.
        ([MAX32, 2.0**103], math.inf, MAX32 + 2.0**103),
        ([MAX32, 2.0**103, -LEAST64], MAX32, MAX32 + 2.0**103),
        ([-MAX32, -(2.0**103)], -math.inf, -MAX32 - 2.0**103),
        ([MAX64, 2.0**970], math.inf, math.inf),
        ([MAX64, 2.0**970, -LEAST64], math.inf, MAX64),
        ([-MAX64, -(2.0**970), LEAST64], -math.inf, -MAX64),
        ([MAX64] * 1000, math.inf, math.inf),
        ([-MAX64] * 1000, -math.inf, -math.inf),
        ([MAX64] * 1000 + [-MAX64] * 999, math.inf, MAX64),
    ],
)
def test_sums_at_the_corners(program, values, sum32, sum64):
    values = np.array(values, np.float64)
    program.clear()
    program.add(values)
    results = program.results()
    assert_same_bits(results.sum32, np.float32(sum32))
    assert_same_bits(results.sum64, np.float64(sum64))
    assert_exact(results, exact_sum(values))


@pytest.mark.parametrize(
    ("values", "divisor", "quotient32", "quotient64"),
    [
        ([], 3.0, 0.0, 0.0),
        ([], -3.0, 0.0, 0.0),
        ([1.0, -1.0], -LEAST64, 0.0, 0.0),
        ([1.0], 3.0, 11184811 / 2**25, 1 / 3),
        ([-2.0], 3.0, -11184811 / 2**24, -2 / 3),
        ([2.0, -8.0], -3.0, 2.0, 2.0),
        ([LEAST64], 2.0, 0.0, 0.0),
        ([-LEAST64], 2.0, 0.0, 0.0),
        ([3 * LEAST64], 2.0, 0.0, 2 * LEAST64),
        ([-LEAST64] * 3, 4.0, 0.0, -LEAST64),
        ([LEAST64], MAX64, 0.0, 0.0),
        ([LEAST64], LEAST64, 1.0, 1.0),
        ([MAX64] * 5, 5.0, math.inf, MAX64),
        ([MAX64], LEAST64, math.inf, math.inf),
        ([MAX64], -LEAST64, -math.inf, -math.inf),
        ([MAX64], -MAX64, -1.0, -1.0),
        ([1.0], MAX64, 0.0, 2.0**-1024),
        # 1 + 2^-24 lies between two floats, and stays there after a division by 3 of its triple.
        ([3.0, 3 * 2.0**-24], 3.0, 1.0, 1.0 + 2.0**-24),
        ([3.0, 3 * 2.0**-24, LEAST64], 3.0, 1.0 + 2.0**-23, 1.0 + 2.0**-24),
        ([3.0, 3 * 2.0**-24, -LEAST64], 3.0, 1.0, 1.0 + 2.0**-24),
        ([3.0, 9 * 2.0**-24], 3.0, 1.0 + 2.0**-22, 1.0 + 3 * 2.0**-24),
        ([3.0, 9 * 2.0**-24, -LEAST64], 3.0, 1.0 + 2.0**-23, 1.0 + 3 * 2.0**-24),
    ],
)
def test_quotients_at_the_corners(program, values, divisor, quotient32, quotient64):
    values = np.array(values, np.float64)
    program.clear()
    program.add(values)
    results = program.results(divisor)
    assert_same_bits(results.quotient32, np.float32(quotient32))
    assert_same_bits(results.quotient64, np.float64(quotient64))
    assert_exact(results, exact_sum(values), divisor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [3, 40, 700, 3000])
@pytest.mark.parametrize(
    ("specials", "expected"),
    [
        ([math.inf], math.inf),
        ([-math.inf], -math.inf),
        ([math.inf, math.inf], math.inf),
        ([-math.inf, -math.inf], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan], math.nan),
        ([math.copysign(math.nan, -1)], math.nan),
        ([math.nan, math.inf], math.nan),
        ([-math.inf, math.nan], math.nan),
    ],
)
@pytest.mark.parametrize("largest_finite", [False, True])
def test_nan_and_infinities_go_first(program, dtype, length, specials, expected, largest_finite):
    rng = np.random.default_rng(length)
    for place in (0, length // 2, length - len(specials)):
        values = rng.uniform(0.1, 10, length).astype(dtype)
        if largest_finite:
            values[:] = np.finfo(dtype).max
        values[place : place + len(specials)] = specials
        program.clear()
        program.add(values)
        for result in program.results(divisor=4.0):
            np.testing.assert_array_equal(result, expected)
        for result in program.results(divisor=-4.0)[1::2]:
            np.testing.assert_array_equal(result, -expected)


@pytest.mark.parametrize(
    ("kept", "merged", "expected"),
    [
        ([math.inf], [1.0], math.inf),
        ([1.0], [math.inf], math.inf),
        ([1.0], [-math.inf], -math.inf),
        ([math.inf], [-math.inf], math.nan),
        ([1.0], [math.nan], math.nan),
    ],
)
def test_merge_keeps_what_is_not_finite(program, kept, merged, expected):
    for slot, values in enumerate([kept, merged]):
        program.clear(slot)
        program.add(np.array(values), slot)
    program.merge(0, 1)
    for result in program.results():
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("divisor", [0.0, -0.0, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5, MAX64, math.inf, -math.inf, math.nan])
def test_divisors_that_are_no_numbers_divide_as_ieee_754_says(program, value, divisor):
    program.clear()
    program.add(np.array([value]))
    with np.errstate(all="ignore"):
        expected = np.float64(value) / np.float64(divisor)
    expected = 0.0 if expected == 0 else expected
    results = program.results(divisor)
    for result in (results.quotient32, results.quotient64):
        np.testing.assert_array_equal(result, expected)
        assert result != 0 or not np.signbit(result)


# Anything ---------------------------------------------------------------------------------------


def finite(dtype):
    width = 32 if dtype == np.float32 else 64
    return st.floats(width=width, allow_nan=False, allow_infinity=False)


@st.composite
def terms(draw, dtype):
    """Numbers of all sizes, some of which cancel others exactly or are far below them."""
    values = draw(st.lists(finite(dtype), max_size=30))
    for value in draw(st.lists(st.sampled_from(values), max_size=30)) if values else []:
        values.append(draw(st.sampled_from([-value, value, value / 2, math.nextafter(value, 0)])))
    with np.errstate(all="ignore"):
        return np.array(draw(st.permutations(values)), dtype)


divisors = finite(np.float64).filter(bool)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_any_terms(program, dtype, data):
    check(program, data.draw(terms(dtype)), data.draw(divisors | st.integers(1, 2**53)))


@given(data=st.data())
def test_floats_and_doubles_add_up_together(program, data):
    arrays = [data.draw(terms(dtype)) for dtype in DTYPES]
    program.clear()
    for array in arrays:
        program.add(array)
    assert_exact(program.results(), sum(map(exact_sum, arrays)))


@given(data=st.data())
def test_order_and_parts_change_no_digit(program, data):
    values = data.draw(terms(np.float64))
    program.clear()
    program.add(values)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), min_size=3, max_size=3)))
    parts = np.split(np.array(data.draw(st.permutations(values.tolist())), np.float64), cuts)
    for slot, part in enumerate(parts, start=1):
        program.clear(slot)
        program.add(part, slot)
    first, *others = data.draw(st.permutations([1, 2, 3, 4]))
    for other in others:
        program.merge(first, other)
    assert program.digits(first) == program.digits(0)
    assert program.results(7.0, slot=first) == program.results(7.0)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_quotients_at_and_beside_midpoints(program, dtype, data):
    digits, least, greatest = (24, -149, 127) if dtype == np.float32 else (53, -1074, 1023)
    width = data.draw(st.sampled_from([digits, digits, 1, 2, digits - 1]))
    steps = data.draw(st.integers(2 ** (width - 1), 2**width - 1))
    last = least if width < digits else data.draw(st.integers(least, greatest - digits + 1))
    midpoint = (steps + Fraction(1, 2)) * Fraction(2) ** last * data.draw(st.sampled_from([1, -1]))

    # Sums reach from 2^-1074 to 2^1064; the divisor has to take the midpoint there.
    size = floor_log2(abs(midpoint))
    exponents = st.integers(max(-1074, -1000 - size), min(971, 960 - size))
    significands = st.integers(2**52, 2**53 - 1) | st.integers(1, 1000)
    divisor = math.ldexp(data.draw(significands), data.draw(exponents))
    total = midpoint * Fraction(divisor)
    assume((total * 2**1074).denominator == 1)

    tiny = max(Fraction(2) ** (floor_log2(abs(total)) - 200), Fraction(2) ** -1074)
    total += data.draw(st.sampled_from([0, 0, tiny, -tiny, Fraction(LEAST64), -Fraction(LEAST64)]))
    values = as_doubles(total)
    assert exact_sum(values) == total
    check(program, values, divisor)


@given(data=st.data())
def test_floats_of_similar_size_at_and_beside_midpoints(program, data):
    # Their sums hold a few bits more than a float. Divided by what comes nearest to their distance
    # from a midpoint, they miss it by less than a double shows.
    sizes = st.integers(2**23, 2**24 - 1) | st.sampled_from([2**k / 4 for k in range(24)])
    signs = st.sampled_from([1.0, -1.0])
    scale = 2.0 ** data.draw(st.integers(-140, 90))
    values = data.draw(st.lists(st.builds(lambda s, v: s * v * scale, signs, sizes), min_size=1))
    midpoint = data.draw(st.integers(2**23, 2**24 - 1)) + Fraction(1, 2)
    total = exact_sum(np.array(values, np.float32))
    divisor = data.draw(st.just(float(total / midpoint) or 1.0) | st.sampled_from([1.0, 0.5, 3.0]))
    check(program, np.array(values, np.float32), divisor)


# Arrays -----------------------------------------------------------------------------------------


def any_bits(rng, count, dtype):
    """All bit patterns of finite numbers."""
    size = np.dtype(dtype).itemsize
    values = rng.integers(0, 256, count * size, np.uint8).view(dtype)
    return np.where(np.isfinite(values), values, dtype(0))


def log_uniform(rng, count, dtype):
    return np.exp(rng.uniform(math.log(1e-30), math.log(10), count)).astype(dtype)


def signed(rng, values):
    return np.where(rng.random(len(values)) < 0.5, values, -values)


def subnormal(rng, count, dtype):
    return signed(rng, rng.random(count).astype(dtype) * np.finfo(dtype).smallest_normal)


def with_zeros(rng, values):
    values[rng.random(len(values)) < 0.5] = 0
    values[rng.random(len(values)) < 0.1] = -0.0
    return values


KINDS = {
    "similar": lambda rng, n, t: rng.uniform(0.1, 10, n).astype(t),
    "similar, signed": lambda rng, n, t: signed(rng, rng.uniform(0.1, 10, n).astype(t)),
    "similar, zeros": lambda rng, n, t: with_zeros(rng, rng.uniform(0.1, 10, n).astype(t)),
    "zeros": lambda rng, n, t: with_zeros(rng, np.zeros(n, t)),
    "rarely tiny": lambda rng, n, t: np.where(
        rng.random(n) < 1e-3, t(1e-30), rng.uniform(0.1, 10, n).astype(t)
    ),
    "log-uniform": log_uniform,
    "log-uniform, signed": lambda rng, n, t: signed(rng, log_uniform(rng, n, t)),
    "log-uniform, zeros": lambda rng, n, t: with_zeros(rng, log_uniform(rng, n, t)),
    "crowded": lambda rng, n, t: np.where(rng.random(n) < 1e-3, t(1e-30), np.nextafter(t(2), t(0))),
    "subnormal": subnormal,
    "some subnormal": lambda rng, n, t: np.where(
        rng.random(n) < 0.01, subnormal(rng, n, t), np.finfo(t).smallest_normal
    ),
    "greatest": lambda rng, n, t: np.full(n, np.finfo(t).max),
    "greatest, signed": lambda rng, n, t: signed(rng, np.full(n, np.finfo(t).max)),
    "any bits": any_bits,
    "cancelling": lambda rng, n, t: np.append(
        *(
            sign * rng.permutation(log_uniform(np.random.default_rng(n), n // 2, t))
            for sign in (1, -1)
        )
    ),
}
# One value, whole chains of additions, blocks and stretches of the code; and one beside each.
LENGTHS = [1, 7, 8, 9, 255, 256, 257, 1023, 1024, 1025, 1300, 2**15 - 1, 2**15 + 1, 70_001]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_arrays(program, kind, dtype):
    for length in LENGTHS:
        rng = np.random.default_rng(length)
        check(program, KINDS[kind](rng, length, dtype), divisor=float(length))


@pytest.mark.parametrize("spread", range(17, 24))
@pytest.mark.parametrize("scale", [-125, -100, 0, 100])
def test_spread_where_float_blocks_leave_the_53_bits_of_doubles(program, spread, scale):
    # All bits of the sum are in use, and only the last one is left when the great ones are gone.
    great = np.full(4095, (2 - 2**-23) * 2.0 ** (scale + spread), np.float32)
    small = np.float32(2.0**scale * (1 + 2**-23))
    program.clear()
    program.add(np.append(great, small))
    program.add(-great)
    assert_exact(program.results(), Fraction(float(small)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stride", [0, 1, 2, 3, -1, -2, -7])
@pytest.mark.parametrize("count", [0, 1, 5, 1024, 1025, 3000])
@pytest.mark.parametrize("kind", ["similar", "log-uniform, signed"])
def test_strides(program, dtype, stride, count, kind):
    memory = KINDS[kind](np.random.default_rng(count), 1 + abs(stride) * max(count - 1, 0), dtype)
    first = 0 if stride >= 0 else len(memory) - 1
    chosen = memory[first + stride * np.arange(count)]
    program.clear()
    program.add(memory, count=count, stride=stride, first=first)
    assert_exact(program.results(), exact_sum(chosen))


@pytest.mark.parametrize("shift", range(4))
def test_alignment_changes_nothing(program, shift):
    memory = KINDS["similar, signed"](np.random.default_rng(shift), 5000 + shift, np.float32)
    program.clear()
    program.add(memory, count=5000, first=shift)
    assert_exact(program.results(), exact_sum(memory[shift:]))


def test_sum_of_2_to_the_40_of_the_greatest_numbers(program):
    for slot, value in enumerate([MAX64, -MAX64, LEAST64]):
        program.clear(slot)
        program.add(np.array([value]), slot)
    for _ in range(40):
        for slot in range(3):
            program.merge(slot, slot)
    assert_exact(program.results(2.0**40), 2**40 * Fraction(MAX64), 2.0**40)
    assert_exact(program.results(2.0**40, slot=1), -(2**40) * Fraction(MAX64), 2.0**40)
    program.merge(2, 0)
    program.merge(2, 1)
    assert_exact(program.results(slot=2), 2**40 * Fraction(LEAST64))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["similar", "log-uniform, signed", "crowded", "any bits"])
def test_two_million_values(program, kind, dtype):
    check(program, KINDS[kind](np.random.default_rng(1), 2_000_000, dtype), divisor=2e6)


@pytest.mark.slow
def test_more_values_than_32_bits_count(executables, tmp_path):
    # Not under the sanitizers: it takes seconds as it is.
    program = Program(executables("optimised"), tmp_path / "errors")
    count = 2**32 + 5
    program.add(np.array([1.1], np.float32), count=count, stride=0)
    assert_exact(program.results(), count * Fraction(float(np.float32(1.1))))
    program.close()
