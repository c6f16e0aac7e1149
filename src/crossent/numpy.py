"""The door to NumPy: conversion, and gradients.

Arithmetic is in `_numpy_plain` (the native kernels, or the formula) and `_numpy_traced` (the same
under HIPS autograd). NumPy has no derivatives of its own: `value_and_grad` asks a loss for its
fused form, one native call for value and gradient in the logits, and where there is none traces the
loss with the `autograd` package. Losses that are called on autograd's own boxes, as in
`autograd.grad(...)`, are traced too.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from threading import RLock
from typing import Any

import numpy as np

from crossent import _checks, _numpy_native
from crossent._numpy_native import fused_sigmoid_loss as fused_sigmoid_loss
from crossent._numpy_native import fused_softmax_loss as fused_softmax_loss
from crossent._numpy_plain import result_dtype as result_dtype
from crossent._numpy_traced import autograd, is_traced, namespace, stripped, without_gradient
from crossent._threads import register_with_threadpoolctl as register_with_threadpoolctl
from crossent.errors import ArgumentError, DTypeError, MissingLibraryError, ShapeError

# autograd numbers nested traces in one counter for all threads: two at once could share a number.
# So gradients of several threads wait for each other, and a loss must not wait for such a thread.
_TRACING = RLock()

_NO_FORM: tuple[Any, Any] = (None, None)


def value_and_grad(
    loss: Callable[..., Any],
    /,
    *,
    wrt: str | Sequence[str] = "logits",
    out: Any = None,
    upstream: Any = None,
    **options: Any,
) -> tuple[Any, Any]:
    """Value of a loss on NumPy arrays, and its gradient in one or several of its arguments.

    Not for training loops of a library that differentiates by itself: there, call the loss and use
    that library's gradient. Where one native call gives both (`softmax_cross_entropy` and
    `sigmoid_cross_entropy` of plain arrays, in the logits), threads run side by side; other
    gradients asked for in several threads wait for each other, so `loss` must not wait for such a
    thread.

    Args:
        loss: any public function of crossent or crossent.tf_compat that takes its arrays by
            keyword.
        wrt: the argument to differentiate, such as "logits", "probs", "labels", "class_weight",
            "sample_weight", "pos_weight"; or a sequence of them.
        out: array that receives the gradient, of the argument's shape and dtype; it may be the
            argument itself, and then no further memory of that size is needed in one native call.
        upstream: gradient of some scalar with respect to the value, of the value's shape; ones if
            None.
        **options: the arguments of `loss`, all by keyword.

    Returns:
        `(value, gradient)`; for several names the gradient is a tuple in their order. A gradient
        has the shape and dtype of its argument (lists count as float64).

    Shape:
        value: as `loss` returns it. gradient: the shape of the argument.

    Raises:
        ArgumentError: `wrt` names an argument that was not given, or `out` does not fit.
        ShapeError: `upstream` has not the value's shape.
        DTypeError: the argument is not floating point (class ids have no gradient).

    Source:
        Maclaurin, Duvenaud and Adams 2015, Autograd: effortless gradients in NumPy.

    Example:
        >>> import numpy as np, crossent as xe
        >>> value, gradient = xe.numpy.value_and_grad(
        ...     xe.softmax_cross_entropy, labels=[0], logits=np.array([[2.0, 0.0]], np.float32))
        >>> float(value).__round__(6), gradient.round(6).tolist()
        (0.126928, [[-0.11920300126075745, 0.11920300126075745]])
    """
    names = _names(wrt)
    if names == ("logits",):
        both = _fused(loss, out, upstream, options)
        if both is not None:
            return both if isinstance(wrt, str) else (both[0], (both[1],))
    arrays = tuple(_differentiable(name, options) for name in names)
    if out is not None:
        _check_out(out, names, arrays)

    # One argument is traced by itself: out of a tuple, its gradient would be copied once more.
    single = len(names) == 1

    def traced(values: Any) -> Any:
        given = {name: values if single else values[i] for i, name in enumerate(names)}
        result = loss(**{**options, **given})
        # autograd warns of a result without a gradient; TensorFlow 1's stopped labels mean it.
        depends = is_traced(result) and result._trace == values._trace
        return result if depends else without_gradient(result, values)

    with quiet(), _TRACING:
        pull, value = autograd().make_vjp(traced, arrays[0] if single else arrays)
        pulled = pull(_seed(upstream, np.shape(value)))
        pulled = (pulled,) if single else pulled
        gradients = tuple(_narrowed(g, a.dtype) for g, a in zip(pulled, arrays, strict=True))
    if out is not None:
        out[...] = gradients[0]
        gradients = (out,)
    return value, gradients[0] if isinstance(wrt, str) else gradients


def _fused(
    loss: Callable[..., Any], out: Any, upstream: Any, options: dict[str, Any]
) -> tuple[Any, Any] | None:
    """Value and gradient in the logits from one call of the loss's fused form, if that takes it."""
    owner, form = getattr(loss, "fused_form", _NO_FORM)
    logits = options.get("logits")
    # functools.wraps copies the form onto functions that compute something else.
    if owner is not loss or not isinstance(logits, np.ndarray):
        return None
    if out is not None and not _fits(out, logits):
        return None
    seed = None if upstream is None else _as_seed(upstream)
    if is_traced(seed):
        return None
    both: tuple[Any, Any] | None = form((out, seed), options)
    if both is None or out is None or both[1] is out:
        return both
    out[...] = both[1]
    return both[0], out


def _names(wrt: Any) -> tuple[str, ...]:
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, Sequence) else ()
    # Twice the same name would give one of them all of the gradient, and the other none.
    if not names or not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
        raise ArgumentError(
            f"wrt must be the name of an argument, or several different names; got {wrt!r}. "
            'wrt="logits" is the usual one.'
        )
    return names


def _seed(upstream: Any, shape: tuple[int, ...]) -> Any:
    """The gradient that flows into the value."""
    if upstream is None:
        return np.ones(shape)
    seed = _as_seed(upstream)
    if seed.shape != shape:
        raise ShapeError(
            f"upstream must have the value's shape {shape}; got {seed.shape}. "
            "Leave it out to use ones."
        )
    return seed


def _as_seed(upstream: Any) -> Any:
    seed = as_array("upstream", upstream)
    _checks.numeric("upstream", dtype_name(seed), seed.shape)
    return namespace(seed).widen(seed)


def quiet() -> AbstractContextManager[Any]:
    """Context in which NumPy does not warn: infinities and NaN are documented results here."""
    return np.errstate(all="ignore")


def is_own(value: Any) -> bool:
    """Whether the value belongs to NumPy: arrays, scalars, and autograd's boxes around them."""
    return isinstance(value, np.ndarray | np.generic) or is_traced(value)


def as_array(name: str, value: Any) -> Any:
    """The argument as an array of its own dtype; lists of numbers by NumPy's rules."""
    if is_traced(value):
        return value
    array = _checks.plain_array(name, value)
    # ">f8" is not equal to np.float64, and would count as something narrower.
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_scores(name: str, value: Any) -> Any:
    """Scores as a floating-point array: lists and Python numbers become float64."""
    array = as_array(name, value)
    if not is_own(value) and not hasattr(value, "__array__") and array.dtype.kind in "iub":
        array = array.astype(np.float64)
    return array


def as_floats(array: Any) -> Any:
    """Integers and bools as float64, so that no digit is lost; floats as they are."""
    return array.astype(np.float64) if dtype_name(array) not in _checks.FLOATS else array


def dtype_name(array: Any) -> str:
    """The dtype as `_checks` knows it."""
    if array.dtype == object:
        kinds = {type(value).__name__ for value in array.ravel()[:1000].tolist()}
        return f"object ({', '.join(sorted(kinds))})"
    # NumPy adds the bits of its longest string: "str96".
    return {"U": "str", "S": "bytes"}.get(array.dtype.kind, str(array.dtype.name))


def dtype(name: str) -> Any:
    """The dtype of a name that `dtype_name` gives."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise MissingLibraryError(
            "dtype must be one of NumPy's or of an installed package; got bfloat16 without "
            "ml_dtypes. Run pip install ml_dtypes."
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def shape(array: Any) -> tuple[int, ...]:
    """The lengths of the axes."""
    return tuple(array.shape)


def check_values(check: Callable[..., None], *arguments: Any) -> bool:
    """Runs a check of values; True: it could be run."""
    check(*(stripped(argument) for argument in arguments))
    return True


def kernel_for(array: Any) -> str:
    """Which kernel scores this array."""
    if is_traced(array):
        return "formula: autograd traces NumPy arrays"
    name = dtype_name(array)
    known = name in _checks.FLOATS or name in _checks.INTEGERS or name == "bool"
    return _numpy_native.kernel if known else f"formula: no kernel for {name}"


def class_ids(labels: Any, ignored: int | None) -> tuple[np.ndarray, Any]:
    """Class ids as indices, 0 where ignored, and the kept rows (None: all)."""
    if is_traced(labels):
        raise DTypeError(
            f"labels must be a distribution to be differentiated; got class ids of shape "
            f"{labels.shape}. Class ids have no gradient."
        )
    if ignored is None:
        return labels.astype(np.int64, copy=False), None
    kept = labels != ignored
    return np.where(kept, labels, 0).astype(np.int64), kept


def _narrowed(gradient: Any, dtype: Any) -> Any:
    """A gradient in its argument's dtype; half precision is the float32 value rounded once."""
    if is_traced(gradient):  # a gradient inside a gradient stays as wide as the arithmetic
        return gradient
    wide = np.asarray(gradient)
    if dtype != np.float64:
        wide = wide.astype(np.float32, copy=False)
    return wide.astype(dtype, copy=False)


def _differentiable(name: str, options: dict[str, Any]) -> Any:
    if options.get(name) is None:
        given = sorted(key for key, value in options.items() if value is not None)
        others = [key for key in given if key in ("probs", "log_probs", "predictions", "x", "p")]
        raise ArgumentError(
            f"wrt must name an argument that is given; got {name!r} beside "
            f"{', '.join(given) or 'none'}. Pass "
            + (f'wrt="{others[0]}".' if others else f"{name}=.")
        )
    value = options[name]
    array = as_array(name, value)
    if is_traced(array):
        return array
    if not is_own(value) and array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if dtype_name(array) not in _checks.FLOATS:
        raise DTypeError(
            f"{name} must be floating point to be differentiated; got {dtype_name(array)} of shape "
            f"{array.shape}. "
            + (
                "Class ids have no gradient; a distribution has one as floats."
                if name == "labels"
                else "Convert it to float32 or float64 first, unless it and labels are swapped."
            )
        )
    return array


def _check_out(out: Any, names: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
    if len(names) != 1:
        raise ArgumentError(
            f"out must receive one gradient; got wrt={list(names)}. Name one argument, or leave "
            "out= away."
        )
    expected = arrays[0]
    if _fits(out, expected):
        return
    if not isinstance(out, np.ndarray) or (out.shape, out.dtype) != (
        expected.shape,
        expected.dtype,
    ):
        is_array = isinstance(out, np.ndarray)
        got = f"{out.dtype.name} of shape {out.shape}" if is_array else f"a {type(out).__name__}"
        raise ArgumentError(
            f"out must be an array of the dtype and shape of {names[0]}, {expected.dtype.name} of "
            f"shape {expected.shape}; got {got}. np.empty_like({names[0]}) makes one."
        )
    raise ArgumentError(
        f"out must be writeable; got a read-only array. np.empty_like({names[0]}) makes one."
    )


def _fits(out: Any, argument: Any) -> bool:
    return (
        isinstance(out, np.ndarray)
        and out.shape == argument.shape
        and out.dtype == argument.dtype
        and out.flags.writeable
    )
