#!/usr/bin/env python3
"""Time to accuracy: trains the recipes below from nothing, several seeds, and writes BENCHMARKS.md's table.

    cargo build --release
    scripts/time_to_accuracy.py [--only mnist-10k-fast] [--seeds 3] [--data-dir DIR] [--output runs/time] [--write]
    ~/.cache/ocelli-peers/bin/python scripts/time_to_accuracy.py --pytorch          PyTorch's time per epoch for the same nets

The time is that of the whole command `ocelli train --config RECIPE`: from the start of the process to its end, reading the
data, measuring it, every validation and the last judgement included. The accuracy is that of `ocelli val` on the held-out test
pictures, which chose nothing. A seed that is done is not run again, and a run that was cut off goes on (its time is then not
known and is left out): results lie in OUTPUT/results.json. PyTorch's epoch is its training steps alone, without a loader: the
same layers, batch, loss and optimiser, the faster of its two memory layouts.
"""
import argparse
import json
import statistics
import subprocess
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKERS = "<!-- time to accuracy: begin -->\n", "<!-- time to accuracy: end -->"
# recipe: (goal in percent, seconds that it may take, flags of `val`)
RECIPES = {
    "mnist-10k-fast": (98.5, 3, []),
    "fashion-mnist-fast": (92.0, 45, ["--tta", "flip"]),
    "cifar10-80": (80.0, 90, []),
    "cifar10-94": (94.0, 2400, ["--tta", "shift"]),
}


def train(recipe, seed, args):
    """Seconds, or none where an earlier start was cut off, and the accuracy."""
    run = args.output / f"{recipe}-{seed}"
    common = ["--data-dir", args.data_dir] if args.data_dir else []
    finished = run / "finished.json"
    if not finished.exists():
        resumed = (run / "last.ckpt").exists()
        begin = time.perf_counter()
        if resumed:
            command = [args.ocelli, "train", "--resume", run]
        else:
            command = [args.ocelli, "train", "--config", ROOT / f"recipes/{recipe}.toml", "--seed", str(seed),
                       "--output", run, "--overwrite"]
        subprocess.run([*command, *common, "--threads", str(args.threads), "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        seconds = None if resumed else time.perf_counter() - begin
        begin = time.perf_counter()
        judged = subprocess.run(
            [args.ocelli, "val", run, *RECIPES[recipe][2], *common, "--threads", str(args.threads), "--json"],
            check=True, capture_output=True, text=True).stdout
        accuracy = 100 * json.loads(judged)["top1"]
        finished.write_text(json.dumps({"seconds": seconds, "accuracy": accuracy, "val": time.perf_counter() - begin}))
    return json.loads(finished.read_text())


def modules(layers, channels, size):
    """The net as PyTorch modules, for the layers that these recipes use."""
    from torch import nn
    out = []
    for layer in layers:
        kind, kernel = layer["type"], layer.get("kernel", 1)
        if kind == "conv":
            padding, stride = layer.get("padding", 0), layer.get("stride", 1)
            conv = nn.Conv2d(channels, layer["filters"], kernel, stride, padding, bias=layer.get("bias", True))
            out.append(conv.requires_grad_(layer.get("trainable", True)))
            channels, size = layer["filters"], (size + 2 * padding - kernel) // stride + 1
        elif kind == "max_pool":
            out.append(nn.MaxPool2d(kernel))
            size //= kernel
        elif kind == "batch_norm":
            out.append(nn.BatchNorm2d(channels))
        elif kind == "global_max_pool":
            out.append(nn.AdaptiveMaxPool2d(1))
            size = 1
        elif kind == "linear":
            units = 10 if layer["units"] == "classes" else layer["units"]
            out += [nn.Flatten(), nn.Linear(channels * size * size, units, bias=layer.get("bias", True))]
            channels, size = units, 1
        else:
            out.append({"relu": nn.ReLU, "gelu": nn.GELU}[kind]())
    return nn.Sequential(*out)


def pytorch(recipe, threads):
    """Milliseconds of a step in each layout, and of an epoch in the better one in seconds."""
    import torch
    torch.set_num_threads(threads)
    settings = tomllib.loads((ROOT / f"recipes/{recipe}.toml").read_text())
    net = tomllib.loads((ROOT / "recipes" / settings["net"]).read_text())
    batch, (channels, size, _) = settings["batch_size"], net["input"]
    pictures = {"mnist-10k": 8000, "fashion-mnist": 60000, "cifar10": 50000}[settings["data"]]
    steps = pictures * (1 - settings.get("val_fraction", 0.1)) // batch
    best = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = modules(net["layers"], channels, size).train().to(memory_format=layout)
        x = torch.randn(batch, channels, size, size).to(memory_format=layout)
        y = torch.randint(0, 10, (batch,))
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
        loss = torch.nn.CrossEntropyLoss(label_smoothing=settings.get("label_smoothing", 0))
        times = []
        while len(times) < 3 or sum(times) < 3:
            begin = time.perf_counter()
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            times.append(time.perf_counter() - begin)
        best[str(layout)] = statistics.median(times[1:])
    return {"epoch": min(best.values()) * steps, "torch": torch.__version__.split("+")[0]}


def table(results):
    lines = ["| recipe | goal | accuracy, each seed | mean | seconds, each seed | mean | allowed | PyTorch, an epoch |",
             "|---|---|---|---|---|---|---|---|"]
    for recipe, (goal, allowed, flags) in RECIPES.items():
        runs = results.get(recipe, {})
        seeds = [runs[s] for s in sorted(runs) if s.isdigit()]
        if not seeds:
            continue
        accuracies, seconds = [r["accuracy"] for r in seeds], [r["seconds"] for r in seeds if r["seconds"]]
        settings = tomllib.loads((ROOT / f"recipes/{recipe}.toml").read_text())
        peer = runs.get("pytorch")
        name = f"[{recipe}](recipes/{recipe}.toml), {settings['epochs']} epochs" + (f", `{' '.join(flags)}`" if flags else "")
        mean = statistics.mean(seconds) if seconds else None
        lines.append(
            f"| {name} | {goal} % | {', '.join(f'{a:.2f}' for a in accuracies)} | {statistics.mean(accuracies):.2f} % "
            f"| {', '.join(f'{s:.1f}' for s in seconds)} | {f'{mean:.1f} s' if mean else ''} | {allowed} s "
            f"| {f'''{peer['epoch']:.1f} s (PyTorch {peer['torch']})''' if peer else ''} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="recipes, with commas between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data-dir")
    parser.add_argument("--ocelli", type=Path, default=ROOT / "target/release/ocelli")
    parser.add_argument("--output", type=Path, default=ROOT / "runs/time")
    parser.add_argument("--pytorch", action="store_true", help="measure PyTorch's epochs, train nothing")
    parser.add_argument("--write", action="store_true", help="write the table into BENCHMARKS.md")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for recipe in args.only.split(",") if args.only else RECIPES:
        runs = results.setdefault(recipe, {})
        if args.pytorch:
            runs["pytorch"] = pytorch(recipe, args.threads)
        for seed in range(0 if args.pytorch else args.seeds):
            runs[str(seed)] = train(recipe, seed, args)
            print(recipe, "seed", seed, runs[str(seed)], flush=True)
        file.write_text(json.dumps(results, indent=1))
    print(table(results))
    if args.write:
        page = ROOT / "BENCHMARKS.md"
        text = page.read_text()
        begin, end = text.index(MARKERS[0]) + len(MARKERS[0]), text.index(MARKERS[1])
        page.write_text(text[:begin] + table(results) + text[end:])


if __name__ == "__main__":
    main()
