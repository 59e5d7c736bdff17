"""Training and validation parts: hold-out, groups, folds, or a file of names."""
