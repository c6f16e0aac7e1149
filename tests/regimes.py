"""The logits and labels that the contract is checked on: few shapes, each here for a reason."""

import ml_dtypes
import numpy as np

INF, NAN = np.inf, np.nan
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name)) if name == "bfloat16" else np.dtype(name)


def result_dtype(dtype):
    """What losses of scores of this dtype are returned in."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def random_rows(rows, classes, seed=0):
    rng = np.random.default_rng(seed)
    return 3 * rng.standard_normal((rows, classes)), rng.integers(0, classes, rows)


def _confident(_):
    """A true loss from 1e-3 down to 1e-30, and 1e-41, which float32 holds as a subnormal."""
    gaps = np.array([7.1, 20.3, 37.7, 69.1, 94.0])  # the differences are inexact in float64
    peak = np.full(5, 10 / 3)
    return np.stack([peak - gaps, peak, -1.7 - gaps], axis=1), np.ones(5, int)


def _offset(dtype):
    """A common offset of +-1e8 (6e4 in float16); the gaps are a few of its own spacings."""
    start = min(1e8, float(ml_dtypes.finfo(dtype).max) * 0.9)
    rows = [np.float64(dtype.type(o)) for o in (start, -start, 1000.0, -1000.0)]
    spacing = [2.0 ** (np.frexp(o)[1] - 1) * float(ml_dtypes.finfo(dtype).eps) for o in rows]
    steps = np.array([[0, -1, -3, -2]])
    # At least 1/2, so that float64, whose spacing at 1e8 is 1e-8, is not merely uniform.
    return np.array(rows)[:, None] + np.maximum(spacing, 0.5)[:, None] * steps, np.array(
        [0, 1, 2, 0]
    )


def _near_uniform(dtype):
    """Logits that differ in the last bits only."""
    return 1 + float(ml_dtypes.finfo(dtype).eps) * np.arange(8.0).reshape(2, 4), np.array([3, 0])


def _far_wrong(dtype):
    """The label far below the peak, up to a quarter of the width of the dtype."""
    largest = float(ml_dtypes.finfo(dtype).max) / 4
    depth = np.array([40.0, 800.0, min(1e8, largest / 2), largest])
    return np.stack([depth / 2, -depth / 2, np.zeros(4)], axis=1), np.ones(4, int)


def _ties(_):
    """The peak shared: by the label and others, by others only, by all."""
    return np.array([[2.0, 2, -1], [2, 2, -1], [2, -1, 2], [4, 4, 4]]), np.array([1, 2, 2, 0])


def _masked(_):
    """Some classes at -inf, the first and the last among them, and all but the label."""
    return np.array([[-INF, 1, 0.5], [3, -INF, -INF], [0, -60, -INF]]), np.array([2, 0, 0])


def _masked_label(_):
    """The label itself is impossible: a loss of +inf with a finite gradient."""
    return np.array([[-INF, 1, 0.5], [0.5, 1, 0]]), np.array([0, 1])


def _subnormal(dtype):
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    return tiny * np.array([[0.0, 1, -3], [5, -7, 2]]), np.array([1, 2])


def _broken(_):
    """Rows without a softmax between sound ones."""
    rows = [[0, 1, 2], [NAN, 0, 1], [1, INF, 0], [-INF, -INF, -INF], [2, 0, -1.5]]
    return np.array(rows, float), np.array([2, 1, 1, 0, 1])


def _shaped(rows, classes):
    return lambda _: random_rows(rows, classes, seed=classes)


SOFTMAX = {
    "random": _shaped(4, 5),
    "one class": _shaped(3, 1),
    "two classes": _shaped(3, 2),
    "three classes": _shaped(3, 3),
    "ten classes": _shaped(2, 10),
    "1000 classes": _shaped(2, 1000),  # long sums, and two blocks of any vector width with a tail
    "no rows": lambda _: (np.zeros((0, 3)), np.zeros(0, int)),
    "confident": _confident,
    "offset": _offset,
    "near uniform": _near_uniform,
    "far wrong": _far_wrong,
    "ties": _ties,
    "masked": _masked,
    "masked label": _masked_label,
    "subnormal": _subnormal,
    "broken": _broken,
}


def softmax_case(regime, dtype):
    logits, ids = SOFTMAX[regime](dtype)
    return logits.astype(dtype), ids


def distribution(rows, classes, dtype, seed=3):
    """Soft labels whose rows sum to 1 exactly in any dtype: multiples of 1/64 (of 1/4096 for many
    classes), some of them 0."""
    rng = np.random.default_rng(seed)
    unit = 64 if classes <= 16 else 4096
    counts = rng.multinomial(unit, rng.dirichlet(np.full(classes, 0.7)), size=rows)
    return (counts / unit).astype(dtype)


def _tails(dtype):
    """Both tails to a loss of 1e-30 and beyond, up to the width of the dtype."""
    largest = float(ml_dtypes.finfo(dtype).max)
    sizes = np.array([0.5, 7, 20, 37, 69, 94, 700, min(1e8, largest / 2), largest])
    return np.stack([sizes, -sizes])


SIGMOID = {
    "random": lambda _: random_rows(3, 4)[0],
    "tails": _tails,
    "zero and subnormal": lambda dtype: (
        float(ml_dtypes.finfo(dtype).smallest_subnormal) * np.array([[0.0, -0.0, 1, -3]])
    ),
    "infinite": lambda _: np.array([[INF, -INF, 1.0]]),
    "broken": lambda _: np.array([[NAN, 0.5, -2.0]]),
    "no rows": lambda _: np.zeros((0, 3)),
    "scalar": lambda _: np.array(1.5),
}
