"""A second, independent reading of ocelli's network text: TOML in, PyTorch operations out.

It knows only what the golden files need: layers in order, `inputs`, and the keys that docs/ describes. Values are float64,
so that a golden file holds the right numbers rounded once, not one machine's history of roundings.
"""
import tomllib
import warnings

import torch
import torch.nn.functional as F


warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")


def pair(value):
    return tuple(value) if isinstance(value, list) else (value, value)


def padding(layer, size, kernel, stride=(1, 1), dilation=(1, 1)):
    """Rows and columns around a picture: top, left, bottom, right."""
    value = layer.get("padding", 0)
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    if value == "valid":
        return (0, 0, 0, 0)
    if value == "full":
        return (span[0] - 1, span[1] - 1, span[0] - 1, span[1] - 1)
    if value == "same":  # output ceil(N / S); the odd row and column at the bottom and the right
        total = [max(0, (-(-n // s) - 1) * s + f - n) for n, s, f in zip(size, stride, span)]
        return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    if isinstance(value, list) and len(value) == 4:
        return tuple(value)
    height, width = pair(value)
    return (height, width, height, width)


def padded(x, around, **mode):
    top, left, bottom, right = around
    return F.pad(x, (left, right, top, bottom), **mode)


def conv(layer, x, get, _):
    kernel, stride, dilation = pair(layer["kernel"]), pair(layer.get("stride", 1)), pair(layer.get("dilation", 1))
    groups = layer.get("groups", 1)
    if "maps" in layer:
        pairs = [(f, m) for f, maps in enumerate(layer["maps"]) for m in maps]
        compact = get("weight", (len(pairs), *kernel))
        weight = torch.zeros(layer["filters"], x.shape[1], *kernel, dtype=x.dtype)
        weight = weight.index_put(tuple(torch.tensor(p) for p in zip(*pairs)), compact)
    else:
        weight = get("weight", (layer["filters"], x.shape[1] // groups, *kernel))
    bias = get("bias", (layer["filters"],)) if layer.get("bias", True) else None
    around = padding(layer, x.shape[2:], kernel, stride, dilation)
    y = F.conv2d(padded(x, around), weight, bias, stride, 0, dilation, groups)
    if layer.get("padding") == "same" and stride == (1, 1):  # PyTorch's own word for it
        assert torch.equal(y, F.conv2d(x, weight, bias, 1, "same", dilation, groups))
    return y


def max_pool(layer, x, get, _):
    kernel = pair(layer["kernel"])
    stride = pair(layer.get("stride", layer["kernel"]))
    top, left, bottom, right = around = padding(layer, x.shape[2:], kernel, stride)
    ceil = layer.get("ceil_mode", False)
    if (top, left) == (bottom, right) and 2 * top <= kernel[0] and 2 * left <= kernel[1]:
        return F.max_pool2d(x, kernel, stride, (top, left), ceil_mode=ceil)
    assert not ceil
    return F.max_pool2d(padded(x, around, value=-torch.inf), kernel, stride)


def avg_pool(layer, x, get, _):
    kernel = pair(layer["kernel"])
    stride = pair(layer.get("stride", layer["kernel"]))
    top, left, bottom, right = around = padding(layer, x.shape[2:], kernel, stride)
    ceil, count = layer.get("ceil_mode", False), layer.get("count_include_pad", True)
    if (top, left) == (bottom, right):
        return F.avg_pool2d(x, kernel, stride, (top, left), ceil, count)
    assert not ceil
    y = F.avg_pool2d(padded(x, around), kernel, stride)
    return y if count else y / F.avg_pool2d(padded(torch.ones_like(x), around), kernel, stride)


def linear(layer, x, get, _):
    x = x.flatten(1)
    weight = get("weight", (layer["units"], x.shape[1]))
    return F.linear(x, weight, get("bias", (layer["units"],)) if layer.get("bias", True) else None)


def batch_norm(layer, x, get, training):
    channels = (x.shape[1],)
    scale, shift = get("weight", channels), get("bias", channels)
    mean, var = get("running_mean", channels), get("running_var", channels)
    return F.batch_norm(x, mean, var, scale, shift, training, layer.get("momentum", 0.1), layer.get("eps", 1e-5))


def lrn(layer, x, get, _):
    if layer.get("groups", 1) > 1:
        part = {**layer, "groups": 1}
        return torch.cat([lrn(part, x, get, _) for x in x.chunk(layer["groups"], 1)], 1)
    size = layer.get("size", 5)
    alpha = layer.get("alpha", 1e-4) * (1 if layer.get("divide_by_size", True) else size)
    return F.local_response_norm(x, size, alpha, layer.get("beta", 0.75), layer.get("k", 1.0))


def subsample(layer, x, get, _):
    kernel, channels = pair(layer["kernel"]), (x.shape[1],)
    sums = F.avg_pool2d(x, kernel, divisor_override=1)
    return sums * get("weight", channels)[:, None, None] + get("bias", channels)[:, None, None]


def radial(layer, x, get, _):
    x = x.flatten(1)
    return -torch.cdist(x, get("weight", (layer["units"], x.shape[1])), compute_mode="donot_use_mm_for_euclid_dist") ** 2


def pad(layer, x, get, _):
    amount = padding({"padding": layer["amount"]}, x.shape[2:], (1, 1))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[layer.get("mode", "constant")]
    return padded(x, amount, mode=mode, **({"value": layer.get("value", 0.0)} if mode == "constant" else {}))


KINDS = {
    "conv": conv, "max_pool": max_pool, "avg_pool": avg_pool, "linear": linear, "batch_norm": batch_norm, "lrn": lrn,
    "pad": pad, "subsample": subsample, "radial": radial,
    "bias": lambda layer, x, get, _: x + get("bias", tuple(x.shape[1:])),
    "scaled_tanh": lambda layer, x, *_: layer.get("amplitude", 1.7159) * torch.tanh(layer.get("slope", 2 / 3) * x),
    "adaptive_avg_pool": lambda layer, x, *_: F.adaptive_avg_pool2d(x, pair(layer["size"])),
    "global_avg_pool": lambda layer, x, *_: x.mean((2, 3), keepdim=True),
    "flatten": lambda layer, x, *_: x.flatten(1),
    "relu": lambda layer, x, *_: F.relu(x),
    "leaky_relu": lambda layer, x, *_: F.leaky_relu(x, layer.get("slope", 0.01)),
    "relu6": lambda layer, x, *_: F.relu6(x),
    "sigmoid": lambda layer, x, *_: torch.sigmoid(x),
    "tanh": lambda layer, x, *_: torch.tanh(x),
    "gelu": lambda layer, x, *_: F.gelu(x),
    "hard_swish": lambda layer, x, *_: F.hardswish(x),
    "softmax": lambda layer, x, *_: F.softmax(x, 1),
}
JOINS = {"add": lambda a, b: a + b, "multiply": lambda a, b: a * b, "concat": lambda *xs: torch.cat(xs, 1)}


class Net:
    """A network from its text. `tensors` holds parameters and running statistics by name; missing ones are drawn."""

    def __init__(self, text, tensors=None):
        self.text, self.toml = text, tomllib.loads(text)
        self.tensors = tensors if tensors is not None else {}

    def __call__(self, x, training):
        values, counts, last = {"input": x}, {}, x
        for layer in self.toml["layers"]:
            kind = layer["type"]
            counts[kind] = counts.get(kind, 0) + 1
            name = layer.get("name", f"{kind}{counts[kind]}")
            inputs = [values[i] for i in layer["inputs"]] if "inputs" in layer else [last]
            if kind in JOINS:
                last = JOINS[kind](*inputs)
            else:
                last = KINDS[kind](layer, *inputs, lambda p, dims: self.tensor(f"{name}.{p}", dims), training)
            values[name] = last
        return last

    def tensor(self, name, dims):
        if name not in self.tensors:
            self.tensors[name] = draw(name, dims)
        assert self.tensors[name].shape == dims, f"{name}: {self.tensors[name].shape} instead of {dims}"
        return self.tensors[name]

    def parameters(self):
        return {name: t for name, t in self.tensors.items() if "running" not in name}


def draw(name, dims):
    """Values of a layer under test: every bias, scale and running statistic away from its special values 0 and 1."""
    kind = name.rsplit(".", 1)[1]
    if kind == "running_var":
        values = torch.rand(dims) + 0.5
    elif kind == "weight" and len(dims) == 1:  # the scale of a batch norm
        values = 1 + 0.3 * torch.randn(dims)
    elif kind == "weight":
        values = torch.randn(dims) / (dims[1] * (dims[2] * dims[3] if len(dims) == 4 else 1)) ** 0.5
    else:
        values = 0.3 * torch.randn(dims)
    return values.double().requires_grad_("running" not in kind)
