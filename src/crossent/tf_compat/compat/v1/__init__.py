"""TensorFlow 1 under TensorFlow 1's names: `import crossent.tf_compat.compat.v1 as tf`.

Losses are collected inside `with tf.Graph().as_default():`. There is no session: everything is
computed at once, and what `session.run(loss)` returned is the loss itself. `tf.keras` is Keras 2,
as it was then.

    >>> import crossent.tf_compat.compat.v1 as tf
    >>> float(tf.losses.sigmoid_cross_entropy([[1, 0]], [[2.0, -3.0]]).round(6))
    0.08775...
"""

from typing import Any

from crossent.tf_compat import contrib, distribute, errors, math
from crossent.tf_compat import tf_keras as keras
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._array_ops import add_n, cast, constant, one_hot, stop_gradient
from crossent.tf_compat._dtypes import bfloat16 as _bfloat16
from crossent.tf_compat._dtypes import (
    bool,
    double,
    float16,
    float32,
    float64,
    half,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from crossent.tf_compat._graphs import (
    Graph,
    GraphKeys,
    add_to_collection,
    get_collection,
    name_scope,
)
from crossent.tf_compat.compat.v1 import losses, nn
from crossent.tf_compat.compat.v1._array_ops import convert_to_tensor, reduce_mean, reduce_sum
from crossent.tf_compat.math import log_sigmoid, sigmoid

__all__ = [
    "Graph",
    "GraphKeys",
    "add_n",
    "add_to_collection",
    "bool",
    "cast",
    "constant",
    "contrib",
    "convert_to_tensor",
    "distribute",
    "double",
    "errors",
    "float16",
    "float32",
    "float64",
    "get_collection",
    "half",
    "int8",
    "int16",
    "int32",
    "int64",
    "keras",
    "log_sigmoid",
    "losses",
    "math",
    "name_scope",
    "nn",
    "one_hot",
    "reduce_mean",
    "reduce_sum",
    "sigmoid",
    "stop_gradient",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

_absent = absent("tf", __name__)


def __getattr__(name: str) -> Any:
    # Needs a package that only some have; the other dtypes are NumPy's own.
    return _bfloat16() if name == "bfloat16" else _absent(name)


__dir__ = public_names(__name__)
