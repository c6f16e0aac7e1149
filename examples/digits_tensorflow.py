"""A small classifier of scikit-learn's digits, with TensorFlow."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import crossent as xe

images, labels = load_digits(return_X_y=True)
images = tf.constant(images / 16, tf.float32)
labels = tf.constant(labels)

rng = np.random.default_rng(0)
w1 = tf.Variable(rng.normal(0, 1 / 8, (64, 32)), dtype=tf.float32)
w2 = tf.Variable(rng.normal(0, 1 / 8, (32, 10)), dtype=tf.float32)


@tf.function
def step():
    with tf.GradientTape() as tape:
        logits = tf.tanh(images @ w1) @ w2
        loss = xe.softmax_cross_entropy(labels=labels, logits=logits, label_smoothing=0.1)
    for weight, gradient in zip((w1, w2), tape.gradient(loss, (w1, w2)), strict=True):
        weight.assign_sub(0.5 * gradient)
    return loss


for _ in range(200):
    loss = step()

print(f"loss {loss:.7f}")
