"""Encoded bytes to uint8 images, one file per kind of format."""
