"""Models with pretrained weights from a hub and from torchvision's server."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save

from zoo.errors import WeightsError
from zoo.models import build, load_strict, rebuild, record

pytestmark = pytest.mark.timeout(120)


def test_the_default_weights_come_from_the_hub_and_are_reported(hub, commit):
    published = timm.create_model("test_resnet").state_dict()
    content = save(published)
    hub.add("timm/test_resnet.r160_in1k", "model.safetensors", content)
    model = build("test_resnet", classes=4)
    report = model.weights
    assert report.source == "hf-hub:timm/test_resnet.r160_in1k/model.safetensors"
    assert (report.revision, report.sha256) == (commit, hashlib.sha256(content).hexdigest())
    loaded = model.module.state_dict()
    assert all(torch.equal(loaded[k], published[k]) for k in published if not k.startswith("fc."))
    assert report.loaded == len(published) - 2
    assert [line.partition(":")[0] for line in report.adapted] == ["fc.weight", "fc.bias"]
    assert (report.missing, report.unexpected) == ((), ())


def test_the_published_head_is_loaded_without_classes(hub):
    published = timm.create_model("test_vit").state_dict()
    hub.add("timm/test_vit.r160_in1k", "model.safetensors", save(published))
    model = build("test_vit")
    assert model.classes == 1000
    assert all(torch.equal(t, published[k]) for k, t in model.module.state_dict().items())
    assert model.weights.adapted == ()


def test_torchvision_weights_are_downloaded_verified_and_loaded_without_unpickling_code(hub, tmp_path, monkeypatch):
    published = torchvision.models.squeezenet1_1().state_dict()
    buffer = io.BytesIO()
    torch.save(published, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    url = hub.add_plain(f"/models/squeezenet1_1-{digest[:8]}.pth", buffer.getvalue())
    serve_at(monkeypatch, url)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    model = build("torchvision/squeezenet1_1", classes=3, in_chans=1)
    state = model.module.state_dict()
    assert torch.equal(state["features.0.weight"], published["features.0.weight"].sum(1, keepdim=True))
    assert torch.equal(state["features.12.squeeze.weight"], published["features.12.squeeze.weight"])
    assert state["classifier.1.weight"].shape == (3, 512, 1, 1)
    assert (model.weights.source, model.weights.sha256) == (url, digest)


def test_code_in_a_torchvision_file_is_refused(hub, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    torch.save({"weight": Run(tmp_path)}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    serve_at(monkeypatch, hub.add_plain(f"/models/evil-{digest[:8]}.pth", buffer.getvalue()))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    with pytest.raises(WeightsError, match="refused"):
        build("torchvision/squeezenet1_1")
    assert not (tmp_path / "ran").exists()


def test_code_in_the_torch_cache_is_refused(tmp_path, monkeypatch):
    """torchvision's own loader would execute it: the hash in its name is correct."""
    buffer = io.BytesIO()
    torch.save({"weight": Run(tmp_path)}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    cached = tmp_path / "torch" / "hub" / "checkpoints" / f"evil-{digest[:8]}.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(buffer.getvalue())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    serve_at(monkeypatch, f"http://127.0.0.1:9/{cached.name}")
    with pytest.raises(WeightsError, match="would execute code"):
        build("torchvision/squeezenet1_1")
    assert not (tmp_path / "ran").exists()


def test_code_in_a_file_of_the_hub_is_refused(hub, tmp_path):
    buffer = io.BytesIO()
    torch.save({"state_dict": {"weight": Run(tmp_path)}}, buffer)
    hub.add("timm/test_resnet.r160_in1k", "pytorch_model.bin", buffer.getvalue())
    with pytest.raises(WeightsError, match="would execute code") as e:
        build("test_resnet")
    assert "pytorch_model.bin" in e.value.message
    assert not (tmp_path / "ran").exists()


def test_an_unreadable_file_of_unknown_hash_is_downloaded_again(hub, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    torch.save(torchvision.models.squeezenet1_1().state_dict(), buffer)
    serve_at(monkeypatch, hub.add_plain("/models/plain.pth", buffer.getvalue()))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    cached = tmp_path / "checkpoints" / "plain.pth"
    cached.parent.mkdir()
    cached.write_bytes(bytes(len(buffer.getvalue())))  # of the right size, by another program
    assert build("torchvision/squeezenet1_1", classes=2).weights.loaded > 0
    assert cached.read_bytes() == buffer.getvalue()


def repository(hub, name="owner/tuned", architecture="test_vit", classes=6, weights="model.safetensors", **config):
    """A repository in timm's format; returns its tensors."""
    state = timm.create_model(architecture, num_classes=classes, **config.get("model_args", {})).state_dict()
    cfg = {"input_size": [3, 160, 160], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "classifier": "head"}
    values = {"architecture": architecture, "num_classes": classes, "pretrained_cfg": cfg, **config}
    hub.add(name, "config.json", json.dumps(values).encode(), regular=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    hub.add(name, weights, save(state) if weights.endswith(".safetensors") else buffer.getvalue())
    return state


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_repository_provides_weights_head_and_statistics(weights, hub, commit):
    state = repository(hub, weights=weights)
    model = build("test_vit", weights="hf-hub:owner/tuned")
    assert model.classes == 6
    assert all(torch.equal(t, state[k]) for k, t in model.module.state_dict().items())
    assert (model.preprocess.mean, model.preprocess.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (model.weights.source, model.weights.revision) == (f"hf-hub:owner/tuned/{weights}", commit)
    other = build("test_vit", classes=2, in_chans=1, weights=f"hf-hub:owner/tuned@{commit}")
    assert (other.classes, other.preprocess.channels) == (2, 1)
    assert "head replaced (6 -> 2 classes), first convolution adapted 3 -> 1 channels" in other.weights.summary()


def test_model_args_of_a_repository_are_used(hub):
    state = repository(hub, model_args={"img_size": 96, "embed_dim": 48, "num_heads": 3})
    model = build("test_vit", weights="hf-hub:owner/tuned", classes=6)
    assert all(torch.equal(t, state[k]) for k, t in model.module.state_dict().items())
    again = rebuild(record(model))
    load_strict(again.module, model.module.state_dict())


def test_a_repository_of_another_architecture_is_refused_before_its_weights_are_downloaded(hub):
    repository(hub)
    with pytest.raises(WeightsError, match="hf-hub:owner/tuned has weights of test_vit, not of test_resnet"):
        build("test_resnet", weights="hf-hub:owner/tuned")
    assert hub.downloads() == 1


def test_a_hostile_config_json_takes_no_memory(hub):
    repository(hub, num_classes=10**10)
    with pytest.raises(WeightsError, match=r"config\.json of hf-hub:owner/tuned has num_classes = 10000000000"):
        build("test_vit", weights="hf-hub:owner/tuned")
    hub.add("owner/none", "model.safetensors", b"")
    with pytest.raises(WeightsError, match=r"owner/none .*has no file config\.json"):
        build("test_vit", weights="hf-hub:owner/none")


def test_a_repository_in_the_cache_needs_no_hub(hub, silent):
    repository(hub)
    build("test_vit", weights="hf-hub:owner/tuned")
    hub.answer = silent
    assert build("test_vit", weights="hf-hub:owner/tuned").classes == 6


class Run:
    """Writes a file when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (exec, (f"open({str(self.folder / 'ran')!r}, 'w')",))


def serve_at(monkeypatch, url):
    """Set the URL of SqueezeNet's weights in the catalog."""
    import dataclasses

    from zoo.models import factory

    find = factory.find_weights

    def elsewhere(name):
        entry, tag = find(name)
        moved = dataclasses.replace(entry.pretrained[0], url=url)
        return dataclasses.replace(entry, pretrained=(moved,)), tag

    monkeypatch.setattr(factory, "find_weights", elsewhere)
