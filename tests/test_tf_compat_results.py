"""What tf_compat computes beyond the golden cases: edges, collections, means, casts, dtypes."""

import doctest
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import crossent.tf_compat as tf
import crossent.tf_compat.compat.v1 as tf1
from crossent.errors import MissingLibraryError
from crossent.numpy import value_and_grad
from crossent.tf_compat._distribute import replica_count

# ---- losses


def test_the_gradient_of_a_confident_label_keeps_its_digits():
    # TensorFlow returns 0: p rounds to 1. The true entry is -exp(-60) / (1 + exp(-60)).
    _, gradient = value_and_grad(
        tf.nn.softmax_cross_entropy_with_logits,
        labels=np.array([[1.0, 0.0]], np.float32),
        logits=np.array([[60.0, 0.0]], np.float32),
    )
    np.testing.assert_allclose(gradient[0, 0], -np.exp(-60.0), rtol=1e-6)


def test_the_second_derivative_of_the_weighted_loss_is_right_at_0():
    def slope(logits):
        _, gradient = value_and_grad(
            tf.nn.weighted_cross_entropy_with_logits,
            labels=np.array([1.0, 0.0, 0.5]),
            logits=logits,
            pos_weight=2.0,
        )
        return gradient.sum()

    _, second = value_and_grad(slope, logits=np.zeros(3))
    np.testing.assert_allclose(second, [0.5, 0.25, 0.375])  # (1 + (q - 1) z) / 4; TensorFlow: 0


def test_labels_that_stand_for_all_rows_receive_the_sum_of_their_gradients():
    logits = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 0.0]])
    for labels in (np.array([[0.2, 0.3, 0.5]]), np.array([0.2, 0.3, 0.5])):
        _, gradient = value_and_grad(
            tf.nn.softmax_cross_entropy_with_logits, wrt="labels", labels=labels, logits=logits
        )
        expected = -tf.nn.log_softmax(logits).sum(axis=0)
        np.testing.assert_allclose(gradient, expected.reshape(labels.shape))


def test_shapes_with_the_same_rows_and_classes_meet_row_by_row():
    # TensorFlow's kernel sees only the flattened rows.
    generator = np.random.default_rng(4)
    labels, logits = generator.random((3, 2, 4)), generator.random((2, 3, 4))
    losses = tf.nn.softmax_cross_entropy_with_logits(labels, logits)
    flat = tf.nn.softmax_cross_entropy_with_logits(labels.reshape(6, 4), logits.reshape(6, 4))
    assert losses.shape == (2, 3)
    np.testing.assert_array_equal(losses.ravel(), flat)


def test_logits_of_one_column_stand_for_all_classes_of_the_labels():
    losses = tf.nn.softmax_cross_entropy_with_logits(np.ones((2, 4)) / 4, np.zeros((2, 1)))
    np.testing.assert_allclose(losses, np.log([4.0, 4.0]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.bool_, np.int64])
def test_integer_labels_do_not_overflow(dtype):
    counts = np.array([[100, 90, 80]]).astype(dtype)
    arguments = {"logits": np.array([[9.0, 1.0, -2.0]])}
    function = tf.nn.softmax_cross_entropy_with_logits
    value, gradient = value_and_grad(function, labels=counts, **arguments)
    expected, slope = value_and_grad(function, labels=counts.astype(np.float64), **arguments)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, slope)


def test_losses_beyond_float16_are_infinite():
    labels = np.array([[0, 1]], np.float16)
    logits = np.array([[60000, -60000]], np.float16)
    assert tf.nn.softmax_cross_entropy_with_logits(labels, logits).tolist() == [np.inf]


def test_float64_losses_are_not_rounded_to_float32_on_the_way():
    # TensorFlow does.
    assert tf.losses.compute_weighted_loss(np.array([1 + 1e-10])) == 1 + 1e-10


def test_a_weight_of_length_1_is_counted_before_it_is_broadcast_in_contrib():
    losses = np.array([1.0, 2.0, 3.0])
    with pytest.warns(DeprecationWarning, match="contrib"):
        contrib = tf.contrib.losses.compute_weighted_loss(losses, [2.0])
    assert contrib == 12.0
    assert tf.losses.compute_weighted_loss(losses, [2.0]) == 4.0


# ---- collections


def test_a_scope_finds_names_that_begin_with_it():
    with tf1.Graph().as_default():
        for scope in ("tower_0", "tower_1"):
            with tf1.name_scope(scope), tf1.name_scope("head"):
                tf1.losses.mean_squared_error([1.0], [2.0], scope="mse")
                tf1.losses.add_loss(5.0)
        found = {
            scope: len(tf1.losses.get_losses(scope=scope))
            for scope in ("tower_0", "tower_.", "tower_1/head/mse", "head", None)
        }
    # A Python number has no name, and no scope finds it.
    assert found == {"tower_0": 1, "tower_.": 2, "tower_1/head/mse": 1, "head": 0, None: 4}


def test_each_graph_and_each_thread_has_its_own_losses():
    counts = []
    outer = tf.Graph()
    with outer.as_default():
        tf.losses.add_loss(1.0)
        with tf.Graph().as_default():
            counts.append(len(tf.losses.get_losses()))
        thread = threading.Thread(target=lambda: counts.append(len(tf.losses.get_losses())))
        thread.start()
        thread.join()
        counts.append(len(tf.losses.get_losses()))
    assert counts == [0, 0, 1]
    assert outer.get_collection("losses") == [1.0]


def test_contrib_collects_where_tf_losses_does():
    with tf.Graph().as_default():
        with pytest.warns(DeprecationWarning, match="contrib"):
            tf.contrib.losses.mean_squared_error([3.0], [1.0])
        tf.losses.mean_squared_error([1.0], [3.0])
        assert tf.losses.get_total_loss() == 8.0


def test_gradients_reach_through_the_total_loss():
    def total(predictions):
        with tf.Graph().as_default():
            tf.losses.mean_squared_error([0.0, 0.0], predictions)
            tf1.add_to_collection(tf1.GraphKeys.REGULARIZATION_LOSSES, 0.5)
            return tf.losses.get_total_loss()

    value, gradient = value_and_grad(total, wrt="predictions", predictions=np.array([1.0, 3.0]))
    assert value == 5.5
    np.testing.assert_allclose(gradient, [1.0, 3.0])


def test_losses_of_unequal_shapes_have_no_total():
    with tf.Graph().as_default():
        tf.losses.mean_squared_error([1.0, 2.0], [0.0, 0.0], reduction="none")
        tf.losses.add_loss(1.0)
        with pytest.raises(ValueError, match="same shape to be added up"):
            tf.losses.get_total_loss()


# ---- replicas, arrays, dtypes


def test_a_strategy_tells_its_replicas_inside_its_scope_only():
    outer, inner = tf.distribute.MirroredStrategy(["a", "b"]), tf.distribute.MirroredStrategy()
    counts = [replica_count()]
    with outer.scope():
        counts.append(replica_count())
        with inner.scope() as strategy:
            counts.append(replica_count())
        counts.append(replica_count())
    assert counts == [None, 2, 1, 2]
    assert replica_count() is None
    assert strategy.num_replicas_in_sync == 1


def test_a_failure_inside_a_scope_leaves_none_behind():
    def fail():
        with tf.distribute.MirroredStrategy(["a"]).scope(), tf.Graph().as_default():
            tf.losses.add_loss(1.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert replica_count() is None
    tf.losses.add_loss(1.0)
    assert tf.losses.get_losses() == []


def test_means_and_sums_keep_the_dtype():
    assert tf.reduce_mean([-1, -2]) == -1  # C's division
    assert tf.reduce_mean(np.array([1, 2], np.float16)).dtype == np.float16
    assert tf.reduce_sum(np.array([200, 100], np.uint8)) == 44
    assert np.isnan(tf.reduce_mean(np.zeros(0, np.float32)))
    assert tf.reduce_sum(np.ones((2, 3)), axis=[0, -1], keepdims=True).tolist() == [[6.0]]
    assert tf1.reduce_mean(np.ones((2, 3)), 0, keepdims=True).shape == (1, 3)


def test_one_hot_labels():
    assert tf.one_hot([0, 3, -1], 2).tolist() == [[1, 0], [0, 0], [0, 0]]
    assert tf.one_hot([0, 1], 3, axis=0).shape == (3, 2)
    assert tf.one_hot([1], 2, on_value=5, off_value=-1).tolist() == [[-1, 5]]
    assert tf.one_hot([1], 2, dtype=tf.bool).dtype == np.bool_


def test_constants_and_casts():
    assert tf.constant(0.5, shape=[2, 2]).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert tf.constant([1, 2, 3, 4], shape=(2, 2)).tolist() == [[1, 2], [3, 4]]
    assert tf.convert_to_tensor([1], dtype_hint=tf.float64).dtype == np.float64
    assert tf.convert_to_tensor([0.5], dtype_hint=tf.int32).dtype == np.float32
    assert tf.cast([1.8, -1.8], "int32").tolist() == [1, -1]


def test_gradients_pass_between_float_dtypes_and_stop_at_integers():
    def loss(x):
        whole = tf.cast(tf.cast(x, tf.int32), tf.float64)
        return tf.reduce_sum(tf.cast(x, tf.float16) * whole * tf.stop_gradient(x))

    value, gradient = value_and_grad(loss, wrt="x", x=np.array([2.5]))
    assert value == 12.5
    np.testing.assert_array_equal(gradient, [5.0])


def test_dtype_names():
    assert tf.float32 == np.float32
    assert (tf.half, tf.double) == (tf.float16, tf.float64)
    assert tf.bfloat16.name == tf1.bfloat16.name == "bfloat16"
    assert tf.cast([1.0], "bfloat16").dtype == tf.bfloat16


def test_bfloat16_without_its_package_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingLibraryError, match="pip install ml_dtypes"):
        _ = tf.bfloat16


def test_the_documentations_examples_run():
    path = Path(__file__).parents[1] / "docs" / "tensorflow.md"
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert (failed, tried > 5) == (0, True)
