"""The native softmax kernels: how far from exact arithmetic, and what never changes a bit.

The contract (test_contract.py) judges every loss on small rows. Here are long ones, whose terms
meet in the lanes, blocks and parts of the kernels; and what results must not depend on: threads,
memory layout, the state of the caller's processor. The slow tests run all of it on every
instruction set that this processor has.
"""

import itertools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import oracle
import pytest
from exact_arithmetic import exact
from regimes import dtype_of, result_dtype
from test_contract import HALF_ULP, LABEL_ULP, OTHERS_ULP, TRANSFORMED_ULP, VALUE_ULP
from ulp import ulp_error, ulp_of

import crossent
from crossent import _numpy_native

ROOT = Path(__file__).parent.parent
INF = np.inf
PART = 1 << 18  # kPart of native/softmax_kernels.h: longer rows are summed in parts
BIG = np.longdouble  # 64 bits of mantissa and more; a plain double on some platforms


@pytest.fixture(autouse=True)
def native(request):
    """The native core. Tests that are given an instruction set run in processes of their own."""
    core = _numpy_native.core
    if core is None and "isa" not in request.fixturenames:
        pytest.skip(_numpy_native.kernel)
    return core


@pytest.fixture
def threads(native):
    yield native.set_num_threads
    native.set_num_threads(0)


def value_and_grad(logits, labels, out=None, reduction="none", **options):
    return crossent.numpy.value_and_grad(
        crossent.softmax_cross_entropy,
        labels=labels,
        logits=logits,
        out=out,
        reduction=reduction,
        **options,
    )


def loss_of(logits, labels, reduction="none", **options):
    return crossent.softmax_cross_entropy(
        labels=labels, logits=logits, reduction=reduction, **options
    )


def bits(*arrays):
    return [np.asarray(a).tobytes() for a in arrays]


# ---- Exact enough: 80-bit numbers


def reference(logits, ids):
    """Losses and gradients in 64 bits of mantissa: exact enough to judge 1 ulp of float32 and 8 of
    float64, at 150,000 classes too, for which 60 digits take minutes.

    Nothing in it cancels. The worst is x - peak of float64: rounded at 2^-64 of at most 745, it
    moves exp by 4e-17, a fifth of an ulp.
    """
    x = logits.astype(BIG)
    rows, owner = np.arange(len(x)), np.argmax(x, axis=1)
    peak = x[rows, owner]
    e = np.exp(x - peak[:, None])
    without = e.copy()
    without[rows, owner] = 0
    s = without.sum(axis=1)
    value = np.log1p(s) + (peak - x[rows, ids])
    gradient = e / (1 + s)[:, None]
    others = np.where(ids == owner, s, 1 + (s - e[rows, ids]))
    gradient[rows, ids] = -others / (1 + s)
    return value, gradient


def far(actual, exact_, dtype, scale=None):
    """Errors in ulp; agreement on infinity is none."""
    with np.errstate(invalid="ignore"):
        wide = actual.astype(BIG)
        away = np.abs((wide - exact_).astype(np.float64))
        size = np.abs(exact_) if scale is None else np.maximum(np.abs(exact_), scale)
        size = size.astype(np.float64)
        size = np.where(np.isfinite(size), size, 1)
        error = np.where(wide == exact_, 0, away / ulp_of(size, dtype))
    return np.where(np.isnan(error), INF, error)


def assert_close(logits, ids, what=""):
    """Value and gradient of every row within the bounds of the contract."""
    logits = np.asarray(logits)
    ids = np.asarray(ids)
    value, gradient = value_and_grad(logits, ids)
    assert bits(value) == bits(loss_of(logits, ids)), "value depends on the gradient"
    want, want_gradient = reference(logits, ids)
    wide = result_dtype(logits.dtype).name
    error = far(value, want, wide)
    row = int(np.argmax(error))
    assert error[row] <= VALUE_ULP[wide], (
        f"{what} value of row {row} is {value[row]!r}, must be {want[row]!r}: {error[row]:.3f} ulp"
    )
    label = np.zeros(logits.shape, bool)
    label[np.arange(len(ids)), ids] = True
    narrow = logits.dtype.itemsize == 2
    limit = np.where(label, LABEL_ULP[wide], OTHERS_ULP[wide]) if not narrow else HALF_ULP
    excess = far(gradient, want_gradient, logits.dtype) / limit
    at = np.unravel_index(np.argmax(excess), excess.shape)
    assert excess[at] <= 1, (
        f"{what} gradient{[int(i) for i in at]} is {gradient[at]!r}, must be"
        f" {want_gradient[at]!r}: {excess[at]:.3f} times the bound; label {int(ids[at[0]])}"
    )


needs_big = pytest.mark.skipif(
    np.finfo(BIG).eps >= np.finfo(np.float64).eps, reason="long double is a plain double here"
)


@needs_big
def test_the_reference_agrees_with_the_oracle():
    rng = np.random.default_rng(0)
    logits = 20 * rng.standard_normal((6, 7))
    logits[0] = 2**0.5 - np.array([50.5, 0, 60.1, 69.3, 70, 70, 71])
    logits[1, 3:] = logits[1, 2]
    ids = np.array([1, 3, 0, 5, 6, 2])
    truth = oracle.softmax_cross_entropy(
        wrt="logits", upstream=None, labels=ids, logits=logits, reduction="none"
    )
    value, gradient = reference(logits, ids)
    # Halves: exact() and ulp_error() take doubles, so the rest goes in apart.
    for got, want in ((value, truth.value), (gradient, truth.gradient)):
        high = got.astype(np.float64)
        low = exact((got - high).astype(np.float64))
        assert np.max(ulp_error(high, want - low, np.float64)) <= 0.25


# ---- Regimes: each gives logits in float64 and ids; the lanes and blocks of all instruction sets

CLASSES = [2, 3, 10, 64, 192, 193, 1000, 32000, 150_000]
DTYPES = ["float32", "float64", "float16", "bfloat16"]
# Lanes of a float32 vector: 4, 8, 16. A lane gets every second vector of a block of 16.
LANE_STEPS = [8, 16, 32]
PEAK = 10 / 3  # so that differences are inexact in float32


def rows_for(classes):
    return 3 if classes > 100_000 else 6 if classes > 10_000 else 24


def random(classes, dtype, rng):
    rows = rows_for(classes)
    return 3 * rng.standard_normal((rows, classes)), rng.integers(0, classes, rows)


LOSSES = [1e-3, 1e-7, 3e-8, 1e-12, 1e-20, 1e-30]


def confident(classes, rng, place):
    """Rows with the label at the peak, and the rest of S where `place` puts it."""
    rows = []
    for loss in LOSSES * max(1, rows_for(classes) // len(LOSSES)):
        x = np.full(classes, -150.0)
        at = int(rng.integers(classes))
        where = [j for j in place(classes, rng) if j != at] or [(at + 1) % classes]
        x[where] = PEAK + np.log(loss / len(where)) + 0.4 * rng.standard_normal(len(where))
        x[at] = PEAK
        rows.append((x, at))
    return np.stack([x for x, _ in rows]), np.array([at for _, at in rows])


def one_rest(classes, dtype, rng):
    return confident(classes, rng, lambda n, r: [int(r.integers(n))])


def rests_in_one_lane(classes, dtype, rng):
    def place(n, r):
        step = LANE_STEPS[int(r.integers(3))]
        first = int(r.integers(max(1, n - 7 * step)))
        return range(first, min(n, first + 8 * step), step)

    return confident(classes, rng, place)


def spread_rests(classes, dtype, rng):
    return confident(classes, rng, lambda n, r: range(n))


def equal_rests(classes, dtype, rng):
    """All rests the same number: what one lane loses to rounding, all others lose as well."""
    rows = rows_for(classes)
    gaps = np.log(classes) + np.resize(np.linspace(0.1, 69, 7), rows) + rng.uniform(0, 1, rows)
    x = np.broadcast_to(-gaps[:, None], (rows, classes)).copy()
    at = rng.integers(0, classes, rows)
    x[np.arange(rows), at] = 0
    return x, at


def last_rests(classes, dtype, rng):
    return confident(classes, rng, lambda n, r: range(n - 1 - int(r.integers(min(3, n))), n))


def moved(of, *offsets):
    """Another regime with an offset common to a row, which the rounding to the dtype follows."""

    def regime(classes, dtype, rng):
        x, ids = of(classes, dtype, rng)
        limit = float(ml_dtypes.finfo(dtype).max) / 2
        add = np.clip(np.resize(offsets, len(x)), -limit, limit)
        return x + add[:, None], ids

    return regime


def near_uniform(classes, dtype, rng):
    steps = rng.integers(-3, 4, (rows_for(classes), classes))
    return 1 + float(ml_dtypes.finfo(dtype).eps) * steps, rng.integers(0, classes, len(steps))


def far_wrong(classes, dtype, rng):
    x, ids = random(classes, dtype, rng)
    depths = np.minimum([40, 103, 800, 3e4, 1e8], float(ml_dtypes.finfo(dtype).max) / 4)
    x[np.arange(len(x)), ids] = -np.resize(depths, len(x))
    return x, ids


def ties(classes, dtype, rng):
    """The peak several times: in one lane, in the next vector, in other blocks, in all places."""
    rows, labels = [], []
    for step in (1, *LANE_STEPS, 128, 512, 5000):
        for base in (0.0, -30.0):  # rests beside the ties, or hardly any
            x = base + rng.standard_normal(classes)
            at = np.arange(int(rng.integers(classes)), classes, step)[:5]
            x[at] = 8
            rows.append(x)
            labels.append(int(at[-1]))
    return np.stack(rows), np.array(labels)


def masked(classes, dtype, rng):
    """Whole first blocks at -inf, alternating classes, all but the label, the last classes."""
    x, ids = random(classes, dtype, rng)
    for r in range(len(x)):
        kind, label = r % 4, ids[r]
        keep = x[r, label]
        if kind == 0:
            x[r, : classes * 3 // 4] = -INF
        elif kind == 1:
            x[r, ::2] = -INF
        elif kind == 2:
            x[r] = -INF
        else:
            x[r, classes // 4 :] = -INF
        x[r, label] = keep
    return x, ids


def subnormal(classes, dtype, rng):
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    steps = rng.integers(-5, 6, (rows_for(classes), classes))
    return tiny * steps, rng.integers(0, classes, len(steps))


def ramps(classes, dtype, rng):
    """Peaks that rise by more than 30 from block to block, so that the reference changes."""
    up = np.linspace(-5e3, 5e3, classes)
    steps = np.floor(np.arange(classes) / 64)  # blocks of 64, 128 and 256 floats
    rise = 31.5 * steps
    rows = [up, -up, np.abs(up), rise - rise.max(), rise % 700, 29.9 * steps % 650]
    limit = float(ml_dtypes.finfo(dtype).max) / 2
    x = np.clip(np.stack(rows), -limit, limit) + rng.uniform(0, 1, (6, classes))
    ids = np.where(np.arange(6) % 2, np.argmax(x, axis=1), rng.integers(0, classes, 6))
    return x, ids


# +-690 to +-710: around 700 the kernels change how they reduce x.
SWITCH = [690.1, 699.9, 700.1, 710.3, -690.1, -699.9, -700.1, -710.3]

REGIMES = {
    "random": random,
    "one rest": one_rest,
    "rests in one lane": rests_in_one_lane,
    "spread rests": spread_rests,
    "equal rests": equal_rests,
    "last rests": last_rests,
    "offset 1e8": moved(random, 1e8, -1e8, 1e4, -1e4),
    "offset 700": moved(random, *SWITCH),
    "offset 700, one rest": moved(one_rest, *SWITCH),
    "offset 700, spread rests": moved(spread_rests, *SWITCH),
    "offset 700, equal rests": moved(equal_rests, *SWITCH),
    "offset 4096": moved(one_rest, 4095.5, 4097.5, -4095.5, -4097.5),  # the switch of float64
    "near uniform": near_uniform,
    "far wrong": far_wrong,
    "ties": ties,
    "masked": masked,
    "subnormal": subnormal,
    "ramps": ramps,
}


@needs_big
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("regime", REGIMES)
def test_ulp(regime, dtype, classes):
    rng = np.random.default_rng(classes)
    logits, ids = REGIMES[regime](classes, dtype_of(dtype), rng)
    with np.errstate(over="ignore"):
        logits = logits.astype(dtype_of(dtype))
    assert np.isfinite(logits.max(axis=1).astype(float)).all(), "the regime left the dtype"
    assert_close(logits, ids, regime)


@needs_big
@pytest.mark.parametrize("classes", [5, 70, 700])
def test_the_rest_in_every_position(classes):
    """The one class that matters beside the peak, in each place of vectors, blocks and tail."""
    x = np.full((classes, classes), -150.0)
    at = np.arange(classes)
    x[at, at] = PEAK + np.log(2e-9) - 0.01 * at / classes
    label = (at * 7 + 3) % classes
    label = np.where(label == at, (at + 1) % classes, label)
    x[at, label] = PEAK
    assert_close(x.astype(np.float32), label)


# ---- How 1 ulp is reached: one test for each way that the kernels go


@needs_big
def test_the_peak_itself_is_no_term_of_the_sum():
    """Guards clear_lane() of the owner's lane in sum_part(), and `terms[owner] = 0` in sum_short():
    1 + 1e-12 is 1 in float32, and the loss 0."""
    for classes in (40, 500):
        x = np.full((3, classes), -28.0, np.float32)
        x[0, 7] = x[1, classes - 1] = x[2, 0] = 0
        assert_close(x, [7, classes - 1, 0])
        assert (loss_of(x, np.array([7, classes - 1, 0])) > 0).all()


@needs_big
@pytest.mark.parametrize("classes", [2, 40, 500])
def test_one_occurrence_of_the_peak_is_left_out_by_place(classes):
    """Guards owner_of(), which looks for a place: leaving out equal values would give a loss of 0
    where two classes tie, not log 2."""
    x = np.full((2, classes), -500.0, np.float32)
    x[:, [0, classes - 1]] = 5
    assert_close(x, [0, classes - 1])
    assert loss_of(x, np.array([0, classes - 1])).tolist() == [np.float32(np.log(2))] * 2


@needs_big
def test_the_distance_to_the_peak_is_not_rounded():
    """Guards exp_terms(), which reduces x itself, and scale_of(): float32 holds 95.5 + 1e-6 only to
    4e-6, and exp of a distance off by that is 62 ulp off."""
    # Rests near 0, whose digits go on below those of the peak, which set the last bit.
    rng = np.random.default_rng(5)
    for peak in (7.1234567, 16.234567, 40.345678, 68.456789):
        x = np.full((50, 300), -100, np.float32)
        x[:, 5] = peak
        x[np.arange(50), 6 + np.arange(50) * 5] = rng.uniform(-1, 1, 50) / 9
        assert_close(x, np.full(50, 5))


@needs_big
@pytest.mark.parametrize("step", LANE_STEPS)
def test_a_lane_with_much_of_the_sum_is_summed_again(step):
    """Guards refined(): added in float32 to one lane, small terms lose half of their last digit
    each; like terms have few digits and lose none."""
    rng = np.random.default_rng(step)
    x = np.full((4000, 8 * step + 200), -150, np.float32)
    first, largest = rng.integers(1, step, 4000), rng.integers(0, 8, 4000)
    for k in range(8):
        smaller = np.where(largest == k, 0, rng.uniform(11, 14, 4000))
        x[np.arange(4000), first + k * step] = -18 - smaller - rng.random(4000)
    x[:, 0] = PEAK
    assert_close(x, np.zeros(4000, int))


@needs_big
def test_label_gap_log_sum_and_nll_are_rounded_once():
    """Guards `s.nll` of statistics_of(), which is double: the two terms, each rounded to float32
    and then added, miss by more than 1 ulp now and then."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 2, (4000, 3)).astype(np.float32)
    assert_close(x, rng.integers(0, 3, 4000))
    x = rng.uniform(-2, 2, (1000, 90)).astype(np.float32)
    assert_close(x, rng.integers(0, 90, 1000))


@needs_big
@pytest.mark.parametrize("classes", [2, 50, 300])
def test_the_label_gradient_as_its_probability_goes_to_1(classes):
    """Guards `minus_one` in special_entry(): p - 1 of a rounded p has no digit left below 6e-8."""
    gaps = np.linspace(2, 69, 200)
    x = np.full((200, classes), -150.0)
    x[:, 0] = PEAK - gaps
    x[:, 1] = PEAK
    x = x.astype(np.float32)
    assert_close(x, np.ones(200, int))
    _, gradient = value_and_grad(x, np.ones(200, int))
    assert (gradient[:, 1] < 0).all()
    assert -1e-29 < gradient[-1, 1] < -1e-31


@needs_big
@pytest.mark.parametrize("classes", [10, 300])
def test_other_gradients_come_from_the_exponentials(classes):
    """Guards gradient_run(): exp(-nll) of a rounded nll is off by ulps of nll, 80 and more."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-85, 0, (100, classes)).astype(np.float32)
    assert_close(x, rng.integers(0, classes, 100))


@needs_big
@pytest.mark.parametrize("coefficient", [1e-3, 1e-4, 1e-8])
@pytest.mark.parametrize("classes", [10, 300])
def test_a_small_z_loss_does_not_cancel_in_the_gradient(classes, coefficient):
    """Guards special_entry(), where g_nll and g_log_sum stay apart: (g_log_sum + g_nll) p_y - g_nll
    was 4 % wrong."""
    rng = np.random.default_rng(classes)
    x, ids = confident(classes, rng, lambda n, r: [int(r.integers(n))])
    x = x.astype(np.float32)
    rows = np.arange(len(x))
    value, gradient = value_and_grad(x, ids, z_loss=coefficient)
    loss, slope = reference(x, ids)
    p = slope.copy()
    p[rows, ids] += 1
    lse = loss + x[rows, ids].astype(BIG)
    by_z = 2 * coefficient * lse[:, None] * p
    assert far(value, loss + coefficient * lse**2, np.float32).max() <= 1
    scale = np.maximum(np.abs(slope), np.abs(by_z))
    assert far(gradient, slope + by_z, np.float32, scale).max() <= 4


@needs_big
@pytest.mark.parametrize("low", [-330.0, -400.1, -600.0, -690.0])
def test_float64_blocks_far_below_the_peak_keep_their_digits(low):
    """A block is summed against a reference that the peak may leave far behind: 2^-500 times exp of
    the distance in scale_of() is 0 from -400 on, while exp of a logit up to 300 above it is not."""
    x = np.full((2, 300), low)
    x[:, 200] = low + 299.9
    x[0, 290] = 0
    x[1, 290] = 1e-3
    assert_close(x, [290, 290])


@needs_big
@pytest.mark.parametrize("softcap", [0.5, 5, 30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("regime", ["random", "spread rests", "far wrong"])
def test_transformed_rows_of_many_classes(regime, dtype, softcap):
    """Guards capped(): logits far below, about and far above the cap, where its slope is 1e-30."""
    for classes in (10, 193, 1000):
        x, ids = REGIMES[regime](classes, dtype_of(dtype), np.random.default_rng(classes))
        x = np.maximum(x, -30 * softcap).astype(dtype_of(dtype))
        u = x.astype(BIG) / softcap
        want, slope = reference(softcap * np.tanh(u) / 3, ids)
        slope *= 1 / np.cosh(u) ** 2 / 3
        value, gradient = value_and_grad(x, ids, softcap=softcap, temperature=3)
        assert far(value, want, dtype).max() <= TRANSFORMED_ULP[dtype]
        assert far(gradient, slope, dtype).max() <= TRANSFORMED_ULP[dtype] + OTHERS_ULP[dtype]


@needs_big
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [10, 300])
def test_a_softcap_far_above_the_logits_changes_nothing(classes, dtype):
    """Guards `rest` of capped(): 1 - e has no digit of tanh(1e-20), which the cap makes large."""
    x, ids = random(classes, dtype_of(dtype), np.random.default_rng(classes))
    x = x.astype(dtype)
    want, slope = reference(x, ids)
    value, gradient = value_and_grad(x, ids, softcap=2.0**70)
    assert far(value, want, dtype).max() <= VALUE_ULP[dtype]
    assert far(gradient, slope, dtype).max() <= OTHERS_ULP[dtype]


# ---- Rows that are summed in parts

LONG = [PART - 1, PART, PART + 1, 3 * PART + 5]


def long_rows(classes, kind, dtype):
    rng = np.random.default_rng(classes)
    x = 2 * rng.standard_normal((4, classes))
    # Peaks in different parts; one row confident, with its rest in another part than its peak.
    ids = np.array([0, classes // 2, classes - 1, classes - 2])
    x[2] = -150
    x[2, -1], x[2, 5] = PEAK, PEAK - 25
    x[3, 11] = 40
    if kind == "masked":
        x[0, 1 : min(PART, classes - 3)] = -INF  # all of the first part but the label
        x[1, classes // 2 + 1 :] = -INF
    return x.astype(dtype_of(dtype)), ids


@needs_big
@pytest.mark.parametrize("kind", ["whole", "masked"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", LONG)
def test_rows_longer_than_a_part(classes, dtype, kind):
    x, ids = long_rows(classes, kind, dtype)
    assert_close(x, ids)
    value, gradient = value_and_grad(x, ids)
    in_place = x.copy()
    assert bits(*value_and_grad(in_place, ids, out=in_place)) == bits(value, gradient)
    assert bits(in_place) == bits(gradient)


@needs_big
def test_a_part_without_classes():
    """All of some parts at -inf: the first, one between, the last."""
    x = np.full((3, 3 * PART + 5), -INF, np.float32)
    x[0, -5:] = [1, 2, 3, 2.5, 1]
    x[1, PART : PART + 3] = [0.5, 1, -1]
    x[2, :9] = x[2, -9:] = 0.25
    assert_close(x, [3 * PART + 1, PART + 2, 3 * PART])


@needs_big
@pytest.mark.parametrize("broken", [np.nan, INF])
@pytest.mark.parametrize("place", [3, PART + 3, 2 * PART + 1])
def test_a_part_with_no_softmax_spoils_the_row(place, broken):
    x = np.zeros((2, 2 * PART + 5), np.float32)
    x[0, place] = broken
    value, gradient = value_and_grad(x, np.array([PART + 1, 0]))
    assert np.isnan(value).tolist() == [True, False]
    assert np.isnan(gradient).all(axis=1).tolist() == [True, False]
    assert not np.isnan(gradient[1]).any()


@needs_big
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", LONG)
def test_distributions_over_several_parts(classes, dtype):
    x, _ = long_rows(classes, "whole", dtype)
    q = np.zeros(x.shape, dtype)
    for r, places in enumerate(([0, -1], [5, classes // 2], [-1, -2], [11, classes // 3])):
        q[r, places] = [0.75, 0.25]
    value, gradient = value_and_grad(x, q)
    loss = np.zeros(len(x), BIG)
    slope = np.zeros(x.shape, BIG)
    scale = np.zeros(x.shape, BIG)
    for j in range(2):
        ids = np.array([np.flatnonzero(row)[j] for row in q])
        share = q[np.arange(len(x)), ids].astype(BIG)
        part, part_slope = reference(x, ids)
        loss += share * part
        slope += share[:, None] * part_slope
        scale = np.maximum(scale, np.abs(share[:, None] * part_slope))
    scale = np.where(q > 0, np.maximum(scale, q), scale)
    worst = [float(far(value, loss, dtype).max()), float(far(gradient, slope, dtype, scale).max())]
    assert worst[0] <= VALUE_ULP[dtype]
    assert worst[1] <= OTHERS_ULP[dtype]


# ---- What does not change a bit

OPTIONS = [
    {},
    {"reduction": "mean"},
    {"reduction": "sum", "label_smoothing": 0.1},
    {"reduction": "mean", "class_weight": True},
    {"z_loss": 1e-3, "sample_weight": True},
    {"temperature": 0.7},
    {"softcap": 20.0},
    {"ignore_index": 3, "reduction": "mean"},
]


def with_arrays(options, rows, classes):
    rng = np.random.default_rng(9)
    own = {"class_weight": classes, "sample_weight": rows}
    return {k: rng.uniform(0.5, 2, own[k]) if k in own else v for k, v in options.items()}


def problem(rows, classes, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    x = (4 * rng.standard_normal((rows, classes))).astype(dtype_of(dtype))
    return x, rng.integers(0, classes, rows)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(dtype, options, threads):
    for rows, classes in ((3001, 100), (40, 16_411), (3, 2 * PART + 3), (150_001, 3)):
        x, ids = problem(rows, classes, dtype)
        call = with_arrays(options, rows, classes)
        threads(1)
        want = bits(*value_and_grad(x, ids, **call), loss_of(x, ids, **call))
        for count in (2, 7, 7):
            threads(count)
            got = bits(*value_and_grad(x, ids, **call), loss_of(x, ids, **call))
            assert got == want, (rows, classes, count)


def test_distributions_have_the_same_bits_on_any_threads(threads):
    x, _ = problem(700, 501)
    q = np.random.default_rng(1).dirichlet(np.ones(501), 700).astype(np.float32)
    results = []
    for count in (1, 2, 7):
        threads(count)
        results.append(bits(*value_and_grad(x, q, reduction="mean")))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("fault", [-0.25, 0.25, np.nan])
@pytest.mark.parametrize("row", [0, 1500, 2999])
def test_a_row_that_is_no_distribution_is_refused_on_any_thread(row, fault):
    x, _ = problem(3000, 100)
    q = np.full((3000, 100), 0.01, np.float32)
    loss_of(x, q)
    q[row, 99] += fault
    with pytest.raises(crossent.CrossentError, match="labels"):
        loss_of(x, q, reduction="mean")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_row_that_is_no_distribution_is_refused(dtype):
    """Whether labels are looked at while the loss reads them, before a gradient overwrites the
    logits, or of a row that nobody else reads because it weighs nothing."""
    x, _ = problem(40, 30)
    q = np.random.default_rng(0).dirichlet(np.ones(30), 40).astype(dtype)
    q[:, 0] += 1 - q.sum(axis=1, dtype=np.float64).astype(dtype)
    loss_of(x, q)
    for row in (0, 17, 39):
        too_much, negative, broken = q.copy(), q.copy(), q.copy()
        too_much[row, 3] += 0.25
        negative[row, 3:5] = [-0.25, q[row, 3] + q[row, 4] + 0.25]
        broken[row, 29] = np.nan
        for labels in (too_much, negative, broken):
            for weight in (None, np.where(np.arange(40) == row, 0.0, 1.0)):
                with pytest.raises(crossent.CrossentError, match="labels"):
                    loss_of(x, labels, reduction="mean", sample_weight=weight)
                logits = x.copy()
                with pytest.raises(crossent.CrossentError, match="labels"):
                    value_and_grad(logits, labels, out=logits, sample_weight=weight)
                assert bits(logits) == bits(x)


def strided(a, how):
    """The same numbers in another place."""
    if how == "negative":
        return np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1]
    if how == "sliced":
        wide = np.zeros((a.shape[0] * 2 + 1, a.shape[1] * 3 + 2), a.dtype)
        wide[1::2, 2::3] = a
        return wide[1::2, 2::3]
    if how == "columns":  # the class axis contiguous, the rows apart and in odd places
        wide = np.zeros((a.shape[0], a.shape[1] + 5), a.dtype)
        wide[:, 3:-2] = a
        return wide[:, 3:-2]
    if how == "transposed":
        return np.asfortranarray(a)
    if how == "unaligned":  # to the vectors, not to the numbers
        memory = np.zeros(a.nbytes + 64, np.uint8)
        start = -memory.ctypes.data % 64 + a.itemsize
        view = memory[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
        view[...] = a
        return view
    if how == "odd":  # not even to the numbers
        memory = bytearray(a.nbytes + 64)
        view = np.frombuffer(memory, a.dtype, a.size, 1).reshape(a.shape)
        view[...] = a
        assert not view.flags.aligned
        return view
    raise ValueError(how)


LAYOUTS = ["negative", "sliced", "columns", "transposed", "unaligned", "odd"]


@pytest.mark.parametrize("how", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_do_not_change_a_bit(dtype, how):
    for rows, classes in ((7, 5), (37, 301), (530, 530), (3, PART + 3)):
        x, ids = problem(rows, classes, dtype)
        q = np.random.default_rng(2).dirichlet(np.ones(classes), rows)
        for labels in (ids, q, q.astype(np.float32), q.astype(np.float16)):
            if labels.dtype == np.float16 and classes > 5:
                continue  # too coarse for a sum of 1
            for options in ({}, {"reduction": "mean", "label_smoothing": 0.1}, {"softcap": 9.0}):
                want = value_and_grad(x, labels, **options)
                view = strided(x, how)
                moved_labels = np.repeat(ids, 2)[::2] if labels is ids else strided(labels, how)
                got = value_and_grad(view, moved_labels, **options)
                assert bits(*got) == bits(*want), (rows, classes, options)
                assert bits(view) == bits(x), "the logits were written"


@pytest.mark.parametrize("how", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_in_any_layout_have_the_same_bits(dtype, how):
    for rows, classes in ((37, 301), (1100, 1030)):  # the second is streamed where it is contiguous
        x, ids = problem(rows, classes, dtype)
        want_value, want = value_and_grad(x, ids)
        out = strided(np.zeros_like(x), how)
        value, gradient = value_and_grad(x, ids, out=out)
        assert gradient is out
        assert bits(value, np.ascontiguousarray(out)) == bits(want_value, want)
        logits = strided(x, how)  # in place
        value, gradient = value_and_grad(logits, ids, out=logits)
        assert gradient is logits
        assert bits(value, np.ascontiguousarray(logits)) == bits(want_value, want)


def test_nothing_is_written_beside_a_strided_result():
    for classes in (5, 70, 301, 1500):
        x, ids = problem(9, classes)
        for start in range(4):
            wide = np.full((9, classes + 9), 7.0, np.float32)
            value_and_grad(x, ids, out=wide[:, start : start + classes])
            assert (wide[:, :start] == 7).all()
            assert (wide[:, start + classes :] == 7).all()
    wide = np.full((1000, 1 << 11), 7.0, np.float32)  # past the cache
    x, ids = problem(1000, (1 << 11) - 7)
    value_and_grad(x, ids, out=wide[:, 3:-4])
    assert (wide[:, :3] == 7).all()
    assert (wide[:, -4:] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_class_axis_of_images(dtype):
    """NCHW: classes on axis 1, as a segmentation has them; also with strides below it."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 21, 17, 40)).astype(dtype_of(dtype))
    ids = rng.integers(0, 21, (3, 17, 40))
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    want_value, want = value_and_grad(last, ids)
    for view in (x, np.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]):
        value, gradient = value_and_grad(view, ids, axis=1)
        assert bits(value, np.ascontiguousarray(np.moveaxis(gradient, 1, -1))) == bits(
            want_value, want
        )
        place = view.copy(order="K")
        value_and_grad(place, ids, axis=1, out=place)
        assert bits(np.ascontiguousarray(np.moveaxis(place, 1, -1))) == bits(want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_streamed_gradients_have_the_bits_of_others(dtype):
    """Above 4 MiB a result goes past the cache. Every start of a row within a vector comes up."""
    for classes in (67, 1031):
        rows = (5 << 20) // (classes * dtype_of(dtype).itemsize)
        x, ids = problem(rows, classes, dtype)
        q = np.random.default_rng(1).dirichlet(np.ones(classes), rows).astype(np.float32)
        for labels in (ids, q):
            _, large = value_and_grad(x, labels)
            assert large.nbytes > 4 << 20
            for begin in range(0, rows, max(1, rows // 7)):
                some = slice(begin, begin + 20)
                _, small = value_and_grad(x[some], labels[some])
                assert bits(large[some]) == bits(small)


def test_rows_do_not_depend_on_their_neighbours():
    for classes in (10, 90, 700):
        x, ids = problem(50, classes)
        x[7] = np.nan
        x[9, :] = -INF
        x[11, 3] = INF
        value, gradient = value_and_grad(x, ids)
        for r in range(50):
            one = value_and_grad(x[r : r + 1], ids[r : r + 1])
            same = np.isnan(value[r]) and np.isnan(one[0][0])
            assert same or bits(one[0][0], one[1][0]) == bits(value[r], gradient[r])


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_one_change_no_bit(dtype):
    """Rows of few classes have a way of their own where nothing is weighted or ignored."""
    for rows, classes in ((1, 2), (21, 2), (37, 9), (21, 190), (5, 300)):
        x, ids = problem(rows, classes, dtype)
        x[0, 1] = -INF
        x[-1, ids[-1]] = 40  # 1 - p has digits that p has not
        x[rows // 2, 1] = INF
        want = value_and_grad(x, ids, reduction="sum")
        for options in (
            {"sample_weight": np.ones(rows)},
            {"class_weight": np.ones(classes)},
            {"ignore_index": -100},
            {"normalizer": 1.0},
        ):
            got = value_and_grad(x, ids, reduction="sum", **options)
            np.testing.assert_array_equal(np.isnan(got[1]), np.isnan(want[1]))
            finite = ~np.isnan(want[1])
            assert bits(got[1][finite]) == bits(want[1][finite]), options
        assert np.isnan(want[1]).any(axis=1).tolist() == [i == rows // 2 for i in range(rows)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_few_classes_in_axes_that_end_within_a_vector(dtype):
    """Among the rows ignored ones and ones of NaN; one by one they have the same bits."""
    rng = np.random.default_rng(6)
    for inner, step in itertools.product((1, 2, 5, 8, 11), (1, 2)):
        wide = rng.standard_normal((3, 4, 3, step * inner)).astype(dtype_of(dtype))
        x = wide[..., ::step]  # with a step no axes can be joined
        ids = rng.integers(0, 4, (3, 3, inner))
        ids[1, :, 0] = -1
        x[1, :, :, 0] = np.nan
        weight = rng.uniform(0, 2, (3, 3, inner))
        weight[2, 1] = 0
        x[2, 1, 0] = -INF
        smoothed = {"label_smoothing": 0.2, "class_weight": [0.0, 1.0, 2.0, 3.0]}
        for options in ({}, {"sample_weight": weight}, smoothed):
            options["ignore_index"] = -1
            value, gradient = value_and_grad(x, ids, axis=1, **options)
            out = np.full_like(wide, 7)
            value_and_grad(x, ids, axis=1, out=out[..., ::step], **options)
            assert bits(out[..., ::step]) == bits(gradient)
            assert step == 1 or (out[..., 1::2] == 7).all()
            for place in np.ndindex(3, 3, inner):
                row = x[place[0], :, place[1], place[2]][None]
                own = {k: v[place][None] if k == "sample_weight" else v for k, v in options.items()}
                one, one_gradient = value_and_grad(row, ids[place][None], **own)
                here = gradient[place[0], :, place[1], place[2]]
                assert bits(one[0], one_gradient[0]) == bits(value[place], here), place
            assert not value[1, :, 0].any()
            assert not gradient[1, :, :, 0].astype(float).any()


def test_read_only_and_byte_swapped_arrays():
    x, ids = problem(20, 70)
    want = bits(*value_and_grad(x, ids))
    fixed, fixed_ids = x.copy(), ids.copy()
    fixed.flags.writeable = fixed_ids.flags.writeable = False
    assert bits(*value_and_grad(fixed, fixed_ids)) == want
    swapped_ids = ids.astype(ids.dtype.newbyteorder())
    assert bits(*value_and_grad(x, swapped_ids)) == want
    value, gradient = value_and_grad(x.astype(x.dtype.newbyteorder()), swapped_ids)
    assert bits(value, gradient.astype(np.float32)) == want


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_ids_of_every_integer_dtype(kind):
    for rows, classes in ((50, 101), (300, 20)):
        x, ids = problem(rows, classes)
        ids[:2] = 0, classes - 1
        want = bits(*value_and_grad(x, ids))
        for labels in (ids.astype(kind), np.repeat(ids.astype(kind), 3)[::3]):
            assert bits(*value_and_grad(x, labels)) == want
    if kind[0] == "i":
        with pytest.raises(crossent.CrossentError, match="labels"):
            loss_of(x, np.full(rows, -1, kind))
        ids[5:9] = -1
        value = loss_of(x, ids.astype(kind), ignore_index=-1)
        assert (value[5:9] == 0).all()
        assert (value[:5] > 0).all()


@pytest.mark.parametrize("label", [2**63, 2**64 - 1, 2**64 - 100, 2**63 + 1])
def test_ids_above_63_bits_are_refused(label):
    """As signed numbers they are negative, and one of them the ignore_index."""
    x, _ = problem(3, 5)
    labels = np.array([1, label, 2], np.uint64)
    for options in ({}, {"ignore_index": -100}, {"ignore_index": -1}):
        with pytest.raises(crossent.CrossentError, match="labels"):
            loss_of(x, labels, **options)
        with pytest.raises(crossent.CrossentError, match="labels"):
            value_and_grad(x, labels, **options)


def test_calls_from_several_python_threads(threads):
    threads(3)
    problems = [problem(2000, 200 + 7 * i, DTYPES[i], seed=i) for i in range(4)]
    want = [bits(*value_and_grad(*p)) for p in problems]
    failures = []
    start = threading.Barrier(4)

    def work(i):
        start.wait()
        differs = [bits(*value_and_grad(*problems[i])) != want[i] for _ in range(12)]
        failures.extend([i] * sum(differs))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


# ---- Processes of their own


def python(code, *arguments, isa=None, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment |= variables | ({"CROSSENT_MAX_ISA": isa} if isa else {})
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


PROBLEM = """
import hashlib, os, sys
import numpy as np
import crossent
from test_native import DTYPES, OPTIONS, bits, loss_of, problem, value_and_grad, with_arrays

def digest():
    total = hashlib.sha256()
    for dtype in DTYPES:
        for rows, classes in ((50, 7), (3001, 100), (40, 16_411), (3, 300_001)):
            x, ids = problem(rows, classes, dtype)
            for options in OPTIONS:
                call = with_arrays(options, rows, classes)
                for part in bits(*value_and_grad(x, ids, **call), loss_of(x, ids, **call)):
                    total.update(part)
    return total.hexdigest()
"""


def test_a_forked_child_computes_the_same():
    """The pool's threads do not live on in a child, and what they held stays held."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this platform")
    code = """
import warnings
x, ids = problem(3001, 200)
for _ in range(20):  # the workers are awake
    want = bits(*value_and_grad(x, ids))
warnings.simplefilter("ignore")  # that a process with threads forks is the point
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if bits(*value_and_grad(x, ids)) == want else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bits(*value_and_grad(x, ids)) == want
"""
    python(PROBLEM + code, CROSSENT_NUM_THREADS="7")


CONTROL_REGISTER = """
#if defined(__x86_64__)
#include <xmmintrin.h>
unsigned get(void) { return _mm_getcsr() & ~0x3fu; }  // the rest is what happened so far
void set(unsigned state) { _mm_setcsr(state); }
unsigned flushing_upward(void) { return get() | 0x8040 | 0x4000; }
#else
unsigned get(void) {
    unsigned long state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    return state;
}
void set(unsigned state) { __asm__ volatile("msr fpcr, %0" : : "r"((unsigned long)state)); }
unsigned flushing_upward(void) { return get() | 1 << 24 | 1 << 22; }
#endif
float product(float a, float b) { volatile float x = a, y = b; return x * y; }
"""

FLUSHING = """
import ctypes
library = ctypes.CDLL(sys.argv[1])
library.product.restype = ctypes.c_float
library.product.argtypes = [ctypes.c_float] * 2
# Gradients and losses below the normal numbers of float32, long and short rows.
problems = []
for rows, classes in ((30, 9), (3001, 200)):
    x, ids = problem(rows, classes)
    x *= 4
    x[:, 1] = -60
    x[: rows // 2] -= 20
    x[: rows // 2, 0] = 75
    ids[: rows // 4] = 0
    problems.append((x, ids))

def all_bits():
    return [bits(*value_and_grad(*p)) for p in problems]

normal, spoiled = library.get(), library.flushing_upward()
library.set(spoiled)  # before any worker exists: they inherit it
assert library.product(1e-30, 1e-10) == 0
got = all_bits()
state = library.get()
flushed = library.product(1e-30, 1e-10)
library.set(normal)
assert state == spoiled, hex(state)
assert flushed == 0
assert library.product(1e-30, 1e-10) != 0
assert got == all_bits()
gradient = np.frombuffer(got[1][1], np.float32)
assert ((gradient != 0) & (abs(gradient) < 2.0**-126)).any(), "no subnormal number in the test"
"""


def test_flush_to_zero_of_the_caller_changes_nothing(tmp_path):
    if not hasattr(os, "uname") or os.uname().machine not in {"x86_64", "aarch64", "arm64"}:
        pytest.skip("the control register is one of x86-64 or arm64")
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on the path")
    source, library = tmp_path / "register.c", tmp_path / "register.so"
    source.write_text(CONTROL_REGISTER)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    python(PROBLEM + FLUSHING, library, CROSSENT_NUM_THREADS="4")


@pytest.fixture(params=["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "arm64"])
def isa(request):
    core = pytest.importorskip("crossent._native")
    if request.param not in core.supported_instruction_sets():
        pytest.skip(f"this processor does not run {request.param}")
    return request.param


def test_one_digest_per_instruction_set(isa):
    """Whatever the number of threads, and run after run."""
    if isa == "x86-64":
        pytest.skip("the formula runs on one thread")
    code = PROBLEM + "print(crossent.kernel_for(problem(1, 2)[0]), digest())"
    runs = [python(code, isa=isa, CROSSENT_NUM_THREADS=n).split() for n in "17"]
    assert runs[0][:2] == ["native", isa]
    assert runs[0] == runs[1]


SUITE = """
import sys
import numpy as np, pytest
import crossent
isa = sys.argv[1]
kernel = crossent.kernel_for(np.zeros((1, 2), np.float32))
assert kernel.startswith("formula" if isa == "x86-64" else "native " + isa), kernel
options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
sys.exit(pytest.main([*options, *sys.argv[2:]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "suite", [("test_contract.py", "test_contract_information.py"), ("test_native.py",)], ids=str
)
def test_every_instruction_set(isa, suite):
    core = pytest.importorskip("crossent._native", reason="there is no native core here")
    if isa == core.supported_instruction_sets()[-1]:
        pytest.skip("the tests run on the best set anyway")
    if isa == "x86-64" and suite == ("test_native.py",):
        pytest.skip("the formula has no kernels")
    # No kernel reads probabilities: what becomes of them is the same on every instruction set.
    chosen = ["-m", "not slow", "-k", "not (digest or forked or flush or of_probabilities)"]
    python(SUITE, isa, *chosen, *suite, isa=isa)


# ---- Large arrays


def needs_memory(gigabytes):
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("how much memory is free is asked of Linux")
    free = int(meminfo.read_text().split("MemAvailable:")[1].split()[0]) / 2**20
    if free < gigabytes + 1:
        pytest.skip(f"takes {gigabytes} GiB of memory; {free:.1f} are free")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [64, 1 << 15])
def test_more_than_2_to_the_31_elements(classes):
    """Rows on both sides of element 2^31, and the last one."""
    needs_memory(8)
    rows = (1 << 31) // classes + 1
    edge = [0, 1, rows // 2 - 1, rows // 2, rows - 3, rows - 2, rows - 1]
    x = np.zeros((rows, classes), np.float16)
    x[edge] = problem(len(edge), classes, "float16")[0]
    ids = np.zeros(rows, np.uint8)
    ids[edge] = np.arange(len(edge))
    assert x.size > 2**31
    want_value, want = value_and_grad(x[edge], ids[edge])
    assert bits(loss_of(x, ids)[edge]) == bits(want_value)
    value, _ = value_and_grad(x, ids, out=x)
    assert bits(value[edge]) == bits(want_value)
    assert bits(x[edge]) == bits(want)
    assert value[2] == np.float32(np.log(classes))


@pytest.mark.slow
def test_one_row_of_more_than_2_to_the_31_classes():
    needs_memory(5)
    classes = 2**31 + 8
    x = np.zeros((1, classes), np.float16)
    ids = np.array([classes - 1])
    x[0, -1] = 30  # the label, and then another one just before it
    value = loss_of(x, ids)
    s = BIG(classes - 1) * np.exp(BIG(-30))
    assert far(value, np.array([np.log1p(s)]), np.float32)[0] <= 1
    x[0, -1], x[0, 2**31] = 1, 30
    assert far(loss_of(x, ids), np.array([29 + np.log1p(s)]), np.float32)[0] <= 1


# ---- Options as large and as small as doubles are


def test_softcaps_and_temperatures_at_the_ends_of_the_range():
    big = np.array([[1e308, 0, 9e307]])
    value = crossent.softmax_cross_entropy(labels=[2], logits=big, softcap=1e308)
    want = BIG(1e308) * (np.tanh(BIG(1)) - np.tanh(BIG(9e307) / BIG(1e308)))
    assert value == pytest.approx(float(want), rel=1e-14)
    small = {"softcap": 1e-310, "temperature": 1e-310}
    value = crossent.softmax_cross_entropy(
        labels=[0], logits=np.array([[1, 0, 0]], np.float32), **small
    )
    assert value == np.float32(np.log1p(2 * np.exp(BIG(-1))))
