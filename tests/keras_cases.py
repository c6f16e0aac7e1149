"""What must hold on every back end of Keras; `test_keras.py` runs it once on each."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import crossent as xe
import crossent.keras as xk

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf

    # Before anything runs: two devices of the one CPU, for replicas.
    one = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(one, [tf.config.LogicalDeviceConfiguration()] * 2)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(12, 4)).astype("float32")
IDS = RNG.integers(0, 4, 12)
WEIGHT = RNG.uniform(0.2, 3.0, 12).astype("float32")
SOFT = RNG.dirichlet(np.ones(4), 12).astype("float32")
MULTI_HOT = RNG.integers(0, 2, (12, 4)).astype("float32")

# Both sides compute in float64 and round once, or in float32 where the back end has no more.
RTOL = 2e-6


def number(value):
    return float(ops.convert_to_numpy(value))


def assert_same(value, expected):
    assert np.isfinite(expected)
    np.testing.assert_allclose(number(value), expected, rtol=RTOL)


def linear_model(features=5, classes=4, **options):
    """A layer without bias, from fixed weights, and these weights."""
    model = keras.Sequential([keras.Input((features,)), layers.Dense(classes, use_bias=False)])
    weights = np.random.default_rng(1).normal(size=(features, classes)).astype("float32")
    model.set_weights([weights])
    model.compile(keras.optimizers.SGD(0.1), **options)
    return model, weights


FEATURES = RNG.normal(size=(12, 5)).astype("float32")


# ---- the value


@pytest.mark.parametrize(
    ("loss", "labels", "options"),
    [
        (xe.softmax_cross_entropy, IDS, {}),
        (xe.softmax_cross_entropy, IDS[:, None], {"label_smoothing": 0.1, "z_loss": 1e-3}),
        (xe.softmax_cross_entropy, IDS.astype("float32"), {"class_weight": [1.0, 2.0, 0.5, 3.0]}),
        (xe.softmax_cross_entropy, IDS, {"ignore_index": 2, "reduction": "mean_all"}),
        (xe.softmax_cross_entropy, np.eye(4, dtype=int)[IDS], {"reduction": "sum"}),
        (xe.softmax_cross_entropy, SOFT, {"class_weight": np.array([1.0, 2.0, 0.5, 3.0])}),
        (xe.focal_loss, IDS, {"gamma": 1.5}),
        (xe.generalized_cross_entropy, IDS, {"q": 0.5, "reduction": "sum", "normalizer": 7.0}),
        (xe.poly_loss, IDS, {"epsilon": 2.0, "temperature": 2.0}),
        (xe.sigmoid_cross_entropy, MULTI_HOT, {"pos_weight": [1.0, 2.0, 3.0, 4.0]}),
        (xe.binary_focal_loss, MULTI_HOT, {"alpha": 0.25}),
        (xe.mean_squared_error, MULTI_HOT, {}),
    ],
)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_it_is_the_value_of_the_function(loss, labels, options, weight):
    scores = "predictions" if loss is xe.mean_squared_error else "logits"
    value = xk.Loss(loss, scores, **options)(labels, LOGITS, weight)
    expected = loss(labels=labels, **{scores: LOGITS}, sample_weight=weight, **options)
    assert_same(value, expected)


def test_weights_with_a_trailing_1():
    expected = xe.softmax_cross_entropy(labels=IDS, logits=LOGITS, sample_weight=WEIGHT)
    assert_same(xk.Loss(xe.softmax_cross_entropy)(IDS, LOGITS, WEIGHT[:, None]), expected)
    labels, logits = MULTI_HOT[:, 0], LOGITS[:, 0]
    expected = xe.sigmoid_cross_entropy(labels=labels, logits=logits, sample_weight=WEIGHT)
    assert_same(xk.Loss(xe.sigmoid_cross_entropy)(labels, logits, WEIGHT[:, None]), expected)


@pytest.mark.parametrize("scores", ["probs", "log_probs"])
def test_scores_other_than_logits(scores):
    given = SOFT if scores == "probs" else np.log(SOFT)
    expected = xe.softmax_cross_entropy(labels=IDS, **{scores: given})
    assert_same(xk.Loss(xe.softmax_cross_entropy, scores)(IDS, given), expected)


def test_row_losses():
    expected = xe.focal_loss(labels=IDS, logits=LOGITS, reduction="none")
    rows = xk.Loss(xe.focal_loss, reduction="none")(IDS, LOGITS)
    np.testing.assert_allclose(ops.convert_to_numpy(rows), expected, rtol=RTOL)
    rows = xk.Loss(xe.focal_loss).call(IDS, LOGITS)
    np.testing.assert_allclose(ops.convert_to_numpy(rows), expected, rtol=RTOL)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_mean_all_is_what_keras_divides_by(weight):
    pairs = [
        (
            xk.Loss(xe.softmax_cross_entropy, reduction="mean_all"),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            IDS,
        ),
        (
            xk.Loss(xe.softmax_cross_entropy, reduction="mean_all", label_smoothing=0.1),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            SOFT,
        ),
        (
            xk.Loss(xe.sigmoid_cross_entropy, reduction="mean_all"),
            keras.losses.BinaryCrossentropy(from_logits=True),
            MULTI_HOT,
        ),
    ]
    for ours, theirs, labels in pairs:
        expected = number(theirs(labels, LOGITS, weight))
        np.testing.assert_allclose(number(ours(labels, LOGITS, weight)), expected, rtol=1e-5)


def test_mean_with_weights_is_not_what_keras_divides_by():
    theirs = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    ours = xk.Loss(xe.softmax_cross_entropy)
    assert_same(ours(IDS, LOGITS, WEIGHT), number(theirs(IDS, LOGITS, WEIGHT)))
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert abs(number(ours(IDS, LOGITS, WEIGHT)) / number(theirs(IDS, LOGITS, WEIGHT)) - 1) > 0.1


# ---- fit and evaluate


MODES = {
    "torch": [{}],
    "jax": [{}, {"jit_compile": False}, {"run_eagerly": True}],
    "tensorflow": [{}, {"jit_compile": True}, {"run_eagerly": True}],
}[BACKEND]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_step_of_fit_takes_the_gradient_of_the_function(mode):
    options = {"label_smoothing": 0.1, "class_weight": [1.0, 2.0, 0.5, 3.0]}
    model, weights = linear_model(loss=xk.Loss(xe.softmax_cross_entropy, **options), **mode)
    expected, gradient = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy,
        labels=IDS,
        logits=FEATURES @ weights,
        sample_weight=WEIGHT,
        **options,
    )
    history = model.fit(FEATURES, IDS, sample_weight=WEIGHT, batch_size=12, verbose=0).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)
    new = weights - 0.1 * FEATURES.T @ gradient
    np.testing.assert_allclose(model.get_weights()[0], new, rtol=0, atol=1e-6)


def test_class_weights_of_fit_are_class_weights():
    model, weights = linear_model(loss=xk.Loss(xe.softmax_cross_entropy))
    of_class = {0: 1.0, 1: 2.0, 2: 0.5, 3: 3.0}
    history = model.fit(FEATURES, IDS, class_weight=of_class, batch_size=12, verbose=0).history
    logits, of_class = FEATURES @ weights, list(of_class.values())
    expected = xe.softmax_cross_entropy(labels=IDS, logits=logits, class_weight=of_class)
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)


def test_yes_or_no_from_one_output():
    labels = (IDS > 1).astype(int)
    model, weights = linear_model(classes=1, loss=xk.Loss(xe.sigmoid_cross_entropy))
    value = model.evaluate(FEATURES, labels, sample_weight=WEIGHT, batch_size=12, verbose=0)
    expected = xe.sigmoid_cross_entropy(
        labels=labels, logits=(FEATURES @ weights)[:, 0], sample_weight=WEIGHT
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_rows_as_a_weighted_metric_are_exact_over_unequal_batches():
    rows = xk.Loss(xe.softmax_cross_entropy, reduction="none")
    metric = keras.metrics.MeanMetricWrapper(rows, name="nll")
    model, weights = linear_model(
        loss=xk.Loss(xe.softmax_cross_entropy, label_smoothing=0.3), weighted_metrics=[metric]
    )
    result = model.evaluate(
        FEATURES, IDS, sample_weight=WEIGHT, batch_size=5, verbose=0, return_dict=True
    )
    expected = xe.softmax_cross_entropy(labels=IDS, logits=FEATURES @ weights, sample_weight=WEIGHT)
    np.testing.assert_allclose(result["nll"], expected, rtol=1e-5)
    assert abs(result["loss"] / expected - 1) > 0.01


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_computed_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model, _ = linear_model(loss=xk.Loss(xe.softmax_cross_entropy))
        half = model(FEATURES)
        value = xk.Loss(xe.softmax_cross_entropy)(IDS, half)
        expected = xe.softmax_cross_entropy(
            labels=IDS, logits=ops.convert_to_numpy(ops.cast(half, "float32"))
        )
        assert keras.backend.standardize_dtype(half.dtype) == policy.removeprefix("mixed_")
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        assert_same(value, expected)
        first, last = model.fit(FEATURES, IDS, epochs=2, batch_size=12, verbose=0).history["loss"]
        np.testing.assert_allclose(first, expected, rtol=1e-5)
        assert last < first
    finally:
        keras.config.set_dtype_policy("float32")


# ---- several devices


def assert_a_step_is_that_of_one_device(make, **options):
    """Two devices with half of the batch each, whose labels weigh differently."""
    weight = np.where(np.arange(12) < 6, WEIGHT, 10 * WEIGHT).astype("float32")
    labels = np.where(np.arange(12) < 4, -100, IDS)
    model, weights = make(loss=xk.Loss(xe.softmax_cross_entropy, ignore_index=-100, **options))
    expected, gradient = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy,
        labels=labels,
        logits=FEATURES @ weights,
        sample_weight=weight,
        ignore_index=-100,
        **options,
    )
    history = model.fit(
        FEATURES, labels, sample_weight=weight, batch_size=12, shuffle=False, verbose=0
    ).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)
    new = weights - 0.1 * FEATURES.T @ gradient
    np.testing.assert_allclose(model.get_weights()[0], new, rtol=0, atol=2e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="replicas are TensorFlow's")
@pytest.mark.parametrize(
    "options",
    [{"class_weight": [1.0, 2.0, 0.5, 3.0]}, {"reduction": "mean_all"}],
    ids=["mean", "mean_all"],
)
def test_replicas_divide_by_what_all_of_them_hold(options):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def make(**compiled):
        with strategy.scope():
            return linear_model(**compiled)

    assert_a_step_is_that_of_one_device(make, **options)


@pytest.mark.skipif(BACKEND != "jax", reason="a sharded batch is JAX's")
def test_a_batch_on_two_devices():
    devices = keras.distribution.list_devices()
    assert len(devices) == 2
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    try:
        assert_a_step_is_that_of_one_device(linear_model, class_weight=[1.0, 2.0, 0.5, 3.0])
    finally:
        keras.distribution.set_distribution(None)


# ---- masks

TOKENS = np.array([[1, 2, 3, 0, 0], [4, 3, 2, 1, 0], [2, 4, 0, 0, 0]])
NEXT = np.array([[2, 3, 0, -1, -1], [1, 0, 2, 3, -1], [3, 1, -1, -1, -1]])
KEPT = TOKENS != 0
OF_TOKENS = RNG.uniform(0.2, 3.0, TOKENS.shape).astype("float32")


def token_model(**options):
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(5, 4, mask_zero=True),
            layers.Dense(4, use_bias=False),
        ]
    )
    model.set_weights([RNG.normal(size=w.shape) for w in model.get_weights()])
    model.compile(keras.optimizers.SGD(0.1), **options)
    return model


@pytest.mark.parametrize(
    ("reduction", "weight"),
    [
        ("mean", None),
        ("mean", WEIGHT[:3]),
        ("mean", OF_TOKENS),
        ("mean_all", None),
        ("mean_all", OF_TOKENS),
        ("sum", WEIGHT[:3]),
    ],
    ids=["mean", "mean-(3,)", "mean-(3, 5)", "mean_all", "mean_all-(3, 5)", "sum-(3,)"],
)
def test_masked_rows_are_not_there(reduction, weight):
    options = {"reduction": reduction, "class_weight": [1.0, 2.0, 0.5, 3.0]}
    model = token_model(loss=xk.Loss(xe.softmax_cross_entropy, **options))
    logits = ops.convert_to_numpy(model(TOKENS))
    rows = None if weight is None else np.broadcast_to(weight.T, (5, 3)).T[KEPT]
    expected = xe.softmax_cross_entropy(
        labels=NEXT[KEPT], logits=logits[KEPT], sample_weight=rows, **options
    )
    value = model.evaluate(TOKENS, NEXT, sample_weight=weight, batch_size=3, verbose=0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    before = model.get_weights()
    history = model.fit(TOKENS, NEXT, sample_weight=weight, batch_size=3, verbose=0).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)
    # Token 0 stands at masked places only: its row of the embedding gets no gradient.
    np.testing.assert_array_equal(model.get_weights()[0][0], before[0][0])
    assert np.isfinite(model.get_weights()[1]).all()


def masked(values):
    tensor = ops.convert_to_tensor(values)
    keras.src.backend.set_keras_mask(tensor, ops.convert_to_tensor(KEPT))
    return tensor


def test_masked_rows_may_hold_anything():
    logits = RNG.normal(size=(3, 5, 4)).astype("float32")
    bad = np.where(KEPT[..., None], logits, np.nan).astype("float32")
    one_hot = np.eye(4, dtype="float32")[NEXT] * KEPT[..., None]
    multi_hot = np.where(KEPT[..., None], MULTI_HOT[:5], 7.0).astype("float32")
    for loss, labels in [
        (xe.softmax_cross_entropy, NEXT),
        (xe.softmax_cross_entropy, NEXT[..., None]),
        (xe.focal_loss, one_hot),
        (xe.sigmoid_cross_entropy, multi_hot),
    ]:
        for reduction in ("mean", "mean_all", "sum"):
            expected = loss(labels=labels[KEPT], logits=logits[KEPT], reduction=reduction)
            value = xk.Loss(loss, reduction=reduction)(labels, masked(bad))
            assert_same(value, expected)


def test_a_mask_and_another_class_axis():
    logits = RNG.normal(size=(3, 5, 4)).astype("float32")
    expected = xe.softmax_cross_entropy(
        labels=NEXT[KEPT], logits=logits[KEPT], reduction="mean_all", ignore_index=0
    )
    loss = xk.Loss(xe.softmax_cross_entropy, axis=1, reduction="mean_all", ignore_index=0)
    assert_same(loss(NEXT, masked(logits.transpose(0, 2, 1))), expected)
    one_hot = np.eye(4, dtype="float32")[NEXT] * KEPT[..., None]
    expected = xe.softmax_cross_entropy(labels=NEXT[KEPT], logits=logits[KEPT])
    value = xk.Loss(xe.softmax_cross_entropy, axis=1)(
        one_hot.transpose(0, 2, 1), masked(logits.transpose(0, 2, 1))
    )
    assert_same(value, expected)


def test_a_mask_divides_as_keras_does():
    logits, labels = masked(RNG.normal(size=(3, 5, 4)).astype("float32")), np.maximum(NEXT, 0)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ours = xk.Loss(xe.softmax_cross_entropy, reduction="mean_all")
    for weight in (None, OF_TOKENS):
        expected = number(theirs(labels, logits, weight))
        np.testing.assert_allclose(number(ours(labels, logits, weight)), expected, rtol=1e-5)


# ---- saved and loaded

LOAD = """
import json, sys
import keras
import numpy as np
import crossent.keras
model = keras.saving.load_model(sys.argv[1])
data = np.load(sys.argv[2])
value = model.evaluate(data["x"], data["y"], sample_weight=data["w"], batch_size=12, verbose=0)
print(json.dumps([repr(model.loss), value]))
"""


def test_a_model_is_loaded_in_a_new_process(tmp_path):
    options = {"class_weight": np.array([1.0, 2.0, 0.5, 3.0]), "gamma": np.float32(1.5)}
    model, _ = linear_model(loss=xk.Loss(xe.focal_loss, name="mine", **options))
    model.fit(FEATURES, IDS, sample_weight=WEIGHT, batch_size=12, verbose=0)
    value = model.evaluate(FEATURES, IDS, sample_weight=WEIGHT, batch_size=12, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=FEATURES, y=IDS, w=WEIGHT)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "model.keras", tmp_path / "data.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown, loaded = json.loads(done.stdout.splitlines()[-1])
    assert shown == "Loss(focal_loss, class_weight=[1.0, 2.0, 0.5, 3.0], gamma=1.5)"
    np.testing.assert_allclose(loaded, value, rtol=1e-6)


def test_its_configuration_is_plain_and_complete():
    loss = xk.Loss(xe.sigmoid_cross_entropy, "probs", pos_weight=np.array([1.0, 2.0]), name="n")
    config = loss.get_config()
    assert json.loads(json.dumps(config)) == config
    again = xk.Loss.from_config(config)
    assert again.get_config() == config
    assert (again.name, again.loss, again.scores) == ("n", xe.sigmoid_cross_entropy, "probs")
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert copy.get_config() == config
    with pytest.raises(xe.OptionError, match="must name a loss of crossent; got 'of_tomorrow'"):
        xk.Loss.from_config({**config, "loss": "of_tomorrow"})


# ---- the functions on what Keras has


class OwnLoss(keras.Sequential):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return xe.poly_loss(labels=y, logits=y_pred)


class OwnStep(keras.Sequential):
    """A training step written by hand, as Keras' guides do it on each back end."""

    if BACKEND == "torch":

        def train_step(self, data):
            x, y = data
            self.zero_grad()
            loss = xe.poly_loss(labels=y, logits=self(x, training=True))
            loss.backward()
            variables = self.trainable_weights
            self.optimizer.apply([v.value.grad for v in variables], variables)
            return {"poly": loss.detach()}

    elif BACKEND == "tensorflow":

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = xe.poly_loss(labels=y, logits=self(x, training=True))
            variables = self.trainable_weights
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"poly": loss}

    else:

        def train_step(self, state, data):
            import jax

            trainable, non_trainable, optimizer, metrics = state
            x, y = data

            def loss_of(trainable):
                logits, _ = self.stateless_call(trainable, non_trainable, x, training=True)
                return xe.poly_loss(labels=y, logits=logits)

            loss, gradient = jax.value_and_grad(loss_of)(trainable)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradient, trainable)
            return {"poly": loss}, (trainable, non_trainable, optimizer, metrics)


@pytest.mark.parametrize("kind", [OwnLoss, OwnStep])
def test_the_function_in_a_model_of_ones_own(kind):
    model = kind([keras.Input((5,)), layers.Dense(4, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1))
    (weights,) = model.get_weights()
    expected, gradient = xe.numpy.value_and_grad(
        xe.poly_loss, labels=IDS, logits=FEATURES @ weights
    )
    history = model.fit(FEATURES, IDS, batch_size=12, verbose=0).history
    np.testing.assert_allclose(list(history.values()), [[expected]], rtol=1e-5)
    new = weights - 0.1 * FEATURES.T @ gradient
    np.testing.assert_allclose(model.get_weights()[0], new, rtol=0, atol=1e-6)


class Confident(layers.Layer):
    """Adds the entropy of its input as a loss."""

    def call(self, x):
        self.add_loss(ops.mean(xe.entropy(logits=x)))
        return x


def test_the_function_in_a_layer_of_a_functional_model():
    inputs = keras.Input((5,))
    outputs = Confident()(layers.Dense(4, use_bias=False)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss=xk.Loss(xe.softmax_cross_entropy))
    logits = FEATURES @ model.get_weights()[0]
    expected = xe.softmax_cross_entropy(labels=IDS, logits=logits)
    expected += xe.entropy(logits=logits).mean()
    value = model.evaluate(FEATURES, IDS, batch_size=12, verbose=0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_variables_and_arrays_of_the_back_end():
    expected = xe.softmax_cross_entropy(labels=IDS, logits=LOGITS, sample_weight=WEIGHT)
    for convert in (ops.convert_to_tensor, keras.Variable):
        logits, weight = convert(LOGITS), convert(WEIGHT)
        labels = ops.convert_to_tensor(IDS)
        value = xe.softmax_cross_entropy(labels=labels, logits=logits, sample_weight=weight)
        assert ops.is_tensor(value)
        assert_same(value, expected)
        own = ops.convert_to_tensor(LOGITS)
        value = xe.softmax_cross_entropy(labels=labels, logits=own, sample_weight=weight)
        assert_same(value, expected)
        assert xe.kernel_for(logits).partition(" ")[0] in ("native", "formula:")
    assert xe.softmax(keras.Variable(LOGITS)).shape == (12, 4)


def gradient_in(variable, loss):
    """The gradient of loss() in a variable, each back end in its own way."""
    if BACKEND == "torch":
        loss().backward()
        return variable.value.grad
    if BACKEND == "tensorflow":
        with tf.GradientTape() as tape:
            value = loss()
        return tape.gradient(value, variable.value)
    import jax

    def of_value(value):
        with keras.StatelessScope(state_mapping=[(variable, value)]):
            return loss()

    return jax.jit(jax.grad(of_value))(variable.value)


def test_gradients_reach_variables():
    logits = keras.Variable(LOGITS)
    _, expected = xe.numpy.value_and_grad(xe.focal_loss, labels=IDS, logits=LOGITS)
    labels = ops.convert_to_tensor(IDS)
    gradient = gradient_in(logits, lambda: xe.focal_loss(labels=labels, logits=logits))
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), expected, rtol=0, atol=1e-7)


def test_a_symbolic_tensor_is_refused():
    logits = keras.Input((4,))
    with pytest.raises(xe.ArgumentError, match=r"logits must hold numbers; got a symbolic Keras"):
        xe.softmax_cross_entropy(labels=IDS, logits=logits)
    with pytest.raises(xe.ArgumentError, match=r"labels must hold numbers; got a symbolic Keras"):
        xk.Loss(xe.softmax_cross_entropy)(keras.Input((), dtype="int32"), LOGITS)


# ---- mistakes


def test_labels_beyond_32_bits_are_none():
    with pytest.raises(xe.LabelError, match="labels must lie in"):
        xk.Loss(xe.softmax_cross_entropy)(np.array([2**32 + 1, 0, 1, 2]), LOGITS[:4])


def test_one_class_and_a_mask():
    ids = np.zeros((3, 5, 1), int)
    assert xk.Loss(xe.softmax_cross_entropy)(ids, masked(np.zeros((3, 5, 1), "float32"))) == 0


def test_labels_out_of_range():
    with pytest.raises(xe.LabelError, match=r"must lie in \[0, 4\); got 4 at row 3"):
        xk.Loss(xe.softmax_cross_entropy)([0, 1, 2, 4], LOGITS[:4])
    loss = xk.Loss(xe.softmax_cross_entropy)
    if BACKEND == "torch":  # eager in fit too
        model, _ = linear_model(loss=loss)
        with pytest.raises(xe.LabelError, match="1-based"):
            model.fit(FEATURES, IDS + 1, batch_size=12, verbose=0)
    else:
        model, _ = linear_model(loss=loss)
        assert np.isnan(model.evaluate(FEATURES, IDS + 1, batch_size=12, verbose=0))


def test_arguments_of_the_constructor():
    with pytest.raises(xe.ArgumentError, match="must be a loss of crossent; got 'focal_loss'"):
        xk.Loss("focal_loss")
    with pytest.raises(xe.ArgumentError, match="must be a loss of crossent; got <function entropy"):
        xk.Loss(xe.entropy)
    with pytest.raises(xe.ArgumentError, match="must be a loss of crossent; got <function label"):
        xk.Loss(xe.label_weight)
    with pytest.raises(xe.ArgumentError, match=r"options of focal_loss; got alpha\. It has gamma"):
        xk.Loss(xe.focal_loss, alpha=0.25)
    with pytest.raises(xe.ArgumentError, match="got sample_weight"):
        xk.Loss(xe.focal_loss, sample_weight=[1.0])
    with pytest.raises(xe.OptionError, match="must be 'logits' or 'probs' or 'log_probs'"):
        xk.Loss(xe.focal_loss, "logit")
    with pytest.raises(xe.OptionError, match="must be 'predictions' for mean_squared_error"):
        xk.Loss(xe.mean_squared_error)


def test_for_eval_leaves_training_behind():
    loss = xk.Loss(
        xe.softmax_cross_entropy,
        label_smoothing=0.1,
        class_weight=[1.0, 2.0, 0.5, 3.0],
        temperature=2.0,
        ignore_index=1,
    )
    plain = loss.for_eval()
    assert repr(plain) == "Loss(softmax_cross_entropy, temperature=2.0, ignore_index=1)"
    assert plain.name == loss.name == "softmax_cross_entropy"
    expected = xe.softmax_cross_entropy(labels=IDS, logits=LOGITS, temperature=2.0, ignore_index=1)
    assert_same(plain(IDS, LOGITS), expected)
    assert repr(xk.Loss(xe.focal_loss, "probs", gamma=2.0)) == (
        "Loss(focal_loss, scores='probs', gamma=2.0)"
    )
