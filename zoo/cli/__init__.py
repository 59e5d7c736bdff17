"""The command line: one file a command; each parses, calls one workflow and prints. Nothing heavy is imported here."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from types import FrameType
from typing import Annotated, NoReturn

import typer

from zoo import __version__, dist_env
from zoo.errors import TrainingError, ZooError, no_space

__all__ = ["app", "command", "main"]

app = typer.Typer(
    name="zoo",
    help="Fine-tune image models: from a folder of images to a trained model that can be deployed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"zoo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


def _register() -> None:
    from zoo.cli.augment import augment
    from zoo.cli.bench import bench
    from zoo.cli.cache import cache
    from zoo.cli.check import check
    from zoo.cli.demo import demo
    from zoo.cli.evaluate import evaluate
    from zoo.cli.export import export
    from zoo.cli.fetch import fetch
    from zoo.cli.finetune import finetune
    from zoo.cli.inspect import inspect_model
    from zoo.cli.list import list_models
    from zoo.cli.lr_find import lr_find
    from zoo.cli.predict import predict
    from zoo.cli.recipes import recipes
    from zoo.cli.recommend import quadrant, recommend
    from zoo.cli.schedule import schedule
    from zoo.cli.tune import tune

    app.command("list")(list_models)
    app.command("inspect")(inspect_model)
    app.command("check")(check)
    app.command("recommend")(recommend)
    app.command("quadrant")(quadrant)
    app.command("finetune")(finetune)
    app.command("schedule")(schedule)
    app.command("lr-find")(lr_find)
    app.command("tune")(tune)
    app.command("evaluate")(evaluate)
    app.command("predict")(predict)
    app.command("export")(export)
    app.command("fetch")(fetch)
    app.command("augment")(augment)
    app.command("bench")(bench)
    app.command("cache")(cache)
    app.command("recipes")(recipes)
    app.command("demo")(demo)


_register()


# The reader has left, as in `zoo list | head`: no error, and no one to tell. As a shell says it of `yes | head`.
_BROKEN_PIPE_CODE = 141


def main() -> NoReturn:
    """Run the program. The one place where an error becomes words and an exit code."""
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        code = app(prog_name="zoo", standalone_mode=False)
        sys.stdout.flush()
    except ZooError as e:
        _print_error(e.message, e.hint)
        code = e.exit_code
    except KeyboardInterrupt:
        _print_error("interrupted", "")
        code = 130
    except SystemExit as e:
        if not isinstance(e.__context__, BrokenPipeError):  # which typer turns into a plain failure
            raise
        code = _BROKEN_PIPE_CODE
    except OSError as e:
        if not (isinstance(e, BrokenPipeError) or no_space(e)):
            raise
        # Nothing more can be written there, not even what Python still holds at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _BROKEN_PIPE_CODE
        if no_space(e):
            _print_error("no space left to write the output", "free some disk space")
            code = TrainingError.exit_code
    except Exception as e:  # noqa: BLE001 - looked at and raised again unless it is the parser's
        code = _parser_error(e)
    sys.exit(code if isinstance(code, int) else 0)


def command() -> NoReturn:
    """`zoo` as a process of its own, which ends with its work: to free torch, object by object, takes a second."""
    try:
        main()
    except SystemExit as e:
        # The threads of gloo and FSDP do not always survive such an end: a finished training would be called aborted.
        if dist_env.world_size() == 1:
            threading._shutdown()  # type: ignore[attr-defined]  # joins what still works, as the interpreter would
            atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(e.code if isinstance(e.code, int) else 0)


def _parser_error(error: Exception) -> int:
    """Typer's complaints about the command line, in our two lines; anything else is a bug and keeps its traceback."""
    try:  # newer typer carries its own copy of click
        from typer._click import exceptions
    except ImportError:
        from click import exceptions  # type: ignore[no-redef]

    if isinstance(error, typer.Abort):
        return 130
    if not isinstance(error, exceptions.ClickException):
        raise error
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    context = error.ctx if isinstance(error, exceptions.UsageError) else None
    _print_error(
        message[:1].lower() + message[1:].rstrip("."), f"see `{context.command_path if context else 'zoo'} --help`"
    )
    return error.exit_code


def _print_error(message: str, hint: str) -> None:
    sys.stdout.flush()
    rank_prefix = "" if dist_env.is_main_process() else f"process {dist_env.rank()}: "
    print(f"error: {rank_prefix}{message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
