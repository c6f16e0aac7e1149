"""One pass over batches of labels and scores that gathers everything the rules ask. Knows no rule.

A profile is small whatever the number of rows, and depends on the rows alone, not on how they were
cut into batches. Counts and extremes are of all rows; fits use a seeded sample of them.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossent._checks import row_weight_shape
from crossent.errors import OptionError, ShapeError
from crossent.profile.labels import LabelFacts
from crossent.profile.pairing import Layout, Pairing, pair
from crossent.profile.scores import ScoreFacts
from crossent.profile.tallies import Hits, IdSample, Rows, RowSample
from crossent.profile.text_numbers import NUMBER, TEXT_NUMBER, read_numbers
from crossent.profile.weights import WeightFacts

Kind = Literal["logits", "probs", "log_probs"]
Family = Literal["softmax", "sigmoid"]
Severity = Literal["E", "W", "I"]

KINDS = ("logits", "probs", "log_probs")
# Values by which people mark labels to skip.
SENTINELS = (-100, -1, 254, 255)


class Profile:
    """Mergeable facts about labels and scores; `crossent.rules.findings` judges them.

    Use it for data that come in batches or from several workers; for arrays at hand
    `crossent.review` is shorter.

    Args:
        kind: what the scores are said to be: "logits", "probs" or "log_probs".
        loss: "softmax" (classes exclude each other) or "sigmoid" (independent yes/no); None decides
            from the labels.
        num_classes: the number of classes, if it is known apart from the scores.
        ignore_index: the label that marks what to skip; such rows are counted, and passed over.
        history: training losses, oldest first.

    Raises:
        OptionError: kind or loss has another value.

    Example:
        >>> from crossent.rules import findings
        >>> profile = Profile("logits")
        >>> profile.update(labels=[0, 1, 7], scores=[[2.0, 0.1], [0.3, 1.9], [0.2, -0.4]])
        >>> [finding.code for finding in findings(profile)]
        ['A2']
    """

    def __init__(
        self,
        kind: Kind,
        *,
        loss: Family | None = None,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        history: Iterable[float] | None = None,
    ) -> None:
        if kind not in KINDS:
            raise OptionError(
                f'kind must be "logits", "probs" or "log_probs"; got {kind!r}. '
                "Network outputs before softmax or sigmoid are logits."
            )
        if loss not in ("softmax", "sigmoid", None):
            raise OptionError(
                f'loss must be "softmax", "sigmoid" or None; got {loss!r}. '
                "None decides from the labels."
            )
        self.kind = kind
        self.loss = loss
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.history = tuple(float(value) for value in (() if history is None else history))
        self.rows = 0
        self.ignored = 0
        self.layout: Layout | None = None
        self.columns = 0
        self.labels = LabelFacts("ids", 1)
        self.scores = ScoreFacts(1)
        self.weights = WeightFacts()
        self.sample = RowSample()
        self.score_ids = IdSample()
        self.label_ids = IdSample()
        self.misplaced_ids = Hits()
        self.problems: dict[tuple[Severity, str, str], Hits] = {}
        self._next_row = 0

    @property
    def family(self) -> Family:
        """The family of losses that fits: the one given, else the one the labels call for."""
        if self.loss is not None:
            return self.loss
        if self.layout != "matrix":
            return "sigmoid" if self.layout == "column" else "softmax"
        is_coded = self.labels.between == 0 and self.labels.outside_values.counts.keys() <= {
            float(value) for value in SENTINELS
        }
        others = self.labels.rows - self.labels.single_positive_rows
        return "sigmoid" if is_coded and others > 0.005 * self.labels.rows else "softmax"

    def update(
        self,
        *,
        labels: Any,
        scores: Any,
        sample_weight: Any = None,
        ids: Any = None,
        first_row: int | None = None,
        axis: int = -1,
    ) -> None:
        """Adds a batch of rows. What is wrong with the data is counted, never raised.

        Args:
            labels: class ids, a distribution per row, or yes/no labels; text is read, and reported.
            scores: of the profile's kind, any number of leading axes.
            sample_weight: one weight per row, or per score; rows of weight 0 are passed over.
            ids: one id per row; or {"labels": ..., "scores": ...} where they come from two places.
            first_row: the number of the batch's first row; without it rows are counted on. Profiles
                that are to be merged need it, as rows are told apart by their numbers.
            axis: the class axis.
        """
        start = self._next_row if first_row is None else first_row
        label_array, score_array = _as_array(labels), _as_array(scores)
        paired: Pairing | str = "the rows of labels or scores differ in length"
        if label_array is not None and score_array is not None:
            paired = pair(label_array, score_array, self.loss, axis)
        rows = len(paired.scores) if isinstance(paired, Pairing) else _length(score_array)
        self._next_row = start + rows
        self._see_ids(ids, start, rows)
        if isinstance(paired, str) or label_array is None or score_array is None:
            self._note("E", "labels", str(paired), start)
            return
        if not self._starts(paired, start):
            return
        self.labels.dtypes.add(label_array.dtype.name)
        self.scores.dtypes.add(score_array.dtype.name)
        self._see_rows(paired, sample_weight, np.arange(start, self._next_row))

    def merge(self, other: "Profile") -> "Profile":
        """Adds what another profile has gathered and returns self; `other` stays as it is.

        Raises:
            OptionError: the profiles were made with different options.
            ShapeError: their rows have different layouts or numbers of columns.
        """
        mine = (self.kind, self.loss, self.num_classes, self.ignore_index)
        theirs = (other.kind, other.loss, other.num_classes, other.ignore_index)
        if mine != theirs:
            raise OptionError(
                f"other must have kind, loss, num_classes and ignore_index {mine}; got {theirs}. "
                "Make both profiles with the same options."
            )
        if self.layout is None or other.layout is None:
            self._adopt(other)
        elif (self.layout, self.columns) == (other.layout, other.columns):
            self.labels.merge(other.labels)
            self.scores.merge(other.scores)
        else:
            raise ShapeError(
                f"other must hold {self.layout} with {self.columns} columns; got {other.layout} "
                f"with {other.columns}. Profile them apart."
            )
        self.rows += other.rows
        self.ignored += other.ignored
        self.weights.merge(other.weights)
        self.sample.merge(other.sample)
        self.score_ids.merge(other.score_ids)
        self.label_ids.merge(other.label_ids)
        self.misplaced_ids.merge(other.misplaced_ids)
        for key, hits in other.problems.items():
            self.problems.setdefault(key, Hits()).merge(hits)
        self.history = self.history or other.history
        self._next_row = max(self._next_row, other._next_row)
        return self

    def _adopt(self, other: "Profile") -> None:
        if other.layout is not None:
            self.layout, self.columns = other.layout, other.columns
            self.labels, self.scores = copy.deepcopy((other.labels, other.scores))

    def _starts(self, paired: Pairing, start: int) -> bool:
        """Whether the batch is like the ones before; the first batch decides what that is."""
        columns = paired.scores.shape[1]
        if self.layout is None:
            self.layout, self.columns = paired.layout, columns
            self.labels, self.scores = LabelFacts(paired.layout, columns), ScoreFacts(columns)
        if (paired.layout, columns) != (self.layout, self.columns):
            before = f"{self.layout} with {self.columns}"
            what = f"a batch of {paired.layout} with {columns} columns follows {before}"
            self._note("E", "scores", what, start)
            return False
        if paired.oddity is not None:
            self._note("W" if paired.layout == "column" else "I", "labels", paired.oddity, start)
        if self.num_classes not in (None, columns) and columns > 1:
            what = f"scores have {columns} columns for num_classes={self.num_classes}"
            self._note("E", "scores", what, start)
        return True

    def _note(self, severity: Severity, argument: str, what: str, row: int) -> None:
        hits = self.problems.setdefault((severity, argument, what), Hits())
        hits.add(np.ones(1, np.bool_), np.array([row]), np.array([row]))

    def _see_ids(self, ids: Any, start: int, rows: int) -> None:
        if ids is None:
            return
        if not isinstance(ids, Mapping):
            of_scores = np.asarray(ids).reshape(-1)
            self.score_ids.add(of_scores, np.arange(start, start + len(of_scores)))
            if len(of_scores) != rows:
                self._note("E", "ids", f"{len(of_scores)} ids for {rows} rows of scores", start)
            return
        of_labels = np.asarray(ids["labels"]).reshape(-1)
        of_scores = np.asarray(ids["scores"]).reshape(-1)
        self.label_ids.add(of_labels, np.arange(start, start + len(of_labels)))
        self.score_ids.add(of_scores, np.arange(start, start + len(of_scores)))
        both = min(len(of_labels), len(of_scores))
        differ = of_labels[:both].astype(np.str_) != of_scores[:both].astype(np.str_)
        self.misplaced_ids.add(differ, of_scores[:both], np.arange(start, start + both))

    def _see_rows(self, paired: Pairing, sample_weight: Any, numbers: Rows) -> None:
        labels, label_forms = read_numbers(paired.labels)
        scores, score_forms = read_numbers(paired.scores)
        if label_forms is not None:
            self.labels.see_forms(paired.labels, label_forms, numbers)
        if score_forms is not None:
            self.scores.see_forms(paired.scores, score_forms, numbers)
        self.rows += len(numbers)
        labels = _rows_of(labels)
        seen = (
            labels != self.ignore_index
            if self.ignore_index is not None
            else np.ones(labels.shape, np.bool_)
        )
        kept: NDArray[np.bool_] = np.any(seen, axis=1)
        self.ignored += int(np.count_nonzero(~kept))
        kept &= self._weighted(paired, sample_weight, kept, numbers)
        if label_forms is not None:
            # Reported as unreadable: nothing else is to be said of such labels.
            kept &= _rows_of(np.isin(label_forms, (NUMBER, TEXT_NUMBER))).all(axis=1)
        if score_forms is not None:
            kept &= np.isin(score_forms, (NUMBER, TEXT_NUMBER)).all(axis=1)
        dtypes = (paired.labels.dtype.name, paired.scores.dtype.name)
        numeric = scores[kept].astype(np.float64)
        self._see_kept(labels[kept], seen[kept], numeric, dtypes, numbers[kept])

    def _weighted(
        self, paired: Pairing, sample_weight: Any, kept: NDArray[np.bool_], numbers: Rows
    ) -> NDArray[np.bool_]:
        """Which rows have a weight other than 0, those without a usable weight included."""
        if sample_weight is None:
            return np.ones(len(numbers), np.bool_)
        weights = np.asarray(sample_weight)
        if weights.dtype.kind not in "biuf":
            weights = read_numbers(weights)[0]
        rows = paired.leading
        if paired.layout != "ids" and weights.ndim > len(rows):
            rows = (*rows, self.columns)
        try:
            row_weight_shape(weights.shape, rows, "sample_weight")
        except ShapeError as error:
            self._note("E", "sample_weight", str(error), int(numbers[0]) if len(numbers) else 0)
            return np.ones(len(numbers), np.bool_)
        padded = (*weights.shape, *[1] * (len(rows) - weights.ndim))
        spread = np.broadcast_to(weights.astype(np.float64).reshape(padded), rows)
        spread = spread.reshape(len(numbers), spread.size // max(len(numbers), 1))
        weighted = np.ones(len(numbers), np.bool_)
        weighted[kept] = self.weights.see(spread[kept], numbers[kept])
        return weighted

    def _see_kept(
        self,
        labels: NDArray[Any],
        seen: NDArray[np.bool_],
        scores: NDArray[np.float64],
        dtypes: tuple[str, str],
        numbers: Rows,
    ) -> None:
        label_dtype, score_dtype = dtypes
        if self.layout == "ids":
            ids = labels[:, 0].astype(np.int8) if labels.dtype.kind == "b" else labels[:, 0]
            is_class = self.labels.see_ids(ids, numbers)
            whole = self.scores.see(scores, np.ones(scores.shape, np.bool_), score_dtype, numbers)
            self.scores.judge_ids(scores, ids, whole, numbers)
            usable, chosen = whole & is_class, ids
        else:
            chances = labels.astype(np.float64)
            is_chance = self.labels.see_chances(chances, seen, label_dtype, numbers)
            whole = self.scores.see(scores, seen, score_dtype, numbers)
            self.scores.judge_chances(scores, chances, is_chance, whole, numbers)
            usable, chosen = whole & is_chance.all(axis=1), chances
        self.sample.add(numbers[usable], chosen[usable].astype(np.float64), scores[usable])


def _rows_of(array: NDArray[Any]) -> NDArray[Any]:
    """As (rows, columns); reshape cannot tell the columns of no rows."""
    return array[:, None] if array.ndim == 1 else array


def _as_array(values: Any) -> NDArray[Any] | None:
    """The values as an array; None for ragged lists, which have no shape."""
    try:
        return np.asarray(values)
    except ValueError:
        return None


def _length(scores: NDArray[Any] | None) -> int:
    return len(scores) if scores is not None and scores.ndim else 0
