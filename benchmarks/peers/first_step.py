"""`zoo` up to its first training step: `python first_step.py finetune resnet34 --data …`.

Records the time when the first batch is about to enter the model (everything is built and measured, the batch is
loaded) and after the first optimizer step, prints both as JSON (seconds since 1970) and ends the process. Nothing else
of `zoo` is changed; zoo imports the same modules anyway.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from zoo.training.trainer import Trainer

started: list[float] = []
forward, optimizer_step = Trainer._forward, Trainer._optimizer_step


def timed_forward(self: Trainer, *args: Any) -> Any:
    started.append(time.time())
    return forward(self, *args)


def timed_optimizer_step(self: Trainer, *args: Any) -> Any:
    optimizer_step(self, *args)
    print(json.dumps({"begins": started[0], "ends": time.time()}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    Trainer._forward, Trainer._optimizer_step = timed_forward, timed_optimizer_step  # type: ignore[method-assign]
    from zoo.cli import main

    sys.exit(main())
