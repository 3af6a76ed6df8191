"""What several benchmarks of training share: a plain loop of torch's, images of noise, and a clock for each device."""

import time

import torch
import torch.nn.functional as F

from nnval.drop_in.initialisation import initialise
from nnval.engine.config import TrainingConfig
from nnval.engine.images import Images
from nnval.engine.models import build_model

SHAPE, CLASSES = (3, 32, 32), 10
LEARNING_RATE = 0.05


class PlainLoop:
    """ResNet-20 and SGD with momentum, always on the same batch of noise."""

    def __init__(self, size, batch, device):
        shape = (3, size, size)
        generator = torch.Generator().manual_seed(0)
        self._images = torch.randn(batch, *shape, generator=generator).to(device)
        self._labels = torch.randint(0, CLASSES, (batch,), generator=generator).to(device)
        self.model = build_model(TrainingConfig(model="resnet20"), shape, CLASSES)
        initialise(self.model, "kaiming_fan_out", torch.Generator().manual_seed(0))
        self.model.to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4)

    def step(self):
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(self._images), self._labels).backward()
        self.optimizer.step()


def synthetic(count):
    """So many images of CIFAR-10's shape, as bytes."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return Images(pixels, labels, torch.full((3, 1, 1), 1 / 64), torch.full((3, 1, 1), -2.0))


def waited_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work, device):
    """Of the processor on a CPU, so that others who use the machine disturb little; of the clock on a GPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    waited_for(device)
    begin = clock()
    work()
    waited_for(device)
    return clock() - begin
