"""`tf.math`: sigmoid and its logarithm."""

from typing import Any

from crossent import information
from crossent.tf_compat import _activations
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._array_ops import reduce_mean, reduce_sum
from crossent.tf_compat.nn import sigmoid

__all__ = ["log_sigmoid", "reduce_mean", "reduce_sum", "sigmoid"]


def log_sigmoid(x: Any, name: str | None = None) -> Any:
    """-log(1 + exp(-x)), never the logarithm of a rounded 0.

    Shape:
        (*any,) -> (*any,).

    Raises:
        InvalidArgumentError: x is not floating point.

    Source:
        tf.math.log_sigmoid, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> float(tf.math.log_sigmoid(-1000.0))
        -1000.0
    """
    return _activations.elementwise(information.log_sigmoid, x)


__getattr__ = absent("tf.math", __name__)
__dir__ = public_names(__name__)
