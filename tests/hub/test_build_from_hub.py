"""Pretrained weights from a hub and from torchvision's server into a model."""

from __future__ import annotations

import hashlib
import io

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save

from zoo.errors import WeightsError
from zoo.models import build

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


def test_the_published_head_is_kept_without_classes(hub):
    published = timm.create_model("test_vit").state_dict()
    hub.add("timm/test_vit.r160_in1k", "model.safetensors", save(published))
    model = build("test_vit")
    assert model.classes == 1000
    assert all(torch.equal(t, published[k]) for k, t in model.module.state_dict().items())
    assert model.weights.adapted == ()


def test_torchvision_weights_are_fetched_checked_and_loaded_without_unpickling_code(hub, tmp_path, monkeypatch):
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


class Run:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (exec, (f"open({str(self.folder / 'ran')!r}, 'w')",))


def serve_at(monkeypatch, url):
    """Have the catalog say that SqueezeNet's weights are at `url`."""
    import dataclasses

    from zoo.models import factory

    find = factory.find_weights

    def elsewhere(name):
        entry, tag = find(name)
        moved = dataclasses.replace(entry.pretrained[0], url=url)
        return dataclasses.replace(entry, pretrained=(moved,)), tag

    monkeypatch.setattr(factory, "find_weights", elsewhere)
