"""The public Python API, one file per command. Importing this package imports none of them."""
