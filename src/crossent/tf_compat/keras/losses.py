"""`keras.losses`, Keras 3: cross-entropies, divergence, squared error; classes and functions.

The functions return one loss per row (their arguments: top of `_functions`), the classes reduce
them (top of `_classes`). Keras 2's, with 'auto', are `crossent.tf_compat.tf_keras.losses`.
"""

from typing import Any

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat.keras import _lookup
from crossent.tf_compat.keras._classes import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    KLDivergence,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from crossent.tf_compat.keras._functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    kl_divergence,
    mean_squared_error,
    sparse_categorical_crossentropy,
)
from crossent.tf_compat.keras._loss import Loss
from crossent.tf_compat.keras._reduction import Reduction

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
        identifier: a function's name or alias ("mse", "kld", "bce"), a class or its name (an
            instance with the defaults), what `serialize` returns, or a loss.

    Raises:
        OptionError: no loss of that name is here.

    Source:
        keras.losses.get, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.losses.get("mse") is tf.keras.losses.mean_squared_error
        True
    """
    return identifier() if isinstance(identifier, type) else _lookup.find(identifier, _LOSSES)


def serialize(loss: Any) -> dict[str, Any]:
    """A description of a loss object or loss function in Keras' form, for `get` and `deserialize`.

    Not for losses with functions of your own inside: it names the class, it does not carry code.

    Source:
        keras.losses.serialize, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.losses.serialize(tf.keras.losses.KLDivergence(reduction="sum"))["config"]
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
        keras.losses.deserialize, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> described = tf.keras.losses.serialize(tf.keras.losses.KLDivergence(reduction="sum"))
        >>> tf.keras.losses.deserialize(described).reduction
        'sum'
    """
    return _lookup.find(name, {**_LOSSES, **(custom_objects or {})})


__getattr__ = absent("tf.keras.losses", __name__)
__dir__ = public_names(__name__)
