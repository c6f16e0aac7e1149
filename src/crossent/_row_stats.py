"""The formula: row statistics of logits and their gradient, in plain array code over any `xp`.

Every softmax loss is arithmetic on these few numbers per row. Kernels (and later libraries) replace
what is here; nothing here knows a library. Arrays come with the class axis last and in the dtype
that is computed in: this file never casts.

With target t_j, the label distribution q_j times the class weight w_j (ids count as one-hot):

    statistic    definition                                              gradient in x
    peak         max x                                                   none: held constant
    log_sum      log1p(S), S the sum of exp(x_j - peak) over all j       p = softmax(x)
                 but one occurrence of the peak
    label_gap    sum of t_j (x_j - peak), with 0 * -inf = 0              t_j
    nll          t log_sum - label_gap = sum of t_j (-log p_j)           t p_j - t_j
    target_sum   t, the sum of t_j                                       none
    mean_gap     mean over the unmasked classes of w_j (x_j - peak)      w_j / unmasked
    mean_weight  mean over the unmasked classes of w_j                   none

The peak's own term never enters the sum: in a confident row S is 1e-30, and 1 + S would lose it.
A row that is all -inf, or holds NaN or +inf, is NaN in every statistic (peak - peak poisons it).
"""

from typing import Any, NamedTuple


class RowOptions(NamedTuple):
    """What a kernel does to the logits first, and which statistics are wanted."""

    softcap: float | None = None
    temperature: float = 1.0
    with_mean: bool = False
    # Add back what rounding x_j - peak lost. Needed where the logits are as wide as the arithmetic
    # (float64): a gap of 70 otherwise costs exp 32 ulp. Narrower logits subtract exactly wherever
    # exp is not 0.
    compensate: bool = False


class RowStatistics(NamedTuple):
    """One number per row each (the module's table); also an upstream coefficient for each."""

    peak: Any
    log_sum: Any
    label_gap: Any
    nll: Any
    target_sum: Any
    mean_gap: Any
    mean_weight: Any


class _Softmax(NamedTuple):
    """Parts shared by the statistics and the gradient; all but `slope` keep the class axis."""

    peak: Any
    gap: Any
    exp: Any
    rest: Any  # S
    poison: Any  # 0, or NaN in rows that have no softmax
    slope: Any  # derivative of the transformed logit with respect to the logit
    masked: Any  # classes at -inf; a gap may also overflow to -inf


def row_statistics(
    xp: Any, logits: Any, labels: Any, class_weight: Any, options: RowOptions
) -> RowStatistics:
    """Statistics of each row; `labels` are class ids (one axis fewer) or a distribution."""
    parts = _softmax_parts(xp, logits, options)
    log_sum = xp.log1p(parts.rest) + parts.poison
    if labels.ndim == logits.ndim:
        target = labels if class_weight is None else labels * class_weight
        target_sum = xp.sum(target, axis=-1)
        label_gap = xp.sum(xp.times(target, parts.gap), axis=-1)
        # Not target_sum * log_sum - label_gap: term by term a one-hot row has the bits of its class
        # id.
        nll = xp.sum(xp.times(target, log_sum - parts.gap), axis=-1)
    else:
        label_gap = xp.pick(parts.gap, labels)
        nll = log_sum[..., 0] - label_gap
        target_sum = xp.ones_like(nll)
        if class_weight is not None:
            target_sum = xp.take(class_weight, labels)
            label_gap, nll = xp.times(target_sum, label_gap), xp.times(target_sum, nll)
    mean_gap, mean_weight = xp.zeros_like(nll), xp.ones_like(nll)
    if options.with_mean:
        share = mean_share(xp, parts.masked, class_weight)
        mean_gap = xp.sum(xp.times(share, parts.gap), axis=-1)
        mean_weight = xp.sum(share, axis=-1)
    # NaN rows are NaN in every statistic, also where the label's own gap is finite or 0.
    poison = parts.poison[..., 0]
    # A library that differentiates this formula sees x_j - peak move with the peak; the table above
    # holds the peak constant. `shift` is 0 and carries the difference.
    # Divided last: a finite peak must not become infinite before it is gone.
    peak = parts.peak[..., 0]
    shift = (peak - xp.stop_gradient(peak)) / options.temperature + poison
    return RowStatistics(
        peak=xp.stop_gradient(peak) / options.temperature,
        log_sum=log_sum[..., 0] + shift,
        label_gap=label_gap + target_sum * shift,
        nll=nll + poison,
        target_sum=target_sum,
        mean_gap=mean_gap + mean_weight * shift,
        mean_weight=mean_weight,
    )


def row_gradient(
    xp: Any,
    upstream: RowStatistics,
    logits: Any,
    labels: Any,
    class_weight: Any,
    options: RowOptions,
) -> Any:
    """Gradient of sum(upstream * statistics) with respect to the logits; None is an absent term.

    A row whose coefficients are all 0 is 0 whatever its logits are: ignored rows may hold NaN.
    """
    parts = _softmax_parts(xp, logits, options)
    p = parts.exp / (1 + parts.rest + parts.poison)
    terms: list[Any] = []
    used: Any = False
    if upstream.nll is not None:
        by_nll = _nll_gradient(xp, p, parts, labels, class_weight)
        terms.append(upstream.nll[..., None] * by_nll)
        used = used | (upstream.nll != 0)
    if upstream.log_sum is not None:
        terms.append(upstream.log_sum[..., None] * p)
        used = used | (upstream.log_sum != 0)
    if upstream.label_gap is not None:
        target = _target(xp, p, labels, class_weight)
        terms.append(upstream.label_gap[..., None] * target)
        used = used | (upstream.label_gap != 0)
    if upstream.mean_gap is not None:
        share = mean_share(xp, parts.masked, class_weight)
        terms.append(upstream.mean_gap[..., None] * share)
        used = used | (upstream.mean_gap != 0)
    if not terms:
        return xp.zeros_like(p)
    gradient = sum(terms[1:], terms[0]) / options.temperature
    if options.softcap is not None:
        gradient = gradient * parts.slope
    return xp.where(used[..., None], gradient, 0.0)


def target_gradient(xp: Any, upstream: RowStatistics, logits: Any, options: RowOptions) -> Any:
    """Gradient with respect to each entry t_j of the target; 0 in rows without a coefficient."""
    parts = _softmax_parts(xp, logits, options)
    gradient: Any = xp.zeros_like(parts.gap)
    used: Any = False
    if upstream.nll is not None:
        surprisals = xp.log1p(parts.rest) + parts.poison - parts.gap
        gradient = gradient + xp.times(upstream.nll[..., None], surprisals)
        used = used | (upstream.nll != 0)
    if upstream.label_gap is not None:
        gradient = gradient + xp.times(upstream.label_gap[..., None], parts.gap)
        used = used | (upstream.label_gap != 0)
    if upstream.target_sum is not None:
        gradient = gradient + upstream.target_sum[..., None]
        used = used | (upstream.target_sum != 0)
    if used is False:
        return gradient
    return xp.where(used[..., None], gradient + parts.poison, 0.0)


def mean_gradient(xp: Any, upstream: RowStatistics, logits: Any, options: RowOptions) -> Any:
    """Gradient of mean_gap and mean_weight with respect to each row's class weights."""
    parts = _softmax_parts(xp, logits, options)
    share = mean_share(xp, parts.masked, None)
    gradient = xp.zeros_like(share)
    if upstream.mean_gap is not None:
        gap = xp.where(share == 0, 0.0, parts.gap)
        gradient = gradient + xp.times(upstream.mean_gap[..., None], share * gap)
    if upstream.mean_weight is not None:
        gradient = gradient + upstream.mean_weight[..., None] * share
    return gradient


def neg_log_probs(xp: Any, logits: Any, options: RowOptions) -> tuple[Any, Any]:
    """-log softmax(logits) of every class, +inf at masked ones; and each row's log-sum-exp."""
    parts = _softmax_parts(xp, logits, options)
    log_sum = xp.log1p(parts.rest) + parts.poison
    return log_sum - parts.gap, (parts.peak / options.temperature + log_sum)[..., 0]


def softmax(xp: Any, logits: Any, options: RowOptions) -> Any:
    """exp(x - peak) / (1 + S)."""
    parts = _softmax_parts(xp, logits, options)
    return parts.exp / (1 + parts.rest + parts.poison)


def log_softmax(xp: Any, logits: Any, options: RowOptions) -> Any:
    """x - peak - log_sum, never -0.0."""
    return 0.0 - neg_log_probs(xp, logits, options)[0]


def log_sum_exp(xp: Any, logits: Any, options: RowOptions) -> Any:
    """peak + log_sum; -inf, with gradient 0, in rows that are all -inf."""
    nothing = xp.max(logits, axis=-1) == -xp.inf
    some = xp.where(nothing[..., None], 0.0, logits)
    return xp.where(nothing, -xp.inf, neg_log_probs(xp, some, options)[1])


def statistics_of_probs(
    xp: Any, scores: Any, labels: Any, class_weight: Any, *, log: bool, with_mean: bool
) -> RowStatistics:
    """The same statistics where p, or with `log` log p, is given: nothing is normalised again.

    Classes with p = 0 are masked, as classes with logit -inf are.
    """
    if labels.ndim == scores.ndim:
        target = labels if class_weight is None else xp.times(labels, class_weight)
        target_sum = xp.sum(target, axis=-1)
        nll = xp.sum(xp.times(target, surprisal(xp, scores, log=log)), axis=-1)
    else:
        nll = surprisal(xp, xp.pick(scores, labels), log=log)
        target_sum = xp.ones_like(nll)
        if class_weight is not None:
            target_sum = xp.take(class_weight, labels)
            nll = xp.times(target_sum, nll)
    zero = xp.zeros_like(nll)
    mean_gap, mean_weight = zero, xp.ones_like(nll)
    if with_mean:
        share = mean_share(xp, scores == (-xp.inf if log else 0), class_weight)
        mean_gap = -xp.sum(xp.times(share, surprisal(xp, scores, log=log)), axis=-1)
        mean_weight = xp.sum(share, axis=-1)
    poison = row_poison(xp, scores)
    return RowStatistics(zero, zero, -nll, nll + poison, target_sum, mean_gap + poison, mean_weight)


def sigmoid_loss(xp: Any, x: Any, z: Any, r: Any) -> Any:
    """(1 - z) x + l (log1p(exp(-|x|)) + max(-x, 0)), l = 1 + (r - 1) z, as a sum of terms >= 0.

    For x >= 0 the linear part is (1 - z) x, for x < 0 it is r z |x|: nothing cancels. |x| is
    written as a choice at x >= 0, so that the derivative at x = 0 is right (1/2 - z), which |x| and
    max(x, 0) differentiate wrongly. The weight r of the positive term may be None for 1.
    """
    _, total, size, slope, reach = _sigmoid_parts(xp, x, z, r)
    return slope * reach + total * xp.log1p(xp.exp(-size))


def sigmoid_gradient(xp: Any, x: Any, z: Any, r: Any) -> tuple[Any, Any, Any]:
    """Derivatives of `sigmoid_loss` in x, z and r."""
    right, total, size, slope, reach = _sigmoid_parts(xp, x, z, r)
    e = xp.exp(-size)
    tail, weight = xp.log1p(e), 1.0 if r is None else r
    inward = slope - total * (e / (1 + e))
    by_x = xp.where(right, inward, -inward)
    by_z = xp.where(right, -reach, weight * reach) + (weight - 1) * tail
    return by_x, by_z, z * (xp.where(right, 0.0, reach) + tail)


def _sigmoid_parts(xp: Any, x: Any, z: Any, r: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Whether x >= 0, l, |x|, the slope of the linear part, and how far along |x| it reaches."""
    right, positive = x >= 0, z if r is None else r * z
    size = xp.where(right, x, -x)
    slope = xp.where(right, 1 - z, positive)
    # An infinite logit on the side of its label costs 0, not 0 * inf.
    reach = xp.where((slope == 0) & (size == xp.inf), 0.0, size)
    return right, (1 - z) + positive, size, slope, reach


def sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    e = xp.exp(-xp.where(x >= 0, x, -x))
    return xp.where(x >= 0, 1.0, e) / (1 + e)


def softplus(xp: Any, x: Any) -> Any:
    """log(1 + exp(x)), as max(x, 0) + log1p(exp(-|x|))."""
    return xp.where(x >= 0, x, 0.0) + xp.log1p(xp.exp(-xp.where(x >= 0, x, -x)))


def log_sigmoid(xp: Any, x: Any) -> Any:
    """-log(1 + exp(-x)), never -0.0."""
    return 0.0 - softplus(xp, 0.0 - x)


# By the names that kernels know them by.
ACTIVATIONS = {"sigmoid": sigmoid, "log_sigmoid": log_sigmoid, "softplus": softplus}


def activation_slope(xp: Any, name: str, x: Any) -> Any:
    """Derivative of an activation."""
    if name == "sigmoid":
        return sigmoid(xp, x) * sigmoid(xp, -x)
    return sigmoid(xp, x if name == "softplus" else -x)


def row_poison(xp: Any, scores: Any) -> Any:
    """0, or NaN in rows that hold a NaN; so is its gradient, unless nothing flows back."""
    nan = xp.sum(xp.where(xp.isnan(scores), scores, 0.0), axis=-1, keepdims=True)
    return xp.sum(xp.times(xp.stop_gradient(nan), scores), axis=-1)


def surprisal(xp: Any, scores: Any, *, log: bool) -> Any:
    """-log p, where `scores` are p or, with `log`, log p. Never -0.0."""
    return 0.0 - (scores if log else xp.log(scores))


def mean_share(xp: Any, masked: Any, class_weight: Any) -> Any:
    """Each class's weight in the row's mean: its class weight / unmasked classes; 0 if masked."""
    unmasked = xp.where(masked, 0.0, 1.0)
    share = unmasked / xp.sum(unmasked, axis=-1, keepdims=True)
    return share if class_weight is None else xp.times(share, class_weight)


def _softmax_parts(xp: Any, logits: Any, options: RowOptions) -> _Softmax:
    x, slope = logits, None
    if options.softcap is not None:
        masked = (x == -xp.inf) | (x == xp.inf)  # +inf stays too: no softmax, as without the cap
        u = xp.where(masked, 0.0, x) / options.softcap
        x = xp.where(masked, x, options.softcap * xp.tanh(u))
        # 1 - tanh(u)^2 without the cancellation: 4 e / (1 + e)^2, e = exp(-2 |u|).
        e = xp.exp(-2 * xp.where(u >= 0, u, -u))
        slope = xp.where(masked, 0.0, 4 * e / ((1 + e) * (1 + e)))
    highest = xp.argmax(x, axis=-1)
    at_peak = xp.arange(x.shape[-1]) == highest[..., None]
    peak = xp.pick(x, highest)[..., None]
    # A constant at the peak. Derived as x - peak, the derivative of a loss at its label would be
    # the rest of 1 - 1 + S: 0 in confident rows.
    gap = xp.where(at_peak, 0.0, x - peak) / options.temperature
    exp = xp.exp(gap)
    if options.compensate:
        exp = exp * (1 + _lost_by_subtraction(xp, x, peak) / options.temperature)
    # A constant: its derivative 1 - 1, added up in an unlucky order, would absorb those of
    # confident rows. As a factor it poisons derivatives: that of exp(x_j - inf) would be 0.
    poison = xp.stop_gradient(peak - peak)
    rest = xp.sum(xp.where(at_peak, 0.0, exp), axis=-1, keepdims=True) * (1 + poison)
    return _Softmax(peak, gap, exp, rest, poison, slope, x == -xp.inf)


def _lost_by_subtraction(xp: Any, x: Any, peak: Any) -> Any:
    """What rounding x - peak to a float lost (Knuth's two-sum), 0 where it is not finite."""
    difference = x - peak
    back = difference - x
    lost = (x - (difference - back)) - (peak + back)
    return xp.stop_gradient(xp.where(xp.isfinite(lost), lost, 0.0))


def _target(xp: Any, like: Any, labels: Any, class_weight: Any) -> Any:
    if labels.ndim == like.ndim:
        return labels if class_weight is None else labels * class_weight
    at_label = xp.arange(like.shape[-1]) == labels[..., None]
    weight = 1.0 if class_weight is None else xp.take(class_weight, labels)[..., None]
    return xp.where(at_label, weight, 0.0)


def _nll_gradient(xp: Any, p: Any, parts: _Softmax, labels: Any, class_weight: Any) -> Any:
    """t * p_j - t_j, with the digits of p_j - 1 kept as p_j -> 1 by expm1(log p_j).

    Only the entry with the largest target can cancel; there it is t_j (p_j - 1) + (t - t_j) p_j,
    with t - t_j summed without t_j.
    """
    classes = xp.arange(p.shape[-1])
    log_sum = (xp.log1p(parts.rest) + parts.poison)[..., 0]
    if labels.ndim < p.ndim:
        minus_one = xp.expm1(xp.pick(parts.gap, labels) - log_sum)
        gradient = xp.where(classes == labels[..., None], minus_one[..., None], p)
        if class_weight is None:
            return gradient
        return xp.take(class_weight, labels)[..., None] * gradient
    target = _target(xp, p, labels, class_weight)
    largest = xp.argmax(xp.abs(target), axis=-1)
    at_largest = classes == largest[..., None]
    others = xp.sum(xp.where(at_largest, 0.0, target), axis=-1, keepdims=True)
    minus_one = xp.expm1(xp.pick(parts.gap, largest) - log_sum)[..., None]
    total = xp.sum(target, axis=-1, keepdims=True)
    return xp.where(at_largest, target * minus_one + others * p, total * p - target)
