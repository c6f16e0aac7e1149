"""`crossent choose`: the questions of the tree, answered on a terminal, by flags or by a file."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from crossent.decision import Answers, Gathered, gather, make_recommendation, missing
from crossent.decision.answers import LABEL_KINDS, LAYOUTS, MANY_CLASSES, RETRIEVALS, TRUE_PER_ROW
from crossent.decision.recommendation import WIDTH
from crossent.errors import CrossentError, OptionError


class Question(NamedTuple):
    """One question of the tree, put to a person: what is asked and what an answer looks like."""

    text: str
    kind: Any
    default: Any = None


def _choice(values: tuple[str, ...]) -> click.Choice[str]:
    return click.Choice([value.replace("_", "-") for value in values])


# What a flag looks like in the list of those that are missing.
_FLAGS = {
    "exclusive": "--exclusive or --not-exclusive",
    "num_classes": "--num-classes N",
    "labels": f"--label-kind {'|'.join(_choice(LABEL_KINDS).choices)}",
    "unlabeled": "--unlabeled yes|no|as-negative",
    "imbalance": "--imbalance RATIO (largest class count / smallest)",
}
_QUESTIONS = {
    "target": Question(
        "One row predicts (item: one of very many)",
        click.Choice(["class", "number", "item"]),
        "class",
    ),
    "exclusive": Question("Do the classes exclude each other (at most one is true)", bool),
    "true_per_row": Question("How many are true in a row", _choice(("one", "at_most_one")), "one"),
    "num_classes": Question("How many classes are there", click.IntRange(1)),
    "labels": Question(
        "Labels are",
        _choice(("index", "one_hot", "distribution", "votes")),
        "index",
    ),
    "unlabeled": Question(
        "Are labels missing (as-negative: written no)",
        _choice(("no", "yes", "as_negative")),
        "no",
    ),
    "ignore_index": Question("Which value marks a missing label", int, -100),
    "imbalance": Question(
        "Largest class count / smallest (yes/no: negatives per positive)",
        click.FloatRange(1),
        1.0,
    ),
    "rare_missed": Question("Does a model without weights rank rare classes badly", bool, False),
    "ordinal": Question("Are the classes ordered grades and near misses cheaper", bool, False),
    "noisy": Question("Share of wrong labels, 0 to 1", click.FloatRange(0, 1, max_open=True), 0.0),
    "full_softmax_too_slow": Question("Is training on all classes too slow", bool, False),
}


@click.command(short_help="Say which loss to use, and how to call it.")
@click.option(
    "--labels",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Find the answers in labels: NPY, NPZ, CSV, Parquet or text with one row per line.",
)
@click.option("--column", metavar="NAME", help="Column of the file; 'y_*' for several.")
@click.option("--exclusive/--not-exclusive", default=None, help="Do classes exclude each other?")
@click.option("--true-per-row", type=_choice(TRUE_PER_ROW), help="True classes in one row.")
@click.option("--label-kind", "kind", type=_choice(LABEL_KINDS), help="What the labels are.")
@click.option("--num-classes", type=click.IntRange(1), help="Number of classes, or of labels.")
@click.option("--unlabeled", type=_choice(("yes", "no", "as_negative")), help="Labels missing?")
@click.option("--ignore-index", type=int, metavar="LABEL", help="Marks a missing label.")
@click.option("--imbalance", type=click.FloatRange(1), help="Largest class count / smallest.")
@click.option("--rare-missed", is_flag=True, default=None, help="Rare classes rank badly.")
@click.option("--ordinal", is_flag=True, default=None, help="Ordered grades, near misses cheaper.")
@click.option("--noisy", type=click.FloatRange(0, 1, max_open=True), help="Share of wrong labels.")
@click.option("--retrieval", type=_choice(RETRIEVALS), help="Find an item among very many.")
@click.option("--impossible-classes", is_flag=True, default=None, help="Some rows lack classes.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="One label per row, token or pixel.")
@click.option("--costs-differ", is_flag=True, default=None, help="Errors differ in cost.")
@click.option("--full-softmax-too-slow", is_flag=True, default=None, help="Too many classes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def choose(
    path: Path | None,
    column: str | None,
    kind: str | None,
    ignore_index: int | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Say which loss to use, why, what comes second, and how to call it in six libraries."""
    if path is not None and kind is not None:
        raise OptionError(
            "--labels and --label-kind must not both be given; got both. The file tells the kind."
        )
    if column is not None and path is None:
        raise OptionError(f'--column must come with --labels; got "{column}" alone. Name the file.')
    labels = _underscored(kind)
    if path is not None:
        from crossent.label_file import read_label_file

        labels = read_label_file(path, column)
    given = {name: _underscored(value) for name, value in flags.items() if value is not None}
    if "unlabeled" in given:
        given["unlabeled"] = {"yes": True, "no": False}.get(given["unlabeled"], "as_negative")
    task = _Task(labels, given, ignore_index)
    try:
        # Questions go to the terminal, so that standard output holds the answer alone.
        gathered = task.asked() if sys.stdin.isatty() else task.told()
        found = make_recommendation(gathered, task.ignore_index)
    except CrossentError as error:
        raise type(error)(_in_flags(str(error))) from None
    found = replace(
        found,
        warnings=tuple(map(_in_flags, found.warnings)),
        notes=tuple(map(_in_flags, found.notes)),
    )
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.text(_width()))


def _width() -> int:
    """As wide as the terminal, where it is one; a file or a pipe has no width."""
    if not sys.stdout.isatty():
        return WIDTH
    return max(40, min(WIDTH, shutil.get_terminal_size().columns))


def _in_flags(text: str) -> str:
    """What is said to callers of `recommend`, in the words of the command line."""
    for python, flags in _IN_FLAGS:
        text = re.sub(python, flags, text)
    return _IN_HYPHENS.sub(lambda word: word[0].replace("_", "-"), text)


def _underscored(value: Any) -> Any:
    return value.replace("-", "_") if isinstance(value, str) else value


# Their names are words of prose nowhere; `labels` and `ordinal` are.
_NAMES = "true_per_row|num_classes|ignore_index|rare_missed|full_softmax_too_slow"
_IN_FLAGS = (
    (
        r'exclusive must be True for labels "(\w+)"; got False',
        r"--label-kind \1 must go with --exclusive; got --not-exclusive",
    ),
    (r'labels "(\w+)"', r"--label-kind \1"),
    (r"exclusive=False", "--not-exclusive"),
    (r"exclusive is False as answered", "--not-exclusive was given"),
    ("unlabeled=True", "--unlabeled yes"),
    (r"^(\w+) is '?(True|[\w.]+)'? as answered", r"--\1 \2 was given"),
    (r"(?<!-)\b(\w+)=True", r"--\1"),
    (rf"(?<!-)\b({_NAMES}|noisy)=", r"--\1 "),
    (rf"(?<!-)\b({_NAMES})\b", r"--\1"),
    ("got None", "got none"),
)
_IN_HYPHENS = re.compile(r"--[a-z_]+|--label-kind \w+|\b(one_hot|multi_hot|at_most_one)\b")


class _Task:
    """What is known so far; grows by the answers of a person."""

    def __init__(self, labels: Any, given: dict[str, Any], ignore_index: int | None) -> None:
        self.labels = labels
        self.given = given
        self.ignore_index = ignore_index

    def told(self) -> Gathered:
        """The answers, if flags and file tell them all."""
        gathered = self._gathered()
        lacking = missing(gathered.answers)
        if lacking:
            raise OptionError(
                "answers must be given by flags where there is no terminal to ask on; missing: "
                f"{'; '.join(_FLAGS[name] for name in lacking)}. Or pass the labels: --labels FILE."
            )
        return gathered

    def asked(self) -> Gathered:
        """The answers, after asking for those that matter. Where none is missing none is asked."""
        if not missing(self._gathered().answers):
            return self._gathered()
        if self.labels is None and not self.given.keys() & {
            "exclusive",
            "true_per_row",
            "retrieval",
        }:
            self._ask_target()
        while lacking := missing(self._gathered().answers):
            self._ask(lacking[0])
        for name in ("rare_missed", "ordinal", "noisy", "full_softmax_too_slow"):
            if self._is_worth_asking(name, self._gathered().answers):
                self._ask(name)
        return self._gathered()

    def _gathered(self) -> Gathered:
        return gather(self.labels, self.given, ignore_index=self.ignore_index)

    def _ask_target(self) -> None:
        target = _prompt("target")
        if target == "number":
            self.labels = "real"
        elif target == "item":
            self.given["retrieval"] = "in_batch"

    def _ask(self, name: str) -> None:
        value = _underscored(_prompt(name))
        if name == "labels":
            self.labels = value
        elif name == "ignore_index":
            self.ignore_index = value
        elif name == "unlabeled":
            self.given[name] = {"yes": True, "no": False}.get(value, value)
        else:
            self.given[name] = value
        if name == "exclusive" and value:
            self._ask("true_per_row")
        if name == "unlabeled" and value == "yes" and self._is_marked():
            self._ask("ignore_index")

    def _is_marked(self) -> bool:
        """Whether a missing label is a value of its own, and not a row of zeros."""
        kind = self._gathered().answers.labels
        return self.ignore_index is None and kind not in ("one_hot", "distribution", "votes")

    def _is_worth_asking(self, name: str, answers: Answers) -> bool:
        if name in self.given or answers.labels == "real" or answers.retrieval:
            return False
        soft = answers.labels in ("distribution", "votes", "rate")
        one_of_many = bool(answers.true_per_row == "one" and not answers.is_binary and not soft)
        worth: dict[str, Callable[[], bool]] = {
            "rare_missed": lambda: answers.is_imbalanced and not soft,
            "ordinal": lambda: one_of_many,
            "noisy": lambda: answers.true_per_row == "one" and not soft,
            "full_softmax_too_slow": lambda: (answers.num_classes or 0) > MANY_CLASSES,
        }
        return worth[name]()


def _prompt(name: str) -> Any:
    question = _QUESTIONS[name]
    if question.kind is bool:
        return click.confirm(question.text, default=question.default, err=True)
    return click.prompt(question.text, type=question.kind, default=question.default, err=True)
