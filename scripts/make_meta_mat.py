#!/usr/bin/env python3
"""Writes tests/golden/meta.mat: three synsets in the form of the ILSVRC-2012 development kit's meta.mat. Needs scipy."""
import pathlib

import numpy as np
from scipy.io import savemat

fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images"]
# The kit's leaves come first, in an order of its own; then what is above them, here one with two children.
rows = [
    (1, "n03", "kit fox", "small grey fox of the plains", 0, np.zeros((1, 0)), 0, 1300),
    (2, "n01", "English setter", "an English breed", 0, np.zeros((1, 0)), 0, 1300),
    (3, "n02", "Siberian husky", "breed of sled dog", 0, np.zeros((1, 0)), 0, 1300),
    (1001, "n99", "dog", "a member of the genus Canis", 2, np.array([[2.0, 3.0]]), 1, 0),
]
synsets = np.empty((len(rows), 1), dtype=[(name, object) for name in fields])
for i, row in enumerate(rows):
    synsets[i, 0] = tuple(np.float64(value) if isinstance(value, int) else value for value in row)
path = pathlib.Path(__file__).parent.parent / "tests/golden/meta.mat"
# A variable before it, as a file may have.
savemat(path, {"before": np.eye(3), "synsets": synsets}, do_compression=True)
data = bytearray(path.read_bytes())
# Without the time of writing: the same bytes each time.
data[:116] = b"MATLAB 5.0 MAT-file".ljust(116)
path.write_bytes(data)
