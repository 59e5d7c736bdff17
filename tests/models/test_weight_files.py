"""What lies in a file of weights: wrappings that are understood, contents that are refused, code that never runs."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from zoo.errors import WeightsError
from zoo.models.model import WeightsReport
from zoo.models.weight_files import read_weights

STATE = {"conv.weight": torch.arange(12.0).reshape(2, 6), "fc.bias": torch.ones(3)}


class Opens:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    ("wrapped", "part"),
    [
        ({f"model.{k}": t for k, t in STATE.items()}, ""),
        ({"state_dict": {f"net.{k}": t for k, t in STATE.items()}, "epoch": 1, "global_step": 2}, ""),
        ({"state_dict": {f"model.module.{k}": t for k, t in STATE.items()}}, ""),
        ({"model": {k: t + 1 for k, t in STATE.items()}, "state_dict_ema": STATE}, "state_dict_ema"),
        ({"model": {"model_ema": STATE, "model": {}}}, "model_ema"),
        ({"model_ema": {}, "model": STATE}, ""),
        ({"encoder": {f"module.{k}": t for k, t in STATE.items()}, "opt": {"lr": 0.1}}, ""),
        ({"teacher": STATE}, ""),
    ],
    ids=["lightning", "lightning net.", "nested prefixes", "ema", "nested ema", "empty ema", "ijepa", "dino"],
)
def test_wrappings_and_prefixes(wrapped, part, tmp_path):
    for name in ("w.pth", "w.ckpt", "w.pth.tar"):
        torch.save(wrapped, tmp_path / name)
        read = read_weights(tmp_path / name)
        assert {k: t.tolist() for k, t in read.named.items()} == {k: t.tolist() for k, t in STATE.items()}
        assert part in read.part
        assert bool(read.part) == bool(part)


def test_a_prefix_that_only_some_keys_have_is_a_name(tmp_path):
    torch.save({**STATE, "model.extra": torch.ones(1)}, tmp_path / "w.pth")
    assert set(read_weights(tmp_path / "w.pth").named) == {*STATE, "model.extra"}


def test_prefixes_of_safetensors_are_removed_too(tmp_path):
    save_file({f"module.{k}": t for k, t in STATE.items()}, tmp_path / "w.safetensors")
    assert set(read_weights(tmp_path / "w.safetensors").named) == set(STATE)


def test_two_tensors_that_mean_one_are_refused(tmp_path):
    torch.save({**STATE, "module.fc.bias": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"has fc\.bias twice"):
        read_weights(tmp_path / "w.pth")


def _legacy(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _plain_pickle(path, content):
    path.write_bytes(pickle.dumps(content))


def _tar(path, content):
    """The format of torch before 0.1.10, which its loader still knows."""
    data = pickle.dumps(content)
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".tar"])
@pytest.mark.parametrize("write", [lambda p, c: torch.save(c, p), _legacy, _plain_pickle, _tar])
@pytest.mark.parametrize("where", ["alone", "next to tensors", "in the wrapping"])
def test_code_in_a_pickle_never_runs(suffix, write, where, tmp_path):
    evil = Opens(tmp_path / "ran")
    content = {"alone": evil, "next to tensors": {**STATE, "x": evil}, "in the wrapping": {"state_dict": evil}}[where]
    path = tmp_path / f"w{suffix}"
    write(path, content)
    with pytest.raises(WeightsError) as e:
        read_weights(path)
    assert not (tmp_path / "ran").exists()
    assert str(path) in e.value.message
    assert "weights_only" not in str(e.value)


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="would execute code") as e:
        read_weights(tmp_path / "w.pth")
    assert "state_dict" in e.value.hint


def test_a_torchscript_archive_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that the format is old
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="would execute code"):
        read_weights(tmp_path / "w.pt")


def test_an_archive_that_grows_in_unpacking_is_refused_unread(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(30_000_000))
    assert path.stat().st_size < 300_000
    with pytest.raises(WeightsError, match="would expand"):
        read_weights(path)


def _with_header(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


_ONE = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
BROKEN = {
    "truncated header": (lambda p: p.write_bytes(save(STATE)[:40]), "not a safetensors file"),
    "truncated data": (lambda p: p.write_bytes(save(STATE)[:-5]), "not a safetensors file"),
    "seven bytes": (lambda p: p.write_bytes(b"1234567"), "not a safetensors file"),
    "empty": (lambda p: p.write_bytes(b""), "not a safetensors file"),
    "endless header": (lambda p: p.write_bytes((1 << 62).to_bytes(8, "little") + b"{}"), "not a safetensors file"),
    "no JSON": (lambda p: _with_header(p, b"{nonsense"), "not a safetensors file"),
    "no UTF-8": (lambda p: _with_header(p, b'{"\xff": 1}'), "not a safetensors file"),
    "a list": (lambda p: _with_header(p, []), "not a safetensors file"),
    "deep": (lambda p: _with_header(p, b'{"a":' + b"[" * 200_000), "not a safetensors file"),
    "duplicate keys": (lambda p: _with_header(p, f'{{"a":{_ONE},"a":{_ONE}}}'.encode(), bytes(4)), "lists 'a' twice"),
    "no tensors": (lambda p: _with_header(p, {}), "has no tensors"),
    "NaN": (lambda p: save_file({"a": torch.tensor([1.0, float("nan")])}, p), "a has non-finite numbers"),
    "a scalar NaN": (lambda p: save_file({"a": torch.tensor(float("nan"))}, p), "a has non-finite numbers"),
    "infinity": (lambda p: save_file({"a": torch.tensor([float("-inf")]).half()}, p), "non-finite"),
    "overlapping": (
        lambda p: _with_header(p, f'{{"a":{_ONE},"b":{_ONE}}}'.encode(), bytes(4)),
        "not a safetensors file",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_safetensors_file_is_named_with_its_reason(name, tmp_path):
    make, message = BROKEN[name]
    path = tmp_path / "w.safetensors"
    make(path)
    with pytest.raises(WeightsError) as e:
        read_weights(path)
    assert str(path) in e.value.message
    assert message in e.value.message


def test_a_wrong_count_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_file(STATE, path)
    monkeypatch.setattr("safetensors.torch.load_file", lambda _: {"fc.bias": torch.ones(3)})
    with pytest.raises(WeightsError, match="its header lists 2 tensors, but it has 1"):
        read_weights(path)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    (tmp_path / "folder.pth").mkdir()
    for name in ("pipe.pth", "loop.pth", "folder.pth", "absent.pth"):
        with pytest.raises(WeightsError, match=name):
            read_weights(tmp_path / name)


def test_the_summary_of_a_report():
    report = WeightsReport(
        "w.pth",
        loaded=218,
        adapted=(
            "conv1.weight: stem, (64, 3, 7, 7) -> (64, 1, 7, 7)",
            "pos_embed: resampled, (1, 101, 64) -> (1, 17, 64)",
            "fc.weight: new head, (1000, 512) -> (10, 512)",
            "fc.bias: new head, (1000,) -> (10,)",
        ),
        part="its averaged weights (model_ema)",
    )
    assert report.summary() == (
        "218 tensors loaded from its averaged weights (model_ema), head replaced (1000 -> 10 classes), "
        "first convolution adapted 3 -> 1 channels, 1 position embedding resampled; 0 missing, 0 unexpected"
    )
    bare = WeightsReport("w.pth", loaded=2, adapted=("fc.weight: new head, (10, 512)",), missing=("a",))
    assert bare.summary() == "2 tensors loaded, new head (10 classes); 1 missing, 0 unexpected"
    assert WeightsReport("none").summary() == "random weights"
    assert WeightsReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_a_scalar_may_be_an_open_bound(tmp_path: Path) -> None:
    """timm's Gemma 4 encoders keep clip limits that are infinite until they are trained."""
    saved = {"clip.input_max": torch.tensor(float("inf")), "weight": torch.ones(2)}
    save_file(saved, tmp_path / "bounds.safetensors")
    assert read_weights(tmp_path / "bounds.safetensors").named["clip.input_max"] == float("inf")
