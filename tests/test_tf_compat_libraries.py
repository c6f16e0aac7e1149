"""tf_compat on PyTorch, JAX and TensorFlow: dtypes, weights, invalid labels, compiled functions.

Values and derivatives are in test_golden.py.
"""

import frontends
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import crossent.tf_compat as tf
import crossent.tf_compat.compat.v1 as tf1

LIBRARIES = ["torch", "jax", "tensorflow"]
COMPILED = ["torch-compiled", "jax-jit", "tf-function"]
LOGITS = np.array([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.5]], np.float32)


@pytest.mark.parametrize("mode", LIBRARIES)
@pytest.mark.parametrize("generation", [tf.keras, tf.tf_keras], ids=["keras3", "keras2"])
def test_keras_losses_with_sample_weights_have_numpys_gradients(mode, generation):
    losses = generation.losses
    one_hot = np.eye(3, dtype=np.float32)
    cases = [
        (losses.SparseCategoricalCrossentropy(from_logits=True), np.array([0, 1, 2])),
        (losses.SparseCategoricalCrossentropy(True, ignore_class=1), np.array([0, 1, 2])),
        (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), one_hot),
        (losses.BinaryFocalCrossentropy(from_logits=True), one_hot),
        (losses.MeanSquaredError(), one_hot),
    ]
    for loss, y_true in cases:
        given = {"y_true": y_true, "y_pred": LOGITS, "sample_weight": np.array([1.0, 0.5, 2.0])}
        for wrt in ("y_pred", "sample_weight"):
            expected = frontends.front_end("numpy").value_and_grad(loss, wrt, **given)
            actual = frontends.front_end(mode).value_and_grad(loss, wrt, **given)
            for ours, theirs in zip(actual, expected, strict=True):
                assert_allclose(ours, theirs, rtol=2e-6, atol=1e-7, err_msg=f"{loss} {wrt}")


def test_a_keras_loss_trains_in_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 3)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x, y = torch.from_numpy(LOGITS), torch.tensor([0, 1, 2])
    history = []
    for _ in range(20):
        optimizer.zero_grad()
        value = loss(y, model(x))
        value.backward()
        optimizer.step()
        history.append(value.item())
    assert history[-1] < 0.5 * history[0]


@pytest.mark.parametrize("mode", LIBRARIES)
def test_an_invalid_label_is_an_error_where_values_are_at_hand(mode):
    sparse = tf.nn.sparse_softmax_cross_entropy_with_logits
    with pytest.raises(tf.errors.InvalidArgumentError, match="3 at row 1"):
        frontends.front_end(mode).value(sparse, labels=np.array([0, 3, 1]), logits=LOGITS)


@pytest.mark.parametrize("mode", COMPILED)
def test_a_compiled_invalid_label_is_a_nan_row(mode):
    sparse = tf.nn.sparse_softmax_cross_entropy_with_logits
    value, gradient = frontends.front_end(mode).value_and_grad(
        sparse, upstream=np.ones(3, np.float32), labels=np.array([0, 3, 1]), logits=LOGITS
    )
    assert_array_equal(np.isnan(value), [False, True, False])
    assert_array_equal(np.isnan(gradient), [[False] * 3, [True] * 3, [False] * 3])


@pytest.mark.parametrize("mode", COMPILED)
def test_compiled_losses_are_numpys_also_with_infinite_labels(mode):
    labels = np.array([[1, 0, 0], [0, np.inf, 0], [0.25, 0.25, 0.25]], np.float32)
    for loss in (
        tf.nn.softmax_cross_entropy_with_logits,
        tf.nn.sigmoid_cross_entropy_with_logits,
    ):
        given = {"labels": labels, "logits": LOGITS}
        expected = frontends.front_end("numpy").value_and_grad(loss, **given)
        up = np.ones(expected[0].shape, np.float32)
        actual = frontends.front_end(mode).value_and_grad(loss, upstream=up, **given)
        for ours, theirs in zip(actual, expected, strict=True):
            assert_allclose(ours, theirs, rtol=2e-6, atol=1e-7)


def test_a_batch_of_unknown_length_in_a_tensorflow_function():
    tensorflow = pytest.importorskip("tensorflow")
    rows = tensorflow.TensorSpec([None, 3], tensorflow.float32)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    labels = np.eye(3, dtype=np.float32)

    @tensorflow.function(input_signature=[rows, rows])
    def both(y_true, y_pred):
        mean = tf1.losses.softmax_cross_entropy(y_true, y_pred)
        return loss(y_true, y_pred), mean, tf.reduce_mean(y_pred)

    for n in (1, 3):
        found = both(tensorflow.constant(labels[:n]), tensorflow.constant(LOGITS[:n]))
        expected = (
            loss(labels[:n], LOGITS[:n]),
            tf1.losses.softmax_cross_entropy(labels[:n], LOGITS[:n]),
            LOGITS[:n].mean(),
        )
        assert_allclose([float(x) for x in found], expected, rtol=1e-6)


@pytest.mark.parametrize("mode", LIBRARIES)
def test_what_stands_around_losses_stays_in_the_library(mode):
    way = frontends.front_end(mode)
    ints, floats = way.tensor(np.array([[1, 2], [-4, 0]], np.int32)), way.tensor(LOGITS)
    results = {
        "mean of ints": (tf.reduce_mean(ints), np.int32(0)),
        "mean of rows of ints": (tf.reduce_mean(ints, axis=1), np.array([1, -2], np.int32)),
        "sum over no axis": (tf.reduce_sum(floats, axis=[]), LOGITS),
        "sum": (tf.reduce_sum(floats, 1, keepdims=True), LOGITS.sum(1, keepdims=True)),
        "one_hot": (tf.one_hot(ints, 3, axis=0)[1], np.array([[1, 0], [0, 0]], np.float32)),
        "add_n": (tf.add_n([ints, ints]), np.array([[2, 4], [-8, 0]], np.int32)),
        "cast": (tf.cast(floats, tf.int32), LOGITS.astype(np.int32)),
        "constant": (tf.constant(ints, tf.float16), np.array([[1, 2], [-4, 0]], np.float16)),
        "softmax over all": (
            tf.keras.activations.softmax(floats, axis=(0, 1)),
            tf.keras.activations.softmax(LOGITS, axis=(0, 1)),
        ),
    }
    for name, (actual, expected) in results.items():
        assert type(actual).__module__.partition(".")[0].startswith(way.module), name
        assert way.array(actual).dtype == expected.dtype, name
        assert_allclose(way.array(actual), expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("mode", LIBRARIES)
def test_lists_beside_tensors_take_their_library_and_dtype(mode):
    way = frontends.front_end(mode)
    value = tf1.losses.softmax_cross_entropy(
        [[1.0, 0.0, 0.0]] * 3, way.tensor(LOGITS.astype(np.float16)), weights=[1.0, 0.0, 2.0]
    )
    assert way.array(value).dtype == np.float16
    alone = tf.nn.sigmoid_cross_entropy_with_logits(labels=[1.0], logits=[0.0])
    assert isinstance(alone, np.ndarray)
    assert alone.dtype == np.float32


def test_dtypes_of_any_library_name_a_dtype():
    torch = pytest.importorskip("torch")
    jnp = pytest.importorskip("jax.numpy")
    tensorflow = pytest.importorskip("tensorflow")
    for dtype in (torch.float16, jnp.float16, tensorflow.float16, np.float16, "half"):
        assert tf.cast([1, 2], dtype).dtype == np.float16
        assert tf.constant(torch.ones(2), dtype).dtype == torch.float16
        assert tf.one_hot([0], 2, dtype=dtype).dtype == np.float16
        assert tf.keras.losses.MeanSquaredError(dtype=dtype).dtype == "float16"
