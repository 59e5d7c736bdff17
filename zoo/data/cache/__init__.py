"""Decoded images stored on the disk, and the dataset that reads them."""
