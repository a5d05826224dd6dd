#!/usr/bin/env python3
"""Writes the names and shapes of torchvision's state dicts, which the nets of the zoo have to agree with.

    ~/.cache/ocelli-peers/bin/python scripts/make_torchvision.py

One file a net in tests/golden/torchvision: a line with the parameters and the multiply-adds of a 224x224 picture, then a
line per entry of the state dict. No weights are downloaded.
"""
from pathlib import Path

import torch
import torchvision

here = Path(__file__).resolve().parent.parent / "tests" / "golden" / "torchvision"
for name in ["vgg16", "resnet18", "mobilenet_v2"]:
    net = getattr(torchvision.models, name)(weights=None).eval()
    macs = 0

    def count(module, _inputs, output):
        global macs
        if isinstance(module, torch.nn.Conv2d):
            macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, torch.nn.Linear):
            macs += output.numel() * module.in_features

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, 3, 224, 224))
    lines = [f"parameters {sum(p.numel() for p in net.parameters())} macs {macs}"]
    for key, tensor in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            lines.append(f"{key} {'x'.join(map(str, tensor.shape))}")
    (here / f"{name}.txt").write_text("\n".join(lines) + "\n")
