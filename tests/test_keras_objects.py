"""Keras' loss objects: configuration, look-up, reductions, dtypes, scopes; wrong input."""

import pickle

import ml_dtypes  # noqa: F401 - makes NumPy know "bfloat16"
import numpy as np
import pytest

import crossent.tf_compat as tf
from crossent import CrossentError
from crossent.numpy import value_and_grad

K3, K2 = tf.keras.losses, tf.tf_keras.losses
GENERATIONS = pytest.mark.parametrize("losses", [K3, K2], ids=["keras 3", "keras 2"])
Y, P = np.float32([[0, 1], [1, 0]]), np.float32([[0.2, 0.8], [0.6, 0.3]])

OPTIONS = {
    "BinaryCrossentropy": {"from_logits": True, "label_smoothing": 0.1, "axis": (0, 1)},
    "BinaryFocalCrossentropy": {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5},
    "CategoricalCrossentropy": {"from_logits": True, "axis": 0},
    "CategoricalFocalCrossentropy": {"alpha": [0.3, 0.7], "gamma": 3.0, "label_smoothing": 0.2},
    "SparseCategoricalCrossentropy": {"from_logits": True, "ignore_class": 1},
    "KLDivergence": {},
    "MeanSquaredError": {},
}


def labels_for(name):
    return np.array([1, 0]) if name.startswith("Sparse") else Y


# ---- configuration


@pytest.mark.parametrize("name", OPTIONS)
@GENERATIONS
def test_a_configuration_makes_the_same_loss(losses, name):
    loss_class = getattr(losses, name)
    loss = loss_class(**OPTIONS[name], reduction="sum", name="mine")
    config = loss.get_config()
    assert config == config | OPTIONS[name] | {"reduction": "sum", "name": "mine"}
    again = [loss_class.from_config(config), losses.get(losses.serialize(loss))]
    again += [losses.deserialize(losses.serialize(loss)), pickle.loads(pickle.dumps(loss))]
    for copy in again:
        assert type(copy) is loss_class
        assert copy.get_config() == config
        assert copy(labels_for(name), P) == loss(labels_for(name), P)


@pytest.mark.parametrize("name", OPTIONS)
@GENERATIONS
def test_options_are_attributes(losses, name):
    loss = getattr(losses, name)(**OPTIONS[name])
    assert {key: getattr(loss, key) for key in OPTIONS[name]} == OPTIONS[name]


def test_a_given_dtype_stays_in_the_configuration():
    loss = K3.MeanSquaredError(dtype="float64")
    assert K3.MeanSquaredError.from_config(loss.get_config()).dtype == "float64"
    assert "dtype" not in K3.MeanSquaredError().get_config()


def test_configurations_that_keras_wrote():
    three = {
        "module": "keras.losses",
        "class_name": "BinaryCrossentropy",
        "config": {
            "name": "binary_crossentropy",
            "reduction": "sum_over_batch_size",
            "from_logits": True,
            "label_smoothing": 0.0,
            "axis": -1,
        },
        "registered_name": None,
    }
    assert K3.deserialize(three).from_logits is True
    two = {"reduction": "auto", "name": "kl_divergence", "fn": "kl_divergence"}
    assert K2.KLDivergence.from_config(two).reduction == "auto"


def test_positional_order():
    assert K3.SparseCategoricalCrossentropy(False, 0, "sum", -1).reduction == "sum"
    assert K2.BinaryCrossentropy(True, 0.1, -1, "none", "mine").name == "mine"
    assert K3.Loss("mine", "sum", "float64").dtype == "float64"
    assert K2.Loss("sum", "mine").reduction == "sum"


def test_names_of_losses_without_one():
    first, second = (K3.CategoricalFocalCrossentropy(name=None).name for _ in range(2))
    assert first.startswith("categorical_focal_crossentropy")
    assert second.startswith("categorical_focal_crossentropy_")
    assert first != second
    assert K2.KLDivergence(name=None).name is None


# ---- look-up


@GENERATIONS
def test_get(losses):
    for alias in ("mse", "MSE", "mean_squared_error"):
        assert losses.get(alias) is losses.mean_squared_error is losses.MSE
    for alias in ("kld", "KLD", "kl_divergence", "kullback_leibler_divergence"):
        assert losses.get(alias) is losses.kl_divergence is losses.kld
    assert losses.get("bce") is losses.binary_crossentropy
    assert isinstance(losses.get("BinaryCrossentropy"), losses.BinaryCrossentropy)
    assert (
        losses.get({"class_name": "KLDivergence", "config": {"reduction": "sum"}}).reduction
        == "sum"
    )
    assert losses.get(losses.serialize(losses.kld)) is losses.kld
    loss = losses.KLDivergence()
    assert losses.get(loss) is loss
    assert losses.get(len) is len
    assert losses.get(None) is None
    for unknown in ("huber", 3, {"class_name": "Huber", "config": {}}):
        with pytest.raises(ValueError, match="identifier must name a loss; got"):
            losses.get(unknown)


def test_a_class_gives_an_instance_in_keras_3():
    assert isinstance(K3.get(K3.KLDivergence), K3.KLDivergence)
    assert K2.get(K2.KLDivergence) is K2.KLDivergence


def test_custom_objects():
    class Mine(K3.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    described = K3.serialize(Mine(name="mine"))
    assert type(K3.deserialize(described, {"Mine": Mine})) is Mine


# ---- reductions


def test_keras_3_refuses_auto_and_says_where_it_is():
    with pytest.raises(
        ValueError,
        match=r"^reduction must be one of .*; got 'auto'\. 'auto' belongs to Keras 2, "
        r"crossent\.tf_compat\.tf_keras\.losses; here it is 'sum_over_batch_size'\.$",
    ):
        K3.MeanSquaredError(reduction=K3.Reduction.AUTO)
    assert K2.MeanSquaredError(reduction=K2.Reduction.AUTO)(Y, P) == K3.MeanSquaredError()(Y, P)


@pytest.mark.parametrize(
    ("losses", "reduction", "hint"),
    [
        (K3, "SUM", "Write it 'sum'"),
        (K3, "average", "'sum_over_batch_size' is the mean"),
        (K3, 1, "'sum_over_batch_size' is the mean"),
        (K2, "mean", "belongs to Keras 3, crossent.tf_compat.keras.losses"),
        (K2, None, "belongs to Keras 3"),
        (K2, "None", "Write it 'none'"),
    ],
)
def test_other_reductions_are_refused_when_the_loss_is_made(losses, reduction, hint):
    with pytest.raises(ValueError, match=hint):
        losses.KLDivergence(reduction=reduction)


def test_the_reduction_names():
    assert K3.Reduction.all() == ("auto", "none", "sum", "sum_over_batch_size")
    K3.Reduction.validate("auto")
    with pytest.raises(ValueError, match="got 'mean'"):
        K2.Reduction.validate("mean")


# ---- distribution scopes


@pytest.mark.parametrize("replicas", [1, 2])
def test_keras_2_refuses_means_inside_of_a_scope(replicas):
    strategy = tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(replicas)])
    for reduction in ("auto", "sum_over_batch_size"):
        loss = K2.MeanSquaredError(reduction=reduction)
        with (
            strategy.scope(),
            pytest.raises(ValueError, match=f"got '{reduction}' with {replicas} "),
        ):
            loss(Y, P)
        assert np.isfinite(loss(Y, P))
    with strategy.scope():
        assert K2.MeanSquaredError(reduction="sum")(Y, P) == pytest.approx(0.165)
        assert K2.MeanSquaredError(reduction="none")(Y, P).shape == (2,)


def test_keras_3_divides_means_by_the_replicas():
    with tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"]).scope():
        for reduction in ("mean", "sum_over_batch_size", "mean_with_sample_weight"):
            assert K3.MeanSquaredError(reduction=reduction)(Y, P) == pytest.approx(0.04125)
        assert K3.MeanSquaredError(reduction="sum")(Y, P) == pytest.approx(0.165)
    assert K3.MeanSquaredError()(Y, P) == pytest.approx(0.0825)


# ---- dtypes


class Policy:
    compute_dtype = "float16"


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (None, "float32"),
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("mixed_bfloat16", "bfloat16"),
        (np.float64, "float64"),
        (tf.float64, "float64"),
        (Policy(), "float16"),
    ],
)
def test_dtypes(given, dtype):
    loss = K3.MeanSquaredError(dtype=given)
    assert loss.dtype == loss(Y.astype(float), P.astype(float)).dtype.name == dtype


@pytest.mark.parametrize("wrong", ["int32", "nope", 3.5])
def test_other_dtypes_are_refused(wrong):
    with pytest.raises(ValueError, match="dtype must be a float dtype, one of float16"):
        K3.MeanSquaredError(dtype=wrong)


def test_floatx_is_the_dtype_of_new_losses_and_of_integers():
    backend = tf.keras.backend
    try:
        backend.set_floatx("float64")
        assert backend.floatx() == "float64"
        assert K3.MeanSquaredError()(Y, P).dtype == np.float64
        assert K3.mse([[1, 2]], [[0, 4]]).dtype == np.float64
        assert K2.mse([[1, 2]], [[0, 4]]).dtype == np.float32
        with pytest.raises(ValueError, match="value must be a float dtype"):
            backend.set_floatx("int8")
    finally:
        backend.set_floatx("float32")


def test_functions_and_keras_2_keep_the_dtype_of_the_predictions():
    wide = P.astype(np.float64)
    assert K3.binary_crossentropy(Y, wide).dtype == np.float64
    assert K2.BinaryCrossentropy()(Y, wide).dtype == np.float64
    assert K3.BinaryCrossentropy()(Y, wide).dtype == np.float32


@GENERATIONS
def test_lists_are_float32(losses):
    assert losses.SparseCategoricalCrossentropy()([1, 0], P.tolist()).dtype == np.float32
    assert losses.mse([[1, 2]], np.array([[0.0, 4.0]])) == 2.5


# ---- subclasses


@GENERATIONS
def test_losses_of_ones_own(losses):
    class Cubed(losses.Loss):
        def call(self, y_true, y_pred):
            return ((y_true - y_pred) ** 3).mean(axis=-1)

    loss = Cubed(reduction="sum")
    y, p = np.float32([[0, 0], [1, 1]]), np.float32([[1, 3], [0, 0]])
    value, gradient = value_and_grad(
        loss, wrt="y_pred", y_true=y, y_pred=p, sample_weight=[1.0, 2.0]
    )
    assert value == -14 + 2
    np.testing.assert_allclose(gradient, [[-1.5, -13.5], [-3, -3]])
    with pytest.raises(NotImplementedError, match="must define call"):
        losses.Loss()(y, p)


# ---- activations


def test_softmax_over_several_axes():
    softmax, log_softmax = tf.keras.activations.softmax, tf.keras.activations.log_softmax
    x = np.arange(24.0).reshape(2, 3, 4) / 7
    joint = softmax(x, axis=(0, 2))
    np.testing.assert_allclose(joint.sum(axis=(0, 2)), np.ones(3))
    np.testing.assert_allclose(joint, np.exp(x) / np.exp(x).sum(axis=(0, 2), keepdims=True))
    np.testing.assert_allclose(softmax(x, axis=(-1, 0)), joint)
    np.testing.assert_allclose(log_softmax(x, axis=(0, 2)), np.log(joint))
    np.testing.assert_allclose(softmax(x, axis=None).sum(), 1)
    np.testing.assert_array_equal(softmax(x, axis=(1,)), softmax(x, axis=1))
    weights = np.cos(x)
    _, gradient = value_and_grad(softmax, wrt="x", x=x, axis=(0, 2), upstream=weights)
    inner = (weights * joint).sum(axis=(0, 2), keepdims=True)
    np.testing.assert_allclose(gradient, joint * (weights - inner), atol=1e-15)


def test_activations_refuse():
    with pytest.raises(TypeError, match="axis must be"):
        tf.keras.activations.softmax(Y, axis=[0])
    for function in (tf.keras.activations.sigmoid, tf.keras.activations.softmax):
        with pytest.raises(tf.errors.InvalidArgumentError, match="x must be floating point"):
            function(np.array([[1, 2]]))
    with pytest.raises(ValueError, match="x must have a batch axis"):
        tf.tf_keras.activations.softmax([1.0, 2.0])
    np.testing.assert_array_equal(
        tf.tf_keras.activations.softmax(P), tf.keras.activations.softmax(P)
    )


# ---- wrong input

WRONG = {
    "shapes": (ValueError, "binary_crossentropy", ([[1, 0]], [[0.5]]), {"from_logits": True}),
    "classes": (ValueError, "categorical_crossentropy", ([[1, 0, 0]], [[0.5, 0.5]]), {}),
    "one row for all": (ValueError, "categorical_crossentropy", ([[1, 0]], [[1, 0]] * 2), {}),
    "ranks": (ValueError, "sparse_categorical_crossentropy", ([[[0]]], [[0.5, 0.5]] * 2), {}),
    "label": (ValueError, "sparse_categorical_crossentropy", ([2], [[0.5, 0.5]]), {}),
    "NaN label": (ValueError, "sparse_categorical_crossentropy", ([np.nan], [[0.5, 0.5]]), {}),
    "no array": (ValueError, "mse", (None, [1.0]), {}),
    "scalars": (ValueError, "mse", (1.0, 2.0), {}),
    "broadcast": (ValueError, "kld", ([[0.5, 0.5]], [[0.2, 0.3, 0.5]]), {}),
    "text": (ValueError, "mse", (["a"], ["b"]), {}),
    "axis": (ValueError, "binary_crossentropy", ([1.0], [0.5]), {"axis": 1}),
    "a fractional axis": (TypeError, "binary_crossentropy", ([1.0], [0.5]), {"axis": 0.5}),
    "an axis twice": (ValueError, "binary_crossentropy", ([1.0], [0.5]), {"axis": (0, -1)}),
    "a bool as class axis": (ValueError, "categorical_crossentropy", ([1], [0.5]), {"axis": True}),
    "alpha": (
        ValueError,
        "categorical_focal_crossentropy",
        ([[1, 0, 0]], [[0.5, 0.5, 0.1]]),
        {"alpha": [0.1, 0.2]},
    ),
    "gamma": (ValueError, "binary_focal_crossentropy", ([1.0], [0.5]), {"gamma": "2"}),
    "smoothing": (ValueError, "binary_crossentropy", ([1.0], [0.5]), {"label_smoothing": "a"}),
    "ignore_class": (
        ValueError,
        "sparse_categorical_crossentropy",
        ([1], [[0.5, 0.5]]),
        {"ignore_class": 0.5},
    ),
}


@pytest.mark.parametrize("case", WRONG)
@GENERATIONS
def test_wrong_input(losses, case):
    error, name, arguments, options = WRONG[case]
    with pytest.raises(error, match=r"^\w+ must .*; got .*\. .*\.$") as caught:
        getattr(losses, name)(*arguments, **options)
    assert isinstance(caught.value, CrossentError)


@GENERATIONS
def test_labels_out_of_range_say_where_and_what_to_do(losses):
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"y_true must lie in \[0, 2\); got 255 at \(1,\).*ignore_class=",
    ):
        losses.sparse_categorical_crossentropy([0, 255], [[0.5, 0.5]] * 2)


@GENERATIONS
def test_one_class_warns(losses):
    with pytest.warns(SyntaxWarning, match="one class"):
        value = losses.categorical_crossentropy([[1.0]], [[0.3]])
    assert value < 1e-6


@GENERATIONS
def test_other_losses_are_absent(losses):
    with pytest.raises(AttributeError, match="tf_compat holds TensorFlow's losses; it has no"):
        losses.Huber  # noqa: B018


def test_a_loss_shows_the_arguments_that_make_it():
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert repr(loss).startswith("SparseCategoricalCrossentropy(from_logits=True, ")
    for losses in (tf.keras.losses, tf.tf_keras.losses):
        loss = losses.BinaryCrossentropy(label_smoothing=0.1, reduction="sum")
        again = eval(repr(loss), vars(losses))
        assert again.get_config() == loss.get_config()
