"""The augmentations by name. Reading this table imports neither imgaug nor torchvision."""

from __future__ import annotations

from zoo.registry import RegistryEntry

AUGMENTATIONS: dict[str, RegistryEntry] = {
    "none": RegistryEntry("zoo.augment.presets:NoAugmentation", "the evaluation view, nothing random"),
    "affine": RegistryEntry(
        "zoo.augment.presets:Affine", "small translation, rotation, zoom, shear; no flip: for digits and text"
    ),
    "light": RegistryEntry("zoo.augment.presets:Light", "random crop of 50-100 % of the area, flip, slight colour"),
    "medium": RegistryEntry(
        "zoo.augment.rich:ImgaugPreset", "random crop of 25-100 %, flip, turn, shear, colour (imgaug)"
    ),
    "strong": RegistryEntry(
        "zoo.augment.rich:ImgaugPreset",
        "random crop of 8-100 %, flip, turn, shear, strong colour, blur, noise, cut-out (imgaug)",
        {
            "scale": (0.08, 1.0),  # Szegedy et al. 2015, and torchvision's default
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
            "degrees": 30.0,
            "shear": 12.0,
            "hue": 0.05,
            "blur": 2.0,
            "noise": 12.0,
            "cutout": 0.3,
        },
    ),
    "trivialaugment": RegistryEntry(
        "zoo.augment.policies:TrivialAugment", "light's crop and flip, then one change of any strength (torchvision)"
    ),
    "randaugment": RegistryEntry(
        "zoo.augment.policies:RandAugment", "light's crop and flip, then two changes of one strength (torchvision)"
    ),
    "autoaugment": RegistryEntry(
        "zoo.augment.policies:AutoAugment", "light's crop and flip, then a pair learned on ImageNet (torchvision)"
    ),
    "augmix": RegistryEntry(
        "zoo.augment.policies:AugMix", "light's crop and flip, then three chains of changes, mixed (torchvision)"
    ),
    "imgaug": RegistryEntry(
        "zoo.augment.declared:ImgaugPipeline", "a pipeline of imgaug's augmenters, written in the recipe"
    ),
}
