"""`keras.activations`: sigmoid, softmax and log-softmax.

Keras' tensors remember the logits behind a sigmoid or softmax, and its losses use them in place of
the probabilities. Arrays
cannot: here a loss scores the probabilities that it is given. Pass the logits with
    `from_logits=True`.
"""

import math
from collections.abc import Callable
from typing import Any

from crossent._arrays import library_of
from crossent.tf_compat import nn
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._tensors import check_float, shape_of, tensor
from crossent.tf_compat.keras._shapes import axes_of

__all__ = ["log_softmax", "sigmoid", "softmax"]


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)).

    Do not feed the result to a loss with `from_logits=True`.

    Shape:
        (*any,) -> (*any,).

    Raises:
        InvalidArgumentError: x is not floating point.

    Source:
        keras.activations.sigmoid, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> float(tf.keras.activations.sigmoid(0.0))
        0.5
    """
    return nn.sigmoid(x)


def softmax(x: Any, axis: int | tuple[int, ...] | None = -1) -> Any:
    """exp(x_j) / sum_k exp(x_k) along an axis, or along several together.

    Do not feed the result to a loss with `from_logits=True`.

    Args:
        x: logits.
        axis: an axis; or a tuple of them (None: all), whose entries sum to 1 together.

    Shape:
        (*any,) -> (*any,).

    Raises:
        InvalidArgumentError: x is a scalar or not floating point, or the axis does not exist.
        TypeError: axis is a list.

    Source:
        keras.activations.softmax, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.activations.softmax([[0.0, 0.0], [0.0, 0.0]], axis=(0, 1)).tolist()
        [[0.25, 0.25], [0.25, 0.25]]
    """
    return _along(nn.softmax, x, axis)


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = -1) -> Any:
    """x_j - log sum_k exp(x_k) along an axis, or along several together.

    Never the logarithm of a rounded 0.

    The losses do not take it: with `from_logits=True` it is as good as the logits themselves.

    Args:
        x: logits.
        axis: an axis; or a tuple of them (None: all).

    Shape:
        (*any,) -> (*any,).

    Raises:
        InvalidArgumentError: x is a scalar or not floating point, or the axis does not exist.
        TypeError: axis is a list.

    Source:
        keras.activations.log_softmax, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.activations.log_softmax([1000.0, 0.0]).tolist()
        [0.0, -1000.0]
    """
    return _along(nn.log_softmax, x, axis)


def _along(function: Callable[..., Any], x: Any, axis: Any) -> Any:
    x = tensor("x", x)
    check_float("x", x)
    rank = len(shape_of(x))
    axes = axes_of((axis,) if isinstance(axis, list) else axis, rank, of="x")
    if len(axes) == 1:
        return function(x, axis=axes[0])
    xp = library_of(x=x).namespace(x)
    last = tuple(range(-len(axes), 0))
    moved = xp.moveaxis(x, axes, last)
    shape = shape_of(moved)
    kept = shape[: rank - len(axes)]
    joint = function(xp.reshape(moved, (*kept, math.prod(shape[len(kept) :]))))
    return xp.moveaxis(xp.reshape(joint, shape), last, axes)


__getattr__ = absent("tf.keras.activations", __name__)
__dir__ = public_names(__name__)
