"""NumPy's arithmetic on autograd's boxes: primitives whose gradients are written by hand.

Forward, a primitive is the plain function, so that a value has the same bits whether or not
somebody differentiates it. Its gradient runs on the same kernels; only a derivative of a derivative
traces the formula itself.
"""

import sys
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from crossent import _numpy_plain as plain
from crossent import _row_stats
from crossent._row_stats import RowOptions, RowStatistics


def is_traced(value: Any) -> bool:
    tracer = sys.modules.get("autograd.tracer")
    return tracer is not None and isinstance(value, tracer.Box)


def stripped(value: Any) -> Any:
    while is_traced(value):
        value = value._value
    return value


def namespace(*arrays: Any) -> Any:
    """The functions that losses are written in: NumPy's, or autograd's for traced arrays."""
    return traced() if any(is_traced(array) for array in arrays) else plain.plain()


def without_gradient(value: Any, given: Any) -> Any:
    """The value, traced as one that does not move with what is given."""
    return traced().without_gradient(value, given)


@cache
def autograd() -> SimpleNamespace:
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


@cache
def traced() -> SimpleNamespace:
    """autograd's functions, and the primitives whose gradients are written by hand."""
    ag = autograd()
    primitive, defvjp, anp = ag.primitive, ag.defvjp, ag.numpy

    widen = primitive(plain.widen)
    defvjp(widen, lambda ans, x: lambda g: g)
    returned = primitive(plain.returned)
    defvjp(returned, lambda ans, x, dtype: lambda g: g)

    total = primitive(plain.total)
    defvjp(total, _total_by_values, _total_by_divisor, None)

    statistics = primitive(plain.row_statistics)
    defvjp(statistics, _statistics_by_logits, _statistics_by_labels, _statistics_by_class_weight)
    elements = primitive(plain.sigmoid_loss)
    defvjp(
        elements,
        _sigmoid_loss_by_logits,
        _sigmoid_loss_by_labels,
        _sigmoid_loss_by_pos_weight,
        _sigmoid_loss_by_weight,
    )
    surprisal = primitive(plain.neg_log_probs)
    defvjp(surprisal, _neg_log_probs_by_logits)
    softmax = primitive(plain.softmax)
    defvjp(softmax, _softmax_by_logits)
    log_softmax = primitive(plain.log_softmax)
    defvjp(log_softmax, _log_softmax_by_logits)
    log_sum_exp = primitive(plain.log_sum_exp)
    defvjp(log_sum_exp, _log_sum_exp_by_logits)
    activation = primitive(plain.activation)
    defvjp(activation, None, _activation_by_x)

    unmoved = primitive(lambda value, given: value)
    defvjp(unmoved, None, lambda ans, value, given: lambda g: ag.vspace(given).zeros())

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

    times = primitive(plain.times)
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
        x, y = (spread(v, shape) if is_traced(v) else v for v in (x, y))
        return anp.where(condition, x, y)

    functions = {name: getattr(anp, name) for name in plain.SHARED}
    functions |= {"where": where, "log": log, "log1p": log1p}
    return SimpleNamespace(
        **functions,
        inf=np.inf,
        nan=np.nan,
        power=power,
        count=lambda x: plain.widen(np.size(x)),
        hide=lambda scores, idle, fill: scores,
        without_gradient=unmoved,
        times=times,
        pick=pick,
        take=take,
        widen=widen,
        returned=returned,
        total=total,
        stop_gradient=stripped,
        row_statistics=lambda *arguments: RowStatistics(*_unstacked(statistics(*arguments))),
        neg_log_probs=lambda logits, options: plain.split(surprisal(logits, options)),
        sigmoid_loss=elements,
        probabilities=_probabilities,
        softmax=softmax,
        log_softmax=log_softmax,
        log_sum_exp=log_sum_exp,
        activation=activation,
    )


def _total_by_values(ans: Any, values: Any, divisor: Any = None, dtype: Any = None) -> Any:
    def pull(g: Any) -> Any:
        xp, shape = traced(), np.shape(values)
        return xp.broadcast_to(xp.reshape(_over(xp, g, divisor), (1,) * len(shape)), shape)

    return pull


def _total_by_divisor(ans: Any, values: Any, divisor: Any = None, dtype: Any = None) -> Any:
    def pull(g: Any) -> Any:
        xp = traced()
        return -_over(xp, g * _over(xp, xp.sum(values), divisor), divisor)

    return pull


def _over(xp: Any, total: Any, divisor: Any) -> Any:
    if divisor is None:
        return total
    empty = divisor == 0
    return xp.where(empty, 0.0, total / xp.where(empty, 1.0, divisor))


def _sigmoid_loss_by_logits(ans: Any, x: Any, z: Any, r: Any, w: Any) -> Any:
    def pull(g: Any) -> Any:
        if any(map(is_traced, (g, x, z, r, w))):
            return _sigmoid_slope(0, g, x, z, r, w)
        return plain.sigmoid_gradient(g, x, z, r, w)

    return pull


def _sigmoid_loss_by_labels(ans: Any, x: Any, z: Any, r: Any, w: Any) -> Any:
    return lambda g: _sigmoid_slope(1, g, x, z, r, w)


def _sigmoid_loss_by_pos_weight(ans: Any, x: Any, z: Any, r: Any, w: Any) -> Any:
    return autograd().unbroadcast(r, lambda g: _sigmoid_slope(2, g, x, z, r, w))


def _sigmoid_slope(argument: int, g: Any, x: Any, z: Any, r: Any, w: Any) -> Any:
    xp = namespace(g, x, z, r, w)
    slope = _row_stats.sigmoid_gradient(xp, xp.widen(x), xp.widen(z), r)[argument]
    return xp.times(g if w is None else xp.times(w, g), slope)


def _sigmoid_loss_by_weight(ans: Any, x: Any, z: Any, r: Any, w: Any) -> Any:
    def pull(g: Any) -> Any:
        xp = namespace(g, x, z, r)
        return xp.times(g, _row_stats.sigmoid_loss(xp, xp.widen(x), xp.widen(z), r))

    return autograd().unbroadcast(w, pull)


def _unstacked(stacked: Any) -> Iterator[Any]:
    return (stacked[i] for i in range(len(RowStatistics._fields)))


def _upstream(stacked: Any) -> RowStatistics:
    """Coefficients of each statistic; one that is 0 everywhere is left out with its term."""
    if is_traced(stacked):
        return RowStatistics(*_unstacked(stacked))
    return RowStatistics(*(u if np.any(u) else None for u in stacked))


def _statistics_by_logits(
    ans: Any, logits: Any, labels: Any, class_weight: Any, options: RowOptions
) -> Any:
    return lambda g: _row_gradient(_upstream(g), logits, labels, class_weight, options)


def _row_gradient(
    upstream: RowStatistics, logits: Any, labels: Any, class_weight: Any, options: RowOptions
) -> Any:
    if not any(map(is_traced, (*upstream, logits, labels, class_weight))):
        return plain.row_gradient(upstream, logits, labels, class_weight, options)
    # A derivative of a derivative: the formula, which autograd sees through.
    xp = traced()
    of_labels = labels if labels.ndim < logits.ndim else xp.widen(labels)
    wide = xp.widen(logits)
    return _row_stats.row_gradient(xp, upstream, wide, of_labels, class_weight, options)


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
    """The log-sum-exp together with -log p in one call, so that their sum is rounded once."""
    return lambda g: _gradient_of_neg_log_probs(*plain.split(g), logits, options)


def _gradient_of_neg_log_probs(g: Any, by_lse: Any, logits: Any, options: RowOptions) -> Any:
    """d nlp_k / d x_j = p_j - [j = k]: the gradient of nll for the target g, accurate entry too."""
    # 0 for rows without a coefficient: ignored rows may hold NaN.
    used = np.any(stripped(g) != 0, axis=-1).astype(np.float64)
    upstream = RowStatistics(None, by_lse, None, used, None, None, None)
    return _row_gradient(upstream, logits, g, None, options)


def _probabilities(logits: Any) -> Any:
    options = plain.compensating(stripped(logits), RowOptions())
    return _row_stats.softmax(traced(), traced().widen(logits), options)


def _softmax_by_logits(ans: Any, logits: Any) -> Any:
    def pull(g: Any) -> Any:
        xp = namespace(g, logits)
        p = xp.probabilities(logits)
        flow = xp.times(p, g)
        return flow - p * xp.sum(flow, axis=-1, keepdims=True)

    return pull


def _log_softmax_by_logits(ans: Any, logits: Any) -> Any:
    return lambda g: _gradient_of_neg_log_probs(-g, None, logits, RowOptions())


def _log_sum_exp_by_logits(ans: Any, logits: Any) -> Any:
    def pull(g: Any) -> Any:
        # The log of an empty sum moves with nothing; its row has no softmax.
        moved = namespace(g).where(stripped(ans) == -np.inf, 0.0, g)
        upstream = RowStatistics(None, moved, None, None, None, None, None)
        ids = np.zeros(logits.shape[:-1], np.int64)
        return _row_gradient(upstream, logits, ids, None, RowOptions())

    return pull


def _activation_by_x(ans: Any, name: str, x: Any) -> Any:
    def pull(g: Any) -> Any:
        xp = namespace(g, x)
        return xp.times(g, _row_stats.activation_slope(xp, name, xp.widen(x)))

    return pull
