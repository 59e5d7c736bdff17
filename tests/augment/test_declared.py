"""Pipelines of imgaug as plain data: every augmenter, every form of value, every mistake."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from zoo.augment import make_augment, problems
from zoo.augment.imgaug_compat import load_imagecorruptions, load_imgaug, reproducible
from zoo.augment.imgaug_spec import UNSUPPORTED, PipelineParser, augmenters
from zoo.errors import RecipeError, UsageError
from zoo.preprocess import Preprocess

ia = load_imgaug()
iaa = ia.augmenters
iap = ia.parameters

LAYER = {"density": 0.2, "density_uniformity": 0.9, "angle": 5, "speed": 0.05, "blur_sigma_fraction": 0.01}
ADD = [{"Add": 60}]
# What the others cannot be built or seen without; every other augmenter runs by its name alone.
ARGUMENTS = {
    "AssertShape": {"shape": {"tuple": [1, 48, 48, 3]}},
    "ChangeColorspace": "HSV",
    "CloudLayer": {
        "intensity_mean": 220, "intensity_freq_exponent": [-2.5, -2], "intensity_coarse_scale": 2, "alpha_min": 0,
        "alpha_multiplier": 0.5, "alpha_size_px_max": 8, "alpha_freq_exponent": -2, "sparsity": 0.9,
        "density_multiplier": 0.8,
    },
    "RainLayer": LAYER | {"drop_size": 0.3, "drop_size_uniformity": 0.5},
    "SnowflakesLayer": LAYER | {"flake_size": 0.3, "flake_size_uniformity": 0.5},
    "KeepSizeByResize": [{"Crop": {"px": [1, 9], "keep_size": False}}],
    "OneOf": [{"Add": 60}, {"Fliplr": 1.0}],
    "RemoveCBAsByOutOfImageFraction": 0.5,
    "ReplaceElementwise": {"mask": 0.1, "replacement": {"normal": [128, 30]}},
    "Resize": [20, 40],
    "Voronoi": {"points_sampler": {"RegularGridPointsSampler": [5, 5]}},
    "BlendAlphaCheckerboard": {"nb_rows": 2, "nb_cols": [2, 4], "foreground": ADD},
    "BlendAlphaRegularGrid": {"nb_rows": 2, "nb_cols": [2, 4], "foreground": ADD},
    "BlendAlphaMask": {"mask_generator": {"CheckerboardMaskGen": {"nb_rows": 2, "nb_cols": 3}}, "foreground": ADD},
    "WithColorspace": {"to_colorspace": "HSV", "children": ADD},
    "WithPolarWarping": {"children": ADD},
    "SomeOf": {"n": [1, None], "children": ADD},
    "Sometimes": {"p": 0.5, "then_list": ADD, "else_list": [{"Fliplr": 1.0}]},
    "Fliplr": 0.5,
    "Flipud": 0.5,
    "Rot90": [0, 3],
    "Affine": {"rotate": [-20, 20]},
    "AffineCv2": {"rotate": [-20, 20]},
    "pillike.Affine": {"rotate": [-20, 20]},
    "Convolve": {"matrix": {"array": [[0, 1, 0], [1, -4, 1], [0, 1, 0]]}},
    "CropAndPad": {"percent": [-0.2, 0.2]},
    "Crop": {"px": [1, 9]},
    "Pad": {"px": [1, 9]},
    "Jigsaw": {"nb_rows": 4, "nb_cols": 4},
    "UniformVoronoi": 40,
}  # fmt: skip


def arguments(name):
    if name in ARGUMENTS:
        return ARGUMENTS[name]
    if name.startswith("BlendAlpha") or name in (
        "Sequential", "WithBrightnessChannels", "WithChannels", "WithHueAndSaturation",
    ):  # fmt: skip
        return {"foreground" if name.startswith("Blend") else "children": ADD}
    for part, given in (
        ("AspectRatio", {"aspect_ratio": 1.5}),
        ("PadToFixedSize", {"width": 60, "height": 70}),
        ("FixedSize", {"width": 30, "height": 40}),
        ("MultiplesOf", {"width_multiple": 10, "height_multiple": 10}),
        ("PowersOf", {"width_base": 2, "height_base": 3}),
    ):
        if part in name:
            return given
    return None


# These leave an image as it is: boxes and keypoints only, nothing, or a check.
IDLE = ("AssertShape", "ClipCBAsToImagePlanes", "RemoveCBAsByOutOfImageFraction", "Identity", "Noop")
# These change nothing by their defaults, or nothing of a square of 48 pixels.
RARE = ("CenterCropToSquare", "CropToSquare", "CenterPadToSquare", "PadToSquare", "Dropout2d", "TotalDropout",
        "ChannelShuffle", "CropToMultiplesOf", "CenterCropToMultiplesOf")  # fmt: skip


@pytest.fixture
def build(preprocess):
    def make(*pipeline, **params):
        return make_augment("imgaug", preprocess=preprocess, flips=True, params={"pipeline": list(pipeline), **params})

    return make


@pytest.mark.parametrize("name", sorted(augmenters()))
def test_every_augmenter_runs_from_a_recipe_on_a_real_image(build, photo, name):
    if name in UNSUPPORTED:
        (problem,) = problems("imgaug", {"pipeline": [name]})
        assert problem == f"augment.params.pipeline[0]: {name} {UNSUPPORTED[name]}"
        return
    if name.startswith("imgcorruptlike."):
        try:
            load_imagecorruptions()
        except UsageError:
            (problem,) = problems("imgaug", {"pipeline": [name]})
            assert "need the package imagecorruptions" in problem
            assert "pip install" in problem
            return
    given = arguments(name)
    augment = build(name if given is None else {name: given})
    seeds = [*range(6), *range(6)]
    results = [augment(photo, np.random.default_rng(seed)) for seed in seeds]
    assert all(r.dtype == np.uint8 and r.shape == (48, 48, 3) for r in results)
    assert all(np.array_equal(a, b) for a, b in zip(results[:6], results[6:], strict=True))
    changed = any(not np.array_equal(r, build("Identity")(photo, np.random.default_rng(0))) for r in results)
    assert changed != (name in IDLE) or name in RARE


def test_there_are_188_of_them():
    assert len(augmenters()) == 188


def test_declared_pipeline_equals_the_code(build, photo, preprocess):
    declared = build(
        {"Fliplr": 0.5},
        {"Affine": {"rotate": [-25, 25], "scale": {"x": [0.8, 1.2], "y": 1.1}, "mode": ["edge", "reflect"]}},
        {"Sometimes": {"p": 0.7, "then_list": [{"GaussianBlur": [0, 2.0]}, {"Add": {"normal": [0, 20]}}]}},
        {"OneOf": [{"Multiply": {"choice": [0.5, 1.5]}}, {"Sequential": {"children": ["CLAHE", {"Invert": 0.5}],
                                                                         "random_order": True}}]},
        {"SomeOf": {"n": [0, None], "children": [{"Add": 9}, {"CropAndPad": {"px": {"tuple": [1, 2, 3, 4]}}}]}},
        {"BlendAlpha": {"factor": [0.2, 0.8], "foreground": {"Grayscale": 1.0}}},
        {"AddElementwise": {"value": {"clip": {"other_param": {"normal": {"loc": [0, 5], "scale": 9}}, "minval": -9,
                                               "maxval": 9}}}},
    )  # fmt: skip
    by_hand = iaa.Sequential(
        [
            iaa.Fliplr(0.5),
            iaa.Affine(rotate=(-25, 25), scale={"x": (0.8, 1.2), "y": 1.1}, mode=["edge", "reflect"]),
            iaa.Sometimes(0.7, [iaa.GaussianBlur((0, 2.0)), iaa.Add(iap.Normal(0, 20))]),
            iaa.OneOf(
                [
                    iaa.Multiply(iap.Choice([0.5, 1.5])),
                    iaa.Sequential([iaa.CLAHE(), iaa.Invert(0.5)], random_order=True),
                ]
            ),
            iaa.SomeOf((0, None), [iaa.Add(9), iaa.CropAndPad(px=(1, 2, 3, 4))]),
            iaa.BlendAlpha((0.2, 0.8), foreground=iaa.Grayscale(1.0)),
            iaa.AddElementwise(iap.Clip(iap.Normal((0, 5), 9), -9, 9)),
        ]
    )
    code = reproducible(by_hand)
    fitted = build("Identity")(photo, np.random.default_rng(0))
    for seed in range(12):
        expected = code(fitted.copy(), np.random.default_rng(seed))
        assert np.array_equal(declared(photo, np.random.default_rng(seed)), expected)


def test_it_follows_the_generator_in_another_process_too(build, photo):
    augment = build({"Rain": None}, {"Affine": {"rotate": [-9, 9]}}, scale=[0.3, 1])
    first = [augment(photo, np.random.default_rng(s)) for s in range(4)]
    np.random.seed(0)
    ia.seed(7)
    other = pickle.loads(pickle.dumps(augment))
    for s in reversed(range(4)):
        assert np.array_equal(other(photo, np.random.default_rng(s)), first[s])
    assert not np.array_equal(first[0], first[1])


def test_scale_takes_the_crop_of_light(build, photo):
    whole, crops = build("Identity"), build("Identity", scale=[0.2, 0.4])
    views = [crops(photo, np.random.default_rng(s)) for s in range(4)]
    assert len({v.tobytes() for v in views}) == 4
    assert np.array_equal(whole(photo, np.random.default_rng(0)), whole(photo, np.random.default_rng(1)))


def mistakes(*pipeline) -> list[str]:
    return [p.removeprefix("augment.params.pipeline") for p in problems("imgaug", {"pipeline": list(pipeline)})]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("Afine", "[0]: imgaug has no augmenter 'Afine'; did you mean Affine"),
        ("affine", "did you mean Affine"),
        ("normal", "[0]: normal is a distribution: use it as the value of a parameter"),
        ({"Affine": {"rotat": 5}}, "[0].Affine.rotat is unknown; did you mean rotate?"),
        ({"Affine": {"seed": 5}}, "[0].Affine.seed is set by zoo itself"),
        ({"Affine": {"rotate": [15, -15]}}, "[0].Affine.rotate: a range must rise, [15, -15] falls; write [-15, 15]"),
        ({"Affine": {"scale": {"x": [2, 1]}}}, "[0].Affine.scale.x: a range must rise"),
        ({"Affine": {"rotate": "far"}}, "[0].Affine: imgaug refuses it: Expected"),
        ({"Affine": {"rotate": {"chioce": [1, 5]}}}, "[0].Affine.rotate: {chioce} is no distribution; did you mean ch"),
        (
            {"Affine": {"rotate": {"normal": [0, 1, 2]}}},
            "[0].Affine.rotate.normal: [0, 1, 2] is more than it takes: loc, scale",
        ),
        (
            {"Affine": {"rotate": {"normal": {"loc": 0, "scale": 1, "mean": 0}}}},
            "[0].Affine.rotate.normal.mean is unknown",
        ),
        ({"Add": [3, {"Fliplr": 1}]}, "[0].Add.value[1]: wrong nesting: Fliplr is an augmenter"),
        ({"Sometimes": [{"GaussianBlur": 1}]}, "[0].Sometimes.p[0]: wrong nesting: GaussianBlur is an augmenter"),
        ({"Sometimes": {"then_list": 3}}, "[0].Sometimes.then_list must be a list of augmenters, not 3"),
        ({"OneOf": []}, "[0].OneOf.children is empty"),
        ({"OneOf": [["CLAHE"]]}, "[0].OneOf.children[0]: wrong nesting: a list inside a list"),
        ({"CLAHE": None, "Add": 3}, "[0]: one step has one name, this has CLAHE, Add"),
        ({"Resize": None}, "[0].Resize.size is required"),
        (7, "[0] must be an augmenter's name, or {name: parameters}, not 7"),
        ({"Convolve": {"matrix": {"array": [[1, 2, 3], [4]]}}}, "[0].Convolve.matrix cannot be an array|inhomog"),
        ({"Lambda": None}, "[0]: Lambda takes Python functions, which a recipe cannot hold"),
    ],
)
def test_each_mistake_is_named_with_its_place(step, message):
    (found,) = mistakes(step)
    assert any(part in found for part in message.split("|")), found


def test_all_mistakes_are_found_at_once(preprocess):
    pipeline = ["Afine", {"Sometimes": {"p": 0.5, "then_list": [{"Add": [9, 1]}, {"GausianBlur": 1}]}}]
    assert len(mistakes(*pipeline)) == 3
    both = problems("imgaug", {"pipeline": pipeline, "scale": [1, 0.5], "pipelin": []})
    assert len(both) == 5
    with pytest.raises(RecipeError) as e:
        make_augment("imgaug", preprocess=preprocess, flips=True, params={"pipeline": pipeline})
    assert len(e.value.problems) == 3
    assert problems("imgaug", {}) == ["augment.params.pipeline is required"]
    assert problems("imgaug", {"pipeline": "CLAHE"}) == []
    assert problems("imgaug", {"pipeline": 3}) == ["augment.params.pipeline must be a list of augmenters, not 3"]


@pytest.mark.parametrize(("channels", "fails"), [(1, "AddToHue"), (4, "JpegCompression")])
def test_channels_that_an_augmenter_does_not_know_are_refused_by_name(photo, channels, fails):
    preprocess = Preprocess((channels, 40, 40), (0.5,) * channels, (0.5,) * channels)
    image = np.concatenate([photo, photo[:, :, :1]], axis=2)[:, :, :channels]
    fine = [{"Affine": {"rotate": [-9, 9]}}, {"GaussianBlur": [0, 1]}, "RandAugment" if channels == 1 else "CLAHE"]
    augment = make_augment("imgaug", preprocess=preprocess, flips=True, params={"pipeline": fine})
    assert augment(image, np.random.default_rng(0)).shape == (40, 40, channels)
    with pytest.raises(RecipeError, match=rf"pipeline\[0\].OneOf.children\[0\].{fails}: works on images of 3 chan.*"):
        make_augment("imgaug", preprocess=preprocess, flips=True, params={"pipeline": [{"OneOf": [fails, {"Add": 3}]}]})


def test_a_failure_while_training_names_the_augmenter(build, photo):
    augment = build({"Sometimes": {"p": 1.0, "then_list": ["Identity", {"AssertShape": {"shape": {"tuple": [
        1, 48, 48, {"list": [3]}]}}}]}})  # fmt: skip
    assert augment(photo, np.random.default_rng(0)).shape == (48, 48, 3)
    augment.preprocess = augment.preprocess.with_size(40, 40)
    augment.pipeline.preprocess = augment.preprocess
    with pytest.raises(UsageError, match="AssertShape of the imgaug pipeline failed"):
        augment(photo, np.random.default_rng(0))


def test_containers_are_not_leaf_steps():
    reader = PipelineParser()
    inside = {"WithColorspace": {"to_colorspace": "HSV", "children": ["CLAHE"]}}
    reader.steps([{"Sometimes": {"then_list": ["CLAHE", inside]}}, {"OneOf": ["Fliplr"]}], "p")
    assert [where for where, _ in reader.leaf_steps] == [
        "p[0].Sometimes.then_list[0].CLAHE",
        "p[0].Sometimes.then_list[1].WithColorspace",
        "p[1].OneOf.children[0].Fliplr",
    ]
