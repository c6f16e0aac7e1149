"""The door to NumPy: conversion, the formula in row blocks, and gradients through HIPS autograd.

NumPy computes every loss in float64 and rounds once, so float32 results are within 1 ulp. NumPy has
no derivatives of its own; `value_and_grad` traces the losses with the `autograd` package, and the
row statistics, which carry nearly all the work, have their gradient written by hand
(`_row_stats.row_gradient`). Losses that are called on autograd's own boxes, as in
`autograd.grad(...)`, take the same way.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from threading import RLock
from types import SimpleNamespace
from typing import Any

import numpy as np

from crossent import _checks, _row_stats
from crossent._row_stats import RowOptions, RowStatistics
from crossent.errors import ArgumentError, DTypeError, ShapeError

# Elements of one block: its float64 temporaries stay in a second-level cache.
_BLOCK_ELEMENTS = 1 << 16

# autograd numbers nested traces in one counter for all threads: two at once could share a number.
# So gradients of several threads wait for each other, and a loss must not wait for such a thread.
_TRACING = RLock()


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
    that library's gradient. Gradients asked for in several threads wait for each other, so `loss`
    must not wait for such a thread.

    Args:
        loss: any public function of crossent or crossent.tf_compat that takes its arrays by
            keyword.
        wrt: the argument to differentiate, such as "logits", "probs", "labels", "class_weight",
            "sample_weight", "pos_weight"; or a sequence of them.
        out: array that receives the gradient, of the argument's shape and dtype; it may be the
            argument itself.
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
    arrays = tuple(_differentiable(name, options) for name in names)
    if out is not None:
        _check_out(out, names, arrays)

    # One argument is traced by itself: out of a tuple, its gradient would be copied once more.
    single = len(names) == 1

    def traced(values: Any) -> Any:
        given = {name: values if single else values[i] for i, name in enumerate(names)}
        result = loss(**{**options, **given})
        # autograd warns of a result without a gradient; TensorFlow 1's stopped labels mean it.
        depends = _is_traced(result) and result._trace == values._trace
        return result if depends else _traced().without_gradient(result, values)

    with quiet(), _TRACING:
        pull, value = _autograd().make_vjp(traced, arrays[0] if single else arrays)
        pulled = pull(_seed(upstream, np.shape(value)))
        pulled = (pulled,) if single else pulled
        gradients = tuple(_narrowed(g, a.dtype) for g, a in zip(pulled, arrays, strict=True))
    if out is not None:
        out[...] = gradients[0]
        gradients = (out,)
    return value, gradients[0] if isinstance(wrt, str) else gradients


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
    seed = as_array("upstream", upstream)
    _checks.numeric("upstream", dtype_name(seed), seed.shape)
    if seed.shape != shape:
        raise ShapeError(
            f"upstream must have the value's shape {shape}; got {seed.shape}. "
            "Leave it out to use ones."
        )
    return namespace(seed).widen(seed)


def quiet() -> AbstractContextManager[Any]:
    """Context in which NumPy does not warn: infinities and NaN are documented results here."""
    return np.errstate(all="ignore")


def is_own(value: Any) -> bool:
    """Whether the value belongs to NumPy: arrays, scalars, and autograd's boxes around them."""
    return isinstance(value, np.ndarray | np.generic) or _is_traced(value)


def as_array(name: str, value: Any) -> Any:
    """The argument as an array of its own dtype; lists of numbers by NumPy's rules."""
    if _is_traced(value):
        return value
    masked = np.ma.getmaskarray(value).sum() if isinstance(value, np.ma.MaskedArray) else 0
    if masked:
        raise DTypeError(
            f"{name} must be a plain array; got one with {masked} masked entries. "
            "Leave those rows out, or fill them: ignore_index skips labels, sample_weight 0 rows."
        )
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(
            f"{name} must be rectangular; got rows of different lengths. Pad them, or pass one "
            "row at a time."
        ) from None
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


def result_dtype(array: Any) -> Any:
    """float64 stays; everything narrower is returned as float32."""
    return np.float64 if array.dtype == np.float64 else np.float32


def checked(array: Any) -> Any:
    """The values as a plain array for the checks of values, which run eagerly on NumPy."""
    return _stripped(array)


def check_probabilities(kind: str, scores: Any, axis: int, kept: Any) -> None:
    """Checks the values of probabilities or their logs; ignored rows may hold anything."""
    values = checked(scores)
    if kept is not None:
        values, axis = np.moveaxis(values, axis, -1), -1
        values = np.where(kept[..., None], values, np.asarray(np.nan, values.dtype))
    check = _checks.probability_values if kind == "probs" else _checks.log_probability_values
    check(kind, values, axis)


def kernel_for(array: Any) -> str:
    """Which kernel scores this array."""
    if _is_traced(array):
        return "formula: autograd traces NumPy arrays"
    return "formula: NumPy in float64, the native kernels do not compute losses yet"


def namespace(*arrays: Any) -> Any:
    """The functions that losses are written in: NumPy's, or autograd's for traced arrays."""
    return _traced() if any(_is_traced(array) for array in arrays) else _plain()


def row_statistics(
    logits: np.ndarray, labels: np.ndarray, class_weight: Any, options: RowOptions
) -> np.ndarray:
    """The seven statistics of each row, stacked on a new first axis, in float64."""
    stacked = np.empty((len(RowStatistics._fields), *logits.shape[:-1]))
    options = _compensating(logits, options)
    for rows in _row_blocks(logits.shape):
        statistics = _row_stats.row_statistics(
            _plain(), _wide(logits[rows]), _wide_labels(labels[rows]), class_weight, options
        )
        for k, statistic in enumerate(statistics):
            stacked[(k, *rows)] = statistic
    return stacked


def row_gradient(
    upstream: RowStatistics,
    logits: np.ndarray,
    labels: np.ndarray,
    class_weight: Any,
    options: RowOptions,
) -> np.ndarray:
    """Gradient with respect to the logits, in their dtype (see `_row_stats.row_gradient`)."""
    gradient = np.empty(logits.shape, np.float64 if logits.dtype == np.float64 else np.float32)
    options = _compensating(logits, options)
    for rows in _row_blocks(logits.shape):
        of_rows = RowStatistics(*(None if u is None else u[rows] for u in upstream))
        gradient[rows] = _row_stats.row_gradient(
            _plain(),
            of_rows,
            _wide(logits[rows]),
            _wide_labels(labels[rows]),
            class_weight,
            options,
        )
    return gradient


def neg_log_probs(logits: np.ndarray, options: RowOptions) -> np.ndarray:
    """-log softmax of each row and, as one more entry behind it, its log-sum-exp; in float64."""
    result = np.empty((*logits.shape[:-1], logits.shape[-1] + 1))
    options = _compensating(logits, options)
    for rows in _row_blocks(logits.shape):
        block = result[rows]
        nlp, lse = _row_stats.neg_log_probs(_plain(), _wide(logits[rows]), options)
        block[..., :-1], block[..., -1] = nlp, lse
    return result


def softmax(logits: np.ndarray, options: RowOptions) -> np.ndarray:
    """Softmax of each row, in float64."""
    result = np.empty(logits.shape)
    options = _compensating(logits, options)
    for rows in _row_blocks(logits.shape):
        result[rows] = _row_stats.softmax(_plain(), _wide(logits[rows]), options)
    return result


def sigmoid_loss(x: np.ndarray, z: np.ndarray, r: Any) -> np.ndarray:
    """The sigmoid loss of every element, in float64; r broadcasts to the shape of x."""
    result = np.empty(x.shape)
    weights = None if r is None else np.broadcast_to(r, x.shape)
    for part in _row_blocks((*x.shape, 1)):
        of_part = None if weights is None else weights[part]
        result[part] = _row_stats.sigmoid_loss(_plain(), _wide(x[part]), _wide(z[part]), of_part)
    return result


def sigmoid_gradient(g: np.ndarray, x: np.ndarray, z: np.ndarray, r: Any) -> np.ndarray:
    """g times the derivative of `sigmoid_loss` in x, where g is not 0; in float32 at least."""
    gradient = np.empty(x.shape, np.float64 if x.dtype == np.float64 else np.float32)
    weights = None if r is None else np.broadcast_to(r, x.shape)
    g = np.broadcast_to(g, x.shape)
    for part in _row_blocks((*x.shape, 1)):
        of_part = None if weights is None else weights[part]
        wide = _wide(x[part]), _wide(z[part])
        gradient[part] = _plain_times(
            g[part], _row_stats.sigmoid_gradient(_plain(), *wide, of_part)[0]
        )
    return gradient


def class_ids(labels: Any, rows: tuple[int, ...], ignored: int | None) -> tuple[np.ndarray, Any]:
    """Class ids as indices of shape `rows`, 0 where ignored, and the kept rows (None: all)."""
    if _is_traced(labels):
        raise DTypeError(
            f"labels must be a distribution to be differentiated; got class ids of shape "
            f"{labels.shape}. Class ids have no gradient."
        )
    plain = labels.reshape(rows)
    if ignored is None:
        return plain.astype(np.int64, copy=False), None
    kept = plain != ignored
    return np.where(kept, plain, 0).astype(np.int64), kept


def _row_blocks(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Indices that cut the rows into blocks, along the longest axis that is not the classes."""
    if len(shape) == 1:
        yield (...,)
        return
    if 0 in shape[:-1]:
        return
    axis = int(np.argmax(shape[:-1]))
    per_step = int(np.prod(shape, dtype=np.int64)) // shape[axis]
    step = max(1, _BLOCK_ELEMENTS // max(1, per_step))
    for start in range(0, shape[axis], step):
        yield (*(slice(None),) * axis, slice(start, start + step))


def _wide(block: np.ndarray) -> np.ndarray:
    # In C order the class axis is contiguous, and NumPy then sums it pairwise.
    return np.array(block, np.float64, order="C")


def _wide_labels(labels: np.ndarray) -> np.ndarray:
    return labels if labels.dtype.kind in "iu" else _wide(labels)


def _compensating(logits: np.ndarray, options: RowOptions) -> RowOptions:
    return options._replace(compensate=logits.dtype == np.float64)


def _narrowed(gradient: Any, dtype: Any) -> Any:
    """A gradient in its argument's dtype; half precision is the float32 value rounded once."""
    if _is_traced(gradient):  # a gradient inside a gradient stays as wide as the arithmetic
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
    if _is_traced(array):
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
    if not out.flags.writeable:
        raise ArgumentError(
            f"out must be writeable; got a read-only array. np.empty_like({names[0]}) makes one."
        )


def _plain_pick(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, ids[..., None], axis=-1)[..., 0]


def _plain_widen(x: Any) -> np.ndarray:
    # In C order sums run over the same elements in the same order, whatever the strides.
    return np.asarray(x, np.float64, order="C")


def _plain_times(weight: Any, values: Any) -> Any:
    """weight * values, where a weight of 0 gives 0 whatever the value."""
    return np.where(weight == 0, 0.0, weight * values)


@cache
def _plain() -> SimpleNamespace:
    functions = {name: getattr(np, name) for name in _SHARED}
    return SimpleNamespace(
        **functions,
        inf=np.inf,
        nan=np.nan,
        pick=_plain_pick,
        take=lambda table, ids: table[ids],
        times=_plain_times,
        power=np.power,
        widen=_plain_widen,
        rounded=lambda x, dtype: x if dtype == np.float64 else x.astype(dtype).astype(np.float64),
        returned=lambda x, dtype: np.asarray(x).astype(dtype)[()],
        stop_gradient=lambda x: x,
        row_statistics=lambda *arguments: RowStatistics(*row_statistics(*arguments)),
        sigmoid_loss=sigmoid_loss,
        neg_log_probs=lambda logits, options: _split(neg_log_probs(logits, options)),
        softmax=softmax,
    )


# What the formula and the losses use of a namespace, besides what `_plain` and `_traced` add.
_SHARED = (
    *("abs", "arange", "argmax", "broadcast_to", "exp", "expm1", "isfinite", "isnan"),
    *("log", "log1p", "max", "moveaxis", "ones_like", "reshape", "sum", "tanh"),
    *("where", "zeros_like"),
)


@cache
def _autograd() -> SimpleNamespace:
    """autograd, imported at the first gradient: `import crossent` stays as light as NumPy."""
    import autograd.core
    import autograd.extend
    import autograd.numpy
    import autograd.numpy.numpy_vjps

    return SimpleNamespace(
        numpy=autograd.numpy,
        make_vjp=autograd.core.make_vjp,
        unbroadcast=autograd.numpy.numpy_vjps.unbroadcast_f,
        primitive=autograd.extend.primitive,
        defvjp=autograd.extend.defvjp,
        vspace=autograd.extend.vspace,
    )


def _is_traced(value: Any) -> bool:
    tracer = sys.modules.get("autograd.tracer")
    return tracer is not None and isinstance(value, tracer.Box)


def _stripped(value: Any) -> Any:
    while _is_traced(value):
        value = value._value
    return value


@cache
def _traced() -> SimpleNamespace:
    """autograd's functions, and the primitives whose gradients are written by hand."""
    ag = _autograd()
    primitive, defvjp, anp = ag.primitive, ag.defvjp, ag.numpy

    widen = primitive(_plain_widen)
    defvjp(widen, lambda ans, x: lambda g: g)
    rounded = primitive(_plain().rounded)
    defvjp(rounded, lambda ans, x, dtype: lambda g: g)
    returned = primitive(_plain().returned)
    defvjp(returned, lambda ans, x, dtype: lambda g: g)

    statistics = primitive(row_statistics)
    defvjp(statistics, _statistics_by_logits, _statistics_by_labels, _statistics_by_class_weight)
    elements = primitive(sigmoid_loss)
    defvjp(elements, _sigmoid_loss_by_logits, _sigmoid_loss_by_labels, _sigmoid_loss_by_weight)
    surprisal = primitive(neg_log_probs)
    defvjp(surprisal, _neg_log_probs_by_logits)

    without_gradient = primitive(lambda value, given: value)
    defvjp(without_gradient, None, lambda ans, value, given: lambda g: ag.vspace(given).zeros())

    # Summed over the rows as a one-hot distribution's gradient is, for the same bits.
    def taken(table: Any, ids: Any, g: Any) -> Any:
        shares = anp.where(np.arange(table.shape[0]) == ids[..., None], g[..., None], 0.0)
        return anp.sum(anp.reshape(shares, (-1, table.shape[0])), axis=0)

    take = primitive(lambda table, ids: table[ids])
    defvjp(take, lambda ans, table, ids: lambda g: taken(table, ids, g))

    def pick(values: Any, ids: Any) -> Any:
        return anp.sum(
            anp.where(np.arange(values.shape[-1]) == ids[..., None], values, 0.0), axis=-1
        )

    # Each side's derivative is the other side; a 0 on either side of that product is a 0.
    def product(a: Any, b: Any) -> Any:
        return anp.where((a == 0) | (b == 0), 0.0, a * b)

    times = primitive(_plain_times)
    defvjp(
        times,
        lambda ans, weight, values: ag.unbroadcast(weight, lambda g: product(g, values)),
        lambda ans, weight, values: ag.unbroadcast(values, lambda g: product(weight, g)),
    )
    # Where nothing flows back, nothing flows on, also from log 0: 0 / 0 would be NaN.
    log, log1p, power = primitive(np.log), primitive(np.log1p), primitive(np.power)
    defvjp(power, lambda ans, x, q: lambda g: times(g, q * power(x, q - 1)), None)
    defvjp(log, lambda ans, x: lambda g: times(g, 1 / x))
    defvjp(log1p, lambda ans, x: lambda g: times(g, 1 / (1 + x)))

    def spread(x: Any, shape: tuple[int, ...]) -> Any:
        return anp.broadcast_to(anp.reshape(x, (1,) * (len(shape) - x.ndim) + x.shape), shape)

    def where(condition: Any, x: Any, y: Any) -> Any:
        # autograd does not sum the gradient of an operand that `where` itself broadcasts.
        shape = np.broadcast_shapes(np.shape(condition), np.shape(x), np.shape(y))
        x, y = (spread(v, shape) if _is_traced(v) else v for v in (x, y))
        return anp.where(condition, x, y)

    return SimpleNamespace(
        **{name: getattr(anp, name) for name in _SHARED if name not in ("where", "log", "log1p")},
        inf=np.inf,
        nan=np.nan,
        log=log,
        log1p=log1p,
        power=power,
        without_gradient=without_gradient,
        times=times,
        where=where,
        pick=pick,
        take=take,
        widen=widen,
        rounded=rounded,
        returned=returned,
        stop_gradient=_stripped,
        row_statistics=lambda *arguments: RowStatistics(*_unstacked(statistics(*arguments))),
        sigmoid_loss=elements,
        neg_log_probs=lambda logits, options: _split(surprisal(logits, options)),
        softmax=lambda logits, options: _row_stats.softmax(
            _traced(), widen(logits), _compensating(_stripped(logits), options)
        ),
    )


def _sigmoid_loss_by_logits(ans: Any, x: Any, z: Any, r: Any) -> Any:
    def pull(g: Any) -> Any:
        if any(map(_is_traced, (g, x, z, r))):
            xp = _traced()
            by_x, _, _ = _row_stats.sigmoid_gradient(xp, xp.widen(x), xp.widen(z), r)
            return xp.times(g, by_x)
        return sigmoid_gradient(g, x, z, r)

    return pull


def _sigmoid_loss_by_labels(ans: Any, x: Any, z: Any, r: Any) -> Any:
    def pull(g: Any) -> Any:
        xp = namespace(g, x, z, r)
        _, by_z, _ = _row_stats.sigmoid_gradient(xp, xp.widen(x), xp.widen(z), r)
        return xp.times(g, by_z)

    return pull


def _sigmoid_loss_by_weight(ans: Any, x: Any, z: Any, r: Any) -> Any:
    def pull(g: Any) -> Any:
        xp = namespace(g, x, z, r)
        _, _, by_r = _row_stats.sigmoid_gradient(xp, xp.widen(x), xp.widen(z), r)
        return xp.times(g, by_r)

    return _autograd().unbroadcast(r, pull)


def _split(nlp_and_lse: Any) -> tuple[Any, Any]:
    return nlp_and_lse[..., :-1], nlp_and_lse[..., -1]


def _unstacked(stacked: Any) -> Iterator[Any]:
    return (stacked[i] for i in range(len(RowStatistics._fields)))


def _upstream(stacked: Any) -> RowStatistics:
    """Coefficients of each statistic; one that is 0 everywhere is left out with its term."""
    if _is_traced(stacked):
        return RowStatistics(*_unstacked(stacked))
    return RowStatistics(*(u if np.any(u) else None for u in stacked))


def _statistics_by_logits(
    ans: Any, logits: Any, labels: Any, class_weight: Any, options: RowOptions
) -> Any:
    def pull(g: Any) -> Any:
        if any(map(_is_traced, (g, logits, labels, class_weight))):
            # A derivative of a derivative: the formula, which autograd sees through.
            xp = _traced()
            of_labels = labels if labels.ndim < logits.ndim else xp.widen(labels)
            return _row_stats.row_gradient(
                xp, _upstream(g), xp.widen(logits), of_labels, class_weight, options
            )
        return row_gradient(_upstream(g), logits, labels, class_weight, options)

    return pull


def _statistics_by_labels(
    ans: Any, logits: Any, labels: Any, class_weight: Any, options: RowOptions
) -> Any:
    def pull(g: Any) -> Any:
        xp = namespace(g, logits, labels, class_weight)
        by_target = _row_stats.target_gradient(xp, _upstream(g), xp.widen(logits), options)
        return by_target if class_weight is None else xp.times(class_weight, by_target)

    return pull


def _statistics_by_class_weight(
    ans: Any, logits: Any, labels: Any, class_weight: Any, options: RowOptions
) -> Any:
    def pull(g: Any) -> Any:
        xp = namespace(g, logits, labels, class_weight)
        upstream, wide = _upstream(g), xp.widen(logits)
        if labels.ndim == logits.ndim:
            shares = xp.widen(labels)
        else:
            shares = xp.where(xp.arange(wide.shape[-1]) == labels[..., None], 1.0, 0.0)
        rows = xp.times(shares, _row_stats.target_gradient(xp, upstream, wide, options))
        if options.with_mean:
            rows = rows + _row_stats.mean_gradient(xp, upstream, wide, options)
        return xp.sum(xp.reshape(rows, (-1, rows.shape[-1])), axis=0)

    return pull


def _neg_log_probs_by_logits(ans: Any, logits: Any, options: RowOptions) -> Any:
    """d nlp_k / d x_j = p_j - [j = k]: the gradient of nll for the target g, accurate entry too.

    Together with that of the log-sum-exp in one call, so that their sum is rounded once.
    """

    def pull(g: Any) -> Any:
        target, by_lse = _split(g)
        # 0 for rows without a coefficient: ignored rows may hold NaN.
        used = np.any(_stripped(target) != 0, axis=-1).astype(np.float64)
        upstream = RowStatistics(None, by_lse, None, used, None, None, None)
        if _is_traced(g) or _is_traced(logits):
            xp = _traced()
            return _row_stats.row_gradient(xp, upstream, xp.widen(logits), target, None, options)
        return row_gradient(upstream, logits, target, None, options)

    return pull
