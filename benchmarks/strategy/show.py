"""Write a picture with examples of all images of the study: `python benchmarks/strategy/show.py out.png`."""

from __future__ import annotations

import sys

import numpy as np
from pictures import FAMILIES, SHIFTS, draw
from PIL import Image

rows = [draw(name, "", (16,), 0)[0][0] for name in FAMILIES] + [draw("strokes", s, (16,), 0)[0][0] for s in SHIFTS if s]
grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
Image.fromarray(grid).resize((grid.shape[1] * 2, grid.shape[0] * 2), Image.Resampling.NEAREST).save(sys.argv[1])
