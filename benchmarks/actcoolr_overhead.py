"""What ActCooLR adds to the time of training ResNet-20, as a ratio to the same loop without it.

    python benchmarks/actcoolr_overhead.py [--device cuda] [--size 32] [--batch 128] [--every 10] [--rounds 7]

A plain loop of torch's, float32, SGD with momentum; with and without ActCooLR (its defaults), and with torch's cosine
schedule, all three in turns in one process and on one thread. A turn is 20 steps, of which two are measured. Seconds
are those of the processor on a CPU, so that others who use the machine disturb little, and those of the clock on a GPU.
The fit of sigma, 13 passes once in a training, is timed on its own. The last line is the median of the
ratio over rounds, less one.
"""

import argparse
import json
import statistics
import warnings

import torch
from headlines import headline
from networks import PlainLoop, seconds_of

from nnval.drop_in.actcoolr import ActCooLR
from nnval.engine.device import environment, thread_count

STEPS, FOR_EVER = 20, 10**9


class Contestant:
    """Some steps of a plain loop per call."""

    def __init__(self, size, batch, device, schedule):
        self._loop = PlainLoop(size, batch, device)
        self._scheduler = schedule(self._loop.optimizer, self._loop.model)

    def __call__(self, steps=STEPS):
        for _ in range(steps):
            self._loop.step()
            if self._scheduler is not None:
                self._scheduler.step()


def contestants(size, batch, device, every):
    def cosine(optimizer, _):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, FOR_EVER)

    def cooled(sigma):
        return lambda optimizer, model: ActCooLR(optimizer, model, FOR_EVER, every=every, sigma=sigma)

    kinds = {"plain": lambda *_: None, "cosine": cosine, "ActCooLR": cooled(1.2), "fit of sigma": cooled(None)}
    return {name: Contestant(size, batch, device, kind) for name, kind in kinds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, help="of the images: 32 on a GPU, 16 on a CPU to be done sooner")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--every", type=int, default=10, help="steps between measurements, a divisor of 20")
    parser.add_argument("--rounds", type=int, default=7, help="how often all take turns")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    size = arguments.size or (32 if device.type == "cuda" else 16)
    if min(size, arguments.batch, arguments.rounds) < 1 or arguments.every < 1 or STEPS % arguments.every:
        parser.error("--size, --batch and --rounds must be >= 1, --every a divisor of 20")

    print(json.dumps(environment(device)))
    warnings.simplefilter("ignore", RuntimeWarning)  # of a sigma that these images do not give
    with thread_count(1):
        works = contestants(size, arguments.batch, device, arguments.every)
        probe = works.pop("fit of sigma")
        probe(arguments.every - 1)
        fit = seconds_of(lambda: probe(1), device)
        for work in works.values():
            work()
        times = {name: [] for name in works}
        for _ in range(arguments.rounds):
            for name, work in works.items():
                times[name].append(seconds_of(work, device) / STEPS)
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, times["plain"], strict=True))
        print(f"{name:10s} {1e3 * min(values):9.2f} ms a step   ratio {ratio:6.3f}")
    plain = statistics.median(times["plain"])
    print(f"the fit of sigma, once: as long as {fit / plain - 1:.1f} steps")
    overhead = statistics.median(a / b for a, b in zip(times["ActCooLR"], times["plain"], strict=True)) - 1
    what = f"ResNet-20 step with ActCooLR, every {arguments.every}, {size}x{size}, batch {arguments.batch}"
    headline(what, 1 / (1 + overhead), "the same loop without")
    print(f"overhead of ActCooLR on ResNet-20, every {arguments.every} steps, batch {arguments.batch}: {overhead:.1%}")


if __name__ == "__main__":
    main()
