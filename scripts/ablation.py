#!/usr/bin/env python3
"""What each part of an AlexNet brings on CIFAR-10: trains the net of recipes/cifar10-ablation.toml and variants of it that
differ in one thing each, judges them, and writes the table of docs/overfitting.md.

    ocelli data get cifar10
    cargo build --release
    scripts/ablation.py --output ablation [--jobs 2] [--minutes 30]      again and again, until it says that all is done
    scripts/ablation.py --output ablation --table

A run is OUTPUT/VARIANT-SEED. What is finished is not done again, what was cut off goes on to the same bits, so that the
figures depend neither on the machine's speed nor on how often it was stopped: by --minutes or by Ctrl-C. All figures are in
OUTPUT/results.json. The 10,000 held-out pictures choose nothing: the best epoch is that of the validation pictures.
Python's standard library is enough.
"""
import argparse
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes/cifar10-ablation.toml"
NET = ROOT / "recipes/nets/cifar10-ablation.toml"
PAGE = ROOT / "docs/overfitting.md"

# Changes of the net's text, as (pattern, replacement).
NO_LRN = (r".*\"lrn\".*\n", "")
NO_DROPOUT = (r".*\"dropout\".*\n", "")
PLAIN = (r"kernel = 3, stride = 2, ceil_mode = true", "kernel = 2")
NO_POOLING = (r".*\"max_pool\".*\n", "")
STRIDE = (r"(\"conv[12]\".*kernel = \d)", r"\1, stride = 2")

# Name: the row's title; changes of the net; changes of the recipe, as flags; what the paper says of the same, in points of
# accuracy (top-1, top-5).
VARIANTS = {
    "base": ("the base", [], [], "-"),
    "no-lrn": ("no LRN", [NO_LRN], [], "-1.4, -1.2; on CIFAR-10 -2"),
    "plain-pooling": ("pooling 2x2 instead of overlapping", [PLAIN], [], "-0.4, -0.3"),
    "stride": ("stride instead of pooling", [NO_POOLING, STRIDE], [], "-"),
    "no-dropout": ("no dropout", [NO_DROPOUT], [], "\"substantial overfitting\""),
    "no-decay": ("no weight decay", [], ["--weight-decay", "0"], "a higher training error"),
    "no-augmentation": ("no augmentation", [], ["--augment", "none"], "\"substantial overfitting\""),
    "pca": ("PCA colour too", [], ["--augment", "flip,crop:0,pca"], "more than +1"),
    "naked": ("none of all these", [NO_LRN, NO_DROPOUT, PLAIN], ["--weight-decay", "0", "--augment", "none"], "-"),
}
# Other ways to judge the base's runs.
TEN_CROP = ("the base, ten crops", "+1.5, +1.3")
ENSEMBLE = ("{} of the base together", "five: +2.6, +1.8; seven, two trained on more: +4.0, +2.8")

SPLITS = ("train", "val", "test")
# Student's t for a two-sided interval of 95 %, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447}


class Stopped(Exception):
    """The time is over."""


def replace(path, text):
    """Writes the file so that whoever reads it meanwhile sees the old text or the new, never a part."""
    part = path.with_suffix(".part")
    with open(part, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class Work:
    """Runs commands side by side, keeps the results, and stops all of it when the time is over."""

    def __init__(self, args):
        self.args, self.lock = args, threading.Lock()
        self.live, self.stopped = set(), False
        self.path = args.output / "results.json"
        self.results = json.loads(self.path.read_text()) if self.path.exists() else {}

    def stop(self):
        with self.lock:
            self.stopped = True
            for process in self.live:
                process.send_signal(signal.SIGINT)

    def ocelli(self, words, log):
        """What the command prints; its progress and errors go to the log."""
        command = [str(self.args.ocelli), *map(str, words)]
        if self.args.data_dir:
            command += ["--data-dir", str(self.args.data_dir)]
        with self.lock:
            if self.stopped:
                raise Stopped
            with open(log, "ab") as errors:
                # A session of its own: Ctrl-C reaches this script alone, which then sends it once, not twice.
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
            self.live.add(process)
        printed, _ = process.communicate()
        with self.lock:
            self.live.remove(process)
            if process.returncode != 0 and self.stopped:
                raise Stopped
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}; see {log}")
        return printed

    def train(self, variant, seed):
        """Trains the run, or goes on with it."""
        _, _, flags, _ = VARIANTS[variant]
        run = self.args.output / f"{variant}-{seed}"
        if (run / "args.toml").exists():
            words = ["--resume", run]
        else:
            words = [self.net(variant), "--config", RECIPE, *flags, "--seed", seed, "--output", run, "--overwrite"]
        if self.args.max_steps:
            words += ["--max-steps", self.args.max_steps]
        self.ocelli(["train", *words, "--threads", self.args.threads, "--quiet"], f"{run}.log")

    def net(self, variant):
        """The variant's net as a file."""
        text = NET.read_text()
        for pattern, replacement in VARIANTS[variant][1]:
            text, times = re.subn(pattern, replacement, text)
            if times == 0:
                raise RuntimeError(f"{NET}: nothing to change for {variant}: {pattern}")
        path = self.args.output / "nets" / f"{variant}.toml"
        path.parent.mkdir(exist_ok=True)
        with self.lock:
            # Another seed's run may be reading it.
            replace(path, text)
        return path

    def judge(self, name, runs, flags=(), splits=SPLITS, threads=None):
        """Accuracy on the splits' pictures as they are in evaluation, and its storing under the name."""
        for split in splits:
            if split in self.results.get(name, {}):
                continue
            words = ["val", *runs, "--split", split, "--json", *flags, "--threads", threads or self.args.threads]
            answer = json.loads(self.ocelli(words, f"{runs[0]}.log"))
            figures = {"images": answer["images"], "top1": answer["top1"]}
            if "members" in answer:
                figures["members"] = [member["top1"] for member in answer["members"]]
            with self.lock:
                self.results.setdefault(name, {})[split] = figures
                replace(self.path, json.dumps(self.results, indent=1, sort_keys=True) + "\n")

    def run(self, variant, seed, kinds):
        """One run from its first step to its last figure; False if the time or an error ended it."""
        name, begin = f"{variant}-{seed}", time.monotonic()
        path = self.args.output / name
        try:
            if not all(split in self.results.get(name, {}) for split in SPLITS):
                self.train(variant, seed)
            self.judge(name, [path])
            if "ten-crop" in kinds:
                self.judge(f"ten-crop-{seed}", [path], ["--tta", "ten-crop"])
        except Stopped:
            return False
        except (RuntimeError, ValueError, OSError) as error:
            print(error, file=sys.stderr, flush=True)
            return False
        held_out = 100 * self.results[name]["test"]["top1"]
        print(f"{name}: {held_out:.2f} % held out; {(time.monotonic() - begin) / 60:.1f} min", flush=True)
        return True

    def together(self, count):
        """The base's runs together. The first one's validation pictures are among the others' training pictures."""
        runs = [self.args.output / f"base-{seed}" for seed in range(count)]
        try:
            self.judge("ensemble", runs, ["--ensemble"], ("train", "test"), self.args.jobs * self.args.threads)
        except Stopped:
            return False
        return True


def do(args):
    args.output.mkdir(parents=True, exist_ok=True)
    work = Work(args)
    jobs = [(variant, seed) for variant in VARIANTS if variant in args.only for seed in args.seeds]
    if "ensemble" in args.only:
        jobs += [("base", seed) for seed in range(args.ensemble) if ("base", seed) not in jobs]
    kinds = {job: {"ten-crop"} & set(args.only) if job[0] == "base" and job[1] in args.seeds else set() for job in jobs}
    timer = threading.Timer(60 * args.minutes, work.stop)
    timer.start()
    with ThreadPoolExecutor(args.jobs) as pool:
        going = [pool.submit(work.run, *job, kinds[job]) for job in jobs]
        try:
            done = [job.result() for job in going]
        except KeyboardInterrupt:
            work.stop()
            done = [job.result() for job in going]
    whole = all(done)
    if whole and "ensemble" in args.only:
        whole = work.together(args.ensemble)
    timer.cancel()
    if not whole:
        print(f"{sum(done)} of {len(jobs)} runs are done. The same command goes on.")
        return 1
    print(f"All {len(jobs)} runs are done: {work.path}")
    return 0


def interval(values):
    """The mean with half of its 95 % interval, by Student's t."""
    if len(values) < 2:
        return f"{values[0]:+.2f}"
    half = T95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):+.2f} ± {half:.2f}"


def table(results, seeds):
    """The results as Markdown: means over the seeds, and the paired differences of held-out accuracy to the base. A row that
    is not judged with every seed is left out."""

    def figures(name, split):
        return [100 * results[f"{name}-{seed}"][split]["top1"] for seed in seeds]

    def row(title, train, val, test, difference, paper):
        cells = [f"{statistics.mean(train):.2f}", f"{statistics.mean(val):.2f}" if val else "-",
                 f"{statistics.mean(test):.2f}", f"{statistics.mean(train) - statistics.mean(test):.2f}"]
        return " | ".join([f"| {title}", *cells, difference, f"{paper} |"])

    if not all(split in results.get(f"base-{seed}", {}) for seed in seeds for split in SPLITS):
        sys.exit("The base's runs are not all judged yet.")
    images = [f"{results[f'base-{seeds[0]}'][split]['images']:,}" for split in SPLITS]
    lines = [f"{images[0]} training, {images[1]} validation and {images[2]} held-out pictures; seeds "
             f"{', '.join(map(str, seeds))}.", "",
             "| | training % | validation % | held out % | gap | difference | the paper |", "|---|---|---|---|---|---|---|"]
    base = figures("base", "test")
    rows = {name: (title, paper) for name, (title, _, _, paper) in VARIANTS.items()}
    rows["ten-crop"] = TEN_CROP
    for name, (title, paper) in rows.items():
        if not all(split in results.get(f"{name}-{seed}", {}) for seed in seeds for split in SPLITS):
            continue
        train, val, test = (figures(name, split) for split in SPLITS)
        difference = "-" if name == "base" else interval([x - y for x, y in zip(test, base)])
        lines.append(row(title, train, val, test, difference, paper))
    if "test" in results.get("ensemble", {}):
        whole, title = results["ensemble"], ENSEMBLE[0].format(len(results["ensemble"]["test"]["members"]))
        train, test = ([100 * whole[split]["top1"]] for split in ("train", "test"))
        difference = interval([test[0] - 100 * member for member in whole["test"]["members"]])
        lines.append(row(title, train, None, test, difference, ENSEMBLE[1]))
    return "\n".join(lines)


def write(text, page):
    """Puts the table between the page's markers."""
    begin, end = "<!-- ablation: begin -->", "<!-- ablation: end -->"
    before, _, rest = page.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{page} has no lines {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main():
    names = [*VARIANTS, "ten-crop", "ensemble"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder of the runs and results.json")
    parser.add_argument("--table", type=Path, nargs="?", const=PAGE, metavar="PAGE",
                        help="trains nothing; writes the table into the page (default: docs/overfitting.md)")
    parser.add_argument("--ocelli", type=Path, default=ROOT / "target/release/ocelli", help="the program")
    parser.add_argument("--data-dir", type=Path, help="where cifar10 lies")
    parser.add_argument("--only", default=",".join(names), help=f"some of: {', '.join(names)}")
    parser.add_argument("--seeds", default="0,1,2", help="of every variant (default: 0,1,2)")
    parser.add_argument("--ensemble", type=int, default=7, metavar="N", help="runs of the base together (default: 7)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="runs at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="threads of a run (default: 1)")
    parser.add_argument("--minutes", type=float, default=1e4, metavar="M", help="stops after so long; the next call goes on")
    parser.add_argument("--max-steps", type=int, metavar="N", help="ends each run after so many steps: to try this script")
    args = parser.parse_args()
    args.only, args.seeds = args.only.split(","), [int(seed) for seed in args.seeds.split(",")]
    unknown = set(args.only) - set(names)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if args.table:
        text = table(json.loads((args.output / "results.json").read_text()), args.seeds)
        print(text)
        write(text, args.table)
        return 0
    args.ocelli = args.ocelli.absolute()
    if not args.ocelli.is_file():
        parser.error(f"{args.ocelli} is missing: cargo build --release, or --ocelli PATH")
    return do(args)


if __name__ == "__main__":
    sys.exit(main())
