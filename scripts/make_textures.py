#!/usr/bin/env python3
"""Makes the pictures of recipes/textures.toml from free photos: eight classes, a photo each.

    scripts/peers.sh                                          once: the Python environment
    pip download --no-deps scikit-image==0.26.0               the photos are inside the wheel
    ~/.cache/ocelli-peers/bin/python scripts/make_textures.py scikit_image-*.whl textures

Square patches at random places (a fixed seed), 96 to 150 pixels a side, scaled to 256x256: DIR/train/CLASS/*.jpg from the left
60 % of the photo, DIR/val from the upper and DIR/test from the lower half of the rest, so that no pixel is in two splits.
"""
import argparse
import random
import sys
from pathlib import Path

from PIL import Image

from photos import COLOUR, GREY, photos

CLASSES = {
    "brick": "brick.png", "cat": "chelsea.png", "coffee": "coffee.png", "grass": "grass.png", "gravel": "gravel.png",
    "rocket": "rocket.jpg", "stars": "hubble_deep_field.jpg", "tissue": "ihc.png",
}
PICTURES = {"train": 150, "val": 25, "test": 50}
SIDES = (96, 150)


def region(size, split):
    """Left, top, right, bottom of the part of a photo that a split's patches lie in."""
    (width, height), border = size, size[0] * 3 // 5
    return {"train": (0, 0, border, height), "val": (border, 0, width, height // 2),
            "test": (border, height // 2, width, height)}[split]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.folder.exists():
        sys.exit(f"{options.folder} is there already")
    dice, pictures_of = random.Random(0), photos(options.wheel, CLASSES.values())
    for name, file in CLASSES.items():
        photo = pictures_of[file]
        for split, pictures in PICTURES.items():
            folder = options.folder / split / name
            folder.mkdir(parents=True)
            left, top, right, bottom = region(photo.size, split)
            for number in range(pictures):
                side = dice.randint(*SIDES)
                x, y = dice.randint(left, right - side), dice.randint(top, bottom - side)
                patch = photo.crop((x, y, x + side, y + side)).resize((256, 256), Image.BICUBIC)
                patch.save(folder / f"{number:03}.jpg", quality=90)
    print(f"{options.folder}: {len(CLASSES)} classes, " + ", ".join(f"{n} pictures each to {s}" for s, n in PICTURES.items()))
    for name, file in CLASSES.items():
        print(f"{name:8} {file:24} {({**COLOUR, **GREY})[file]}")


if __name__ == "__main__":
    main()
