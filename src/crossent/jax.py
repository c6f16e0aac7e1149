"""The door to JAX: conversion, and which losses run natively.

On CPUs `softmax_cross_entropy` and `sigmoid_cross_entropy` of logits are native, compiled or not,
with their gradient in the logits (see `_jax_native`). Everything else, and everything on GPUs and
TPUs, is the formula on JAX's own functions, which JAX compiles and differentiates.

NumPy arrays stay NumPy arrays until arithmetic begins, so that their values are checked before JAX
narrows int64 to int32.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossent import _checks, _jax_native, _numpy_native
from crossent._jax_formula import class_ids as class_ids
from crossent._jax_formula import has_float64
from crossent._jax_formula import namespace as namespace
from crossent._jax_formula import result_dtype as result_dtype
from crossent._jax_native import Operands, Options

takes_numpy = True


def quiet() -> AbstractContextManager[Any]:
    """JAX never warns of infinities and NaN; broadcasts it may forbid, and ours are meant."""
    allowed: AbstractContextManager[Any] = jax.numpy_rank_promotion("allow")
    return allowed


def is_own(value: Any) -> bool:
    """Whether the value is an array of JAX, or stands for one in a transformation."""
    return isinstance(value, jax.Array)


def as_array(name: str, value: Any) -> Any:
    """The argument as an array of its own dtype; lists of numbers by NumPy's rules."""
    if is_own(value):
        return value
    # A Variable, whose gradient NumPy would lose.
    if type(value).__module__.partition(".")[0] == "keras":
        return as_array(name, value.value)
    array = _checks.plain_array(name, value)
    _checks.numeric(name, dtype_name(array), array.shape)
    return array


def as_scores(name: str, value: Any) -> Any:
    """Scores as a floating-point array: lists and Python numbers become float64."""
    array = as_array(name, value)
    if isinstance(array, np.ndarray) and not hasattr(value, "dtype"):
        array = array.astype(np.float64)
    return array


def as_floats(array: Any) -> Any:
    """Integers and bools as wide floats; floats as they are."""
    if dtype_name(array) in _checks.FLOATS:
        return array
    return jnp.asarray(array, jnp.float64 if has_float64() else jnp.float32)


def dtype_name(array: Any) -> str:
    """The dtype as `_checks` knows it."""
    return str(array.dtype)


def dtype(name: str) -> Any:
    """The dtype of a name that `dtype_name` gives; 32 bits of 64 where JAX has no more."""
    return jax.dtypes.canonicalize_dtype(name)


def shape(array: Any) -> tuple[int, ...]:
    """The lengths of the axes."""
    return tuple(array.shape)


def check_values(check: Callable[..., None], *arguments: Any) -> bool:
    """Runs a check of values where they are at hand; True: it was run.

    They are not while JAX traces, and fetching them from an accelerator would stop it. With
    CROSSENT_CHECK=1 the check runs there too; of a compiled program, when it is executed.
    """
    arrays = [a for a in arguments if is_own(a)]
    traced = any(isinstance(a, jax.core.Tracer) for a in arrays)
    if (traced or not all(map(_at_hand, arrays))) and os.environ.get("CROSSENT_CHECK") != "1":
        return False
    if traced:

        def run(*values: Any) -> None:
            given = iter(values)
            check(*(np.asarray(next(given)) if is_own(a) else a for a in arguments))

        jax.debug.callback(run, *arrays)
        return False
    check(*(np.asarray(a) if is_own(a) else a for a in arguments))
    return True


def _at_hand(array: Any) -> bool:
    return array.is_fully_addressable and all(d.platform == "cpu" for d in array.devices())


def kernel_for(array: Any) -> str:
    """Which kernel scores this array."""
    traced = isinstance(array, jax.core.Tracer) or not is_own(array)
    platform = jax.default_backend() if traced else next(iter(array.devices())).platform
    if platform != "cpu":
        return f"formula: no kernel for JAX on {platform}"
    known = dtype_name(array) in (*_checks.FLOATS, *_checks.INTEGERS, "bool")
    return _numpy_native.kernel if known else f"formula: no kernel for {dtype_name(array)}"


# ---- the fused losses: what the caller of a loss passed, looked at as far as shapes and dtypes go


def fused_softmax_loss(
    labels: Any,
    logits: Any,
    axis: int,
    class_weight: Any,
    sample_weight: Any,
    smoothing: float,
    ignore_index: int | None,
    temperature: float,
    softcap: float | None,
    z_loss: float,
    reduction: str,
    normalizer: Any,
    _request: Any,
) -> Any:
    """The softmax cross-entropy; None: the general way takes it, and says what is wrong."""
    if not _takes(logits) or type(axis) is not int or not -logits.ndim <= axis < logits.ndim:
        return None
    axis %= logits.ndim
    full, classes = logits.shape, logits.shape[axis]
    rows = full[:axis] + full[axis + 1 :]
    labels = _number(labels)
    if labels is None or classes == 0 or not _fits(ignore_index):
        return None
    integers = dtype_name(labels) in _checks.INTEGERS
    check: Callable[[], bool]
    # Of one class, what is no float may be an id.
    if labels.shape == full and (classes > 1 or dtype_name(labels) in _checks.FLOATS):
        if ignore_index is not None:
            return None
        check = partial(check_values, _checks.distribution_values, labels, axis)
    elif integers and labels.shape in (rows, (*full[:axis], 1, *full[axis + 1 :])):
        check = partial(check_values, _checks.id_values, labels, classes, ignore_index)
        labels = labels.reshape(rows)
    else:
        return None
    weights = None if class_weight is None else _number(class_weight)
    if class_weight is not None and (weights is None or weights.shape != (classes,)):
        return None
    of_rows, fits = _row_weight(sample_weight, rows)
    divisor, known = _normalizer(normalizer)
    if not fits or not known:
        return None
    check()
    if weights is not None:
        check_values(_checks.class_weight_values, weights)
    options = Options(
        True,
        axis,
        reduction,
        divisor is not None,
        smoothing,
        ignore_index,
        temperature,
        softcap,
        z_loss,
    )
    return _fused(options, Operands(logits, labels, _widened(weights), of_rows, divisor))


def fused_sigmoid_loss(
    labels: Any,
    logits: Any,
    pos_weight: Any,
    sample_weight: Any,
    smoothing: float,
    ignore_index: int | None,
    reduction: str,
    normalizer: Any,
    _request: Any,
) -> Any:
    """The sigmoid cross-entropy; None: the general way takes it, and says what is wrong."""
    if not _takes(logits):
        return None
    rows, labels = logits.shape, _number(labels)
    if labels is None or not _fits(ignore_index):
        return None
    if labels.shape != rows and (*labels.shape, 1) != rows and labels.shape != (*rows, 1):
        return None
    weights = None if pos_weight is None else _number(pos_weight)
    if pos_weight is not None and (weights is None or weights.shape not in ((), (1,), rows[-1:])):
        return None
    of_rows, fits = _row_weight(sample_weight, rows)
    divisor, known = _normalizer(normalizer)
    if not fits or not known:
        return None
    check_values(_checks.sigmoid_label_values, labels, ignore_index)
    if weights is not None:
        check_values(_checks.pos_weight_values, weights)
        weights = weights.reshape(()) if weights.shape == (1,) else weights
    options = Options(False, 0, reduction, divisor is not None, smoothing, ignore_index)
    given = Operands(logits, labels.reshape(rows), _widened(weights), of_rows, divisor)
    return _fused(options, given)


@partial(jax.jit, static_argnums=0, inline=True)
def _fused(options: Options, given: Operands) -> Any:
    if options.reduction in ("mean", "mean_all") and not options.own_normalizer:
        divisor = jax.lax.stop_gradient(_jax_native.denominator(options, given))
        given = given._replace(normalizer=divisor)
    return _jax_native.loss(options, _jax_native.aligned(given))


def _takes(logits: Any) -> bool:
    return (
        is_own(logits)
        and 0 < logits.ndim <= _MOST_AXES
        and dtype_name(logits) in _checks.FLOATS
        and _jax_native.runs_here()
    )


# Of NumPy's 32 and the native core's, less those that jax.vmap may put in front.
_MOST_AXES = 24


def _number(value: Any) -> Any:
    """An array of numbers; None for what the general way has to convert, or to refuse."""
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        value = np.asarray(value)
    if type(value) is not np.ndarray and not is_own(value):
        return None
    known = dtype_name(value) in (*_checks.FLOATS, *_checks.INTEGERS, "bool")
    return value if known else None


def _widened(weight: Any) -> Any:
    """NumPy's integers as floats, before JAX narrows them to 32 bits."""
    if type(weight) is not np.ndarray or weight.dtype.kind not in "iu":
        return weight
    return namespace(weight).widen(weight)


def _fits(ignore_index: int | None) -> bool:
    """Whether JAX keeps the ignored label apart: it narrows NumPy's integers to 32 bits."""
    return ignore_index is None or (type(ignore_index) is int and abs(ignore_index) < 2**31)


def _row_weight(sample_weight: Any, rows: tuple[int, ...]) -> tuple[Any, bool]:
    """One weight for each index of the first axes, and whether it fits."""
    if sample_weight is None:
        return None, True
    weight = _number(sample_weight)
    if weight is None or weight.ndim > len(rows):
        return None, False
    if any(w not in (1, n) for w, n in zip(weight.shape, rows, strict=False)):
        return None, False
    check_values(_checks.sample_weight_values, weight)
    used = max((k + 1 for k, n in enumerate(weight.shape) if n != 1), default=0)
    weight = _widened(weight.reshape(weight.shape[:used]))
    return jnp.broadcast_to(weight, rows[:used]), True


def _normalizer(normalizer: Any) -> tuple[Any, bool]:
    """The divisor, which gets no gradient, and whether it is a number."""
    if normalizer is None:
        return None, True
    value = _number(normalizer)
    if value is None or value.shape != ():
        return None, False
    check_values(_checks.normalizer_value, value)
    return jax.lax.stop_gradient(namespace(value).widen(value)), True
