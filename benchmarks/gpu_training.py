"""Images per second of training on a GPU: ResNet-18 and LeNet on images of CIFAR-10's shape, and the card's peak.

    python benchmarks/gpu_training.py [--members 8] [--batch-size 125] [--steps 100]
    python benchmarks/gpu_training.py --device cpu --quick     # does it run at all?

Against a plain PyTorch loop as one writes it: a DataLoader over a TensorDataset with worker processes and pinned
memory, torch.optim.SGD. The engine keeps the images on the card as bytes; it trains member after member ("loop") or
several at once ("stacked", by vmap). Arithmetic is that of torch's own count for one image, forwards and backwards, and
is compared with the largest rate at which this card multiplied bfloat16 matrices just before. Settings of torch are
left as they are, float32 products included. Each time is the best of three. The table comes last.
"""

import argparse
import json
import sys
import time

import torch
import torch.nn.functional as F
from headlines import headline
from networks import CLASSES, SHAPE, synthetic, waited_for
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from nnval.drop_in.initialisation import initialise
from nnval.engine.config import TrainingConfig
from nnval.engine.device import environment
from nnval.engine.loop import InitialWeights
from nnval.engine.models import build_model
from nnval.engine.optimizers import Optimizer
from nnval.engine.stack import Epoch, MemberStack, executions

MODELS = ("resnet18", "lenet")
MOMENTUM = 0.9
PRODUCTS = 20
BFLOAT16 = {"precision": "bfloat16"}
LAID_OUT = {**BFLOAT16, "channels_last": True}
WAYS = [
    ("loop", {}),
    ("loop", BFLOAT16),
    ("loop", LAID_OUT),
    ("loop", {**LAID_OUT, "compiled": True}),
    ("stacked", {}),
    ("stacked", BFLOAT16),
    ("stacked", {**BFLOAT16, "compiled": True}),
]


def best_seconds(work, device, repeats=3):
    """By the clock, on a CPU too: the DataLoader works in other processes."""
    best = float("inf")
    for _ in range(repeats):
        waited_for(device)
        begin = time.perf_counter()
        work()
        waited_for(device)
        best = min(best, time.perf_counter() - begin)
    return best


def peak_flops(device, size):
    """The largest rate of bfloat16 matrix products, in operations per second."""
    best = 0.0
    for side in {size, size // 2}:
        a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

        def products(a=a, b=b):
            for _ in range(PRODUCTS):
                torch.mm(a, b)

        products()
        best = max(best, PRODUCTS * 2 * side**3 / best_seconds(products, device))
    return best


def flops_per_image(model):
    module = build_model(TrainingConfig(model=model), SHAPE, CLASSES)
    images, labels = torch.randn(2, *SHAPE), torch.zeros(2, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(module(images), labels).backward()
    return counter.get_total_flops() / 2


def plain_speed(model, images, device, batch_size, workers, autocast):
    """Images per second of one epoch through a DataLoader, which is what an epoch costs; its workers start before."""
    pinned = device.type == "cuda"
    loader = DataLoader(
        TensorDataset(images.all_inputs(), images.labels),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=pinned,
        persistent_workers=workers > 0,
    )
    module = build_model(TrainingConfig(model=model), SHAPE, CLASSES)
    initialise(module, "torch_default", torch.Generator().manual_seed(0))
    module.to(device)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=MOMENTUM)

    def epoch():
        for batch, labels in loader:
            batch, labels = batch.to(device, non_blocking=pinned), labels.to(device, non_blocking=pinned)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                loss = F.cross_entropy(module(batch), labels)
            loss.backward()
            optimizer.step()

    epoch()
    return len(loader) * batch_size / best_seconds(epoch, device)


def engine_speed(model, images, device, batch_size, steps, execution, members, options):
    config = TrainingConfig(model=model, execution=execution, momentum=MOMENTUM, **options)
    module = build_model(config, SHAPE, CLASSES)
    initial, optimizer = InitialWeights(module, config.initialisation, device), Optimizer.of(config)
    stack = MemberStack.of(range(members), [initial(seed) for seed in range(members)], slots=optimizer.slots)
    way = executions(module, config)[execution]
    generator = torch.Generator().manual_seed(0)
    batches = torch.randint(len(images), (members, steps, batch_size), generator=generator).to(device)

    def epoch(steps=steps):
        way.train_epoch(stack, images, optimizer, Epoch(batches[:, :steps], [0.01] * steps))

    epoch(min(steps, 3))
    return members * steps * batch_size / best_seconds(epoch, device)


def named(options):
    precision = "bf16" if "precision" in options else "float32"
    return " ".join([precision, *(name for name in ("channels_last", "compiled") if name in options)])


def rows_of(model, device, arguments):
    """(way, members, options, images per second or why there are none)."""
    count = arguments.steps * arguments.batch_size
    images = synthetic(count)
    plain = [
        ("plain", 1, options, lambda autocast=autocast: plain_speed(
            model, images, device, arguments.batch_size, arguments.loader_workers, autocast
        ))
        for options, autocast in (({}, False), (BFLOAT16, True))
    ]  # fmt: skip
    there = images.to(device)
    ways = [way for way in WAYS if not (arguments.quick and "compiled" in way[1])]
    engine = [
        (execution, members, options, lambda execution=execution, options=options, members=members: engine_speed(
            model, there, device, arguments.batch_size, arguments.steps, execution, members, options
        ))
        for execution, options in ways
        for members in [arguments.members if execution == "stacked" else 1]
    ]  # fmt: skip
    for way, members, options, measure in plain + engine:
        try:
            result = measure()
        except (torch.OutOfMemoryError, ValueError) as error:
            result = str(error).partition("\n")[0]
        if device.type == "cuda":
            torch.cuda.empty_cache()
        print(f"{model} {way} {named(options)}: {result}", file=sys.stderr)
        yield way, members, options, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--members", type=int, default=8, help="networks that are trained at once")
    parser.add_argument("--batch-size", type=int, default=125)
    parser.add_argument("--steps", type=int, default=100, help="batches in an epoch")
    parser.add_argument("--loader-workers", type=int, default=4, help="processes of the DataLoader")
    parser.add_argument("--quick", action="store_true", help="a few small batches, nothing compiled")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA device here. --device cpu --quick shows whether this script runs at all.")
    if device.type != "cuda" and not arguments.quick:
        sys.exit(f"On device={arguments.device} this takes hours: add --quick.")
    if arguments.quick:
        arguments.members, arguments.batch_size, arguments.steps, arguments.loader_workers = 2, 4, 2, 0
    lines = []
    peak = peak_flops(device, 256 if arguments.quick else 8192)
    for model in MODELS:
        flops, reference = flops_per_image(model), None
        for way, members, options, result in rows_of(model, device, arguments):
            start = f"{model:10s}{way:9s}{members:8d}  {named(options):30s}"
            if isinstance(result, str):
                lines.append(f"{start}  {result}")
                continue
            reference = reference or result
            headline(f"{model}, {way}, {members} members {named(options)}".rstrip(), result / reference, "a plain loop")
            rate = flops * result
            lines.append(
                f"{start}{result:11.0f}{result / reference:11.2f}{1e-12 * rate:11.2f}{100 * rate / peak:8.1f} %"
            )
    print(json.dumps(environment(device) | {"batch_size": arguments.batch_size, "steps": arguments.steps}))
    print(f"bfloat16 matrix products: {1e-12 * peak:.1f} TFLOP/s")
    head = f"{'network':10s}{'way':9s}{'members':>8s}  {'':30s}"
    print(f"{head}{'images/s':>11s}{'to plain':>11s}{'TFLOP/s':>11s}{'of peak':>10s}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
