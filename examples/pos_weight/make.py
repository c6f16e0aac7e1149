"""Measures what pos_weight does to recall, precision and calibration: one digit against the rest.

A linear model of scikit-learn's handwritten digits says whether a digit is an 8. It is trained with
crossent's weighted sigmoid loss for several weights of the positives, and judged on rows that it
was not trained on (five folds). Run it with `python examples/pos_weight/make.py`; it writes
README.md beside itself and the numbers that `crossent choose` prints.
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

import crossent as xe

DIGIT = 8
POS_WEIGHTS = (1.0, 3.0, 9.0, 20.0, 100.0)
# Keeps the weights finite where the training rows can be told apart without an error.
L2 = 1e-3
HERE = Path(__file__).parent
NUMBERS = HERE.parents[1] / "src" / "crossent" / "catalogue" / "pos_weight_digits.json"
WHAT = (
    f"Linear model of scikit-learn's digits, {DIGIT} against the rest (174 of 1,797 rows), judged "
    "on rows it was not trained on. Recall and precision are at the threshold 0.5, losses in nats."
)


def train(pixels, labels, pos_weight):
    """Weights and bias that minimise the weighted loss on these rows."""

    def objective(parameters):
        logits = pixels @ parameters[:-1] + parameters[-1]
        loss, by_logits = xe.numpy.value_and_grad(
            xe.sigmoid_cross_entropy, labels=labels, logits=logits, pos_weight=pos_weight
        )
        weights = parameters[:-1]
        gradient = np.append(pixels.T @ by_logits + 2 * L2 * weights, by_logits.sum())
        return float(loss) + L2 * weights @ weights, gradient

    start = np.zeros(pixels.shape[1] + 1)
    options = {"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-9}
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x


def held_out_logits(pixels, labels, pos_weight):
    """Logits of every row from the model that did not see it."""
    logits = np.empty(len(labels))
    for seen, held_out in StratifiedKFold(5, shuffle=True, random_state=0).split(pixels, labels):
        parameters = train(pixels[seen], labels[seen], pos_weight)
        logits[held_out] = pixels[held_out] @ parameters[:-1] + parameters[-1]
    return logits


def judge(labels, logits):
    """Recall and precision at 0.5, mean predicted rate, log loss in nats."""
    found = np.sum((logits > 0) & (labels == 1))
    return {
        "recall": found / np.sum(labels == 1),
        "precision": found / np.sum(logits > 0),
        "mean_predicted": np.mean(xe.sigmoid(logits)),
        "log_loss": xe.sigmoid_cross_entropy(labels=labels, logits=logits),
    }


def measure(pos_weights):
    """The rows of the table."""
    digits = load_digits()
    pixels, labels = digits.data / 16, (digits.target == DIGIT).astype(np.float64)
    plain = held_out_logits(pixels, labels, 1.0)
    rows = []
    for pos_weight in pos_weights:
        logits = held_out_logits(pixels, labels, pos_weight)
        undone = judge(labels, logits - np.log(pos_weight))
        # The threshold that pays for a missed positive what pos_weight pays for it.
        moved = judge(labels, plain + np.log(pos_weight))
        row = {"pos_weight": pos_weight, "true_rate": labels.mean(), **judge(labels, logits)}
        row |= {f"undone_{name}": value for name, value in undone.items()}
        row |= {f"threshold_{name}": moved[name] for name in ("recall", "precision")}
        rows.append({name: round(float(value), 4) for name, value in row.items()})
    return rows


def main():
    """Writes the numbers, then the table made of them."""
    rows = measure(POS_WEIGHTS)
    NUMBERS.write_text(json.dumps({"what": WHAT, "rows": rows}, indent=1) + "\n", "utf-8")
    # Imported late: it reads the numbers just written.
    from crossent.catalogue import pos_weight_lines

    table = "\n".join(["# What pos_weight does", "", *pos_weight_lines()])
    (HERE / "README.md").write_text(table + "\n\nMade by `make.py`.\n", "utf-8")


if __name__ == "__main__":
    main()
