"""Labels and scores are matched by the names of their columns, never by luck of the order."""

import numpy as np
import pytest
from prediction_files import random_problem, write_csv

import crossent as xe
from crossent.auditing.classes import wildcard_parts

# ---- columns of labels beside columns of scores


def outputs(rows=40):
    rng = np.random.default_rng(5)
    return rng.integers(0, 2, (rows, 3)), rng.normal(size=(rows, 3)).round(3)


@pytest.mark.parametrize(
    ("label_names", "score_names", "of_score"),
    [
        # of_score: which column of labels belongs to the first, second and third score.
        ("y_a y_b y_c", "z_c z_a z_b", [2, 0, 1]),
        ("y_2 y_0 y_1", "z_1 z_2 z_0", [2, 0, 1]),
        ("y_1 y_2 y_3", "z_2 z_0 z_1", [2, 0, 1]),  # running numbers, from 1 and from 0
        ("y_00 y_01 y_02", "z_2 z_0 z_1", [2, 0, 1]),
    ],
)
def test_columns_are_paired_by_what_the_wildcard_stands_for(
    tmp_path, label_names, score_names, of_score
):
    labels, logits = outputs()
    header = [*label_names.split(), *score_names.split()]
    rows = [[*y, *z] for y, z in zip(labels.tolist(), logits.tolist(), strict=True)]
    report = xe.audit(write_csv(tmp_path / "f.csv", header, rows), labels="y_*", logits="z_*")
    assert report.scores == xe.audit(labels=labels[:, of_score], logits=logits).scores
    assert report.scores != xe.audit(labels=labels, logits=logits).scores
    assert report.class_names == tuple(name[2:] for name in score_names.split())


@pytest.mark.parametrize(
    ("label_names", "score_names"),
    [
        ("y_a y_b y_c", "z_a z_b z_d"),
        ("y_a y_b", "z_a z_b z_c"),
        ("y_0 y_1 y_5", "z_0 z_1 z_2"),
        ("y_a y_b y_c", "z_0 z_1 z_2"),
    ],
)
def test_columns_of_other_names_are_not_paired(tmp_path, label_names, score_names):
    header = [*label_names.split(), *score_names.split()]
    path = write_csv(tmp_path / "f.csv", header, [[0] * len(header)] * 3)
    with pytest.raises(xe.FileError, match="must have the same names of classes; got ") as caught:
        xe.audit(path, labels="y_*", logits="z_*")
    assert "\n" not in str(caught.value)
    assert f'"{header[0][2:]}"' in str(caught.value)
    assert f'"{header[-1][2:]}"' in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "name", "parts"),
    [
        ("y_*", "y_a", ("a",)),
        ("p(*)", "p(a)", ("a",)),
        ("y_??", "y_01", ("01",)),
        ("y[!a]", "yb", ("b",)),
        ("*_of_*", "p_of_q", ("p", "q")),
    ],
)
def test_what_wildcards_stand_for(pattern, name, parts):
    assert wildcard_parts(pattern, [name]) == (parts,)


# ---- class ids beside numbered columns


def numbered_file(tmp_path, numbers, labels, logits):
    header = ["y", *(f"z_{k}" for k in numbers)]
    rows = [[y, *map(repr, map(float, row))] for y, row in zip(labels, logits, strict=True)]
    return write_csv(tmp_path / "f.csv", header, rows)


@pytest.mark.parametrize("batch_rows", [None, 1, 7])
@pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [0, 1, 7, 9], [9, 1, 0, 7], [-1, 0, 1, 2]])
def test_labels_are_the_numbers_of_the_columns(tmp_path, numbers, batch_rows):
    ids, logits, _ = random_problem(rows=300, classes=4, seed=6)
    labels = np.asarray(numbers)[ids]
    path = numbered_file(tmp_path, numbers, labels, logits)
    report = xe.audit(path, logits="z_*", batch_rows=batch_rows)
    assert report.scores == xe.audit(labels=ids, logits=logits).scores
    assert (report.notes, report.findings) == ((), ())
    named = {entry["name"]: entry["rows"] for entry in report.to_dict()["scores"]["per_class"]}
    assert named == {str(n): int(np.count_nonzero(labels == n)) for n in numbers}
    beside = xe.audit(path, labels=labels, logits="z_*", batch_rows=batch_rows)
    assert beside.scores == report.scores


@pytest.mark.parametrize("batch_rows", [None, 1, 7])
@pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [5, 6, 7, 8]])
def test_labels_that_are_positions_are_scored_so_and_it_is_said(tmp_path, numbers, batch_rows):
    labels, logits, _ = random_problem(rows=300, classes=4, seed=7)
    # The first batches fit the numbers 1 to 4 as well.
    labels, logits = (part[np.argsort(labels == 0, kind="stable")] for part in (labels, logits))
    path = numbered_file(tmp_path, numbers, labels, logits)
    report = xe.audit(path, logits="z_*", batch_rows=batch_rows)
    assert report.scores == xe.audit(labels=labels, logits=logits).scores
    last = numbers[-1]
    expected = f'label 0 by "z_{numbers[0]}", label 3 by "z_{last}".'
    assert expected in " ".join(report.text().split())
    assert [note.endswith(expected) for note in report.to_dict()["notes"]] == [True]
    # Named as in the file, where 1 is another class than the column z_1.
    names = [entry["name"] for entry in report.to_dict()["scores"]["per_class"]]
    assert names == ["0", "1", "2", "3"]


def test_labels_that_are_numbers_and_positions_are_refused(tmp_path):
    labels, logits = [1, 2, 3, 4, 0], np.zeros((5, 4))
    path = numbered_file(tmp_path, [1, 2, 3, 4], labels, logits)
    with pytest.raises(xe.FileError, match=r"got 4, which is no position, and 0, which no column"):
        xe.audit(path, logits="z_*", batch_rows=2)
    ignored = xe.audit(path, logits="z_*", ignore_index=0).scores
    assert (ignored.scored, ignored.ignored) == (4, 1)


def test_an_ignored_label_is_no_position(tmp_path):
    ids, logits, _ = random_problem(rows=100, classes=4, seed=8)
    path = numbered_file(tmp_path, [1, 2, 3, 4], ids + 1, logits)
    scores = xe.audit(path, logits="z_*", ignore_index=1).scores
    expected = xe.audit(labels=ids, logits=logits, ignore_index=0).scores
    assert scores == expected
    assert scores.ignored == np.count_nonzero(ids == 0)


def test_labels_that_are_neither_stay_out_of_range(tmp_path):
    path = numbered_file(tmp_path, [1, 2, 3], [1, 2, 3, -1, 17], np.zeros((5, 3)))
    report = xe.audit(path, logits="z_*")
    assert (report.scores.scored, report.scores.unscorable) == (3, 2)
    assert report.unscorable[0].first_rows == (3, 4)


# ---- cells that are no numbers

WAYS_OUT = {
    "an empty label": ("1,0.5,0.5\n,0.5,0.5\n", "y", "Leave such rows out, or fill in a number of"),
    "a missing label": ("1,0.5,0.5\nNA,0.5,0.5\n", "y", "Leave such rows out, or fill in a number"),
    "an empty score": ("1,0.5,0.5\n1,,0.5\n", "p_0", "Leave such rows out, or fill in a number"),
    "a percentage": ("1,0.5,0.5\n1,1.722%,0.5\n", "p_0", "Strip the % and divide by 100"),
}


@pytest.mark.parametrize("case", WAYS_OUT)
def test_the_way_out_fits_the_cell(tmp_path, case):
    content, column, way_out = WAYS_OUT[case]
    path = tmp_path / "f.csv"
    path.write_text("y,p_0,p_1\n" + content)
    with pytest.raises(xe.FileError) as caught:
        xe.audit(path, probs="p_*")
    text = str(caught.value)
    assert text.startswith(f'column "{column}" must hold numbers; got ')
    assert "in row 1." in text
    assert way_out in text
    assert ("--ignore-index" in text) == ("%" not in text)
    assert "Text labels" not in text


def test_text_labels_of_one_score_column_name_what_is_read(tmp_path):
    path = write_csv(tmp_path / "f.csv", ["y", "probs"], [["yes", 0.9], ["no", 0.2]])
    with pytest.raises(xe.FileError, match=r'"yes" in row 0\. .* 0 and 1, or true and false\.$'):
        xe.audit(path)
    shouted = write_csv(tmp_path / "g.csv", ["y", "probs"], [["TRUE", 0.9], ["FALSE", 0.2]])
    expected = xe.audit(labels=[1, 0], probs=[0.9, 0.2]).scores
    assert xe.audit(shouted).scores == expected


# ---- NPY files of one array


@pytest.mark.parametrize("name", ["logits", "z", "model", "anything_*"])
def test_any_name_selects_the_only_array(tmp_path, name):
    labels, logits, _ = random_problem(rows=50, seed=9)
    np.save(tmp_path / "z.npy", logits)
    report = xe.audit(tmp_path / "z.npy", labels=labels, logits=name)
    assert report.scores == xe.audit(labels=labels, logits=logits).scores
