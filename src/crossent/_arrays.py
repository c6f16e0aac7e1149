"""Which library owns the arguments: an `if` ladder, with ordinary imports.

Nothing is imported for a library whose arrays nobody passes. No importlib, no table of modules:
torch.compile follows this file.
"""

import sys
from typing import Any

from crossent import numpy
from crossent.errors import ArgumentError, DTypeError

# Libraries whose arrays would lose their gradients or their device if NumPy converted them quietly.
_FOREIGN = ("mlx", "cupy")


def library_of(**arguments: Any) -> Any:
    """The door to the library that owns the arguments; lists and Python numbers go with any.

    NumPy arrays go with JAX and TensorFlow too, whose own functions take them everywhere.
    """
    found: Any = None
    name_of_found = ""
    for name, value in arguments.items():
        library = _owner(name, value)
        if library is None or library is found:
            continue
        if found is None or (found is numpy and library.takes_numpy):
            found, name_of_found = library, name
        elif not (library is numpy and found.takes_numpy):
            one, other = (door.__name__.rpartition(".")[2] for door in (found, library))
            raise ArgumentError(
                f"{name} must belong to the same library as {name_of_found}; got {other} beside "
                f"{one}. Convert one of them."
            )
    if found is None:
        return numpy
    if found is numpy or found.takes_numpy:
        return found
    return found.on_accelerator(arguments.values()) or found  # PyTorch moves nothing by itself


def _owner(name: str, value: Any) -> Any:
    """The door to a value's library; None for lists, numbers and None."""
    if value is None or isinstance(value, (bool, int, float, list, tuple)):
        return None
    root = type(value).__module__.partition(".")[0]
    if root == "numpy":
        return numpy if getattr(value, "ndim", 0) else None
    if root in _FOREIGN:
        raise DTypeError(
            f"{name} must be an array of NumPy, PyTorch, JAX or TensorFlow; got {root} "
            f"{type(value).__name__}. Convert it with np.asarray({name})."
        )
    if root == "torch" or _is_instance(value, "torch", "Tensor"):
        from crossent import torch

        return torch
    if root in ("jax", "jaxlib") or _is_instance(value, "jax", "Array"):
        from crossent import jax

        return jax
    if root == "tensorflow" or _is_instance(value, "tensorflow", "Tensor"):
        from crossent import tensorflow

        return tensorflow
    if root == "keras":
        return _owner(name, _value_of_variable(name, value))
    return numpy


def _value_of_variable(name: str, value: Any) -> Any:
    """The tensor of the back end that a keras.Variable holds."""
    if not hasattr(value, "value"):
        raise ArgumentError(
            f"{name} must hold numbers; got a symbolic {type(value).__name__} of Keras. Call the "
            "loss in a layer's call() or in compute_loss(), or pass crossent.keras.Loss to "
            "compile()."
        )
    return value.value


def _is_instance(value: Any, library: str, name: str) -> bool:
    """Whether the value is of a class that somebody derived from a library's own."""
    # Another thread may be half-way through importing it.
    kind = getattr(sys.modules.get(library), name, None)
    return kind is not None and isinstance(value, kind)


def fusing_library(scores: Any) -> Any:
    """The door that may have a fused loss for these scores, or None: asked before any check."""
    module = type(scores).__module__
    if module == "numpy":
        return numpy
    if module == "torch" or module.startswith("torch."):
        import crossent.torch as door  # not `from`: this is quicker, and asked at each call

        return door
    root = module.partition(".")[0]
    if root in ("jax", "jaxlib"):
        from crossent import jax

        return jax
    if root == "tensorflow":
        from crossent import tensorflow

        return tensorflow
    return None


def kernel_for(array: Any) -> str:
    """Which kernel scores this array: `native <instruction set>`, or `formula: <reason>`.

    Example:
        >>> import numpy as np, crossent as xe
        >>> xe.kernel_for(np.zeros((2, 3))).partition(" ")[0] in ("native", "formula:")
        True
    """
    library = library_of(array=array)
    return str(library.kernel_for(library.as_array("array", array)))
