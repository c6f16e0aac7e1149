"""The native core's calls for plain NumPy arrays, and which arrays it takes.

Two kinds of calls. The kernels (`row_statistics` and what follows it) get arguments that are
checked already and say whether they ran. The fused losses get what the caller of a loss passed:
they are one native call with no check of values before it, and whatever is unusual, in form or
value, gives None. Then the losses' general way, which checks, converts or raises, has its turn.
"""

import os
from functools import lru_cache
from typing import Any

import numpy as np

from crossent._row_stats import RowOptions, RowStatistics
from crossent._threads import register_with_threadpoolctl


def _open() -> tuple[Any, str]:
    """The native core where it has kernels for this processor; what runs, as `kernel_for` says."""
    core: Any
    try:
        import crossent._native as core

        instruction_set = core.instruction_set()
    except ImportError as error:
        return None, f"formula: the native core is missing, {error}"
    except AttributeError:
        return None, "formula: the native core is older than this package; install crossent again"
    except ValueError as error:  # CROSSENT_MAX_ISA names no instruction set
        return None, f"formula: {error}"
    if instruction_set is None:
        cap = os.environ.get("CROSSENT_MAX_ISA")
        limit = f"up to CROSSENT_MAX_ISA={cap}" if cap else "for this processor"
        return None, f"formula: no native kernel {limit}"
    return core, f"native {instruction_set}"


# Without a core the formula runs; tests put None here.
core, kernel = _open()

_MOST_AXES = 31
_AS_THEY_ARE = RowOptions()
_FLOAT, _BFLOAT16, _INTEGER, _BOOL = "float", "bfloat16", "integer", "bool"
_KINDS = dict.fromkeys("efd", _FLOAT) | dict.fromkeys("bBhHiIlLqQ", _INTEGER) | {"?": _BOOL}


@lru_cache(maxsize=64)
def _kind(dtype: Any) -> str | None:
    """What the core takes these numbers for; None if it does not take them."""
    if dtype.name == "bfloat16":
        return _BFLOAT16
    return _KINDS.get(dtype.char) if dtype.isnative else None


def takes(array: np.ndarray) -> bool:
    """Whether the kernels read these scores."""
    known = core is not None and _kind(array.dtype) in (_FLOAT, _BFLOAT16)
    return known and array.ndim <= _MOST_AXES


def _handed(array: np.ndarray, kind: str | None = None) -> tuple[np.ndarray, bool]:
    """The array, and whether it is bfloat16, which NumPy cannot hand over by its own name."""
    if not _steps_by_elements(array):
        array = array.copy()
    if (kind or _kind(array.dtype)) == _BFLOAT16:
        return array.view(np.uint16), True
    return array, False


def _steps_by_elements(array: np.ndarray) -> bool:
    """Whether strides are whole elements: those of a field of a structured array may not be."""
    flags = array.flags
    if not flags.aligned:
        return False
    return flags.c_contiguous or not any(stride % array.itemsize for stride in array.strides)


# ---- kernels: the arguments are checked; the answer is whether `out` was written


def row_statistics(
    logits: np.ndarray, labels: np.ndarray, class_weight: Any, options: RowOptions, out: np.ndarray
) -> bool:
    if not (takes(logits) and _kind(labels.dtype)):
        return False
    core.row_statistics(
        *_handed(logits),
        *_handed(labels),
        _contiguous(class_weight),
        options.with_mean,
        options.temperature,
        options.softcap,
        out,
    )
    return True


def row_gradient(
    upstream: RowStatistics,
    logits: np.ndarray,
    labels: np.ndarray,
    class_weight: Any,
    options: RowOptions,
    out: np.ndarray,
) -> bool:
    if not (takes(logits) and _kind(labels.dtype)):
        return False
    # The label's entry is formed in another way, which is the better one only where it counts.
    unlabelled = upstream.nll is None and upstream.label_gap is None
    core.row_gradient(
        _contiguous(upstream.log_sum),
        _contiguous(upstream.label_gap),
        _contiguous(upstream.nll),
        _contiguous(upstream.mean_gap),
        *_handed(logits),
        *((None, False) if unlabelled else _handed(labels)),
        _contiguous(class_weight),
        options.temperature,
        options.softcap,
        _handed(out)[0],
    )
    return True


def _contiguous(values: Any) -> Any:
    # Not np.ascontiguousarray, which turns a number into an array of one axis.
    return None if values is None else np.require(values, np.float64, ["C", "ALIGNED"])


def softmax(
    logits: np.ndarray, out: np.ndarray, *, log: bool, options: RowOptions = _AS_THEY_ARE
) -> bool:
    if not takes(logits):
        return False
    core.softmax(*_handed(logits), options.temperature, options.softcap, log, out)
    return True


def log_sum_exp(logits: np.ndarray, out: np.ndarray) -> bool:
    if not takes(logits):
        return False
    core.log_sum_exp(*_handed(logits), out)
    return True


def elementwise(name: str, x: np.ndarray, out: np.ndarray) -> bool:
    if not takes(x):
        return False
    core.elementwise(name, *_handed(x), out)
    return True


def sigmoid_loss(
    x: np.ndarray, z: np.ndarray, r: Any, w: Any, upstream: Any, losses: np.ndarray, gradient: Any
) -> bool:
    """Weighted losses of the elements and, unless None, their gradient times upstream, in x."""
    if not (takes(x) and _kind(z.dtype)):
        return False
    value = core.sigmoid_loss(
        *_handed(x),
        *_handed(z),
        r if r is None or r.size > 1 else r.reshape(()),
        None if w is None else np.broadcast_to(w, x.shape),
        *(0.0, None, "none", None),
        _contiguous(upstream),
        losses,
        None if gradient is None else _handed(gradient)[0],
    )
    return value is not None


def exact_sum(values: np.ndarray, divisor: float | None) -> float | None:
    """The sum over the divisor, rounded once to the dtype of the values; None without a core."""
    return None if core is None else float(core.exact_sum(values.reshape(-1), divisor))


# ---- fused losses: the arguments of a loss as the caller passed them


class _UnusualError(Exception):
    """An argument is in a form that only the general way takes."""


def fused_softmax_loss(
    labels: Any,
    logits: Any,
    axis: Any,
    class_weight: Any,
    sample_weight: Any,
    label_smoothing: float,
    ignore_index: Any,
    temperature: float,
    softcap: float | None,
    z_loss: float,
    reduction: str,
    normalizer: Any,
    request: Any,
) -> Any:
    """The linear softmax loss, or with a request `(value, gradient)`; None: go the general way."""
    if core is None:
        return None
    register_with_threadpoolctl()
    try:
        of_logits, of_labels = _score_kind(logits), _plain_kind(labels)
        order = _classes_last(axis, logits)
        x = logits if order is None else logits.transpose(order)
        rows = x.shape[:-1]
        target = _label_rows(labels, of_labels, x.shape, order, ignore_index)
        arrays = labels, class_weight, sample_weight
        gradient, upstream = _wanted(request, rows, reduction, logits, arrays)
        written = gradient if order is None or gradient is None else gradient.transpose(order)
        losses = np.empty(rows, _result_dtype(logits)) if reduction == "none" else None
        value = core.softmax_loss(
            *_handed(x, of_logits),
            *_handed(target, of_labels),
            None if class_weight is None else _class_weights(class_weight),
            None if sample_weight is None else _row_weights(sample_weight, rows),
            label_smoothing,
            _index(ignore_index),
            temperature,
            softcap,
            z_loss,
            reduction,
            None if normalizer is None else _number(normalizer),
            upstream,
            losses,
            None if written is None else _handed(written, of_logits)[0],
        )
    except _UnusualError:
        return None
    return None if value is None else _result(value, losses, logits, gradient)


def fused_sigmoid_loss(
    labels: Any,
    logits: Any,
    pos_weight: Any,
    sample_weight: Any,
    label_smoothing: float,
    ignore_index: Any,
    reduction: str,
    normalizer: Any,
    request: Any,
) -> Any:
    """The same for the sigmoid loss, where every element is a row."""
    if core is None:
        return None
    register_with_threadpoolctl()
    try:
        of_logits, of_labels = _score_kind(logits), _plain_kind(labels)
        rows = logits.shape
        z = _element_labels(labels, rows)
        arrays = labels, pos_weight, sample_weight
        gradient, upstream = _wanted(request, rows, reduction, logits, arrays)
        losses = np.empty(rows, _result_dtype(logits)) if reduction == "none" else None
        value = core.sigmoid_loss(
            *_handed(logits, of_logits),
            *_handed(z, of_labels),
            None if pos_weight is None else _positive_weights(pos_weight, rows),
            None if sample_weight is None else _row_weights(sample_weight, rows),
            label_smoothing,
            _index(ignore_index),
            reduction,
            None if normalizer is None else _number(normalizer),
            upstream,
            losses,
            None if gradient is None else _handed(gradient, of_logits)[0],
        )
    except _UnusualError:
        return None
    return None if value is None else _result(value, losses, logits, gradient)


def _result(value: float, losses: Any, logits: np.ndarray, gradient: Any) -> Any:
    result = _result_dtype(logits)(value) if losses is None else losses[()]
    return result if gradient is None else (result, gradient)


def _result_dtype(logits: np.ndarray) -> Any:
    return np.float64 if logits.dtype == np.float64 else np.float32


def _score_kind(scores: Any) -> str:
    kind = _plain_kind(scores)
    if kind in (_INTEGER, _BOOL) or scores.ndim > _MOST_AXES:
        raise _UnusualError
    return kind


def _plain_kind(array: Any) -> str:
    # Subclasses of ndarray have rules of their own: a masked array, a matrix.
    kind = _kind(array.dtype) if type(array) is np.ndarray else None
    if kind is None:
        raise _UnusualError
    return kind


def _classes_last(axis: Any, logits: np.ndarray) -> Any:
    """The axes of the logits with the classes last; None where they are last already."""
    rank = logits.ndim
    if type(axis) is not int or not -rank <= axis < rank or logits.shape[axis] == 0:
        raise _UnusualError
    if axis in (-1, rank - 1):
        return None
    axis %= rank
    return (*range(axis), *range(axis + 1, rank), axis)


def _label_rows(
    labels: np.ndarray, kind: str, shape: tuple[int, ...], order: Any, ignore_index: Any
) -> np.ndarray:
    """Class ids of the shape of the rows, or a distribution with the classes last."""
    if labels.ndim == len(shape):
        # One class: integers of this shape are ids, floats a distribution.
        if shape[-1] == 1:
            raise _UnusualError
        labels = labels if order is None else labels.transpose(order)
        if labels.shape == shape and ignore_index is None:
            return labels
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels
    if labels.shape != shape[:-1] or kind != _INTEGER:
        raise _UnusualError
    return labels


def _element_labels(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels of the shape of the elements; a 1 behind may be there or missing."""
    if labels.shape == shape:
        return labels
    if (*labels.shape, 1) == shape or labels.shape == (*shape, 1):
        return labels.reshape(shape)
    raise _UnusualError


def _class_weights(weights: Any) -> np.ndarray:
    array = _as_float64(weights)
    if array.ndim != 1:
        raise _UnusualError
    return array


def _positive_weights(weights: Any, rows: tuple[int, ...]) -> np.ndarray:
    array = _as_float64(weights)
    if array.shape not in ((), (1,), rows[-1:]):
        raise _UnusualError
    return array.reshape(()) if array.size == 1 else array


def _row_weights(weights: Any, rows: tuple[int, ...]) -> np.ndarray:
    """Broadcast from the leading axes: the missing ones are padded behind."""
    array = _as_float64(weights)
    if array.shape == rows:
        return array
    if array.ndim > len(rows):
        raise _UnusualError
    try:
        return np.broadcast_to(array.reshape(array.shape + (1,) * (len(rows) - array.ndim)), rows)
    except ValueError:
        raise _UnusualError from None


def _as_float64(values: Any) -> np.ndarray:
    if type(values) in (list, float, int):
        try:
            values = np.asarray(values)
        except (ValueError, OverflowError):  # rows of different lengths, for one
            raise _UnusualError from None
    _plain_kind(values)
    return np.require(values, np.float64, ["C", "ALIGNED"])


def _index(ignore_index: Any) -> int | None:
    if ignore_index is None or (type(ignore_index) is int and abs(ignore_index) < 2**63):
        return ignore_index
    raise _UnusualError


def _number(normalizer: Any) -> float:
    if type(normalizer) is float:
        return normalizer
    if type(normalizer) in (int, np.float32, np.float64) and abs(normalizer) < 2**63:
        return float(normalizer)
    raise _UnusualError


def _wanted(
    request: Any,
    rows: tuple[int, ...],
    reduction: str,
    logits: np.ndarray,
    others: tuple[Any, ...],
) -> tuple[Any, Any]:
    """Where the gradient goes, and what is upstream of it; nothing without a request."""
    if request is None:
        return None, None
    out, upstream = request
    if upstream is not None:
        if upstream.shape != (rows if reduction == "none" else ()):
            raise _UnusualError
        upstream = _contiguous(upstream) if reduction == "none" else float(upstream)
    if out is None or not _steps_by_elements(out) or _would_spoil(out, logits, (*others, upstream)):
        return np.empty(logits.shape, logits.dtype), upstream
    return out, upstream


def _would_spoil(out: np.ndarray, logits: np.ndarray, others: tuple[Any, ...]) -> bool:
    """Whether writing a gradient there overwrites what other rows are still computed from.

    An element's gradient may take the place of its own logit, so that the logits themselves are
    fine, also as another view of the same elements.
    """
    if any(type(other) is np.ndarray and np.may_share_memory(out, other) for other in others):
        return True
    if out is logits or not np.may_share_memory(out, logits):
        return False
    return _place(out) != _place(logits)


def _place(array: np.ndarray) -> tuple[int, tuple[int, ...]]:
    return array.__array_interface__["data"][0], array.strides
