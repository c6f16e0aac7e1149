"""Writes small files of predictions, sound and broken ones."""

import csv
import io

import numpy as np
import pytest


def random_problem(rows=400, classes=5, seed=0, scale=2.0):
    """Labels drawn from the probabilities that the logits give: (labels, logits, probs)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(rows, classes))
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in probs])
    return labels, logits, probs


def write_csv(path, header, rows, separator=","):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=separator)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def parquet_modules():
    pa = pytest.importorskip("pyarrow", reason="reads Parquet")
    return pa, pytest.importorskip("pyarrow.parquet", reason="reads Parquet")


def write_parquet(path, columns, **options):
    pa, pq = parquet_modules()
    pq.write_table(pa.table(columns), path, **options)
    return path


def npy_bytes(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()
