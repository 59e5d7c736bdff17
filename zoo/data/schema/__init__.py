"""Table columns to targets: cells, labels, and which task they are for."""
