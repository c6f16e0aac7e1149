"""The same problem written in another way, by class ids or one-hot rows, in any integer dtype, any
memory layout, any class axis, gives the same bits."""

import numpy as np
import pytest
import regimes
from regimes import DTYPES, dtype_of
from test_contract import SOFTMAX, differentiable, matrix, option_pairs, own_dtype, variants

import crossent


def bits(result):
    """The bytes of value and gradient; every NaN counts as the same one."""
    return tuple(np.where(np.isnan(a), a.dtype.type(np.nan), a).tobytes() for a in result)


def result_of(library, name, wrt="logits", **call):
    loss = getattr(crossent, name)
    return bits(getattr(crossent, library).value_and_grad(loss, wrt=wrt, **call))


ONE_HOT_DTYPES = [bool, np.int8, np.uint8, np.int64, np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_one_hot_labels_give_the_bits_of_their_ids(library, name, dtype):
    for regime in regimes.SOFTMAX:
        logits, ids = regimes.softmax_case(regime, dtype_of(dtype))
        one_hot = np.eye(logits.shape[1])[ids]
        if logits.shape[1] == 1:
            continue  # one class: integers of the scores' shape are ids
        for own in variants(name):
            call = {"logits": logits, "reduction": "none", **own}
            want = result_of(library, name, labels=ids, **call)
            for label_dtype in ONE_HOT_DTYPES if regime == "random" else [np.float64]:
                labels = one_hot.astype(label_dtype)
                assert result_of(library, name, labels=labels, **call) == want, (regime, own)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_one_hot_labels_give_the_bits_of_their_ids_with_every_option(library, name, dtype):
    logits = regimes.random_rows(3, 4)[0]
    logits[1, 2] = -np.inf
    one_hot = np.eye(4)[[0, 1, 3]]
    for pair in option_pairs(name):
        if "ignore_index" in pair:
            continue
        call = {"logits": logits.astype(dtype), **own_dtype(pair, dtype_of(dtype))}
        for wrt in differentiable(call):
            want = result_of(library, name, wrt, labels=[0, 1, 3], **call)
            assert result_of(library, name, wrt, labels=one_hot, **call) == want, (pair, wrt)


@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_every_kind_of_class_id(library, name):
    logits, ids = regimes.random_rows(4, 2)
    want = result_of(library, name, labels=ids, logits=logits)
    integers = [np.dtype(k + str(n)) for k in "iu" for n in (1, 2, 4, 8)]
    kinds = [ids.astype(d) for d in (*integers, ">i4", np.float16, np.float32, np.float64, bool)]
    for labels in (*kinds, ids[:, None], ids.tolist(), np.repeat(ids, 2)[::2]):
        assert result_of(library, name, labels=labels, logits=logits) == want, labels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_any_layout_and_class_axis_give_the_same_bits(library, name, dtype):
    """A row's bits depend on the row alone."""
    logits = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(dtype_of(dtype))
    ids = np.array([[0, 4, 2], [1, 1, 3]])
    soft = regimes.distribution(6, 5, np.float32).reshape(2, 3, 5)
    for labels in (ids, soft):
        call = {"reduction": "none", "label_smoothing": 0.1}
        want = result_of(library, name, labels=labels, logits=logits, **call)
        padded = np.zeros((2, 6, 10), logits.dtype)
        padded[:, ::2, ::-2] = logits
        for view in (padded[:, ::2, ::-2], np.asfortranarray(logits)):
            assert result_of(library, name, labels=labels, logits=view, **call) == want
        for axis in (0, 1, -2):
            moved = np.moveaxis(logits, -1, axis)
            to = np.moveaxis(soft, -1, axis) if labels is soft else labels
            value, gradient = getattr(crossent, library).value_and_grad(
                getattr(crossent, name), labels=to, logits=moved, axis=axis, **call
            )
            assert bits((value, np.moveaxis(gradient, axis, -1))) == want
