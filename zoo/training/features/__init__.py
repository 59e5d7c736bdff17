"""Features of frozen layers: stored, read as a dataset, and a linear probe fitted on them."""
