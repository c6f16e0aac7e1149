"""A small classifier of scikit-learn's digits, with JAX."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import crossent as xe

images, labels = load_digits(return_X_y=True)
images = jnp.asarray(images / 16, jnp.float32)
labels = jnp.asarray(labels)

rng = np.random.default_rng(0)
weights = {
    "w1": jnp.asarray(rng.normal(0, 1 / 8, (64, 32)), jnp.float32),
    "w2": jnp.asarray(rng.normal(0, 1 / 8, (32, 10)), jnp.float32),
}


def loss_of(weights):
    logits = jnp.tanh(images @ weights["w1"]) @ weights["w2"]
    return xe.softmax_cross_entropy(labels=labels, logits=logits, label_smoothing=0.1)


@jax.jit
def step(weights):
    loss, gradient = jax.value_and_grad(loss_of)(weights)
    return loss, jax.tree.map(lambda w, g: w - 0.5 * g, weights, gradient)


for _ in range(200):
    loss, weights = step(weights)

print(f"loss {loss:.7f}")
