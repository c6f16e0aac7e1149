"""tf_compat's names, signatures, warnings and errors. Keras' losses have their own file."""

import inspect
import re
import sys
import warnings

import numpy as np
import pytest

import crossent.tf_compat as tf
import crossent.tf_compat.compat.v1 as tf1
from crossent.errors import CrossentError

V1_TAIL = "scope=None, loss_collection='losses', reduction='weighted_sum_by_nonzero_weights'"
SIGNATURES = {
    "nn.sigmoid_cross_entropy_with_logits": "labels=None, logits=None, name=None",
    "nn.weighted_cross_entropy_with_logits": "labels, logits, pos_weight, name=None",
    "nn.softmax_cross_entropy_with_logits": "labels, logits, axis=-1, name=None",
    "nn.softmax_cross_entropy_with_logits_v2": "labels, logits, axis=None, name=None, dim=None",
    "nn.sparse_softmax_cross_entropy_with_logits": "labels, logits, name=None",
    "nn.sigmoid": "x, name=None",
    "nn.softmax": "logits, axis=None, name=None",
    "nn.log_softmax": "logits, axis=None, name=None",
    "sigmoid": "x, name=None",
    "math.sigmoid": "x, name=None",
    "math.log_sigmoid": "x, name=None",
    "losses.softmax_cross_entropy": (
        f"onehot_labels, logits, weights=1.0, label_smoothing=0, {V1_TAIL}"
    ),
    "losses.sparse_softmax_cross_entropy": f"labels, logits, weights=1.0, {V1_TAIL}",
    "losses.sigmoid_cross_entropy": (
        f"multi_class_labels, logits, weights=1.0, label_smoothing=0, {V1_TAIL}"
    ),
    "losses.mean_squared_error": f"labels, predictions, weights=1.0, {V1_TAIL}",
    "losses.compute_weighted_loss": f"losses, weights=1.0, {V1_TAIL}",
    "losses.add_loss": "loss, loss_collection='losses'",
    "losses.get_losses": "scope=None, loss_collection='losses'",
    "losses.get_regularization_losses": "scope=None",
    "losses.get_regularization_loss": "scope=None, name='total_regularization_loss'",
    "losses.get_total_loss": "add_regularization_losses=True, name='total_loss', scope=None",
    "contrib.losses.softmax_cross_entropy": (
        "logits, onehot_labels, weights=1.0, label_smoothing=0, scope=None"
    ),
    "contrib.losses.sparse_softmax_cross_entropy": "logits, labels, weights=1.0, scope=None",
    "contrib.losses.sigmoid_cross_entropy": (
        "logits, multi_class_labels, weights=1.0, label_smoothing=0, scope=None"
    ),
    "contrib.losses.mean_squared_error": "predictions, labels=None, weights=1.0, scope=None",
    "contrib.losses.compute_weighted_loss": "losses, weights=1.0, scope=None",
    "contrib.losses.add_loss": "loss, loss_collection='losses'",
    "contrib.losses.get_losses": "scope=None, loss_collection='losses'",
    "contrib.losses.get_regularization_losses": "scope=None",
    "contrib.losses.get_total_loss": "add_regularization_losses=True, name='total_loss'",
    "reduce_mean": "input_tensor, axis=None, keepdims=False, name=None",
    "reduce_sum": "input_tensor, axis=None, keepdims=False, name=None",
    "one_hot": "indices, depth, on_value=None, off_value=None, axis=None, dtype=None, name=None",
    "stop_gradient": "input, name=None",
    "constant": "value, dtype=None, shape=None, name=None",
    "convert_to_tensor": "value, dtype=None, dtype_hint=None, name=None",
    "cast": "x, dtype, name=None",
    "compat.v1.nn.sigmoid_cross_entropy_with_logits": "labels=None, logits=None, name=None",
    "compat.v1.nn.weighted_cross_entropy_with_logits": (
        "labels=None, logits=None, pos_weight=None, name=None, targets=None"
    ),
    "compat.v1.nn.softmax_cross_entropy_with_logits": (
        "labels=None, logits=None, dim=-1, name=None, axis=None"
    ),
    "compat.v1.nn.softmax_cross_entropy_with_logits_v2": (
        "labels, logits, axis=None, name=None, dim=None"
    ),
    "compat.v1.nn.sparse_softmax_cross_entropy_with_logits": "labels=None, logits=None, name=None",
    "compat.v1.nn.softmax": "logits, axis=None, name=None, dim=None",
    "compat.v1.nn.log_softmax": "logits, axis=None, name=None, dim=None",
    "compat.v1.losses.sigmoid_cross_entropy": (
        f"multi_class_labels, logits, weights=1.0, label_smoothing=0, {V1_TAIL}"
    ),
    "compat.v1.reduce_mean": (
        "input_tensor, axis=None, keepdims=None, name=None, reduction_indices=None, keep_dims=None"
    ),
}


def resolved(path):
    found = tf
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("path", SIGNATURES)
def test_signature(path):
    signature = inspect.signature(resolved(path))
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == f"({SIGNATURES[path]})"


def test_both_versions_hold_the_same_losses_under_their_names():
    assert tf.compat.v1 is tf1
    assert tf.losses.softmax_cross_entropy is tf1.losses.softmax_cross_entropy
    assert tf.contrib is tf1.contrib
    assert tf1.keras is tf.tf_keras
    assert tf1.errors is tf.errors
    assert tf1.sigmoid is tf1.nn.sigmoid is tf1.math.sigmoid
    assert tf1.log_sigmoid is tf.math.log_sigmoid


def test_losses_carry_keras_names_beside_tensorflow_1s():
    assert tf.losses.CategoricalCrossentropy is tf.keras.losses.CategoricalCrossentropy
    assert tf.losses.mean_squared_error is tf1.losses.mean_squared_error
    assert tf.losses.Reduction.SUM == "weighted_sum"
    assert {"CategoricalCrossentropy", "softmax_cross_entropy"} <= set(dir(tf.losses))


def test_submodules_can_be_imported_by_name():
    from crossent.tf_compat import compat, contrib, losses, nn
    from crossent.tf_compat.compat.v1 import losses as losses1

    assert (compat, contrib, losses, nn) == (tf.compat, tf.contrib, tf.losses, tf.nn)
    assert losses1 is tf1.losses


@pytest.mark.parametrize(
    ("module", "name", "known_as"),
    [
        (tf, "Session", "tf.Session"),
        (tf1, "Session", "tf.Session"),
        (tf.nn, "relu", "tf.nn.relu"),
        (tf1.nn, "relu", "tf.nn.relu"),
        (tf.math, "log", "tf.math.log"),
        (tf.losses, "hinge_loss", "tf.losses.hinge_loss"),
        (tf1.losses, "hinge_loss", "tf.losses.hinge_loss"),
        (tf.contrib, "layers", "tf.contrib.layers"),
        (tf.contrib.losses, "hinge_loss", "tf.contrib.losses.hinge_loss"),
        (tf.compat, "v2", "tf.compat.v2"),
        (tf.errors, "OpError", "tf.errors.OpError"),
        (tf.distribute, "TPUStrategy", "tf.distribute.TPUStrategy"),
    ],
)
def test_any_other_name_is_an_attribute_error(module, name, known_as):
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert str(caught.value).startswith(
        f"tf_compat holds TensorFlow's losses; it has no {known_as}"
    )
    assert not hasattr(module, name)


@pytest.mark.parametrize(
    ("module", "name", "way_out"),
    [
        (tf, "GraphKeys", "it is in crossent.tf_compat.compat.v1"),
        (tf, "log_sigmoid", "it is in crossent.tf_compat.compat.v1"),
        (tf, "GradientTape", "crossent.numpy.value_and_grad gives the gradients"),
        (tf1, "Session", "what session.run(loss) returned is loss itself"),
        (tf1, "placeholder", "pass the array itself"),
        (tf.nn, "softmx", "did you mean softmax?"),
        (tf.losses, "CategoricalCrossEntropy", "did you mean CategoricalCrossentropy?"),
    ],
)
def test_an_absent_name_comes_with_the_way_out(module, name, way_out):
    with pytest.raises(AttributeError, match=re.escape(f".{name}; ") + ".*" + re.escape(way_out)):
        getattr(module, name)


def test_names_far_from_all_others_come_without_a_guess():
    for name in ("Huber", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"it has no tf\\.nn\\.{name}$"):
            getattr(tf.nn, name)


@pytest.mark.parametrize("module", [tf, tf1, tf.nn, tf.math, tf.keras, tf.keras.losses, tf.errors])
def test_dir_lists_the_public_names(module):
    assert dir(module) == sorted(module.__all__)


# ---- collections


def test_collections_outside_of_a_graph_warn_the_caller():
    for function, arguments in (
        (tf1.add_to_collection, ("losses", 1.0)),
        (tf1.get_collection, ("losses",)),
    ):
        with pytest.warns(UserWarning, match=r"with tf\.Graph\(\)\.as_default\(\):") as caught:
            assert not function(*arguments)
        assert caught[0].filename == __file__
    # Under `-W error` these raise if they warn.
    assert tf.losses.mean_squared_error([1.0], [3.0]) == 4.0
    assert tf.losses.get_losses() == []
    with tf.Graph().as_default():
        tf1.add_to_collection("losses", 1.0)
        assert tf1.get_collection("losses") == [1.0]


# ---- sums of several arrays


def test_add_n_sums_in_the_dtype_of_the_arrays():
    halves = [np.float16([1, 2]), np.float16([3, 0.5])]
    assert tf.add_n(halves).dtype == np.float16
    assert tf.add_n(halves).tolist() == [4.0, 2.5]
    total = tf1.add_n([[1, 2], (3, 4), np.int32([5, 6])])
    assert (total.dtype, total.tolist()) == (np.int32, [9, 12])


@pytest.mark.parametrize(
    ("inputs", "error", "says"),
    [
        ([], ValueError, "at least one array"),
        (np.ones(2), ValueError, "got ndarray"),
        ([[1.0], [1.0, 2.0]], ValueError, "must have the shape"),
        ([[1.0], [1]], tf.errors.InvalidArgumentError, "one dtype; got float32 and int32"),
    ],
)
def test_add_n_refuses(inputs, error, says):
    with pytest.raises(error, match=says):
        tf.add_n(inputs)


# ---- deprecation

ROWS = {"logits": [[1.0, 2.0]], "labels": [[0.0, 1.0]]}
LOSSES = {"logits": [[1.0, 2.0]], "weights": [1.0]}
DEPRECATED = [
    (tf1.nn.softmax_cross_entropy_with_logits, ROWS, "_v2"),
    (tf1.nn.softmax_cross_entropy_with_logits_v2, {**ROWS, "dim": 1}, "axis"),
    (tf.nn.softmax_cross_entropy_with_logits_v2, {**ROWS, "dim": 1}, "axis"),
    (tf1.nn.softmax, {"logits": [1.0], "dim": 0}, "axis"),
    (tf1.nn.log_softmax, {"logits": [1.0], "dim": 0}, "axis"),
    (
        tf1.nn.weighted_cross_entropy_with_logits,
        {"targets": [1.0], "logits": [1.0], "pos_weight": 2.0},
        "labels",
    ),
    (tf1.reduce_mean, {"input_tensor": [1.0], "reduction_indices": 0}, "axis"),
    (tf1.reduce_mean, {"input_tensor": [1.0], "keep_dims": True}, "keepdims"),
    (tf1.reduce_sum, {"input_tensor": [1.0], "reduction_indices": 0}, "axis"),
    (tf1.reduce_sum, {"input_tensor": [1.0], "keep_dims": True}, "keepdims"),
    (tf1.convert_to_tensor, {"value": 1, "preferred_dtype": tf.float32}, "dtype_hint"),
    (tf.contrib.losses.softmax_cross_entropy, {**LOSSES, "onehot_labels": [[0, 1]]}, ""),
    (tf.contrib.losses.sparse_softmax_cross_entropy, {**LOSSES, "labels": [1]}, ""),
    (tf.contrib.losses.sigmoid_cross_entropy, {**LOSSES, "multi_class_labels": [[0, 1]]}, ""),
    (tf.contrib.losses.mean_squared_error, {"predictions": [1.0], "labels": [2.0]}, ""),
    (tf.contrib.losses.compute_weighted_loss, {"losses": [1.0]}, ""),
    (tf.contrib.losses.add_loss, {"loss": 1.0}, ""),
    (tf.contrib.losses.get_losses, {}, ""),
    (tf.contrib.losses.get_regularization_losses, {}, ""),
]


@pytest.mark.parametrize(("function", "arguments", "instead"), DEPRECATED)
def test_deprecated_names_warn_once_at_the_caller(function, arguments, instead):
    instead = instead or f"tf.losses.{function.__name__}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(**arguments)
    assert [warning.category for warning in caught] == [DeprecationWarning]
    assert caught[0].filename == __file__
    assert re.search(rf"is deprecated\. Use .*{re.escape(instead)}", str(caught[0].message))


def test_every_function_of_contrib_is_deprecated():
    warned = {
        function.__name__ for function, _, _ in DEPRECATED if "contrib" in function.__module__
    }
    assert warned | {"get_total_loss"} == set(tf.contrib.losses.__all__)
    with tf.Graph().as_default():
        tf.losses.add_loss(2.0)
        with pytest.warns(DeprecationWarning, match=r"tf\.losses\.get_total_loss"):
            assert tf.contrib.losses.get_total_loss() == 2.0


# ---- arguments


def test_lists_take_tensorflows_dtypes_and_arrays_keep_theirs():
    found = {
        "ints": tf.convert_to_tensor([1, 2]),
        "long ints": tf.convert_to_tensor([2**40]),
        "floats": tf.convert_to_tensor([1, 2.5]),
        "bools": tf.convert_to_tensor([True]),
        "number": tf.convert_to_tensor(1.0),
        "numpy inside": tf.convert_to_tensor([np.float64(1), np.float64(2)]),
        "float64": tf.convert_to_tensor(np.ones(2)),
        "int64": tf.convert_to_tensor(np.ones(2, np.int64)),
        "nothing": tf.convert_to_tensor([]),
    }
    assert {name: array.dtype.name for name, array in found.items()} == {
        "ints": "int32",
        "long ints": "int64",
        "floats": "float32",
        "bools": "bool",
        "number": "float32",
        "numpy inside": "float64",
        "float64": "float64",
        "int64": "int64",
        "nothing": "float32",
    }


def test_a_list_of_floats_takes_the_dtype_of_the_array_beside_it():
    logits = np.array([0.1, 0.2])
    beside_list = tf.nn.sigmoid_cross_entropy_with_logits(labels=[0.1, 0.9], logits=logits)
    of_arrays = tf.nn.sigmoid_cross_entropy_with_logits(labels=np.array([0.1, 0.9]), logits=logits)
    assert beside_list.dtype == np.float64
    np.testing.assert_array_equal(beside_list, of_arrays)


def test_a_list_beside_logits_does_not_widen_the_softmax_loss():
    # Labels of any dtype go to the logits' dtype there, and a list of logits is float32.
    labels = np.array([[0.1, 0.9]])
    assert tf.nn.softmax_cross_entropy_with_logits(labels, [[1.0, 2.0]]).dtype == np.float32
    exact = tf.nn.softmax_cross_entropy_with_logits(labels, np.array([[1.0, 2.0]]))
    beside_array = tf.nn.softmax_cross_entropy_with_logits([[0.1, 0.9]], np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(beside_array, exact)


def test_python_numbers_are_not_rounded_to_float32_on_the_way():
    logits, labels = np.array([0.3, -2.0]), np.array([1.0, 0.5])
    weighted = tf.nn.weighted_cross_entropy_with_logits(labels, logits, 1.7)
    expected = tf.nn.weighted_cross_entropy_with_logits(labels, logits, np.array(1.7))
    np.testing.assert_array_equal(weighted, expected)
    assert tf.constant([0.1], tf.float64) == [0.1]
    assert tf.convert_to_tensor([0.1], dtype_hint=tf.float64) == [0.1]
    losses = np.array([1.0, 1.0])
    assert tf.losses.compute_weighted_loss(losses, [0.1, 0.1], reduction="weighted_sum") == 0.2


F32, F64, I32 = (np.ones((2, 3), dtype) for dtype in (np.float32, np.float64, np.int32))
IDS = np.zeros(2, np.int32)
INVALID = tf.errors.InvalidArgumentError
REFUSED = [
    (tf.nn.sigmoid_cross_entropy_with_logits, (F32, None), ValueError, "logits=None"),
    (tf.nn.sigmoid_cross_entropy_with_logits, (F64, F32), INVALID, "float32; got float64"),
    (tf.nn.sigmoid_cross_entropy_with_logits, ([1, 0], [1.0, 2.0]), INVALID, "got int32"),
    (tf.nn.sigmoid_cross_entropy_with_logits, (I32, I32), INVALID, "logits must be floating"),
    (tf.nn.sigmoid_cross_entropy_with_logits, (F32 * 1j, F32), INVALID, "must hold real numbers"),
    (tf.nn.sigmoid_cross_entropy_with_logits, (F32[0], F32), ValueError, "nothing is broadcast"),
    (tf.nn.weighted_cross_entropy_with_logits, (I32, F32, 2.0), TypeError, "got int32 beside"),
    (tf.nn.weighted_cross_entropy_with_logits, (I32, F32, 2), INVALID, "got int32"),
    (tf.nn.weighted_cross_entropy_with_logits, (F32, F32, None), TypeError, "got None"),
    (tf.nn.weighted_cross_entropy_with_logits, (F32, F32, F32.T), INVALID, "must broadcast"),
    (tf1.nn.weighted_cross_entropy_with_logits, (None, F32, 1.0), ValueError, "labels=None"),
    (tf.nn.softmax_cross_entropy_with_logits, (None, F32), ValueError, "got None"),
    (tf.nn.softmax_cross_entropy_with_logits, (F32, F32, -2), INVALID, "axis must be -1 or"),
    (tf.nn.softmax_cross_entropy_with_logits, (F32, F32, 1.0), INVALID, "must be an int"),
    (tf.nn.softmax_cross_entropy_with_logits, (F32, F32[:1]), INVALID, "stands for all"),
    (tf.nn.softmax_cross_entropy_with_logits, (F32[:, :2], F32), INVALID, "sparse op"),
    (tf.nn.softmax_cross_entropy_with_logits, (F32[0], F32, 0), INVALID, "stands for all"),
    (tf.nn.softmax_cross_entropy_with_logits, (F32[:0, :0],) * 2, INVALID, "stands for all"),
    (tf.nn.softmax_cross_entropy_with_logits_v2, (None, F32), ValueError, "got None"),
    (tf.nn.sparse_softmax_cross_entropy_with_logits, (IDS + 3, F32), INVALID, "row 0, 3 at row 1"),
    (tf.nn.sparse_softmax_cross_entropy_with_logits, (IDS, F32[:, :0]), INVALID, "one class"),
    (tf.nn.sparse_softmax_cross_entropy_with_logits, (F32, F32), ValueError, "axis=1"),
    (tf.nn.sparse_softmax_cross_entropy_with_logits, (IDS[:1], F32), ValueError, "one id per row"),
    (tf.nn.sparse_softmax_cross_entropy_with_logits, (0, 1.0), ValueError, "class axis"),
    (tf.nn.sparse_softmax_cross_entropy_with_logits, (IDS != 0, F32), INVALID, "int32 or int64"),
    (tf1.nn.sparse_softmax_cross_entropy_with_logits, (IDS,), ValueError, "logits=None"),
    (tf.nn.softmax, (F32, 2), INVALID, r"lie in \[-2, 2\)"),
    (tf.nn.log_softmax, (1.0,), INVALID, "at least one axis"),
    (tf.sigmoid, ([1],), INVALID, "floating point"),
    (tf.losses.compute_weighted_loss, (F32, 1.0, None, None, "sum"), ValueError, "tf.keras.losses"),
    (tf.losses.compute_weighted_loss, (F32, F32[0]), ValueError, r"\(2, 1\)"),
    (tf.losses.softmax_cross_entropy, (F32, F32[:1]), ValueError, "nothing is broadcast"),
    (tf.losses.softmax_cross_entropy, (I32, I32), INVALID, "logits must be floating"),
    (tf.losses.sparse_softmax_cross_entropy, (IDS, F32, [[1.0, 0.0]]), INVALID, "trailing axis"),
    (tf.losses.mean_squared_error, (F32, None), ValueError, "predictions must be"),
    (tf.reduce_sum, ([True],), INVALID, "got bool"),
    (tf.reduce_mean, (F32, 2), INVALID, "None reduces all"),
    (tf.one_hot, ([0.0], 2), INVALID, "must be integers"),
    (tf.one_hot, ([0], -1), INVALID, "depth must be >= 0"),
    (tf.one_hot, ([0], 2, 1.0, None, None, tf.int32), TypeError, "must agree"),
    (tf.constant, ([1.0, 2.0], None, [3]), TypeError, "fill the shape"),
    (tf.constant, (0.5, tf.int32), TypeError, "must be integers"),
    (tf.cast, (None, tf.float32), ValueError, "got None"),
    (tf1.reduce_mean, (F32, None, True, None, None, None, None), TypeError, "positional"),
]


@pytest.mark.parametrize(("function", "arguments", "error", "says"), REFUSED)
def test_wrong_arguments_are_refused(function, arguments, error, says):
    with pytest.raises(error, match=says) as caught:
        function(*arguments)
    if "positional" not in says:
        assert isinstance(caught.value, CrossentError)
        # <argument> must <expectation>; got <what>. <one way out>.
        assert " must " in str(caught.value)
        assert "; got " in str(caught.value)
        assert str(caught.value).endswith(".")


DEPRECATED_REFUSED = [
    (tf1.nn.softmax_cross_entropy_with_logits, {**ROWS, "axis": 0}, ValueError, "dim=None"),
    (tf1.nn.softmax_cross_entropy_with_logits, {"logits": F32}, ValueError, "labels=None"),
    (
        tf1.nn.weighted_cross_entropy_with_logits,
        {"targets": F32, "labels": F32, "logits": F32, "pos_weight": 1.0},
        ValueError,
        "old name",
    ),
    (tf1.nn.softmax, {"logits": F32, "axis": 0, "dim": 0}, ValueError, "old name"),
    (tf1.reduce_sum, {"input_tensor": F32, "axis": 0, "reduction_indices": 0}, ValueError, "both"),
    (tf.contrib.losses.compute_weighted_loss, {"losses": 1.0}, INVALID, "at least one axis"),
    (
        tf.contrib.losses.compute_weighted_loss,
        {"losses": F32, "weights": [1.0, 1.0, 1.0]},
        ValueError,
        "leading axes",
    ),
    (
        tf.contrib.losses.sparse_softmax_cross_entropy,
        {"logits": F32, "labels": I32[:, :2]},
        ValueError,
        "one id per row",
    ),
    (
        tf.contrib.losses.softmax_cross_entropy,
        {"logits": F32[0], "onehot_labels": F32[0], "label_smoothing": 0.1},
        ValueError,
        "batch axis",
    ),
]


@pytest.mark.parametrize(("function", "arguments", "error", "says"), DEPRECATED_REFUSED)
def test_deprecated_functions_refuse_too(function, arguments, error, says):
    with pytest.warns(DeprecationWarning, match="Use "), pytest.raises(error, match=says):
        function(**arguments)


PUBLIC_MODULES = [
    module
    for name, module in sorted(sys.modules.items())
    if name.startswith("crossent.tf_compat") and "._" not in name
]


@pytest.mark.parametrize("module", PUBLIC_MODULES, ids=lambda module: module.__name__)
def test_what_a_module_imports_for_itself_is_no_name_of_tensorflow(module):
    own = [name for name in vars(module) if not name.startswith("_")]
    leaking = [name for name in own if hasattr(module, name) and name not in module.__all__]
    assert leaking == []
    assert "absent" in own
    with pytest.raises(AttributeError, match="tf_compat holds TensorFlow's losses; it has no"):
        module.absent  # noqa: B018 - the look-up is what is tested


def test_every_public_module_is_there():
    assert len(PUBLIC_MODULES) >= 20
