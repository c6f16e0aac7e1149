"""Which library owns the arguments: an `if` ladder over the libraries already imported."""

from typing import Any

from crossent import numpy
from crossent.errors import DTypeError

# Libraries whose arrays would lose their gradients or their device if NumPy converted them quietly.
_FOREIGN = ("torch", "jax", "jaxlib", "tensorflow", "keras", "mlx", "cupy")


def library_of(**arguments: Any) -> Any:
    """The module of the library that owns the arguments; lists and Python numbers go with any."""
    for name, value in arguments.items():
        owner = type(value).__module__.partition(".")[0]
        if owner in _FOREIGN:
            raise DTypeError(
                f"{name} must be a NumPy array, a list or a number; got {owner} "
                f"{type(value).__name__}. Detach it and convert it with np.asarray({name}): "
                f"{owner} is not supported yet."
            )
    return numpy


def fusing_library(scores: Any) -> Any:
    """The module that may have a fused loss for these scores, or None: asked before any check."""
    return numpy if type(scores).__module__ == "numpy" else None


def kernel_for(array: Any) -> str:
    """Which kernel scores this array: `native <instruction set>`, or `formula: <reason>`.

    Example:
        >>> import numpy as np, crossent as xe
        >>> xe.kernel_for(np.zeros((2, 3))).partition(" ")[0] in ("native", "formula:")
        True
    """
    library = library_of(array=array)
    return str(library.kernel_for(library.as_array("array", array)))
