"""NumPy's arithmetic on plain arrays: the native kernels, or the formula in row blocks.

Both compute in float64, or as accurately, and round once. The formula goes through the rows in
blocks, so that it never holds a wide copy of the logits.
"""

from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from crossent import _numpy_native as native
from crossent import _row_stats
from crossent._row_stats import RowOptions, RowStatistics

# Elements of one block: its float64 temporaries stay in a second-level cache.
_BLOCK_ELEMENTS = 1 << 16

# What the formula and the losses use of a namespace as the array library has it.
SHARED = (
    *("abs", "arange", "argmax", "broadcast_to", "exp", "expm1", "isfinite", "isnan"),
    *("log", "log1p", "max", "moveaxis", "ones_like", "reshape", "sum", "tanh"),
    *("where", "zeros_like"),
)


def result_dtype(array: Any) -> Any:
    """float64 stays; everything narrower is returned as float32."""
    return np.float64 if array.dtype == np.float64 else np.float32


def row_statistics(
    logits: np.ndarray, labels: np.ndarray, class_weight: Any, options: RowOptions
) -> np.ndarray:
    """The seven statistics of each row, stacked on a new first axis, in float64."""
    stacked = np.empty((len(RowStatistics._fields), *logits.shape[:-1]))
    if native.row_statistics(logits, labels, class_weight, options, stacked):
        return stacked
    options = compensating(logits, options)
    for rows in _row_blocks(logits.shape):
        statistics = _row_stats.row_statistics(
            plain(), _wide(logits[rows]), _wide_labels(labels[rows]), class_weight, options
        )
        for k, statistic in enumerate(statistics):
            stacked[(k, *rows)] = statistic
    return stacked


def row_gradient(
    upstream: RowStatistics,
    logits: np.ndarray,
    labels: np.ndarray,
    class_weight: Any,
    options: RowOptions,
) -> np.ndarray:
    """Gradient with respect to the logits, in their dtype (see `_row_stats.row_gradient`)."""
    if native.takes(logits):
        gradient = np.empty(logits.shape, logits.dtype)
        if native.row_gradient(upstream, logits, labels, class_weight, options, gradient):
            return gradient
    gradient = np.empty(logits.shape, result_dtype(logits))
    options = compensating(logits, options)
    for rows in _row_blocks(logits.shape):
        of_rows = RowStatistics(*(None if u is None else u[rows] for u in upstream))
        gradient[rows] = _row_stats.row_gradient(
            plain(),
            of_rows,
            _wide(logits[rows]),
            _wide_labels(labels[rows]),
            class_weight,
            options,
        )
    return gradient


def neg_log_probs(logits: np.ndarray, options: RowOptions) -> np.ndarray:
    """-log softmax of each row and, as one more entry behind it, its log-sum-exp; in float64.

    Each entry has the bits of the row's nll with that label.
    """
    result = np.empty((*logits.shape[:-1], logits.shape[-1] + 1))
    nlp, lse = split(result)
    if not native.takes(logits):
        options = compensating(logits, options)
        for rows in _row_blocks(logits.shape):
            nlp[rows], lse[rows] = _row_stats.neg_log_probs(plain(), _wide(logits[rows]), options)
        return result
    ids = np.zeros(logits.shape[:-1], np.int64)
    peak, log_sum, *_ = row_statistics(logits, ids, None, options)
    lse[...] = peak + log_sum
    as_they_are = options.softcap is None and options.temperature == 1
    for rows in _row_blocks(logits.shape):
        wide, block = _wide(logits[rows]), nlp[rows]
        if as_they_are:
            np.subtract(log_sum[rows][..., None], wide - peak[rows][..., None], out=block)
        else:  # transformed logits are float64 in the kernel
            native.softmax(wide, block, log=True, options=options)
            np.subtract(0.0, block, out=block)
    return result


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row, in float64 whatever the logits are: what arithmetic goes on with."""
    result = np.empty(logits.shape)
    _by_formula(_row_stats.softmax, logits, result)
    return result


def softmax(logits: np.ndarray) -> np.ndarray:
    result = np.empty(logits.shape, result_dtype(logits))
    if not native.softmax(logits, result, log=False):
        _by_formula(_row_stats.softmax, logits, result)
    return result


def log_softmax(logits: np.ndarray) -> np.ndarray:
    result = np.empty(logits.shape, result_dtype(logits))
    if not native.softmax(logits, result, log=True):
        _by_formula(_row_stats.log_softmax, logits, result)
    return result


def log_sum_exp(logits: np.ndarray) -> Any:
    result = np.empty(logits.shape[:-1], result_dtype(logits))
    if not native.log_sum_exp(logits, result):
        _by_formula(_row_stats.log_sum_exp, logits, result)
    return result[()]


def _by_formula(of: Callable[..., Any], logits: np.ndarray, result: np.ndarray) -> None:
    options = compensating(logits, RowOptions())
    for rows in _row_blocks(logits.shape):
        result[rows] = of(plain(), _wide(logits[rows]), options)


def activation(name: str, x: np.ndarray) -> Any:
    """One of `_row_stats.ACTIVATIONS`, element by element."""
    result = np.empty(x.shape, result_dtype(x))
    if not native.elementwise(name, x, result):
        for (part,) in _elements(x.shape):
            result[part] = _row_stats.ACTIVATIONS[name](plain(), _wide(x[part]))
    return result[()]


def sigmoid_loss(x: np.ndarray, z: np.ndarray, r: Any, w: Any) -> np.ndarray:
    """w times the sigmoid loss of every element; r and w broadcast to the shape of x."""
    result = np.empty(x.shape, result_dtype(x))
    if native.sigmoid_loss(x, z, r, w, None, result, None):
        return result
    for part, of_r, of_w in _elements(x.shape, r, w):
        losses = _row_stats.sigmoid_loss(plain(), _wide(x[part]), _wide(z[part]), of_r)
        result[part] = losses if of_w is None else times(of_w, losses)
    return result


def sigmoid_gradient(g: np.ndarray, x: np.ndarray, z: np.ndarray, r: Any, w: Any) -> np.ndarray:
    """g times the derivative of `sigmoid_loss` in x, where g and w are not 0."""
    g = np.broadcast_to(g, x.shape)
    if native.takes(x):
        gradient, losses = np.empty(x.shape, x.dtype), np.empty(x.shape, result_dtype(x))
        if native.sigmoid_loss(x, z, r, w, g, losses, gradient):
            return gradient
    gradient = np.empty(x.shape, result_dtype(x))
    for part, of_r, of_w in _elements(x.shape, r, w):
        by_x, _, _ = _row_stats.sigmoid_gradient(plain(), _wide(x[part]), _wide(z[part]), of_r)
        gradient[part] = times(g[part] if of_w is None else times(of_w, g[part]), by_x)
    return gradient


def _elements(shape: tuple[int, ...], *weights: Any) -> Iterator[tuple[Any, ...]]:
    """Blocks of elements, as indices, and the weights of each, which are broadcast or None."""
    spread = [None if weight is None else np.broadcast_to(weight, shape) for weight in weights]
    for part in _row_blocks((*shape, 1)):
        yield (part, *(None if weight is None else weight[part] for weight in spread))


def total(values: Any, divisor: Any = None, dtype: Any = np.float64) -> Any:
    """The sum of the values in `dtype`, over a divisor, rounded once; 0 where the divisor is 0."""
    values = np.asarray(values).astype(dtype, copy=False)
    if divisor is not None and divisor == 0:
        return dtype(0)
    exact = native.exact_sum(values, None if divisor is None else float(divisor))
    if exact is not None:
        return dtype(exact)
    in_float64 = np.sum(values, dtype=np.float64)
    return dtype(in_float64 if divisor is None else in_float64 / divisor)


def _row_blocks(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Indices that cut the rows into blocks, along the longest axis that is not the classes."""
    if len(shape) == 1:
        yield (...,)
        return
    if 0 in shape[:-1]:
        return
    axis = int(np.argmax(shape[:-1]))
    per_step = int(np.prod(shape, dtype=np.int64)) // shape[axis]
    step = max(1, _BLOCK_ELEMENTS // max(1, per_step))
    for start in range(0, shape[axis], step):
        yield (*(slice(None),) * axis, slice(start, start + step))


def _wide(block: np.ndarray) -> np.ndarray:
    # In C order the class axis is contiguous, and NumPy then sums it pairwise.
    return np.array(block, np.float64, order="C")


def _wide_labels(labels: np.ndarray) -> np.ndarray:
    return labels if labels.dtype.kind in "iu" else _wide(labels)


def compensating(logits: np.ndarray, options: RowOptions) -> RowOptions:
    return options._replace(compensate=logits.dtype == np.float64)


def _pick(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, ids[..., None], axis=-1)[..., 0]


def widen(x: Any) -> np.ndarray:
    # In C order sums run over the same elements in the same order, whatever the strides.
    return np.asarray(x, np.float64, order="C")


def returned(x: Any, dtype: Any) -> Any:
    return np.asarray(x).astype(dtype)[()]


def times(weight: Any, values: Any) -> Any:
    """weight * values, where a weight of 0 gives 0 whatever the value."""
    return np.where(weight == 0, 0.0, weight * values)


@cache
def plain() -> SimpleNamespace:
    functions = {name: getattr(np, name) for name in SHARED}
    return SimpleNamespace(
        **functions,
        inf=np.inf,
        nan=np.nan,
        pick=_pick,
        take=lambda table, ids: table[ids],
        times=times,
        power=np.power,
        count=lambda x: widen(np.size(x)),
        hide=lambda scores, idle, fill: scores,
        widen=widen,
        returned=returned,
        total=total,
        stop_gradient=lambda x: x,
        row_statistics=lambda *arguments: RowStatistics(*row_statistics(*arguments)),
        neg_log_probs=lambda logits, options: split(neg_log_probs(logits, options)),
        sigmoid_loss=sigmoid_loss,
        probabilities=probabilities,
        softmax=softmax,
        log_softmax=log_softmax,
        log_sum_exp=log_sum_exp,
        activation=activation,
    )


def split(nlp_and_lse: Any) -> tuple[Any, Any]:
    """What `neg_log_probs` returns, as -log p and the log-sum-exp."""
    return nlp_and_lse[..., :-1], nlp_and_lse[..., -1]
