"""`tf_keras.activations`: sigmoid and softmax, as in Keras 3 but for vectors."""

from typing import Any

from crossent.errors import ShapeError
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._tensors import shape_of, tensor
from crossent.tf_compat.keras import activations
from crossent.tf_compat.keras.activations import sigmoid

__all__ = ["sigmoid", "softmax"]


def softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Any:
    """exp(x_j) / sum_k exp(x_k) along an axis; Keras 2 takes no vector.

    Do not feed the result to a loss with `from_logits=True`.

    Shape:
        (*any,) -> (*any,), two axes at least.

    Raises:
        ShapeError: x is a vector.
        InvalidArgumentError: x is a scalar or not floating point, or the axis does not exist.

    Source:
        tf_keras.activations.softmax, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.activations.softmax([[0.0, 0.0]]).tolist()
        [[0.5, 0.5]]
    """
    x = tensor("x", x)
    if len(shape_of(x)) == 1:
        raise ShapeError(
            f"x must have a batch axis; got shape {shape_of(x)}. tf.nn.softmax takes vectors."
        )
    return activations.softmax(x, axis)


__getattr__ = absent("tf_keras.activations", __name__)
__dir__ = public_names(__name__)
