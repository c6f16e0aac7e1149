"""The report of an audit: scores, findings and advice, as data, as strict JSON and as text.

Never opens a file of predictions.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import IO, Any

from crossent.auditing import rendering
from crossent.auditing.columns import ScoreKind, Selection
from crossent.auditing.rendering import Grid, Section
from crossent.auditing.scores import Scores
from crossent.auditing.tally import Tally
from crossent.auditing.task import Advice, advise
from crossent.catalogue import LOSSES
from crossent.profile import Profile
from crossent.rules import Finding, findings

# A table of classes longer than this shows those with the highest loss.
_SHOWN_CLASSES = 20


@dataclass(frozen=True)
class Unscorable:
    """Rows that no loss is defined for: why, how many, and the numbers of the first, from 0."""

    reason: str
    rows: int
    first_rows: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What an audit found.

    Attributes:
        source: name of the file.
        kind: what the scores were taken for: logits, probs or log_probs.
        scores: every number, see `Scores`.
        unscorable: why rows were left out.
        class_names: the classes in order, where the columns name them.
        notes: how labels were matched with columns, where that is not plain.
        advice: the loss that the labels call for and why; None where nothing could be scored.
        findings: what is suspicious, gravest first.
    """

    source: str
    kind: ScoreKind
    scores: Scores
    unscorable: tuple[Unscorable, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    advice: Advice | None
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, source: str, selection: Selection, tally: Tally, profile: Profile) -> "Report":
        """The report of a finished tally."""
        unscorable = tuple(
            Unscorable(reason, tally.unscorable[reason], tuple(tally.first_unscorable[reason]))
            for reason in sorted(tally.unscorable)
        )
        return cls(
            source=source,
            kind=selection.kind,
            scores=tally.scores(),
            unscorable=unscorable,
            class_names=selection.class_names,
            notes=selection.notes,
            advice=advise(profile, tally),
            findings=tuple(findings(profile)),
        )

    @property
    def is_suspicious(self) -> bool:
        """Whether something was found that is an error (E) or a warning (W)."""
        return any(finding.severity in "EW" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it: undefined numbers are null, infinite ones the text "inf"."""
        scores = self.scores
        derived = {
            "mean_loss_bits": scores.mean_loss_bits,
            "perplexity": scores.perplexity,
            "calibration_variant": scores.calibration_variant,
        }
        plain = scores._asdict()
        per_class = [
            {"name": self.class_name(entry.class_id), **entry._asdict()}
            for entry in scores.per_class
        ]
        plain |= {"per_class": per_class, "worst": [row._asdict() for row in scores.worst]}
        unscorable = [vars(entry) for entry in self.unscorable]
        content = {
            "source": self.source,
            "kind": self.kind,
            "notes": self.notes,
            "scores": {**plain, **derived},
            "unscorable_rows": unscorable,
            "advice": None if self.advice is None else _advice_as_dict(self.advice),
            "findings": [finding.to_dict() for finding in self.findings],
        }
        strict: dict[str, Any] = _as_json(content)
        return strict

    def class_name(self, class_id: int) -> str:
        """The name of a class, or its number."""
        return self.class_names[class_id] if self.class_names else str(class_id)

    def text(self) -> str:
        """The report as plain text."""
        return rendering.plain_text(self._sections())

    def __str__(self) -> str:
        return self.text()

    def write(self, stream: IO[str]) -> None:
        """Write the report to a stream, in bold and tables where that is a terminal."""
        rendering.write(self._sections(), stream)

    def _sections(self) -> list[Section]:
        sections = [self._score_section()]
        if self.advice is not None:
            sections.append(_advice_section(self.advice))
        sections.append(self._finding_section())
        if self.scores.per_class:
            sections.append(self._class_section())
        if self.scores.worst:
            sections.append(self._worst_section())
        return sections

    def _score_section(self) -> Section:
        scores = self.scores
        softmax = scores.family == "softmax"
        unit = "rows" if scores.elements == scores.rows else "rows x outputs"
        counted = (
            f"{scores.scored:,} {unit} scored, {scores.ignored:,} ignored, "
            f"{scores.unscorable:,} not scorable"
        )
        rows = [
            ("rows", f"{scores.rows:,}", counted),
            ("classes" if softmax else "outputs", f"{scores.classes:,}", self._named_classes()),
            ("mean loss", _number(scores.mean_loss), f"nats, {scores.family} cross-entropy"),
            ("", _number(scores.mean_loss_bits), "bits"),
            ("perplexity", _number(scores.perplexity), "exp of the mean loss"),
            ("accuracy", _number(scores.accuracy), self._how_predicted()),
            ("Brier score", _number(scores.brier), _BRIER[scores.family]),
            ("calibration error", _number(scores.calibration_error), scores.calibration_variant),
            ("ln K" if softmax else "ln 2", _number(scores.uniform_loss), _UNIFORM[scores.family]),
            ("label entropy", _number(scores.prior_loss), _PRIOR[scores.family]),
            ("worst 1 % of rows", _percent(scores.worst_percent_share), "of the loss"),
        ]
        title = f"{self.source}: {self.kind} scored by {scores.family} cross-entropy"
        return Section(title, Grid(rows, numeric=frozenset({1})), self._caveats())

    def _how_predicted(self) -> str:
        if self.scores.family == "softmax":
            return "of equal scores the lowest class counts"
        return f"yes where the {'logit is above 0' if self.kind == 'logits' else _ABOVE_HALF}"

    def _named_classes(self) -> str:
        if not self.class_names:
            return ""
        shown = ", ".join(self.class_names[:10])
        return f"{shown}, ..." if len(self.class_names) > 10 else shown

    def _caveats(self) -> tuple[str, ...]:
        """What a reader must know to read the table right."""
        scores = self.scores
        caveats = list(self.notes)
        if scores.weight != scores.scored:
            caveats.append(f"Means are weighted; the weights sum to {_number(scores.weight)}.")
        if scores.zero_prob:
            caveats.append(
                f"Probability 0 for the label: {_count(scores.zero_prob)}; the mean loss is "
                f"infinite, that of the other rows {_number(scores.mean_finite_loss)}."
            )
        if scores.unnormalised:
            caveats.append(
                f"Probabilities that do not sum to 1: {_count(scores.unnormalised)}, scored by "
                "-log p of the label as it stands; nothing is renormalised."
            )
        # Labels of one class have entropy 0, which nothing can beat.
        if (scores.mean_loss or 0.0) > (scores.prior_loss or math.inf):
            caveats.append(
                "The mean loss is above the label entropy: always predicting the frequencies of "
                "the labels would do better. Are rows, columns or scores mixed up?"
            )
        for entry in self.unscorable:
            first = ", ".join(str(row) for row in entry.first_rows)
            caveats.append(f"Not scored, {entry.reason}: {_count(entry.rows)}, first {first}.")
        return tuple(caveats)

    def _finding_section(self) -> Section:
        counts: Counter[str] = Counter(finding.severity for finding in self.findings)
        counted = [
            _count(counts[severity], name)
            for severity, name in _SEVERITIES.items()
            if counts[severity]
        ]
        if not counted:
            return Section("What is suspicious", paragraphs=("Nothing.",))
        paragraphs = tuple(str(finding) for finding in self.findings)
        return Section(f"What is suspicious: {', '.join(counted)}", paragraphs=paragraphs)

    def _class_section(self) -> Section:
        scores = self.scores
        entries = list(scores.per_class)
        notes = []
        if len(entries) > _SHOWN_CLASSES:
            notes.append(f"The {_SHOWN_CLASSES} of {len(entries):,} classes with the highest loss.")
            entries = sorted(entries, key=lambda entry: -(entry.mean_loss or 0.0))[:_SHOWN_CLASSES]
        outputs = scores.family == "sigmoid" and scores.classes > 1
        possible = scores.classes if scores.family == "softmax" or outputs else 2
        if len(scores.per_class) < possible:
            notes.append(f"{possible - len(scores.per_class):,} of {possible:,} have no rows.")
        rows = [
            (
                self.class_name(entry.class_id)
                if scores.family == "softmax" or outputs
                else str(entry.class_id),
                f"{entry.rows:,}",
                _percent(entry.share),
                _number(entry.mean_loss),
                _number(entry.accuracy, 4),
            )
            for entry in entries
        ]
        header = ("output" if outputs else "class", "rows", "share", "mean loss", "accuracy")
        return Section(
            "By output" if outputs else "By class of the label",
            Grid(rows, header, frozenset({1, 2, 3, 4})),
            tuple(notes),
        )

    def _worst_section(self) -> Section:
        outputs = self.scores.worst[0].output is not None
        names = self.class_name if self.scores.family == "softmax" else str
        rows = [
            (
                str(entry.row),
                *((self.class_name(entry.output),) if entry.output is not None else ()),
                names(entry.label),
                names(entry.predicted),
                f"{entry.label_prob:.3g}",
                _number(entry.loss, 4),
            )
            for entry in self.scores.worst
        ]
        middle = ("output",) if outputs else ()
        header = ("row", *middle, "label", "predicted", "p(label)", "loss")
        numeric = frozenset({0, len(header) - 2, len(header) - 1})
        return Section("Highest losses (rows count from 0)", Grid(rows, header, numeric))


def _advice_section(advice: Advice) -> Section:
    found = advice.recommendation
    return Section(
        "The loss that the data call for",
        paragraphs=(
            f"{_capital(LOSSES[found.loss].title)}. {found.why} {advice.evidence}",
            f"Runner-up: {LOSSES[found.runner_up].title}. {found.why_not}",
            f"In crossent: {found.calls['crossent']}",
        ),
    )


def _advice_as_dict(advice: Advice) -> dict[str, Any]:
    found = advice.recommendation
    return {
        "loss": found.loss,
        "title": LOSSES[found.loss].title,
        "why": found.why,
        "runner_up": found.runner_up,
        "why_not": found.why_not,
        "calls": dict(found.calls),
        "evidence": advice.evidence,
    }


_SEVERITIES = {"E": "error", "W": "warning", "I": "note"}
_ABOVE_HALF = "probability is above 1/2"
_BRIER = {
    "softmax": "sum over classes of (p - label)^2, 0 to 2",
    "sigmoid": "(p - label)^2, 0 to 1",
}
_UNIFORM = {
    "softmax": "nats, the loss of equal probabilities for all classes",
    "sigmoid": "nats, the loss of probability 1/2",
}
_PRIOR = {
    "softmax": "nats, the loss of always predicting the class frequencies",
    "sigmoid": "nats, the loss of always predicting the rate of yes",
}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number(value: float | None, digits: int = 7) -> str:
    """A number with that many significant digits, trailing zeros included."""
    if value is None:
        return "-"
    return f"{value:#.{digits}g}".removesuffix(".")


def _count(count: int, noun: str = "row") -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _as_json(value: Any) -> Any:
    """The value in types that JSON has; it has no infinity."""
    if isinstance(value, dict):
        return {key: _as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(entry) for entry in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value
