"""A loss's call fitted to the labels at hand: gaps left out, slips repaired, numbers filled in."""

import re
from collections.abc import Mapping

from crossent.catalogue.calls import CALLS
from crossent.errors import OptionError

# Where a loss can leave out labels by itself. Elsewhere the rows are selected first.
_OWN_OPTION: Mapping[str, tuple[str, ...]] = {
    "crossent": (
        "softmax_ids",
        "softmax_smoothed",
        "softmax_weighted",
        "sigmoid_binary",
        "sigmoid_multilabel",
        "sigmoid_weighted",
        "focal",
        "focal_binary",
        "generalized_cross_entropy",
        "poly",
    ),
    "PyTorch": ("softmax_ids", "softmax_smoothed", "softmax_weighted"),
}
_WITHOUT_LABELS = ("in_batch_softmax", "pairwise_logistic")
# In TensorFlow 1 `!=` compares the tensors themselves, not their elements.
_KEEP_IDS = {
    "TensorFlow 1": "keep = tf.not_equal(labels, ignore_index)",
    "other": "keep = labels != ignore_index",
}
_KEEP_ROWS = {
    "TensorFlow 1": "keep = tf.reduce_sum(labels, axis=-1) > 0",
    "TensorFlow 2": "keep = tf.reduce_sum(labels, axis=-1) > 0",
    "Keras": "keep = keras.ops.sum(labels, axis=-1) > 0",
    "other": "keep = labels.sum(-1) > 0",
}
_SELECT_POS_WEIGHT = {
    "TensorFlow 1": "pos_weight = tf.boolean_mask(pos_weight + tf.zeros_like(logits), keep)",
    "TensorFlow 2": "pos_weight = tf.boolean_mask(pos_weight + tf.zeros_like(logits), keep)",
    "Keras": "pos_weight = (pos_weight + keras.ops.zeros_like(logits))[keep]",
    "PyTorch": "pos_weight = (pos_weight + torch.zeros_like(logits))[keep]",
    "other": "pos_weight = (pos_weight + np.zeros_like(logits))[keep]",
}
_TF_SHARES = (
    "labels = tf.cast(labels, logits.dtype)\n"
    "labels = labels / tf.reduce_sum(labels, axis=-1, keepdims=True)"
)
_NAMES = "np.unique(labels, return_inverse=True)[1]"


def _from_names(ids: str) -> Mapping[str, str]:
    """Text is NumPy's alone: where it is not at hand it is imported first."""
    return {
        "crossent": f"labels = {ids}",
        "PyTorch": f"import numpy as np\nlabels = torch.as_tensor({ids})",
        "Optax": f"import numpy as np\nlabels = jnp.asarray({ids})",
        "other": f"import numpy as np\nlabels = {ids}",
    }


# The line that makes of other labels those that the loss takes.
REPAIRS: Mapping[str, Mapping[str, str]] = {
    "names": _from_names(_NAMES),
    # An empty name comes first in the order.
    "names_or_none": _from_names(f"{_NAMES} - 1"),
    "from_1": {"other": "labels = labels - 1"},
    "signed": {"other": "labels = (labels + 1) / 2"},
    "mask_255": {"other": "labels = labels / 255"},
    # Class ids, where a loss of two classes takes the place of the sigmoid's.
    "signed_ids": {"other": "labels = (labels + 1) // 2"},
    "mask_255_ids": {"other": "labels = labels // 255"},
    "second_column": {"other": "labels = labels[:, 1]"},
    "one_hot": {
        "crossent": "labels = np.argmax(labels, axis=-1)",
        "TensorFlow 1": "labels = tf.argmax(labels, axis=-1)",
        "TensorFlow 2": "labels = tf.argmax(labels, axis=-1)",
        "Keras": "labels = keras.ops.argmax(labels, axis=-1)",
        "other": "labels = labels.argmax(-1)",
    },
    "votes": {
        "crossent": "labels = labels / labels.sum(-1, keepdims=True)",
        "TensorFlow 1": _TF_SHARES,
        "TensorFlow 2": _TF_SHARES,
        "Keras": "labels = labels / keras.ops.sum(labels, axis=-1, keepdims=True)",
        "PyTorch": "labels = labels / labels.sum(-1, keepdim=True)",
        "Optax": "labels = labels / jnp.maximum(labels.sum(-1, keepdims=True), 1)",
    },
}


_TWO_OUTPUTS = {
    "crossent": {
        "logits": "logits = np.stack([np.zeros_like(logits), logits], axis=-1)",
        "probs": "probs = np.stack([1 - probs, probs], axis=-1)",
        "log_probs": ("log_probs = np.stack([np.log(-np.expm1(log_probs)), log_probs], axis=-1)"),
    },
    "TensorFlow 1": {"logits": "logits = tf.stack([tf.zeros_like(logits), logits], axis=-1)"},
    "TensorFlow 2": {"logits": "logits = tf.stack([tf.zeros_like(logits), logits], axis=-1)"},
    "Keras": {
        "logits": "logits = keras.ops.stack([keras.ops.zeros_like(logits), logits], axis=-1)"
    },
    "PyTorch": {"logits": "logits = torch.stack([torch.zeros_like(logits), logits], dim=-1)"},
    "Optax": {"logits": "logits = jnp.stack([jnp.zeros_like(logits), logits], axis=-1)"},
}


def of_one_output(calls: Mapping[str, str], scores: str) -> dict[str, str]:
    """Calls of a softmax loss on two classes, for a model with one yes/no output."""
    return {
        library: f"{_TWO_OUTPUTS[library].get(scores, _TWO_OUTPUTS[library]['logits'])}\n{call}"
        for library, call in calls.items()
    }


_DIFFERENCE = {
    "logits": "logits = logits[..., 1] - logits[..., 0]",
    "probs": "probs = probs[..., 1]",
    "log_probs": "log_probs = log_probs[..., 1]",
}


def of_two_columns(calls: Mapping[str, str], scores: str) -> dict[str, str]:
    """Calls of a sigmoid loss for a model with one score for no and one for yes."""
    kinds = {library: scores if library == "crossent" else "logits" for library in calls}
    return {library: f"{_DIFFERENCE[kinds[library]]}\n{call}" for library, call in calls.items()}


def library_calls(
    name: str,
    *,
    unlabeled: bool = False,
    repair: str | None = None,
    values: Mapping[str, object] | None = None,
    scores: str = "logits",
) -> dict[str, str]:
    """The call of one loss in every library.

    Args:
        name: a key of `CALLS`.
        unlabeled: leave out rows (or elements) without a label: those equal to `ignore_index`;
            rows of one-hot labels, votes or distributions that do not sum to more than 0.
        repair: a key of `REPAIRS`, the line to put before the loss.
        values: numbers to write in place of names, such as `{"num_classes": 10}`.
        scores: "logits", "probs" or "log_probs": what crossent's call is given. The calls of the
            other libraries take logits.

    Raises:
        OptionError: `unlabeled` with a ranking loss, which takes no labels.
    """
    if unlabeled and name in _WITHOUT_LABELS:
        raise OptionError(f"unlabeled must be False for {name}; got True. It takes no labels.")
    first = None
    if repair in ("names", "names_or_none"):
        # No later line can read text.
        first, repair = REPAIRS[repair], None
    calls = {}
    for library, call in CALLS[name].items():
        text = call
        if unlabeled:
            text = _without_unlabeled(name, library, call, repair)
            if "pos_weight" in (values or {}):
                # One number needs no selection.
                text = text.replace(f"{_of(_SELECT_POS_WEIGHT, library)}\n", "")
        elif repair:
            text = f"{_of(REPAIRS[repair], library)}\n{call}"
        if first:
            text = f"{_of(first, library)}\n{text}"
        if library == "crossent" and takes_scores(name):
            text = re.sub(r"\blogits\b", scores, text)
        for variable, value in (values or {}).items():
            # `num_classes=num_classes`: the name of the argument stays.
            text = re.sub(rf"\b{variable}\b(?!\s*=(?!=))", str(value), text)
        calls[library] = text
    return calls


def takes_scores(name: str) -> bool:
    """Whether crossent's call takes logits, probs or log_probs; others compute scores inside."""
    return "logits=logits" in CALLS[name]["crossent"]


def _of(lines: Mapping[str, str], library: str) -> str:
    return lines.get(library) or lines["other"]


def _without_unlabeled(name: str, library: str, call: str, repair: str | None) -> str:
    if not repair and name in _OWN_OPTION.get(library, ()):
        return f"{call.removesuffix(')')}, ignore_index=ignore_index)"
    if not repair and (library, name) == ("Keras", "softmax_ids"):
        return call.replace("from_logits=True", "from_logits=True, ignore_class=ignore_index")
    by_sum = name in ("softmax_distribution", "kl_divergence") or repair in (
        "one_hot",
        "second_column",
        "votes",
    )
    repairs = [_of(REPAIRS[repair], library)] if repair else []
    if library == "Optax":
        return _optax_where(name, call, repairs, by_sum=by_sum)
    scores = next(array for array in ("hidden", "predictions", "logits") if array in call)
    lines = [_of(_KEEP_ROWS if by_sum else _KEEP_IDS, library)]
    if name == "sigmoid_weighted":
        # One weight per label has to follow its elements into the flat selection.
        lines.append(_of(_SELECT_POS_WEIGHT, library))
    selected = "tf.boolean_mask({0}, keep)" if library.startswith("TensorFlow") else "{0}[keep]"
    pair = f"{selected.format('labels')}, {selected.format(scores)}"
    lines.append(f"labels, {scores} = {pair}")
    return "\n".join([*lines, *repairs, call])


def _optax_where(name: str, call: str, repairs: list[str], *, by_sum: bool) -> str:
    """The call with a mask in place of a selection, whose size `jax.jit` could not know."""
    if by_sum:
        lines = ["keep = labels.sum(-1) > 0", "labels = jnp.where(keep[:, None], labels, 0)"]
    else:
        lines = ["keep = labels != ignore_index", "labels = jnp.where(keep, labels, 0)"]
    if name == "softmax_weighted":
        call = call.replace("class_weight[labels]", "class_weight[labels] * keep")
    where = "keep[:, None]" if name == "ordinal" else "keep"
    return "\n".join([*lines, *repairs, call.replace(".mean()", f".mean(where={where})")])
