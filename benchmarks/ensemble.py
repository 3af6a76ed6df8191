"""What stacking is worth: the ensemble trainer against one network after the other in plain PyTorch, on one thread.

    python benchmarks/ensemble.py [MEMBERS]

Both do the same training: the same weights, shuffles, steps of SGD and an evaluation after each epoch; the ensemble
also writes its run directory. The baseline is a loop as one writes it (a real module, torch.optim.SGD, no DataLoader)
and is timed on a few members, since members cost the same. Seconds are those of the processor, which on one thread are
those of the clock unless others use the machine too; the two take turns and the best of three counts. Ratios are the
last table; above 1 the ensemble is faster.
"""

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from headlines import headline

from nnval.drop_in.initialisation import initialise
from nnval.engine.config import TrainingConfig
from nnval.engine.datasets import load_data
from nnval.engine.device import environment, thread_count
from nnval.engine.ensemble import train_ensemble
from nnval.engine.loop import TrainingLoop
from nnval.engine.models import build_model
from nnval.engine.stack import executions, seconds_per_member_step
from sim.batch_order import reshuffled
from sim.random_streams import CountedStream

CASES = {
    "mlp 32-32, batch 8": TrainingConfig(batch_size=8, learning_rate=0.05),
    "mlp 32-32, batch 20": TrainingConfig(batch_size=20),
    "mlp 32-32, batch 32": TrainingConfig(batch_size=32),
    "lenet, batch 20": TrainingConfig(batch_size=20, model="lenet"),
}
STACKS = (1, 4, 16, 64, 256)
REPEATS = 3


def one_member(config, member, epochs):
    """Plain PyTorch; returns the seconds of training and the validation accuracies."""
    data = load_data(config)
    model = build_model(config, data.shape, data.classes)
    seed = CountedStream(config.seed, f"{config.stream}/initialisation", member).seed_at(0)
    initialise(model, config.initialisation, torch.Generator().manual_seed(seed))
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    order = CountedStream(config.seed, f"{config.stream}/batch_order", member)
    accuracies = []
    begin = time.process_time()
    for epoch in range(1, epochs + 1):
        for samples in torch.from_numpy(reshuffled(config.train_size, config.batch_size, order.at(epoch))):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(data.train.pixels[samples]), data.train.labels[samples])
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = (model(data.validation.pixels).argmax(1) == data.validation.labels).sum().item()
        accuracies.append(right / config.validation_size)
    return time.process_time() - begin, np.array(accuracies)


def ensemble(config, directory):
    """The seconds of a whole run, the result, and what was chosen."""
    begin = time.process_time()
    result = train_ensemble(config, directory)
    return time.process_time() - begin, result, json.loads((directory / "execution.json").read_text())


def compared(name, config, members):
    """A row of the last tables: epochs per second of one member, by way of training, and what "auto" chose."""
    epochs, few = (20, 4) if config.model == "mlp" else (2, 2)
    config = dataclasses.replace(config, members=members, epochs=epochs)
    plain, whole, choice = [], [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(REPEATS):
            seconds, accuracies = one_member(config, repeat, few)
            plain.append(seconds / few)
            for execution in ("auto", "stacked", "loop"):
                if execution == "loop" and repeat:
                    continue  # as slow as the baseline: once is enough
                setting = dataclasses.replace(config, execution=execution)
                seconds, result, chosen = ensemble(setting, Path(scratch) / f"{execution}{repeat}")
                if execution == "auto":
                    choice = chosen
                whole.append((execution, seconds / (members * epochs)))
                # The same training, up to rounding that may flip a sample or two.
                assert np.abs(result.curves["validation_accuracy"][repeat, :few] - accuracies).max() <= 0.01
    best = {execution: min(s for e, s in whole if e == execution) for execution in ("auto", "stacked", "loop")}
    speeds = {"plain": 1 / min(plain)} | {execution: 1 / seconds for execution, seconds in best.items()}
    return {"case": name, "choice": choice["execution"], **speeds}


def stack_sizes(name, config):
    """Microseconds per member and step, by members in a stack."""
    data = load_data(config)
    module = build_model(config, data.shape, data.classes)
    way = executions(module, config)["stacked"]
    loop = TrainingLoop(config, data, module, way, None, torch.device("cpu"))
    cells = []
    for members in STACKS:
        stack = loop.initial_state(range(members)).stack
        seconds = seconds_per_member_step(way, stack, data.train, config.batch_size, most=members)
        cells.append(f"{1e6 * seconds:10.1f}")
    print(f"{name:22s}" + "".join(cells))


def main():
    members = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    with thread_count(1):
        print(json.dumps(environment(torch.device("cpu"))))
        print("\nstacked: microseconds per member and step, by members in the stack")
        print(" " * 22 + "".join(f"{size:10d}" for size in STACKS))
        for name, config in CASES.items():
            stack_sizes(name, config)
        rows = [compared(name, config, members) for name, config in CASES.items()]
    print(f"\nepochs per second of one member, {members} members on one thread")
    print(f"{'':22s}{'plain':>10s}{'auto':>10s}{'stacked':>10s}{'loop':>10s}")
    for row in rows:
        print(f"{row['case']:22s}" + "".join(f"{row[column]:10.1f}" for column in ("plain", "auto", "stacked", "loop")))
    print(f"\nratio to plain PyTorch, {members} members on one thread")
    print(f"{'':22s}{'auto':>10s}{'stacked':>10s}{'loop':>10s}   auto chose")
    for row in rows:
        ratios = "".join(f"{row[column] / row['plain']:10.2f}" for column in ("auto", "stacked", "loop"))
        print(f"{row['case']:22s}{ratios}   {row['choice']}")
        headline(f"{members} x {row['case']}", row["auto"] / row["plain"], "plain PyTorch, one by one")


if __name__ == "__main__":
    main()
