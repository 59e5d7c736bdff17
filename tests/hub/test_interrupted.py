"""Downloads that stall, lose the connection or are killed: the next download repairs everything."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download

from zoo.errors import WeightsError
from zoo.hub import fetch_hub_file, fetch_url

pytestmark = pytest.mark.timeout(60)

CONTENT = bytes(range(256)) * 300
DIGEST = hashlib.sha256(CONTENT).hexdigest()
REPO, NAME = "owner/name", "model.safetensors"
NAMES = (NAME, "pytorch_model.bin")
URL_NAME = f"/models/net-{DIGEST[:8]}.pth"


def incomplete(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*.incomplete") if p.is_file()]


def test_a_stalled_download_fails_soon_and_the_next_one_resumes_it(hub, cache):
    hub.add(REPO, NAME, CONTENT)
    hub.stalls_after = 50_000
    before = time.monotonic()
    with pytest.raises(WeightsError, match=r"it stopped after 50 kB.*the next attempt continues from there") as e:
        fetch_hub_file(REPO, NAMES)
    assert time.monotonic() - before < 5
    assert str(cache) in e.value.message
    assert "--weights FILE" in e.value.hint
    assert [p.stat().st_size for p in incomplete(cache)] == [50_000]
    hub.stalls_after = None
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT
    assert hub.ranges[-1] == "bytes=50000-"
    assert incomplete(cache) == []


def test_a_stalled_url_is_resumed(hub, tmp_path):
    url = hub.add_plain(URL_NAME, CONTENT)
    hub.stalls_after = 50_000
    with pytest.raises(WeightsError, match="it stopped after 50 kB"):
        fetch_url(url, tmp_path)
    hub.stalls_after = None
    assert fetch_url(url, tmp_path).path.read_bytes() == CONTENT
    assert hub.ranges[-1] == "bytes=50000-"


def test_a_slow_server_does_not_time_out(hub):
    hub.add(REPO, NAME, CONTENT)
    hub.pace = 0.02  # 77 parts: longer than READ_TIMEOUT in total, but never stalled
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT


def test_a_killed_download_is_resumed_by_the_next_process(hub, tmp_path):
    hub.add(REPO, NAME, CONTENT)
    hub.stalls_after = 40_000
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    program = f"from zoo.hub import fetch_hub_file; print(fetch_hub_file({REPO!r}, {NAMES!r}).path.read_bytes()[:4])"
    with subprocess.Popen([sys.executable, "-c", program], env=env, stderr=subprocess.PIPE) as child:
        deadline = time.monotonic() + 30
        while not any(p.stat().st_size == 40_000 for p in incomplete(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    hub.stalls_after = None
    again = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert "waiting" not in again.stderr  # the lock died with its process
    assert hub.ranges[-1] == "bytes=40000-"
    assert incomplete(tmp_path) == []
    assert [p.read_bytes() for p in tmp_path.rglob(NAME)] == [CONTENT]


def test_incomplete_files_of_a_killed_hub_client_are_deleted(hub, cache):
    hub.add(REPO, NAME, CONTENT)
    left = cache / "models--owner--name" / "blobs" / f"{DIGEST}.1a2b3c4d.incomplete"
    left.parent.mkdir(parents=True)
    left.write_bytes(CONTENT[:1000])
    fetch_hub_file(REPO, NAMES)
    assert incomplete(cache) == []


def test_damaged_incomplete_files_are_discarded(hub, cache):
    hub.add(REPO, NAME, CONTENT)
    left = cache / "models--owner--name" / "blobs" / f"{DIGEST}.incomplete"
    left.parent.mkdir(parents=True)
    for wrong in (b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 9)):
        left.write_bytes(wrong)
        path = fetch_hub_file(REPO, NAMES).path
        assert path.read_bytes() == CONTENT
        path.resolve().unlink()


def test_incomplete_files_longer_than_the_url_are_discarded(hub, tmp_path):
    url = hub.add_plain(URL_NAME, CONTENT)
    (tmp_path / f"net-{DIGEST[:8]}.pth.incomplete").write_bytes(CONTENT + CONTENT)
    assert fetch_url(url, tmp_path).path.read_bytes() == CONTENT


def test_a_server_that_ignores_range_does_not_cause_a_loop(hub):
    hub.add(REPO, NAME, CONTENT)
    hub.ignores_range = True
    hub.cuts = 2
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT
    assert hub.downloads() == 3
    hub.add(REPO, "pytorch_model.bin", CONTENT + b"more")
    hub.cuts = 10**9
    with pytest.raises(WeightsError, match="the connection was lost after"):
        fetch_hub_file(REPO, ("pytorch_model.bin",))
    assert hub.downloads() < 15


def test_a_url_that_closes_early_without_content_length_is_caught_by_the_hash(hub, tmp_path):
    url = hub.add_plain(URL_NAME, CONTENT)
    hub.announces = False
    hub.cuts = 1
    assert fetch_url(url, tmp_path).path.read_bytes() == CONTENT
    hub.cuts = 10**9
    (tmp_path / f"net-{DIGEST[:8]}.pth").unlink()
    with pytest.raises(WeightsError, match="is damaged"):
        fetch_url(url, tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []


def test_a_truncated_cached_file_is_repaired_or_reported_offline(hub, monkeypatch):
    hub.add(REPO, NAME, CONTENT)
    path = fetch_hub_file(REPO, NAMES).path
    path.resolve().write_bytes(CONTENT[:999])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE") as e:
        fetch_hub_file(REPO, NAMES)
    assert "damaged" in e.value.message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT


def test_a_damaged_file_in_the_shared_store_is_repaired(hub, cache):
    """The client's xet store: blobs are links into it; the client would link a deleted blob to the same file again."""
    hub.add(REPO, NAME, CONTENT)
    path = fetch_hub_file(REPO, NAMES).path
    blob = path.parent / os.readlink(path)
    stored = cache / "blobs" / "ab" / "abcd"
    stored.parent.mkdir(parents=True)
    os.replace(blob.resolve(), stored)
    blob.symlink_to(os.path.relpath(stored, blob.resolve().parent))
    assert fetch_hub_file(REPO, NAMES).downloaded is False
    stored.write_bytes(b"!" + CONTENT[1:])
    repaired = fetch_hub_file(REPO, NAMES)
    assert repaired.path.read_bytes() == CONTENT
    assert repaired.downloaded
    assert not stored.exists()


def test_without_symlinks_the_hash_is_stored_and_verified(hub, cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    hub.add(REPO, NAME, CONTENT)
    first = fetch_hub_file(REPO, NAMES)
    assert not first.path.is_symlink()
    asked = len(hub.requests)
    assert fetch_hub_file(REPO, NAMES).downloaded is False
    assert len(hub.requests) == asked  # the hash is known without the hub
    first.path.write_bytes(b"!" + CONTENT[1:])
    repaired = fetch_hub_file(REPO, NAMES)
    assert (repaired.path.read_bytes(), repaired.downloaded) == (CONTENT, True)


def test_a_file_of_another_client_without_symlinks_is_verified_with_the_hub(hub, cache, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    hub.add(REPO, NAME, CONTENT)
    path = Path(hf_hub_download(REPO, NAME))
    assert fetch_hub_file(REPO, NAMES).verified
    path.write_bytes(b"!" + CONTENT[1:])
    assert fetch_hub_file(REPO, NAMES).path.read_bytes() == CONTENT
    for noted in (cache / "models--owner--name" / ".etags").rglob(NAME):
        noted.unlink()
    hub.answer = 503
    assert fetch_hub_file(REPO, NAMES).verified is False
    assert "without a check" in capsys.readouterr().err


def test_zoo_and_the_hub_client_find_the_downloads_of_each_other(hub, commit):
    hub.add(REPO, NAME, CONTENT)
    ours = fetch_hub_file(REPO, NAMES)
    assert hf_hub_download(REPO, NAME, local_files_only=True) == str(ours.path)
    assert hf_hub_download(REPO, NAME) == str(ours.path)
    hub.add(REPO, "pytorch_model.bin", CONTENT[::-1])
    theirs = hf_hub_download(REPO, "pytorch_model.bin")
    gets = hub.downloads()
    assert str(fetch_hub_file(REPO, ("pytorch_model.bin",)).path) == theirs
    assert hub.downloads() == gets


def test_the_first_download_of_a_url_without_a_hash_stores_its_hash(hub, tmp_path, capsys):
    url = hub.add_plain("/ijepa/IN22K-vit.h.14-900e.pth.tar", CONTENT)
    first = fetch_url(url, tmp_path)
    assert (first.path.with_name(f"{first.path.name}.sha256")).read_text() == f"{DIGEST}  {first.path.name}\n"
    first.path.write_bytes(b"!" + CONTENT[1:])
    assert fetch_url(url, tmp_path).path.read_bytes() == CONTENT
    assert "is damaged" in capsys.readouterr().err


def test_a_truncated_file_of_a_url_without_a_hash_is_downloaded_again(hub, tmp_path, capsys):
    url = hub.add_plain("/models/plain.pth", CONTENT)
    (tmp_path / "plain.pth").write_bytes(CONTENT[:1000])
    assert fetch_url(url, tmp_path).path.read_bytes() == CONTENT
    (tmp_path / "plain.pth.sha256").unlink()
    hub.answer = 503
    assert fetch_url(url, tmp_path).verified is False
    assert "without a check" in capsys.readouterr().err


def test_two_processes_download_a_file_once(hub, tmp_path):
    hub.add(REPO, NAME, CONTENT)
    hub.pace = 0.03
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    program = f"from zoo.hub import fetch_hub_file; print(fetch_hub_file({REPO!r}, {NAMES!r}).sha256)"
    both = [subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    assert [child.communicate()[0].strip() for child in both] == [DIGEST, DIGEST]
    assert hub.downloads() == 1
