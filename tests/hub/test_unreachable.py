"""Hubs that are unreachable, silent, deny access or send invalid metadata."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from zoo.errors import WeightsError
from zoo.hub import fetch_hub_file, fetch_url, http, parse_hub_name, torch_cache
from zoo.models import build

pytestmark = pytest.mark.timeout(90)

CONTENT = bytes(range(256)) * 300
DIGEST = hashlib.sha256(CONTENT).hexdigest()
REPO, NAME = "owner/name", "model.safetensors"


def test_a_server_that_never_answers_is_an_error_within_ten_seconds(hub, silent, tmp_path):
    """Start-up, imports and real timeouts together."""
    hub.answer = silent
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    program = (
        "from zoo.errors import WeightsError\nfrom zoo.workflows.fetch import fetch\n"
        "try: fetch('resnet34')\nexcept WeightsError as e: print(e)"
    )
    before = time.monotonic()
    message = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    ).stdout
    assert time.monotonic() - before < 10
    assert "model.safetensors of timm/resnet34.a1_in1k" in message
    assert f"{tmp_path}/hub/models--timm--resnet34.a1_in1k" in message
    assert "HF_ENDPOINT=URL" in message


def test_all_metadata_requests_share_one_timeout(hub, monkeypatch):
    """Each answer in time, but too slow together."""
    monkeypatch.setattr("zoo.hub.metadata.METADATA_TIMEOUT", 0.6)
    monkeypatch.setattr("zoo.hub.metadata.request_headers", lambda *_, **__: time.sleep(20))
    before = time.monotonic()
    with pytest.raises(WeightsError, match="cannot be reached"):
        fetch_hub_file(REPO, (NAME,))
    assert time.monotonic() - before < 5


def test_name_resolution_has_a_timeout(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: time.sleep(20))
    monkeypatch.setattr("urllib.request.getproxies", dict)
    before = time.monotonic()
    with pytest.raises(http.Unreachable, match="was not resolved"):
        http.request_headers("http://hub.example")
    assert time.monotonic() - before < 5


@pytest.mark.parametrize(
    ("refused", "message", "hint"),
    [
        ("GatedRepo", "is restricted", "HF_TOKEN"),
        (401, "answers 401", "HF_TOKEN"),
        (403, "answers 403", "HF_TOKEN"),
        (429, "answers 429", "HF_ENDPOINT"),
        (502, "answers 502", "HF_ENDPOINT"),
    ],
)
def test_http_errors_have_hints(refused, message, hint, hub):
    hub.add(REPO, NAME, CONTENT)
    hub.refuses[REPO] = refused
    with pytest.raises(WeightsError, match=message) as e:
        fetch_hub_file(REPO, (NAME,))
    assert hint in e.value.hint
    assert "--weights none" in e.value.hint


def test_a_missing_revision_is_named(hub):
    hub.add(REPO, NAME, CONTENT)
    with pytest.raises(WeightsError, match="has no revision 'v2' of owner/name"):
        fetch_hub_file(REPO, (NAME,), "v2")


def test_the_token_is_sent_to_the_hub_only(hub, second_hub, monkeypatch):
    hub.add(REPO, NAME, CONTENT)
    hub.token = "hf_secret"
    with pytest.raises(WeightsError, match="answers 401"):
        fetch_hub_file(REPO, (NAME,))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch_hub_file(REPO, (NAME,)).path.read_bytes() == CONTENT
    hub.add(REPO, "elsewhere.bin", CONTENT[::-1])
    hub.elsewhere = second_hub
    assert fetch_hub_file(REPO, ("elsewhere.bin",)).path.read_bytes() == CONTENT[::-1]
    assert len(second_hub.tokens) >= 2
    assert set(second_hub.tokens) == {""}


@pytest.mark.parametrize("commit", ["../../escaped", "main", ""])
def test_an_invalid_commit_is_refused(commit, hub, cache):
    hub.add(REPO, NAME, CONTENT)
    hub.commit = commit
    with pytest.raises(WeightsError, match="commit"):
        fetch_hub_file(REPO, (NAME,))
    assert hub.downloads() == 0
    assert not cache.exists() or [p for p in cache.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("etag", ["../../x", "/etc/passwd", "abc", "g" * 64, ""])
def test_an_invalid_etag_is_refused(etag, hub, cache):
    hub.add(REPO, NAME, CONTENT)
    hub.etag = etag or '"'
    with pytest.raises(WeightsError, match="which is not a hash"):
        fetch_hub_file(REPO, (NAME,))
    assert hub.downloads() == 0


def test_a_flipped_bit_is_found_by_a_git_blob_hash(hub):
    hub.add(REPO, "config.json", CONTENT, regular=True)
    hub.flips = 1
    assert fetch_hub_file(REPO, ("config.json",)).path.read_bytes() == CONTENT
    assert hub.downloads() == 2


def test_a_file_larger_than_max_bytes_is_not_downloaded(hub):
    hub.add(REPO, "config.json", CONTENT)
    with pytest.raises(WeightsError, match="77 kB"):
        fetch_hub_file(REPO, ("config.json",), max_bytes=1000)
    assert hub.downloads() == 0


@pytest.mark.parametrize("text", ["hf-hub:", "hf-hub:one", "hf-hub:a/b/c", "hf-hub:../x", "hf-hub:a/b@../../x", "a/b"])
def test_invalid_repository_names(text):
    with pytest.raises(WeightsError, match="is not a repository name"):
        parse_hub_name(text)


def test_too_little_disk_space_is_an_error_before_the_download(hub, cache, monkeypatch):
    hub.add(REPO, NAME, CONTENT)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(WeightsError, match=r"no space left on the disk \(77 kB needed, 10 bytes free\)") as e:
        fetch_hub_file(REPO, (NAME,))
    assert "HF_HOME" in e.value.hint


def test_a_full_disk_during_the_download_leaves_no_file(hub, tmp_path):
    url = hub.add_plain(f"/models/net-{DIGEST[:8]}.pth", CONTENT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(WeightsError, match="no space left"):
            fetch_url(url, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []


def test_a_read_only_cache_is_used(hub, tmp_path, monkeypatch):
    url = hub.add_plain(f"/models/net-{DIGEST[:8]}.pth", CONTENT)
    fetched = fetch_url(url, tmp_path / "c")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert fetch_url(url, tmp_path / "c") == fetched


def test_environment_variables_of_the_libraries_are_used(hub, tmp_path, monkeypatch):
    hub.add("timm/resnet34.a1_in1k", NAME, CONTENT)
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    program = (
        "from zoo.errors import WeightsError\nfrom zoo.workflows.fetch import fetch\n"
        "try: print(fetch('resnet34').path)\nexcept WeightsError as e: print(e.message)"
    )

    def run(**more):
        done = subprocess.run(
            [sys.executable, "-c", program], env={**env, **more}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert "HF_HUB_OFFLINE is set" in run(HF_HUB_OFFLINE="1")
    assert hub.requests == []
    path = run()
    assert path.startswith(str(tmp_path / "home" / "hub" / "models--timm--resnet34.a1_in1k"))
    assert run(HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9") == path
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert torch_cache() == tmp_path / "torch" / "hub" / "checkpoints"


def test_a_cached_model_is_built_without_a_hub(hub, silent):
    import timm
    from safetensors.torch import save

    hub.add("timm/test_resnet.r160_in1k", NAME, save(timm.create_model("test_resnet").state_dict()))
    build("test_resnet", classes=2)
    hub.answer = silent
    asked = len(hub.requests)
    assert build("test_resnet", classes=2).weights.loaded > 0
    assert len(hub.requests) == asked


@pytest.mark.parametrize(
    "endpoint", ["http://host:abc", "http://[::1", "ftp://hub", "http://", "nonsense", "http://a b"]
)
def test_an_invalid_endpoint_is_an_error_before_the_client_is_imported(endpoint, tmp_path):
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}
    program = "from zoo.workflows.fetch import fetch\nfetch('resnet34')"
    message = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    ).stderr
    assert f"zoo.errors.WeightsError: HF_ENDPOINT is {endpoint!r}, which is not the URL of a server" in message


def test_an_invalid_endpoint_is_not_a_traceback_of_timm(monkeypatch):
    import zoo.models

    monkeypatch.setenv("HF_ENDPOINT", "http://host:abc")
    with pytest.raises(WeightsError, match="HF_ENDPOINT is 'http://host:abc'"):
        _ = zoo.models.build
