"""`zoo recommend`: which model fits the images, and what to train of it."""
