"""Make predictions.parquet: cross-validated probabilities for scikit-learn's handwritten digits.

Every image is predicted by a model that never saw it. Run `python examples/digits/make.py [FILE]`;
it needs scikit-learn and pyarrow.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits


def predict() -> tuple[np.ndarray, np.ndarray]:
    """Labels (1797,) int64 and probabilities (1797, 10) float32, in the data set's order."""
    images, labels = load_digits(return_X_y=True)
    # Converged far beyond float32: the optimum, not the solver's path, decides the numbers.
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-10)
    )
    folds = StratifiedKFold(n_splits=10, shuffle=True, random_state=0)
    # One thread: the sums are the same on every machine, and matrices this small only get slower.
    with threadpool_limits(1):
        probs = cross_val_predict(model, images, labels, cv=folds, method="predict_proba")
    return labels.astype(np.int64), probs.astype(np.float32)


def write(path: Path) -> None:
    """Write the two columns as Parquet."""
    labels, probs = predict()
    rows = pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), probs.shape[1])
    table = pa.table({"label": labels, "probs": rows})
    # Probabilities do not repeat: plain pages of zstd are smaller than dictionaries.
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


if __name__ == "__main__":
    here = Path(__file__).with_name("predictions.parquet")
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
