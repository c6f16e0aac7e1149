"""A float32 network stops learning because its loss is rounded, and goes on with crossent's.

    python examples/softmax_collapse.py               trains, writes softmax_collapse.csv, draws
    python examples/softmax_collapse.py --steps 500   trains shortly; prints, writes nothing
    python examples/softmax_collapse.py --plot        draws docs/softmax_collapse.png from the CSV

Two layers learn 561 sums modulo 53 by heart: (a, b) -> a + b, no weight decay, all rows in every
step. Every curve starts from the same weights; they differ in the loss, in the dtype of the network
and in Adam's eps. What is drawn is the true mean loss of the logits: crossent's in float64.

- torch, float32: 1e-7 after 3,000 steps, and never less. Next to 1 float32 has steps of 6e-8, so
  the label's entry of the gradient, p - 1, is 0 in a third of the rows and more, and too large in
  others, while the entries of the other classes keep their digits. Rows of the gradient no longer
  add up to 0; with so small an eps Adam takes full steps along what is left over, the logits drift
  from 40 to 28,000, and the loss jumps, up to 0.1. The value that torch shows is up to a fifth too
  low: a row whose p rounds to 1 counts as 0. Prieto, Barsbey, Mediano and Birdal call this softmax
  collapse ("Grokking at the Edge of Numerical Stability", ICLR 2025).
- torch, float64: the same at 2e-16 (steps next to 1: 1.1e-16), with jumps to 2e-6.
- crossent, float32: p - 1 is summed from the other classes and has all its digits, so the loss goes
  on falling, past 1e-20 after 8,300 steps. At 1e-22 it becomes slow, and that is Adam: the square
  of a gradient below 1e-22 is less than float32 can hold. Where network and optimizer are float64,
  crossent's loss goes on as before: 1e-24 after 10,000 steps (not drawn).
- The default eps, 1e-8, makes every step shrink where gradients are smaller than it. torch's loss
  stays at 1e-7 as before, without jumps; crossent's is a hundred times smaller at the end, and
  still falls.
"""

import argparse
import csv
import hashlib
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional

import crossent as xe

MODULUS = 53
HIDDEN = 64
ROWS = 561  # a fifth of all pairs
LEARNING_RATE = 3e-3
STEPS = 20_000
POINTS = 200  # of each curve
TABLE = Path(__file__).with_suffix(".csv")
PICTURE = Path(__file__).parents[1] / "docs" / "softmax_collapse.png"


class Curve(NamedTuple):
    """What one training uses."""

    loss: str
    dtype: torch.dtype
    eps: float

    @property
    def name(self):
        eps = f"{self.eps:.0e}".replace("e-0", "e-")
        return f"{self.loss}, {str(self.dtype).removeprefix('torch.')}, eps {eps}"


CURVES = [
    Curve("torch", torch.float32, 1e-30),
    Curve("torch", torch.float64, 1e-30),
    Curve("crossent", torch.float32, 1e-30),
    Curve("torch", torch.float32, 1e-8),  # torch's default
    Curve("crossent", torch.float32, 1e-8),
]


def sums():
    """Pairs as two one-hot vectors side by side, and their sums modulo MODULUS."""
    numbers = torch.arange(MODULUS)
    pairs = torch.cartesian_prod(numbers, numbers)
    chosen = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:ROWS]
    pairs = pairs[chosen]
    return functional.one_hot(pairs, MODULUS).flatten(1), pairs.sum(dim=1) % MODULUS


def network(dtype):
    torch.manual_seed(0)
    layers = (
        torch.nn.Linear(2 * MODULUS, HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, MODULUS),
    )
    return torch.nn.Sequential(*layers).to(dtype)


def loss_of(curve, logits, labels):
    if curve.loss == "torch":
        return functional.cross_entropy(logits, labels)
    return xe.softmax_cross_entropy(labels=labels, logits=logits)


def true_loss(logits, labels):
    """Right to a few last bits of float64 for any logits: what is drawn."""
    logits = logits.detach().double().numpy()
    return float(xe.softmax_cross_entropy(labels=labels.numpy(), logits=logits))


def train(curve, steps):
    """Step, loss as the training saw it, true loss: at the first step, and POINTS times."""
    inputs, labels = sums()
    inputs = inputs.to(curve.dtype)
    model = network(curve.dtype)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), eps=curve.eps, weight_decay=0
    )
    points = []
    for step in range(steps + 1):
        logits = model(inputs)
        loss = loss_of(curve, logits, labels)
        if step % max(1, steps // POINTS) == 0:
            points.append((step, loss.item(), true_loss(logits, labels)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return points


def measured(steps):
    """Curve name -> its points."""
    torch.set_num_threads(1)  # of matrices this small a second thread makes nothing faster
    found = {}
    for curve in CURVES:
        start = time.perf_counter()
        found[curve.name] = train(curve, steps)
        _, seen, true = found[curve.name][-1]
        seconds = time.perf_counter() - start
        print(f"{curve.name:<32} sees {seen:.1e}, true {true:.1e}, {seconds:.0f} s", flush=True)
    return found


# ---- the table and the picture


def write_table(found):
    """A line for each step: for each curve the loss that it saw, and the true one."""
    steps = [step for step, *_ in next(iter(found.values()))]
    with TABLE.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["step", *(f"{name}: {kind}" for name in found for kind in ("seen", "true"))])
        for place, step in enumerate(steps):
            values = [value for points in found.values() for value in points[place][1:]]
            out.writerow([step, *(f"{value:.4g}" for value in values)])


def read_table():
    """The same as `measured` returned."""
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        curve.name: [
            (int(row["step"]), *(float(row[f"{curve.name}: {kind}"]) for kind in ("seen", "true")))
            for row in rows
        ]
        for curve in CURVES
    }


def digest():
    """Written into the picture: which table it was drawn from."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()


# Okabe and Ito's colours; torch's default eps is dashed.
COLORS = {
    ("torch", torch.float32): "#0072B2",
    ("torch", torch.float64): "#009E73",
    ("crossent", torch.float32): "#D55E00",
}


def draw(found, path):
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 5))
    for curve in CURVES:
        steps, _, true = zip(*found[curve.name], strict=True)
        style = "-" if curve.eps == 1e-30 else (0, (4, 2))
        color = COLORS[curve.loss, curve.dtype]
        axis.semilogy(steps, true, color=color, linestyle=style, linewidth=1.5)
    low, high = axis.get_ylim()
    ends = {curve: found[curve.name][-1][2] for curve in CURVES}
    for curve, height in apart(ends, (high / low) ** 0.05).items():
        axis.annotate(
            curve.name,
            xy=(1.01, height),
            xycoords=axis.get_yaxis_transform(),
            color=COLORS[curve.loss, curve.dtype],
            verticalalignment="center",
            fontsize=9,
        )
    axis.set_xlim(0, found[CURVES[0].name][-1][0])
    axis.set_xlabel("step")
    axis.set_ylabel("true mean loss of the training rows, nats")
    axis.set_title("Trained with torch's F.cross_entropy and with crossent's loss", fontsize=11)
    axis.grid(axis="y", color="#EEEEEE")
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Comment": digest(), "Software": None})
    plt.close(figure)


def apart(ends, factor):
    """The heights of the labels: those of the curves' ends, none closer than this factor."""
    heights = {}
    least = 0.0
    for curve, end in sorted(ends.items(), key=lambda item: item[1]):
        least = heights[curve] = max(end, least)
        least *= factor
    return heights


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="train shortly and write nothing")
    parser.add_argument("--plot", action="store_true", help="only draw the picture again")
    options = parser.parse_args(arguments)
    if not options.plot:
        found = measured(options.steps or STEPS)
        if options.steps:
            return
        write_table(found)
    draw(read_table(), PICTURE)


if __name__ == "__main__":
    main()
