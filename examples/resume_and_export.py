"""Interrupt a training, resume it, evaluate, export, and load the export with plain timm. Needs no download.

python examples/resume_and_export.py
"""

from typing import Any

import timm
import torch

import zoo


def stop_after_first_epoch(row: dict[str, Any]) -> None:
    """End the run, as Ctrl-C would. `row` is a line of metrics.jsonl."""
    if row["epoch"] == 1:
        raise zoo.Interrupted("stopped after the first epoch")


def main() -> None:
    try:
        zoo.finetune("zoo_tiny", epochs=2, output_dir="runs/resumed", on_epoch=stop_after_first_epoch)
    except zoo.Interrupted as error:
        print(error)
    run = zoo.resume("runs/resumed")
    print(f"{len(run.metrics())} epochs, top-1 {zoo.evaluate(run).evaluation.summary()['top1']:.1%}")

    exported = zoo.export(run, "safetensors")
    model = timm.create_model(f"local-dir:{exported.folder}", pretrained=True).eval()  # without zoo
    with torch.inference_mode():
        print(tuple(model(torch.zeros(1, 3, 32, 32)).shape))


if __name__ == "__main__":
    main()
