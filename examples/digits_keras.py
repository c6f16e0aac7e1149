"""A small classifier of scikit-learn's digits, with Keras on any of its back ends.

KERAS_BACKEND=torch python examples/digits_keras.py
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

import crossent as xe
import crossent.keras

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(32, activation="tanh", use_bias=False),
        keras.layers.Dense(10, use_bias=False),  # logits: no softmax here
    ]
)
# The same weights as in the other examples.
rng = np.random.default_rng(0)
model.set_weights([rng.normal(0, 1 / 8, (64, 32)), rng.normal(0, 1 / 8, (32, 10))])

model.compile(
    keras.optimizers.SGD(0.5),
    loss=crossent.keras.Loss(xe.softmax_cross_entropy, label_smoothing=0.1),
)
history = model.fit(images, labels, batch_size=len(images), epochs=200, verbose=0)

print(f"loss {history.history['loss'][-1]:.7f}")
