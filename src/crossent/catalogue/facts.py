"""One record of facts per loss: what it is for, what it takes, what goes wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from crossent.catalogue.calls import CALLS


@dataclass(frozen=True, slots=True)
class LossFacts:
    """What is to be known about one loss before using it.

    Attributes:
        name: the key in `LOSSES` and in the calls.
        title: its name in a sentence.
        task: what one row is, in the words of the README's table.
        formula: the loss of one row (or element) in plain text; x logits, p probabilities, y label.
        labels: the labels that it takes.
        scores: the scores that it takes.
        activation: what turns the scores into probabilities at prediction time.
        denominator: what the mean divides by.
        use_when: when to use it.
        avoid_when: when not to.
        traps: mistakes that give a wrong number without an error.
        source: where the formula comes from.
        calls: the exact call in each library.
    """

    name: str
    title: str
    task: str
    formula: str
    labels: str
    scores: str
    activation: str
    denominator: str
    use_when: str
    avoid_when: str
    traps: tuple[str, ...]
    source: str
    calls: Mapping[str, str]


_LOGITS = "logits (rows, classes), unbounded; crossent also takes probs or log_probs"
_PER_LABEL = "logits, same shape as the labels; crossent also takes probs or log_probs"
_LABELLED_ROWS = "the labelled rows"
_ALL_ELEMENTS = "the labelled elements: rows x labels"
_BISHOP_SOFTMAX = "Bishop 2006, Pattern Recognition and Machine Learning, eq. 4.108"
_BISHOP_SIGMOID = "Bishop 2006, Pattern Recognition and Machine Learning, eq. 4.90"

_ALL = (
    LossFacts(
        name="softmax_ids",
        title="softmax cross-entropy on class ids",
        task="exactly one of K classes, the label is its id",
        formula="log(sum_j exp(x_j)) - x_y",
        labels="ids 0 .. K-1, any integer dtype, shape (rows,)",
        scores=_LOGITS,
        activation="softmax",
        denominator=_LABELLED_ROWS,
        use_when="Every row belongs to exactly one class.",
        avoid_when="Several classes, or none, can be true in one row.",
        traps=(
            (
                "Softmax applied before a loss that takes logits: the loss cannot fall below "
                "ln(1 + (K-1)/e)."
            ),
            (
                "PyTorch wants the classes on axis 1 and ignores the label -100 by itself; "
                "Optax reads -1 as the last class."
            ),
            "Mean over batches of different size is not the mean over rows: add sums, then divide.",
        ),
        source=_BISHOP_SOFTMAX,
        calls=CALLS["softmax_ids"],
    ),
    LossFacts(
        name="softmax_distribution",
        title="softmax cross-entropy on distributions",
        task="a distribution over K classes (teacher, mixup, votes)",
        formula="-sum_j q_j log p_j",
        labels="rows of q >= 0 that sum to 1, shape (rows, K)",
        scores=_LOGITS,
        activation="softmax",
        denominator=_LABELLED_ROWS,
        use_when="The label itself is uncertain: teacher outputs, mixup, annotator votes.",
        avoid_when="The rows are one-hot: ids give the same number in 1/K of the label memory.",
        traps=(
            "It cannot reach 0: the floor is the entropy of the labels. Compare models by KL.",
            "Multi-hot rows do not sum to 1; they want the sigmoid loss.",
            "TensorFlow, JAX and PyTorch send a gradient into the labels: stop it for a teacher.",
            (
                "Logits of -inf give NaN in most libraries even where q is 0; crossent and "
                "optax.losses.safe_softmax_cross_entropy count 0 * inf as 0."
            ),
        ),
        source=_BISHOP_SOFTMAX,
        calls=CALLS["softmax_distribution"],
    ),
    LossFacts(
        name="softmax_smoothed",
        title="softmax cross-entropy with label smoothing",
        task="exactly one of K classes, under 5 % of the labels wrong",
        formula="-sum_j q_j log p_j with q = (1 - e) onehot(y) + e/K",
        labels="ids 0 .. K-1, any integer dtype, shape (rows,)",
        scores=_LOGITS,
        activation="softmax",
        denominator=_LABELLED_ROWS,
        use_when="A few labels are wrong, or the network is too sure of itself; e = 0.05 to 0.1.",
        avoid_when="Teachers for distillation, calibrated tails, or classes masked with -inf.",
        traps=(
            "Training only: validate without it.",
            "It cannot reach 0: with e = 0.1 the floor is 0.50 for 10 classes, 1.01 for 1,000.",
            "Some code spreads e over the K-1 other classes; these libraries spread it over all K.",
        ),
        source="Szegedy et al. 2016, section 7, https://arxiv.org/abs/1512.00567",
        calls=CALLS["softmax_smoothed"],
    ),
    LossFacts(
        name="softmax_weighted",
        title="softmax cross-entropy with class weights",
        task="exactly one of K classes, rare classes missed by the plain loss",
        formula="w_y (log(sum_j exp(x_j)) - x_y)",
        labels="ids 0 .. K-1, any integer dtype, shape (rows,)",
        scores=_LOGITS,
        activation="softmax of x_j - ln(w_j): without that step the outputs are not probabilities",
        denominator="the sum of w_y over the labelled rows",
        use_when="The plain loss ranks rare classes badly. Weights: largest count / class count, "
        "at most 20.",
        avoid_when="You need probabilities, or only another threshold: move the threshold.",
        traps=(
            "The optimum moves by ln(w_k) per class: subtract it before the softmax.",
            "Keras' sample_weight divides by rows, PyTorch's weight= by the sum of the weights.",
            (
                "With batches too small to hold the rarest class, divide by rows "
                '(crossent: reduction="mean_all").'
            ),
        ),
        source="King and Zeng 2001, Logistic Regression in Rare Events Data, section 4.2",
        calls=CALLS["softmax_weighted"],
    ),
    LossFacts(
        name="sigmoid_binary",
        title="sigmoid cross-entropy",
        task="yes or no",
        formula="max(x, 0) - x*y + log1p(exp(-|x|))",
        labels="0 or 1, or a rate in [0, 1], same shape as the logits",
        scores="logits, one per row; crossent also takes probs or log_probs",
        activation="sigmoid",
        denominator=_LABELLED_ROWS,
        use_when="One question per row with the answer yes or no.",
        avoid_when="More than two classes exclude each other.",
        traps=(
            "A softmax over one unit is always 1: nothing is learned.",
            "Two logits with softmax are the same model as one logit b - a: pick one.",
            "Labels -1/+1 give negative losses in TensorFlow: use (y + 1) / 2.",
            "Shapes (N,) and (N, 1) broadcast to (N, N) in Optax.",
        ),
        source=_BISHOP_SIGMOID,
        calls=CALLS["sigmoid_binary"],
    ),
    LossFacts(
        name="sigmoid_multilabel",
        title="sigmoid cross-entropy for every label",
        task="several labels, each yes or no",
        formula="max(x, 0) - x*y + log1p(exp(-|x|)) for each label",
        labels="multi-hot: 0 or 1 per label, shape (rows, labels)",
        scores=_PER_LABEL,
        activation="sigmoid",
        denominator=_ALL_ELEMENTS,
        use_when="Any number of labels can be true in one row.",
        avoid_when="Exactly one is true in every row and none of them cannot happen later.",
        traps=(
            "Softmax makes the labels compete, argmax metrics see one of them: use neither.",
            "Some code sums over the labels: its loss is larger by the number of labels.",
            "A missing annotation written as 0 is learned as no.",
        ),
        source=_BISHOP_SIGMOID,
        calls=CALLS["sigmoid_multilabel"],
    ),
    LossFacts(
        name="sigmoid_weighted",
        title="sigmoid cross-entropy with pos_weight",
        task="yes or no, or several labels: rare positives missed by the plain loss",
        formula="(1-y)*x + (1 + (q-1)*y) * (log1p(exp(-|x|)) + max(-x, 0))",
        labels="0 or 1 per label, same shape as the logits",
        scores=_PER_LABEL,
        activation="sigmoid(x - ln(q)): without that step the outputs are not probabilities",
        denominator="the labelled elements, without the weights",
        use_when="The plain loss ranks rare positives badly. q = negatives / positives, at most "
        "20, one number or one per label.",
        avoid_when="You need probabilities, or only more recall: lower the threshold instead.",
        traps=(
            "q > 1 raises recall, lowers precision and moves every logit up by ln(q).",
            (
                "A vector of one weight per row is taken as one per label when the sizes agree "
                "(PyTorch), or enlarges the result (TensorFlow)."
            ),
        ),
        source="King and Zeng 2001, Logistic Regression in Rare Events Data, section 4.2",
        calls=CALLS["sigmoid_weighted"],
    ),
    LossFacts(
        name="focal",
        title="focal loss",
        task="exactly one of K classes, easy rows swamp the loss",
        formula="(1 - p_y)^gamma (-log p_y)",
        labels="ids 0 .. K-1, any integer dtype, shape (rows,)",
        scores=_LOGITS,
        activation="softmax; the outputs are not calibrated",
        denominator=_LABELLED_ROWS,
        use_when="Most rows are easy and the hard ones do not improve.",
        avoid_when="You need probabilities: it is not a proper scoring rule.",
        traps=(
            "p_y has to come from the plain loss, before any weight.",
            "Keras multiplies by alpha = 0.25 unless told otherwise.",
        ),
        source="Lin et al. 2017, eq. 4, https://arxiv.org/abs/1708.02002",
        calls=CALLS["focal"],
    ),
    LossFacts(
        name="focal_binary",
        title="binary focal loss",
        task="yes or no at 1 positive in 1,000 or rarer (dense detection)",
        formula="alpha_y (1 - p_y)^gamma (-log p_y), alpha_1 = alpha, alpha_0 = 1 - alpha",
        labels="0 or 1 per label, same shape as the logits",
        scores=_PER_LABEL,
        activation="sigmoid; the outputs are not calibrated",
        denominator=_ALL_ELEMENTS,
        use_when="Easy negatives swamp the loss.",
        avoid_when="You need probabilities: it is not a proper scoring rule.",
        traps=(
            "alpha weighs the positives: at 0.25 less than the negatives, as gamma favours them.",
            "The paper divides by the number of positives, the libraries by the elements.",
        ),
        source="Lin et al. 2017, eq. 5, https://arxiv.org/abs/1708.02002",
        calls=CALLS["focal_binary"],
    ),
    LossFacts(
        name="generalized_cross_entropy",
        title="generalized cross-entropy",
        task="exactly one of K classes, 5 % or more of the labels wrong",
        formula="(1 - p_y^q) / q",
        labels="ids 0 .. K-1, any integer dtype, shape (rows,)",
        scores=_LOGITS,
        activation="softmax; the outputs are not calibrated",
        denominator=_LABELLED_ROWS,
        use_when="Many labels are wrong; q = 0.5 to 0.7. (q -> 0 is cross-entropy.)",
        avoid_when="The labels are clean: it learns hard rows slowly.",
        traps=(
            "Validate on cleaned labels with plain cross-entropy.",
            "Keras' version takes probabilities, not logits.",
        ),
        source="Zhang and Sabuncu 2018, eq. 6, https://arxiv.org/abs/1805.07836",
        calls=CALLS["generalized_cross_entropy"],
    ),
    LossFacts(
        name="poly",
        title="poly loss",
        task="exactly one of K classes, one more number to tune",
        formula="-log p_y + epsilon (1 - p_y)",
        labels="ids 0 .. K-1, any integer dtype, shape (rows,)",
        scores=_LOGITS,
        activation="softmax; the outputs are not calibrated",
        denominator=_LABELLED_ROWS,
        use_when="Plain cross-entropy works and a search over epsilon on validation data pays.",
        avoid_when="There is no validation data to tune epsilon on.",
        traps=("Optax' epsilon is 2 by default, crossent's is 1.",),
        source="Leng et al. 2022, the Poly-1 loss, https://arxiv.org/abs/2204.12511",
        calls=CALLS["poly"],
    ),
    LossFacts(
        name="kl_divergence",
        title="Kullback-Leibler divergence",
        task="how far predictions are from given distributions",
        formula="sum_j q_j (log q_j - log p_j)",
        labels="rows of q >= 0 that sum to 1, shape (rows, K)",
        scores=_LOGITS,
        activation="softmax",
        denominator="the rows; take the mean yourself, crossent returns one number per row",
        use_when="Models with soft labels are compared: 0 is perfect. Its gradient is "
        "cross-entropy's.",
        avoid_when="The labels are ids: it is cross-entropy.",
        traps=(
            'PyTorch takes log-probabilities first; its "mean" divides by elements.',
            "Keras clips probabilities at 1e-7.",
            "The order matters: KL(labels || scores).",
        ),
        source="Kullback and Leibler 1951, section 2, https://doi.org/10.1214/aoms/1177729694",
        calls=CALLS["kl_divergence"],
    ),
    LossFacts(
        name="mean_squared_error",
        title="mean squared error",
        task="a real number, not a probability",
        formula="(y - prediction)^2",
        labels="real numbers, same shape as the predictions",
        scores="predictions, no activation",
        activation="none",
        denominator="all elements",
        use_when="The target is a quantity. For heavy tails take Huber's loss.",
        avoid_when="The output is a sigmoid or softmax: the gradient vanishes where it is most "
        "wrong.",
        traps=(
            (
                "On a sigmoid, at x = -10 and y = 1, the gradient is -9.08e-5; cross-entropy's is "
                "-0.99995."
            ),
            "optax.losses.l2_loss is half of it.",
        ),
        source="Bishop 2006, Pattern Recognition and Machine Learning, eq. 3.12",
        calls=CALLS["mean_squared_error"],
    ),
    LossFacts(
        name="ordinal",
        title="cumulative logits",
        task="one of K ordered grades, near misses cheaper",
        formula="sum_{j < K-1} sigmoid cross-entropy of x_j and [y > j]",
        labels="grades 0 .. K-1, shape (rows,)",
        scores="logits (rows, K-1); x_j asks whether the grade is above j",
        activation="sigmoid; the predicted grade is the number of outputs above 0.5",
        denominator="rows x (K-1)",
        use_when="Mistaking grade 1 for 2 costs much less than 1 for 5.",
        avoid_when="The order carries no cost: then softmax cross-entropy.",
        traps=(
            "K-1 outputs, not K.",
            "Free weights can cross: share one weight vector with K-1 biases (CORAL) to forbid it.",
            "Judge it with mean absolute error and ranked probability score, not accuracy alone.",
        ),
        source="Cao, Mirjalili and Raschka 2020, section 3, https://arxiv.org/abs/1901.07884",
        calls=CALLS["ordinal"],
    ),
    LossFacts(
        name="in_batch_softmax",
        title="in-batch softmax",
        task="find one item among very many (retrieval, two towers)",
        formula="softmax cross-entropy of s_ij = q_i . k_j / temperature - log Q(j), label i",
        labels="none: row i belongs to item i of the batch",
        scores="scores (rows, rows); log Q(j) is the log of item j's share of the training rows",
        activation="none: rank by q . k",
        denominator="the rows",
        use_when="Pairs are known and the other items of the batch can serve as negatives.",
        avoid_when="K is small enough for a full softmax.",
        traps=(
            (
                "Without - log Q frequent items are punished for being frequent; "
                "serve without the correction."
            ),
            "The same item twice in a batch is a false negative: mask it.",
            "Gradient accumulation does not enlarge the set of negatives.",
        ),
        source="Yi et al. 2019, section 3, https://doi.org/10.1145/3298689.3346996",
        calls=CALLS["in_batch_softmax"],
    ),
    LossFacts(
        name="pairwise_logistic",
        title="pairwise logistic loss",
        task="rank a positive above given negatives",
        formula="log(1 + exp(s_negative - s_positive))",
        labels="none: one positive and one negative score per row",
        scores="scores, unbounded",
        activation="none: rank by the score",
        denominator="the pairs",
        use_when="Negatives come with the data.",
        avoid_when="You need probabilities of items.",
        traps=("For a list of candidates with graded relevance use softmax on distributions.",),
        source="Burges et al. 2005, section 3, https://doi.org/10.1145/1102351.1102363",
        calls=CALLS["pairwise_logistic"],
    ),
    LossFacts(
        name="softmax_in_blocks",
        title="full softmax cross-entropy, a block of rows at a time",
        task="exactly one of very many classes (above 50,000)",
        formula="log(sum_j exp(h . w_j + b_j)) - (h . w_y + b_y)",
        labels="ids 0 .. K-1, any integer dtype, shape (rows,)",
        scores="hidden (rows, features), weights (K, features), biases (K,)",
        activation="softmax",
        denominator=_LABELLED_ROWS,
        use_when="The logits of all rows do not fit in memory. The loss is exact.",
        avoid_when="They fit: form the logits once.",
        traps=(
            (
                "Automatic differentiation keeps every block, unless blocks are recomputed "
                "(jax.checkpoint) or fused (PyTorch 2.13): else take the gradient block by block."
            ),
            "Ids sorted by frequency: nn.AdaptiveLogSoftmaxWithLoss in PyTorch is cheaper still.",
        ),
        source=_BISHOP_SOFTMAX,
        calls=CALLS["softmax_in_blocks"],
    ),
    LossFacts(
        name="sampled_softmax",
        title="sampled softmax, for training only",
        task="training on very many classes when the full softmax is too slow",
        formula="softmax cross-entropy of the true class among a few sampled ones, "
        "x_j - log(expected count of j)",
        labels="ids 0 .. K-1, any integer dtype, shape (rows,)",
        scores="hidden (rows, features), weights (K, features), biases (K,)",
        activation="softmax over all K classes",
        denominator="the rows",
        use_when="Training time is dominated by the last layer even in blocks.",
        avoid_when="Evaluation: its value is smaller than the true loss and is not comparable. "
        "Evaluate with the full softmax.",
        traps=(
            "TensorFlow's default sampler wants ids sorted from the most to the least frequent.",
            "Labels are (rows, 1) int64 in TensorFlow.",
            (
                "nce_loss keeps accidental hits and has another scale: it is for unnormalised "
                "scores, word2vec's negative sampling for embeddings."
            ),
        ),
        source="Jean et al. 2015, section 3.2, https://arxiv.org/abs/1412.2007",
        calls=CALLS["sampled_softmax"],
    ),
)

LOSSES: Mapping[str, LossFacts] = MappingProxyType({facts.name: facts for facts in _ALL})
