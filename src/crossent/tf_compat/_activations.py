"""Sigmoid, softmax and their logarithms by TensorFlow's rules.

They take floating point only, and the result has the dtype of the argument.
"""

from collections.abc import Callable
from typing import Any

from crossent._arrays import library_of
from crossent.tf_compat._tensors import cast, check_float, dtype_name, shape_of, tensor
from crossent.tf_compat.errors import InvalidArgumentError


def elementwise(function: Callable[[Any], Any], x: Any) -> Any:
    """A function of `crossent.information` with the result in x's dtype."""
    x = tensor("x", x)
    check_float("x", x)
    return cast(function(x), dtype_name(x))


def along_axis(function: Callable[..., Any], logits: Any, axis: Any) -> Any:
    """A softmax of `crossent.information` over one axis (None: the last), in the logits' dtype."""
    logits = tensor("logits", logits)
    check_float("logits", logits)
    axis, shape = -1 if axis is None else axis, shape_of(logits)
    rank = len(shape)
    if rank == 0:
        raise InvalidArgumentError(
            "logits must have at least one axis; got a scalar. tf.nn.sigmoid takes single numbers."
        )
    if not -rank <= axis < rank:
        raise InvalidArgumentError(
            f"axis must lie in [{-rank}, {rank}) for logits of shape {shape}; got {axis}. "
            "-1 is the last axis."
        )
    if shape[axis] == 0:
        return library_of(logits=logits).namespace(logits).returned(logits, logits.dtype)
    return cast(function(logits, axis=axis), dtype_name(logits))
