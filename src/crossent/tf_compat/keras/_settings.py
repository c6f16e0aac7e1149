"""What `keras.backend` lets a program set: the clipping constant and the default float dtype."""

from typing import Any

import numpy as np

from crossent import _checks
from crossent.errors import OptionError
from crossent.tf_compat._dtypes import name_of


class Settings:
    """One generation's settings; Keras 2 and Keras 3 each have their own."""

    def __init__(self) -> None:
        self._epsilon = 1e-7
        self._floatx = "float32"

    def epsilon(self) -> float:
        """Where the losses clip probabilities: to [epsilon, 1 - epsilon]."""
        return self._epsilon

    def set_epsilon(self, value: Any) -> None:
        """Change the clipping constant of this generation's losses, for the whole process.

        Raises:
            OptionError: not a number in [0, 0.5).
        """
        if not isinstance(value, int | float | np.floating) or not 0 <= value < 0.5:
            raise OptionError(f"value must be a number in [0, 0.5); got {value!r}. Keras has 1e-7.")
        self._epsilon = float(value)

    def floatx(self) -> str:
        """The dtype that Keras 3's loss classes convert to, and that integers become."""
        return self._floatx

    def set_floatx(self, value: str) -> None:
        """Change the default float dtype of this generation, for the whole process.

        Raises:
            OptionError: not the name of a float dtype.
        """
        self._floatx = float_dtype("value", value)


def float_dtype(name: str, value: Any) -> str:
    """The name of a dtype, of its name or of a Keras dtype policy.

    "mixed_float16" and policies stand for the dtype that they compute in.
    """
    wanted = getattr(value, "compute_dtype", value)
    if isinstance(wanted, str):
        wanted = wanted.removeprefix("mixed_")
    try:
        dtype = None if wanted is None else name_of(wanted)
    except TypeError:
        dtype = None
    if dtype is None or dtype not in _checks.FLOATS:
        raise OptionError(
            f"{name} must be a float dtype, one of {', '.join(_checks.FLOATS)}; got {value!r}. "
            '"float32" is what Keras starts with.'
        )
    return dtype
