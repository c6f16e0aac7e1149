"""`tf_keras.losses`, Keras 2: cross-entropies, divergence, squared error; classes and functions.

The functions return one loss per row, the classes reduce them (arguments: tops of `_functions` and
`_classes`). Keras 3's are `crossent.tf_compat.keras.losses`.
"""

from typing import Any

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat.keras import _lookup
from crossent.tf_compat.keras._reduction import Reduction
from crossent.tf_compat.tf_keras._classes import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    KLDivergence,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from crossent.tf_compat.tf_keras._functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    kl_divergence,
    mean_squared_error,
    sparse_categorical_crossentropy,
)
from crossent.tf_compat.tf_keras._loss import Loss

__all__ = [
    "KLD",
    "MSE",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "KLDivergence",
    "Loss",
    "MeanSquaredError",
    "Reduction",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "deserialize",
    "get",
    "kl_divergence",
    "kld",
    "kullback_leibler_divergence",
    "mean_squared_error",
    "mse",
    "serialize",
    "sparse_categorical_crossentropy",
]

KLD = kld = kullback_leibler_divergence = kl_divergence
MSE = mse = mean_squared_error

_LOSSES = _lookup.by_name(
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    KLDivergence,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    kl_divergence,
    mean_squared_error,
    sparse_categorical_crossentropy,
)


def get(identifier: Any) -> Any:
    """The loss that a name, a description or a loss itself stands for; None for None.

    Not for the losses of Keras that are not here: their names are errors.

    Args:
        identifier: a function's name or alias ("mse", "kld", "bce"), a class's name (an instance
            with the defaults), what `serialize` returns, or a loss or class, which comes back as it
            is.

    Raises:
        OptionError: no loss of that name is here.

    Source:
        tf_keras.losses.get, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.losses.get("mse") is tf.tf_keras.losses.mean_squared_error
        True
    """
    return _lookup.find(identifier, _LOSSES)


def serialize(loss: Any) -> dict[str, Any]:
    """A description of a loss object or loss function in Keras' form, for `get` and `deserialize`.

    Not for losses with functions of your own inside: it names the class, it does not carry code.

    Source:
        tf_keras.losses.serialize, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.losses.serialize(tf.tf_keras.losses.KLDivergence(reduction="sum"))["config"]
        {'name': 'kl_divergence', 'reduction': 'sum'}
    """
    return _lookup.description(loss)


def deserialize(name: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The loss of a description that `serialize` or Keras wrote.

    Args:
        name: the description.
        custom_objects: losses of your own, by class or function name.

    Raises:
        OptionError: no loss of that name is here.

    Source:
        tf_keras.losses.deserialize, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> loss = tf.tf_keras.losses.KLDivergence(reduction="sum")
        >>> described = tf.tf_keras.losses.serialize(loss)
        >>> tf.tf_keras.losses.deserialize(described).reduction
        'sum'
    """
    return _lookup.find(name, {**_LOSSES, **(custom_objects or {})})


__getattr__ = absent("tf_keras.losses", __name__)
__dir__ = public_names(__name__)
