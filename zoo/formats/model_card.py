"""The model card (README.md) of an export: description, usage and license."""

from __future__ import annotations

from zoo.formats.preprocess_code import intensity_range_line
from zoo.formats.spec import ExportSpec, Usage
from zoo.tasks import get_task

_MAX_NAMES = 50


def render_model_card(spec: ExportSpec, usage: Usage) -> str:
    """Markdown with the metadata header of the Hugging Face hub; an unknown license is "unknown"."""
    model, preprocess = spec.model, spec.preprocess
    task = get_task(spec.task)
    license = spec.license or "unknown"
    facts = {
        "architecture": f"`{model.architecture}` ({usage.library})",
        "parameters": f"{sum(p.numel() for p in model.module.parameters()):,}",
        "input": f"{preprocess.channels} × {preprocess.height} × {preprocess.width} (channels × height × width)",
        **intensity_range_line(preprocess),
        "fine-tuned from": f"`{model.weights.source}`" if model.weights.source != "none" else "random weights",
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

`preprocess.json` contains the preprocessing; `labels.txt` lists the {task.outputs} in the order of the outputs.

## License

{_license(spec)}
"""


def _license(spec: ExportSpec) -> str:
    if spec.license:
        return f"The pretrained weights are licensed under {spec.license}. Check the license of your images, too."
    if spec.model.weights.source == "none":
        return "Unknown: trained from random weights. Only your own terms and the license of your images apply."
    return f"Unknown: the license of `{spec.model.weights.source}` is not recorded."


def _plain(name: str) -> str:
    return " ".join(name.replace("`", "'").split())
