#!/usr/bin/env python3
"""Times how fast training pictures are read, decoded, scaled and cropped: ocelli beside torchvision (Pillow), on one core.

    scripts/peers.sh                                          once: the Python environment
    pip download --no-deps scikit-image==0.26.0               free photos are inside the wheel
    cargo build --release
    taskset -c 0 ~/.cache/ocelli-peers/bin/python scripts/compare_loader.py scikit_image-*.whl
                                                              [--pictures 1000] [--quality 90] [--folder DIR] [--rounds 5] [--only-make]

Writes JPEG files of 500x375, cut at random (a fixed seed) from the colour photos of the wheel, into DIR/train in
100 classes; files that are there are kept. Both sides then deliver batches of 64 random 227x227 crops with random flips:
ocelli from the middle of the picture scaled to 259x259, torchvision by Resize(259), RandomCrop(227), RandomHorizontalFlip,
ToTensor, Normalize in the process that waits for them. They take turns; a figure is the best of the rounds. On a busy
machine the processor's time for a picture is what can be compared; ocelli's has starting and listing in it.
"""
import argparse
import json
import random
import resource
import subprocess
import time
from pathlib import Path

from PIL import Image

from photos import COLOUR, photos

ROOT = Path(__file__).resolve().parent.parent
SIZE = (500, 375)
CLASSES = 100


def make(wheel, folder, pictures, quality):
    folders = [folder / "train" / f"{label:03}" for label in range(CLASSES)]
    for place in folders:
        place.mkdir(parents=True, exist_ok=True)
    sources, dice = list(photos(wheel, COLOUR).values()), random.Random(0)
    for number in range(pictures):
        path = folders[number % CLASSES] / f"{number:06}.jpg"
        source, share = sources[number % len(sources)], dice.uniform(0.5, 1.0)
        width = min(source.width, source.height * SIZE[0] / SIZE[1]) * share
        height = width * SIZE[1] / SIZE[0]
        left, top = dice.uniform(0, source.width - width), dice.uniform(0, source.height - height)
        turn = dice.random() < 0.5
        if path.exists():
            continue
        cut = source.resize(SIZE, Image.BICUBIC, (left, top, left + width, top + height))
        (cut.transpose(Image.FLIP_LEFT_RIGHT) if turn else cut).save(path, quality=quality)


def ocelli(folder):
    """Pictures a second, and the processor's milliseconds a picture."""
    command = [ROOT / "target/release/ocelli", "bench", "--data", folder, "--threads", "1", "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # It passes twice over the pictures.
    pictures = sum(1 for _ in folder.glob("train/*/*.jpg"))
    return json.loads(result.stdout)["images_per_s"], cpu * 1e3 / (2 * pictures)


def torchvision(folder):
    """The same."""
    import torch
    from torchvision import datasets, transforms
    torch.set_num_threads(1)
    steps = transforms.Compose([
        transforms.Resize(259), transforms.RandomCrop(227), transforms.RandomHorizontalFlip(),
        transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    data = datasets.ImageFolder(folder / "train", steps)
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    start, cpu = time.perf_counter(), time.process_time()
    count = sum(len(labels) for _, labels in loader)
    return count / (time.perf_counter() - start), (time.process_time() - cpu) * 1e3 / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/ocelli-loader"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", type=int, default=90)
    parser.add_argument("--only-make", action="store_true")
    options = parser.parse_args()
    make(options.wheel, options.folder, options.pictures, options.quality)
    if options.only_make:
        return
    sides = {"ocelli": ocelli, "torchvision": torchvision}
    figures = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            figures[name].append(side(options.folder))
    for name, rounds in figures.items():
        speeds, cpus = zip(*rounds)
        print(json.dumps({"peer": name, "mode": "load", "images_per_s": round(max(speeds), 1),
                          "cpu_ms_per_image": round(min(cpus), 3), "rounds": [round(value, 1) for value in speeds],
                          "cpu_rounds": [round(value, 3) for value in cpus]}))


if __name__ == "__main__":
    main()
