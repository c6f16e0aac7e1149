"""The recommendation: a leaf of the tree and the calls that fit the labels, as data and text."""

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from crossent.catalogue import (
    IMPORTS,
    LOSSES,
    SQUARED_ERROR,
    library_calls,
    memory_note,
    of_one_output,
    of_two_columns,
    pos_weight_rows,
    pos_weight_text,
    takes_scores,
)
from crossent.decision.answers import LARGEST_WEIGHT, Answers
from crossent.decision.gathering import Gathered
from crossent.decision.label_facts import LabelFacts
from crossent.decision.tree import Choice, choose_loss, notes

# Longer lines are hard to read, however wide the terminal.
WIDTH = 96
# They predict a quantity or an order, no class.
_NO_CLASSES = ("mean_squared_error", "in_batch_softmax", "pairwise_logistic")
_SAMPLED = (
    "Sampled losses (sampled softmax, NCE) are for training only: evaluate with the full softmax."
)


@dataclass(frozen=True)
class Recommendation:
    """A loss for a task, with its reasons and its calls. `str()` or `text()` of it is for people.

    Attributes:
        loss: its key in `crossent.catalogue.LOSSES`.
        why: the reason for it.
        runner_up: the key of the next best loss.
        why_not: the reason against that one.
        calls: the exact call in crossent, TensorFlow 1, TensorFlow 2, Keras, PyTorch and Optax.
        imports: what each of these calls needs.
        scores: what crossent's call is given: "logits", "probs" or "log_probs".
        activation: what makes probabilities of the scores.
        denominator: what the mean divides by.
        answers: the answers that led here, by name.
        evidence: what was found in the labels.
        warnings: what looks like a slip.
        notes: what else to know for this task.
    """

    loss: str
    why: str
    runner_up: str
    why_not: str
    calls: Mapping[str, str]
    imports: Mapping[str, str]
    scores: str
    activation: str
    denominator: str
    answers: Mapping[str, Any]
    evidence: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold; for sigmoid losses with what pos_weight did."""
        content = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        return content | ({"pos_weight_measured": pos_weight_rows()} if self._is_sigmoid else {})

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        """The same for people, in lines of at most `width`; only code stays as it is."""
        loss, runner_up = LOSSES[self.loss], LOSSES[self.runner_up]
        facts = {
            "Loss": f"{loss.title} ({self.loss})",
            "Why": self.why,
            "Runner-up": f"{runner_up.title} ({self.runner_up})",
            "Why not": self.why_not,
            "Formula": loss.formula,
            "Labels": loss.labels,
            "Scores": loss.scores,
            "Predict": f"activation: {self.activation}",
            "Mean": f"divides by {self.denominator}",
        }
        parts = [
            *(_paragraph(name, fact, width) for name, fact in facts.items()),
            *_listed("What the labels say", self.evidence, width),
            *_listed("Look at this first", self.warnings, width),
            "\nThe call",
            *(
                f"\n  {library}: {self.imports[library]}\n{textwrap.indent(call, '    ')}"
                for library, call in self.calls.items()
            ),
            *_listed("Good to know", (*self.notes, *loss.traps), width),
        ]
        if self._is_sigmoid:
            table = pos_weight_text(min(width - 2, 92))
            parts += ["\nWhat pos_weight does", textwrap.indent(table, "  ")]
        return "\n".join(parts)

    @property
    def _is_sigmoid(self) -> bool:
        return _is_sigmoid(self.loss)


_OF_TWO_COLUMNS = Choice(
    "softmax_ids",
    "Each row is one yes or no, and the scores have a column for each.",
    "sigmoid_binary",
    "One logit b - a is the same model with half the outputs: take it in a new one.",
)


def make_recommendation(
    gathered: Gathered,
    ignore_index: int | None,
    scores: str = "logits",
    *,
    two_columns: bool = False,
) -> Recommendation:
    """Walks the tree with answers of which none is missing.

    Args:
        gathered: the answers, and what the labels say.
        ignore_index: the mark of a missing label.
        scores: what crossent's call takes.
        two_columns: the scores of yes/no labels have a column for each.
    """
    answers, facts = gathered.answers, gathered.facts
    choice = choose_loss(answers)
    two_columns = two_columns and answers.is_binary
    if two_columns and choice.loss == "sigmoid_binary" and answers.labels != "rate":
        choice = _OF_TWO_COLUMNS
    loss = LOSSES[choice.loss]
    mark = ignore_index if ignore_index is not None else _mark(facts)
    calls = library_calls(
        choice.loss,
        unlabeled=answers.unlabeled is True and bool(answers.labels) and not answers.retrieval,
        repair=_repair(choice.loss, answers, facts),
        values=_values(answers, facts, mark),
        scores=scores,
    )
    if two_columns and _is_sigmoid(choice.loss):
        calls = of_two_columns(calls, scores)
    elif not two_columns and _is_of_one_output(choice.loss, answers):
        calls = of_one_output(calls, scores)
    if answers.layout != "rows":
        # PyTorch has the classes on axis 1.
        calls["PyTorch"] = calls["PyTorch"].replace("y(logits,", "y(logits.movedim(-1, 1),")
    assumed = mark if ignore_index is None and facts is None else None
    return Recommendation(
        loss=choice.loss,
        why=choice.why,
        runner_up=choice.runner_up,
        why_not=choice.why_not,
        calls=calls,
        imports=dict(IMPORTS),
        scores=scores,
        activation=loss.activation,
        denominator=loss.denominator,
        answers=asdict(answers),
        evidence=tuple(facts.evidence) if facts else (),
        warnings=(*gathered.conflicts, *(facts.warnings if facts else ())),
        notes=(
            *notes(answers, choice.loss),
            *_about_calls(calls, choice.loss, scores, assumed),
            *_numbers(answers, facts, choice.loss),
        ),
    )


def _mark(facts: LabelFacts | None) -> float:
    return facts.ignore_index if facts and facts.ignore_index is not None else -100


def _repair(loss: str, answers: Answers, facts: LabelFacts | None) -> str | None:
    repair = facts.repair if facts else None
    if not repair and answers.labels == "one_hot":
        return "second_column" if answers.is_binary else "one_hot"
    if not repair and answers.labels in ("signed", "votes"):
        repair = answers.labels
    takes_ids = loss in ("generalized_cross_entropy", "softmax_ids")
    return f"{repair}_ids" if takes_ids and repair in ("signed", "mask_255") else repair


def _is_of_one_output(loss: str, answers: Answers) -> bool:
    """Whether a softmax loss has to serve one yes/no output: its other logit is 0."""
    kinds = ("binary", "signed")
    return loss == "generalized_cross_entropy" and answers.is_binary and answers.labels in kinds


def _values(answers: Answers, facts: LabelFacts | None, mark: float) -> dict[str, object]:
    """The numbers that can stand in the call in place of names."""
    values: dict[str, object] = {"ignore_index": mark}
    if answers.num_classes is not None:
        values["num_classes"] = answers.num_classes
    weight = facts.pos_weight if facts else None
    if weight is None and answers.imbalance and answers.imbalance is not True:
        weight = min(answers.imbalance, LARGEST_WEIGHT)
    if isinstance(weight, float):
        values["pos_weight"] = weight
    return values


def _about_calls(
    calls: Mapping[str, str], loss: str, scores: str, assumed_mark: float | None
) -> list[str]:
    """Notes on what the calls take for granted."""
    lines = []
    if assumed_mark is not None and f"{assumed_mark:g}" in calls["Optax"]:
        lines.append(
            f"A missing label is taken to be {assumed_mark:g}: give ignore_index if yours is "
            "marked otherwise."
        )
    if scores != "logits" and takes_scores(loss):
        shown = "log p" if scores == "probs" else "log_probs"
        instead = f"{shown} will do" if not _is_sigmoid(loss) else "log(p / (1 - p)) will do"
        lines.append(
            f"Only crossent's call takes {scores}. The others want the logits from before the "
            f"{'sigmoid' if _is_sigmoid(loss) else 'softmax'}; where they are lost, {instead}."
        )
    return lines


def _numbers(answers: Answers, facts: LabelFacts | None, loss: str) -> list[str]:
    """Notes that need numbers: weights, memory, the gradient of squared error."""
    if loss in _NO_CLASSES:
        return []
    lines = []
    weights = facts.pos_weight if facts else None
    if _is_sigmoid(loss) and isinstance(weights, list) and max(weights) > 1:
        shown = ", ".join(f"{weight:g}" for weight in weights)
        if len(weights) > 12:
            shown = f"{min(weights):g} to {max(weights):g}"
        lines.append(f"pos_weight, negatives / positives of each label, at most 20: {shown}.")
    if loss == "softmax_weighted":
        lines.append("class_weight: the largest class count / the count of the class, at most 20.")
    lines.append(SQUARED_ERROR)
    if not _is_sigmoid(loss) and not answers.is_binary and answers.num_classes:
        if answers.labels in ("index", "one_hot"):
            lines.append(memory_note(answers.num_classes, facts.rows if facts else None))
        lines.append(_SAMPLED)
    return lines


def _is_sigmoid(loss: str) -> bool:
    return loss.startswith("sigmoid") or loss in ("focal_binary", "ordinal")


def _paragraph(name: str, text: str, width: int) -> str:
    return textwrap.fill(
        text, width, initial_indent=f"{name + ':':<11}", subsequent_indent=" " * 11
    )


def _listed(title: str, lines: tuple[str, ...], width: int) -> list[str]:
    if not lines:
        return []
    filled = (
        textwrap.fill(line, width, initial_indent="  - ", subsequent_indent="    ")
        for line in lines
    )
    return [f"\n{title}", *filled]
