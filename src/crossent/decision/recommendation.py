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
    pos_weight_rows,
    pos_weight_summary,
    pos_weight_text,
)
from crossent.decision.answers import LARGEST_WEIGHT, Answers
from crossent.decision.from_labels import LabelFacts
from crossent.decision.gathering import Gathered
from crossent.decision.tree import choose_loss, notes

_WIDTH = 96
# A batch for the example of what logits weigh, where no labels were given.
_EXAMPLE_ROWS = 1024
_SAMPLED = (
    "Sampled losses (sampled softmax, NCE) are for training only: evaluate with the full softmax."
)


@dataclass(frozen=True)
class Recommendation:
    """A loss for a task, with its reasons and its calls. `str()` of it is text for people.

    Attributes:
        loss: its key in `crossent.catalogue.LOSSES`.
        why: the reason for it.
        runner_up: the key of the next best loss.
        why_not: the reason against that one.
        calls: the exact call in crossent, TensorFlow 1, TensorFlow 2, Keras, PyTorch and Optax.
        imports: what each of these calls needs.
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
    activation: str
    denominator: str
    answers: Mapping[str, Any]
    evidence: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold, with the measured rows of what pos_weight does."""
        content = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        return {**content, "pos_weight_measured": pos_weight_rows()}

    def __str__(self) -> str:
        loss, runner_up = LOSSES[self.loss], LOSSES[self.runner_up]
        parts = [
            _paragraph("Loss", f"{loss.title} ({self.loss})"),
            _paragraph("Why", self.why),
            _paragraph("Runner-up", f"{runner_up.title} ({self.runner_up})"),
            _paragraph("Why not", self.why_not),
            _paragraph("Formula", loss.formula),
            _paragraph("Labels", loss.labels),
            _paragraph("Scores", loss.scores),
            _paragraph("Predict", f"activation: {self.activation}"),
            _paragraph("Mean", f"divides by {self.denominator}"),
            *_listed("What the labels say", self.evidence),
            *_listed("Look at this first", self.warnings),
            "\nThe call",
            *(
                f"\n  {library}: {self.imports[library]}\n{textwrap.indent(call, '    ')}"
                for library, call in self.calls.items()
            ),
            *_listed("Good to know", (*self.notes, *loss.traps)),
        ]
        if _is_sigmoid(self.loss):
            parts += ["\nWhat pos_weight does", textwrap.indent(pos_weight_text(), "  ")]
        return "\n".join(parts)


def make_recommendation(gathered: Gathered, ignore_index: int | None) -> Recommendation:
    """Walks the tree with answers of which none is missing."""
    answers, facts = gathered.answers, gathered.facts
    choice = choose_loss(answers)
    loss = LOSSES[choice.loss]
    mark = ignore_index if ignore_index is not None else _mark(facts)
    calls = library_calls(
        choice.loss,
        unlabeled=answers.unlabeled is True and bool(answers.labels) and not answers.retrieval,
        repair=_repair(answers, facts),
        values=_values(answers, facts, mark),
    )
    if answers.layout != "rows":
        # PyTorch has the classes on axis 1.
        calls["PyTorch"] = calls["PyTorch"].replace("y(logits,", "y(logits.movedim(-1, 1),")
    return Recommendation(
        loss=choice.loss,
        why=choice.why,
        runner_up=choice.runner_up,
        why_not=choice.why_not,
        calls=calls,
        imports=dict(IMPORTS),
        activation=loss.activation,
        denominator=loss.denominator,
        answers=asdict(answers),
        evidence=tuple(facts.evidence) if facts else (),
        warnings=(*gathered.conflicts, *(facts.warnings if facts else ())),
        notes=(*notes(answers), *_numbers(answers, facts, choice.loss)),
    )


def _mark(facts: LabelFacts | None) -> float:
    return facts.ignore_index if facts and facts.ignore_index is not None else -100


def _repair(answers: Answers, facts: LabelFacts | None) -> str | None:
    if facts and facts.repair:
        return facts.repair
    if answers.labels == "one_hot":
        return "second_column" if answers.is_binary else "one_hot"
    return answers.labels if answers.labels in ("signed", "votes") else None


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


def _numbers(answers: Answers, facts: LabelFacts | None, loss: str) -> tuple[str, ...]:
    """Notes that need numbers: weights, memory, the gradient of squared error."""
    lines = []
    weights = facts.pos_weight if facts else None
    if isinstance(weights, list) and max(weights) > 1:
        shown = ", ".join(f"{weight:g}" for weight in weights)
        if len(weights) > 12:
            shown = f"{min(weights):g} to {max(weights):g}"
        lines.append(f"pos_weight, negatives / positives of each label, at most 20: {shown}.")
    if loss == "softmax_weighted":
        lines.append("class_weight: the largest class count / the count of the class, at most 20.")
    lines.append(SQUARED_ERROR)
    if not _is_sigmoid(loss):
        lines.append(pos_weight_summary())
    if answers.exclusive and not answers.is_binary and answers.num_classes:
        rows = facts.rows if facts else _EXAMPLE_ROWS
        lines.append(memory_note(rows, answers.num_classes))
        lines.append(_SAMPLED)
    return tuple(lines)


def _is_sigmoid(loss: str) -> bool:
    return loss.startswith("sigmoid") or loss in ("focal_binary", "ordinal")


def _paragraph(name: str, text: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=f"{name + ':':<11}", subsequent_indent=" " * 11
    )


def _listed(title: str, lines: tuple[str, ...]) -> list[str]:
    if not lines:
        return []
    filled = (
        textwrap.fill(line, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
        for line in lines
    )
    return [f"\n{title}", *filled]
