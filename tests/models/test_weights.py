"""Files of weights: what is understood, adapted, refused, and that the result is timm's own."""

from __future__ import annotations

import hashlib

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from zoo.errors import WeightsError
from zoo.models import build, record


@pytest.fixture
def vit_file(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    return path


# One of each kind of adaptation: plain, its own filter, positions, relative positions, several heads, a repeated stem.
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {"num_classes": 10, "in_chans": 1}),
        ("test_resnet", {"num_classes": 10, "in_chans": 5}),
        ("test_vit", {"num_classes": 10, "in_chans": 1, "img_size": 96}),
        ("test_convnext", {"num_classes": 10, "in_chans": 2}),
        ("test_efficientnet", {"num_classes": 1000, "in_chans": 4}),
        ("deit_tiny_distilled_patch16_224", {"num_classes": 10, "in_chans": 1, "img_size": 64}),
        ("tresnet_m", {"num_classes": 10, "in_chans": 1}),
        ("swin_tiny_patch4_window7_224", {"num_classes": 10, "in_chans": 1, "img_size": 112}),
    ],
)
def test_the_result_is_what_timm_makes_of_the_same_file(name, options, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(timm.create_model(name).state_dict(), path)
    model = build(
        name,
        classes=options["num_classes"],
        in_chans=options["in_chans"],
        img_size=options.get("img_size"),
        weights=str(path),
    )
    theirs = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options)
    mine, expected = model.module.state_dict(), theirs.state_dict()
    assert list(mine) == list(expected)
    for key, tensor in expected.items():
        if options["num_classes"] == 1000 or not key.startswith(tuple(f"{h}." for h in model.head)):
            assert torch.equal(mine[key], tensor), key
    stem = [line for line in model.weights.adapted if ": stem," in line]
    assert len(stem) == 1


def test_position_embeddings_are_resampled_and_reported(vit_file):
    model = build("test_vit", classes=3, img_size=64, weights=str(vit_file))
    assert "pos_embed: resampled, (1, 101, 64) -> (1, 17, 64)" in model.weights.adapted
    assert model.preprocess.input_size == (3, 64, 64)


def test_torchvision_positions_are_resampled_as_torchvision_does(tmp_path):
    path = tmp_path / "w.pth"
    published = torchvision.models.vit_b_32(num_classes=2).state_dict()
    torch.save(published, path)
    model = build("torchvision/vit_b_32", classes=2, img_size=64, weights=str(path))
    expected = torchvision.models.vision_transformer.interpolate_embeddings(64, 32, dict(published))
    key = "encoder.pos_embedding"
    assert torch.allclose(model.module.state_dict()[key], expected[key])
    assert f"{key}: resampled, (1, 50, 768) -> (1, 5, 768)" in model.weights.adapted


def test_a_grey_model_gives_what_the_rgb_model_gives_for_equal_channels(tmp_path):
    path = tmp_path / "w.pth"
    rgb = torchvision.models.resnet18(num_classes=4).eval()
    torch.save(rgb.state_dict(), path)
    grey = build("torchvision/resnet18", classes=4, in_chans=1, weights=str(path)).module.eval()
    images = torch.randn(2, 1, 64, 64)
    assert torch.allclose(grey(images), rgb(images.expand(-1, 3, -1, -1)), atol=1e-4)


def test_weights_for_other_channels_than_three_are_a_start_too(tmp_path):
    path = tmp_path / "w.safetensors"
    grey = timm.create_model("test_resnet", in_chans=1).state_dict()
    save_file(grey, path)
    loaded = build("test_resnet", classes=2, in_chans=2, weights=str(path)).module.state_dict()
    assert torch.allclose(loaded["conv1.0.weight"], grey["conv1.0.weight"].repeat(1, 2, 1, 1) / 2)


def test_the_head_of_a_file_is_loaded_if_it_fits(tmp_path):
    path = tmp_path / "w.safetensors"
    tuned = timm.create_model("test_resnet", num_classes=6).state_dict()
    save_file(tuned, path)
    for classes in (6, None):
        model = build("test_resnet", classes=classes, weights=str(path))
        assert model.classes == 6
        assert torch.equal(model.module.state_dict()["fc.weight"], tuned["fc.weight"])
    other = build("test_resnet", classes=5, weights=str(path))
    assert "fc.weight: new head, (6, 96) -> (5, 96)" in other.weights.adapted


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {"model": {k: t + 1 for k, t in s.items()}, "model_ema": s},
        lambda s: {f"module.{k}": t for k, t in s.items()},
        lambda s: {"state_dict": {f"module._orig_mod.{k}": t for k, t in s.items()}},
    ],
    ids=["bare", "state_dict", "model", "model_ema", "module.", "compiled"],
)
def test_wrappings_are_understood(wrap, tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    for suffix in (".pth", ".pt", ".bin"):
        torch.save(wrap(state), tmp_path / f"w{suffix}")
        loaded = build("test_resnet", weights=str(tmp_path / f"w{suffix}"))
        assert torch.equal(loaded.module.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
        assert loaded.weights.unexpected == ()


def test_a_run_directory_gives_its_weights(tmp_path):
    tuned = build("test_resnet", classes=4, weights="none")
    (tmp_path / "run").mkdir()
    save_file(tuned.module.state_dict(), tmp_path / "run" / "model.safetensors")
    model = build("test_resnet", classes=4, weights=str(tmp_path / "run"))
    assert torch.equal(model.module.state_dict()["fc.weight"], tuned.module.state_dict()["fc.weight"])
    digest = hashlib.sha256((tmp_path / "run" / "model.safetensors").read_bytes()).hexdigest()
    assert record(model)["weights"]["sha256"] == digest


def test_a_backbone_without_head_loads_whole(tmp_path):
    path = tmp_path / "w.safetensors"
    state = timm.create_model("test_vit").state_dict()
    save_file({k: t.half() for k, t in state.items() if not k.startswith("head.")}, path)
    report = build("test_vit", classes=3, weights=str(path)).weights
    assert report.loaded == len(state) - 2
    assert report.missing == ()


def test_torchvisions_mnasnet_takes_tensors_without_versions(tmp_path):
    path = tmp_path / "w.safetensors"
    state = torchvision.models.mnasnet0_5(num_classes=2).state_dict()
    save_file(state, path)
    loaded = build("torchvision/mnasnet0_5", classes=2, weights=str(path)).module.state_dict()
    assert all(torch.equal(loaded[k], state[k]) for k in state)


def test_torchvisions_auxiliary_heads_and_old_names_are_understood(tmp_path):
    path = tmp_path / "w.pth"
    state = torchvision.models.googlenet(num_classes=2, init_weights=False, aux_logits=True).state_dict()
    torch.save(state, path)
    model = build("torchvision/googlenet", classes=2, weights=str(path))
    assert (model.weights.loaded, model.weights.unexpected) == (len(state), ())
    state = torchvision.models.densenet121(num_classes=2).state_dict()
    old = {k.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): t for k, t in state.items()}
    torch.save(old, path)
    loaded = build("torchvision/densenet121", classes=2, weights=str(path)).module.state_dict()
    assert all(torch.equal(loaded[k], state[k]) for k in state)


def test_another_models_weights_are_refused_with_the_first_mismatches(vit_file):
    for name in ("test_resnet", "deit_tiny_patch16_224", "torchvision/resnet18"):
        with pytest.raises(WeightsError, match=f"do not fit {name}") as e:
            build(name, classes=3, weights=str(vit_file))
        assert e.value.message.count(";") >= 3
        assert "backbone" in e.value.message


def test_the_architectures_that_would_fit_are_named(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({f"module.{k}": t for k, t in timm.create_model("resnet18", num_classes=5).state_dict().items()}, path)
    with pytest.raises(WeightsError, match="do not fit resnet34") as e:
        build("resnet34", classes=2, weights=str(path))
    assert "they fit resnet18" in e.value.hint
    assert "torchvision/resnet18" in e.value.hint
    assert str(path) in e.value.message
    with pytest.raises(WeightsError) as e:
        build("test_vit", classes=2, weights=str(path))
    assert "resnet18" in e.value.hint


def test_averaged_weights_are_preferred_and_reported(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    torch.save({"state_dict": {k: t + 1 for k, t in state.items()}, "state_dict_ema": state}, tmp_path / "w.pth")
    model = build("test_resnet", weights=str(tmp_path / "w.pth"))
    assert torch.equal(model.module.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert "from its averaged weights (state_dict_ema)" in model.weights.summary()
    assert record(model)["weights"]["part"] == "its averaged weights (state_dict_ema)"


@pytest.mark.parametrize(("name", "in_chans"), [("test_vit", 3), ("test_resnet", 1), ("torchvision/squeezenet1_1", 1)])
def test_an_export_is_a_start_by_its_folder(name, in_chans, make_run, tmp_path):
    from zoo.workflows.export import export

    run = make_run(name, ("a", "b", "c"), in_chans=in_chans)
    folder = export(run, "safetensors", output_dir=tmp_path / "export").folder
    for weights in (f"local-dir:{folder}", str(folder)):
        model = build(name, weights=weights, in_chans=in_chans)
        assert model.classes == 3
        assert model.weights.missing == ()
        assert model.preprocess.mean == tuple(run.model_record()["preprocess"]["mean"])
        ours = run.weights()
        assert all(torch.equal(t, ours[k]) for k, t in model.module.state_dict().items())
    with pytest.raises(WeightsError, match=f"has weights of {name}, not of resnet18"):
        build("resnet18", weights=f"local-dir:{folder}")
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json of .* cannot be read"):
        build(name, weights=f"local-dir:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json of .* is missing"):
        build(name, weights=f"local-dir:{folder}")
    assert build(name, weights=str(folder), in_chans=in_chans).classes == 3  # the weights alone


def test_a_run_of_another_architecture_is_refused_with_both_names(make_run):
    run = make_run("test_vit", ("a", "b"))
    with pytest.raises(WeightsError, match="has weights of test_vit, not of test_resnet"):
        build("test_resnet", weights=str(run.path))
    run.weights_file.unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors yet"):
        build("test_vit", weights=str(run.path))


def test_folders_that_are_none(tmp_path):
    with pytest.raises(WeightsError, match="is not a folder"):
        build("test_vit", weights="local-dir:absent")
    with pytest.raises(WeightsError, match="has no model"):
        build("test_vit", weights=f"local-dir:{tmp_path}")
    with pytest.raises(WeightsError, match="is not a repository name"):
        build("test_vit", weights="hf-hub:nothing")


def _nan(path):
    state = timm.create_model("test_resnet").state_dict()
    state["layer1.0.conv1.weight"][0] = float("nan")
    save_file(state, path)


def _code(path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"state_dict": Evil()}, path)


BROKEN = {
    "nan.safetensors": (_nan, "layer1.0.conv1.weight has non-finite numbers"),
    "code.pth": (_code, "refused"),
    "text.pth": (lambda p: p.write_text("<html>not found</html>"), "damaged or not a weights file"),
    "empty.bin": (lambda p: p.write_bytes(b""), "damaged or not a weights file"),
    "text.safetensors": (lambda p: p.write_text("<html>not found</html>"), "not a safetensors file"),
    "nothing.safetensors": (lambda p: save_file({}, p), "has no tensors"),
    "list.pt": (lambda p: torch.save([1, 2], p), "has no tensors"),
    "half.pth": (lambda p: p.write_bytes(_saved()[:5000]), "damaged or not a weights file"),
    "absent.pth": (lambda p: None, "no weights file"),
    "folder": (lambda p: p.mkdir(), "has no model.safetensors"),
}


def _saved():
    import io

    buffer = io.BytesIO()
    torch.save(timm.create_model("test_resnet").state_dict(), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_reason(name, tmp_path, capsys):
    make, message = BROKEN[name]
    make(tmp_path / name)
    with pytest.raises(WeightsError) as e:
        build("test_resnet", weights=str(tmp_path / name))
    assert message in e.value.message
    assert str(tmp_path / name) in e.value.message
    assert "weights_only" not in str(e.value)
    assert "executed" not in capsys.readouterr().out


def test_a_word_that_is_no_weights_lists_the_tags():
    with pytest.raises(WeightsError, match="'a1' is neither a tag") as e:
        build("resnet34", weights="a1")
    assert "a1_in1k" in e.value.hint
    with pytest.raises(WeightsError, match="has no pretrained weights"):
        build("botnet50ts_256", weights="default")


def test_the_built_in_weights_load_without_network():
    model = build("zoo_tiny", classes=10)
    assert model.weights.source == "builtin:zoo_tiny"
    assert model.weights.missing == ()
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
