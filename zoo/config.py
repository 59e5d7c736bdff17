"""The base class of the recipe's sections. Each package owns its section in its `config.py`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Config(BaseModel):
    """A frozen section of a recipe. Unknown keys are errors.

    A field that has an option of its own is described in zoo.options; the others have a `description`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _bool_to_on_off(value: Any) -> Any:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


# Annotation of a Literal with the values on and off, which YAML 1.1 reads as true and false.
YamlSwitch = BeforeValidator(_bool_to_on_off)
