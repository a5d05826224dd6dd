#!/usr/bin/env python3
"""Writes what the nets of the zoo have to agree with: torchvision's state dicts, and its outputs for given weights.

    ~/.cache/ocelli-peers/bin/python scripts/make_torchvision.py

In tests/golden/torchvision: one file a net, a line with the parameters and the multiply-adds of a 224x224 picture, then a
line per entry of the state dict; and outputs.csv, a line per net and output with 10 classes, evaluated in float64. Weights and
pictures follow from a counter (`drawn`), which the test computes as well, so that only the outputs are kept. No weights are
downloaded.
"""
import csv
import math
import warnings
from pathlib import Path

import numpy
import torch
import torchvision
from torch import nn
from torchvision.models import resnet

warnings.filterwarnings("ignore")
HERE = Path(__file__).resolve().parent.parent / "tests" / "golden" / "torchvision"
MASK = (1 << 64) - 1


class SEBottleneck(resnet.Bottleneck):
    """The block of SE-ResNet-50 as its authors have it: the first 1x1 takes the step, factors before the sum."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, (1, 1)
        channels = self.bn3.num_features
        self.se = torchvision.ops.SqueezeExcitation(channels, channels // 16)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.se(self.bn3(self.conv3(y)))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def se_resnet50(weights=None, **kwargs):
    net = resnet.ResNet(SEBottleneck, [3, 4, 6, 3], **kwargs)
    net.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return net


# Our name: torchvision's constructor, and the side of the pictures of outputs.csv. They are small where the net allows it:
# a VGG has 2x2 maps in the end, an AlexNet 3x3, instead of 7x7 and 6x6.
NETS = {f"vgg{n}": (f"vgg{n}", 64) for n in (11, 13, 16, 19)}
NETS |= {f"vgg{n}-bn": (f"vgg{n}_bn", 64) for n in (11, 13, 16, 19)}
NETS |= {f"resnet{n}": (f"resnet{n}", 64) for n in (18, 34, 50, 101, 152)}
NETS |= {"alexnet-owt": ("alexnet", 127), "googlenet-torchvision": ("googlenet", 96), "mobilenet_v2": ("mobilenet_v2", 64),
         "se-resnet50": (se_resnet50, 64)}


def build(name, **kwargs):
    make = NETS[name][0]
    if make == "googlenet":
        kwargs["init_weights"] = False
    return (make if callable(make) else getattr(torchvision.models, make))(weights=None, **kwargs).eval()


def macs(net):
    """Multiply-adds of a 224x224 picture."""
    total = 0

    def count(module, _inputs, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, 3, 224, 224))
    return total


def shapes(name):
    net = build(name)
    lines = [f"parameters {sum(p.numel() for p in net.parameters())} macs {macs(net)}"]
    for key, tensor in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            lines.append(f"{key} {'x'.join(map(str, tensor.shape))}")
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def drawn(name, dims):
    """Values of a parameter or picture: splitmix64 over a counter that begins at FNV-1a of the name, 24 bits of it each."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 & MASK
    z = numpy.uint64(seed) + numpy.arange(1, math.prod(dims) + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
    z ^= z >> numpy.uint64(31)
    part = (z >> numpy.uint64(40)).astype(numpy.float32) * numpy.float32(2.0**-24)  # 0 to below 1
    kind = name.rsplit(".", 1)[-1]
    if kind == "running_var" or (kind == "weight" and len(dims) == 1):
        values = part + numpy.float32(0.5)
    elif kind == "weight":  # the variance of He's rule
        values = (2 * part - 1) * numpy.float32(math.sqrt(6 / math.prod(dims[1:])))
    elif kind in ("bias", "running_mean"):
        values = (2 * part - 1) * numpy.float32(0.1)
    else:  # a picture
        values = 2 * part - 1
    return torch.from_numpy(values.reshape(dims)).double()


def outputs(name):
    """Names of outputs and their ten values."""
    size = NETS[name][1]
    with torch.no_grad():
        net = build(name, num_classes=10)
        if isinstance(net, (torchvision.models.VGG, torchvision.models.AlexNet)):
            net.avgpool = nn.Identity()  # it would repeat values up to the size of large pictures
            first = next(i for i, layer in enumerate(net.classifier) if isinstance(layer, nn.Linear))
            net.classifier[first] = nn.Linear(net.features(torch.zeros(1, 3, size, size)).numel(), 4096)
        net = net.double()
        state = net.state_dict()
        for key, tensor in state.items():
            if not key.endswith("num_batches_tracked"):
                state[key] = drawn(key, tuple(tensor.shape))
        net.load_state_dict(state)
        picture = drawn("input", (1, 3, size, size))
        if name != "googlenet-torchvision":
            return {"output": net(picture)}
        seen = {}
        for side, after in (("aux1", "inception4a"), ("aux2", "inception4d")):
            net.get_submodule(after).register_forward_hook(
                lambda _module, _inputs, y, side=side: seen.update({side: net.get_submodule(side)(y)}))
        return {"output": net(picture), **seen}


for name in NETS:
    shapes(name)
with open(HERE / "outputs.csv", "w", newline="") as file:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["net", "size", "output", *(f"y{i}" for i in range(10))])
    for name, (_, size) in NETS.items():
        for output, values in outputs(name).items():
            rows.writerow([name, size, output, *(f"{v:.9g}" for v in values.flatten().tolist())])
