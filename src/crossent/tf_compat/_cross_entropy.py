"""TensorFlow's four cross-entropies from logits: its rules around the arithmetic of `crossent`.

They take any labels (unnormalised, negative, infinite) and reduce nothing. The arithmetic is
float64, the result has the dtype of the logits.
"""

import math
from typing import Any

import numpy as np

from crossent._arrays import library_of
from crossent._row_stats import RowOptions, sigmoid_loss
from crossent.errors import ArgumentError, DTypeError, OptionError, ShapeError
from crossent.tf_compat._dtypes import float64
from crossent.tf_compat._tensors import (
    beside,
    cast,
    check_float,
    check_same_dtype,
    check_same_shape,
    is_float,
    tensor,
    tensors,
)
from crossent.tf_compat.errors import InvalidArgumentError


def sigmoid_losses(labels: Any, logits: Any) -> Any:
    """max(x, 0) - x z + log1p(exp(-|x|)), element by element."""
    library, labels, logits = tensors(labels=labels, logits=logits)
    check_same_shape(labels=labels, logits=logits)
    check_float("logits", logits)
    check_same_dtype(labels=labels, logits=logits)
    xp = library.namespace(labels, logits)
    with library.quiet():
        z, x = xp.widen(labels), xp.widen(logits)
        finite, infinite = _split_infinite(library, xp, labels, z)
        value = sigmoid_loss(xp, x, finite, None)
        if infinite is not None:
            value = value - xp.where(infinite == 0, 0.0, infinite * x)
        return xp.returned(value, logits.dtype)


def weighted_losses(labels: Any, logits: Any, pos_weight: Any) -> Any:
    """(1 - z) x + l (log1p(exp(-|x|)) + max(-x, 0)), l = 1 + (q - 1) z; q may broadcast."""
    if pos_weight is None:
        raise ArgumentError("pos_weight must be a number or an array; got None. 1 changes nothing.")
    library, labels, logits = tensors(labels=labels, logits=logits)
    check_same_shape(labels=labels, logits=logits)
    if isinstance(pos_weight, float) and not is_float(labels):
        raise DTypeError(
            f"labels must be floating point; got {labels.dtype.name} beside "
            f"pos_weight={pos_weight}. "
            "Convert them with tf.cast(labels, logits.dtype)."
        )
    check_float("logits", logits)
    check_same_dtype(labels=labels, logits=logits)
    weight = tensor("pos_weight", pos_weight, float64)
    if _broadcast(weight.shape, logits.shape) is None:
        raise InvalidArgumentError(
            f"pos_weight must broadcast with logits of shape {logits.shape}; got {weight.shape}. "
            f"One weight per label has shape {logits.shape[-1:]}."
        )
    xp = library.namespace(labels, logits, weight)
    with library.quiet():
        value = sigmoid_loss(xp, xp.widen(logits), xp.widen(labels), xp.widen(weight))
        return xp.returned(value, logits.dtype)


def softmax_losses(labels: Any, logits: Any, axis: Any = -1, *, stop_labels: bool = False) -> Any:
    """-sum z_j log p_j for every row; its gradient is p - z also where sum z is not 1."""
    # The dtypes may differ: TensorFlow casts these labels, of whatever dtype, to the logits'.
    library = library_of(labels=labels, logits=logits)
    logits = tensor("logits", logits)
    labels = beside("labels", labels, logits)
    check_float("logits", logits)
    axis = _class_axis(axis, logits.shape)
    if not is_float(labels):
        labels = cast(labels, float64)  # small integers overflow in sums
    xp = library.namespace(labels, logits)
    if stop_labels:
        labels = xp.stop_gradient(labels)
    shape = logits.shape[:axis] + logits.shape[axis + 1 :]
    with library.quiet():
        if logits.shape[axis] == 0:
            return _no_classes(xp, labels, logits, shape)
        x, z = _rows(xp, labels, logits, axis)
        return xp.returned(xp.reshape(_softmax_value(library, xp, z, x), shape), logits.dtype)


def sparse_losses(labels: Any, logits: Any) -> Any:
    """-log p_y for every row, classes last; labels are int32 or int64."""
    library, labels, logits = tensors(labels=labels, logits=logits)
    _check_sparse_shapes(labels.shape, logits.shape)
    check_float("logits", logits)
    if labels.dtype.name not in ("int32", "int64"):
        raise InvalidArgumentError(
            f"labels must be int32 or int64; got {labels.dtype.name} of shape {labels.shape}. "
            "Convert them with tf.cast(labels, tf.int32)."
        )
    classes = logits.shape[-1]
    if classes == 0:
        raise InvalidArgumentError(
            f"logits must have at least one class; got shape {logits.shape}. Check the last axis."
        )
    values = library.checked(labels)
    bad = (values < 0) | (values >= classes)
    if bad.any():
        raise InvalidArgumentError(_out_of_range(values, bad, classes))
    ids, _ = library.class_ids(labels, None)
    xp = library.namespace(logits)
    with library.quiet():
        return xp.returned(xp.row_statistics(logits, ids, None, RowOptions()).nll, logits.dtype)


def _softmax_value(library: Any, xp: Any, labels: Any, logits: Any) -> Any:
    """The rows' losses in float64.

    TensorFlow's gradient is p - z, the derivative of nll only where t = sum z is 1; otherwise that
    is t p - z. A term of value 0 takes the rest, (t - 1) p, away again, and leaves the accurate
    entries of rows with t = 1 alone.
    """
    finite, infinite = _split_infinite(library, xp, labels, labels)
    statistics = xp.row_statistics(logits, finite, None, RowOptions())
    excess = xp.stop_gradient(statistics.target_sum) - 1
    log_sum = statistics.log_sum
    value = statistics.nll + excess * (xp.stop_gradient(log_sum) - log_sum)
    if infinite is not None:
        n = xp.stop_gradient(xp.neg_log_probs(logits, RowOptions())[0])
        # Of value n and derivative -z in x.
        term = n + (xp.stop_gradient(logits) - logits)
        value = value + xp.sum(xp.where(infinite == 0, 0.0, infinite * term), axis=-1)
    return value


def _split_infinite(library: Any, xp: Any, labels: Any, wide: Any) -> tuple[Any, Any]:
    """The labels with 0 in place of infinities and NaN, and those alone (None: there are none).

    Such a label makes its row infinite, and its own entry of the gradient only: inf - inf must not
    reach the others.
    """
    values = library.checked(labels)
    infinite = ~np.isfinite(values)
    if not infinite.any():
        return wide, None
    return xp.where(infinite, 0.0, wide), xp.where(infinite, wide, 0.0)


def _class_axis(axis: Any, shape: tuple[int, ...]) -> int:
    """The class axis as a non-negative number; of the negative ones TensorFlow takes -1 only."""
    rank = len(shape)
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise InvalidArgumentError(f"axis must be an int; got {axis!r}. -1 is the last axis.")
    if rank == 0 or not (axis == -1 or 0 <= axis < rank):
        raise InvalidArgumentError(
            f"axis must be -1 or lie in [0, {rank}) for logits of shape {shape}; got {axis}. "
            "Logits need a class axis; count it from the front."
        )
    return int(axis) % rank


def _rows(xp: Any, labels: Any, logits: Any, axis: int) -> tuple[Any, Any]:
    """Logits and labels with the classes last.

    Where their shapes differ, both are flattened to two axes and the labels broadcast there.
    """
    if labels.shape == logits.shape:
        return xp.moveaxis(logits, axis, -1), xp.moveaxis(labels, axis, -1)
    x, z = logits, labels
    if axis != logits.ndim - 1:
        if z.ndim != x.ndim:
            raise InvalidArgumentError(_mismatch(labels, logits))
        x, z = xp.moveaxis(x, axis, -1), xp.moveaxis(z, axis, -1)
    if z.ndim == 0 or 0 in z.shape:
        raise InvalidArgumentError(_mismatch(labels, logits))
    x, z = (xp.reshape(v, (math.prod(v.shape[:-1]), v.shape[-1])) for v in (x, z))
    both = _broadcast(z.shape, x.shape)
    # Labels may stand for several rows; logits may not.
    if both is None or both[0] != x.shape[0]:
        raise InvalidArgumentError(_mismatch(labels, logits))
    return xp.broadcast_to(x, both), xp.broadcast_to(z, both)


def _no_classes(xp: Any, labels: Any, logits: Any, shape: tuple[int, ...]) -> Any:
    if labels.shape != logits.shape or 0 in shape:
        raise InvalidArgumentError(_mismatch(labels, logits))
    zeros = xp.broadcast_to(xp.sum(xp.widen(logits)), shape)
    return xp.returned(zeros, logits.dtype)


def _mismatch(labels: Any, logits: Any) -> str:
    return (
        f"labels must have the shape of logits, {logits.shape}; got {labels.shape}. "
        "One row of labels, shape (1, classes), stands for all; class ids go to the sparse op."
    )


def _check_sparse_shapes(labels: tuple[int, ...], logits: tuple[int, ...]) -> None:
    if not logits:
        raise ShapeError(
            "logits must have a class axis; got a scalar. Pass shape (batch, classes)."
        )
    if len(labels) != len(logits) - 1:
        raise ShapeError(
            f"labels must have rank {len(logits) - 1}, one less than logits of shape {logits}; "
            f"got rank {len(labels)}, shape {labels}. "
            f"From one-hot labels: np.argmax(labels, axis={len(logits) - 1})."
        )
    if labels != logits[:-1]:
        raise ShapeError(
            f"labels must have shape {logits[:-1]}, one id per row of logits of shape {logits}; "
            f"got {labels}. "
            "The classes are the last axis here."
        )


def _out_of_range(values: np.ndarray, bad: np.ndarray, classes: int) -> str:
    shown = ", ".join(
        f"{values[tuple(place)]} at row {', '.join(map(str, place)) or '0'}"
        for place in np.argwhere(bad)[:3]
    )
    return (
        f"labels must lie in [0, {classes}); got {shown}. "
        "Drop those rows: TensorFlow has no ignored label."
    )


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The common shape by the ordinary rules, None where there is none."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def one_axis(axis: Any, dim: Any) -> Any:
    """The axis under either of its names; -1 if neither is given."""
    if axis is not None and dim is not None:
        raise OptionError(
            f"axis must be given without dim; got axis={axis} and dim={dim}. dim is its old name: "
            "pass dim=None."
        )
    given = dim if axis is None else axis
    return -1 if given is None else given


def both_given(labels: Any, logits: Any) -> None:
    """The check of the functions whose arguments default to None."""
    if labels is None or logits is None:
        missing = "labels" if labels is None else "logits"
        raise OptionError(
            f"labels and logits must both be given; got {missing}=None. Pass it by its name."
        )
