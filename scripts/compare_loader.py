#!/usr/bin/env python3
"""Times how fast training pictures are read, decoded, scaled and cropped: ocelli beside torchvision (Pillow), on one core.

    scripts/peers.sh                                          once: the Python environment
    pip download --no-deps scikit-image==0.26.0               free photos are inside the wheel
    cargo build --release
    taskset -c 0 ~/.cache/ocelli-peers/bin/python scripts/compare_loader.py scikit_image-*.whl
                                                              [--pictures 1000] [--folder DIR] [--rounds 3] [--only-make]

Writes JPEG files of 500x375, quality 90, cut at random (a fixed seed) from the colour photos of the wheel, into DIR/train/0
and 1; files that are there are kept. Both sides then deliver batches of 64 random 227x227 crops with random flips: ocelli
from the middle of the picture scaled to 259x259, torchvision by Resize(259), RandomCrop(227), RandomHorizontalFlip, ToTensor,
Normalize in the process that waits for them. They take turns; a figure is the median of the rounds. Quote ratios, on a quiet
machine.
"""
import argparse
import io
import json
import random
import statistics
import subprocess
import time
import zipfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SIZE = (500, 375)


def photos(wheel):
    """The colour photos of the wheel that are large enough."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if not name.startswith("skimage/data/") or not name.lower().endswith((".png", ".jpg", ".jpeg")):
                continue
            picture = Image.open(io.BytesIO(archive.read(name)))
            if picture.mode == "RGB" and min(picture.size) >= 300:
                found.append(picture.copy())
    return found


def make(wheel, folder, pictures):
    folders = [folder / "train" / label for label in "01"]
    for place in folders:
        place.mkdir(parents=True, exist_ok=True)
    sources, dice = photos(wheel), random.Random(0)
    print(f"{len(sources)} photos", flush=True)
    for number in range(pictures):
        path = folders[number % 2] / f"{number:06}.jpg"
        source, share = sources[number % len(sources)], dice.uniform(0.5, 1.0)
        width = min(source.width, source.height * SIZE[0] / SIZE[1]) * share
        height = width * SIZE[1] / SIZE[0]
        left, top = dice.uniform(0, source.width - width), dice.uniform(0, source.height - height)
        turn = dice.random() < 0.5
        if path.exists():
            continue
        cut = source.resize(SIZE, Image.BICUBIC, (left, top, left + width, top + height))
        (cut.transpose(Image.FLIP_LEFT_RIGHT) if turn else cut).save(path, quality=90)


def ocelli(folder):
    command = [ROOT / "target/release/ocelli", "bench", "--data", folder, "--threads", "1", "--json"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout)["images_per_s"]


def torchvision(folder):
    import torch
    from torchvision import datasets, transforms
    torch.set_num_threads(1)
    steps = transforms.Compose([
        transforms.Resize(259), transforms.RandomCrop(227), transforms.RandomHorizontalFlip(),
        transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    data = datasets.ImageFolder(folder / "train", steps)
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    start = time.perf_counter()
    count = sum(len(labels) for _, labels in loader)
    return count / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/ocelli-loader"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-make", action="store_true")
    options = parser.parse_args()
    make(options.wheel, options.folder, options.pictures)
    if options.only_make:
        return
    sides = {"ocelli": ocelli, "torchvision": torchvision}
    figures = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            figures[name].append(side(options.folder))
    for name, values in figures.items():
        print(json.dumps({"peer": name, "mode": "load", "images_per_s": round(statistics.median(values), 1),
                          "rounds": [round(value, 1) for value in values]}))


if __name__ == "__main__":
    main()
