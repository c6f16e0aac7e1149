"""The tree itself: answers in; the loss, its runner-up, the reasons and what else to mind out.

One function per fork, in the order of the questions: no array is touched here.
"""

from typing import NamedTuple

from crossent.decision.answers import (
    LARGEST_WEIGHT,
    MANY_CLASSES,
    MUCH_NOISE,
    VERY_RARE,
    Answers,
)


class Choice(NamedTuple):
    """One leaf of the tree: two keys of `catalogue.LOSSES` and a reason for each."""

    loss: str
    why: str
    runner_up: str
    why_not: str


def choose_loss(answers: Answers) -> Choice:
    """The leaf that the answers lead to; `answers` are complete and nothing is missing."""
    if answers.labels == "real":
        return _REAL
    if answers.retrieval:
        return _IN_BATCH if answers.retrieval == "in_batch" else _PAIRS
    if answers.labels in ("distribution", "votes"):
        return _soft_labels(answers)
    if not answers.exclusive or answers.true_per_row == "at_most_one":
        return _several_labels(answers)
    if answers.noisy >= MUCH_NOISE and answers.labels != "rate":
        return _many_wrong_labels(answers)
    if answers.is_binary:
        return _yes_or_no(answers)
    return _one_of_many(answers)


_REAL = Choice(
    "mean_squared_error",
    "The target is a real number, so no cross-entropy applies. With outliers take Huber's loss.",
    "sigmoid_binary",
    "It is for probabilities. If the target is a rate in [0, 1], take it instead of squared error.",
)
_IN_BATCH = Choice(
    "in_batch_softmax",
    "One item is to be found among very many: the other items of the batch serve as negatives.",
    "pairwise_logistic",
    "It sees one negative per row; take it if negatives come with the data.",
)
_PAIRS = Choice(
    "pairwise_logistic",
    "Every positive comes with negatives of its own.",
    "in_batch_softmax",
    "It draws its negatives from the batch, so the given ones would go unused.",
)


def _soft_labels(answers: Answers) -> Choice:
    what = "votes: divide each row by its sum" if answers.labels == "votes" else "a distribution"
    return Choice(
        "softmax_distribution",
        f"Exactly one class is true in each row and its label is {what}.",
        "kl_divergence",
        "It has the same gradient and differs by the entropy of the labels: report it to compare "
        "models, since cross-entropy cannot reach 0 here.",
    )


def _several_labels(answers: Answers) -> Choice:
    if answers.is_imbalanced and answers.rare_missed:
        return _rare_positives(answers)
    if answers.true_per_row == "at_most_one":
        return Choice(
            "sigmoid_multilabel",
            "The classes exclude each other but a row can have none of them, and sigmoids can all "
            "say no.",
            "softmax_ids",
            "A softmax always picks one class. It fits once 'none of them' is a class of its own.",
        )
    return Choice(
        "sigmoid_multilabel",
        "Several classes can be true in one row, so each label is its own yes or no.",
        "softmax_ids",
        "A softmax makes the classes compete: its probabilities sum to 1, the labels do not.",
    )


def _yes_or_no(answers: Answers) -> Choice:
    if answers.is_imbalanced and answers.rare_missed:
        return _rare_positives(answers)
    why = "Each row is one yes or no: one logit says it all."
    if answers.labels == "rate":
        why = "The labels are rates in [0, 1]: cross-entropy fits probabilities to them."
    if answers.is_imbalanced:
        return Choice(
            "sigmoid_binary",
            f"{why} The classes are unbalanced, but the plain loss gives honest probabilities: "
            "train with it and move the threshold.",
            "sigmoid_weighted",
            "pos_weight shifts every logit by ln(pos_weight) and ruins the probabilities; take it "
            "only if rare positives are then still ranked badly.",
        )
    return Choice(
        "sigmoid_binary",
        why,
        "softmax_ids",
        "Two logits with softmax are the same model as one logit b - a, with weights to spare.",
    )


def _rare_positives(answers: Answers) -> Choice:
    if answers.imbalance is not True and (answers.imbalance or 0) >= VERY_RARE:
        return Choice(
            "focal_binary",
            f"Positives are rarer than 1 in {VERY_RARE:,.0f} and ranked badly: easy negatives "
            "swamp the loss, and focal loss turns them down.",
            "sigmoid_weighted",
            f"A weight above {LARGEST_WEIGHT:.0f} lets single rows dominate; below that it cannot "
            "make up for the negatives.",
        )
    return Choice(
        "sigmoid_weighted",
        "Positives are rare and the plain loss ranks them badly: weigh them up, at most "
        f"{LARGEST_WEIGHT:.0f} times, and subtract ln(pos_weight) from the logits afterwards.",
        "focal_binary",
        "Its outputs cannot be turned back into probabilities.",
    )


def _many_wrong_labels(answers: Answers) -> Choice:
    two = " (two outputs here, [0, x] for a yes/no logit x)" if answers.is_binary else ""
    return Choice(
        "generalized_cross_entropy",
        f"{answers.noisy:.0%} of the labels are wrong: cross-entropy would learn them by heart, "
        f"this loss gives up on rows it cannot fit{two}.",
        "softmax_smoothed",
        f"Smoothing copes with fewer than {MUCH_NOISE:.0%} of wrong labels.",
    )


def _one_of_many(answers: Answers) -> Choice:
    num_classes = answers.num_classes or 0
    if answers.ordinal:
        return Choice(
            "ordinal",
            f"The {num_classes:,} classes are ordered and near misses cost less: "
            f"{num_classes - 1:,} outputs ask whether the grade is above each level.",
            "softmax_ids",
            "It counts every wrong grade the same. It is the baseline to beat.",
        )
    if answers.full_softmax_too_slow:
        return Choice(
            "sampled_softmax",
            "The full softmax is too slow to train with: sample the wrong classes. "
            "For training only; evaluate with the full softmax.",
            "softmax_in_blocks",
            "It is exact and fits in memory, but takes the full time.",
        )
    if num_classes > MANY_CLASSES:
        return Choice(
            "softmax_in_blocks",
            f"Exactly one of {num_classes:,} classes is true. Logits of all rows are too much for "
            "memory; in blocks of rows the loss stays exact.",
            "sampled_softmax",
            "It is for training only and biased; take it if the exact loss is too slow.",
        )
    return _one_of_some(answers)


def _one_of_some(answers: Answers) -> Choice:
    why = f"Exactly one of {answers.num_classes:,} classes is true in each row"
    if answers.noisy > 0:
        return Choice(
            "softmax_smoothed",
            f"{why} and {answers.noisy:.1%} of the labels are wrong: smoothing keeps the network "
            "from chasing them.",
            "generalized_cross_entropy",
            f"It learns hard rows slowly; worth it from {MUCH_NOISE:.0%} of wrong labels on.",
        )
    if answers.is_imbalanced and answers.rare_missed:
        return Choice(
            "softmax_weighted",
            f"{why}, rare classes are ranked badly: weigh them up, at most {LARGEST_WEIGHT:.0f} "
            "times, and subtract ln(class_weight) from the logits afterwards.",
            "focal",
            "Its outputs cannot be turned back into probabilities.",
        )
    if answers.is_imbalanced:
        return Choice(
            "softmax_ids",
            f"{why}. The classes are unbalanced, but the plain loss gives honest probabilities: "
            "train with it and decide with a threshold or subtract the log prior.",
            "softmax_weighted",
            "Weights move the logits by ln(class_weight); take them only if rare classes are then "
            "still ranked badly.",
        )
    return Choice(
        "softmax_ids",
        f"{why}, and its id is all the loss needs.",
        "softmax_distribution",
        "One-hot rows give the same number and take num_classes times the label memory.",
    )


def notes(answers: Answers, loss: str) -> tuple[str, ...]:
    """What else the answers call for, beside the choice of the loss."""
    texts = [text for name, text in _NOTES.items() if _applying(answers)[name]]
    unheard = _unheard(answers, loss)
    if unheard:
        texts.append(
            f"Answers that this loss leaves aside: {', '.join(unheard)}. What comes first in the "
            "tree wins; try the losses for the others after it, one by one."
        )
    return tuple(texts)


def _unheard(answers: Answers, loss: str) -> list[str]:
    """The answers that called for a loss which another answer kept from being taken."""
    losses = {
        "noisy": ("generalized_cross_entropy", "softmax_smoothed"),
        "ordinal": ("ordinal",),
        "full_softmax_too_slow": ("sampled_softmax",),
        "rare_missed": ("softmax_weighted", "sigmoid_weighted", "focal_binary"),
    }
    if answers.is_binary and answers.noisy < MUCH_NOISE:
        # A note says how the sigmoid loss itself is smoothed.
        del losses["noisy"]
    given = ((name, getattr(answers, name), own) for name, own in losses.items())
    return [f"{name}={value}" for name, value, own in given if value and loss not in own]


def _applying(answers: Answers) -> dict[str, bool]:
    """Which of the notes the answers call for."""
    soft = answers.labels in ("distribution", "votes")
    return {
        "rate": answers.labels == "rate",
        "votes": answers.labels == "votes",
        "teacher": soft,
        "unlabeled": answers.unlabeled is True,
        "as_negative": answers.unlabeled == "as_negative",
        "rare": answers.is_imbalanced and not answers.rare_missed and not soft,
        "costs_differ": answers.costs_differ,
        "smoothed_binary": 0 < answers.noisy < MUCH_NOISE and answers.is_binary,
        "noisy": answers.noisy > 0,
        "impossible_classes": answers.impossible_classes,
        "sequence": answers.layout == "sequence",
        "pixels": answers.layout == "pixels",
        "ordinal": answers.ordinal,
        "several": answers.true_per_row == "any",
    }


_NOTES = {
    "rate": """
        Rates from counts: pass the number of trials as sample_weight, and report the loss minus
        the entropy of the rates.""",
    "votes": "Pass the number of votes of each row as sample_weight.",
    "teacher": """
        Distillation: soften teacher and student by the same temperature T and multiply the loss
        by T squared.""",
    "unlabeled": "What has no label adds nothing to value, gradient or denominator.",
    "as_negative": """
        Unlabeled counted as negative is learning from positive and unlabeled data: give the
        negatives a sample_weight below 1 and expect probabilities that are too low.""",
    "rare": """
        First compare thresholds on the plain loss. Class weights, or training on
        logits + log prior and predicting from the logits, come after.""",
    "costs_differ": """
        Errors of different cost: keep the plain loss and decide with a cost matrix on calibrated
        probabilities. Weights only if nobody reads the probabilities.""",
    "smoothed_binary": "A few wrong labels: label_smoothing=0.1 helps the sigmoid loss too.",
    "noisy": """
        Judge on cleaned labels with plain cross-entropy. With a known confusion matrix T,
        -log((T^T p)_y) corrects the loss.""",
    "impossible_classes": """
        Classes impossible for a row: set their logits to -inf, keep index labels and leave
        smoothing off. With distributions TensorFlow, Keras and PyTorch return NaN.""",
    "sequence": """
        Shift the labels once, mark padding in the labels (not by the attention mask), and divide
        by the labelled tokens of the whole step: crossent.label_weight counts them.""",
    "pixels": "Masks are often uint8 with 255 for unlabeled; PyTorch wants logits as (N, K, H, W).",
    "ordinal": """
        Alternative: soft labels q_k proportional to exp(-|k - y| / tau) with the loss for
        distributions.""",
    "several": "Keras averages over the labels, some code sums: say which when you report.",
}
_NOTES = {name: " ".join(text.split()) for name, text in _NOTES.items()}
