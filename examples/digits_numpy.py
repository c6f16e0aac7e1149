"""A small classifier of scikit-learn's digits, with NumPy: the gradient by hand."""

import numpy as np
from sklearn.datasets import load_digits

import crossent as xe

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)

rng = np.random.default_rng(0)
w1 = rng.normal(0, 1 / 8, (64, 32)).astype(np.float32)
w2 = rng.normal(0, 1 / 8, (32, 10)).astype(np.float32)

for _ in range(200):
    hidden = np.tanh(images @ w1)
    loss, d_logits = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy, labels=labels, logits=hidden @ w2, label_smoothing=0.1
    )
    d_hidden = d_logits @ w2.T * (1 - hidden**2)
    w2 -= 0.5 * hidden.T @ d_logits
    w1 -= 0.5 * images.T @ d_hidden

print(f"loss {loss:.7f}")
