"""TensorFlow's rules for arguments: conversion, dtypes and shapes, on any library's arrays.

Lists of Python ints become int32 (int64 where they do not fit), lists with floats float32; arrays
keep their dtype. Dtypes are not promoted: two float dtypes in one operation are an error. A list,
or number, of floats beside a float array takes the array's dtype, where TensorFlow would refuse a
float64 array: a list says nothing about its precision.

Dtypes are names here, shapes are tuples, with None for what TensorFlow's graphs do not know yet.
"""

from typing import Any

import numpy as np

from crossent import _checks, numpy
from crossent._arrays import library_of
from crossent._checks import Shape
from crossent.errors import OptionError, ShapeError
from crossent.tf_compat.errors import InvalidArgumentError


def tensors(**arguments: Any) -> tuple[Any, ...]:
    """The library of the arguments and each of them as an array, in order."""
    library = library_of(**arguments)
    return library, *converted(library, **arguments)


def converted(library: Any, **arguments: Any) -> tuple[Any, ...]:
    """Arguments that are computed with together, as a library's arrays."""
    arrays = {name: tensor(name, value, library) for name, value in arguments.items()}
    for name, value in arguments.items():
        if _is_array(value) and is_float(arrays[name]):
            like = arrays[name]
            return tuple(beside(n, v, like, library) for n, v in arguments.items())
    return tuple(arrays.values())


def beside(name: str, value: Any, like: Any, library: Any) -> Any:
    """An array, a list of floats in the dtype of `like` (see the top of this module)."""
    array = tensor(name, value, library)
    if _is_array(value) or not is_float(array) or not is_float(like):
        return array
    return tensor(name, value, library, dtype_name(like))


def tensor(name: str, value: Any, library: Any = None, dtype: str | None = None) -> Any:
    """One argument as an array, in `dtype` if given: lists then go there without a detour."""
    given = value
    if value is not None and not _is_array(value):
        value = numpy.as_array(name, value)
        value = value if dtype else _by_tensorflows_rules(given, value)
    array = _real(name, value, library)
    return array if dtype is None else cast(array, dtype)


def numbers(name: str, value: Any, library: Any = None) -> Any:
    """One argument that is only computed with, such as weights: no digit of a list is lost."""
    return _real(name, value, library)


def cast(array: Any, dtype: str) -> Any:
    """The array in another dtype; derivatives pass between float dtypes and stop at integers."""
    library, own = library_of(array=array), dtype_name(array)
    if own == dtype:
        return array
    xp = library.namespace(array)
    if not (own in _checks.FLOATS and dtype in _checks.FLOATS):
        array = xp.stop_gradient(array)
    with library.quiet():  # a number beyond the narrower range becomes inf
        return xp.returned(array, library.dtype(dtype))


def dtype_name(array: Any) -> str:
    """The dtype of an array of any library."""
    return str(library_of(array=array).dtype_name(array))


def shape_of(array: Any) -> Shape:
    """The shape of an array of any library."""
    shape: Shape = library_of(array=array).shape(array)
    return shape


def is_float(array: Any) -> bool:
    return dtype_name(array) in _checks.FLOATS


def check_float(name: str, array: Any) -> None:
    """TensorFlow's kernels take floating point only."""
    if not is_float(array):
        raise InvalidArgumentError(
            f"{name} must be floating point; got {dtype_name(array)} of shape {shape_of(array)}. "
            f"Convert it with tf.cast({name}, tf.float32)."
        )


def check_same_dtype(**arrays: Any) -> None:
    """All arguments have the dtype of the last."""
    *others, (last, like) = arrays.items()
    for name, array in others:
        if dtype_name(array) != dtype_name(like):
            raise InvalidArgumentError(
                f"{name} must have the dtype of {last}, {dtype_name(like)}; got "
                f"{dtype_name(array)}. Convert it with tf.cast({name}, {last}.dtype)."
            )


def check_same_shape(**arrays: Any) -> None:
    """Both arguments have the same shape: nothing is broadcast."""
    (name, shape), (other, like) = ((key, shape_of(array)) for key, array in arrays.items())
    if not _checks.fits(shape, like):
        raise ShapeError(
            f"{name} must have the shape of {other}, {like}; got {shape}. "
            "Every element needs its own label: nothing is broadcast."
        )


def broadcast_shape(one: Shape, other: Shape) -> Shape | None:
    """The common shape by the ordinary rules, None where there is none."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    front = len(longer) - len(shorter)
    axes = list(longer[:front])
    for a, b in zip(longer[front:], shorter, strict=True):
        if not (a == b or a in (1, None) or b in (1, None)):
            return None
        # What is not known yet is the other, unless that is 1.
        axes.append(b if a == 1 or (a is None and b != 1) else a)
    return tuple(axes)


def _is_array(value: Any) -> bool:
    """Whether a value has a dtype of its own; lists and Python numbers have none."""
    return library_of(value=value) is not numpy or numpy.is_own(value)


def _real(name: str, value: Any, library: Any) -> Any:
    """An array of real numbers."""
    if value is None:
        raise OptionError(f"{name} must be an array or a list of numbers; got None. Pass {name}=.")
    library = library_of(**{name: value}) if library is None else library
    array = library.as_array(name, value)
    kind = library.dtype_name(array)
    if kind not in (*_checks.FLOATS, *_checks.INTEGERS, "bool"):
        raise InvalidArgumentError(
            f"{name} must hold real numbers; got {kind} of shape {library.shape(array)}. "
            "Convert it to a float dtype first."
        )
    return array


def _by_tensorflows_rules(value: Any, array: Any) -> Any:
    """What NumPy made of a list or number, in the dtype that TensorFlow would give it."""
    if array.dtype == np.float64 and not _holds_numpy(value, np.float64):
        return array.astype(np.float32)
    if array.dtype == np.int64 and not _holds_numpy(value, np.int64):
        narrow = np.iinfo(np.int32)
        fits = array.size == 0 or (array.min() >= narrow.min and array.max() <= narrow.max)
        return array.astype(np.int32) if fits else array
    return array


def _holds_numpy(value: Any, dtype: Any) -> bool:
    """Whether a nested list holds NumPy's own arrays or numbers of this dtype, which keep it."""
    if isinstance(value, list | tuple):
        return any(_holds_numpy(item, dtype) for item in value)
    return bool(getattr(value, "dtype", None) == dtype)
