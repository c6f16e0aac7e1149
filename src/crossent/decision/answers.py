"""The answers that the tree needs: what they imply, where they contradict, which are missing."""

from dataclasses import dataclass, replace

from crossent.errors import OptionError

LABEL_KINDS = (
    "index",
    "one_hot",
    "distribution",
    "votes",
    "multi_hot",
    "binary",
    "signed",
    "rate",
    "real",
)
TRUE_PER_ROW = ("one", "at_most_one", "any")
RETRIEVALS = ("in_batch", "pairs")
LAYOUTS = ("rows", "sequence", "pixels")

# From here on a class is rare enough to ask about: less than one row in five.
RARE = 4.0
# Larger weights make single rows dominate the gradient.
LARGEST_WEIGHT = 20.0
# Dense detectors see 1,000 negatives per positive; a capped weight cannot make up for that.
VERY_RARE = 1000.0
# Above this many classes the logits, not the network, fill the memory.
MANY_CLASSES = 50_000
# Label smoothing copes with fewer wrong labels than this.
MUCH_NOISE = 0.05

_BINARY_KINDS = ("binary", "signed", "rate")
_EXCLUSIVE_KINDS = ("index", "one_hot", "distribution", "votes", *_BINARY_KINDS)


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known about the task; None is not answered. `advice.recommend` describes each."""

    labels: str | None = None
    exclusive: bool | None = None
    true_per_row: str | None = None
    num_classes: int | None = None
    unlabeled: bool | str | None = None
    imbalance: float | bool | None = None
    rare_missed: bool = False
    ordinal: bool = False
    noisy: float = 0.0
    retrieval: str | None = None
    impossible_classes: bool = False
    layout: str = "rows"
    costs_differ: bool = False
    full_softmax_too_slow: bool = False

    @property
    def is_imbalanced(self) -> bool:
        """Whether a class is rare: 4 to 1 or worse."""
        return self.imbalance is True or (self.imbalance or 0.0) >= RARE

    @property
    def is_binary(self) -> bool:
        """Whether one row is one yes or no."""
        return self.labels in _BINARY_KINDS or (
            self.num_classes == 2 and self.labels in ("index", "one_hot")
        )


def completed(answers: Answers) -> Answers:
    """The answers with all that they imply, such as two classes for yes/no labels.

    Raises:
        OptionError: an answer cannot have that value, or two answers contradict each other.
    """
    _check_values(answers)
    labels, exclusive, per_row = answers.labels, answers.exclusive, answers.true_per_row
    if exclusive is None and per_row is not None:
        exclusive = per_row != "any"
    if exclusive is None and labels not in (None, "real"):
        exclusive = labels != "multi_hot"
    _check_agreement(labels, exclusive, per_row)
    if exclusive is not None and per_row is None:
        per_row = "one" if exclusive else "any"
    num_classes = answers.num_classes
    if labels is None and (per_row in ("at_most_one", "any")):
        labels = "multi_hot"
    elif labels == "multi_hot" and per_row == "one":
        labels = "one_hot"
    if num_classes == 1 and labels == "multi_hot":
        labels, exclusive, per_row, num_classes = "binary", True, "one", 2
    elif num_classes == 2 and labels is None and exclusive:
        labels = "binary"
    elif labels in _BINARY_KINDS and num_classes is None:
        num_classes = 2
    _check_classes(labels, exclusive, num_classes)
    return replace(
        answers,
        labels=labels,
        exclusive=exclusive,
        true_per_row=per_row,
        num_classes=num_classes,
    )


def missing(answers: Answers) -> tuple[str, ...]:
    """The answers without which the loss cannot be told, in the order in which to ask."""
    answers = completed(answers)
    if answers.labels == "real" or answers.retrieval:
        return ()
    names = []
    if answers.exclusive is None:
        names.append("exclusive")
    if answers.exclusive is not False and answers.num_classes is None:
        names.append("num_classes")
    if answers.labels is None:
        names.append("labels")
    if answers.unlabeled is None:
        names.append("unlabeled")
    if answers.imbalance is None and answers.labels not in ("distribution", "votes", "rate"):
        names.append("imbalance")
    return tuple(names)


def _check_values(answers: Answers) -> None:
    allowed = {
        "labels": (answers.labels, LABEL_KINDS),
        "true_per_row": (answers.true_per_row, TRUE_PER_ROW),
        "retrieval": (answers.retrieval, RETRIEVALS),
        "layout": (answers.layout, LAYOUTS),
        "unlabeled": (answers.unlabeled, (True, False, "as_negative")),
    }
    for name, (value, choices) in allowed.items():
        if value is not None and value not in choices:
            listed = ", ".join(repr(choice) for choice in choices)
            raise OptionError(f"{name} must be one of {listed}; got {value!r}. Pick one.")
    if not 0 <= answers.noisy < 1:
        raise OptionError(
            f"noisy must be a share of wrong labels in [0, 1); got {answers.noisy}. "
            "5 % of wrong labels is 0.05."
        )
    if answers.imbalance is not None and answers.imbalance is not False and answers.imbalance < 1:
        raise OptionError(
            f"imbalance must be at least 1; got {answers.imbalance}. "
            "It is the largest class count over the smallest; 1 is balanced."
        )
    if answers.num_classes is not None and answers.num_classes < 1:
        raise OptionError(
            f"num_classes must be at least 1; got {answers.num_classes}. Count the classes."
        )


def _check_agreement(labels: str | None, exclusive: bool | None, per_row: str | None) -> None:
    if per_row in ("at_most_one", "any") and labels in _EXCLUSIVE_KINDS:
        raise OptionError(
            f'true_per_row must be "one" for labels "{labels}"; got "{per_row}". '
            'Rows with none or several need labels "multi_hot".'
        )
    if exclusive is False and labels in _EXCLUSIVE_KINDS:
        raise OptionError(
            f'exclusive must be True for labels "{labels}"; got False. '
            'Several true classes in a row need labels "multi_hot".'
        )
    if per_row is not None and exclusive != (per_row != "any"):
        raise OptionError(
            f'true_per_row must agree with exclusive={exclusive}; got "{per_row}". '
            'Classes exclude each other exactly if "one" or "at_most_one" is true in a row.'
        )


def _check_classes(labels: str | None, exclusive: bool | None, num_classes: int | None) -> None:
    if labels in _BINARY_KINDS and num_classes != 2:
        raise OptionError(
            f'num_classes must be 2 for labels "{labels}"; got {num_classes}. '
            'Class ids are labels "index".'
        )
    if exclusive and num_classes == 1:
        raise OptionError(
            "num_classes must be at least 2 for exclusive classes; got 1. "
            'A softmax over one class is always 1; a yes/no question has labels "binary".'
        )
