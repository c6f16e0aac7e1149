"""`tf.losses`: TensorFlow 1's losses, and beside them Keras' names, which TensorFlow 2 has here.

`mean_squared_error` and `Reduction` are TensorFlow 1's; Keras' are in
`crossent.tf_compat.keras.losses`.
"""

from typing import Any

from crossent.tf_compat import keras
from crossent.tf_compat._absent import absent
from crossent.tf_compat.compat.v1.losses import (
    Reduction,
    add_loss,
    compute_weighted_loss,
    get_losses,
    get_regularization_loss,
    get_regularization_losses,
    get_total_loss,
    mean_squared_error,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    sparse_softmax_cross_entropy,
)

__all__ = [
    "Reduction",
    "add_loss",
    "compute_weighted_loss",
    "get_losses",
    "get_regularization_loss",
    "get_regularization_losses",
    "get_total_loss",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]

_absent = absent("tf.losses", __name__)


def __getattr__(name: str) -> Any:
    if name in keras.losses.__all__:
        return getattr(keras.losses, name)
    return _absent(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *keras.losses.__all__})
