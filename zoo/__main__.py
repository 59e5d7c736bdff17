"""`python -m zoo` is `zoo`."""

from zoo.cli import command

if __name__ == "__main__":
    command()
