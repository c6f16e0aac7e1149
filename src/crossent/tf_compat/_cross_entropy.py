"""TensorFlow's four cross-entropies from logits: its rules around the arithmetic of `crossent`.

They take any labels (unnormalised, negative, infinite) and reduce nothing. The arithmetic is
float64, the result has the dtype of the logits.
"""

import math
from typing import Any

import numpy as np

from crossent._arrays import library_of
from crossent._checks import Shape, fits
from crossent._row_stats import RowOptions, sigmoid_loss
from crossent.errors import ArgumentError, DTypeError, OptionError, ShapeError
from crossent.tf_compat._tensors import (
    beside,
    broadcast_shape,
    check_float,
    check_same_dtype,
    check_same_shape,
    converted,
    dtype_name,
    is_float,
    numbers,
    shape_of,
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
    library = library_of(labels=labels, logits=logits, pos_weight=pos_weight)
    labels, logits = converted(library, labels=labels, logits=logits)
    check_same_shape(labels=labels, logits=logits)
    if isinstance(pos_weight, float) and not is_float(labels):
        raise DTypeError(
            f"labels must be floating point; got {dtype_name(labels)} beside "
            f"pos_weight={pos_weight}. "
            "Convert them with tf.cast(labels, logits.dtype)."
        )
    check_float("logits", logits)
    check_same_dtype(labels=labels, logits=logits)
    weight, shape = numbers("pos_weight", pos_weight, library), shape_of(logits)
    if broadcast_shape(shape_of(weight), shape) is None:
        raise InvalidArgumentError(
            f"pos_weight must broadcast with logits of shape {shape}; got {shape_of(weight)}. "
            f"One weight per label has shape {shape[-1:]}."
        )
    xp = library.namespace(labels, logits, weight)
    with library.quiet():
        value = sigmoid_loss(xp, xp.widen(logits), xp.widen(labels), xp.widen(weight))
        return xp.returned(value, logits.dtype)


def softmax_losses(labels: Any, logits: Any, axis: Any = -1, *, stop_labels: bool = False) -> Any:
    """-sum z_j log p_j for every row; its gradient is p - z also where sum z is not 1."""
    # The dtypes may differ: TensorFlow casts these labels, of whatever dtype, to the logits'.
    library = library_of(labels=labels, logits=logits)
    logits = tensor("logits", logits, library)
    labels = beside("labels", labels, logits, library)
    check_float("logits", logits)
    shape = shape_of(logits)
    axis = _class_axis(axis, shape)
    xp = library.namespace(labels, logits)
    if not is_float(labels):
        labels = xp.widen(labels)  # small integers overflow in sums
    if stop_labels:
        labels = xp.stop_gradient(labels)
    rows = shape[:axis] + shape[axis + 1 :]
    with library.quiet():
        if shape[axis] == 0:
            return _no_classes(xp, labels, logits, rows)
        x, z = _rows(xp, labels, logits, axis)
        value = _softmax_value(library, xp, z, x)
        if not fits(shape_of(value), rows):
            value = xp.reshape(value, rows)
        return xp.returned(value, logits.dtype)


def sparse_losses(labels: Any, logits: Any) -> Any:
    """-log p_y for every row, classes last; labels are int32 or int64.

    Where labels cannot be looked at first (compiled, on an accelerator) a row whose label is no
    class is NaN, as in TensorFlow on a GPU.
    """
    library, labels, logits = tensors(labels=labels, logits=logits)
    shape = shape_of(logits)
    _check_sparse_shapes(shape_of(labels), shape)
    check_float("logits", logits)
    if dtype_name(labels) not in ("int32", "int64"):
        raise InvalidArgumentError(
            f"labels must be int32 or int64; got {dtype_name(labels)} of shape "
            f"{shape_of(labels)}. Convert them with tf.cast(labels, tf.int32)."
        )
    classes = shape[-1]
    if classes == 0:
        raise InvalidArgumentError(
            f"logits must have at least one class; got shape {shape}. Check the last axis."
        )
    checked = library.check_values(_check_ids, labels, classes)
    ids, _ = library.class_ids(labels, None)
    xp = library.namespace(logits)
    with library.quiet():
        if checked:
            losses = xp.row_statistics(logits, ids, None, RowOptions()).nll
        else:
            inside = (ids >= 0) & (ids < classes)
            known = xp.where(inside, ids, xp.zeros_like(ids))
            losses = xp.row_statistics(logits, known, None, RowOptions()).nll
            losses = losses * xp.where(inside, xp.ones_like(losses), xp.nan)
        return xp.returned(losses, logits.dtype)


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
        x, infinite = xp.widen(logits), xp.widen(infinite)
        term = n + (xp.stop_gradient(x) - x)
        value = value + xp.sum(xp.where(infinite == 0, 0.0, infinite * term), axis=-1)
    return value


def _split_infinite(library: Any, xp: Any, labels: Any, wide: Any) -> tuple[Any, Any]:
    """The labels with 0 in place of infinities and NaN, and those alone (None: there are none).

    Such a label makes its row infinite, and its own entry of the gradient only: inf - inf must not
    reach the others.
    """
    if not is_float(labels) or not _may_be_infinite(library, labels):
        return wide, None
    zeros = xp.zeros_like(wide)
    finite = xp.isfinite(wide)
    return xp.where(finite, wide, zeros), xp.where(finite, zeros, wide)


def _may_be_infinite(library: Any, labels: Any) -> bool:
    """Whether a label is infinite or NaN; True where the values are not at hand."""
    finite: list[Any] = []
    seen = library.check_values(lambda values: finite.append(np.isfinite(values).all()), labels)
    return not (seen and finite[0])


def _class_axis(axis: Any, shape: Shape) -> int:
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
    of_labels, of_logits = shape_of(labels), shape_of(logits)
    if fits(of_labels, of_logits):
        return xp.moveaxis(logits, axis, -1), xp.moveaxis(labels, axis, -1)
    x, z = logits, labels
    if axis != len(of_logits) - 1:
        if len(of_labels) != len(of_logits):
            raise InvalidArgumentError(_mismatch(labels, logits))
        x, z = xp.moveaxis(x, axis, -1), xp.moveaxis(z, axis, -1)
    if not of_labels or 0 in of_labels:
        raise InvalidArgumentError(_mismatch(labels, logits))
    (x, rows), (z, label_rows) = _flat(xp, x), _flat(xp, z)
    both = broadcast_shape(label_rows, rows)
    # Labels may stand for several rows; logits may not.
    if both is None or both[0] != rows[0]:
        raise InvalidArgumentError(_mismatch(labels, logits))
    return xp.broadcast_to(x, both), xp.broadcast_to(z, both)


def _flat(xp: Any, x: Any) -> tuple[Any, Shape]:
    *rows, classes = shape_of(x)
    shape = (math.prod(rows), classes)
    return xp.reshape(x, shape), shape


def _no_classes(xp: Any, labels: Any, logits: Any, shape: Shape) -> Any:
    if not fits(shape_of(labels), shape_of(logits)) or 0 in shape:
        raise InvalidArgumentError(_mismatch(labels, logits))
    zeros = xp.broadcast_to(xp.sum(xp.widen(logits)), shape)
    return xp.returned(zeros, logits.dtype)


def _mismatch(labels: Any, logits: Any) -> str:
    return (
        f"labels must have the shape of logits, {shape_of(logits)}; got {shape_of(labels)}. "
        "One row of labels, shape (1, classes), stands for all; class ids go to the sparse op."
    )


def _check_sparse_shapes(labels: Shape, logits: Shape) -> None:
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
    if not fits(labels, logits[:-1]):
        raise ShapeError(
            f"labels must have shape {logits[:-1]}, one id per row of logits of shape {logits}; "
            f"got {labels}. "
            "The classes are the last axis here."
        )


def _check_ids(labels: np.ndarray, classes: int) -> None:
    bad = (labels < 0) | (labels >= classes)
    if not bad.any():
        return
    shown = ", ".join(
        f"{labels[tuple(place)]} at row {', '.join(map(str, place)) or '0'}"
        for place in np.argwhere(bad)[:3]
    )
    raise InvalidArgumentError(
        f"labels must lie in [0, {classes}); got {shown}. "
        "Drop those rows: TensorFlow has no ignored label."
    )


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
