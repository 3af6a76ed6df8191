"""What adaptive noise adds to the time of training ResNet-20, as a ratio to the same loop without it.

    python benchmarks/adaptive_noise_overhead.py [--device cuda] [--size 32] [--batch 128] [--every 1] [--rounds 15]

A plain loop of torch's, float32, SGD with momentum: alone, alone once more (which shows what a ratio can resolve), with
the metric tracker and the phase machine but no noise, by both metrics, and with the noise too. All take turns with one
network in one process and on one thread, in another order each round; a turn is two steps. Seconds are those of the
processor on a CPU, so that others who use the machine disturb little, and those of the clock on a GPU, where waits
count. The ratio of a round is that of its turns; printed is the median over rounds with the quartiles.

Where other programs take turns in the caches, ratios scatter by several percent. On a CPU the time between the first
and the last hook around the noise is hence measured too, in place, and given as a share of a plain step. On a GPU that
has no meaning: work runs ahead there, and what the hooks wait for would have taken its time without them.
"""

import argparse
import contextlib
import json
import random
import statistics
import time

import torch
from headlines import headline
from networks import PlainLoop, seconds_of

from nnval.drop_in.adaptive_noise import AdaptiveNoise
from nnval.engine.device import environment, thread_count
from theory.noise_schedule import NoiseSchedule

STEPS = 2
KINDS = {
    "plain": None,
    "plain again": None,
    "gradient_norm": ("gradient_norm", "none"),
    "gradient_variance": ("gradient_variance", "none"),
    "variance and noise": ("gradient_variance", "full"),
}


class Loop(PlainLoop):
    """Some steps of a plain loop, with or without adaptive noise."""

    def __init__(self, size, batch, device, every):
        super().__init__(size, batch, device)
        self._every = every

    @contextlib.contextmanager
    def attached(self, kind, spent):
        """Appends to `spent` what the hooks of each step took; the first one's memory is counted."""
        if kind is None:
            yield
            return
        marks = []

        def mark(*_):
            marks.append(time.process_time())

        optimizer = self.optimizer
        handles = [optimizer.register_step_pre_hook(mark), optimizer.register_step_post_hook(mark)]
        noise = AdaptiveNoise(optimizer, NoiseSchedule(kind[1]), metric=kind[0], every=self._every, seed=0)
        handles += [optimizer.register_step_pre_hook(mark), optimizer.register_step_post_hook(mark)]
        yield
        for handle in handles:
            handle.remove()
        noise.remove()
        spent += [b - a + d - c for a, b, c, d in zip(*[iter(marks)] * 4, strict=True)]

    def train(self):
        for _ in range(STEPS):
            self.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=32, help="of the images")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--every", type=int, default=1, help="steps from one measurement to the next: 1 or 2")
    parser.add_argument("--rounds", type=int, default=15, help="how often all take turns")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if min(arguments.size, arguments.batch) < 1 or arguments.rounds < 2 or arguments.every not in (1, 2):
        parser.error("--size and --batch must be >= 1, --rounds >= 2, --every 1 or 2")

    print(json.dumps(environment(device)))
    with thread_count(1):
        loop = Loop(arguments.size, arguments.batch, device, arguments.every)
        loop.train()
        times, spent = {name: [] for name in KINDS}, {name: [] for name in KINDS}
        order = random.Random(0)
        for _ in range(arguments.rounds):
            for name in order.sample(list(KINDS), len(KINDS)):
                with loop.attached(KINDS[name], spent[name]):
                    times[name].append(seconds_of(loop.train, device) / STEPS)
    plain = statistics.median(times["plain"])
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        line = (
            f"{name:18s} {1e3 * statistics.median(values):8.2f} ms a step   ratio {middle:6.3f} [{low:.3f}, {high:.3f}]"
        )
        if spent[name] and device.type == "cpu":
            hooks = statistics.mean(spent[name])
            line += f"   hooks {1e3 * hooks:6.3f} ms, {hooks / plain:6.2%} of a plain step"
            size = f"{arguments.size}x{arguments.size}, batch {arguments.batch}"
            headline(f"ResNet-20 step with {name}, {size}", plain / (plain + hooks), "the same loop without")
        print(line)


if __name__ == "__main__":
    main()
