"""Run `zoo` as `python -m zoo`."""

from zoo.cli import command

if __name__ == "__main__":
    command()
