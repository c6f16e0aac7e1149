"""TensorFlow's dtype names, as NumPy dtypes. Inside, a dtype is its name: libraries share those."""

from typing import Any

import numpy as np

from crossent import numpy

float16 = half = np.dtype("float16")
float32 = np.dtype("float32")
float64 = double = np.dtype("float64")
int8, int16, int32, int64 = (np.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
bool = np.dtype("bool")


def bfloat16() -> Any:
    """The dtype, from the package that NumPy arrays of it need anyway."""
    return numpy.dtype("bfloat16")


def name_of(dtype: Any) -> str:
    """The name of a dtype: NumPy's or any other library's object, or a name already."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        return dtype
    if type(dtype).__module__.partition(".")[0] in ("torch", "tensorflow"):
        return str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    return str(np.dtype(dtype).name)
