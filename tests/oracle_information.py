"""The information measures and activations of crossent in exact arithmetic; see oracle.py."""

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
    mp,
    score_kind,
    sigmoid_of,
    times,
)
from exact_arithmetic import softplus as softplus_of


def _log_probs_row(kind, scores):
    """-log p and p of a row of scores."""
    if kind == "logits":
        nll, p, *_ = log_softmax_row(scores)
        return nll, p
    if kind == "probs":
        return [-mp.log(p) for p in scores], scores
    return [-x for x in scores], [mp.exp(x) for x in scores]


def _score_terms(kind, p, c):
    """Terms of the gradient with respect to the scores of sum_k of a function of log p_k whose
    derivative with respect to log p_k is c_k."""
    classes = range(len(p))
    if kind == "log_probs":
        return [[v] for v in c]
    if kind == "probs":
        return [[c[j] / p[j] if p[j] else (INF * mp.sign(c[j]) if c[j] else ZERO)] for j in classes]
    return [
        [c[j] if k == j else ZERO for k in classes] + [-times(p[j], c[k]) for k in classes]
        for j in classes
    ]


def _entropy_row(kind, scores, q):
    nll, p = _log_probs_row(kind, scores)
    value = [times(p[k], nll[k]) for k in range(len(p))]
    if kind == "logits":  # d H / d log p_k through p_k = exp(log p_k); the 1 cancels in a softmax
        slope = [times(p[k], nll[k]) for k in range(len(p))]
    else:
        slope = [times(p[k], nll[k]) - p[k] for k in range(len(p))]
    return value, _score_terms(kind, p, slope), None


def _cross_entropy_row(kind, scores, q):
    nll, p = _log_probs_row(kind, scores)
    value = [times(q[k], nll[k]) for k in range(len(p))]
    return value, _score_terms(kind, p, [-v for v in q]), [[v] for v in nll]


def _kl_row(kind, scores, q):
    nll, p = _log_probs_row(kind, scores)
    log_q = [mp.log(v) for v in q]
    value = [t for k in range(len(p)) for t in (times(q[k], log_q[k]), times(q[k], nll[k]))]
    of_labels = [[log_q[k], nll[k], ONE] for k in range(len(p))]
    return value, _score_terms(kind, p, [-v for v in q]), of_labels


def _per_row(row, labels, logits, probs, log_probs, axis, unit, wrt, upstream):
    kind, scores = score_kind(logits, probs, log_probs)
    x = np.moveaxis(exact(scores), axis, -1)
    q = x if labels is None else np.moveaxis(exact(labels), axis, -1)
    batch, scale = x.shape[:-1], ONE / (mp.log(2) if unit == "bits" else ONE)
    up = np.broadcast_to(exact(1.0 if upstream is None else upstream), batch)
    out = Exact(filled(batch), filled(x.shape), filled(batch), filled(x.shape))
    for i in np.ndindex(batch):
        scores_i = x[i].tolist()
        if kind == "logits" and is_broken(scores_i):
            for array in out:
                array[i] = NAN
            continue
        value, of_scores, of_labels = row(kind, scores_i, q[i].tolist())
        out.value[i], out.value_scale[i] = mp.fsum(value) * scale, largest(value) * scale
        for j, terms in enumerate(of_labels if wrt == "labels" else of_scores):
            factor = up[i] * scale
            out.gradient[(*i, j)] = mp.fsum(terms) * factor
            out.gradient_scale[(*i, j)] = largest(terms) * abs(factor)
    return out._replace(
        gradient=np.moveaxis(out.gradient, -1, axis),
        gradient_scale=np.moveaxis(out.gradient_scale, -1, axis),
    )


def entropy(*, logits=None, probs=None, log_probs=None, axis=-1, unit="nats", wrt="logits",
            upstream=None):  # fmt: skip
    return _per_row(_entropy_row, None, logits, probs, log_probs, axis, unit, wrt, upstream)


def cross_entropy(*, labels, logits=None, probs=None, log_probs=None, axis=-1, unit="nats",
                  wrt="logits", upstream=None):  # fmt: skip
    row = _cross_entropy_row
    return _per_row(row, labels, logits, probs, log_probs, axis, unit, wrt, upstream)


def kl_divergence(*, labels, logits=None, probs=None, log_probs=None, axis=-1, unit="nats",
                  wrt="logits", upstream=None):  # fmt: skip
    return _per_row(_kl_row, labels, logits, probs, log_probs, axis, unit, wrt, upstream)


def _elementwise(curve, x, upstream):
    """curve(x) -> (value, derivative, largest term of the value)."""
    x = exact(x)
    up = np.broadcast_to(exact(1.0 if upstream is None else upstream), x.shape)
    out = Exact(*(filled(x.shape) for _ in range(4)))
    for i in np.ndindex(x.shape):
        if mp.isnan(x[i]):
            value, slope, scale = NAN, NAN, NAN
        else:
            value, slope, scale = curve(x[i])
        out.value[i], out.value_scale[i] = value, scale
        out.gradient[i] = times(up[i], slope)
        out.gradient_scale[i] = abs(out.gradient[i])
    return out


def sigmoid(x, *, upstream=None):
    return _elementwise(
        lambda v: (sigmoid_of(v), sigmoid_of(v) * sigmoid_of(-v), ZERO), x, upstream
    )


def log_sigmoid(x, *, upstream=None):
    return _elementwise(lambda v: (-softplus_of(-v), sigmoid_of(-v), ZERO), x, upstream)


def softplus(x, *, upstream=None):
    return _elementwise(lambda v: (softplus_of(v), sigmoid_of(v), ZERO), x, upstream)


def logit(p, *, upstream=None):
    def curve(v):
        terms = mp.log(v), -mp.log1p(-v)
        slope = INF if v in (0, 1) else 1 / v + 1 / (1 - v)
        return sum(terms), slope, largest(terms)

    return _elementwise(curve, p, upstream)


def odds(p, *, upstream=None):
    def curve(v):
        return (INF, INF, INF) if v == 1 else (v / (1 - v), 1 / (1 - v) ** 2, ZERO)

    return _elementwise(curve, p, upstream)


def _softmax_like(row, x, axis, upstream, reduces):
    """row(p, nll, lse, upstream) -> values and terms of the gradient of each class."""
    x = np.moveaxis(exact(x), axis, -1)
    value_shape = x.shape[:-1] if reduces else x.shape
    up = exact(np.ones(value_shape) if upstream is None else upstream)
    up = up if reduces or upstream is None else np.moveaxis(up, axis, -1)
    out = Exact(filled(value_shape), filled(x.shape), filled(value_shape), filled(x.shape))
    for i in np.ndindex(x.shape[:-1]):
        logits = x[i].tolist()
        if is_broken(logits):
            for array in out:
                array[i] = NAN
            if reduces and all(v == -INF for v in logits):
                # The log of an empty sum: nothing to move, so gradient 0.
                out.value[i], out.gradient[i] = -INF, ZERO
            continue
        nll, p, _, lse = log_softmax_row(logits)
        values, terms = row(p, nll, lse, up[i])
        out.value[i] = values
        out.value_scale[i] = (
            max(abs(max(logits)), abs(lse)) if reduces else [abs(v) for v in values]
        )
        out.gradient[i] = [mp.fsum(t) for t in terms]
        out.gradient_scale[i] = [largest(t) for t in terms]
    if reduces:
        return out._replace(
            gradient=np.moveaxis(out.gradient, -1, axis),
            gradient_scale=np.moveaxis(out.gradient_scale, -1, axis),
        )
    return Exact(*(np.moveaxis(array, -1, axis) for array in out))


def softmax(x, axis=-1, *, upstream=None):
    def row(p, nll, lse, up):
        classes = range(len(p))
        terms = [[p[j] * up[j], *(-p[j] * p[k] * up[k] for k in classes)] for j in classes]
        return p, terms

    return _softmax_like(row, x, axis, upstream, reduces=False)


def log_softmax(x, axis=-1, *, upstream=None):
    def row(p, nll, lse, up):
        classes = range(len(p))
        return [-v for v in nll], [[up[j], *(-p[j] * up[k] for k in classes)] for j in classes]

    return _softmax_like(row, x, axis, upstream, reduces=False)


def log_sum_exp(x, axis=-1, *, upstream=None):
    def row(p, nll, lse, up):
        return lse, [[up * v] for v in p]

    return _softmax_like(row, x, axis, upstream, reduces=True)


def label_weight(*, labels, class_weight=None, sample_weight=None, ignore_index=None, axis=-1,
                 num_classes=None, reduction="mean"):  # fmt: skip
    """The denominator of a reduction, as one number."""
    labels = np.asarray(labels)
    classes = num_classes if class_weight is None else len(class_weight)
    w = exact(np.ones(classes or 1) if class_weight is None else class_weight)
    soft = classes is not None and labels.dtype.kind not in "iu" and labels.shape[axis] == classes
    if soft:
        q = np.moveaxis(exact(labels), axis, -1)
        row_weight = {i: mp.fdot(w.tolist(), q[i].tolist()) for i in np.ndindex(q.shape[:-1])}
    else:
        kept = {i for i in np.ndindex(labels.shape) if labels[i] != ignore_index}
        row_weight = {i: w[int(labels[i])] if class_weight is not None else ONE for i in kept}
    shape = labels.shape if not soft else q.shape[:-1]
    if reduction == "mean_all":
        return mp.mpf(len(row_weight))
    sample = leading(sample_weight, shape)
    return mp.fsum(times(sample[i], row_weight[i]) for i in row_weight)
