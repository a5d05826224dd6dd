#!/usr/bin/env python3
"""Writes tests/golden/augment.json: a picture, what torchvision makes of it, and numpy's principal components.

Needs torch, torchvision and numpy; see scripts/peers.sh.
"""
import json
import math
import pathlib

import numpy as np
import torch
import torchvision.transforms.functional as F
from torchvision.transforms import InterpolationMode

HEIGHT, WIDTH = 13, 17
y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
noise = np.random.default_rng(4).integers(-25, 26, (HEIGHT, WIDTH, 3))
picture = np.stack([20 + 12 * x, 200 - 9 * y + 2 * x, 90 + 5 * x - 4 * y], axis=-1) + noise
picture = picture.clip(3, 251).astype(np.uint8)
tensor = torch.from_numpy(picture).permute(2, 0, 1)

made = {
    "brightness": F.adjust_brightness(tensor, 0.7),
    "contrast": F.adjust_contrast(tensor, 1.3),
    "saturation": F.adjust_saturation(tensor, 0.4),
    "hue": F.adjust_hue(tensor, 0.2),
    "hue back": F.adjust_hue(tensor, -0.35),
    "gray": F.rgb_to_grayscale(tensor, 3),
    "sharpness": F.adjust_sharpness(tensor, 1.8),
    "posterize": F.posterize(tensor, 5),
    "solarize": F.solarize(tensor, 128),
    "autocontrast": F.autocontrast(tensor),
    "equalize": F.equalize(tensor),
    "rotate": F.rotate(tensor, 17, InterpolationMode.BILINEAR),
    "blur": F.gaussian_blur(tensor, 2 * math.ceil(3 * 0.8) + 1, 0.8),
}
pixels = picture.reshape(-1, 3) / 255
values, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False, bias=True))
golden = {
    "height": HEIGHT,
    "width": WIDTH,
    "picture": picture.flatten().tolist(),
    "made": {name: image.permute(1, 2, 0).flatten().tolist() for name, image in made.items()},
    "mean": pixels.mean(0).tolist(),
    "eigenvalues": values[::-1].tolist(),
    "eigenvectors": vectors.T[::-1].tolist(),
}
path = pathlib.Path(__file__).parent.parent / "tests/golden/augment.json"
path.write_text(json.dumps(golden) + "\n")
print(f"{path}: {path.stat().st_size} bytes, torch {torch.__version__}")
