#!/usr/bin/env python3
"""The loader's memory over two epochs of a data set that is too large to be kept: the resident megabytes at each tenth of
the time, and the most that there ever was, as Linux counts them.

    python3 scripts/compare_loader.py scikit_image-*.whl --pictures 100000 --folder many --only-make
    cargo build --release
    python3 scripts/loader_memory.py many [--threads 2]
"""
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def megabytes(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--threads", default="2")
    options = parser.parse_args()
    command = [ROOT / "target/release/ocelli", "bench", "--data", options.data, "--threads", options.threads, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    samples, peak, start = [], 0, time.perf_counter()
    while process.poll() is None:
        now, most = megabytes(process.pid, "VmRSS"), megabytes(process.pid, "VmHWM")
        if now is not None:
            samples.append(now)
            peak = most
        time.sleep(0.5)
    if process.returncode:
        sys.exit(process.returncode)
    seconds, speed = time.perf_counter() - start, json.loads(process.stdout.read())["images_per_s"]
    tenths = [round(samples[min(len(samples) * i // 10, len(samples) - 1)]) for i in range(1, 11)]
    print(f"{options.data}: {speed} pictures/s, {seconds:.0f} s; resident MiB at each tenth: {tenths}, at most {peak:.0f}")


if __name__ == "__main__":
    main()
