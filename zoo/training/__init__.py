"""The loop, precision, checkpoints."""
