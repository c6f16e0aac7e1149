"""TensorFlow's loss functions under TensorFlow's names, on any library's arrays and on lists.

`import crossent.tf_compat as tf` stands where `import tensorflow as tf` stood in code that computes
losses, and `import crossent.tf_compat.compat.v1 as tf` where TensorFlow 1 did: signatures,
defaults, reductions, dtypes and errors are TensorFlow 2.21's (`contrib`: 1.15's). What differs, and
why, is in docs/tensorflow.md.

    >>> import numpy as np, crossent as xe, crossent.tf_compat as tf
    >>> logits = np.array([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]], np.float32)
    >>> losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1], logits=logits)
    >>> float(tf.reduce_mean(losses).round(6))
    0.13238...
    >>> value, gradient = xe.numpy.value_and_grad(
    ...     tf.losses.sparse_softmax_cross_entropy, labels=[0, 1], logits=logits)
    >>> gradient.shape
    (2, 3)

There are no sessions, no variables and no layers. For new code the functions of `crossent` itself
say more and check more.
"""

from typing import Any

from crossent.tf_compat import (
    compat,
    contrib,
    distribute,
    errors,
    keras,
    losses,
    math,
    nn,
    tf_keras,
)
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._array_ops import (
    add_n,
    cast,
    constant,
    convert_to_tensor,
    one_hot,
    reduce_mean,
    reduce_sum,
    stop_gradient,
)
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
from crossent.tf_compat._graphs import Graph, name_scope
from crossent.tf_compat.math import sigmoid

__all__ = [
    "Graph",
    "add_n",
    "bool",
    "cast",
    "compat",
    "constant",
    "contrib",
    "convert_to_tensor",
    "distribute",
    "double",
    "errors",
    "float16",
    "float32",
    "float64",
    "half",
    "int8",
    "int16",
    "int32",
    "int64",
    "keras",
    "losses",
    "math",
    "name_scope",
    "nn",
    "one_hot",
    "reduce_mean",
    "reduce_sum",
    "sigmoid",
    "stop_gradient",
    "tf_keras",
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
