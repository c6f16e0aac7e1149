"""Gradient accumulation on two ranks of PyTorch's DistributedDataParallel, exactly.

Micro-batches hold different numbers of labels that count. A mean of their means gives every
micro-batch the same weight, and so labels in short ones more than others. Dividing each sum by the
number of labels in all of them gives the loss and the gradients of one large batch.
"""

import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

import crossent as xe

RANKS, FEATURES, CLASSES = 2, 16, 10
# Rows in each micro-batch of each rank, and how many of them have the label -100: one has nothing
# but such labels.
ROWS = [[8, 3, 5], [2, 7, 4]]
IGNORED = [[1, 0, 4], [2, 0, 1]]


def micro_batches(rank):
    batches = []
    for i, (rows, ignored) in enumerate(zip(ROWS[rank], IGNORED[rank], strict=True)):
        generator = torch.Generator().manual_seed(10 * rank + i)
        inputs = torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
        labels = torch.randint(CLASSES, (rows,), generator=generator)
        labels[:ignored] = -100
        batches.append((inputs, labels))
    return batches


def new_model():
    torch.manual_seed(0)
    return torch.nn.Linear(FEATURES, CLASSES, dtype=torch.float64)


def one_shot():
    """Loss and gradient of all rows in one batch: what the others have to reach."""
    model = new_model()
    batches = [batch for rank in range(RANKS) for batch in micro_batches(rank)]
    inputs, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    loss = xe.softmax_cross_entropy(labels=labels, logits=model(inputs), ignore_index=-100)
    loss.backward()
    return loss.item(), model.weight.grad


def accumulate(rank, options, share):
    """This rank's part of loss and gradient: `share` times the sum over its micro-batches."""
    model = DistributedDataParallel(new_model())
    loss_of_rank = torch.zeros((), dtype=torch.float64)
    batches = micro_batches(rank)
    for i, (inputs, labels) in enumerate(batches):
        # Gradients travel once, with the last micro-batch.
        model.require_backward_grad_sync = i == len(batches) - 1
        loss = xe.softmax_cross_entropy(
            labels=labels, logits=model(inputs), ignore_index=-100, **options
        )
        # DDP divides the gradients by the number of ranks.
        (RANKS * share * loss).backward()
        loss_of_rank += share * loss.detach()
    dist.all_reduce(loss_of_rank)
    return loss_of_rank.item(), model.module.weight.grad


def run(rank, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)

    # The labels alone tell the denominator, before any forward pass.
    total = sum(xe.label_weight(labels=y, ignore_index=-100) for _, y in micro_batches(rank))
    dist.all_reduce(total)
    exact = accumulate(rank, {"reduction": "sum", "normalizer": total}, 1)

    naive = accumulate(rank, {"reduction": "mean"}, 1 / (RANKS * len(ROWS[rank])))

    if rank == 0:
        expected, gradient = one_shot()
        print(f"one batch          loss {expected:.15f}")
        for name, (loss, g) in {"sum / label_weight": exact, "mean of means": naive}.items():
            error = float((g - gradient).norm() / gradient.norm())
            print(f"{name:18} loss {loss:.15f}  gradient off by {error:.1e}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(run, (str(Path(folder) / "store"),), nprocs=RANKS)
