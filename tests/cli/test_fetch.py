"""`zoo fetch` as a user of a machine that will lose its network."""

from __future__ import annotations

import hashlib
import json
import runpy
import subprocess
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save

from zoo.models import build

pytestmark = pytest.mark.timeout(60)

REPO = "timm/test_resnet.r160_in1k"
NAME = "test_resnet.r160_in1k.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The loopback hub with the weights of one model, and empty caches."""
    loopback = runpy.run_path(str(Path(__file__).parents[1] / "hub" / "loopback.py"))
    with loopback["LoopbackHub"]() as server:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
        server.content = save(timm.create_model("test_resnet").state_dict())
        server.digest = hashlib.sha256(server.content).hexdigest()
        server.add(REPO, "model.safetensors", server.content)
        yield server


def test_one_line_per_file_and_no_second_download(zoo, hub, tmp_path):
    first = zoo("fetch", "test_resnet")
    model, path, size, digest = first.out.rstrip("\n").split("\t")
    assert (first.code, model, int(size), digest) == (0, "test_resnet", len(hub.content), hub.digest)
    assert path.startswith(str(tmp_path / "hf"))
    asked = len(hub.requests)
    second = zoo("fetch", "test_resnet")
    assert second.out == first.out
    assert "test_resnet: already downloaded" in second.err
    assert len(hub.requests) == asked
    assert build("test_resnet", classes=2).weights.sha256 == digest


def test_a_folder_receives_a_file_for_weights_and_its_hash(zoo, hub, tmp_path):
    result = zoo("fetch", "test_resnet", "--to", tmp_path / "away")
    path = tmp_path / "away" / NAME
    assert result.out.split("\t")[1] == str(path)
    assert path.read_bytes() == hub.content
    assert not (tmp_path / "hf").exists()  # not in two places
    checked = subprocess.check_output(["sha256sum", "-c", "SHA256SUMS"], cwd=path.parent, text=True)
    assert checked == f"{NAME}: OK\n"
    assert build("test_resnet", classes=2, weights=str(path)).weights.missing == ()
    hub.answer = 503
    assert "already downloaded" in zoo("fetch", "test_resnet.r160_in1k", "--to", tmp_path / "away").err
    path.write_bytes(hub.content[:-1] + b"!")
    damaged = zoo("fetch", "test_resnet", "--to", tmp_path / "away")
    assert damaged.code == 4
    hub.answer = 200
    assert zoo("fetch", "test_resnet", "--to", tmp_path / "away").code == 0
    assert path.read_bytes() == hub.content


def test_cached_files_are_copied(zoo, hub, tmp_path):
    zoo("fetch", "test_resnet")
    hub.answer = 503
    result = zoo("fetch", "test_resnet", "--to", tmp_path / "away")
    assert (result.code, (tmp_path / "away" / NAME).read_bytes()) == (0, hub.content)


def test_a_failure_does_not_stop_the_other_downloads(zoo, hub, tmp_path):
    result = zoo(
        "fetch", "resnet34", "nonsense", "test_resnet", "botnet50ts_256", "zoo_tiny", "--to", tmp_path / "away"
    )
    assert result.code == 4
    assert [line.split("\t")[0] for line in result.out.splitlines()] == ["test_resnet", "zoo_tiny"]
    assert "resnet34: " in result.err
    assert "3 of 5 were not fetched: resnet34, nonsense, botnet50ts_256" in result.err
    assert "Traceback" not in result.err


def test_json_lists_downloads_and_failures(zoo, hub):
    result = zoo("fetch", "test_resnet", "nonsense", "--json")
    good, bad = json.loads(result.out)
    assert result.code == 4
    assert (good["model"], good["bytes"], good["sha256"], good["downloaded"]) == (
        "test_resnet", len(hub.content), hub.digest, True,
    )  # fmt: skip
    assert good["source"] == f"hf-hub:{REPO}/model.safetensors"
    assert bad["model"] == "nonsense"
    assert "nonsense" in bad["error"]


def test_torchvisions_files_are_fetched_by_their_url(zoo, hub, tmp_path, monkeypatch):
    import dataclasses

    from zoo.workflows import fetch as workflow

    find = workflow.find_weights
    url = hub.add_plain(f"/models/squeezenet1_1-{hub.digest[:8]}.pth", hub.content)

    def elsewhere(name):
        entry, tag = find(name)
        return dataclasses.replace(entry, pretrained=(dataclasses.replace(entry.pretrained[0], url=url),)), tag

    monkeypatch.setattr(workflow, "find_weights", elsewhere)
    path = Path(zoo("fetch", "torchvision/squeezenet1_1").out.split("\t")[1])
    assert path == tmp_path / "torch" / "checkpoints" / f"squeezenet1_1-{hub.digest[:8]}.pth"
    result = zoo("fetch", "torchvision/squeezenet1_1", "--to", tmp_path / "away")
    assert result.out.split("\t")[1] == str(tmp_path / "away" / "torchvision-squeezenet1_1.IMAGENET1K_V1.pth")


def test_a_repository_comes_with_its_config(zoo, hub, tmp_path):
    hub.add("owner/tuned", "model.safetensors", hub.content)
    cfg = {"mean": [0.1, 0.2, 0.3], "input_size": [3, 64, 64]}
    config = json.dumps({"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": cfg})
    hub.add("owner/tuned", "config.json", config.encode(), regular=True)
    result = zoo("fetch", "hf-hub:owner/tuned", "--to", tmp_path / "away")
    folder = tmp_path / "away" / "owner--tuned"
    assert result.out.split("\t")[1] == str(folder / "model.safetensors")
    model = build("test_resnet", classes=3, weights=f"local-dir:{folder}")
    assert model.preprocess.mean == (0.1, 0.2, 0.3)
    assert set(load_file(folder / "model.safetensors")) == set(model.module.state_dict())
    assert zoo("fetch", "hf-hub:owner/tuned").code == 0
    hub.answer = 503
    assert "already downloaded" in zoo("fetch", "hf-hub:owner/tuned", "--to", tmp_path / "away").err
    assert build("test_resnet", classes=3, weights="hf-hub:owner/tuned").preprocess.mean == (0.1, 0.2, 0.3)


def test_a_folder_that_cannot_be_written_is_named(zoo, hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    result = zoo("fetch", "test_resnet", "--to", tmp_path / "file")
    assert (result.code, "is a file" in result.err) == (2, True)
    result = zoo("fetch", "test_resnet", "zoo_tiny", "--to", tmp_path / "file" / "inside")
    assert result.code == 4
    assert f"cannot write weights to {tmp_path / 'file' / 'inside'}" in result.err
    assert "--to DIR" in result.err
    result = zoo("fetch")
    assert result.code == 2


def test_a_full_disk_is_named(zoo, hub, tmp_path, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=7))
    result = zoo("fetch", "test_resnet", "--to", tmp_path / "away")
    assert result.code == 4
    assert "no space left" in result.err
    assert "7 bytes free" in result.err
