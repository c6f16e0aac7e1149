"""Every loss of crossent in exact arithmetic, from the papers; it shares no code with the package.

Each function has the name and the options of the public function it judges, and returns an
`Exact`: the value, its gradient with respect to one argument (`wrt`), and the size of the largest
term that was added up to reach each number (what a tolerance may refer to where terms of opposite
sign meet). All are NumPy object arrays of 60-digit numbers. The formulas are arranged so
that nothing cancels: a loss of 1e-300 is as exact as one of 1, and logits may be +-1e8 or infinite.
"""

from typing import NamedTuple

import numpy as np
from exact_arithmetic import (
    INF,
    NAN,
    ONE,
    ZERO,
    Exact,
    exact,
    filled,
    is_broken,
    largest,
    leading,
    log_softmax_row,
    magnitude,
    mp,
    per,
    score_kind,
    sigmoid_of,
    softplus,
    times,
)


class Row(NamedTuple):
    """One row of a softmax loss, or one element of the others, before weights and reduction."""

    value: object
    weight: object  # what the row adds to the denominator of "mean", apart from its sample weight
    terms: dict  # argument -> the terms of the derivative of `value`, one list for each entry
    weight_slope: dict  # argument -> the derivative of `weight`, one number for each entry


# A curve is a loss of u = -log p of the class: f(u), df/du and df/dp. Of p and 1 - p neither has
# to be recovered from the other. The limits at p = 0 and p = 1 are part of it.


def cross_entropy_curve(u, p, rest):
    return u, ONE, per(-ONE, p)


def focal_curve(gamma):
    """(1 - p)^gamma u: Lin et al. 2017, eq. 4."""

    def curve(u, p, rest):
        if gamma == 0:
            return cross_entropy_curve(u, p, rest)
        if rest == 0:
            return ZERO, ZERO, ZERO
        factor = rest**gamma
        slope = factor + (ZERO if p == 0 else gamma * rest ** (gamma - 1) * p * u)
        return factor * u, slope, per(-slope, p)

    return curve


def generalized_curve(q):
    """(1 - p^q) / q: Zhang and Sabuncu 2018, eq. 6."""

    def curve(u, p, rest):
        by_p = -ONE if q == 1 else per(-(p**q), p) if p else -INF
        return -mp.expm1(-q * u) / q, mp.exp(-q * u), by_p

    return curve


def poly_curve(epsilon):
    """u + epsilon (1 - p): Leng et al. 2022, eq. 6 (poly-1)."""
    return lambda u, p, rest: (u + epsilon * rest, 1 + epsilon * p, per(-ONE, p) - epsilon)


def _score_row(kind, scores, temperature, softcap):
    """-log p, p, 1 - p, lse of a row and the slope of the transforms of each score."""
    if kind == "probs":
        return [-mp.log(p) for p in scores], scores, [1 - p for p in scores], ZERO, None
    if kind == "log_probs":
        return (
            [-x for x in scores],
            [mp.exp(x) for x in scores],
            [-mp.expm1(x) for x in scores],
            ZERO,
            None,
        )
    x, slope = scores, [1 / temperature] * len(scores)
    if softcap is not None:
        slope = [ZERO if v == -INF else mp.sech(v / softcap) ** 2 / temperature for v in x]
        x = [v if v == -INF else softcap * mp.tanh(v / softcap) for v in x]
    return (*log_softmax_row([v / temperature for v in x]), slope)


def _softmax_row(curve, kind, scores, q, w, *, smoothing, temperature, softcap, z_loss):
    classes = range(len(scores))
    if kind == "logits" and is_broken(scores):
        nan = [[NAN] for _ in classes]
        broken = {"scores": nan, "labels": nan, "class_weight": nan}
        return Row(NAN, mp.fdot(w, q), broken, {})
    nll, p, rest, lse, slope = _score_row(kind, scores, temperature, softcap)
    unmasked = sum(v > 0 for v in p)
    smooth = [(1 - smoothing) * q[k] + (smoothing / unmasked if p[k] > 0 else 0) for k in classes]
    f, df, df_dp = zip(*(curve(nll[k], p[k], rest[k]) for k in classes), strict=True)
    weight = mp.fdot(w, q)
    z_term = z_loss * lse**2
    value = mp.fsum(times(w[k] * smooth[k], f[k]) for k in classes) + weight * z_term
    c = [times(w[k] * smooth[k], df[k]) for k in classes]
    total = mp.fsum(c)
    if kind == "logits":  # d(-log p_k)/dx_j = p_j - [j = k]
        terms = [
            [p[j] * (total - c[j]), -c[j] * rest[j], 2 * weight * z_loss * lse * p[j]]
            for j in classes
        ]
        terms = [[slope[j] * term for term in terms[j]] for j in classes]
    elif kind == "probs":
        terms = [[times(w[j] * smooth[j], df_dp[j])] for j in classes]
    else:
        terms = [[-c[j]] for j in classes]
    of_labels = [[(1 - smoothing) * times(w[k], f[k]), w[k] * z_term] for k in classes]
    of_class_weight = [[times(smooth[k], f[k]), q[k] * z_term] for k in classes]
    return Row(
        value,
        weight,
        {"scores": terms, "labels": of_labels, "class_weight": of_class_weight},
        {"labels": w, "class_weight": q},
    )


def _binary_scores(kind, x):
    """-log p, -log(1 - p), p and 1 - p."""
    if kind == "logits":
        return softplus(-x), softplus(x), sigmoid_of(x), sigmoid_of(-x)
    if kind == "probs":
        return -mp.log(x), -mp.log1p(-x), x, 1 - x
    rest = -mp.expm1(x)
    return -x, -mp.log(rest), mp.exp(x), rest


def _sigmoid_element(curve, kind, score, z, pos_weight, *, smoothing, alpha):
    if mp.isnan(score):
        return Row(NAN, ONE, {"scores": [[NAN]], "labels": [[NAN]], "pos_weight": [[NAN]]}, {})
    u1, u0, p, rest = _binary_scores(kind, score)
    f1, df1, f1_by_p = curve(u1, p, rest)
    f0, df0, f0_by_rest = curve(u0, rest, p)
    if kind == "logits":
        slope1, slope0 = -df1 * rest, df0 * p
    elif kind == "probs":
        slope1, slope0 = f1_by_p, -f0_by_rest
    else:
        slope1, slope0 = -df1, times(-f0_by_rest, p)
    smooth = (1 - smoothing) * z + smoothing / 2
    a, b = (ONE, ONE) if alpha is None else (alpha, 1 - alpha)
    on, off = pos_weight * smooth * a, (1 - smooth) * b
    keep = 1 - smoothing
    return Row(
        times(on, f1) + times(off, f0),
        ONE,
        {
            "scores": [[times(on, slope1), times(off, slope0)]],
            "labels": [[keep * times(pos_weight * a, f1), -keep * times(b, f0)]],
            "pos_weight": [[times(smooth * a, f1)]],
        },
        {},
    )


def _reduce(rows, sample, reduction, normalizer, upstream):
    """The value, and for each row the factors a and b of the derivatives of any argument:
    a * d(sample_weight * value) - b * d(sample_weight * weight). `rows` holds the kept ones."""
    shape = sample.shape
    up = exact(np.ones(shape if reduction == "none" else ()) if upstream is None else upstream)
    value, numerator, denominator = filled(shape), ZERO, ZERO
    for i, row in rows.items():
        value[i] = times(sample[i], row.value)
        numerator += value[i]
        denominator += times(sample[i], row.weight)
    if reduction == "none":
        return value, np.broadcast_to(up, shape), filled(shape)
    by_weight = reduction == "mean" and normalizer is None
    if normalizer is not None:
        denominator = mp.mpf(float(normalizer))
    elif reduction != "mean":
        denominator = mp.mpf(len(rows)) if reduction == "mean_all" else ONE
    if denominator == 0:
        return filled(()), filled(shape), filled(shape)
    up = up.item()
    b = up * numerator / denominator**2 if by_weight else ZERO
    return filled((), numerator / denominator), filled(shape, up / denominator), filled(shape, b)


def _gradient(rows, sample, a, b, wrt, shape, place):
    """The sum over the rows in an array of `shape`, and the largest term of each of its entries.
    place(i, j) is the entry that position j of row i belongs to."""
    total, size = filled(shape), filled(shape)

    def add(index, terms):
        total[index] += mp.fsum(terms)
        size[index] = max(size[index], largest(terms))

    for i, row in rows.items():
        if wrt == "sample_weight":
            hidden = sample[i] == 0 and not mp.isfinite(row.value)
            parts = [ZERO if hidden else times(a[i], row.value), -times(b[i], row.weight)]
            add(_leading_entry(i, shape), parts)
            continue
        slopes = row.weight_slope.get(wrt)
        for j, terms in enumerate(row.terms[wrt]):
            parts = [times(a[i] * sample[i], term) for term in terms]
            if slopes is not None:
                parts.append(-times(b[i] * sample[i], slopes[j]))
            add(place(i, j), parts)
    return total, size


def _unbroadcast(index, shape):
    """The entry of an array of `shape`, aligned at its trailing axes, that `index` reads."""
    tail = index[len(index) - len(shape) :]
    return tuple(0 if n == 1 else k for k, n in zip(tail, shape, strict=True))


def _leading_entry(index, shape):
    return tuple(0 if n == 1 else k for k, n in zip(index, shape, strict=False))


def _distributions(labels, scores, axis, ignore_index):
    """The labels as (*batch, classes), classes last, and which rows are kept."""
    batch = np.moveaxis(scores, axis, -1).shape[:-1]
    one_class = scores.shape[axis] == 1
    if labels.shape == scores.shape and not (one_class and labels.dtype.kind in "iu"):
        return exact(np.moveaxis(labels, axis, -1)), np.ones(batch, bool)
    ids = labels.reshape(batch)
    kept = np.ones(batch, bool) if ignore_index is None else ids != ignore_index
    q = filled((*batch, scores.shape[axis]))
    for i in np.ndindex(batch):
        if kept[i]:
            q[(*i, int(ids[i]))] = ONE
    return q, kept


def _softmax_loss(curve, *, labels, logits=None, probs=None, log_probs=None, axis=-1,
                  class_weight=None, sample_weight=None, label_smoothing=0.0, ignore_index=None,
                  temperature=1.0, softcap=None, z_loss=0.0, reduction="mean", normalizer=None,
                  wrt="logits", upstream=None):  # fmt: skip
    kind, scores = score_kind(logits, probs, log_probs)
    q, kept = _distributions(np.asarray(labels), scores, axis, ignore_index)
    batch, classes = q.shape[:-1], q.shape[-1]
    x = np.moveaxis(exact(scores), axis, -1)
    w = exact(np.ones(classes) if class_weight is None else class_weight).tolist()
    options = {
        "smoothing": mp.mpf(label_smoothing),
        "temperature": mp.mpf(temperature),
        "softcap": None if softcap is None else mp.mpf(softcap),
        "z_loss": mp.mpf(z_loss),
    }
    rows = {
        i: _softmax_row(curve, kind, x[i].tolist(), q[i].tolist(), w, **options)
        for i in np.ndindex(batch)
        if kept[i]
    }
    sample = leading(sample_weight, batch)
    value, a, b = _reduce(rows, sample, reduction, normalizer, upstream)
    if wrt == "class_weight":
        total, size = _gradient(rows, sample, a, b, wrt, (classes,), lambda _, j: j)
    elif wrt == "sample_weight":
        total, size = _gradient(rows, sample, a, b, wrt, np.shape(sample_weight), None)
    else:
        name = "labels" if wrt == "labels" else "scores"
        total, size = _gradient(rows, sample, a, b, name, q.shape, lambda i, j: (*i, j))
        total, size = np.moveaxis(total, -1, axis), np.moveaxis(size, -1, axis)
    return Exact(value, total, magnitude(value), size)


def _elementwise(rows, reduction, normalizer, upstream, wrt, arguments, sample_weight):
    """`arguments` are the shapes of the arguments that have a gradient, besides the scores."""
    shape = arguments["scores"]
    sample = leading(sample_weight, shape)
    value, a, b = _reduce(rows, sample, reduction, normalizer, upstream)
    name = wrt if wrt in ("labels", "pos_weight", "sample_weight") else "scores"
    shape = np.shape(sample_weight) if name == "sample_weight" else arguments[name]
    total, size = _gradient(rows, sample, a, b, name, shape, lambda i, _: _unbroadcast(i, shape))
    return Exact(value, total, magnitude(value), size)


def _sigmoid_loss(curve, *, labels, logits=None, probs=None, log_probs=None, pos_weight=None,
                  sample_weight=None, label_smoothing=0.0, ignore_index=None, reduction="mean",
                  normalizer=None, alpha=None, wrt="logits", upstream=None):  # fmt: skip
    kind, scores = score_kind(logits, probs, log_probs)
    labels = np.asarray(labels)
    kept = np.ones(scores.shape, bool) if ignore_index is None else labels != ignore_index
    x, z = exact(scores), exact(labels)
    pos = np.broadcast_to(exact(1.0 if pos_weight is None else pos_weight), scores.shape)
    options = {
        "smoothing": mp.mpf(label_smoothing),
        "alpha": alpha if alpha is None else mp.mpf(alpha),
    }
    rows = {
        i: _sigmoid_element(curve, kind, x[i], z[i], pos[i], **options)
        for i in np.ndindex(scores.shape)
        if kept[i]
    }
    shapes = {"scores": x.shape, "labels": x.shape, "pos_weight": np.shape(pos_weight)}
    return _elementwise(rows, reduction, normalizer, upstream, wrt, shapes, sample_weight)


def softmax_cross_entropy(**options):
    return _softmax_loss(cross_entropy_curve, **options)


def focal_loss(*, gamma=2.0, **options):
    return _softmax_loss(focal_curve(mp.mpf(gamma)), **options)


def generalized_cross_entropy(*, q=0.7, **options):
    return _softmax_loss(generalized_curve(mp.mpf(q)), **options)


def poly_loss(*, epsilon=1.0, **options):
    return _softmax_loss(poly_curve(mp.mpf(epsilon)), **options)


def sigmoid_cross_entropy(**options):
    return _sigmoid_loss(cross_entropy_curve, **options)


def binary_focal_loss(*, gamma=2.0, alpha=None, **options):
    return _sigmoid_loss(focal_curve(mp.mpf(gamma)), alpha=alpha, **options)


def mean_squared_error(*, labels, predictions, sample_weight=None, reduction="mean",
                       normalizer=None, wrt="predictions", upstream=None):  # fmt: skip
    x, z = exact(predictions), exact(labels)
    rows = {}
    for i in np.ndindex(x.shape):
        d = x[i] - z[i]
        rows[i] = Row(d * d, ONE, {"scores": [[2 * d]], "labels": [[-2 * d]]}, {})
    shapes = {"scores": x.shape, "labels": x.shape}
    return _elementwise(rows, reduction, normalizer, upstream, wrt, shapes, sample_weight)
