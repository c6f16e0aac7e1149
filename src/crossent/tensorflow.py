"""The door to TensorFlow: conversion, and what the losses run on there.

Import this module before loading a SavedModel whose functions hold a loss: it registers the ops
that such a model names.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from crossent import _checks, _tensorflow_native
from crossent._tensorflow_formula import is_eager, namespace, on_cpu, result_dtype
from crossent._tensorflow_native import fused_sigmoid_loss, fused_softmax_loss
from crossent.errors import DTypeError, ShapeError

__all__ = [
    "as_array",
    "as_floats",
    "as_scores",
    "check_values",
    "class_ids",
    "dtype",
    "dtype_name",
    "fused_sigmoid_loss",
    "fused_softmax_loss",
    "is_own",
    "kernel_for",
    "namespace",
    "quiet",
    "result_dtype",
    "same_lengths",
    "shape",
    "takes_numpy",
]

takes_numpy = True

_NOT_DENSE = (tf.RaggedTensor, tf.SparseTensor, tf.IndexedSlices)


def quiet() -> AbstractContextManager[Any]:
    """TensorFlow never warns of infinities and NaN."""
    return nullcontext()


def is_own(value: Any) -> bool:
    """Whether the value is a tensor or a variable."""
    return isinstance(value, (tf.Tensor, tf.Variable))


def as_array(name: str, value: Any) -> Any:
    """The argument as a tensor of its own dtype; lists of numbers by NumPy's rules."""
    if isinstance(value, tf.Tensor):
        return value
    if isinstance(value, tf.Variable):
        return tf.convert_to_tensor(value)
    # A Variable, whose gradient NumPy would lose.
    if type(value).__module__.partition(".")[0] == "keras":
        return as_array(name, value.value)
    if isinstance(value, _NOT_DENSE):
        raise DTypeError(
            f"{name} must be a dense tensor; got a {type(value).__name__}. Call to_tensor() and "
            "skip what it fills in with ignore_index or sample_weight 0."
            if isinstance(value, tf.RaggedTensor)
            else f"{name} must be a dense tensor; got {type(value).__name__}. Make it dense with "
            "tf.sparse.to_dense or tf.convert_to_tensor."
        )
    if isinstance(value, (list, tuple)) and any(is_own(part) for part in value):
        return tf.stack([as_array(name, part) for part in value])
    array = _checks.plain_array(name, value)
    _checks.numeric(name, str(array.dtype.name), array.shape)
    return tf.convert_to_tensor(array)


def as_scores(name: str, value: Any) -> Any:
    """Scores as a floating-point tensor: lists and Python numbers become float64."""
    array = as_array(name, value)
    if isinstance(value, (bool, int, float, list, tuple)) and not array.dtype.is_floating:
        array = tf.cast(array, tf.float64)
    return array


def as_floats(array: Any) -> Any:
    """Integers and bools as float64, so that no digit is lost; floats as they are."""
    return array if array.dtype.is_floating else tf.cast(array, tf.float64)


def dtype_name(array: Any) -> str:
    """The dtype as `_checks` knows it."""
    return str(array.dtype.name)


def dtype(name: str) -> Any:
    """The dtype of a name that `dtype_name` gives."""
    return tf.as_dtype(name)


def shape(array: Any) -> tuple[int, ...]:
    """The lengths of the axes, None where a graph does not know them yet."""
    if array.shape.rank is None:
        raise ShapeError(
            "arguments must have a known number of axes; got a tensor of unknown shape. "
            "Set it with set_shape, or in the input signature."
        )
    return tuple(array.shape)


def same_lengths(labels: Any, scores: Any, axis: int | None) -> Any:
    """Whether lengths that a graph does not know yet turn out to fit; no axis: of every element.

    Else they would be broadcast. Where they do not fit that is an error too, but XLA drops it.
    """
    actual, expected = tf.shape(labels), tf.unstack(tf.shape(scores))
    if axis is None:
        pass
    elif labels.shape.rank < scores.shape.rank:
        del expected[axis]
    elif labels.shape[axis] == 1:  # class ids
        expected[axis] = 1
    told = tf.debugging.assert_equal(
        actual,
        expected,
        "labels must have the lengths of the scores, without the class axis if they are class ids. "
        "Ids with a 1 at the class axis need that 1 in the input signature.",
    )
    with tf.control_dependencies([told]):
        return tf.reduce_all(actual == expected)


def check_values(check: Callable[..., None], *arguments: Any) -> bool:
    """Runs a check of values where they are at hand; True: it was run.

    With CROSSENT_CHECK=1 the check runs on accelerators too, and becomes a part of a graph, which
    then raises at run time; not of one that XLA compiles.
    """
    tensors = [a for a in arguments if tf.is_tensor(a)]
    everywhere = os.environ.get("CROSSENT_CHECK") == "1"

    def checked(*values: Any) -> None:
        arrays = iter(values)
        check(*(next(arrays) if tf.is_tensor(a) else a for a in arguments))

    if all(is_eager(t) for t in tensors):
        if not everywhere and not on_cpu(*tensors):
            return False
        checked(*(t.numpy() for t in tensors))
        return True
    if everywhere and not _tensorflow_native.in_xla():
        # Automatic control dependencies run it, though nothing reads its result.
        tf.numpy_function(checked, tensors, Tout=[], stateful=True)
    return False


def class_ids(labels: Any, ignored: int | None) -> tuple[Any, Any]:
    """Class ids as int64, 0 where ignored, -1 where they are no ids; and the kept rows."""
    ids = tf.cast(labels, tf.int64)
    if labels.dtype.is_floating:
        ids = tf.where(tf.cast(ids, labels.dtype) == labels, ids, tf.constant(-1, tf.int64))
    if ignored is None:
        return ids, None
    # As floats: unsigned labels hold no -100, and the largest of them would wrap around to it.
    kept = tf.cast(labels, tf.float64) != _checks.as_float(ignored)
    return tf.where(kept, ids, tf.zeros_like(ids)), kept


def kernel_for(array: Any) -> str:
    """Which kernel scores this tensor."""
    if not on_cpu(array):
        return "formula: no TensorFlow kernel for this device"
    if not _tensorflow_native.xla_calls and not is_eager(array) and _tensorflow_native.in_xla():
        return "formula: this TensorFlow's XLA takes no foreign calls"
    return _tensorflow_native.kernel
