"""Settings that are measured on this machine: precision, workers, batch size, step times."""
