"""Data parallel and accumulation: any split of the batch gives the value and the gradients of one.

Two processes of gloo; every rank divides the sum of its rows by the weight of all of them.
"""

import datetime as dt
import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import crossent as xe

pytestmark = pytest.mark.slow

RANKS, FEATURES, CLASSES = 2, 6, 5
# Rows of each rank's micro-batches, as many on each, or FSDP waits for the other. The second rank's
# first one is ignored altogether.
SPLITS = [[3, 4, 2], [2, 5, 1]]
OPTIONS = {
    "class_weight": torch.arange(1.0, CLASSES + 1, dtype=torch.float64),
    "ignore_index": -100,
}


def whole_batch():
    generator = torch.Generator().manual_seed(0)
    rows = sum(map(sum, SPLITS))
    x = torch.randn(rows, FEATURES, dtype=torch.float64, generator=generator)
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    start = sum(SPLITS[0])
    labels[start : start + SPLITS[1][0]] = -100
    labels[1] = -100
    weight = torch.rand(rows, dtype=torch.float64, generator=generator)
    return x, labels, weight


def micro_batches(rank):
    start = sum(map(sum, SPLITS[:rank]))
    for rows in SPLITS[rank]:
        yield tuple(part[start : start + rows] for part in whole_batch())
        start += rows


def network():
    torch.manual_seed(1)
    hidden = torch.nn.Linear(FEATURES, 8)
    return torch.nn.Sequential(hidden, torch.nn.Tanh(), torch.nn.Linear(8, CLASSES)).double()


def one_shot(loss):
    model = network()
    x, labels, weight = whole_batch()
    value = loss(labels=labels, logits=model(x), sample_weight=weight, **OPTIONS)
    value.backward()
    return value.detach(), [p.grad for p in model.parameters()]


def step(loss, model, rank, no_sync):
    """One training step's value on all ranks; the gradients are where they belong."""
    total = sum(
        xe.label_weight(labels=labels, sample_weight=weight, **OPTIONS)
        for _, labels, weight in micro_batches(rank)
    )
    dist.all_reduce(total)
    # DDP and FSDP average the gradients of the ranks: the sum is wanted.
    normalizer = total / RANKS
    value = torch.zeros((), dtype=torch.float64)
    batches = list(micro_batches(rank))
    for k, (x, labels, weight) in enumerate(batches):
        with no_sync(k == len(batches) - 1):
            part = loss(
                labels=labels,
                logits=model(x),
                sample_weight=weight,
                reduction="sum",
                normalizer=normalizer,
                **OPTIONS,
            )
            part.backward()
        value += part.detach()
    dist.all_reduce(value)
    return value / RANKS


def assert_same(value, gradients, expected):
    torch.testing.assert_close(value, expected[0], rtol=1e-12, atol=1e-12)
    for gradient, one in zip(gradients, expected[1], strict=True):
        torch.testing.assert_close(gradient, one, rtol=1e-12, atol=1e-12)


def ddp(rank, loss):
    model = torch.nn.parallel.DistributedDataParallel(network())

    def no_sync(is_last):
        return torch.enable_grad() if is_last else model.no_sync()

    value = step(loss, model, rank, no_sync)
    assert_same(value, [p.grad for p in model.parameters()], one_shot(loss))


def fsdp2(rank, loss):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (RANKS,))
    model = network()
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert type(next(model.parameters()).data).__name__ == "DTensor"

    def no_sync(is_last):
        model.set_requires_gradient_sync(is_last)
        return torch.enable_grad()

    value = step(loss, model, rank, no_sync)
    assert_same(value, [p.grad.full_tensor() for p in model.parameters()], one_shot(loss))


def run(rank, port, job, name):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=RANKS, timeout=dt.timedelta(seconds=60))
    torch.set_num_threads(1)
    try:
        globals()[job](rank, getattr(xe, name))
    finally:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "focal_loss"])
@pytest.mark.parametrize("job", ["ddp", "fsdp2"])
def test_two_processes(job, loss):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(run, args=(port, job, loss), nprocs=RANKS)


@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.focal_loss])
def test_accumulation_in_one_process(loss):
    model = network()
    batches = [batch for rank in range(RANKS) for batch in micro_batches(rank)]
    total = sum(
        xe.label_weight(labels=labels, sample_weight=weight, **OPTIONS)
        for _, labels, weight in batches
    )
    value = 0
    for x, labels, weight in batches:
        part = loss(
            labels=labels,
            logits=model(x),
            sample_weight=weight,
            reduction="sum",
            normalizer=total,
            **OPTIONS,
        )
        part.backward()
        value += part.detach()
    assert_same(value, [p.grad for p in model.parameters()], one_shot(loss))
