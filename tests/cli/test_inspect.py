"""`zoo inspect` and `zoo.inspect`."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

import zoo as api
from zoo.models import build
from zoo.workflows.inspect import inspect


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Any attempt to reach a server is a failure."""
    import socket

    def refuse(*args, **_):
        raise AssertionError(f"the network was asked for {args[:2]}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def facts(out):
    return {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines() if not line.startswith("group\t")}


def test_pipe_output_has_keys_and_groups(zoo):
    done = zoo("inspect", "resnet34", "--classes", "10", "--freeze", "backbone")
    assert (done.code, done.err) == (0, "")
    found = facts(done.out)
    assert found["hub_id"] == ["timm/resnet34.a1_in1k"]
    assert found["tags"][0].split(",")[0] == found["tag"][0] == "a1_in1k"
    assert found["num_classes"] == ["1000"]
    assert found["classes"] == ["10"]
    assert found["input_size"] == ["3x224x224"]
    assert found["pool_size"] == ["7x7"]
    assert found["interpolation"] == ["bicubic"]
    assert found["mean"] == ["0.485,0.456,0.406"]
    assert found["first_conv"] == ["conv1"]
    assert found["classifier"] == ["fc"]
    assert found["license"] == ["apache-2.0"]
    assert found["output_shape"] == ["1x10"]
    assert found["trainable"] == ["5130"]
    groups = [line.split("\t")[1:] for line in done.out.splitlines() if line.startswith("group\t")]
    assert [g[0] for g in groups] == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert sum(int(g[1]) for g in groups) == int(found["params"][0])
    assert [g[2] for g in groups] == ["0"] * 5 + ["5130"]


def test_json_is_the_api(zoo):
    done = json.loads(zoo("inspect", "torchvision/resnet18", "--in-chans", "1", "--json").out)
    summary = api.inspect("torchvision/resnet18", in_chans=1)
    assert done == json.loads(json.dumps(summary.to_dict()))
    assert done["url"].startswith("https://download.pytorch.org/models/resnet18")
    assert (done["input_size"], len(done["mean"]), done["output_shape"]) == ([1, 224, 224], 1, [1, 1000])
    assert (done["params"], done["trainable"]) == (11683240, 11683240)
    assert done["gmacs"] == pytest.approx(1.814 - 112 * 112 * 49 * 64 * 2 / 1e9, abs=0.001)


@pytest.mark.parametrize("columns", [80, 130])
def test_a_terminal_gets_facts_and_a_table_that_fit(zoo, monkeypatch, columns):
    monkeypatch.setattr("zoo.console.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    done = zoo("inspect", "resnet50", "--classes", "10", "--freeze", "stem")
    rows = done.out.splitlines()
    assert rows[0] == "resnet50: 23,528,522 parameters, 4.09 GMACs at 3x224x224"
    assert rows[1].split(maxsplit=1) == ["model", "resnet50 of timm" + rows[1].split("timm")[1]]
    start = rows[1].index("resnet50")
    facts = rows[1 : rows.index("")]
    assert all(row[start - 1] == " " and row[start] != " " for row in facts)  # values stand below each other
    assert "freezing plan: stem" in rows
    assert "\t" not in done.out
    assert max(map(len, rows)) <= columns
    stem = next(row for row in rows if row.lstrip().startswith("stem "))
    assert " no " in stem
    assert "field" not in done.out


def test_terminal_output_shows_what_was_loaded(zoo, monkeypatch, tmp_path):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr("zoo.console.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "200")
    out = zoo("inspect", "test_resnet", "--classes", "3", "--weights", tmp_path / "w.safetensors").out
    assert "tensors loaded" in out
    assert "fc.bias: new head, (1000,) -> (3,)" in out


@pytest.fixture
def checkpoint(tmp_path):
    state = timm.create_model("test_resnet", num_classes=7, in_chans=1).state_dict()
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def test_a_file_in_a_pipe(zoo, checkpoint):
    done = zoo("inspect", checkpoint)
    assert (done.code, done.err) == (0, "")
    found = facts(done.out)
    assert found["format"] == ["pytorch"]
    assert found["wrapping"] == ["state_dict"]
    assert found["prefix"] == ["module."]
    assert found["other"] == ["epoch", "3"]
    assert found["first"] == ["conv1.0.weight", "16x1x3x3"]
    assert (found["classes"], found["in_chans"]) == (["7"], ["1"])
    fits = [line.split("\t") for line in done.out.splitlines() if line.startswith("fits\t")]
    assert fits[0][1:] == ["1.0000", "test_resnet", "0", "0", "0"]
    assert json.loads(zoo("inspect", checkpoint, "--json").out)["fits"][0]["names"] == ["test_resnet"]


def test_a_file_on_a_terminal(zoo, checkpoint, monkeypatch):
    monkeypatch.setattr("zoo.console.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "130")
    out = zoo("inspect", checkpoint).out
    assert "made for" in out
    assert "classes 7, channels 1" in out
    row = next(line for line in out.splitlines() if line.lstrip().startswith("test_resnet"))
    assert row.split() == ["test_resnet", "100", "%", "nothing"]


def test_a_run_and_tensors_of_it(zoo, make_run, monkeypatch):
    run = make_run("test_vit", ("cat", "dog"))
    found = facts(zoo("inspect", run.path).out)
    assert (found["model"], found["class_names"], found["status"]) == (["test_vit"], ["cat,dog"], ["finished"])
    rows = [line.split("\t") for line in zoo("inspect", run.path, "--params", "head").out.splitlines()]
    assert sorted(row[:2] for row in rows) == [["head.bias", "2"], ["head.weight", "2x64"]]
    monkeypatch.setattr("zoo.console.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "120")
    out = zoo("inspect", run.path).out
    assert "finished, 2 of 3 epochs done" in out
    assert "2: cat, dog" in out
    assert "top1 0.5 in epoch 2" in out


def test_tensors_of_no_architecture_on_a_terminal(zoo, tmp_path, monkeypatch):
    torch.save({"a": torch.full((2,), float("nan"))}, tmp_path / "w.pth")
    monkeypatch.setattr("zoo.console.is_terminal", lambda stream: True)
    done = zoo("inspect", tmp_path / "w.pth")
    assert "NaN or infinity in a" in done.out
    assert "no architecture of the catalog" in done.err


def test_params_without_weights_are_random_with_a_note(zoo):
    done = zoo("inspect", "test_resnet", "--params", "bn1")
    assert "random" in done.err
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [r[0] for r in rows] == [
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "bn1.running_var",
        "bn1.num_batches_tracked",
    ]
    assert rows[0][1:] == ["32", "float32", "1.0", "0.0"]
    assert rows[-1][1:3] == ["scalar", "int64"]


def test_params_with_weights_are_those_of_the_file(zoo, tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, tmp_path / "w.safetensors")
    done = zoo("inspect", "test_resnet", "--weights", tmp_path / "w.safetensors", "--params", "conv1.0")
    assert done.err == ""
    name, shape, dtype, mean, std = done.out.strip().split("\t")
    weight = state["conv1.0.weight"].double()
    assert (name, shape, dtype) == ("conv1.0.weight", "16x3x3x3", "float32")
    assert float(mean) == pytest.approx(float(weight.mean()))
    assert float(std) == pytest.approx(float(weight.std(correction=0)))


def test_loaded_weights_are_reported(zoo, tmp_path):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    out = zoo(
        "inspect", "test_resnet", "--classes", "3", "--in-chans", "1", "--weights", tmp_path / "w.safetensors"
    ).out
    found = facts(out)
    assert found["weights"] == [str(tmp_path / "w.safetensors")]
    assert len(found["sha256"][0]) == 64
    assert "adapted\tconv1.0.weight: stem, (16, 3, 3, 3) -> (16, 1, 3, 3)" in out
    assert "adapted\tfc.bias: new head, (1000,) -> (3,)" in out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("resnet999",), "no model named 'resnet999'"),
        (("test_resnet", "--freeze", "layer9"), "'layer9' matches nothing"),
        (("test_resnet", "--freeze", "head"), "leaves no trainable parameters"),
        (("test_resnet", "--params", "conv9"), "no module or tensor 'conv9'"),
        (("test_resnet", "--params", "global_pool"), "has no tensors"),
        (("test_resnet", "--classes", "0"), "0 classes"),
        (("test_resnet", "--weights", "nope"), "neither a tag"),
        (("test_resnet", "--weights", "absent.pth"), "no weights file absent.pth"),
        (("absent.pth",), "no file or run absent.pth"),
        ((".",), "is not a run and has no model.safetensors"),
    ],
)
def test_unknown_models_are_errors_with_exit_code_4(zoo, args, expected):
    result = zoo("inspect", *args)
    assert result.code == 4
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert expected in result.err
    assert "hint: " in result.err
    assert "Traceback" not in result.err


def test_options_of_a_model_are_refused_for_a_file(zoo, checkpoint):
    done = zoo("inspect", checkpoint, "--freeze", "backbone")
    assert done.code == 2
    assert "--freeze needs the name of a model" in done.err
    assert f"zoo inspect MODEL --weights {checkpoint}" in done.err


@pytest.mark.parametrize(
    "name", ["test_vit", "test_convnext", "test_byobnet", "test_mambaout", "zoo_tiny", "torchvision/squeezenet1_1"]
)
def test_the_output_shape_on_meta_is_that_of_a_real_forward_pass(name):
    summary = inspect(name, classes=5, in_chans=2)
    module = build(name, classes=5, in_chans=2, weights="none").module.eval()
    with torch.no_grad():
        assert summary.output_shape == tuple(module(torch.randn(1, *summary.preprocess.input_size)).shape)
    assert summary.params == sum(p.numel() for p in module.parameters())
    assert summary.gmacs is not None


def test_groups_prints_the_parameter_groups_from_stem_to_head(zoo, monkeypatch):
    done = zoo("inspect", "resnet18", "--groups", "--freeze", "backbone")
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[0] for row in rows] == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert sum(int(row[1]) for row in rows) == 11_689_512
    assert (rows[-1][2], rows[-1][3], rows[1][3]) == ("513000", "global_pool,fc", "layer1")
    listed = json.loads(zoo("inspect", "resnet18", "--groups", "--freeze", "backbone", "--json").out)
    assert [g["name"] for g in listed] == [row[0] for row in rows]
    monkeypatch.setattr("zoo.console.is_terminal", lambda stream: True)
    table = zoo("inspect", "resnet18", "--groups").out
    assert "layer1" in table
    assert "input" not in table
    assert zoo("inspect", "resnet18", "--groups", "--params", "fc").code == 2
