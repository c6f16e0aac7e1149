"""Corners of the contract in every library and every way of running it: nothing to add up, rows
without a softmax, labels that are none, other axes and dtypes, libraries mixed, batches split."""

import inspect
import itertools

import numpy as np
import pytest
import regimes
from frontends import MODES, front_end
from test_contract import (
    ARGUMENTS,
    LOSSES,
    REDUCTIONS,
    SIGMOID,
    SOFTMAX,
    assert_agrees,
    assert_contract,
    exact_of,
)
from test_contract_libraries import WAYS, turns

import crossent
from crossent.errors import ArgumentError, LabelError

NAN, INF = np.nan, np.inf
LIBRARIES = ["torch", "jax", "tensorflow"]


def score_of(name):
    return "predictions" if name == "mean_squared_error" else "logits"


@pytest.mark.parametrize(("way", "name"), list(turns(LOSSES, every=4)))
def test_nothing_kept_is_zero_with_gradient_zero(way, name):
    """Every reduction of rows without weight, of ignored rows and of no rows, in one program."""
    loss, scores = getattr(crossent, name), score_of(name)

    def total(labels, ignored, weight, **call):
        x, result = call[scores], 0.0
        for reduction in REDUCTIONS:
            options = {"reduction": reduction}
            result = result + loss(labels=labels, sample_weight=weight, **call, **options)
            if "ignore_index" in ARGUMENTS[name]:
                result = result + loss(labels=ignored, ignore_index=-100, **call, **options)
            if reduction != "none":
                result = result + loss(labels=labels[:0], **{scores: x[:0]}, **options)
        return result

    labels = np.array([0, 2]) if name in SOFTMAX else np.ones((2, 3), np.float32)
    call = {
        "labels": labels,
        "ignored": np.full_like(labels, -100),
        "weight": np.zeros(2, np.float32),
        scores: np.array([[NAN, 0.0, 1.0], [INF, 2.0, -INF]], np.float32),
    }
    upstream = np.ones(2 if name in SOFTMAX else (2, 3), np.float32)
    value, gradient = front_end(way).value_and_grad(total, scores, upstream, **call)
    assert not np.any(value)
    assert not np.any(gradient)
    assert gradient.shape == (2, 3)


# Sound rows, and rows that do not count: NaN and all -inf ignored, +inf and NaN with weight 0.
LOGITS = np.array(
    [
        [0.5, -1, 2, 0.25],
        [NAN, 0, 1, 2],
        [INF, 0, 1, 2],
        [-INF, 1, 0.5, -INF],
        [-INF, -INF, -INF, -INF],
        [3, 1, NAN, 2],
        [0, 1, 0, -2],
    ]
)
IDS = np.array([2, -100, 1, 1, -100, 3, 0])
WEIGHTS = np.array([1.5, 1, 0, 2, 1, 0, 0.25])
INVALID_IDS = np.array([-1, 4, 2**31 - 1, -(2**31)])
INVALID_ROWS = regimes.random_rows(4, 4)[0]


def softmax_corners(dtype):
    return {
        "labels": IDS,
        "logits": LOGITS.astype(dtype),
        "sample_weight": WEIGHTS.astype(dtype),
        "ignore_index": -100,
    }


@pytest.mark.parametrize(("way", "name"), list(turns(SOFTMAX, every=4)))
def test_rows_that_do_not_count_and_invalid_ids(way, name):
    """Invalid ids are an error, or, compiled, NaN rows that leave the others alone."""
    runs, loss = front_end(way), getattr(crossent, name)
    call = softmax_corners(np.float32) | {"reduction": "none"}
    upstream = np.array([1, -2, 0.5, 1, 1, 2, -1])
    exact = exact_of(name, wrt="logits", upstream=upstream, **call)
    added = INVALID_ROWS.astype(np.float32)
    longer = call | {
        "labels": np.append(IDS, INVALID_IDS),
        "logits": np.append(call["logits"], added, axis=0),
        "sample_weight": np.append(call["sample_weight"], np.ones(4, np.float32)),
    }
    upstream_too = np.append(upstream, np.ones(4))
    if runs.is_compiled:
        value, gradient = runs.value_and_grad(loss, "logits", upstream_too, **longer)
        assert np.isnan(value[7:]).all()
        assert np.isnan(gradient[7:]).all()
        value, gradient = value[:7], gradient[:7]
    else:
        with pytest.raises(LabelError, match="-1 at row 7, 4 at row 8"):
            runs.value(loss, **longer)
        value, gradient = runs.value_and_grad(loss, "logits", upstream, **call)
        assert_contract(way, name, **softmax_corners(np.float32))  # and their mean
    assert_agrees(runs, name, "logits", call, exact, value, gradient)
    assert not gradient[[1, 2, 4, 5]].any()


@pytest.mark.parametrize(("way", "name"), list(turns(SOFTMAX[:2])))
def test_the_mean_leaves_out_rows_that_do_not_count(way, name):
    assert_contract(way, name, **softmax_corners(np.float32))


@pytest.mark.parametrize(("way", "name"), list(turns(SOFTMAX, every=4)))
def test_labels_that_are_no_distribution(way, name):
    runs, loss = front_end(way), getattr(crossent, name)
    labels = np.array([[0.5, 0.5, 0], [0.75, 0.75, 0], [1.5, -0.5, 0], [NAN, 1, 0]], np.float32)
    call = {"logits": regimes.random_rows(4, 3)[0].astype(np.float32), "reduction": "none"}
    if not runs.is_compiled:
        with pytest.raises(LabelError):
            runs.value(loss, labels=labels, **call)
        return
    value, gradient = runs.value_and_grad(loss, "logits", np.ones(4), labels=labels, **call)
    assert np.isnan(value).tolist() == [False, True, True, True]
    assert np.isnan(gradient).all(axis=1).tolist() == [False, True, True, True]
    first = {"logits": call["logits"][:1], "labels": labels[:1], "reduction": "none"}
    exact = exact_of(name, wrt="logits", upstream=np.ones(1), **first)
    assert_agrees(runs, name, "logits", first, exact, value[:1], gradient[:1])


@pytest.mark.parametrize(("way", "name"), list(turns(SIGMOID)))
def test_elements_that_do_not_count_and_invalid_labels(way, name):
    runs, loss = front_end(way), getattr(crossent, name)
    call = {
        "labels": np.array([1, -1, 0.25, 1, 0], np.float32),
        "logits": np.array([0.5, NAN, -2, NAN, INF], np.float32),
        "sample_weight": np.array([1, 1, 2, 0, 0], np.float32),
        "ignore_index": -1,
        "reduction": "none",
    }
    upstream = np.array([1, -2, 0.5, 1, 1])
    exact = exact_of(name, wrt="logits", upstream=upstream, **call)
    longer = call | {
        "labels": np.append(call["labels"], np.array([1.5, NAN], np.float32)),
        "logits": np.append(call["logits"], np.array([0.5, 1], np.float32)),
        "sample_weight": np.append(call["sample_weight"], np.ones(2, np.float32)),
    }
    if runs.is_compiled:
        value, gradient = runs.value_and_grad(loss, "logits", np.append(upstream, [1, 1]), **longer)
        assert np.isnan(value[5:]).all()
        assert np.isnan(gradient[5:]).all()
        value, gradient = value[:5], gradient[:5]
    else:
        with pytest.raises(LabelError, match=r"1\.5 at row 5"):
            runs.value(loss, **longer)
        value, gradient = runs.value_and_grad(loss, "logits", upstream, **call)
    assert_agrees(runs, name, "logits", call, exact, value, gradient)
    assert not gradient[[1, 3, 4]].any()


@pytest.mark.parametrize(("way", "name"), list(turns(SOFTMAX, every=4)))
def test_class_axis_1_and_one_hot_labels(way, name):
    logits = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
    ids = np.array([[0, 3, 1], [2, 2, 0]])
    one_hot = np.moveaxis(np.eye(4, dtype=np.int8)[ids], -1, 1)
    assert_contract(way, name, labels=one_hot, logits=logits, axis=1)
    if name == "softmax_cross_entropy":
        assert_contract(way, name, labels=ids, logits=logits, axis=1)


@pytest.mark.parametrize("way", WAYS)
def test_one_class_costs_nothing(way):
    call = {"labels": np.zeros(3, int), "logits": np.array([[0.5], [-3], [1e4]], np.float32)}
    for options in ({"softcap": 5.0}, {"label_smoothing": 0.5}):
        value, gradient = front_end(way).value_and_grad(
            crossent.softmax_cross_entropy, **call, **options
        )
        assert not value
        assert not gradient.any()


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize(("way", "name"), list(turns(SOFTMAX[:2])))
def test_class_ids_of_every_integer_dtype(way, name):
    """Their sum is that of as many calls with int64."""
    runs, loss = front_end(way), getattr(crossent, name)
    logits, ids = regimes.random_rows(4, 5)

    def total(logits, **labels):
        return sum(loss(labels=label, logits=logits, ignore_index=4) for label in labels.values())

    logits = logits.astype(np.float32)
    call = {dtype: ids.astype(dtype) for dtype in INTEGERS}
    value, gradient = runs.value_and_grad(total, logits=logits, **call)
    want, slope = runs.value_and_grad(total, logits=logits, int64=ids)
    np.testing.assert_allclose(value, 8 * want, rtol=1e-6)
    np.testing.assert_allclose(gradient, 8 * slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("way", "name"), list(turns(SOFTMAX, every=4)))
def test_any_split_into_micro_batches_is_the_one_batch(way, name):
    """Added up over the label weight of all; one micro-batch is all ignored, one has one row."""
    runs, loss = front_end(way), getattr(crossent, name)
    dtype = np.float64 if runs.has(np.float64) else np.float32
    logits = regimes.random_rows(8, 5)[0].astype(dtype)
    call = {
        "labels": np.array([0, 4, -1, -1, 2, -1, 1, 3]),
        "logits": logits,
        "class_weight": np.array([0.5, 2, 1, 0.25, 1.5], dtype),
        "sample_weight": np.array([1, 0.5, 2, 1, 0, 1, 1, 3], dtype),
    }

    def accumulated(labels, logits, class_weight, sample_weight):
        ignored = {"ignore_index": -1, "class_weight": class_weight}
        normalizer = crossent.label_weight(labels=labels, sample_weight=sample_weight, **ignored)
        total = 0.0
        for start, stop in ((0, 1), (1, 2), (2, 4), (4, 8)):
            part = slice(start, stop)
            total = total + loss(
                labels=labels[part],
                logits=logits[part],
                sample_weight=sample_weight[part],
                reduction="sum",
                normalizer=normalizer,
                **ignored,
            )
        return total

    want = runs.value_and_grad(loss, ignore_index=-1, **call)
    got = runs.value_and_grad(accumulated, **call)
    for one, other in zip(want, got, strict=True):
        tolerance = 1e-12 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(["numpy", *LIBRARIES], 2)))
def test_two_libraries_in_one_call(one, other):
    """An error that names both; but NumPy's arrays go with JAX's and TensorFlow's."""
    labels = front_end(one).tensor(np.array([0, 1]))
    logits = front_end(other).tensor(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
    if "numpy" in (one, other) and "torch" not in (one, other):
        value = crossent.softmax_cross_entropy(labels=labels, logits=logits)
        assert type(value).__module__.partition(".")[0] not in ("numpy", "builtins")
        assert float(value) == pytest.approx(0.813262, rel=1e-6)
        return
    with pytest.raises(ArgumentError) as raised:
        crossent.softmax_cross_entropy(labels=labels, logits=logits)
    assert one in str(raised.value)
    assert other in str(raised.value)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("library", [*LIBRARIES, "torch-compiled"])
def test_lists_and_python_numbers_beside_tensors(library, name):
    runs, loss, scores = front_end(library), getattr(crossent, name), score_of(name)
    x = np.array([[0.5, -1, 2], [0, 1, -2]], np.float32)
    labels = [2, 0] if name in SOFTMAX else [[0, 1, 1], [1.0, 0, 0.25]]
    call = {"labels": labels, "sample_weight": [0.1, 2.0], "normalizer": 2}
    if "class_weight" in ARGUMENTS[name]:
        call["class_weight"] = [0.5, 1, 2]
    if "pos_weight" in ARGUMENTS[name]:
        call["pos_weight"] = 3
    value, gradient = runs.value_and_grad(loss, scores, **{scores: x}, **call)
    arrays = {k: np.asarray(v, np.float32 if k != "labels" else None) for k, v in call.items()}
    want, slope = runs.value_and_grad(loss, scores, **{scores: x}, **arrays)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6)


def test_every_way_is_tried():
    """All but machine code by inductor, which test_contract_libraries.py tries on its own."""
    assert set(WAYS) == MODES.keys() - {"numpy", "torch-inductor"}
    assert all(inspect.isclass(way) for way in MODES.values())
