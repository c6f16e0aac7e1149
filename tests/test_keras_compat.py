"""Keras' losses where the golden cases say nothing: clipping, class ids, masks, gradients.

Numbers without a derivation were measured on Keras 3.15.1 and tf_keras 2.21.0.
"""

import ml_dtypes  # noqa: F401 - makes NumPy know "bfloat16"
import numpy as np
import pytest

import crossent.tf_compat as tf
from crossent.numpy import value_and_grad

K3, K2 = tf.keras.losses, tf.tf_keras.losses
GENERATIONS = pytest.mark.parametrize("losses", [K3, K2], ids=["keras 3", "keras 2"])
ARTICLE_LABELS = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
ARTICLE_PROBS = np.array([[0.05, 0.95, 0], [0.1, 0.8, 0.1]], np.float32)
# Row losses 1, 4 and 9 of MeanSquaredError, and 1, 4, 9 | 16, 25, 36 of rank 2.
ZEROS, ROOTS = np.zeros((3, 2), np.float32), np.array([[1, 1], [2, 2], [3, 3]], np.float32)
ZEROS_2D, ROOTS_2D = np.zeros((2, 3, 1), np.float32), np.arange(1, 7.0).reshape(2, 3, 1)


@pytest.fixture
def settings():
    """Both generations' settings, put back after the test."""
    backends = tf.keras.backend, tf.tf_keras.backend
    yield backends
    for backend in backends:
        backend.set_epsilon(1e-7)
        backend.set_floatx("float32")


# ---- the articles


@GENERATIONS
def test_categorical_article(losses):
    loss = losses.CategoricalCrossentropy()
    assert loss(ARTICLE_LABELS, ARTICLE_PROBS) == pytest.approx(1.176939, abs=1e-6)
    smooth = losses.CategoricalCrossentropy(label_smoothing=0.1)
    # A probability of 0 counts as 1e-7.
    assert smooth(ARTICLE_LABELS, ARTICLE_PROBS) == pytest.approx(1.459136, abs=1e-6)
    sparse = losses.SparseCategoricalCrossentropy()
    assert sparse([1, 2], ARTICLE_PROBS) == pytest.approx(1.176939, abs=1e-6)


@GENERATIONS
def test_binary_article(losses):
    y, x = [0, 1, 0, 0], [-18.6, 0.51, 2.94, -12.8]
    plain = losses.BinaryCrossentropy(from_logits=True)
    smooth = losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    assert plain(y, x) == pytest.approx(0.865458, abs=1e-6)
    assert smooth(y, x) == pytest.approx(1.227583, abs=1e-6)


# ---- clipping


def test_what_probability_0_costs():
    y, p = np.float32([[1], [0]]), np.float32([[0], [1]])
    three = K3.binary_crossentropy(y, p)
    np.testing.assert_allclose(three, [-np.log(1e-7), 23 * np.log(2)], rtol=1e-6)
    two = K2.binary_crossentropy(y, p)  # epsilon is added in the logarithms once more
    np.testing.assert_allclose(two, [-np.log(2e-7), -np.log(2.0**-23 + 1e-7)], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_never_nan_where_label_and_prediction_agree(dtype):
    y, p = (np.array(v, dtype) for v in ([[1], [0], [0]], [[1], [0], [1]]))
    value, gradient = value_and_grad(K3.binary_crossentropy, wrt="y_pred", y_true=y, y_pred=p)
    assert value.dtype == gradient.dtype == np.dtype(dtype)
    assert value[0] == 0
    assert value[1] < 1e-6
    assert value[2] == np.inf  # 1 - 1e-7 is 1 there: nothing is clipped at the top
    assert np.isfinite(gradient[:2].astype(float)).all()


def test_keras_2_adds_an_epsilon_that_half_precision_holds():
    y, p = np.array([[1], [0]], np.float16), np.array([[0], [1]], np.float16)
    np.testing.assert_array_equal(K2.binary_crossentropy(y, p), np.float16([15.25, 15.945]))


def test_the_gradient_is_0_outside_of_the_bounds_and_whole_on_them():
    p = np.array([[-0.5], [1e-7], [1 - 1e-7], [1.5]])
    _, gradient = value_and_grad(K3.binary_crossentropy, wrt="y_pred", y_true=p * 0 + 1, y_pred=p)
    np.testing.assert_allclose(gradient, [[0], [-1e7], [-1 / (1 - 1e-7)], [0]])


def test_gamma_0_has_a_gradient_where_the_prediction_is_certain():
    y = p = np.array([[1.0, 0.0]])  # Keras: NaN
    for losses in (K3, K2):
        _, gradient = value_and_grad(
            losses.binary_focal_crossentropy, wrt="y_pred", y_true=y, y_pred=p, gamma=0.0
        )
        np.testing.assert_array_equal(gradient, 0)


def test_the_focal_factor_keeps_its_digits():
    y, x = np.ones((1, 1)), np.full((1, 1), 40.0)
    value = K3.binary_focal_crossentropy(y, x, from_logits=True)
    np.testing.assert_allclose(value, [np.exp(-120)], rtol=1e-13)


def test_equal_distributions_have_no_divergence():
    np.testing.assert_array_equal(K3.kld([[1.0, 0.0]], [[1.0, 0.0]]), [0])


def test_kl_divergence_of_half_precision_does_not_overflow():
    y, p = np.array([[0, 1]], np.float16), np.array([[1, 0]], np.float16)  # Keras: inf
    np.testing.assert_allclose(K3.kld(y, p), [15.94], rtol=1e-3)


def test_epsilon_belongs_to_a_generation(settings):
    settings[0].set_epsilon(1e-3)
    assert settings[0].epsilon() == 1e-3
    assert settings[1].epsilon() == 1e-7
    y, p = np.ones((1, 1)), np.zeros((1, 1))
    np.testing.assert_allclose(K3.binary_crossentropy(y, p), [-np.log(1e-3)])
    np.testing.assert_allclose(K2.binary_crossentropy(y, p), [-np.log(2e-7)])
    for wrong in (0.5, -1e-9, "1e-7"):
        with pytest.raises(ValueError, match=r"value must be a number in \[0, 0.5\); got"):
            settings[0].set_epsilon(wrong)


def test_epsilon_0_clips_nothing(settings):
    settings[0].set_epsilon(0)
    y, p = np.array([[1.0], [0.0], [1.0]]), np.array([[1.0], [0.0], [0.0]])
    np.testing.assert_array_equal(K3.binary_crossentropy(y, p), [0, 0, np.inf])


# ---- logits


@GENERATIONS
def test_logits_are_not_recovered_from_probabilities(losses):
    """An array cannot carry the logits behind it; Keras' tensors would give 400."""
    x, y = np.float32([[-200, 200]]), np.float32([[1, 0]])
    p = tf.keras.activations.softmax(x)
    assert losses.categorical_crossentropy(y, p)[0] == pytest.approx(16.118, abs=1e-3)
    assert losses.categorical_crossentropy(y, x, from_logits=True)[0] == 400


@GENERATIONS
def test_smoothing_is_shared_among(losses):
    """Keras 3 counts the classes on the last axis (2 here), Keras 2 on the class axis (3)."""
    y, x = np.zeros((1, 3, 2), np.float64), np.zeros((1, 3, 2), np.float64)
    value = losses.categorical_crossentropy(y, x, from_logits=True, axis=1, label_smoothing=0.3)
    np.testing.assert_allclose(value, 3 * 0.3 / (2 if losses is K3 else 3) * np.log(3))


# ---- class ids


@pytest.mark.parametrize(("dtype", "label"), [("float16", 2049), ("bfloat16", 257)])
def test_class_ids_are_not_rounded_to_the_dtype(dtype, label):
    """Keras scores class 2048, or 256."""
    x = np.zeros((1, 3000), np.float32)
    x[0, label] = 5
    loss = K3.SparseCategoricalCrossentropy(from_logits=True, dtype=dtype)
    assert loss(np.array([label]), x) < 4  # 8 for the neighbour
    assert loss(np.array([label - 1]), x) > 7
    assert loss(np.array([label]), x).dtype == np.dtype(dtype)


@GENERATIONS
def test_ignored_rows_may_hold_anything(losses):
    x = np.float32([[np.nan, np.inf, 0], [1, 2, 3], [-np.inf] * 3, [3, 2, 1]])
    y = np.array([-1, 2, -1, 1])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    value, gradient = value_and_grad(loss, wrt="y_pred", y_true=y, y_pred=x)
    kept = losses.SparseCategoricalCrossentropy(from_logits=True)
    expected, of_kept = value_and_grad(kept, wrt="y_pred", y_true=y[1::2], y_pred=x[1::2])
    assert value == pytest.approx(expected)
    np.testing.assert_array_equal(gradient[::2], 0)
    np.testing.assert_allclose(gradient[1::2], of_kept, rtol=1e-6)
    rows = losses.sparse_categorical_crossentropy(y, x, from_logits=True, ignore_class=-1)
    np.testing.assert_allclose(rows, [0, 0.407606, 0, 1.407606], rtol=1e-6)


@GENERATIONS
def test_ignored_probabilities_may_be_nan(losses):
    p = np.array([[np.nan, 0.5], [0.25, 0.75]])
    value, gradient = value_and_grad(
        losses.sparse_categorical_crossentropy,
        wrt="y_pred", y_true=np.array([7, 0]), y_pred=p, ignore_class=7,
    )  # fmt: skip
    np.testing.assert_allclose(value, [0, np.log(4)])
    np.testing.assert_allclose(gradient, [[0, 0], [-3, 1]])


@GENERATIONS
def test_fractions_of_labels_are_cut_off(losses):
    rows = losses.sparse_categorical_crossentropy([0.7, 1.9, -0.7], [[0.25, 0.75]] * 3)
    np.testing.assert_allclose(rows, -np.log([0.25, 0.75, 0.25]), rtol=1e-6)


def test_everything_ignored():
    y, x = [-1, -1], np.zeros((2, 3), np.float32)
    assert K3.SparseCategoricalCrossentropy(ignore_class=-1)(y, x) == 0
    assert np.isnan(K2.SparseCategoricalCrossentropy(ignore_class=-1)(y, x))


def test_keras_2_takes_any_class_axis_and_labels_of_another_rank():
    p = np.linspace(0.1, 0.9, 24).reshape(2, 3, 4)
    y = [[0, 1, 2, 0], [1, 1, 1, 1]]
    moved = K2.sparse_categorical_crossentropy(y, np.moveaxis(p, 1, -1))
    np.testing.assert_array_equal(K2.sparse_categorical_crossentropy(y, p, axis=1), moved)
    flat = K2.sparse_categorical_crossentropy([0, 1, 2, 0, 1, 1], p)
    np.testing.assert_array_equal(
        flat, K2.sparse_categorical_crossentropy([[0, 1, 2], [0, 1, 1]], p)
    )
    assert K2.sparse_categorical_crossentropy([1], [0.25, 0.75]).shape == (1,)
    with pytest.raises(ValueError, match="axis must be -1, the last axis; got 1"):
        K3.sparse_categorical_crossentropy(y, p, axis=1)
    with pytest.raises(ValueError, match=r"y_true must have shape \(2, 3\)"):
        K3.sparse_categorical_crossentropy([0, 1, 2, 0, 1, 1], p)


# ---- masks and weights


MASKS = {
    "mask": ([1, 0, 1], None, [1, 0, 9], 10, 5),
    "a column": ([[1], [0], [1]], None, [1, 0, 9], 10, 5),
    "nothing kept": ([0, 0, 0], None, [0, 0, 0], 0, 0),
    "and weights": ([1, 0, 1], [1, 2, 3], [1, 0, 27], 28, 14),
    "and a number": ([1, 0, 1], 2.0, [2, 0, 18], 20, 10),
}


@pytest.mark.parametrize("case", MASKS)
@GENERATIONS
def test_masks(losses, case):
    mask, weight, rows, total, mean = MASKS[case]
    mask = np.array(mask, bool)
    results = {
        reduction: losses.MeanSquaredError(reduction=reduction)(ZEROS, ROOTS, weight, mask=mask)
        for reduction in ("none", "sum", "sum_over_batch_size")
    }
    np.testing.assert_allclose(np.ravel(results["none"]), rows)
    assert results["sum"] == total
    if losses is K2 and not mask.any():
        assert np.isnan(results["sum_over_batch_size"])  # 0 / 0, in Keras 2
    else:
        assert results["sum_over_batch_size"] == pytest.approx(mean)


def test_masks_of_rank_2():
    mask = np.array([[1, 0, 1], [1, 1, 1]], bool)
    column = np.array([[1.0], [2.0]])
    for losses in (K3, K2):
        loss = losses.MeanSquaredError()
        assert loss(ZEROS_2D, ROOTS_2D, mask=mask) == pytest.approx(87 / 5)
        assert loss(ZEROS_2D, ROOTS_2D, column, mask=mask) == pytest.approx(164 / 5)
    # A vector of weights stands for the leading axis in Keras 2 and for the last in Keras 3.
    assert K2.MeanSquaredError()(ZEROS_2D, ROOTS_2D, [1, 2], mask=mask) == pytest.approx(164 / 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="sample_weight must broadcast with"):
        K3.MeanSquaredError()(ZEROS_2D, ROOTS_2D, [1, 2], mask=mask)


def test_mean_with_sample_weight_divides_by_the_weights():
    loss = K3.MeanSquaredError(reduction="mean_with_sample_weight")
    assert loss(ZEROS, ROOTS, [1, 2, 3]) == pytest.approx(36 / 6)
    assert loss(ZEROS, ROOTS, [1, 2, 3], mask=np.array([1, 0, 1])) == pytest.approx(28 / 4)
    assert loss(ZEROS, ROOTS, [0, 0, 0]) == 0
    assert loss(ZEROS, ROOTS) == pytest.approx(14 / 3)


@GENERATIONS
def test_a_mask_joins_the_ignored_labels(losses):
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    assert loss([-1, 1, 0], ROOTS, mask=[True, False, True]) == pytest.approx(np.log(2))


@GENERATIONS
def test_weight_0_does_not_hide_a_nan(losses):
    broken = ROOTS.copy()
    broken[1] = np.nan
    assert np.isnan(losses.MeanSquaredError()(ZEROS, broken, [1, 0, 1]))


def test_weights_beyond_one_per_row():
    row = np.array([[1.0, 2.0, 3.0]])
    larger = K3.MeanSquaredError(reduction="none")(ZEROS, ROOTS, row)
    np.testing.assert_allclose(larger, [[1, 8, 27]])
    column = K3.MeanSquaredError(reduction="none")(ZEROS, ROOTS, row.T)
    np.testing.assert_allclose(column, [[1], [8], [27]])
    np.testing.assert_allclose(
        K2.MeanSquaredError(reduction="none")(ZEROS, ROOTS, row.T), [1, 8, 27]
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="sample_weight must have rank 1"):
        K2.MeanSquaredError()(ZEROS, ROOTS, row)


def test_scalars_and_empty_batches_are_not_reduced_by_keras_3():
    for reduction in ("sum", "mean", "none"):
        empty = K3.MeanSquaredError(reduction=reduction)(np.zeros((0, 2)), np.zeros((0, 2)))
        assert empty.shape == (0,)
    assert K2.MeanSquaredError()(np.zeros((0, 2)), np.zeros((0, 2))) == 0
    assert K3.MeanSquaredError()([1.0, 3.0], [0.0, 1.0]) == 2.5


# ---- broadcasting


def test_keras_2_broadcasts_binary_losses():
    y, p = np.float64([[[0.0, 1.0]], [[1.0, 1.0]]]), np.float64([[0.2, 0.9], [0.6, 0.4]])
    value, gradient = value_and_grad(K2.binary_crossentropy, wrt="y_pred", y_true=y, y_pred=p)
    wide = np.broadcast_to(y, (2, 2, 2)), np.broadcast_to(p, (2, 2, 2))
    whole, of_each = value_and_grad(
        K2.binary_crossentropy, wrt="y_pred", y_true=wide[0], y_pred=wide[1]
    )
    np.testing.assert_array_equal(value, whole)
    np.testing.assert_allclose(gradient, of_each.sum(axis=0))
    with pytest.raises(ValueError, match="y_true must have the shape of y_pred"):
        K3.binary_crossentropy(y, p)


def test_keras_3_broadcasts_the_categorical_focal_loss():
    y, p = np.arange(1, 9.0).reshape(2, 4, 1) / 8, np.array([0.2, 0.3, 0.5])
    whole = K3.categorical_focal_crossentropy(
        np.broadcast_to(y, (2, 4, 3)), p[None, None, :] * y / y
    )
    np.testing.assert_allclose(K3.categorical_focal_crossentropy(y, p), whole)
    # The labels' own last axis, of length 1, is what shares the smoothing.
    smooth = K3.categorical_focal_crossentropy(y, p, label_smoothing=0.3)
    np.testing.assert_allclose(smooth, K3.categorical_focal_crossentropy(y * 0.7 + 0.3, p))
    with pytest.raises(ValueError, match="y_true must have the shape of y_pred"):
        K2.categorical_focal_crossentropy(y, p)


# ---- gradients


def losses_to_differentiate():
    rng = np.random.default_rng(5)
    y, p = rng.dirichlet(np.ones(3), 4), rng.dirichlet(np.ones(3), 4)
    weight = np.array([0.5, 2.0, 0.0, 1.0])
    for losses in (K3, K2):
        dtype = {"dtype": "float64"} if losses is K3 else {}
        for name in ("Binary", "BinaryFocal", "Categorical", "CategoricalFocal"):
            for from_logits in (False, True):
                loss = getattr(losses, f"{name}Crossentropy")(
                    from_logits=from_logits, label_smoothing=0.1, **dtype
                )
                yield loss, y, p - 0.4 if from_logits else p, weight
        yield losses.KLDivergence(**dtype), y, p, weight
        yield losses.MeanSquaredError(**dtype), y, p, weight


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred", "weight"),
    list(losses_to_differentiate()),
    ids=lambda v: f"{type(v).__module__.split('.')[2]}-{v.name}" if hasattr(v, "name") else "",
)
def test_gradients_are_derivatives(loss, y_true, y_pred, weight):
    arguments = {"y_true": y_true, "y_pred": y_pred, "sample_weight": weight}
    _, gradients = value_and_grad(loss, wrt=tuple(arguments), **arguments)
    for (name, array), gradient in zip(arguments.items(), gradients, strict=True):
        if name == "y_true" and getattr(loss, "from_logits", False) and "cat" in loss.name:
            continue  # labels that do not sum to 1 have TensorFlow's own gradient
        for place in np.ndindex(array.shape):
            step = np.zeros_like(array)
            step[place] = 1e-6
            ends = [loss(**{**arguments, name: array + sign * step}) for sign in (1, -1)]
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7), name


@GENERATIONS
def test_second_derivatives(losses):
    y, p = np.array([[0.0, 1.0, 0.0]]), np.array([[0.2, 0.5, 0.4]])

    def slope(**arguments):
        return value_and_grad(losses.categorical_crossentropy, wrt="y_pred", **arguments)[1][0, 1]

    _, second = value_and_grad(slope, wrt="y_pred", y_true=y, y_pred=p)
    # log(sum p) - log p_1: 1 / p_1^2 - 1 / (sum p)^2, and the latter elsewhere
    np.testing.assert_allclose(second, [[-1 / 1.21, 4 - 1 / 1.21, -1 / 1.21]])
