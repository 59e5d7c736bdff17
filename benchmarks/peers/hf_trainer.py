"""Hugging Face's Trainer with timm's model, as in its documentation.

The last line on stdout is JSON with the top-1 accuracy of the last epoch.
"""

from __future__ import annotations

import json
import tempfile

import numpy as np
import torch
from hand import build, folders, freeze, options
from torch import nn
from transformers import EvalPrediction, Trainer, TrainingArguments


class Wrapped(nn.Module):
    """Returns what the Trainer expects: a dictionary with the loss and the logits."""

    def __init__(self, model: nn.Module, frozen: list[nn.Module], layout: torch.memory_format) -> None:
        super().__init__()
        self.model, self.layout = model, layout
        self.loss = nn.CrossEntropyLoss()
        self._frozen = frozen

    def train(self, mode: bool = True) -> Wrapped:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.model(pixel_values.contiguous(memory_format=self.layout))
        return {"logits": logits} if labels is None else {"loss": self.loss(logits, labels), "logits": logits}


def collate(samples: list[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    return {
        "pixel_values": torch.stack([image for image, _ in samples]),
        "labels": torch.tensor([label for _, label in samples]),
    }


def top1(prediction: EvalPrediction) -> dict[str, float]:
    return {"top1": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}


def main() -> None:
    args = options()
    train, val = folders(args.data, augmented=args.freeze == "none")
    torch.manual_seed(0)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    model = build(args, len(train.classes)).to(memory_format=layout)
    frozen = freeze(model, args.freeze)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            num_train_epochs=args.epochs,
            learning_rate=args.lr,
            weight_decay=args.weight_decay,
            lr_scheduler_type="cosine",
            eval_strategy="epoch",
            save_strategy="no",
            dataloader_num_workers=args.workers,
            dataloader_persistent_workers=args.workers > 0,
            bf16=args.bf16,
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            remove_unused_columns=False,
            label_names=["labels"],
            disable_tqdm=True,
            seed=0,
        )
        trainer = Trainer(
            model=Wrapped(model, frozen, layout),
            args=arguments,
            train_dataset=train,
            eval_dataset=val,
            data_collator=collate,
            compute_metrics=top1,
        )
        trainer.train()
        found = [row["eval_top1"] for row in trainer.state.log_history if "eval_top1" in row]
    print(json.dumps({"top1": found[-1]}))


if __name__ == "__main__":
    main()
