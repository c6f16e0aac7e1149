"""`crossent audit`: what it prints and where, and its exit codes."""

import json
import math
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import crossent as xe
from crossent import cli
from crossent.auditing.columns import _LABEL_NAMES, SCORE_KINDS

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "predictions.parquet"

SOUND = "label,p_a,p_b\n" + "0,0.7,0.3\n1,0.4,0.6\n0,0.55,0.45\n1,0.2,0.8\n" * 10
ONE_BASED = "label,z_a,z_b\n" + "1,2.0,-1.0\n2,-1.5,1.0\n1,0.5,-0.25\n2,-0.75,2.0\n" * 50


@pytest.fixture
def predictions(tmp_path):
    """Writes a file and returns its path as text."""

    def write(content, name="predictions.csv"):
        path = tmp_path / name
        path.write_text(content)
        return str(path)

    return write


def audit(*arguments):
    return CliRunner().invoke(cli.main, ["audit", *arguments])


def run(*arguments, **options):
    """The command in a process of its own, as a shell sees it."""
    command = [sys.executable, "-W", "error", "-m", "crossent", "audit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# ---- exit codes


def test_sound_predictions_exit_0(predictions):
    result = run(predictions(SOUND), "--probs", "p_*")
    assert (result.returncode, result.stderr) == (0, "")
    assert "What is suspicious\n  Nothing." in result.stdout


def test_findings_exit_1_unless_told_otherwise(predictions):
    path = predictions(ONE_BASED)
    result = run(path, "--logits", "z_*")
    assert (result.returncode, result.stderr) == (1, "")
    assert "What is suspicious: 1 error" in result.stdout
    assert "E B7 " in result.stdout
    tolerated = run(path, "--logits", "z_*", "--exit-zero")
    assert (tolerated.returncode, tolerated.stdout) == (0, result.stdout)


def test_notes_alone_are_no_reason_to_exit_1():
    # log_softmax passed as logits: harmless, for softmax of it is the same.
    logits = np.random.default_rng(0).normal(size=(100, 3))
    labels = logits.argmax(axis=1)
    report = xe.audit(labels=labels, logits=xe.log_softmax(logits))
    assert {finding.severity for finding in report.findings} == {"I"}
    assert not report.is_suspicious


@pytest.mark.parametrize(
    ("content", "arguments", "reason"),
    [
        ("", [], "predictions.csv must hold predictions; it is empty"),
        (SOUND, [], 'no column named logits, probs or log_probs; it has "label", "p_a", "p_b".'),
        (SOUND, ["--probs", "q_*"], 'has no column "q_*"'),
        (SOUND, ["--probs", "p_*", "--labels", "y"], 'has no column "y"'),
        (SOUND, ["--probs", "p_*", "--labels", "y.npy"], "y.npy must be a file; there is none"),
        (SOUND + "1,none,0.5\n", ["--probs", "p_*"], 'must hold numbers; got "none" in row 40'),
        (SOUND, ["--probs", "p_*", "--logits", "p_*"], "exactly one kind of scores"),
        (SOUND, ["--probs", "p_*", "--loss", "sigmoid"], "for each of the 2 sigmoid outputs"),
    ],
)
def test_unreadable_input_exits_2_with_one_line(predictions, content, arguments, reason):
    result = audit(predictions(content), *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert reason in result.stderr
    assert result.stderr.startswith("crossent: ")
    assert result.stderr.count("\n") == 1


def test_files_that_are_none_exit_2_in_a_process_too(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([print], dtype=object), allow_pickle=True)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    for name, reason in {
        "missing.parquet": "there is none of this name",
        ".": "got a directory",
        "evil.npy": "pickled Python objects",
        "cut.parquet": "Parquet",
    }.items():
        result = run(str(tmp_path / name))
        assert result.returncode == 2, name
        assert reason in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["x.csv", "--bins", "0"], ["x.csv", "--loss", "hinge"], ["x.csv", "--sorted"]]
)
def test_wrong_usage_exits_2(arguments):
    result = audit(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


# ---- what is printed


def test_digits_print_the_score_table():
    pytest.importorskip("pyarrow", reason="reads Parquet")
    result = run(str(DIGITS), "--exit-zero")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    table = {" ".join(words[:2]): words[2] for words in lines if len(words) > 2}
    mean_loss = float(table["mean loss"])
    assert len(table["mean loss"].removeprefix("0.")) == 7
    assert mean_loss == pytest.approx(xe.audit(DIGITS).scores.mean_loss, rel=5e-7)
    assert float(table["ln K"]) == pytest.approx(math.log(10), rel=1e-6)
    for title in ("The loss that the data call for", "What is suspicious", "By class of the label"):
        assert title in result.stdout
    assert "xe.softmax_cross_entropy(labels=labels, probs=probs)" in result.stdout


def strict(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_json_is_strict_and_complete(predictions):
    certain_and_wrong = "label,probs_0,probs_1\n0,0,1\n1,0.5,0.5\n7,0.5,0.5\n"
    result = audit(predictions(certain_and_wrong), "--json")
    assert result.exit_code == 1
    content = json.loads(result.stdout, parse_constant=strict)
    report = xe.audit(predictions(certain_and_wrong))
    assert content == json.loads(json.dumps(report.to_dict()))
    assert content["scores"]["mean_loss"] == content["scores"]["worst"][0]["loss"] == "inf"
    assert content["scores"]["mean_finite_loss"] == pytest.approx(math.log(2))
    assert content["unscorable_rows"] == [
        {"reason": "label is no class id in [0, 2)", "rows": 1, "first_rows": [2]}
    ]
    assert content["advice"]["loss"].startswith("s")
    assert {"code", "severity", "evidence", "why", "fix"} <= content["findings"][0].keys()


def test_options_reach_the_audit(predictions):
    content = "y,w,id,probs_0,probs_1\n" + "0,2,a,0.75,0.25\n1,1,a,0.5,0.5\n-1,1,c,0.5,0.5\n"
    result = audit(
        predictions(content), "--ignore-index", "-1", "--weights", "w", "--ids", "id",
        "--bins", "4", "--worst", "1", "--batch-rows", "2", "--loss", "softmax", "--json",
    )  # fmt: skip
    scores = json.loads(result.stdout)["scores"]
    assert (scores["ignored"], scores["weight"], len(scores["worst"])) == (1, 3.0, 1)
    assert scores["mean_loss"] == pytest.approx(-(2 * math.log(0.75) + math.log(0.5)) / 3)
    assert scores["calibration_variant"] == "top-label, 4 equal-width bins"
    assert "A10" in {finding["code"] for finding in json.loads(result.stdout)["findings"]}


def test_weights_have_two_names(predictions):
    content = "y,w,probs_0,probs_1\n0,2,0.75,0.25\n1,1,0.5,0.5\n"
    path = predictions(content)
    first, second = (audit(path, flag, "w", "--json") for flag in ("--weights", "--sample-weight"))
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)["scores"]["weight"] == 3.0


def test_labels_may_be_a_file_of_their_own(tmp_path):
    np.save(tmp_path / "labels.npy", np.array([0, 1]))
    np.save(tmp_path / "model.npy", np.array([[0.75, 0.25], [0.5, 0.5]]))
    arguments = [str(tmp_path / "model.npy"), "--labels", str(tmp_path / "labels.npy"), "--json"]
    assert "Say what the scores are" in audit(*arguments).stderr
    scores = json.loads(audit(*arguments, "--probs", "model").stdout)["scores"]
    assert scores["mean_loss"] == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_long_tables_are_cut_and_say_so(tmp_path):
    labels = np.arange(60) % 30
    logits = np.random.default_rng(0).normal(size=(60, 40))
    text = xe.audit(labels=labels, logits=logits).text()
    assert "The 20 of 30 classes with the highest loss." in text
    assert "10 of 40 have no rows." in text
    table = text.split("By class of the label")[1].split("\n  The 20 of")[0].splitlines()[2:]
    assert len(table) == 20


def test_nothing_but_ascii_is_printed(predictions):
    for content, flag in ((SOUND, "p_*"), (ONE_BASED, "z_*")):
        assert audit(predictions(content), "--probs", flag).stdout.isascii()


def test_help_lists_the_names_that_are_found_and_the_rule_for_npy():
    words = audit("--help").stdout.replace(",", " ").replace(".", " ").split()
    assert {*_LABEL_NAMES, *SCORE_KINDS, "logits_0", "NPY"} <= set(words)


# ---- terminals


def on_a_terminal(command, which, columns=120):
    """Output of a process one of whose streams is a terminal; the other stream as text."""
    parent, child = pty.openpty()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, which: child}
    with subprocess.Popen(
        command, env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}, **streams
    ) as process:
        os.close(child)
        seen = b""
        while True:
            try:
                part = os.read(parent, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        other = process.stdout or process.stderr
        rest = other.read()
    os.close(parent)
    return seen.decode(), rest.decode()


@pytest.fixture
def command(predictions):
    return [sys.executable, "-m", "crossent", "audit", predictions(SOUND), "--probs", "p_*"]


def test_a_progress_bar_is_drawn_on_a_terminal_only(command):
    pytest.importorskip("rich", reason="draws the progress bar")
    drawn, printed = on_a_terminal(command, "stderr")
    assert "reading" in drawn
    assert "reading" not in printed
    drawn, printed = on_a_terminal([*command, "--no-progress"], "stderr")
    assert drawn == ""
    assert "mean loss" in printed


def test_tables_are_drawn_by_rich_on_a_terminal(command):
    pytest.importorskip("rich", reason="draws the tables")
    drawn, _ = on_a_terminal(command, "stdout")
    assert "\x1b[1m" in drawn  # bold titles
    plain = xe.audit(command[4], probs="p_*")
    assert f"{plain.scores.mean_loss:#.7g}" in drawn


@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_a_terminal_without_rich_gets_plain_text(command, which, tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    without_rich = ["env", f"PYTHONPATH={path}", *command]
    drawn, other = on_a_terminal(without_rich, which)
    text = drawn.replace("\r\n", "\n") if which == "stdout" else other
    assert text == xe.audit(command[4], probs="p_*").text()


@pytest.mark.parametrize("has_rich", [True, False])
@pytest.mark.parametrize("columns", [60, 200])
def test_lines_are_no_wider_than_the_terminal(predictions, tmp_path, columns, has_rich):
    if has_rich:
        pytest.importorskip("rich", reason="draws the tables")
    content = ONE_BASED.replace("z_a", "z_" + "long" * 20).replace("z_b", "z_" + "name " * 20)
    command = [sys.executable, "-m", "crossent", "audit", predictions(content), "--logits", "z_*"]
    if not has_rich:
        (tmp_path / "rich.py").write_text("raise ImportError('not here')")
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = ["env", f"PYTHONPATH={path}", *command]
    drawn, _ = on_a_terminal(command, "stdout", columns)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in drawn.splitlines()]
    assert "mean loss" in drawn
    limit = min(columns, 100)
    assert limit - 20 < max(map(len, lines)) <= limit
    assert max(map(len, xe.audit(command[-3], logits="z_*").text().splitlines())) <= 100
