"""Laws that hold whatever the numbers are: shift, permutation, limits of the options, splits."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import crossent as xe

SOFTMAX = [
    xe.softmax_cross_entropy,
    xe.focal_loss,
    xe.generalized_cross_entropy,
    xe.poly_loss,
]
SIGMOID = [xe.sigmoid_cross_entropy, xe.binary_focal_loss]
LAW = settings(max_examples=30, deadline=None, derandomize=True, database=None)
EPS = np.finfo(np.float64).eps


@st.composite
def problems(draw, max_rows=5, masks=True):
    """Logits in float64, some of them -inf, with class ids that are not masked."""
    rows, classes = draw(st.integers(1, max_rows)), draw(st.integers(2, 6))
    logits = draw(arrays(np.float64, (rows, classes), elements=st.floats(-30, 30)))
    ids = draw(arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    if masks:
        masked = draw(arrays(np.bool_, (rows, classes)))
        masked[np.arange(rows), ids] = False
        logits[masked] = -np.inf
    return logits, ids


@st.composite
def softmax_calls(draw, **kwargs):
    """A problem with any options; the values are seldom the defaults."""
    logits, ids = draw(problems(**kwargs))
    rows, classes = logits.shape
    weights = st.floats(0, 4)
    options = {
        "class_weight": arrays(np.float64, classes, elements=weights),
        "sample_weight": arrays(np.float64, rows, elements=weights),
        "label_smoothing": st.floats(0, 1),
        "ignore_index": st.integers(0, classes - 1),
        "temperature": st.floats(0.25, 4),
        "softcap": st.floats(1, 50),
        "z_loss": st.floats(0, 0.01),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(options))))
    return {"logits": logits, "labels": ids, **{k: draw(options[k]) for k in sorted(chosen)}}


def value_and_grad(loss, **call):
    return xe.numpy.value_and_grad(loss, **call)


def assert_close(got, want, tolerance, scale=1.0):
    """Equal infinities and NaN, and numbers within `tolerance` of max(|want|, scale)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    bound = tolerance * np.maximum(np.abs(want), scale)
    assert np.all(np.abs(got - want)[finite] <= np.broadcast_to(bound, got.shape)[finite])


def assert_same_bits(got, want):
    assert all(np.array_equal(g, w, equal_nan=True) for g, w in zip(got, want, strict=True))


losses = pytest.mark.parametrize("loss", SOFTMAX, ids=lambda f: f.__name__)


@losses
@LAW
@given(softmax_calls(), st.sampled_from([-(2.0**20), -1024.0, 64.0, 2.0**26]))
def test_a_common_shift_changes_nothing(loss, call, shift):
    """The logits are first rounded so that adding the shift is exact."""
    assume(not call.keys() & {"softcap", "z_loss"})
    grid = 2.0**-20
    logits = np.round(call.pop("logits") / grid) * grid
    want = value_and_grad(loss, logits=logits, **call)
    assert_same_bits(value_and_grad(loss, logits=logits + shift, **call), want)


@losses
@LAW
@given(softmax_calls(), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(loss, call, random):
    classes = call["logits"].shape[1]
    order = np.array(random.sample(range(classes), classes))
    rank = np.argsort(order)
    want, gradient = value_and_grad(loss, **call)
    permuted = {**call, "logits": call["logits"][:, order], "labels": rank[call["labels"]]}
    if "class_weight" in call:
        permuted["class_weight"] = call["class_weight"][order]
    if "ignore_index" in call:
        permuted["ignore_index"] = int(rank[call["ignore_index"]])
    got, moved = value_and_grad(loss, **permuted)
    assert_close(got, want, 64 * EPS)  # sums in another order
    assert_close(moved, gradient[:, order], 64 * EPS)


NEUTRAL = {
    "label_smoothing": 0.0,
    "temperature": 1.0,
    "softcap": None,
    "z_loss": 0.0,
    "class_weight": None,
    "sample_weight": None,
    "ignore_index": None,
}


@losses
@LAW
@given(softmax_calls())
def test_the_neutral_value_of_an_option_leaves_the_bits(loss, call):
    want = value_and_grad(loss, **call)
    for option, neutral in NEUTRAL.items():
        if option not in call:
            assert_same_bits(value_and_grad(loss, **call, **{option: neutral}), want)


@LAW
@given(softmax_calls())
def test_limits_in_which_losses_are_the_cross_entropy(call):
    want = value_and_grad(xe.softmax_cross_entropy, **call)
    for loss, own in (
        (xe.focal_loss, {"gamma": 0.0}),
        (xe.generalized_cross_entropy, {"q": 0.0}),
        (xe.poly_loss, {"epsilon": 0.0}),
    ):
        assert_same_bits(value_and_grad(loss, **call, **own), want)


@LAW
@given(problems())
def test_generalized_cross_entropy_tends_to_the_cross_entropy(problem):
    """(1 - p^q) / q = u - q u^2 / 2 + ...: linear in q."""
    logits, ids = problem
    rows = {"logits": logits, "labels": ids, "reduction": "none"}
    u = xe.softmax_cross_entropy(**rows)
    for q in (1e-6, 1e-9):
        gap = u - xe.generalized_cross_entropy(**rows, q=q)
        assert_close(gap, q * u**2 / 2, 1e-4 + 8 * EPS / q, scale=q)


@losses
@LAW
@given(softmax_calls())
def test_each_row_of_the_gradient_sums_to_zero(loss, call):
    """A common shift is no direction of any loss but the z-loss (and the softcap bends it)."""
    assume(not call.keys() & {"z_loss", "softcap"})
    _, gradient = value_and_grad(loss, **call, reduction="none")
    sizes = np.abs(gradient).sum(axis=1)
    # Subnormal weights round to whole multiples of the smallest number.
    assert np.all(np.abs(gradient.sum(axis=1)) <= 64 * EPS * sizes + 64 * 5e-324)


@LAW
@given(arrays(np.float64, (3, 2), elements=st.floats(-300, 300)), st.floats(0, 1))
def test_softmax_of_two_classes_is_the_sigmoid_of_their_difference(logits, label):
    """b - a is made exact by rounding both to multiples of 2^-20."""
    logits = np.round(logits * 2**20) / 2**20
    labels = np.tile([1 - label, label], (3, 1))
    assume(1 - label + label == 1)
    both, pull = value_and_grad(
        xe.softmax_cross_entropy, logits=logits, labels=labels, reduction="none"
    )
    one, binary = value_and_grad(
        xe.sigmoid_cross_entropy,
        logits=logits[:, 1] - logits[:, 0],
        labels=np.full(3, label),
        reduction="none",
    )
    assert_close(both, one, 8 * EPS, scale=0)
    assert_close(pull[:, 1], binary, 8 * EPS, scale=0.0 if label in (0, 1) else 1.0)


@LAW
@given(arrays(np.float64, 4, elements=st.floats(-300, 300)))
def test_binary_focal_loss_of_gamma_0_is_the_cross_entropy(logits):
    labels = np.array([0, 1, 0.25, 1])
    call = {"logits": logits, "labels": labels, "pos_weight": 3.0}
    want = value_and_grad(xe.sigmoid_cross_entropy, **call)
    got = value_and_grad(xe.binary_focal_loss, **call, gamma=0.0)
    assert_close(got[0], want[0], 8 * EPS)
    assert_close(got[1], want[1], 8 * EPS)


def split(call, cuts):
    """The call on each micro-batch; weights of the rows are cut along."""
    edges = [0, *cuts, len(call["labels"])]
    for start, stop in itertools.pairwise(edges):
        rows = {k: call[k][start:stop] for k in ("logits", "labels", "sample_weight") if k in call}
        yield {**call, **rows}


@losses
@LAW
@given(softmax_calls(max_rows=9), st.lists(st.integers(0, 9), max_size=3), st.booleans())
def test_micro_batches_with_a_common_normalizer_are_the_whole(loss, call, cuts, all_rows):
    """The split may leave micro-batches empty or with ignored rows only."""
    reduction = "mean_all" if all_rows else "mean"
    labels = ("labels", "class_weight", "sample_weight", "ignore_index")
    cuts = sorted(min(cut, len(call["labels"])) for cut in cuts)
    total = sum(
        xe.label_weight(**{k: part[k] for k in labels if k in part}, reduction=reduction)
        for part in split(call, cuts)
    )
    want, gradient = value_and_grad(loss, **call, reduction=reduction)
    parts = [
        value_and_grad(loss, **part, reduction="sum", normalizer=total)
        for part in split(call, cuts)
    ]
    assert_close(sum(value for value, _ in parts), want, 1e-12)
    assert_close(np.concatenate([g for _, g in parts]), gradient, 1e-12)


def test_an_ignored_micro_batch_adds_nothing():
    logits = np.array([[1.0, 2.0, 0.5], [np.nan, 0.0, 1.0], [np.inf, 0.0, 1.0], [0.25, 0.0, 3.0]])
    call = {"logits": logits, "labels": np.array([0, -1, -1, 2]), "ignore_index": -1}
    want, gradient = value_and_grad(xe.softmax_cross_entropy, **call)
    total = xe.label_weight(labels=call["labels"], ignore_index=-1)
    parts = [
        value_and_grad(xe.softmax_cross_entropy, **part, reduction="sum", normalizer=total)
        for part in split(call, [1, 3])
    ]
    assert parts[1][0] == 0
    assert not parts[1][1].any()
    assert_close(sum(value for value, _ in parts), want, 1e-12)
    assert_close(np.concatenate([g for _, g in parts]), gradient, 1e-12)


@losses
@LAW
@given(softmax_calls(max_rows=9))
def test_a_row_does_not_depend_on_its_batch(loss, call):
    want = value_and_grad(loss, **call, reduction="none")
    cuts = range(1, len(call["labels"]))
    parts = [value_and_grad(loss, **part, reduction="none") for part in split(call, cuts)]
    assert_same_bits([np.concatenate(p) for p in zip(*parts, strict=True)], want)


@pytest.mark.parametrize("loss", SIGMOID, ids=lambda f: f.__name__)
@LAW
@given(arrays(np.float64, (4, 3), elements=st.floats(-300, 300)), st.integers(0, 4))
def test_an_element_does_not_depend_on_its_batch(loss, logits, cut):
    labels = np.resize([0, 1, 0.25, 1, 0], (4, 3))
    whole = value_and_grad(loss, logits=logits, labels=labels, reduction="none")
    parts = [
        value_and_grad(loss, logits=x, labels=z, reduction="none")
        for x, z in zip(np.split(logits, [cut]), np.split(labels, [cut]), strict=True)
    ]
    assert_same_bits([np.concatenate(p) for p in zip(*parts, strict=True)], whole)


@losses
@LAW
@given(softmax_calls())
def test_class_ids_are_one_hot_distributions(loss, call):
    assume("ignore_index" not in call)
    one_hot = {**call, "labels": np.eye(call["logits"].shape[1])[call["labels"]]}
    assert_same_bits(value_and_grad(loss, **one_hot), value_and_grad(loss, **call))


@losses
@LAW
@given(softmax_calls(), st.sampled_from([0, -2]))
def test_the_class_axis_may_be_anywhere(loss, call, axis):
    want, gradient = value_and_grad(loss, **call)
    moved = {**call, "logits": np.moveaxis(call["logits"], -1, axis), "axis": axis}
    got, pull = value_and_grad(loss, **moved)
    assert_same_bits([got, np.moveaxis(pull, axis, -1)], [want, gradient])


@LAW
@given(problems(), st.randoms(use_true_random=False))
def test_divergence_is_cross_entropy_less_entropy(problem, random):
    logits, _ = problem
    q = np.array([random.choices(range(1, 64), k=logits.shape[1]) for _ in logits], float)
    q[logits == -np.inf] = 0
    q /= q.sum(axis=1, keepdims=True)
    divergence = xe.kl_divergence(labels=q, logits=logits)
    cross, own = xe.cross_entropy(labels=q, logits=logits), xe.entropy(probs=q)
    assert_close(divergence, cross - own, 64 * EPS, scale=np.abs(cross).max() + 1)
    assert np.all(divergence >= 0)
    assert np.all(cross >= own - 8 * EPS * (1 + own))
    bits = xe.kl_divergence(labels=q, logits=logits, unit="bits")
    assert_close(bits * np.log(2), divergence, 4 * EPS)
    assert_same_bits(
        [value_and_grad(xe.kl_divergence, labels=q, logits=logits)[1]],
        [value_and_grad(xe.cross_entropy, labels=q, logits=logits)[1]],
    )


@LAW
@given(problems())
def test_a_prediction_is_its_own_best_label(problem):
    logits, _ = problem
    p = xe.softmax(logits)
    assert_close(xe.cross_entropy(labels=p, logits=logits), xe.entropy(logits=logits), 64 * EPS)
    assert_close(xe.kl_divergence(labels=p, logits=logits), np.zeros(len(p)), 64 * EPS)


@LAW
@given(arrays(np.float64, 5, elements=st.floats(-30, 30)))
def test_activations_and_their_inverses(x):
    p = xe.sigmoid(x)
    # 1 - p loses digits as p -> 1: one ulp of p is exp(x) ulps of x there.
    assert_close(xe.logit(p), x, 4 * EPS * np.exp(np.abs(x)).max() + 4 * EPS)
    assert_close(xe.sigmoid(-x), 1 - p, 2 * EPS)
    assert_close(xe.odds(p), np.exp(x), 8 * EPS * np.exp(np.abs(x)).max())
    assert_close(np.exp(xe.log_sigmoid(x)), p, 64 * EPS)
    assert_close(np.exp(xe.log_softmax(x)), xe.softmax(x), 64 * EPS)
    assert_close(xe.log_softmax(x), x - xe.log_sum_exp(x), 8 * EPS, scale=100)
    assert_close(xe.softmax(x).sum(), 1.0, 8 * EPS)
