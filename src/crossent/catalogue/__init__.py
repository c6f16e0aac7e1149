"""What is known about each loss: facts, calls in six libraries, and the tables made of them.

The single source of the README's table, of docs/losses.md and of `recommend`. No array is touched
here and no library is imported.
"""

import json
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict

from crossent.catalogue.calls import IMPORTS, LIBRARIES
from crossent.catalogue.facts import LOSSES, LossFacts
from crossent.catalogue.variants import (
    REPAIRS,
    library_calls,
    of_one_output,
    of_two_columns,
    takes_scores,
)
from crossent.errors import OptionError

__all__ = [
    "IMPORTS",
    "LIBRARIES",
    "LOSSES",
    "REPAIRS",
    "SQUARED_ERROR",
    "LossFacts",
    "PosWeightRow",
    "as_markdown",
    "choice_table",
    "library_calls",
    "loss_facts",
    "memory_note",
    "of_one_output",
    "of_two_columns",
    "pos_weight_lines",
    "pos_weight_rows",
    "pos_weight_text",
    "takes_scores",
]

SQUARED_ERROR = (
    "Squared error on a sigmoid stops learning where it is most wrong: at x = -10 and y = 1 its "
    "gradient is -9.08e-5, that of cross-entropy -0.99995."
)

_POS_WEIGHT_HEADER = (
    "| q | recall | precision | mean predicted | log loss | after x - ln(q): mean predicted "
    "| log loss | plain loss at threshold 1/(1+q): recall | precision |"
)
_POS_WEIGHT_READING = (
    "A larger q finds more positives, raises more false alarms and predicts too high a rate. "
    "Subtract ln(q) from the logits before you read them as probabilities: that repairs most of it."
)


class PosWeightRow(TypedDict):
    """One measured row; `undone_` is after x - ln(q), `threshold_` the plain loss at 1/(1+q)."""

    pos_weight: float
    recall: float
    precision: float
    mean_predicted: float
    true_rate: float
    log_loss: float
    undone_recall: float
    undone_precision: float
    undone_mean_predicted: float
    undone_log_loss: float
    threshold_recall: float
    threshold_precision: float


_Measured = Literal[
    "recall",
    "precision",
    "mean_predicted",
    "log_loss",
    "undone_mean_predicted",
    "undone_log_loss",
    "threshold_recall",
    "threshold_precision",
]
# A title above its columns: what is printed over a figure, and its key in a row.
_POS_WEIGHT_COLUMNS: tuple[tuple[str, tuple[tuple[str, _Measured], ...]], ...] = (
    (
        "",
        (
            ("recall", "recall"),
            ("precision", "precision"),
            ("mean p", "mean_predicted"),
            ("log loss", "log_loss"),
        ),
    ),
    ("after x - ln(q)", (("mean p", "undone_mean_predicted"), ("log loss", "undone_log_loss"))),
    (
        "threshold 1/(1+q)",
        (("recall", "threshold_recall"), ("precision", "threshold_precision")),
    ),
)


def loss_facts(name: str) -> LossFacts:
    """The record of one loss.

    Raises:
        OptionError: no loss has that name.

    Example:
        >>> loss_facts("focal").formula
        '(1 - p_y)^gamma (-log p_y)'
    """
    if name not in LOSSES:
        raise OptionError(f"name must be one of {', '.join(LOSSES)}; got {name!r}. Pick one.")
    return LOSSES[name]


def choice_table() -> str:
    """The table task -> activation -> loss of the README, in Markdown."""
    lines = ["| one row is | labels | activation | loss |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {facts.task} | {facts.labels} | {facts.activation} "
        f"| {facts.title}: `{_function(facts)}` |"
        for facts in LOSSES.values()
    ]
    return "\n".join(lines)


def _function(facts: LossFacts) -> str:
    """The function of ours that the call uses."""
    return str(re.findall(r"xe\.\w+", facts.calls["crossent"])[-1])


def as_markdown() -> str:
    """The reference page of all losses (docs/losses.md), in Markdown."""
    imports = "\n".join(f"{line}  # {name}" for name, line in IMPORTS.items())
    parts = [
        "# The losses",
        "Made from `crossent.catalogue` by `make docs`; edit the records there, not this page.",
        "## Which one",
        choice_table(),
        f"The calls below need:\n\n```python\n{imports}\n```",
        *(_facts_markdown(facts) for facts in LOSSES.values()),
        "## What pos_weight does",
        "\n".join(pos_weight_lines()),
        "## Why not squared error on a sigmoid",
        SQUARED_ERROR,
        "## Memory",
        memory_note(50_000, 1024),
    ]
    return "\n\n".join(parts) + "\n"


def _facts_markdown(facts: LossFacts) -> str:
    rows = [
        ("loss of one row", f"`{facts.formula}`"),
        ("labels", facts.labels),
        ("scores", facts.scores),
        ("activation at prediction", facts.activation),
        ("the mean divides by", facts.denominator),
        ("use it when", facts.use_when),
        ("do not use it when", facts.avoid_when),
        ("source", facts.source),
    ]
    # A bar inside a cell, as in |x|, would start a new column.
    table = "\n".join(f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows)
    traps = "\n".join(f"- {trap}" for trap in facts.traps)
    calls = "\n".join(f"# {library}\n{facts.calls[library]}" for library in LIBRARIES)
    title = facts.title[0].upper() + facts.title[1:]
    return (
        f"## {title}\n\n{facts.task[0].upper() + facts.task[1:]}.\n\n| | |\n| --- | --- |\n{table}"
        f"\n\nTraps:\n\n{traps}\n\n```python\n{calls}\n```"
    )


@cache
def _pos_weight_measurements() -> tuple[str, tuple[PosWeightRow, ...]]:
    content = json.loads(Path(__file__).with_name("pos_weight_digits.json").read_text("utf-8"))
    return content["what"], tuple(content["rows"])


def pos_weight_rows() -> list[PosWeightRow]:
    """What pos_weight did to one digit against the rest, measured by examples/pos_weight."""
    return [row.copy() for row in _pos_weight_measurements()[1]]


def pos_weight_lines() -> list[str]:
    """The same as Markdown lines: what was measured, the table, how to read it."""
    what, rows = _pos_weight_measurements()
    lines = [
        f"{what} The true rate is {rows[0]['true_rate']:.3f}.",
        "",
        _POS_WEIGHT_HEADER,
        "| " + " | ".join(["---:"] * 9) + " |",
    ]
    lines += [
        f"| {row['pos_weight']:g} | {row['recall']:.3f} | {row['precision']:.3f} "
        f"| {row['mean_predicted']:.3f} | {row['log_loss']:.3f} "
        f"| {row['undone_mean_predicted']:.3f} | {row['undone_log_loss']:.3f} "
        f"| {row['threshold_recall']:.3f} | {row['threshold_precision']:.3f} |"
        for row in rows
    ]
    return [*lines, "", _POS_WEIGHT_READING]


def pos_weight_text(width: int = 92) -> str:
    """The table for a terminal; below 85 columns it comes in two halves."""
    what, rows = _pos_weight_measurements()
    weights = ["", "q", *(f"{row['pos_weight']:g}" for row in rows)]
    blocks = [[f"{cell:>5}" for cell in weights]]
    for title, columns in _POS_WEIGHT_COLUMNS:
        lines = ["".join(f"{name:>10}" for name, _ in columns)]
        lines += ["".join(f"{row[key]:>10.3f}" for _, key in columns) for row in rows]
        blocks.append([f"{title:>{10 * len(columns)}}", *lines])
    true_rate = f"mean p: mean predicted probability, {rows[0]['true_rate']:.3f} is true."
    halves = [blocks] if width >= 85 else [blocks[:2], [blocks[0], *blocks[2:]]]
    tables = ["".join(cells).rstrip() for half in halves for cells in zip(*half, strict=True)]
    prose = [textwrap.fill(text, width) for text in (what, true_rate, _POS_WEIGHT_READING)]
    return "\n".join([*prose[:2], *filter(None, tables), prose[2]])


def memory_note(num_classes: int, rows: int | None = None) -> str:
    """What labels and logits of that size weigh, in one sentence; of 1,000 rows if not known.

    Example:
        >>> print(memory_note(50_000, 1024))
        Index labels save memory, the logits stay rows x classes: for 1,024 rows x 50,000 classes
        the ids take 8 KiB, one-hot float32 labels 195 MiB, the float32 logits 195 MiB.
    """
    of = f"for {rows:,} row{'' if rows == 1 else 's'}" if rows is not None else "per 1,000 rows"
    rows = 1000 if rows is None else rows
    dense = _size(rows * num_classes * 4)
    return (
        "Index labels save memory, the logits stay rows x classes: "
        f"{of} x {num_classes:,} classes the ids take {_size(rows * 8)}, "
        f"one-hot float32 labels {dense}, the float32 logits {dense}."
    )


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.3g} GiB" if num_bytes < 1000 else f"{num_bytes:,.0f} GiB"
