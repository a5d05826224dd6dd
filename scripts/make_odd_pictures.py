#!/usr/bin/env python3
"""Writes tests/pictures: one smooth picture as JPEG files of kinds that cameras and programs write. Needs Pillow and numpy."""
import pathlib

import numpy as np
from PIL import Image

folder = pathlib.Path(__file__).parent.parent / "tests/pictures"
y, x = np.mgrid[0:24, 0:32]
pixels = np.stack([40 + 5 * x, 30 + 7 * y, 200 - 3 * x], axis=-1).astype(np.uint8)
picture = Image.fromarray(pixels)
picture.save(folder / "progressive.jpg", quality=95, progressive=True)
picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
