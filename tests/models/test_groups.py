"""The partition stem → stages → head: exact, in forward order, the head exactly the classifier."""

from __future__ import annotations

import warnings

import pytest
import torch

from zoo.catalog.index import load_index
from zoo.models import build_on_meta

# Families that differ in how their groups are found: own rules, corrected rules, no rules, norms and necks after the
# last stage, several heads, shared modules.
FAMILIES = [
    "test_resnet",
    "test_vit",
    "test_convnext",
    "test_efficientnet",
    "test_coatnet",
    "test_byobnet",
    "cait_xxs24_224",
    "caformer_s18",
    "rdnet_tiny",
    "pit_ti_224",
    "vgg11_bn",
    "efficientvim_m1",
    "deit_tiny_distilled_patch16_224",
    "volo_d1_224",
    "coat_tiny",
    "mobilenetv3_small_050",
    "swin_tiny_patch4_window7_224",
    "inception_v3",
    "zoo_tiny",
    "torchvision/vgg11_bn",
    "torchvision/convnext_tiny",
    "torchvision/googlenet",
    "torchvision/inception_v3",
    "torchvision/maxvit_t",
    "torchvision/vit_b_16",
]
# coat shares one position encoding among all blocks of a scale; it belongs to the stem of that scale.
SHARED = {"coat_lite_medium", "coat_tiny"}
# csatv2 normalises with three constants of its own.
RGB_ONLY = {"csatv2", "csatv2_21m"}
CHUNKS = 8


def one_of_each_family() -> list[str]:
    """The smallest test model of every module of timm, or its first model; every classifier of torchvision."""
    index = load_index()
    families: dict[str, str] = {}
    for name in index:
        entry = index[name]
        if entry.source == "timm" and (entry.family not in families or name.startswith("test_")):
            families[entry.family] = name
    return [*families.values(), *(n for n in index if index[n].source == "torchvision")]


@pytest.mark.parametrize("name", FAMILIES)
def test_groups_are_an_ordered_partition_and_the_head_is_the_classifier(name, check_structure):
    check(name, check_structure)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_groups_of_every_family_follow_the_forward_pass(chunk, check_structure):
    failures = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in one_of_each_family()[chunk::CHUNKS]:
            try:
                check(name, check_structure)
            except (AssertionError, RuntimeError) as e:
                failures[name] = str(e)[:200]
    assert failures == {}


def check(name, check_structure):
    channels = 3 if name in RGB_ONLY else 4
    model = check_structure(name, classes=7, in_chans=channels)
    # The head is what changes with the number of classes; the auxiliary ones, which are no part of it, do so too.
    other = dict(build_on_meta(name, classes=9, in_chans=channels).module.named_parameters())
    changed = {n for n, p in model.module.named_parameters() if p.shape != other[n].shape}
    auxiliary = {n for n in changed if n.lower().startswith("aux") and model.auxiliary is not None}
    assert changed - auxiliary
    assert changed - auxiliary <= set(model.groups[-1].parameters)

    logits, late = run_in_order(model)
    assert logits.shape == (1, 7)
    assert name in SHARED or late == []


def run_in_order(model):
    """The output, and modules with parameters that run after one of a later group has."""
    owner = {n: i for i, g in enumerate(model.groups) for n in g.parameters}
    called: dict[str, int] = {}

    def hook(path, group):
        def note(*_):
            called.setdefault(path, group)

        return note

    for path, part in model.module.named_modules():
        own = [n for n, _ in part.named_parameters(path, recurse=False)]
        if own and path:
            part.register_forward_pre_hook(hook(path, owner[own[0]]))
    model.module.eval()
    logits = model.module(torch.empty(1, *model.preprocess.input_size, device="meta"))
    latest, late = 0, []
    for path, group in called.items():
        if group < latest:
            late.append(path)
        latest = max(latest, group)
    return logits, late


def groups_of(name, **options):
    return {g.name: g for g in build_on_meta(name, classes=5, **options).groups}


def test_norms_before_the_classifier_belong_to_the_last_stage():
    vit = groups_of("test_vit")
    assert vit["stage6"].parameters[-2:] == ("norm.weight", "norm.bias")
    assert vit["stem"].parameters == ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias")
    assert groups_of("test_convnext")["stage4"].parameters[-2:] == ("head.norm.weight", "head.norm.bias")
    assert groups_of("torchvision/densenet121")["stage4"].buffers[-3].startswith("features.norm5")


def test_hidden_layers_before_the_classifier_are_a_stage_of_their_own():
    assert groups_of("torchvision/alexnet")["stage5"].modules[:2] == ("classifier.0", "classifier.1")
    assert groups_of("torchvision/mobilenet_v3_small")["stage13"].parameters == (
        "classifier.0.weight",
        "classifier.0.bias",
    )


def test_dropout_before_the_classifier_is_the_heads():
    assert groups_of("test_vit")["head"].modules == ("fc_norm", "head_drop", "head")
    assert "classifier" in groups_of("torchvision/efficientnet_b0")["head"].modules


def test_distilled_models_have_two_heads():
    head = groups_of("deit_tiny_distilled_patch16_224")["head"]
    assert head.parameters == ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
