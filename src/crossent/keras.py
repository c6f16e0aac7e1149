"""Keras 3: every loss as a `keras.losses.Loss`, on its PyTorch, JAX and TensorFlow back ends.

    import crossent as xe
    import crossent.keras

    model.compile("adam", loss=crossent.keras.Loss(xe.focal_loss, gamma=2.0))

The functions themselves take what `keras.ops` and layers return, in `train_step` and `call` too.
"""

import inspect
from collections.abc import Callable
from typing import Any, Self

import keras
import numpy as np
from keras import ops

# The only way to read the mask that Keras attaches to a tensor: JAX's tracers have no room for an
# attribute (test_keras.py holds it on all back ends).
from keras.src.backend import get_keras_mask

from crossent import losses
from crossent.errors import ArgumentError, OptionError

# What a loss has for training only: see `Loss.for_eval`, and that of PyTorch.
_TRAINING_ONLY = ("label_smoothing", "class_weight")


@keras.saving.register_keras_serializable(package="crossent")
class Loss(keras.losses.Loss):  # type: ignore[misc] # Keras ships no types
    """A loss of crossent for `compile`, called (y_true, y_pred, sample_weight).

    Its value is that of the function itself,
    `loss(labels=y_true, logits=y_pred, sample_weight=sample_weight, **options)`, in `fit`,
    `evaluate` and by hand, eager and compiled. So it differs from `keras.losses` in this:

    - `reduction="mean"`, the default, divides by the sum of the weights over the rows that are
      kept; Keras divides by the number of rows. `reduction="mean_all"` is Keras' default,
      "sum_over_batch_size". For sigmoid losses every element is a row.
    - `class_weight` of `fit` becomes `sample_weight`, and so is part of that divisor.
    - `y_pred` holds logits unless `scores` says otherwise, and is never clipped, normalised or
      traced back to the logits behind a softmax.
    - Integer labels stay integers, and are checked as the function checks them. Half precision is
      computed in float32. There is no `dtype` to set.

    A mask of Keras (`Embedding(mask_zero=True)`, `Masking`) takes rows out: out of the value, the
    gradient and every divisor, whatever labels and scores they hold. Weights broadcast from the
    leading axes; a trailing 1 too many is dropped. With several replicas of `tf.distribute`, "mean"
    and "mean_all" divide by what all replicas hold, so that a split of the batch changes nothing.

    Keras uses the same object on validation data, with its smoothing and class weights, and
    averages the batches by their sizes. For a plain loss that is exact with weights and masks, pass
    `weighted_metrics=[keras.metrics.MeanMetricWrapper(rows, name="nll")]` with
    `rows = Loss(xe.softmax_cross_entropy, reduction="none")`.

    A saved model holds the loss by its name, with the options as plain values; where it is loaded,
    `crossent.keras` must have been imported.

    Args:
        loss: a loss of crossent, such as `xe.softmax_cross_entropy` or `xe.focal_loss`.
        scores: what `y_pred` holds: "logits", "probs", "log_probs", or "predictions" for
            `xe.mean_squared_error`.
        name: the name in Keras' logs; by default that of the loss.
        options: options of that loss, plain values or arrays.

    Shape:
        y_true, y_pred as labels and scores of the loss -> () or, for reduction "none", the rows.

    Raises:
        ArgumentError, OptionError; when called, what the loss raises.

    Source:
        Keras' protocol: https://keras.io/api/losses/.

    Example:
        >>> import crossent as xe, crossent.keras
        >>> loss = crossent.keras.Loss(xe.softmax_cross_entropy, label_smoothing=0.1)
        >>> loss
        Loss(softmax_cross_entropy, label_smoothing=0.1)
        >>> model.compile("adam", loss=loss)  # doctest: +SKIP
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        scores: str = "logits",
        *,
        name: str | None = None,
        **options: Any,
    ) -> None:
        parameters = _parameters(loss)
        _check(loss.__name__, parameters, scores, options)
        super().__init__(name=name or loss.__name__)
        self.loss = loss
        self.scores = scores
        self.options = {key: _plain(value) for key, value in options.items()}
        self.reduction = options.get("reduction", "mean")
        self._has_classes = "class_weight" in parameters

    def __repr__(self) -> str:
        scores = "" if self.scores == "logits" else f", scores={self.scores!r}"
        options = "".join(f", {key}={value!r}" for key, value in self._plain_options().items())
        return f"Loss({self.loss.__name__}{scores}{options})"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss, as the function gives it."""
        mask = get_keras_mask(y_pred)
        options = {key: _own(value) for key, value in self.options.items()}
        with keras.name_scope(self.name):
            y_pred, y_true, weight = _own(y_pred), _own(y_true), _own(sample_weight)
            symbolic = any(isinstance(x, keras.KerasTensor) for x in (y_true, y_pred, weight))
            if symbolic:  # the function has the error message
                return self.loss(labels=y_true, **{self.scores: y_pred}, sample_weight=weight)
            axis = self._class_axis(y_pred)
            weight = _of_rows(weight, len(y_pred.shape) - (axis is not None))
            if mask is not None:
                mask = _of_rows(mask, len(y_pred.shape) - (axis is not None))
                y_true = _filled(y_true, mask, y_pred, axis)
                weight = _masked(weight, mask)
            divisor = self._divisor(y_true, y_pred, weight, mask, axis, options)
            if divisor is not None:
                options.update(reduction="sum", normalizer=divisor)
            return self.loss(
                labels=y_true, **{self.scores: y_pred}, sample_weight=weight, **options
            )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The row losses, without weights or mask."""
        options = {key: _own(value) for key, value in self.options.items() if key != "normalizer"}
        options["reduction"] = "none"
        return self.loss(labels=_own(y_true), **{self.scores: _own(y_pred)}, **options)

    def for_eval(self) -> "Loss":
        """The same loss without label smoothing and class weights, as a number to report.

        Keras itself validates with the loss of training.
        """
        kept = {key: value for key, value in self.options.items() if key not in _TRAINING_ONLY}
        return type(self)(self.loss, self.scores, name=self.name, **kept)

    def get_config(self) -> dict[str, Any]:
        """Plain values from which `from_config` makes the loss again."""
        loss = {"loss": self.loss.__name__, "scores": self.scores}
        return {"name": self.name, **loss, **self._plain_options()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The loss of a configuration."""
        loss = getattr(losses, config["loss"], None)
        if loss is None:
            raise OptionError(
                f"loss must name a loss of crossent; got {config['loss']!r}. "
                "Was the model saved with a newer version?"
            )
        return cls(**{**config, "loss": loss})

    def _plain_options(self) -> dict[str, Any]:
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in self.options.items()
        }

    def _class_axis(self, y_pred: Any) -> int | None:
        """The class axis, or None where every element is a row."""
        if not self._has_classes:
            return None
        axis, rank = self.options.get("axis", -1), len(y_pred.shape)
        # What is wrong here is for the function to say.
        return axis % rank if isinstance(axis, int) and -rank <= axis < rank else rank - 1

    def _divisor(
        self,
        y_true: Any,
        y_pred: Any,
        weight: Any,
        mask: Any,
        axis: int | None,
        options: dict[str, Any],
    ) -> Any:
        """What to divide by where the function does not know: rows masked, or on other replicas."""
        reduction = options.get("reduction", "mean")
        replicas = _replicas()
        masked = mask is not None and reduction == "mean_all"
        if reduction not in ("mean", "mean_all") or "normalizer" in options:
            return None
        if not masked and replicas is None:
            return None
        y_true, num_classes = _as_rows(y_true, y_pred, axis)
        divisor = losses.label_weight(
            labels=y_true,
            class_weight=options.get("class_weight") if reduction == "mean" else None,
            sample_weight=ops.cast(mask, "float32") if masked else weight,
            ignore_index=options.get("ignore_index"),
            axis=-1 if axis is None else axis,
            num_classes=num_classes,
            # "mean" with the mask as weight counts the rows that are there.
            reduction="mean" if masked else reduction,
        )
        return divisor if replicas is None else replicas.all_reduce("SUM", divisor)


def _parameters(loss: Any) -> Any:
    name = getattr(loss, "__name__", "")
    known = not name.startswith("_") and getattr(losses, name, None) is loss
    parameters = inspect.signature(loss).parameters if known else {}
    if "sample_weight" not in parameters or name == "label_weight":
        raise ArgumentError(
            f"loss must be a loss of crossent; got {loss!r}. "
            "Pass the function itself, such as xe.softmax_cross_entropy."
        )
    return parameters


def _check(name: str, parameters: Any, scores: str, options: dict[str, Any]) -> None:
    kinds = [k for k in ("logits", "probs", "log_probs", "predictions") if k in parameters]
    if scores not in kinds:
        raise OptionError(
            f"scores must be {' or '.join(map(repr, kinds))} for {name}; got {scores!r}. "
            "It says what the model returns."
        )
    given = ("labels", "sample_weight", *kinds)
    unknown = [key for key in options if key not in parameters or key in given]
    if unknown:
        known = [key for key in parameters if key not in given]
        raise ArgumentError(
            f"options must be options of {name}; got {', '.join(unknown)}. "
            f"It has {', '.join(known)}; Keras passes labels, scores and sample weights."
        )


def _plain(value: Any) -> Any:
    """The option as a plain value, or, where it is several numbers, as a NumPy array."""
    if isinstance(value, (list, tuple)) or hasattr(value, "shape"):
        array = np.asarray(ops.convert_to_numpy(value))
        return array if array.ndim else array.item()
    return value


def _own(value: Any) -> Any:
    """Arrays and lists as the back end's tensors; what Keras does not know stays.

    And so do integers that JAX would narrow: they are looked at first.
    """
    is_long = isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.itemsize == 8
    if is_long and keras.backend.backend() == "jax":
        return value
    if isinstance(value, (list, tuple, np.ndarray, np.generic, keras.Variable)):
        return ops.convert_to_tensor(value)
    return value


def _of_rows(weight: Any, rank: int) -> Any:
    """The weight without the trailing 1 that Keras allows."""
    if weight is not None and len(weight.shape) == rank + 1 and weight.shape[-1] == 1:
        return ops.squeeze(weight, -1)
    return weight


def _ranked(x: Any, rank: int) -> Any:
    """The array with axes of length 1 behind, to broadcast from the leading axes."""
    return ops.reshape(x, (*ops.shape(x), *[1] * (rank - len(x.shape))))


def _masked(weight: Any, mask: Any) -> Any:
    """The weight, 0 where masked."""
    if weight is None:
        return ops.cast(mask, "float32")
    rank = max(len(weight.shape), len(mask.shape))
    weight = _ranked(weight, rank)
    return ops.where(_ranked(ops.cast(mask, "bool"), rank), weight, ops.zeros_like(weight))


def _filled(y_true: Any, mask: Any, y_pred: Any, axis: int | None) -> Any:
    """The labels with valid ones where masked: padding is often -1, or a row of zeros."""
    rank = len(y_true.shape)
    mask = ops.cast(mask, "bool")
    filler = ops.zeros_like(y_true)
    if axis is not None and rank == len(y_pred.shape):
        # The class axis lies among those of the rows: a distribution, or ids with a 1 there.
        mask = ops.expand_dims(_ranked(mask, rank - 1), axis)
        one_id = y_pred.shape[axis] == 1 and not _is_float(y_true)
        if y_true.shape[axis] == y_pred.shape[axis] and not one_id:
            first = ops.cast(ops.arange(y_pred.shape[axis]) == 0, y_true.dtype)
            filler = filler + ops.reshape(first, (-1, *[1] * (rank - 1 - axis)))
    return ops.where(_ranked(mask, rank), y_true, filler)


def _as_rows(y_true: Any, y_pred: Any, axis: int | None) -> tuple[Any, int | None]:
    """Labels as `label_weight` tells ids and distributions apart; and the number of classes."""
    if axis is None:
        return ops.reshape(y_true, ops.shape(y_pred)), None
    num_classes = y_pred.shape[axis]
    if len(y_true.shape) == len(y_pred.shape):
        if y_true.shape[axis] == num_classes != 1:
            # In half precision they would be rounded, and the divisor with them.
            return y_true if _is_float(y_true) else ops.cast(y_true, "float32"), num_classes
        y_true = ops.squeeze(y_true, axis)
    return ops.cast(y_true, "int32"), num_classes


def _is_float(x: Any) -> bool:
    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)))


def _replicas() -> Any:
    """TensorFlow's replica context, where there are several replicas."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1 or tf.distribute.in_cross_replica_context():
        return None
    return tf.distribute.get_replica_context()
