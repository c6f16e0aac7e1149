"""What arguments must be.

Shapes, dtypes and options are checked from metadata alone, so that the checks also hold while a
library traces; labels and probabilities also by value, as NumPy arrays.

Knows no library: dtypes are names such as "float32", values arrive as NumPy arrays.
"""

import math
import reprlib
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from crossent.errors import (
    ArgumentError,
    DTypeError,
    LabelError,
    OptionError,
    ScoreError,
    ShapeError,
)

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
# Machine epsilon by dtype name; NumPy itself does not know bfloat16.
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}

Shape = tuple[Any, ...]  # TensorFlow's graphs have None where a length is not known yet


def plain_array(name: str, value: Any) -> Any:
    """Numbers, lists of them and NumPy's arrays as one array, without masks."""
    masked = np.ma.getmaskarray(value).sum() if isinstance(value, np.ma.MaskedArray) else 0
    if masked:
        raise DTypeError(
            f"{name} must be a plain array; got one with {masked} masked entries. "
            "Leave those rows out, or fill them: ignore_index skips labels, sample_weight 0 rows."
        )
    try:
        return np.asarray(value)
    except ValueError:
        raise ShapeError(
            f"{name} must be rectangular; got rows of different lengths. Pad them, or pass one "
            "row at a time."
        ) from None


def one_of(*, logits: Any, probs: Any, log_probs: Any) -> tuple[str, Any]:
    """The one argument of logits, probs and log_probs that is given."""
    if probs is None and log_probs is None and logits is not None:
        return "logits", logits
    scores = {"logits": logits, "probs": probs, "log_probs": log_probs}
    given = [(name, value) for name, value in scores.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(name for name, _ in given) or "none"
        raise ArgumentError(
            f"scores must be given as exactly one of {', '.join(scores)}; got {names}. "
            "Network outputs before softmax or sigmoid are logits=."
        )
    return given[0]


def number(
    name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """A finite Python number within its bounds."""
    # In haste: what follows would cost a small batch a tenth of its time.
    if type(value) is float and low <= value < high and not (open_low and value == low):
        return value
    result = _as_float(value)
    inside = math.isfinite(result) and low <= result <= high
    if not inside or (open_low and result == low):
        bounds = "" if low == -math.inf else f" {'>' if open_low else '>='} {low:g}"
        bounds += "" if high == math.inf else f" and <= {high:g}"
        raise OptionError(
            f"{name} must be a finite Python number{bounds}; got {_shown(value)}. "
            "Pass a plain float; it has no gradient."
        )
    return result


def _as_float(value: Any) -> float:
    """The number as a float; NaN for what is no number, infinity for integers beyond floats."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def reduction(value: Any, normalizer: Any) -> None:
    if not isinstance(value, str) or value not in ("mean", "sum", "mean_all", "none"):
        raise OptionError(
            f'reduction must be "mean", "sum", "mean_all" or "none"; got {_shown(value)}. '
            '"mean" divides by the weight of the kept rows.'
        )
    if value == "none" and normalizer is not None:
        raise OptionError(
            'normalizer must be absent with reduction "none"; got both. Use reduction="sum" to '
            "divide the sum."
        )


def class_axis(axis: Any, rank: int, name: str = "scores") -> int:
    """The class axis as a non-negative number."""
    if not _is_int(axis):
        raise OptionError(f"axis must be an int; got {_shown(axis)}. -1 is the last axis.")
    if rank == 0:
        raise ShapeError(
            f"{name} must have a class axis, shape (*batch, classes); got one number. "
            "A yes/no score by itself belongs to sigmoid or sigmoid_cross_entropy."
        )
    if not -rank <= axis < rank:
        raise ShapeError(
            f"axis must lie in [{-rank}, {rank}) for {name} of rank {rank}; got {axis}. "
            "-1 is the last axis."
        )
    return int(axis) % rank


def scores(name: str, dtype: str, shape: Shape) -> None:
    """Scores of a loss: floating point."""
    if dtype in FLOATS:
        return
    if dtype in INTEGERS or dtype == "bool":
        hint = "Are they and labels swapped? Otherwise convert them to floats first."
    else:
        hint = _conversion(dtype, "Convert them to float32 or float64 first.")
    raise DTypeError(f"{name} must be floating point; got {dtype} of shape {shape}. {hint}")


def numeric(name: str, dtype: str, shape: Shape) -> None:
    """Anything that can be read as real numbers."""
    if dtype not in FLOATS and dtype not in INTEGERS and dtype != "bool":
        raise DTypeError(
            f"{name} must hold real numbers; got {dtype} of shape {shape}. "
            f"{_conversion(dtype, 'Convert it to a float dtype first.')}"
        )


def _conversion(dtype: str, otherwise: str) -> str:
    # None, dicts, sets and generators become object arrays, as do lists that hold None; pandas
    # keeps names as objects.
    if dtype.startswith("object") and dtype != "object (str)":
        return "Pass an array or a list of numbers, not of objects."
    return otherwise


def fits(shape: Shape, other: Shape) -> bool:
    """Whether two shapes are, or may turn out to be, the same."""
    return len(shape) == len(other) and all(
        a == b or a is None or b is None for a, b in zip(shape, other, strict=True)
    )


def classes(name: str, shape: Shape, axis: int) -> None:
    if shape[axis] is None:
        raise ShapeError(
            f"{name} must have a known number of classes; got shape {shape} with axis {axis}. "
            "Set it with set_shape, or in the input signature."
        )
    if shape[axis] == 0:
        raise ShapeError(
            f"{name} must have at least one class; got shape {shape} with axis {axis}. "
            "Check axis=, or drop the empty array."
        )


def is_distribution(shape: Shape, dtype: str, scores_shape: Shape, axis: int) -> bool:
    """Whether labels are a distribution over the classes (else they are class ids)."""
    if dtype not in FLOATS and dtype not in INTEGERS and dtype != "bool":
        names = (
            "Map names to ids 0..classes-1 first, e.g. with np.unique(names, return_inverse=True)."
        )
        raise DTypeError(
            f"labels must be class ids (integers) or a distribution; got {dtype} of shape {shape}. "
            f"{_conversion(dtype, names)}"
        )
    rows = scores_shape[:axis] + scores_shape[axis + 1 :]
    if fits(shape, scores_shape) and not (scores_shape[axis] == 1 and dtype in INTEGERS):
        return True
    if fits(shape, rows) or fits(shape, (*scores_shape[:axis], 1, *scores_shape[axis + 1 :])):
        return False
    raise ShapeError(
        f"labels must have shape {rows} (class ids) or {scores_shape} (a distribution) to match "
        f"the scores {scores_shape} with class axis {axis}; got {shape}. "
        f"{_shape_hint(shape, dtype, scores_shape, axis)}"
    )


def _shape_hint(shape: Shape, dtype: str, scores_shape: Shape, axis: int) -> str:
    if len(shape) > len(scores_shape):
        return "Are labels and scores swapped?"
    axes = range(len(scores_shape))
    others = [k for k in axes if shape == scores_shape[:k] + scores_shape[k + 1 :]]
    if others and dtype in INTEGERS:
        return f"If axis {others[0]} holds the classes, pass axis={others[0]}."
    if shape and len(shape) == len(scores_shape) and sorted(shape) == sorted(scores_shape):
        return "Is the class axis another one? Pass axis=."
    if len(shape) == 1 and shape[0] == scores_shape[axis] and len(scores_shape) > 1:
        return "One distribution for all rows? Use np.broadcast_to(labels, logits.shape)."
    return "Each row of scores needs one label."


def id_dtype(dtype: str, shape: Shape, num_classes: int) -> None:
    """Class ids: integers; bools for two classes; floats while they can tell all classes apart."""
    if dtype in INTEGERS:
        return
    if dtype == "bool" and num_classes != 2:
        raise DTypeError(
            f"labels must be class ids in [0, {num_classes}); got bool of shape {shape}. "
            "bools are ids for two classes only; convert them to integers if that is meant."
        )
    if dtype in FLOATS and num_classes > 2 / EPSILON[dtype]:
        raise DTypeError(
            f"labels must keep every class apart; got {dtype} of shape {shape} for {num_classes} "
            f"classes, which it does only up to {int(2 / EPSILON[dtype])}. Pass integer labels."
        )


def ignore_index(value: Any, distribution: bool) -> None:
    if value is None:
        return
    if not _is_int(value):
        raise OptionError(
            f"ignore_index must be an int or None; got {_shown(value)}. Pass the label value to "
            "skip, e.g. -100."
        )
    if distribution:
        raise OptionError(
            f"ignore_index must be None with distributions as labels; got {value}. "
            "Set sample_weight to 0 in the rows to skip."
        )


def as_float(integer: int) -> float:
    """What labels that are floats are compared with; beyond the largest of them NaN equals none."""
    return float(integer) if abs(integer) < 2**1023 else math.nan


def class_weight(shape: Shape, num_classes: int | None) -> Any:
    """The number of classes, which is that of the weights where only they tell it."""
    if len(shape) != 1 or shape[0] != (num_classes or shape[0] or 1):
        length = "classes" if num_classes is None else num_classes
        raise ShapeError(
            f"class_weight must have one entry per class, shape ({length},); got {shape}. "
            "For one weight per row use sample_weight."
        )
    return shape[0]


def num_classes(value: Any) -> None:
    if not _is_int(value) or value < 1:
        raise OptionError(
            f"num_classes must be an int >= 1; got {_shown(value)}. It is the length of the class "
            "axis of the scores."
        )


def pos_weight(shape: Shape, scores_shape: Shape) -> None:
    if shape not in ((), (1,)) and not fits(shape, scores_shape[-1:]):
        raise ShapeError(
            f"pos_weight must be a number or have one entry per label, shape {scores_shape[-1:]}, "
            f"for scores of shape {scores_shape}; got {shape}. "
            "For one weight per element use sample_weight."
        )


def row_weight_shape(shape: Shape, rows: Shape, name: str = "sample_weight") -> None:
    """A weight broadcasts from the leading axes."""
    leading = zip(shape, rows, strict=False)
    if len(shape) > len(rows) or any(w not in (1, None, n) and n is not None for w, n in leading):
        raise ShapeError(
            f"{name} must match the leading axes of the row losses, shape {rows}; got {shape}. "
            "It may not enlarge the result: one weight per row, or 1 along an axis."
        )


def elementwise(labels: Shape, scores_shape: Shape, name: str = "logits") -> None:
    """Labels and scores of an elementwise loss: the same shape but for a trailing 1."""
    trailing_one = labels[-1:] == (1,) and fits(labels[:-1], scores_shape)
    if not (fits(labels, scores_shape) or fits((*labels, 1), scores_shape) or trailing_one):
        ids = labels == scores_shape[:-1] and name != "predictions"
        raise ShapeError(
            f"labels must have the shape of {name}, {scores_shape}; got {labels}. "
            + ("Class ids? They belong to softmax_cross_entropy; here " if ids else "Here ")
            + "every element has its own label."
        )


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


# ---- values, as NumPy arrays


def id_values(labels: np.ndarray, num_classes: int, ignored: int | None) -> None:
    """Every id lies in [0, classes), or is the ignored one."""
    is_float = labels.dtype.kind not in "iub"
    skipped = as_float(ignored) if is_float and ignored is not None else ignored
    kept = np.ones(labels.shape, bool) if ignored is None else labels != skipped
    if is_float:
        wide = labels.astype(np.float64)
        fractional = kept & ~(wide == np.floor(wide))
        if fractional.any():
            nan = np.isnan(wide[fractional]).all()
            raise LabelError(
                f"labels must be whole class ids; got {_first(wide, fractional)}. "
                + ("Mark rows to skip by -100, and pass ignore_index=-100." if nan else "")
                + ("" if nan else "A distribution needs the shape of the scores.")
            )
        labels = wide
    bad = kept & ~((labels >= 0) & (labels < num_classes))
    if bad.any():
        raise LabelError(
            f"labels must lie in [0, {num_classes}); got {_first(labels, bad)}. "
            f"{_id_hint(labels[kept], labels[bad], num_classes)}"
        )


def _id_hint(kept: np.ndarray, bad: np.ndarray, num_classes: int) -> str:
    if kept.min() == 1 and kept.max() == num_classes:
        return "1-based? Subtract 1."
    values = np.unique(bad)
    if values.size == 1 and values[0] == -1 and num_classes == 2 and not (kept == 0).any():
        return "-1/+1 labels? Use (labels + 1) // 2."
    if values.size == 1 and (values[0] < 0 or values[0] in (254, 255)) and np.isfinite(values[0]):
        marker = _plain(values[0])
        return f"If {marker} marks rows to skip, pass ignore_index={marker}."
    return "Check the number of classes, or pass ignore_index= for a value that marks rows to skip."


def distribution_values(labels: np.ndarray, axis: int) -> None:
    """Every row lies in [0, 1] and sums to 1."""
    if labels.dtype == np.bool_:
        labels = labels.view(np.uint8)
    bad = ~((labels >= 0) & (labels <= 1))
    if bad.any():
        raise LabelError(
            f"labels must be a distribution with entries in [0, 1]; got {_first(labels, bad)}. "
            f"{_range_hint(labels, labels[bad], distribution=True)}"
        )
    sums = labels.sum(axis=axis, dtype=np.float64)
    off = ~(np.abs(sums - 1) <= sum_tolerance(_precision(labels), labels.shape[axis]))
    if off.any():
        raise LabelError(
            f"labels must sum to 1 over the classes; got sums {_first(sums, off)}. "
            f"{_sum_hint(labels, sums)}"
        )


def _sum_hint(labels: np.ndarray, sums: np.ndarray) -> str:
    if not ((labels == 0) | (labels == 1)).all():
        return "Divide each row by its sum if they are counts or votes."
    if sums.max() <= 1:
        return "No class true in a row? To skip it, put any label there, and sample_weight 0."
    return "Several classes true per row? That is multi-label: sigmoid_cross_entropy."


def sigmoid_label_values(labels: np.ndarray, ignored: int | None) -> None:
    """Every label lies in [0, 1], or is the ignored one."""
    if labels.dtype == np.bool_:
        return
    kept = np.ones(labels.shape, bool) if ignored is None else labels != ignored
    bad = kept & ~((labels >= 0) & (labels <= 1))
    if bad.any():
        raise LabelError(
            f"labels must lie in [0, 1]; got {_first(labels, bad)}. "
            f"{_range_hint(labels[kept], labels[bad], distribution=False)}"
        )


def _range_hint(labels: np.ndarray, bad: np.ndarray, *, distribution: bool) -> str:
    """The likely cause, from the labels that count and those of them outside [0, 1]."""
    wrong = np.unique(bad[~np.isnan(bad)]).astype(np.float64)
    if wrong.size == 0:
        return "NaN is no label: to skip it, put any label there, and sample_weight 0."
    if wrong.tolist() == [-1] and not ((labels >= 0) & (labels < 1)).any():
        return "-1/+1 labels? Use (labels + 1) / 2."
    if wrong[0] > 1 and wrong[-1] == 255:
        skip = "." if distribution else "; if 255 marks what to skip, pass ignore_index=255."
        return f"0..255 masks? Divide by 255{skip}"
    if wrong.tolist() in ([-1], [-100]):
        marker = _plain(wrong[0])
        # Distributions have no ignore_index.
        skip = "put any label there, and sample_weight 0" if distribution else ""
        return f"If {marker} marks what to skip, {skip or f'pass ignore_index={marker}'}."
    if wrong[0] > 1 and distribution:
        return "Divide each row by its sum if they are counts, votes or percentages."
    if wrong[0] > 1 and (wrong == np.floor(wrong)).all():
        return "Class ids? They belong to softmax_cross_entropy; percentages are divided by 100."
    return "Labels are probabilities, 0, 1, or between: are they and the scores swapped?"


@np.errstate(invalid="ignore")  # NaN may be compared
def probability_values(
    name: str, probs: np.ndarray, axis: int | None, kept: np.ndarray | None = None
) -> None:
    """Probabilities lie in [0, 1] and sum to 1 over a class axis. NaN passes: its loss is NaN."""
    probs, axis = _kept_rows(probs, axis, kept)
    bad = (probs < 0) | (probs > 1)
    if bad.any():
        raise ScoreError(
            f"{name} must lie in [0, 1]; got {_first(probs, bad)}. {_probability_hint(name, probs)}"
        )
    if axis is not None:
        _check_sums(name, probs.sum(axis=axis, dtype=np.float64), probs, axis)


def _probability_hint(name: str, probs: np.ndarray) -> str:
    positive = not (probs < 0).any()
    if name == "p":
        return "Divide percentages by 100." if positive else "sigmoid(x) turns logits into p."
    if positive:
        return "Did you mean logits=? Percentages are divided by 100."
    return "Did you mean logits=?" if (probs > 0).any() else "Did you mean log_probs=?"


@np.errstate(invalid="ignore")  # NaN may be compared
def log_probability_values(
    name: str, log_probs: np.ndarray, axis: int | None, kept: np.ndarray | None = None
) -> None:
    """Log-probabilities are <= 0; over a class axis their exponentials sum to 1."""
    log_probs, axis = _kept_rows(log_probs, axis, kept)
    bad = log_probs > 0
    if bad.any():
        meant = "logits" if ((log_probs < 0) | (log_probs > 1)).any() else "probs"
        raise ScoreError(
            f"{name} must be <= 0; got {_first(log_probs, bad)}. Did you mean {meant}=?"
        )
    if axis is not None:
        sums = np.exp(log_probs.astype(np.float64)).sum(axis=axis)
        _check_sums(name, sums, log_probs, axis)


def _kept_rows(
    scores: np.ndarray, axis: int | None, kept: np.ndarray | None
) -> tuple[np.ndarray, int | None]:
    """The scores with NaN, which passes all checks, in the rows that are not kept."""
    if kept is None or axis is None:
        return scores, axis
    rows = np.moveaxis(scores, axis, -1).copy()
    rows[~kept] = np.nan
    return rows, -1


def _check_sums(name: str, sums: np.ndarray, values: np.ndarray, axis: int) -> None:
    off = np.abs(sums - 1) > sum_tolerance(_precision(values), values.shape[axis])
    if off.any():
        what = "sum to 1" if name == "probs" else "be normalised, sum of exp(log_probs) = 1,"
        raise ScoreError(
            f"{name} must {what} over the classes; got sums {_first(sums, off)}. "
            "Unnormalised scores are logits=; independent yes/no probabilities belong to "
            "sigmoid_cross_entropy."
        )


class BFloat16(np.ndarray):
    """float32 numbers that were bfloat16, which NumPy lacks: sums are judged by what was lost."""


def _precision(values: np.ndarray) -> str:
    return "bfloat16" if isinstance(values, BFloat16) else str(values.dtype.name)


def sum_tolerance(dtype: str, num_classes: int) -> float:
    """How far from 1 a row's sum may lie.

    Rounding each entry costs at most about one epsilon in all, a normaliser summed in the same
    precision about sqrt(classes) more. float64 gets float32's: such arrays are mostly float32
    results that were widened.
    """
    epsilon = max(EPSILON.get(dtype, 0.0), EPSILON["float32"])
    return min(epsilon * (4 + 2 * math.sqrt(num_classes)), 0.05)


def class_weight_values(weights: np.ndarray) -> None:
    _weights_are_finite("class_weight", weights, "0 leaves a class out of the loss.")


def pos_weight_values(weights: np.ndarray) -> None:
    _weights_are_finite("pos_weight", weights, "1 changes nothing.")


def sample_weight_values(weights: np.ndarray) -> None:
    """Finite; negative weights are meant (advantages in policy gradients)."""
    bad = ~np.isfinite(weights)
    if bad.any():
        raise OptionError(
            f"sample_weight must be finite; got {_first(weights, bad)}. Weight 0 leaves a row out."
        )


def normalizer_value(value: np.ndarray) -> None:
    if not (value >= 0 and np.isfinite(value)):
        raise OptionError(
            f"normalizer must be finite and >= 0; got {_plain(value)}. "
            "label_weight(...) counts what the mean divides by."
        )


def _weights_are_finite(name: str, weights: np.ndarray, hint: str) -> None:
    bad = ~((weights >= 0) & np.isfinite(weights))
    if bad.any():
        raise OptionError(f"{name} must be finite and >= 0; got {_first(weights, bad)}. {hint}")


def _first(values: np.ndarray, where: np.ndarray, count: int = 3) -> str:
    """The first offending values with their positions: `10 at row 37 (2 in all)`."""
    if values.ndim == 0:
        return f"{_plain(values[()])}"
    places = np.argwhere(where)
    noun = "row" if values.ndim == 1 else "index"
    shown = [
        f"{_plain(values[tuple(place)])} at {noun} {_place(place)}" for place in places[:count]
    ]
    more = f" ({len(places)} in all)" if len(places) > count else ""
    return ", ".join(shown) + more


def _place(place: Sequence[int]) -> str:
    return str(place[0]) if len(place) == 1 else str(tuple(int(i) for i in place))


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, Integral) else f"{float(value):.7g}"


def _shown(value: Any) -> str:
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return reprlib.repr(value)
