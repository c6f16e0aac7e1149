"""`crossent choose`: flags, files of labels, questions on a real terminal, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import crossent as xe
from crossent import choosing
from crossent.cli import main
from crossent.label_file import read_label_file

pty = pytest.importorskip("pty", reason="a terminal to answer on is made with pty, on POSIX only")

COMPLETE = ("--exclusive", "--num-classes", "10", "--label-kind", "index")
COMPLETE = (*COMPLETE, "--unlabeled", "no", "--imbalance", "1")


def choose(*arguments):
    return CliRunner().invoke(main, ["choose", *map(str, arguments)])


def chosen(*arguments):
    """The answer as data."""
    result = choose(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


# Flags --------------------------------------------------------------------------------------------


def test_complete_flags_give_what_recommend_gives():
    advice = xe.recommend(
        exclusive=True, num_classes=10, labels="index", unlabeled=False, imbalance=1.0
    )
    result = choose(*COMPLETE)
    assert result.exit_code == 0
    assert result.stdout == f"{advice}\n"
    assert chosen(*COMPLETE) == advice.to_dict()


@pytest.mark.parametrize(
    ("flags", "loss"),
    [
        (("--label-kind", "real"), "mean_squared_error"),
        (("--retrieval", "in-batch"), "in_batch_softmax"),
        (("--retrieval", "pairs"), "pairwise_logistic"),
        (("--not-exclusive", "--unlabeled", "no", "--imbalance", "1"), "sigmoid_multilabel"),
        (
            (
                "--true-per-row",
                "at-most-one",
                "--num-classes",
                "4",
                "--unlabeled",
                "no",
                "--imbalance",
                "1",
            ),
            "sigmoid_multilabel",
        ),
        (
            (
                "--label-kind",
                "binary",
                "--unlabeled",
                "as-negative",
                "--imbalance",
                "2000",
                "--rare-missed",
            ),
            "focal_binary",
        ),
        ((*COMPLETE, "--ordinal"), "ordinal"),
        ((*COMPLETE, "--noisy", "0.3"), "generalized_cross_entropy"),
        ((*COMPLETE, "--num-classes", "100000"), "softmax_in_blocks"),
        ((*COMPLETE, "--full-softmax-too-slow"), "sampled_softmax"),
        (
            (*COMPLETE, "--layout", "pixels", "--costs-differ", "--impossible-classes"),
            "softmax_ids",
        ),
    ],
)
def test_every_flag_reaches_the_tree(flags, loss):
    answer = chosen(*flags)
    assert answer["loss"] == loss
    for flag in ("--layout", "--costs-differ", "--impossible-classes", "--ordinal"):
        if flag in flags:
            assert answer["answers"][flag[2:].replace("-", "_")] not in ("rows", False)


def test_the_mark_of_missing_labels_is_in_the_calls():
    answer = chosen(*COMPLETE, "--unlabeled", "yes", "--ignore-index", "7")
    assert answer["calls"]["PyTorch"] == "loss = F.cross_entropy(logits, labels, ignore_index=7)"
    answer = chosen(*COMPLETE, "--unlabeled", "yes")
    assert "ignore_index=-100" in answer["calls"]["crossent"]


# Files --------------------------------------------------------------------------------------------

IDS = np.array([0, 2, 1, 1, 2, 2, 0, 1, 2, 2])


def write(path, labels):
    labels = np.asarray(labels)
    if path.suffix == ".npy":
        np.save(path, labels)
    elif path.suffix == ".npz":
        np.savez(path, label=labels, weight=np.ones(len(labels)))
    elif path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="Parquet needs the extra [audit]")
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"label": labels, "other": labels}), path)
    elif path.suffix == ".csv":
        rows = "".join(f"{label},x\n" for label in labels)
        path.write_text(f"label,other\n{rows}", "utf-8")
    else:
        path.write_text("".join(f"{label}\n" for label in labels), "utf-8")
    return path


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv", "txt", "parquet"])
def test_a_file_of_ids_answers_everything(tmp_path, suffix):
    path = write(tmp_path / f"labels.{suffix}", IDS)
    assert read_label_file(path).ravel().tolist() == IDS.tolist()
    answer = chosen("--labels", path)
    assert answer["loss"] == "softmax_ids"
    assert answer["answers"]["num_classes"] == 3
    assert answer["evidence"] == list(xe.recommend(labels=IDS).evidence)


def test_the_real_predictions_of_the_example():
    path = Path(__file__).parents[1] / "examples" / "digits" / "predictions.parquet"
    pytest.importorskip("pyarrow", reason="Parquet needs the extra [audit]")
    answer = chosen("--labels", path, "--column", "label")
    assert answer["loss"] == "softmax_ids"
    assert answer["answers"]["num_classes"] == 10
    assert "The largest class has 183 rows, the smallest 174." in answer["evidence"]
    soft = chosen("--labels", path, "--column", "probs")
    assert soft["loss"] == "softmax_distribution"


def test_columns_by_a_pattern(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,y_0,y_1,y_2\n0,1,0,1\n1,0,0,0\n2,0,1,1\n", "utf-8")
    assert read_label_file(path, "y_*").tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 1]]
    assert chosen("--labels", path, "--column", "y_*")["loss"] == "sigmoid_multilabel"


def test_cells_that_are_empty_or_names(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text('label\n0\n""\n2\n1\n', "utf-8")
    answer = chosen("--labels", path)
    assert answer["answers"]["unlabeled"] is True
    path.write_text("label\ncat\ndog\nbird\n", "utf-8")
    answer = chosen("--labels", path)
    assert answer["warnings"][0].startswith("The labels are names (bird, cat, dog).")


def test_rows_of_text(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("0, 1, 1\n1, 0, 0\n\n0, 0, 0\n", "utf-8")
    assert chosen("--labels", path)["loss"] == "sigmoid_multilabel"


def test_flags_answer_what_a_file_leaves_open(tmp_path):
    path = write(tmp_path / "votes.npy", [[3, 1, 0], [0, 0, 2], [1, 1, 2]])
    result = choose("--labels", path)
    assert result.exit_code == 2
    assert "--num-classes must be given" in result.stderr
    assert "With --num-classes 3 they are votes" in result.stderr
    assert chosen("--labels", path, "--num-classes", "3")["loss"] == "softmax_distribution"


# Wrong input: exit code 2, one line, nothing on standard output -----------------------------------


def bad_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


WRONG = {
    "no such file": (lambda _: ["--labels", "none.npy"], "none.npy must be a file"),
    "no such text": (lambda _: ["--labels", "none.txt"], "none.txt must be a file"),
    "not what it says": (
        lambda d: ["--labels", bad_file(d, "x.npy", b"hello there")],
        "x.npy must be a NPY file",
    ),
    "empty text": (lambda d: ["--labels", bad_file(d, "x.txt", b"\n")], "it is empty"),
    "ragged text": (
        lambda d: ["--labels", bad_file(d, "x.txt", b"1 2\n3\n")],
        "same number of labels in every line; got 1 to 2",
    ),
    "not UTF-8": (lambda d: ["--labels", bad_file(d, "x.txt", b"\xff\xfe1")], "in UTF-8"),
    "no such column": (
        lambda d: ["--labels", write(d / "x.csv", IDS), "--column", "z"],
        'x.csv has no column "z"; it has "label", "other". Name one with --column.',
    ),
    "which column": (
        lambda d: ["--labels", bad_file(d, "x.csv", b"a,b\n1,2\n")],
        'must have one column of labels; got "a", "b". Name it with --column.',
    ),
    "column of nothing": (lambda _: ["--column", "label"], "--column must come with --labels"),
    "kind and file": (
        lambda d: ["--labels", write(d / "x.npy", IDS), "--label-kind", "index"],
        "--labels and --label-kind must not both be given",
    ),
    "ids out of range": (
        lambda d: ["--labels", write(d / "x.npy", IDS), "--num-classes", "2"],
        "labels must lie in [0, 2); got 2 in 5 rows",
    ),
    "contradiction": (
        lambda _: ["--not-exclusive", "--label-kind", "index"],
        "--label-kind index must go with --exclusive; got --not-exclusive. Several true ",
    ),
    "contradicting count": (
        lambda _: ["--exclusive", "--true-per-row", "any"],
        "--true-per-row must agree with --exclusive; got",
    ),
    "three kinds of yes or no": (
        lambda _: ["--label-kind", "binary", "--num-classes", "3"],
        "--num-classes must be 2 for --label-kind binary; got 3",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(tmp_path, case):
    arguments, message = WRONG[case]
    result = choose(*arguments(tmp_path))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("crossent: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "flags", [("--noisy", "2"), ("--imbalance", "0.5"), ("--layout", "grid"), ("--what",)]
)
def test_flags_that_cannot_be(flags):
    result = choose(*flags)
    assert result.exit_code == 2
    assert flags[0] in result.stderr


# With and without a terminal ----------------------------------------------------------------------


def command(*arguments):
    return [sys.executable, "-W", "error", "-m", "crossent", "choose", *arguments]


def test_without_a_terminal_the_missing_flags_are_listed():
    done = subprocess.run(
        command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for flag in (
        "--exclusive or --not-exclusive",
        "--num-classes N",
        "--label-kind index|one-hot|",
        "--unlabeled yes|no|as-negative",
        "--imbalance RATIO",
        "--labels FILE",
    ):
        assert flag in done.stderr


def test_without_a_terminal_only_what_matters_is_listed():
    result = choose("--label-kind", "distribution", "--num-classes", "5")
    assert result.exit_code == 2
    assert "missing: --unlabeled yes|no|as-negative. Or pass" in result.stderr


def on_a_terminal(answers, *arguments):
    """Runs the command with a terminal as standard input that types the answers."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("--json", *arguments),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
    stdout, stderr = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, stderr
    return json.loads(stdout), stderr


CONVERSATIONS = [
    (["number"], "mean_squared_error"),
    (["item"], "in_batch_softmax"),
    (["class", "n", "no", "1"], "sigmoid_multilabel"),
    (["class", "y", "at-most-one", "5", "no", "1"], "sigmoid_multilabel"),
    (["class", "y", "one", "2", "no", "30", "y", "0"], "sigmoid_weighted"),
    (["class", "y", "one", "2", "no", "1", "0.2"], "generalized_cross_entropy"),
    (["class", "y", "one", "30", "index", "yes", "255", "50", "n", "n", "0"], "softmax_ids"),
    (["class", "y", "one", "5", "one-hot", "yes", "1", "y", "0"], "ordinal"),
    (["class", "y", "one", "5", "distribution", "no"], "softmax_distribution"),
    (["class", "y", "one", "90000", "index", "no", "1", "n", "0", "y"], "sampled_softmax"),
    # An empty line takes the default, an impossible answer is asked again.
    (["", "perhaps", "y", "", "0", "7", "", "", "", "", ""], "softmax_ids"),
]


@pytest.mark.parametrize(
    ("answers", "loss"), CONVERSATIONS, ids=["-".join(c[0]) for c in CONVERSATIONS]
)
def test_questions_on_a_terminal(answers, loss):
    advice, questions = on_a_terminal(answers)
    assert advice["loss"] == loss
    assert questions.startswith("One row predicts")
    if "255" in answers:
        assert advice["calls"]["Keras"].endswith("ignore_class=255)(labels, logits)")


def test_on_a_terminal_only_what_is_missing_is_asked():
    advice, questions = on_a_terminal([], *COMPLETE)
    assert (advice["loss"], questions) == ("softmax_ids", "")
    advice, questions = on_a_terminal(["8", "n", "n", "0"], *COMPLETE[:-2])
    assert advice["runner_up"] == "softmax_weighted"
    assert questions.startswith("Largest class count / smallest")


def test_help_names_every_flag():
    result = choose("--help")
    assert result.exit_code == 0
    for parameter in main.commands["choose"].params:
        assert all(flag in result.stdout for flag in parameter.opts)


def test_notes_speak_of_flags():
    answer = chosen(*COMPLETE[:-3], "yes", "--imbalance", "9", "--noisy", "0.3", "--rare-missed")
    assert any("give --ignore-index if yours" in note for note in answer["notes"])
    assert any("leaves aside: --rare-missed." in note for note in answer["notes"])


def test_list_of_commands_says_all_that_it_says_of_choose():
    result = CliRunner().invoke(main, ["--help"])
    assert "choose  Say which loss to use, and how to call it.\n" in result.stdout


@pytest.mark.parametrize(("columns", "widest"), [(60, 60), (200, 96), (20, 40)])
def test_width_is_that_of_the_terminal_and_never_more_than_96(monkeypatch, columns, widest):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert choosing._width() == 96
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert choosing._width() == widest


@pytest.mark.parametrize("name", choosing._QUESTIONS)
def test_questions_fit_into_79_columns(name):
    @click.command()
    def ask():
        choosing._prompt(name)

    typed = {bool: "y"}.get(choosing._QUESTIONS[name].kind, "7" if name == "num_classes" else "")
    result = CliRunner().invoke(ask, input=f"{typed}\n")
    assert result.exit_code == 0
    # What is typed is shown behind the question.
    assert 20 < len(result.stderr.splitlines()[0]) <= 80
