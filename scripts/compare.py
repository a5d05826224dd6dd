#!/usr/bin/env python3
"""Times ocelli, PyTorch (both memory layouts) and ONNX Runtime side by side on the CPU and writes BENCHMARKS.md's table.

    benches/compare [--threads 2] [--only lenet5,vgg16] [--mode infer|train] [--rounds 3] [--write]
    benches/compare --convs [--threads 2] [--rounds 3] [--write]     the list benches/convs.txt
    benches/compare --random 60 [--seed 1] [...]                     as many convolutions drawn at random

benches/compare makes what is missing, the peers' Python environment and ocelli, and starts this script.

All sides take turns in one sitting: a round times each of them once, and a figure is the median of the rounds, each of
which is the median of samples of at least 50 ms. Of single convolutions it is the fastest round. Inputs are random float32 in NCHW for ocelli and ONNX Runtime. Training
is forward, softmax cross-entropy, backward and SGD (0.01, momentum 0.9, weight decay 5e-4) in training mode. Prints a JSON
line for each figure; --write puts the table between the markers of BENCHMARKS.md. Quote ratios, on a quiet machine.
"""
import argparse
import datetime
import functools
import json
import multiprocessing
import platform
import random
import statistics
import subprocess
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import onnxruntime
import torch
import torchvision
from torch import nn

warnings.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parent.parent


def lenet5():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def convnetjs_cifar10():
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 20, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 20, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(320, 10))


def alexnet(groups):
    """Pool, then norm, as lectures draw it; groups = 2 is the two-GPU one, whose order costs the same."""
    def lrn():
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), lrn(),
        nn.Conv2d(96, 256, 5, padding=2, groups=groups), nn.ReLU(), nn.MaxPool2d(3, 2), lrn(),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=groups), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=groups), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 1000))


# name: (constructor, picture, classes, training batch, inference batches)
NETS = {
    "lenet5": (lenet5, (1, 28, 28), 10, 64, (1, 64)),
    "convnetjs-cifar10": (convnetjs_cifar10, (3, 32, 32), 10, 64, (1, 64)),
    "alexnet-slide": (lambda: alexnet(1), (3, 227, 227), 1000, 32, (1, 32)),
    "alexnet-2012-2gpu": (lambda: alexnet(2), (3, 227, 227), 1000, 32, (1, 32)),
    "vgg16": (torchvision.models.vgg16, (3, 224, 224), 1000, 8, (1, 8)),
    "googlenet-torchvision": (lambda: torchvision.models.googlenet(init_weights=False), (3, 224, 224), 1000, 16, (1,)),
    "resnet50": (torchvision.models.resnet50, (3, 224, 224), 1000, 8, (1, 8)),
    "resnet18": (torchvision.models.resnet18, (3, 224, 224), 1000, 16, (1, 16)),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, (3, 224, 224), 1000, 16, (1, 16)),
}


def median_ms(step, repeats=5, warm_up=0.5):
    begin, rounds = time.perf_counter(), 0
    while rounds < 2 or time.perf_counter() - begin < warm_up:
        step()
        rounds += 1
    each = max(1, round(0.05 / ((time.perf_counter() - begin) / rounds)))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(each):
            step()
        times.append((time.perf_counter() - begin) / each)
    return statistics.median(times) * 1e3


def loss(out, y):
    """Cross-entropy; the second classifiers of GoogLeNet count 0.3 each."""
    if isinstance(out, torch.Tensor):
        return nn.functional.cross_entropy(out, y)
    return sum(w * nn.functional.cross_entropy(o, y) for w, o in zip((1, 0.3, 0.3), out))


def pytorch(name, mode, batch, layout):
    build, picture, classes, *_ = NETS[name]
    torch.manual_seed(0)
    model = build().to(memory_format=layout)
    x = torch.randn(batch, *picture).contiguous(memory_format=layout)
    if mode == "infer":
        model.eval()
        with torch.inference_mode():
            return median_ms(lambda: model(x))
    y = torch.randint(0, classes, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step():
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return median_ms(step)


def ort(name, batch, threads):
    build, picture, *_ = NETS[name]
    torch.manual_seed(0)
    model, x = build().eval(), torch.randn(batch, *picture)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        torch.onnx.export(model, x, file.name, dynamo=False, input_names=["x"], output_names=["y"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
    feed = {"x": x.numpy()}
    return median_ms(lambda: session.run(None, feed))


def ocelli(name, mode, batch, threads):
    command = [ROOT / "target/release/ocelli", "bench", name, "--mode", mode, "--batch-size", batch, "--threads", threads, "--json"]
    out = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])["median_ms"]


def measure(name, mode, batch, args):
    """Milliseconds of each round, by who ran."""
    sides = {
        "ocelli": lambda: ocelli(name, mode, batch, args.threads),
        "PyTorch NCHW": lambda: pytorch(name, mode, batch, torch.contiguous_format),
        "PyTorch NHWC": lambda: pytorch(name, mode, batch, torch.channels_last),
    }
    if mode == "infer":
        sides["ONNX Runtime"] = lambda: ort(name, batch, args.threads)
    times = {side: [] for side in sides}
    for _ in range(args.rounds):
        for side, run in sides.items():
            times[side].append(run())
    for side, values in times.items():
        ms = statistics.median(values)
        print(json.dumps({"peer": side, "net": name, "mode": mode, "batch": batch, "threads": args.threads,
                          "median_ms": round(ms, 3), "images_per_s": round(batch / ms * 1e3, 1)}), flush=True)
    return times


def conv_ocelli(problem, threads):
    command = [ROOT / "target/release/ocelli", "bench", "--conv", problem, "--threads", threads, "--json"]
    out = json.loads(subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout)
    return [out[key] for key in ("forward_ms", "data_gradient_ms", "weight_gradient_ms")], out["kernels"]


def conv_pytorch(problem, layout):
    """Milliseconds of forward, data gradient and weight gradient."""
    layout = getattr(torch, layout)
    v = {key: int(value) for key, value in (word.split("=") for word in problem.split())}
    torch.manual_seed(0)
    x = torch.randn(v["n"], v["c"], v["h"], v["w"]).contiguous(memory_format=layout)
    w = torch.randn(v["k"], v["c"] // v["groups"], v["r"], v["s"]).contiguous(memory_format=layout)
    options = ([v["stride"]] * 2, [v["pad"]] * 2, [v["dilation"]] * 2, False, [0, 0], v["groups"])
    with torch.inference_mode():
        dy = torch.randn_like(torch.convolution(x, w, None, *options)).contiguous(memory_format=layout)
        backward = lambda mask: torch.ops.aten.convolution_backward(dy, x, w, None, *options, mask)
        passes = (lambda: torch.convolution(x, w, None, *options), lambda: backward([True, False, False]), lambda: backward([False, True, False]))
        return [median_ms(step, 5, 0.1) for step in passes]


@functools.cache
def own_process(threads):
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=spawn, initializer=torch.set_num_threads, initargs=(threads,))


def conv_pytorch_apart(problem, layout, threads):
    """The same by a process of its own, or none where that dies: 2.14.1 destroys its memory for some problems (n=8 c=8 k=80 h=128
    w=224 r=1 s=1 stride=2, channels-last)."""
    try:
        return own_process(threads).submit(conv_pytorch, problem, layout).result()
    except BrokenProcessPool:
        own_process.cache_clear()
        return None


CHANNELS = (3, 4, 8, 12, 16, 20, 24, 31, 32, 40, 48, 64, 72, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512)
SIZES = (7, 8, 10, 13, 14, 16, 20, 28, 32, 40, 56, 64, 80, 112, 128, 224)


def listed():
    lines = (ROOT / "benches/convs.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def drawn(count, seed):
    """Problems of the kinds that networks have, which nobody chose: of 0.5 to 1000 million multiply-adds, at most 64 MB a map."""
    draw = random.Random(seed)
    pick, weighted = draw.choice, lambda weights: draw.choices(*zip(*weights.items()))[0]
    problems = []
    while len(problems) < count:
        n, h, c, k = pick((1, 2, 8, 16, 64)), pick(SIZES), pick(CHANNELS), pick(CHANNELS)
        w = weighted({h: 3, pick(SIZES): 1})
        r, s = weighted({(1, 1): 4, (3, 3): 6, (5, 5): 2, (7, 7): 1, (2, 2): 1, (4, 4): 1, (9, 9): 1, (1, 3): 1, (3, 1): 1, (1, 7): 1})
        stride = weighted({1: 6, 2: 3, 3: 1, 4: 1})
        pad = weighted({min(r, s) // 2: 4, 0: 1})
        dilation = weighted({1: 6, 2: 1, 3: 1}) if r * s > 1 else 1
        groups = weighted({1: 8, c: 1, 2: 1, 4: 1, 8: 1})
        k = c if groups == c else k
        oh, ow = ((size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel in ((h, r), (w, s)))
        if min(oh, ow) < 1 or c % groups or k % groups or max(n * h * w * c, n * oh * ow * k) > 16 << 20:
            continue
        if 0.5e6 <= n * oh * ow * k * (c // groups) * r * s <= 1e9:
            problems.append(f"n={n} c={c} k={k} h={h} w={w} r={r} s={s} stride={stride} pad={pad} dilation={dilation} groups={groups}")
    return problems


def convs(problems, args):
    """The problems' table: how many times faster than PyTorch's better layout, pass by pass."""
    rows, all_speeds, spreads = [], [], []
    for problem in problems:
        ours, peers = [], []
        for _ in range(args.rounds):
            times, kernels = conv_ocelli(problem, args.threads)
            ours.append(times)
            peers += [conv_pytorch_apart(problem, layout, args.threads) for layout in ("contiguous_format", "channels_last")]
        if not any(peers):
            print(f"left out, PyTorch dies of it in both layouts: {problem}", flush=True)
            continue
        spreads += [max(times) / min(times) - 1 for times in zip(*ours)]
        # The fastest round of each pass: whoever else uses the processor only ever slows a round down.
        ours, peers = ([min(times) for times in zip(*filter(None, rounds))] for rounds in (ours, peers))
        speeds = [peer / our for our, peer in zip(ours, peers)]
        all_speeds += speeds
        cells = " | ".join(f"{show(our)} {kernel}, **{speed:.2f}**" if speed < 1 else f"{show(our)} {kernel}, {speed:.2f}"
                           for our, kernel, speed in zip(ours, kernels, speeds))
        rows.append(f"| `{problem.removesuffix(' dilation=1 groups=1')}` | {cells} |")
        print(rows[-1], flush=True)
    slow = sum(speed < 0.8 for speed in all_speeds)
    head = (f"{setting(args)}. Of {len(rows)} convolutions in three passes: milliseconds, kernel, and how many times faster than "
            f"PyTorch's better memory layout, **bold** where slower, by the fastest of {args.rounds} rounds taken in turn; packing of weights "
            f"is counted. Between rounds ocelli's times differ by {statistics.median(spreads):.0%} in the median, {max(spreads):.0%} at most. Geometric mean "
            f"{statistics.geometric_mean(all_speeds):.2f}, smallest {min(all_speeds):.2f}, {slow} of {len(all_speeds)} under 0.8.")
    return "\n".join([head, "", "| convolution | forward | data gradient | weight gradient |", "|---|---|---|---|", *rows])


def show(ms):
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def setting(args):
    cpu = next((line.split(":", 1)[1].strip() for line in subprocess.run(["lscpu"], capture_output=True, text=True).stdout.splitlines()
                if line.startswith("Model name")), platform.processor())
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    return (f"{datetime.date.today()}, commit {commit}, {cpu}, {args.threads} threads, {platform.system()} {platform.machine()}, "
            f"rustc {compiler}, PyTorch {torch.__version__.split('+')[0]}, ONNX Runtime {onnxruntime.__version__}")


def table(rows, args):
    lines = [
        f"{setting(args)}; milliseconds, median of {args.rounds} rounds taken in turn. The last column is how many times faster than the "
        "fastest other ocelli is, by the medians, **bold** where slower, and in brackets the least and the most of single rounds.", "",
        "| network | mode | batch | ocelli | PyTorch NCHW | PyTorch NHWC | ONNX Runtime | times faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, mode, batch, times in rows:
        result = {side: statistics.median(values) for side, values in times.items()}
        peer = min((side for side in times if side != "ocelli"), key=result.get)
        speed = result[peer] / result["ocelli"]
        rounds = [min(others) / ours for ours, *others in zip(times["ocelli"], *(times[side] for side in times if side != "ocelli"))]
        cells = [show(result[side]) if side in result else "" for side in ("ocelli", "PyTorch NCHW", "PyTorch NHWC", "ONNX Runtime")]
        shown = f"{speed:.2f}" if speed >= 1 else f"**{speed:.2f}**"
        lines.append(f"| {name} | {mode} | {batch} | {' | '.join(cells)} | {shown} ({min(rounds):.2f}–{max(rounds):.2f}) |")
    return "\n".join(lines)


def networks(args):
    rows = []
    for name in args.only.split(","):
        *_, train_batch, infer_batches = NETS[name]
        work = [("train", train_batch)] + [("infer", batch) for batch in infer_batches]
        for mode, batch in work:
            if args.mode in (None, mode):
                rows.append((name, mode, batch, measure(name, mode, batch, args)))
    return table(rows, args)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(NETS))
    parser.add_argument("--mode", choices=("infer", "train"))
    parser.add_argument("--convs", action="store_true", help="the convolutions of benches/convs.txt instead of networks")
    parser.add_argument("--random", type=int, metavar="N", help="N convolutions drawn at random instead of networks")
    parser.add_argument("--seed", type=int, default=1, help="what --random draws by")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table into BENCHMARKS.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.random:
        name, text = "random", convs(drawn(args.random, args.seed), args)
    elif args.convs:
        name, text = "convs", convs(listed(), args)
    else:
        name, text = "compare", networks(args)
    print(text)
    if args.write:
        path = ROOT / "BENCHMARKS.md"
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = path.read_text().partition(begin)
        _, _, after = rest.partition(end)
        path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    main()
