"""A small classifier of scikit-learn's digits, with PyTorch."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import crossent as xe

images, labels = load_digits(return_X_y=True)
images = torch.from_numpy(images / 16).float()
labels = torch.from_numpy(labels)

model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.Tanh(), nn.Linear(32, 10, bias=False))
# The same weights as in the other examples.
rng = np.random.default_rng(0)
with torch.no_grad():
    model[0].weight.copy_(torch.from_numpy(rng.normal(0, 1 / 8, (64, 32))).T)
    model[2].weight.copy_(torch.from_numpy(rng.normal(0, 1 / 8, (32, 10))).T)

optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for _ in range(200):
    loss = xe.softmax_cross_entropy(labels=labels, logits=model(images), label_smoothing=0.1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

print(f"loss {loss.item():.7f}")
