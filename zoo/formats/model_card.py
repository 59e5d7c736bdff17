"""The README.md of an export: what the model is, how to use it, under which licence."""

from __future__ import annotations

from zoo.formats.preprocess_code import levels_fact
from zoo.formats.spec import Subject, Usage
from zoo.tasks import TaskName, get_task

__all__ = ["card"]

_FEW = 50
# Of each task: what the model is called, the hub's name for what it does, whose list knows no regression of images, and
# the tags to find it by.
_KINDS: dict[TaskName, tuple[str, str, tuple[str, ...]]] = {
    "single-label": ("An image classifier", "image-classification", ("image-classification",)),
    "multi-label": ("A multi-label classifier", "image-classification", ("image-classification", "multi-label")),
    "regression": ("A model that reads numbers from images", "other", ("image-regression",)),
}


def card(subject: Subject, usage: Usage) -> str:
    """Markdown with the header that Hugging Face's hub reads. A licence that is not known is said to be "unknown"."""
    model, preprocess = subject.model, subject.preprocess
    kind, pipeline, tags = _KINDS[subject.task]
    what = get_task(subject.task).outputs
    licence = subject.licence or "unknown"
    facts = {
        "architecture": f"`{model.architecture}` ({usage.library})",
        "parameters": f"{sum(p.numel() for p in model.module.parameters()):,}",
        "input": f"{preprocess.channels} × {preprocess.height} × {preprocess.width} (channels × height × width)",
        **levels_fact(preprocess),
        "started from": f"`{model.weights.source}`" if model.weights.source != "none" else "random weights",
        **subject.facts,
    }
    names = ", ".join(f"`{_plain(c)}`" for c in subject.classes[:_FEW])
    more = ", … (all in `labels.txt`)" if len(subject.classes) > _FEW else ""
    return f"""---
library_name: {usage.library}
license: {licence.lower()}
pipeline_tag: {pipeline}
tags:
{chr(10).join(f"- {tag}" for tag in tags)}
---
# {_plain(subject.title)}

{kind}, fine-tuned with zoo.

{"".join(f"- {label}: {text}{chr(10)}" for label, text in facts.items())}
## {what.capitalize()}

{len(subject.classes)}: {names}{more}

## Use

In this folder:

```python
{usage.code.strip()}
```

`preprocess.json` says how pixels become the model's input, `labels.txt` names the {what} in the order of the outputs.

## Licence

{_licence(subject)}
"""


def _licence(subject: Subject) -> str:
    if subject.licence:
        return f"The weights that it started from are under {subject.licence}; check what your images allow."
    if subject.model.weights.source == "none":
        return "Unknown: it was trained from random weights, so that only you and your images decide."
    return f"Unknown: nothing is recorded of the licence of `{subject.model.weights.source}`."


def _plain(name: str) -> str:
    return " ".join(name.replace("`", "'").split())
