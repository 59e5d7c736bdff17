"""Downloads from a hub and from URLs with the real clients."""

from __future__ import annotations

import hashlib
import socket

import pytest
from huggingface_hub import constants

from zoo.errors import WeightsError
from zoo.hub import fetch_hub_file, fetch_url, sha256_of

# A client that retries for ever must not hold the suite.
pytestmark = pytest.mark.timeout(60)

CONTENT = bytes(range(256)) * 300
DIGEST = hashlib.sha256(CONTENT).hexdigest()
REPO = "owner/name"
NAMES = ("model.safetensors", "pytorch_model.bin")


def refused_port() -> int:
    """A port that refuses connections."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_file_is_downloaded_once_and_then_cached(hub, commit):
    hub.add(REPO, "model.safetensors", CONTENT)
    first = fetch_hub_file(REPO, NAMES)
    assert first.path.read_bytes() == CONTENT
    assert (first.source, first.revision, first.sha256) == (f"hf-hub:{REPO}/model.safetensors", commit, DIGEST)
    hub.answer = 503
    before = len(hub.requests)
    assert fetch_hub_file(REPO, NAMES) == first
    assert len(hub.requests) == before


def test_the_second_name_is_used_if_the_first_is_missing(hub):
    hub.add(REPO, "pytorch_model.bin", CONTENT)
    assert fetch_hub_file(REPO, NAMES).path.name == "pytorch_model.bin"


def test_small_files_have_a_git_blob_hash(hub):
    hub.add(REPO, "config.json", CONTENT, regular=True)
    assert fetch_hub_file(REPO, ("config.json",)).sha256 == DIGEST
    assert fetch_hub_file(REPO, ("config.json",)).sha256 == DIGEST


def test_a_redirect_to_another_server_is_followed(hub, second_hub):
    hub.add(REPO, "model.safetensors", CONTENT)
    hub.elsewhere = second_hub
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT
    assert ("GET", "/cdn/model.safetensors") in second_hub.requests


@pytest.mark.parametrize("failure", ["503", "silent"])
def test_an_unreachable_server_of_large_files_is_named(failure, hub, second_hub, silent):
    hub.add(REPO, "model.safetensors", CONTENT)
    hub.elsewhere = second_hub
    second_hub.answer = {"503": 503, "silent": silent}[failure]
    with pytest.raises(WeightsError, match=r"redirects to 127\.0\.0\.1:") as e:
        fetch_hub_file(REPO, NAMES)
    assert "--weights none" in e.value.hint
    assert len(second_hub.requests) == 1


def test_a_flipped_bit_is_downloaded_again(hub):
    hub.add(REPO, "model.safetensors", CONTENT)
    hub.flips = 1
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT
    assert hub.downloads() == 2


def test_a_file_damaged_in_every_download_is_an_error_and_not_cached(hub, cache):
    hub.add(REPO, "model.safetensors", CONTENT)
    hub.flips = 99
    with pytest.raises(WeightsError, match="is damaged") as e:
        fetch_hub_file(REPO, NAMES)
    assert "model.safetensors of owner/name" in e.value.message
    assert not [p for p in cache.rglob("*") if p.is_file() and p.read_bytes()[:16] == CONTENT[:16]]
    hub.flips = 0
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT


def test_a_cached_file_that_was_damaged_later_is_repaired(hub):
    hub.add(REPO, "model.safetensors", CONTENT)
    path = fetch_hub_file(REPO, NAMES).path
    path.resolve().write_bytes(CONTENT[:-1] + b"!")
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT


def test_a_lost_connection_is_resumed(hub):
    hub.add(REPO, "model.safetensors", CONTENT)
    hub.cuts = 1
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT


@pytest.mark.parametrize("failure", ["refused", "503", "silent", "no such host"])
def test_an_unreachable_hub_is_named_with_file_target_and_hints(failure, hub, silent, point_at, cache):
    if failure == "refused":
        point_at(f"http://127.0.0.1:{refused_port()}")
    elif failure == "no such host":
        point_at("http://hub.invalid")
    else:
        hub.answer = {"503": 503, "silent": silent}[failure]
    with pytest.raises(WeightsError) as e:
        fetch_hub_file(REPO, NAMES)
    assert "model.safetensors of owner/name" in e.value.message
    assert constants.ENDPOINT in e.value.message
    message = {"no such host": "the name hub.invalid cannot be resolved", "silent": "the server does not answer"}
    assert message.get(failure, "") in e.value.message
    assert str(cache / "models--owner--name") in e.value.message
    for way in ("--weights none", "--weights FILE", "HF_ENDPOINT"):
        assert way in e.value.hint
    assert len(hub.requests) == {"503": 2, "silent": 1}.get(failure, 0)  # is it there, has it the file: no retries


def test_a_missing_repository_and_a_missing_file_have_different_errors(hub):
    hub.add(REPO, "other.txt", CONTENT)
    with pytest.raises(WeightsError, match=r"owner/name .*has no file model\.safetensors or pytorch_model\.bin"):
        fetch_hub_file(REPO, NAMES)
    with pytest.raises(WeightsError, match="has no owner/nothing"):
        fetch_hub_file("owner/nothing", NAMES)


def test_a_hash_that_is_a_path_is_refused(hub, cache):
    hub.add(REPO, "model.safetensors", CONTENT)
    hub.etag = "../../../escaped"
    with pytest.raises(WeightsError, match="not a hash"):
        fetch_hub_file(REPO, NAMES)
    assert hub.downloads() == 0


def test_offline_mode_and_a_malformed_endpoint_are_named(hub, point_at, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        fetch_hub_file(REPO, NAMES)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at("nonsense")
    with pytest.raises(WeightsError, match="HF_ENDPOINT is 'nonsense'"):
        fetch_hub_file(REPO, NAMES)
    assert hub.requests == []


def test_an_unwritable_cache_is_named(hub, cache):
    hub.add(REPO, "model.safetensors", CONTENT)
    cache.write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="cannot write weights to") as e:
        fetch_hub_file(REPO, NAMES)
    assert "HF_HOME" in e.value.hint
    with pytest.raises(WeightsError, match="cannot write weights to") as e:
        fetch_url(hub.add_plain(named(), CONTENT), cache)
    assert "TORCH_HOME" in e.value.hint


def files_in(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != ".locks")


def named(digest: str = DIGEST) -> str:
    return f"/models/net-{digest[:8]}.pth"


def test_a_url_is_downloaded_once_and_verified_by_the_hash_in_its_name(hub, tmp_path):
    url = hub.add_plain(named(), CONTENT)
    fetched = fetch_url(url, tmp_path / "checkpoints")
    assert fetched.path == tmp_path / "checkpoints" / f"net-{DIGEST[:8]}.pth"
    assert (fetched.source, fetched.sha256, sha256_of(fetched.path)) == (url, DIGEST, DIGEST)
    hub.answer = 503
    assert fetch_url(url, tmp_path / "checkpoints") == fetched
    assert files_in(tmp_path / "checkpoints") == [fetched.path.name]


def test_a_damaged_file_in_the_torch_cache_is_repaired(hub, tmp_path):
    url = hub.add_plain(named(), CONTENT)
    (tmp_path / f"net-{DIGEST[:8]}.pth").write_bytes(CONTENT[:100])
    assert fetch_url(url, tmp_path).path.read_bytes() == CONTENT


def test_a_url_with_a_wrong_file_is_an_error_and_leaves_no_file(hub, tmp_path):
    url = hub.add_plain(named("0" * 64), CONTENT)
    with pytest.raises(WeightsError, match="does not start with 00000000"):
        fetch_url(url, tmp_path / "c")
    assert files_in(tmp_path / "c") == []


def test_a_flipped_bit_from_a_url_is_downloaded_again(hub, tmp_path):
    url = hub.add_plain(named(), CONTENT)
    hub.flips = 1
    assert fetch_url(url, tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("failure", ["refused", "503", "404", "silent", "cut", "no such host", "no web address"])
def test_an_unreachable_url_is_named_with_target_and_hints(failure, hub, silent, tmp_path):
    url = hub.add_plain(named(), CONTENT)
    if failure == "refused":
        url = f"http://127.0.0.1:{refused_port()}{named()}"
    elif failure == "no such host":
        url = f"http://weights.invalid{named()}"
    elif failure == "no web address":
        url = f"file:///etc{named()}"
    elif failure == "cut":
        hub.cuts = 99
    else:
        hub.answer = {"503": 503, "404": 404, "silent": silent}[failure]
    with pytest.raises(WeightsError) as e:
        fetch_url(url, tmp_path / "c")
    assert url in e.value.message
    assert str(tmp_path / "c" / f"net-{DIGEST[:8]}.pth") in e.value.message
    assert "--weights none" in e.value.hint
    assert "--weights FILE" in e.value.hint
    # The part before the interruption stays for the next download.
    assert files_in(tmp_path / "c") == ([f"net-{DIGEST[:8]}.pth.incomplete"] if failure == "cut" else [])
