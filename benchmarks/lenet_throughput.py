"""Images per second of LeNet training on images of CIFAR-10's shape, against a plain PyTorch loop in memory.

    python benchmarks/lenet_throughput.py [--workers 2] [--rounds 9] [--images 2500]

The plain loop is as one writes it: ready float32 images, a batch by indexing, torch.optim.SGD. The engine trains the
same network from bytes, which it normalises batch by batch: member after member ("loop"), or several at once
("stacked", by vmap), here only to show that it does not pay. On one thread, all take turns in one process, and seconds
are those of the processor, so that others who use the machine disturb little. With ``--workers 2`` two processes train
members of an ensemble at the same time, and seconds are those of the clock, for which the machine must be idle; what
the processor's say, which leave out the time that others had it, is printed before. The last line is
the ratio of the loop to the plain one, the median over rounds; above 1 the engine is faster.
"""

import argparse
import json
import multiprocessing
import statistics
import time

import torch
import torch.nn.functional as F
from headlines import headline
from networks import CLASSES, SHAPE, seconds_of, synthetic

from nnval.drop_in.initialisation import initialise
from nnval.engine.config import TrainingConfig
from nnval.engine.device import environment, thread_count
from nnval.engine.loop import InitialWeights
from nnval.engine.models import build_model
from nnval.engine.optimizers import Optimizer
from nnval.engine.stack import Epoch, MemberStack, executions
from sim.batch_order import reshuffled
from sim.random_streams import stream

CPU = torch.device("cpu")
BATCH_SIZES = (50, 125)
STACKED_MEMBERS = 4
LEARNING_RATE = 0.01


class Plain:
    """One epoch of the plain loop per call."""

    def __init__(self, images, batch_size):
        self.members = 1
        self._inputs, self._labels, self._size = images.all_inputs(), images.labels, batch_size
        self._model = build_model(TrainingConfig(model="lenet"), SHAPE, CLASSES)
        initialise(self._model, "torch_default", torch.Generator().manual_seed(0))
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=LEARNING_RATE)
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self):
        order = torch.randperm(len(self._labels), generator=self._generator)
        total = 0.0
        for begin in range(0, len(order) - self._size + 1, self._size):
            samples = order[begin : begin + self._size]
            self._optimizer.zero_grad()
            loss = F.cross_entropy(self._model(self._inputs[samples]), self._labels[samples])
            loss.backward()
            self._optimizer.step()
            total += loss.item()
        return total


class Engine:
    """One epoch of some members per call."""

    def __init__(self, images, batch_size, execution, **options):
        self.members = STACKED_MEMBERS if execution == "stacked" else 1
        config = TrainingConfig(model="lenet", **options)
        module = build_model(config, SHAPE, CLASSES)
        initial = InitialWeights(module, "torch_default", CPU)
        self._images, self._size = images, batch_size
        self._way = executions(module, config)[execution]
        self._stack = MemberStack.of(range(self.members), [initial(seed) for seed in range(self.members)])
        self._rng = stream(0, "benchmark")

    def __call__(self):
        orders = [reshuffled(len(self._images), self._size, self._rng) for _ in range(self.members)]
        batches = torch.stack([torch.from_numpy(order) for order in orders])
        epoch = Epoch(batches, [LEARNING_RATE] * batches.shape[1])
        return self._way.train_epoch(self._stack, self._images, Optimizer(), epoch)


def contestants(images, batch_size):
    return {
        "plain": Plain(images, batch_size),
        "loop": Engine(images, batch_size, "loop"),
        "loop, channels_last": Engine(images, batch_size, "loop", channels_last=True),
        "stacked": Engine(images, batch_size, "stacked"),
    }


def on_one_core(count, rounds):
    """Median over rounds of the ratio to the plain loop in the same round, and the best images per second."""
    images = synthetic(count)
    ratios = {}
    with thread_count(1):
        for batch_size in BATCH_SIZES:
            works = contestants(images, batch_size)
            trained = count // batch_size * batch_size
            for work in works.values():
                work()
            speeds = {name: [] for name in works}
            for _ in range(rounds):
                for name, work in works.items():
                    speeds[name].append(trained * work.members / seconds_of(work, CPU))
            for name in works:
                ratio = statistics.median(a / b for a, b in zip(speeds[name], speeds["plain"], strict=True))
                ratios[batch_size, name] = ratio
                print(f"batch {batch_size:4d}  {name:20s} {max(speeds[name]):9.0f} images/s  ratio {ratio:6.3f}")
    return {size: ratios[size, "loop"] for size in BATCH_SIZES}


def worker(pipe, count, batch_size):
    """Trains for so many epochs as it is told and answers when it is done."""
    torch.set_num_threads(1)
    images = synthetic(count)
    works = {"plain": Plain(images, batch_size), "loop": Engine(images, batch_size, "loop")}
    for work in works.values():
        work()
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        name, epochs = order
        begin = time.process_time()
        for _ in range(epochs):
            works[name]()
        pipe.send(time.process_time() - begin)


def together(pipes, name, epochs):
    """All of these workers train: epochs per second of the clock, and per second that each had of the processor."""
    begin = time.perf_counter()
    for pipe in pipes:
        pipe.send((name, epochs))
    seconds = [pipe.recv() for pipe in pipes]
    return len(pipes) * epochs / (time.perf_counter() - begin), sum(epochs / each for each in seconds)


def on_several_cores(count, rounds, workers):
    """Total images per second of all workers over those of one plain loop alone."""
    context = multiprocessing.get_context("spawn")
    ratios, epochs = {}, 2
    for batch_size in BATCH_SIZES:
        pipes, processes = [], []
        for _ in range(workers):
            here, there = context.Pipe()
            processes.append(context.Process(target=worker, args=(there, count, batch_size), daemon=True))
            processes[-1].start()
            pipes.append(here)
        for pipe in pipes:
            pipe.recv()

        speeds = {"clock": [], "processor": []}
        for _ in range(rounds):
            alone, all_of_them = together(pipes[:1], "plain", epochs), together(pipes, "loop", epochs)
            for values, one, many in zip(speeds.values(), alone, all_of_them, strict=True):
                values.append(many / one)
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send(None)
            process.join()
        for name, values in speeds.items():
            print(f"batch {batch_size:4d}  ratio by the {name:10s} {statistics.median(values):6.3f}")
        ratios[batch_size] = statistics.median(speeds["clock"])
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="processes that train at the same time")
    parser.add_argument("--rounds", type=int, default=9, help="how often all take turns")
    parser.add_argument("--images", type=int, default=2500, help="images in an epoch")
    arguments = parser.parse_args()
    if min(arguments.workers, arguments.rounds) < 1 or arguments.images < max(BATCH_SIZES):
        parser.error(f"--workers and --rounds must be >= 1, --images >= {max(BATCH_SIZES)}")
    print(json.dumps(environment(torch.device("cpu"))))
    if arguments.workers == 1:
        ratios = on_one_core(arguments.images, arguments.rounds)
    else:
        ratios = on_several_cores(arguments.images, arguments.rounds, arguments.workers)
    for size, ratio in ratios.items():
        cores = f"{arguments.workers} worker{'s' * (arguments.workers > 1)}"
        headline(f"LeNet, 32x32 colour images, batch {size}, {cores}", ratio, "a plain PyTorch loop on one core")
    text = ", ".join(f"{ratio:.3f} (batch {size})" for size, ratio in ratios.items())
    print(f"ratio to a plain loop on one core, {arguments.workers} worker{'s' * (arguments.workers > 1)}: {text}")


if __name__ == "__main__":
    main()
