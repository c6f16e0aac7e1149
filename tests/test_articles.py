"""The snippets and numbers of well-known articles on these losses, as their readers run them.

Where an article is wrong, the true number stands here and the article's beside it in a comment.
"""

import math

import numpy as np
import pytest

import crossent as xe
import crossent.tf_compat as tf
import crossent.tf_compat.compat.v1 as tf1
from crossent.numpy import value_and_grad

ONE_HOT_AND_SIGNED = np.array([[1, 0], [1, -1], [0, 1], [-1, 1]], np.float32)
CONFIDENT = [[10.0, -10.0]] * 4


def assert_numbers(actual, expected):
    """Equal to all the digits that the articles print, six after the point."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-7)


# ---- TensorFlow's four functions


def test_sigmoid_labels_need_not_be_probabilities():
    losses = tf.nn.sigmoid_cross_entropy_with_logits(
        logits=[5.0, 5.0, 5.0], labels=[1.0, 0.0, -1.0]
    )
    np.testing.assert_allclose(losses, [0.006715, 5.006715, 10.006715], rtol=0, atol=1e-6)


def test_softmax_labels_need_not_be_probabilities():
    logits = [[-1.0, 1.0]]
    signed = tf.nn.softmax_cross_entropy_with_logits(labels=[[1.0, -1.0]], logits=logits)
    one_hot = tf.nn.softmax_cross_entropy_with_logits(labels=[[1.0, 0.0]], logits=logits)
    assert_numbers(signed, [2.0])
    assert_numbers(one_hot, [2.126928])  # an article prints 2.137


@pytest.mark.parametrize("module", [tf, tf1])
def test_softmax_v2_on_four_kinds_of_labels(module):
    losses = module.nn.softmax_cross_entropy_with_logits_v2(
        labels=ONE_HOT_AND_SIGNED, logits=CONFIDENT
    )
    # TensorFlow returns 0 for the first; its true value is log(1 + exp(-20)).
    np.testing.assert_allclose(losses, [2.0611536e-9, -20.0, 20.0, 20.0], rtol=1e-6)


def test_the_sparse_op_refuses_argmax_without_its_axis():
    with pytest.raises(ValueError, match="axis=1"):
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=np.argmax(ONE_HOT_AND_SIGNED), logits=CONFIDENT
        )


def test_the_sparse_op_takes_argmax_of_each_row():
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=np.argmax(ONE_HOT_AND_SIGNED, axis=1), logits=CONFIDENT
    )
    assert_numbers(losses, [0, 0, 20, 20])


def test_one_hot_0010_is_class_2():
    labels, logits = [[0.0, 0.0, 1.0, 0.0]], [[0.1, 0.7, -0.4, 1.5]]
    dense = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    sparse = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2], logits=logits)
    assert np.argmax(labels, axis=1) == [2]
    np.testing.assert_array_equal(dense, sparse)
    np.testing.assert_array_equal(tf.one_hot([2], 4), labels)


def test_the_first_softmax_stops_the_labels_and_the_second_does_not():
    arguments = {"labels": np.array([[0.3, 0.7]]), "logits": np.array([[2.0, 0.0]])}
    both = ["labels", "logits"]
    with pytest.warns(DeprecationWarning, match="_v2"):
        first, (stopped, by_logits) = value_and_grad(
            tf1.nn.softmax_cross_entropy_with_logits, wrt=both, **arguments
        )
    second, (free, by_logits_too) = value_and_grad(
        tf1.nn.softmax_cross_entropy_with_logits_v2, wrt=both, **arguments
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(by_logits, by_logits_too)
    assert_numbers(stopped, [[0, 0]])
    assert_numbers(free, [[0.126928, 2.126928]])


# ---- softmax and information


def test_softmax_of_large_integers():
    scores = np.array([123, 456, 789])
    np.testing.assert_allclose(xe.softmax(scores), [0, 0, 1], atol=1e-100)
    losses = xe.cross_entropy(labels=[0, 1, 2], logits=np.tile(scores, (3, 1)))
    np.testing.assert_allclose(losses, [666, 333, 0], atol=1e-100)


def test_32_equal_teams_are_5_bits_and_any_others_less():
    assert xe.entropy(probs=np.full(32, 1 / 32), unit="bits") == pytest.approx(5, abs=1e-12)
    unequal = np.random.default_rng(0).dirichlet(np.ones(32), size=100)
    assert (xe.entropy(probs=unequal, unit="bits") < 5).all()


def test_cross_entropy_is_least_at_the_distribution_itself():
    p, q = np.random.default_rng(1).dirichlet(np.ones(5), size=(2, 100))
    own = xe.entropy(probs=p)
    assert (xe.cross_entropy(labels=p, probs=q) > own).all()
    np.testing.assert_allclose(xe.cross_entropy(labels=p, probs=p), own, rtol=1e-14)


def test_kl_is_cross_entropy_less_entropy_and_has_its_gradient():
    p, q = np.random.default_rng(2).dirichlet(np.ones(5), size=(2, 100))
    crossed, by_crossed = value_and_grad(xe.cross_entropy, wrt="probs", labels=p, probs=q)
    divergence, by_divergence = value_and_grad(xe.kl_divergence, wrt="probs", labels=p, probs=q)
    np.testing.assert_allclose(divergence, crossed - xe.entropy(probs=p), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(by_divergence, by_crossed, rtol=1e-14)


def test_two_classes_are_one_sigmoid():
    a, b = np.random.default_rng(3).normal(0, 5, (2, 100))
    softmax = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=np.ones(100, np.int32), logits=np.stack([a, b], axis=1)
    )
    sigmoid = tf.nn.sigmoid_cross_entropy_with_logits(labels=np.ones(100), logits=b - a)
    np.testing.assert_allclose(softmax, sigmoid, rtol=1e-12)


def test_an_even_label_on_equal_logits_is_ln_2():
    loss = tf.nn.softmax_cross_entropy_with_logits(labels=[[0.5, 0.5]], logits=[[3.0, 3.0]])
    np.testing.assert_allclose(loss, [math.log(2)], rtol=1e-7)


# ---- Keras


Y_TRUE = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
Y_PRED = [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]]
BINARY = {"y_true": [[0.0, 1.0, 0.0, 0.0]], "y_pred": [[-18.6, 0.51, 2.94, -12.8]]}

KERAS = pytest.mark.parametrize("keras", [tf.keras, tf1.keras], ids=["keras3", "keras2"])


@KERAS
def test_categorical_cross_entropy(keras):
    assert_numbers(keras.losses.CategoricalCrossentropy()(Y_TRUE, Y_PRED), 1.176939)
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)(Y_TRUE, Y_PRED)
    assert_numbers(smoothed, 1.459136)


@KERAS
def test_a_probability_of_0_counts_as_1e_7(keras):
    # An article says 1e-6.
    loss = keras.losses.categorical_crossentropy([[1.0, 0.0]], [[0.0, 1.0]])
    np.testing.assert_allclose(loss, [-math.log(1e-7)], rtol=1e-6)


@KERAS
def test_binary_cross_entropy_from_logits(keras):
    assert_numbers(keras.losses.BinaryCrossentropy(from_logits=True)(**BINARY), 0.865458)
    loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    assert_numbers(loss(**BINARY), 1.227583)


# ---- the weighted loss, and why not squared error


def test_the_weighted_loss_in_its_textbook_and_its_stable_form():
    x = np.linspace(-20, 20, 41)
    for q in (0.5, 1.0, 3.0):
        for z in (0.0, 0.3, 1.0):
            loss = tf.nn.weighted_cross_entropy_with_logits(np.full_like(x, z), x, q)
            sigmoid = 1 / (1 + np.exp(-x))
            textbook = q * z * -np.log(sigmoid) + (1 - z) * -np.log(1 - sigmoid)
            weight = 1 + (q - 1) * z
            tail = np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0)
            stable = (1 - z) * x + weight * tail
            np.testing.assert_allclose(loss, stable, rtol=1e-12, atol=1e-14)
            # 1 - sigmoid has 7 digits left at x = 20.
            np.testing.assert_allclose(loss, textbook, rtol=1e-7)


def test_squared_error_on_a_sigmoid_stops_learning_where_it_is_wrong():
    _, by_cross_entropy = value_and_grad(
        tf.nn.sigmoid_cross_entropy_with_logits, labels=[1.0], logits=[-10.0]
    )

    def squared_error(logits):
        return (tf.sigmoid(logits) - 1.0) ** 2

    _, by_squared_error = value_and_grad(squared_error, logits=[-10.0])
    np.testing.assert_allclose(by_cross_entropy, [-0.99995], atol=5e-6)
    np.testing.assert_allclose(by_squared_error, [-9.08e-5], atol=5e-8)
