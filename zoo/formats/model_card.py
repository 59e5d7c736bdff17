"""The README.md of an export: what the model is, how to use it, under which licence."""

from __future__ import annotations

from zoo.formats.preprocess_code import intensity_range_line
from zoo.formats.spec import ExportSpec, Usage
from zoo.tasks import get_task

__all__ = ["render_model_card"]

_MAX_NAMES = 50


def render_model_card(spec: ExportSpec, usage: Usage) -> str:
    """Markdown with the header that Hugging Face's hub reads. A licence that is not known is said to be "unknown"."""
    model, preprocess = spec.model, spec.preprocess
    task = get_task(spec.task)
    license = spec.license or "unknown"
    facts = {
        "architecture": f"`{model.architecture}` ({usage.library})",
        "parameters": f"{sum(p.numel() for p in model.module.parameters()):,}",
        "input": f"{preprocess.channels} × {preprocess.height} × {preprocess.width} (channels × height × width)",
        **intensity_range_line(preprocess),
        "started from": f"`{model.weights.source}`" if model.weights.source != "none" else "random weights",
        **spec.facts,
    }
    names = ", ".join(f"`{_plain(c)}`" for c in spec.classes[:_MAX_NAMES])
    more = ", … (all in `labels.txt`)" if len(spec.classes) > _MAX_NAMES else ""
    return f"""---
library_name: {usage.library}
license: {license.lower()}
pipeline_tag: {task.hub_pipeline}
tags:
{chr(10).join(f"- {tag}" for tag in task.hub_tags)}
---
# {_plain(spec.title)}

{task.title}, fine-tuned with zoo.

{"".join(f"- {label}: {text}{chr(10)}" for label, text in facts.items())}
## {task.outputs.capitalize()}

{len(spec.classes)}: {names}{more}

## Use

In this folder:

```python
{usage.code.strip()}
```

`preprocess.json` defines how pixels become the model's input; `labels.txt` lists the {task.outputs} in output order.

## Licence

{_licence(spec)}
"""


def _licence(spec: ExportSpec) -> str:
    if spec.license:
        return f"The weights that it started from are under {spec.license}; check what your images allow."
    if spec.model.weights.source == "none":
        return "Unknown: it was trained from random weights, so that only you and your images decide."
    return f"Unknown: nothing is recorded of the licence of `{spec.model.weights.source}`."


def _plain(name: str) -> str:
    return " ".join(name.replace("`", "'").split())
