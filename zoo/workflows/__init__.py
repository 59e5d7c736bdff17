"""The public Python API: composition of the rooms below, one file a job. Importing this imports none of them."""
