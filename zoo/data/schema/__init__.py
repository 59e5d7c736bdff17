"""Table columns to targets: roles of the columns, the task, and the reading of labels."""
