"""The exact call of each loss in six libraries, as text that runs.

What each loss is for is in `facts`. Every call ends in a line `loss = ...` and gives the same
number in each library. The names in it: `labels`, `logits` (classes last), `predictions`,
`class_weight` (num_classes,), `pos_weight` (a number, or one per label), `hidden` (rows, features),
`weights` (num_classes, features), `biases` (num_classes,), `num_sampled`, `queries` and `items`
(rows, features), `item_ids` and `log_item_share` (rows,), `temperature`, `positive_scores`,
`negative_scores`, `ignore_index`.
"""

from collections.abc import Mapping

LIBRARIES = ("crossent", "TensorFlow 1", "TensorFlow 2", "Keras", "PyTorch", "Optax")

IMPORTS: Mapping[str, str] = {
    "crossent": "import numpy as np, crossent as xe",
    "TensorFlow 1": "import tensorflow as tf  # 1.x; in 2.x: import tensorflow.compat.v1 as tf",
    "TensorFlow 2": "import tensorflow as tf",
    "Keras": "import keras",
    "PyTorch": "import torch, torch.nn.functional as F",
    "Optax": "import jax, jax.numpy as jnp, optax",
}

_TF_SPARSE = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)"
_OPTAX_SPARSE = "optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)"
_KERAS_ROWS = (
    "losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)"
    "(labels, logits)\n"
)
_TF_SAMPLED = """\
# training only; the default sampler wants ids sorted from the most to the least frequent class
losses = tf.nn.sampled_softmax_loss(
    weights=weights, biases=biases, labels=tf.cast(labels[:, None], tf.int64), inputs=hidden,
    num_sampled=num_sampled, num_classes=num_classes,
)
loss = tf.reduce_mean(losses)"""
_TF_BLOCKS = """\
# one block of logits at a time for evaluation; training still keeps every block for the gradient
rows = int(labels.shape[0])
loss = sum(
    tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels[i : i + 256],
        logits=tf.matmul(hidden[i : i + 256], weights, transpose_b=True) + biases,
    ))
    for i in range(0, rows, 256)
) / rows"""
_TF_IN_BATCH = """\
labels = tf.range(tf.shape(queries)[0])
scores = tf.matmul(queries, items, transpose_b=True) / temperature - log_item_share
repeats = tf.equal(item_ids[:, None], item_ids) & tf.not_equal(labels[:, None], labels)
logits = tf.where(repeats, tf.fill(tf.shape(scores), float("-inf")), scores)
"""
_TF_IN_BATCH += f"loss = tf.reduce_mean({_TF_SPARSE})"

_SIGMOID = {
    "crossent": "loss = xe.sigmoid_cross_entropy(labels=labels, logits=logits)",
    "TensorFlow 1": "loss = tf.losses.sigmoid_cross_entropy("
    "multi_class_labels=labels, logits=logits)",
    "TensorFlow 2": "loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits("
    "labels=tf.cast(labels, logits.dtype), logits=logits))",
    "Keras": "loss = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)",
    "PyTorch": "loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))",
    "Optax": "loss = optax.losses.sigmoid_binary_cross_entropy(logits, labels).mean()",
}

CALLS: Mapping[str, Mapping[str, str]] = {
    "softmax_ids": {
        "crossent": "loss = xe.softmax_cross_entropy(labels=labels, logits=logits)",
        "TensorFlow 1": "loss = tf.losses.sparse_softmax_cross_entropy("
        "labels=labels, logits=logits)",
        "TensorFlow 2": f"loss = tf.reduce_mean({_TF_SPARSE})",
        "Keras": "loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)("
        "labels, logits)",
        "PyTorch": "loss = F.cross_entropy(logits, labels)",
        "Optax": f"loss = {_OPTAX_SPARSE}.mean()",
    },
    "softmax_distribution": {
        "crossent": "loss = xe.softmax_cross_entropy(labels=labels, logits=logits)",
        "TensorFlow 1": "loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2("
        "labels=tf.stop_gradient(labels), logits=logits))",
        "TensorFlow 2": "loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits("
        "labels=tf.stop_gradient(labels), logits=logits))",
        "Keras": "loss = keras.losses.CategoricalCrossentropy(from_logits=True)(labels, logits)",
        "PyTorch": "loss = F.cross_entropy(logits, labels)",
        "Optax": "loss = optax.losses.safe_softmax_cross_entropy(logits, labels).mean()",
    },
    "softmax_smoothed": {
        "crossent": "loss = xe.softmax_cross_entropy("
        "labels=labels, logits=logits, label_smoothing=0.1)",
        "TensorFlow 1": "loss = tf.losses.softmax_cross_entropy("
        "onehot_labels=tf.one_hot(labels, num_classes), logits=logits, label_smoothing=0.1)",
        "TensorFlow 2": "loss = tf.keras.losses.CategoricalCrossentropy("
        "from_logits=True, label_smoothing=0.1)(tf.one_hot(labels, num_classes), logits)",
        "Keras": "loss = keras.losses.CategoricalCrossentropy("
        "from_logits=True, label_smoothing=0.1)(keras.ops.one_hot(labels, num_classes), logits)",
        "PyTorch": "loss = F.cross_entropy(logits, labels, label_smoothing=0.1)",
        "Optax": "loss = optax.losses.softmax_cross_entropy("
        "logits, optax.losses.smooth_labels(jax.nn.one_hot(labels, num_classes), 0.1)).mean()",
    },
    "softmax_weighted": {
        "crossent": "loss = xe.softmax_cross_entropy("
        "labels=labels, logits=logits, class_weight=class_weight)",
        "TensorFlow 1": "w = tf.gather(class_weight, labels)\n"
        f"loss = tf.reduce_sum(w * {_TF_SPARSE}) / tf.reduce_sum(w)",
        "TensorFlow 2": "w = tf.gather(class_weight, labels)\n"
        f"loss = tf.reduce_sum(w * {_TF_SPARSE}) / tf.reduce_sum(w)",
        "Keras": _KERAS_ROWS + "w = keras.ops.take(class_weight, labels)\n"
        "loss = keras.ops.sum(w * losses) / keras.ops.sum(w)",
        "PyTorch": "loss = F.cross_entropy(logits, labels, weight=class_weight)",
        "Optax": f"w = class_weight[labels]\nloss = (w * {_OPTAX_SPARSE}).sum() / w.sum()",
    },
    "sigmoid_binary": _SIGMOID,
    "sigmoid_multilabel": _SIGMOID,
    "sigmoid_weighted": {
        "crossent": "loss = xe.sigmoid_cross_entropy("
        "labels=labels, logits=logits, pos_weight=pos_weight)",
        # By position: the first argument is `targets` up to TensorFlow 1.13 and `labels` after it.
        "TensorFlow 1": "loss = tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits("
        "tf.cast(labels, logits.dtype), logits, pos_weight))",
        "TensorFlow 2": "loss = tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits("
        "labels=tf.cast(labels, logits.dtype), logits=logits, pos_weight=pos_weight))",
        "Keras": "y = keras.ops.cast(labels, logits.dtype)\n"
        "losses = pos_weight * y * keras.ops.softplus(-logits) "
        "+ (1 - y) * keras.ops.softplus(logits)\nloss = keras.ops.mean(losses)",
        "PyTorch": "loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), "
        "pos_weight=torch.as_tensor(pos_weight, dtype=logits.dtype))",
        "Optax": "losses = -(pos_weight * labels * jax.nn.log_sigmoid(logits) "
        "+ (1 - labels) * jax.nn.log_sigmoid(-logits))\nloss = losses.mean()",
    },
    "focal": {
        "crossent": "loss = xe.focal_loss(labels=labels, logits=logits, gamma=2.0)",
        "TensorFlow 1": f"losses = {_TF_SPARSE}\n"
        "loss = tf.reduce_mean((-tf.math.expm1(-losses)) ** 2.0 * losses)",
        "TensorFlow 2": f"losses = {_TF_SPARSE}\n"
        "loss = tf.reduce_mean((-tf.math.expm1(-losses)) ** 2.0 * losses)",
        "Keras": "loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, "
        "from_logits=True)(keras.ops.one_hot(labels, num_classes), logits)",
        "PyTorch": 'losses = F.cross_entropy(logits, labels, reduction="none")\n'
        "loss = ((-torch.expm1(-losses)) ** 2.0 * losses).mean()",
        "Optax": f"losses = {_OPTAX_SPARSE}\nloss = ((-jnp.expm1(-losses)) ** 2.0 * losses).mean()",
    },
    "focal_binary": {
        "crossent": "loss = xe.binary_focal_loss("
        "labels=labels, logits=logits, gamma=2.0, alpha=0.25)",
        "TensorFlow 1": "y = tf.cast(labels, logits.dtype)\n"
        "losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=logits)\n"
        "alpha = 0.25 * y + 0.75 * (1.0 - y)\n"
        "loss = tf.reduce_mean(alpha * (-tf.math.expm1(-losses)) ** 2.0 * losses)",
        "TensorFlow 2": "loss = tf.keras.losses.BinaryFocalCrossentropy("
        "apply_class_balancing=True, alpha=0.25, gamma=2.0, from_logits=True)(labels, logits)",
        "Keras": "loss = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, "
        "alpha=0.25, gamma=2.0, from_logits=True)(labels, logits)",
        "PyTorch": "y = labels.to(logits.dtype)\n"
        'losses = F.binary_cross_entropy_with_logits(logits, y, reduction="none")\n'
        "alpha = 0.25 * y + 0.75 * (1 - y)\n"
        "loss = (alpha * (-torch.expm1(-losses)) ** 2.0 * losses).mean()",
        "Optax": "loss = optax.losses.sigmoid_focal_loss("
        "logits, labels, alpha=0.25, gamma=2.0).mean()",
    },
    "generalized_cross_entropy": {
        "crossent": "loss = xe.generalized_cross_entropy(labels=labels, logits=logits, q=0.7)",
        "TensorFlow 1": f"loss = tf.reduce_mean(-tf.math.expm1(-0.7 * {_TF_SPARSE}) / 0.7)",
        "TensorFlow 2": f"loss = tf.reduce_mean(-tf.math.expm1(-0.7 * {_TF_SPARSE}) / 0.7)",
        "Keras": "loss = keras.losses.CategoricalGeneralizedCrossEntropy(q=0.7)("
        "labels, keras.ops.softmax(logits))",
        "PyTorch": 'losses = F.cross_entropy(logits, labels, reduction="none")\n'
        "loss = (-torch.expm1(-0.7 * losses) / 0.7).mean()",
        "Optax": f"losses = {_OPTAX_SPARSE}\nloss = (-jnp.expm1(-0.7 * losses) / 0.7).mean()",
    },
    "poly": {
        "crossent": "loss = xe.poly_loss(labels=labels, logits=logits, epsilon=1.0)",
        "TensorFlow 1": f"losses = {_TF_SPARSE}\n"
        "loss = tf.reduce_mean(losses - 1.0 * tf.math.expm1(-losses))",
        "TensorFlow 2": f"losses = {_TF_SPARSE}\n"
        "loss = tf.reduce_mean(losses - 1.0 * tf.math.expm1(-losses))",
        "Keras": _KERAS_ROWS + "loss = keras.ops.mean(losses - 1.0 * keras.ops.expm1(-losses))",
        "PyTorch": 'losses = F.cross_entropy(logits, labels, reduction="none")\n'
        "loss = (losses - 1.0 * torch.expm1(-losses)).mean()",
        "Optax": "loss = optax.losses.poly_loss_cross_entropy("
        "logits, jax.nn.one_hot(labels, num_classes), epsilon=1.0).mean()",
    },
    "kl_divergence": {
        "crossent": "loss = xe.kl_divergence(labels=labels, logits=logits).mean()",
        "TensorFlow 1": "negative_entropy = "
        "tf.reduce_sum(labels * tf.log(tf.maximum(labels, 1e-30)), axis=-1)\n"
        "loss = tf.reduce_mean(negative_entropy + tf.nn.softmax_cross_entropy_with_logits_v2("
        "labels=tf.stop_gradient(labels), logits=logits))",
        "TensorFlow 2": "negative_entropy = tf.reduce_sum(tf.math.xlogy(labels, labels), axis=-1)\n"
        "loss = tf.reduce_mean(negative_entropy + tf.nn.softmax_cross_entropy_with_logits("
        "labels=tf.stop_gradient(labels), logits=logits))",
        "Keras": "loss = keras.losses.KLDivergence()(labels, keras.ops.softmax(logits))",
        "PyTorch": "loss = F.kl_div(F.log_softmax(logits, dim=-1), labels, reduction='batchmean')",
        "Optax": "loss = optax.losses.kl_divergence(jax.nn.log_softmax(logits), labels).mean()",
    },
    "mean_squared_error": {
        "crossent": "loss = xe.mean_squared_error(labels=labels, predictions=predictions)",
        "TensorFlow 1": "loss = tf.losses.mean_squared_error("
        "labels=labels, predictions=predictions)",
        "TensorFlow 2": "loss = tf.keras.losses.MeanSquaredError()(labels, predictions)",
        "Keras": "loss = keras.losses.MeanSquaredError()(labels, predictions)",
        "PyTorch": "loss = F.mse_loss(predictions, labels)",
        "Optax": "loss = optax.losses.squared_error(predictions, labels).mean()",
    },
    "ordinal": {
        "crossent": "above = labels[:, None] > np.arange(num_classes - 1)\n"
        "loss = xe.sigmoid_cross_entropy(labels=above, logits=logits)",
        "TensorFlow 1": "above = labels[:, None] > tf.range(num_classes - 1, dtype=labels.dtype)\n"
        "loss = tf.losses.sigmoid_cross_entropy(multi_class_labels=above, logits=logits)",
        "TensorFlow 2": "above = labels[:, None] > tf.range(num_classes - 1, dtype=labels.dtype)\n"
        "loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits("
        "labels=tf.cast(above, logits.dtype), logits=logits))",
        "Keras": "above = keras.ops.expand_dims(labels, -1) > keras.ops.arange(num_classes - 1)\n"
        "loss = keras.losses.BinaryCrossentropy(from_logits=True)("
        "keras.ops.cast(above, logits.dtype), logits)",
        "PyTorch": "above = labels[:, None] > torch.arange(num_classes - 1, device=labels.device)\n"
        "loss = F.binary_cross_entropy_with_logits(logits, above.to(logits.dtype))",
        "Optax": "above = labels[:, None] > jnp.arange(num_classes - 1)\n"
        "loss = optax.losses.sigmoid_binary_cross_entropy(logits, above).mean()",
    },
    "in_batch_softmax": {
        "crossent": """\
scores = queries @ items.T / temperature - log_item_share
repeats = (item_ids[:, None] == item_ids) & ~np.eye(len(items), dtype=bool)
scores = np.where(repeats, -np.inf, scores)
loss = xe.softmax_cross_entropy(labels=np.arange(len(scores)), logits=scores)""",
        "TensorFlow 1": _TF_IN_BATCH,
        "TensorFlow 2": _TF_IN_BATCH,
        "Keras": """\
ops = keras.ops
rows = ops.arange(queries.shape[0])
scores = ops.matmul(queries, ops.transpose(items)) / temperature - log_item_share
repeats = ops.equal(item_ids[:, None], item_ids) & ops.not_equal(rows[:, None], rows)
scores = ops.where(repeats, -1e9, scores)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(rows, scores)""",
        "PyTorch": """\
rows = torch.arange(len(items), device=items.device)
scores = queries @ items.T / temperature - log_item_share
repeats = (item_ids[:, None] == item_ids) & (rows[:, None] != rows)
loss = F.cross_entropy(scores.masked_fill(repeats, float("-inf")), rows)""",
        "Optax": """\
labels = jnp.arange(len(items))
scores = queries @ items.T / temperature - log_item_share
repeats = (item_ids[:, None] == item_ids) & (labels[:, None] != labels)
logits = jnp.where(repeats, -jnp.inf, scores)
"""
        f"loss = {_OPTAX_SPARSE}.mean()",
    },
    "pairwise_logistic": {
        "crossent": "loss = -xe.log_sigmoid(positive_scores - negative_scores).mean()",
        "TensorFlow 1": "loss = tf.reduce_mean(tf.nn.softplus(negative_scores - positive_scores))",
        "TensorFlow 2": "loss = tf.reduce_mean(tf.nn.softplus(negative_scores - positive_scores))",
        "Keras": "loss = keras.ops.mean(keras.ops.softplus(negative_scores - positive_scores))",
        "PyTorch": "loss = F.softplus(negative_scores - positive_scores).mean()",
        "Optax": "loss = jax.nn.softplus(negative_scores - positive_scores).mean()",
    },
    "softmax_in_blocks": {
        "crossent": """\
loss = sum(
    xe.softmax_cross_entropy(
        labels=labels[i : i + 256], logits=hidden[i : i + 256] @ weights.T + biases, reduction="sum"
    )
    for i in range(0, len(labels), 256)
) / len(labels)""",
        "TensorFlow 1": _TF_BLOCKS,
        "TensorFlow 2": _TF_BLOCKS,
        "Keras": """\
# one block of logits at a time for evaluation; training still keeps every block for the gradient
total = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
loss = sum(
    total(labels[i : i + 256],
          keras.ops.matmul(hidden[i : i + 256], keras.ops.transpose(weights)) + biases)
    for i in range(0, labels.shape[0], 256)
) / labels.shape[0]""",
        "PyTorch": "loss = F.linear_cross_entropy(hidden, weights, labels, linear_bias=biases, "
        "options=torch.nn.LinearCrossEntropyOptions())  # PyTorch 2.13",
        "Optax": """\
def row_loss(row):
    h, y = row
    return optax.losses.softmax_cross_entropy_with_integer_labels(h @ weights.T + biases, y)
loss = jax.lax.map(jax.checkpoint(row_loss), (hidden, labels), batch_size=256).mean()""",
    },
    "sampled_softmax": {
        "crossent": """\
# training only
sampled = np.random.default_rng().integers(num_classes, size=num_sampled)
true = (hidden * weights[labels]).sum(-1, keepdims=True) + biases[labels][:, None]
others = hidden @ weights[sampled].T + biases[sampled]
others = np.where(labels[:, None] == sampled, -np.inf, others)
loss = xe.softmax_cross_entropy(
    labels=np.zeros(len(labels), int), logits=np.concatenate([true, others], axis=-1)
)""",
        "TensorFlow 1": _TF_SAMPLED,
        "TensorFlow 2": _TF_SAMPLED,
        "Keras": """\
# training only
ops = keras.ops
sampled = keras.random.randint((num_sampled,), 0, num_classes)
true = ops.sum(hidden * ops.take(weights, labels, axis=0), axis=-1) + ops.take(biases, labels)
others = ops.matmul(hidden, ops.transpose(ops.take(weights, sampled, axis=0)))
others = others + ops.take(biases, sampled)
others = ops.where(ops.equal(labels[:, None], sampled), -1e9, others)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
    ops.zeros_like(labels), ops.concatenate([true[:, None], others], axis=-1)
)""",
        "PyTorch": """\
# training only
sampled = torch.randint(num_classes, (num_sampled,), device=labels.device)
true = (hidden * weights[labels]).sum(-1, keepdim=True) + biases[labels][:, None]
others = hidden @ weights[sampled].T + biases[sampled]
others = others.masked_fill(labels[:, None] == sampled, float("-inf"))
loss = F.cross_entropy(torch.cat([true, others], dim=-1), torch.zeros_like(labels))""",
        "Optax": """\
# training only; key is a jax.random.key
sampled = jax.random.randint(key, (num_sampled,), 0, num_classes)
true = (hidden * weights[labels]).sum(-1, keepdims=True) + biases[labels][:, None]
others = hidden @ weights[sampled].T + biases[sampled]
others = jnp.where(labels[:, None] == sampled, -jnp.inf, others)
loss = optax.losses.softmax_cross_entropy_with_integer_labels(
    jnp.concatenate([true, others], axis=-1), jnp.zeros_like(labels)
).mean()""",
    },
}
