#!/usr/bin/env python3
"""Makes the golden files of tests/golden from PyTorch, in float64 on seeded random numbers, stored as float32.

    scripts/peers.sh                                      once: the Python environment
    ~/.cache/ocelli-peers/bin/python scripts/make_golden.py [layers] [losses] [optimizers] [schedules] [parity]

Running it again with the same PyTorch gives the same bytes. What the files hold is written in tests/golden/README.md.
"""
import csv
import json
import struct
import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F

from golden_net import Net

ROOT = Path(__file__).resolve().parent.parent / "tests" / "golden"
TYPES = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}


def save(path, tensors, **metadata):
    """A safetensors file with everything in the order of the names, so that equal content is equal bytes."""
    header, parts, offset = {"__metadata__": {"torch": torch.__version__.split("+")[0], **metadata}}, [], 0
    for name, tensor in sorted(tensors.items()):
        tensor = tensor.detach()
        tensor = (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        data = tensor.numpy().tobytes()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def seed(name):
    torch.manual_seed(zlib.crc32(name.encode()))


def single(value):
    """Rounded to float32, so that both sides start from the same numbers."""
    return value.float().double()


# ---- layers: forward and backward of every layer and option ----

# name: (input [batch, channels, height, width], layers). Names with "_train" run batch norm on the batch's statistics.
LAYERS = {
    "conv": ([2, 3, 7, 6], '{ type = "conv", filters = 5, kernel = 3 }'),
    "bias": ([2, 3, 4, 5], '{ type = "bias" }'),
    "bias_of_features": ([3, 2, 3, 1], '{ type = "linear", units = 7 },\n{ type = "bias" }'),
    "conv_maps": ([2, 4, 7, 6], '{ type = "conv", filters = 5, kernel = 3, maps = [[0], [1, 2, 3], [0, 3], [2], [0, 1, 2, 3]] }'),
    "radial": ([3, 2, 4, 4], '{ type = "radial", units = 6 }'),
    "scaled_tanh": ([2, 3, 4, 5], '{ type = "scaled_tanh" }'),
    "subsample": ([2, 5, 7, 6], '{ type = "subsample", kernel = 2 }'),
    "lrn_groups": ([2, 12, 4, 3], '{ type = "lrn", size = 5, alpha = 0.3, k = 2, groups = 2 }'),
    "conv_no_bias": ([2, 3, 6, 6], '{ type = "conv", filters = 4, kernel = 3, bias = false }'),
    "conv_1x1": ([2, 20, 5, 5], '{ type = "conv", filters = 33, kernel = 1 }'),
    "conv_1x1_stride": ([2, 5, 7, 6], '{ type = "conv", filters = 4, kernel = 1, stride = 2 }'),
    "conv_stride": ([2, 3, 9, 10], '{ type = "conv", filters = 4, kernel = 3, stride = 2, padding = 1 }'),
    "conv_stride_pair": ([2, 3, 9, 10], '{ type = "conv", filters = 4, kernel = [3, 2], stride = [2, 3] }'),
    "conv_stride_over_kernel": ([2, 2, 9, 9], '{ type = "conv", filters = 3, kernel = 2, stride = 3 }'),
    "conv_rows_never_seen": ([1, 2, 8, 9], '{ type = "conv", filters = 3, kernel = 3, stride = 4 }'),
    "conv_dilation": ([2, 3, 9, 9], '{ type = "conv", filters = 4, kernel = 3, dilation = 2, padding = 2 }'),
    "conv_dilation_channels": ([1, 16, 16, 15], '{ type = "conv", filters = 16, kernel = 3, dilation = 2, padding = 2 }'),
    "conv_dilation_over_padding": ([1, 12, 7, 6], '{ type = "conv", filters = 12, kernel = 3, dilation = 5, padding = 5 }'),
    "conv_dilation_pair": ([2, 3, 9, 11], '{ type = "conv", filters = 4, kernel = 3, dilation = [1, 3], stride = [2, 1] }'),
    "conv_padding_pair": ([2, 3, 5, 6], '{ type = "conv", filters = 4, kernel = 3, padding = [0, 2] }'),
    "conv_padding_four": ([2, 3, 5, 6], '{ type = "conv", filters = 4, kernel = 3, padding = [0, 1, 2, 3] }'),
    "conv_padding_over_kernel": ([1, 2, 4, 4], '{ type = "conv", filters = 3, kernel = 2, padding = 3, stride = 2 }'),
    "conv_valid": ([2, 3, 5, 5], '{ type = "conv", filters = 4, kernel = 3, padding = "valid" }'),
    "conv_same": ([2, 3, 5, 6], '{ type = "conv", filters = 4, kernel = 5, padding = "same" }'),
    "conv_same_even": ([2, 3, 5, 6], '{ type = "conv", filters = 4, kernel = [2, 4], padding = "same" }'),
    "conv_same_even_stride": ([2, 3, 7, 8], '{ type = "conv", filters = 4, kernel = 4, stride = 2, padding = "same" }'),
    "conv_same_stride_dilation": ([2, 3, 8, 9], '{ type = "conv", filters = 4, kernel = 3, stride = 3, dilation = 2, padding = "same" }'),
    "conv_full": ([2, 3, 4, 5], '{ type = "conv", filters = 4, kernel = 3, padding = "full" }'),
    "conv_full_dilation": ([2, 3, 4, 5], '{ type = "conv", filters = 4, kernel = [2, 3], dilation = 2, padding = "full" }'),
    "conv_few_outputs": ([2, 32, 6, 5], '{ type = "conv", filters = 48, kernel = [4, 5], stride = 2 }'),
    "conv_few_filters_stride": ([1, 12, 11, 48], '{ type = "conv", filters = 6, kernel = 5, stride = 3, padding = 2 }'),
    "conv_groups": ([2, 6, 6, 5], '{ type = "conv", filters = 9, kernel = 3, groups = 3, padding = 1 }'),
    "conv_groups_channels": ([1, 16, 14, 13], '{ type = "conv", filters = 32, kernel = 3, groups = 4, padding = 1 }'),
    "conv_groups_rows": ([1, 8, 13, 12], '{ type = "conv", filters = 32, kernel = 5, groups = 2, stride = 2, padding = 2 }'),
    "conv_groups_1x1": ([2, 20, 5, 6], '{ type = "conv", filters = 40, kernel = 1, groups = 2 }'),
    "conv_groups_stride_dilation": ([2, 4, 9, 9], '{ type = "conv", filters = 8, kernel = 3, groups = 2, stride = 2, dilation = 2, padding = 2 }'),
    "conv_depthwise": ([2, 18, 7, 6], '{ type = "conv", filters = 18, kernel = 3, groups = 18, padding = 1 }'),
    "conv_depthwise_stride": ([2, 17, 7, 8], '{ type = "conv", filters = 17, kernel = 3, groups = 17, stride = 2, padding = 1 }'),
    "conv_depthwise_multiplier": ([2, 5, 6, 6], '{ type = "conv", filters = 10, kernel = 5, groups = 5, padding = 2 }'),
    "conv_11x11_stride_4": ([1, 3, 31, 27], '{ type = "conv", filters = 8, kernel = 11, stride = 4 }'),
    "conv_5x5_wide": ([1, 16, 9, 8], '{ type = "conv", filters = 32, kernel = 5, padding = 2 }'),
    "conv_3x3_wide": ([1, 32, 14, 13], '{ type = "conv", filters = 32, kernel = 3, padding = 1 }'),
    "pad": ([2, 3, 4, 5], '{ type = "pad", amount = 2 }'),
    "pad_value": ([2, 3, 4, 5], '{ type = "pad", amount = [1, 2], mode = "constant", value = 0.5 }'),
    "pad_reflect": ([2, 3, 4, 5], '{ type = "pad", amount = [1, 2, 3, 0], mode = "reflect" }'),
    "pad_edge": ([2, 3, 4, 5], '{ type = "pad", amount = [0, 3, 2, 1], mode = "edge" }'),
    "max_pool": ([2, 5, 6, 8], '{ type = "max_pool", kernel = 2 }'),
    "max_pool_odd": ([2, 5, 7, 9], '{ type = "max_pool", kernel = 2 }'),
    "max_pool_odd_ceil": ([2, 5, 7, 9], '{ type = "max_pool", kernel = 2, ceil_mode = true }'),
    "max_pool_overlapping": ([2, 17, 7, 7], '{ type = "max_pool", kernel = 3, stride = 2 }'),
    "max_pool_overlapping_ceil": ([2, 4, 8, 8], '{ type = "max_pool", kernel = 3, stride = 2, ceil_mode = true }'),
    "max_pool_padding": ([2, 4, 8, 7], '{ type = "max_pool", kernel = 3, stride = 2, padding = 1 }'),
    "max_pool_padding_ceil": ([2, 4, 6, 7], '{ type = "max_pool", kernel = 3, stride = 2, padding = 1, ceil_mode = true }'),
    "max_pool_ceil_no_window_in_padding": ([1, 2, 5, 5], '{ type = "max_pool", kernel = 2, stride = 3, padding = 1, ceil_mode = true }'),
    "max_pool_padding_four": ([2, 3, 5, 6], '{ type = "max_pool", kernel = 3, stride = 2, padding = [0, 1, 1, 0] }'),
    "max_pool_same": ([2, 3, 6, 7], '{ type = "max_pool", kernel = 3, stride = 1, padding = "same" }'),
    "max_pool_pair": ([2, 3, 6, 9], '{ type = "max_pool", kernel = [2, 3], stride = [1, 2] }'),
    "max_pool_ties": ([2, 3, 6, 6], '{ type = "relu" },\n  { type = "max_pool", kernel = 3, stride = 1 }'),
    "adaptive_avg_pool": ([2, 5, 14, 9], '{ type = "adaptive_avg_pool", size = [4, 3] }'),
    "adaptive_avg_pool_larger": ([1, 3, 2, 3], '{ type = "adaptive_avg_pool", size = 4 }'),
    "avg_pool": ([2, 5, 6, 8], '{ type = "avg_pool", kernel = 2 }'),
    "avg_pool_odd": ([2, 5, 7, 9], '{ type = "avg_pool", kernel = 2 }'),
    "avg_pool_odd_ceil": ([2, 5, 7, 9], '{ type = "avg_pool", kernel = 2, ceil_mode = true }'),
    "avg_pool_padding": ([2, 4, 8, 7], '{ type = "avg_pool", kernel = 3, stride = 2, padding = 1 }'),
    "avg_pool_padding_not_counted": ([2, 4, 8, 7], '{ type = "avg_pool", kernel = 3, stride = 2, padding = 1, count_include_pad = false }'),
    "avg_pool_padding_ceil": ([2, 4, 6, 7], '{ type = "avg_pool", kernel = 3, stride = 2, padding = 1, ceil_mode = true }'),
    "avg_pool_padding_ceil_not_counted": ([2, 4, 6, 7], '{ type = "avg_pool", kernel = 3, stride = 2, padding = 1, ceil_mode = true, count_include_pad = false }'),
    "avg_pool_same_not_counted": ([2, 3, 6, 7], '{ type = "avg_pool", kernel = 2, stride = 1, padding = "same", count_include_pad = false }'),
    "global_avg_pool": ([2, 19, 5, 6], '{ type = "global_avg_pool" }'),
    "linear": ([3, 4, 3, 2], '{ type = "linear", units = 7 }'),
    "linear_no_bias": ([3, 4, 1, 1], '{ type = "linear", units = 5, bias = false }'),
    "linear_after_flatten": ([2, 3, 2, 4], '{ type = "flatten" },\n  { type = "linear", units = 6 },\n  { type = "linear", units = 3 }'),
    "linear_after_conv": ([2, 3, 5, 6], '{ type = "conv", filters = 5, kernel = 3 },\n  { type = "linear", units = 17 }'),
    "relu": ([2, 3, 5, 5], '{ type = "relu" }'),
    "leaky_relu": ([2, 3, 5, 5], '{ type = "leaky_relu" }'),
    "leaky_relu_slope": ([2, 3, 5, 5], '{ type = "leaky_relu", slope = 0.2 }'),
    "relu6": ([2, 3, 5, 5], '{ type = "relu6" }'),
    "sigmoid": ([2, 3, 5, 5], '{ type = "sigmoid" }'),
    "tanh": ([2, 3, 5, 5], '{ type = "tanh" }'),
    "gelu": ([2, 3, 5, 5], '{ type = "gelu" }'),
    "hard_swish": ([2, 3, 5, 5], '{ type = "hard_swish" }'),
    "batch_norm_eval": ([3, 5, 4, 4], '{ type = "batch_norm" }'),
    "batch_norm_train": ([4, 18, 4, 5], '{ type = "batch_norm" }'),
    "batch_norm_options_train": ([3, 4, 3, 3], '{ type = "batch_norm", eps = 0.01, momentum = 0.3 }'),
    "batch_norm_flat_train": ([5, 4, 1, 1], '{ type = "linear", units = 6 },\n  { type = "batch_norm" }'),
    "conv_batch_norm_relu_train": ([4, 3, 6, 6], '{ type = "conv", filters = 5, kernel = 3, bias = false },\n  { type = "batch_norm" },\n  { type = "relu" }'),
    "conv_batch_norm_relu_eval": ([2, 3, 6, 6], '{ type = "conv", filters = 5, kernel = 3 },\n  { type = "batch_norm" },\n  { type = "relu" }'),
    "lrn": ([2, 20, 3, 4], '{ type = "lrn", size = 5, alpha = 0.5, beta = 0.75, k = 2 }'),
    "lrn_not_divided": ([2, 9, 3, 4], '{ type = "lrn", size = 5, alpha = 0.2, beta = 0.75, k = 1, divide_by_size = false }'),
    "lrn_even": ([2, 7, 3, 3], '{ type = "lrn", size = 4, alpha = 0.7, beta = 0.5, k = 1 }'),
    "lrn_wider_than_channels": ([2, 3, 3, 3], '{ type = "lrn", size = 9, alpha = 0.7, beta = 1.2, k = 1.5 }'),
    "add": ([2, 3, 5, 5], '{ type = "conv", filters = 3, kernel = 3, padding = 1 },\n  { type = "add", inputs = ["conv1", "input"] }'),
    "add_itself": ([2, 3, 4, 4], '{ type = "tanh" },\n  { type = "add", inputs = ["tanh1", "tanh1"] }'),
    "multiply": ([2, 3, 5, 5], '{ type = "sigmoid" },\n  { type = "multiply", inputs = ["input", "sigmoid1"] }'),
    "multiply_per_channel": ([2, 6, 5, 5], '{ type = "global_avg_pool" },\n  { type = "conv", filters = 6, kernel = 1 },\n  { type = "sigmoid" },\n  { type = "multiply", inputs = ["input", "sigmoid1"] }'),
    "concat": ([2, 3, 5, 5], '{ type = "conv", filters = 4, kernel = 3, padding = 1 },\n  { type = "conv", name = "other", filters = 7, kernel = 1, inputs = ["input"] },\n  { type = "concat", inputs = ["conv1", "input", "other"] },\n  { type = "conv", filters = 2, kernel = 3 }'),
    "softmax": ([3, 7, 1, 1], '{ type = "linear", units = 7 },\n  { type = "softmax" }'),
    "softmax_over_channels": ([2, 5, 3, 3], '{ type = "softmax" }'),
    "two_readers": ([2, 3, 6, 6], '{ type = "conv", filters = 4, kernel = 3, padding = 1 },\n  { type = "relu" },\n  { type = "conv", filters = 4, kernel = 3, padding = 1 },\n  { type = "add", inputs = ["conv2", "relu1"] },\n  { type = "relu" }'),
    "residual_train": ([4, 4, 8, 8], """{ type = "conv", filters = 8, kernel = 3, stride = 2, padding = 1, bias = false },
  { type = "batch_norm" },
  { type = "relu" },
  { type = "conv", filters = 8, kernel = 3, dilation = 2, padding = 2, groups = 4, bias = false },
  { type = "batch_norm" },
  { type = "conv", name = "shortcut", filters = 8, kernel = 1, stride = 2, bias = false, inputs = ["input"] },
  { type = "batch_norm", name = "shortcut_norm" },
  { type = "add", inputs = ["batch_norm2", "shortcut_norm"] },
  { type = "relu" },
  { type = "global_avg_pool" },
  { type = "linear", units = 5 }"""),
    "inception_eval": ([2, 6, 7, 7], """{ type = "conv", name = "a", filters = 4, kernel = 1 },
  { type = "conv", name = "b1", filters = 3, kernel = 1, inputs = ["input"] },
  { type = "relu", name = "b2" },
  { type = "conv", name = "b3", filters = 5, kernel = 3, padding = 1 },
  { type = "max_pool", name = "c1", kernel = 3, stride = 1, padding = 1, inputs = ["input"] },
  { type = "conv", name = "c2", filters = 2, kernel = 1 },
  { type = "concat", inputs = ["a", "b3", "c2"] },
  { type = "lrn", size = 3, alpha = 0.3, k = 2 },
  { type = "avg_pool", kernel = 3, stride = 2 },
  { type = "linear", units = 4 }"""),
}


def make_layers():
    for name, (dims, layers) in LAYERS.items():
        seed(name)
        text = f'format = 1\nname = "{name}"\ninput = {dims[1:]}\nlayers = [\n  {layers},\n]\n'
        training = name.endswith("_train")
        x = torch.randn(dims) * (4 if name in ("relu6", "hard_swish", "sigmoid", "gelu", "tanh") else 1)
        x = x.double().requires_grad_()
        net = Net(text)
        with torch.no_grad():
            net(x, False)  # draws the parameters
        before = {key: value.detach().clone() for key, value in net.tensors.items()}
        before = {key: single(value) for key, value in before.items()}
        for key, value in before.items():
            net.tensors[key].data = value.clone()
        y = net(x, training)
        grad_output = single(torch.randn(y.shape))
        grads = torch.autograd.grad(y, [x, *net.parameters().values()], grad_output)
        out = {"input": x, "output": y, "grad_output": grad_output, **before}
        out |= {f"grad.{key}": grad for key, grad in zip(["input", *net.parameters()], grads)}
        if training:
            out |= {f"after.{key}": value for key, value in net.tensors.items() if "running" in key}
        save(ROOT / "layers" / f"{name}.safetensors", out, net=text, training=str(training).lower())


# ---- losses ----

def make_losses():
    for name, smoothing, weighted, scale in [
        ("cross_entropy", 0.0, False, 2.0), ("cross_entropy_smoothing", 0.1, False, 2.0),
        ("cross_entropy_class_weights", 0.0, True, 2.0), ("cross_entropy_smoothing_class_weights", 0.2, True, 2.0),
        ("cross_entropy_large_logits", 0.0, False, 60.0),
    ]:
        seed(name)
        logits = single(torch.randn(9, 7) * scale).requires_grad_()
        labels = torch.arange(9) % 7
        weights = single(torch.rand(7) + 0.2) if weighted else None
        loss = F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
        loss.backward()
        out = {"logits": logits, "labels": labels, "loss": loss.reshape(1), "grad": logits.grad}
        if weighted:
            out["class_weights"] = weights
        save(ROOT / "losses" / f"{name}.safetensors", out, loss="cross_entropy", smoothing=str(smoothing))
    seed("mean_squared")
    logits, targets = single(torch.randn(6, 4)).requires_grad_(), single(torch.randn(6, 4))
    loss = F.mse_loss(logits, targets)
    loss.backward()
    save(ROOT / "losses" / "mean_squared.safetensors",
         {"logits": logits, "targets": targets, "loss": loss.reshape(1), "grad": logits.grad}, loss="mean_squared")
    for name, scale in [("binary_cross_entropy", 2.0), ("binary_cross_entropy_large_logits", 60.0)]:
        seed(name)
        logits = single(torch.randn(9, 7) * scale).requires_grad_()
        targets = (torch.rand(9, 7) < 0.3).double()
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        loss.backward()
        save(ROOT / "losses" / f"{name}.safetensors",
             {"logits": logits, "targets": targets, "loss": loss.reshape(1), "grad": logits.grad}, loss="binary_cross_entropy")


# ---- optimisers ----

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, dict(lr=0.1)),
    "sgd_momentum": (torch.optim.SGD, dict(lr=0.1, momentum=0.9)),
    "sgd_momentum_decay": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, weight_decay=0.05)),
    "sgd_nesterov_decay": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)),
    "adam": (torch.optim.Adam, dict(lr=0.02, betas=(0.9, 0.999), eps=1e-8)),
    "adam_decay": (torch.optim.Adam, dict(lr=0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.05)),
    "adamw": (torch.optim.AdamW, dict(lr=0.02, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)),
    "adadelta": (torch.optim.Adadelta, dict(lr=1.0, rho=0.9, eps=1e-6)),
    "adadelta_decay": (torch.optim.Adadelta, dict(lr=0.5, rho=0.95, eps=1e-5, weight_decay=0.05)),
}


def make_optimizers():
    for name, (kind, settings) in OPTIMIZERS.items():
        seed("optimizers")  # all of them see the same weights and gradients
        start, gradients = single(torch.randn(19)), single(torch.randn(8, 19))
        weight = start.clone().requires_grad_()
        optimizer, steps = kind([weight], **settings), []
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
            steps.append(weight.detach().clone())
        flat = {key: value for key, value in settings.items() if key != "betas"}
        if "betas" in settings:
            flat["beta1"], flat["beta2"] = settings["betas"]
        save(ROOT / "optimizers" / f"{name}.safetensors", {"start": start, "gradients": gradients, "weights": torch.stack(steps)},
             optimizer=kind.__name__.lower(), **{key: str(value).lower() for key, value in flat.items()})


# ---- schedules ----

def make_schedules():
    epochs, base = 30, 0.5

    def rates(build, metrics=None):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
        schedule, out = build(optimizer), []
        for epoch in range(epochs):
            out.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step(*([metrics[epoch]] if metrics else []))
        return out

    s = torch.optim.lr_scheduler
    torch.manual_seed(7)
    # A loss that falls, stalls twice and falls again.
    losses = [round(max(2.0 * 0.8 ** e, 0.7) if e < 14 else max(0.69 - 0.05 * (e - 14), 0.5), 4) for e in range(epochs)]
    columns = {
        "epoch": list(range(epochs)),
        "step": rates(lambda o: s.StepLR(o, step_size=7, gamma=0.1)),
        "multistep": rates(lambda o: s.MultiStepLR(o, milestones=[5, 12, 20], gamma=0.3)),
        "cosine": rates(lambda o: s.CosineAnnealingLR(o, T_max=epochs, eta_min=0.01)),
        "linear": rates(lambda o: s.LinearLR(o, start_factor=1, end_factor=0.02, total_iters=epochs)),
        "one_cycle": rates(lambda o: s.OneCycleLR(o, max_lr=base, total_steps=epochs + 1)),
        "loss": losses,
        "plateau": rates(lambda o: s.ReduceLROnPlateau(o, factor=0.1, patience=3, threshold=0, min_lr=1e-4), losses),
    }
    path = ROOT / "schedules.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*([f"{v:.9g}" for v in column] for column in columns.values())))


# ---- training parity ----

PARITY = {
    "lenet5": """format = 1
name = "lenet5"
input = [1, 28, 28]
classes = 10
layers = [
  { type = "conv", name = "conv1", filters = 6, kernel = 5, padding = 2 },
  { type = "relu" },
  { type = "max_pool", kernel = 2 },
  { type = "conv", name = "conv2", filters = 16, kernel = 5 },
  { type = "relu" },
  { type = "max_pool", kernel = 2 },
  { type = "linear", name = "fc1", units = 120 },
  { type = "relu" },
  { type = "linear", name = "fc2", units = 84 },
  { type = "relu" },
  { type = "linear", name = "fc3", units = 10 },
]
""",
    "convnetjs-cifar10": """format = 1
name = "convnetjs-cifar10"
input = [3, 32, 32]
classes = 10
layers = [
  { type = "conv", name = "conv1", filters = 16, kernel = 5, padding = 2 },
  { type = "relu" },
  { type = "max_pool", kernel = 2 },
  { type = "conv", name = "conv2", filters = 20, kernel = 5, padding = 2 },
  { type = "relu" },
  { type = "max_pool", kernel = 2 },
  { type = "conv", name = "conv3", filters = 20, kernel = 5, padding = 2 },
  { type = "relu" },
  { type = "max_pool", kernel = 2 },
  { type = "linear", name = "fc", units = 10 },
]
""",
    "residual": """format = 1
name = "residual"
input = [3, 16, 16]
classes = 10
layers = [
  { type = "conv", name = "conv1", filters = 16, kernel = 3, padding = 1, bias = false },
  { type = "batch_norm", name = "bn1" },
  { type = "relu", name = "relu1" },
  { type = "conv", name = "conv2", filters = 16, kernel = 3, padding = 2, dilation = 2, groups = 4, bias = false },
  { type = "batch_norm", name = "bn2" },
  { type = "add", inputs = ["bn2", "relu1"] },
  { type = "relu", name = "relu2" },
  { type = "conv", name = "conv3", filters = 24, kernel = 3, stride = 2, padding = 1, groups = 2, bias = false },
  { type = "batch_norm", name = "bn3" },
  { type = "conv", name = "shortcut", filters = 24, kernel = 1, stride = 2, bias = false, inputs = ["relu2"] },
  { type = "batch_norm", name = "shortcut_norm" },
  { type = "add", inputs = ["bn3", "shortcut_norm"] },
  { type = "relu" },
  { type = "global_avg_pool" },
  { type = "linear", name = "fc", units = 10 },
]
""",
    "wide": """format = 1
name = "wide"
input = [3, 13, 12]
classes = 10
layers = [
  { type = "conv", name = "conv1", filters = 32, kernel = 3, padding = 1 },
  { type = "relu" },
  { type = "conv", name = "conv2", filters = 32, kernel = 3 },
  { type = "relu" },
  { type = "max_pool", kernel = 2 },
  { type = "conv", name = "conv3", filters = 32, kernel = 5, padding = 2 },
  { type = "relu" },
  { type = "linear", name = "fc", units = 10 },
]
""",
}
STEPS, BATCH, POOL = 20, 8, 64


def train(text, start, images, labels, indices, lr, dtype):
    """Losses before each update, tensors after the last, logits of the first batch in evaluation mode."""
    tensors = {name: t.clone().to(dtype).requires_grad_("running" not in name) for name, t in start.items()}
    net, losses = Net(text, tensors), []
    optimizer = torch.optim.SGD(net.parameters().values(), lr=lr, momentum=0.9, weight_decay=5e-4)
    for batch in indices:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images[batch].to(dtype), True), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().reshape(1))
    with torch.no_grad():
        logits = net(images[indices[0]].to(dtype), False)
    return torch.cat(losses), {name: t.detach() for name, t in tensors.items()}, logits


def spread(text, start, images, labels, indices, lr, losses, runs=16):
    """Largest relative difference of PyTorch's own float32 losses when every starting weight is off by a rounding.

    Twenty steps decide millions of times on which side of zero a value lies. Where one lies so close that a rounding
    decides, the losses jump by 1e-3, on any machine and in any library: such a problem cannot tell right from wrong."""
    worst = 0.0
    for run in range(runs):
        generator = torch.Generator().manual_seed(run)
        off = {key: value * (1 + 6e-8 * torch.randint(-1, 2, value.shape, generator=generator)) for key, value in start.items()}
        rough, _, _ = train(text, off if run else start, images, labels, indices, lr, torch.float32)
        worst = max(worst, ((rough - losses) / losses).abs().max().item())
    return worst


def make_parity():
    for name, text in PARITY.items():
        for attempt in range(100):
            differs = parity(name, text, f"{name} {attempt}" if attempt else name)
            print(f"parity {name}, attempt {attempt}: PyTorch's own float32 differs by up to {differs:.1e}")
            if differs < 5e-6:
                break
        else:
            raise SystemExit(f"parity {name}: no well-conditioned problem found")


def parity(name, text, seed_name):
    """Writes a problem's file and returns its spread."""
    seed(seed_name)
    net = Net(text)
    dims = net.toml["input"]
    # Pictures: a colour and a coarse pattern for each class, and noise, in bytes; the net sees (byte - 128) / 64,
    # exact in float32.
    labels = torch.arange(POOL) % 10
    patterns = torch.randn(10, dims[0], 1, 1) + F.interpolate(torch.randn(10, dims[0], 4, 4), size=dims[1:])
    pictures = (128 + 30 * patterns[labels] + 30 * torch.randn(POOL, *dims)).clamp(0, 255).to(torch.uint8)
    images = (pictures.double() - 128) / 64
    with torch.no_grad():
        net(images[:2], False)
    start = {}
    for key, value in net.tensors.items():
        kind = key.rsplit(".", 1)[1]
        constant = {"running_mean": 0.0, "running_var": 1.0, "bias": 0.0}.get(kind, 1.0 if value.dim() == 1 else None)
        start[key] = single(value.detach() if constant is None else torch.full_like(value, constant))
    indices = torch.cat([torch.randperm(POOL) for _ in range(STEPS * BATCH // POOL + 1)])[:STEPS * BATCH].reshape(STEPS, BATCH)
    lr = {"lenet5": 0.01, "convnetjs-cifar10": 0.01, "residual": 0.05, "wide": 0.01}[name]
    losses, after, logits = train(text, start, images, labels, indices, lr, torch.float64)
    out = {"images": pictures, "labels": labels, "indices": indices, "losses": losses, "logits": logits}
    out |= {f"start.{key}": value for key, value in start.items()}
    out |= {f"after.{key}": value for key, value in after.items()}
    save(ROOT / "parity" / f"{name}.safetensors", out, net=text, lr=str(lr), momentum="0.9", weight_decay="5e-4")
    return spread(text, start, images, labels, indices, lr, losses)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    parts = {"layers": make_layers, "losses": make_losses, "optimizers": make_optimizers, "schedules": make_schedules, "parity": make_parity}
    for part in sys.argv[1:] or parts:
        parts[part]()
    size = sum(file.stat().st_size for file in ROOT.rglob("*") if file.is_file())
    print(f"{ROOT}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
