"""TensorFlow's dtype names, as NumPy dtypes; bfloat16 comes from ml_dtypes."""

from typing import Any

import numpy as np

from crossent.errors import MissingLibraryError

float16 = half = np.dtype("float16")
float32 = np.dtype("float32")
float64 = double = np.dtype("float64")
int8, int16, int32, int64 = (np.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
bool = np.dtype("bool")


def bfloat16() -> Any:
    """The dtype, from the package that NumPy arrays of it need anyway."""
    try:
        import ml_dtypes
    except ImportError:
        raise MissingLibraryError(
            "bfloat16 must come from the package ml_dtypes; got no such package. Run: pip install "
            "ml_dtypes"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def dtype_of(name: Any) -> Any:
    """A dtype from TensorFlow's or NumPy's object, or from its name."""
    return bfloat16() if name == "bfloat16" else np.dtype(name)
