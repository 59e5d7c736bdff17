"""Zip and tar files equal the folder they were made from; hostile ones give clear errors."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import data_config, make_loader, open_data, open_eval
from zoo.data.dataset import Data
from zoo.data.packed_files import ArchiveFile
from zoo.data.sources import archive
from zoo.data.sources.archive import open_archive, stem
from zoo.errors import DataError
from zoo.preprocess import Preprocess

MakeFolder = Callable[..., Path]


def png(level: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (level, 20, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", method) as z:
        for name, data in members.items():
            z.writestr(name, data)
    return str(path)


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo | str, bytes]], form: int = tarfile.PAX_FORMAT) -> str:
    with tarfile.open(path, "w", format=form) as t:
        for info, data in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)  # noqa: PLW2901
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return str(path)


def link(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


GOOD = {f"{c}/{i}.png": png(10 * i) for c in ("a", "b") for i in range(3)}


def pixels(data: Data) -> np.ndarray:
    return np.stack([part.read(i) for part in (data.train, data.val) for i in range(len(part))])


def names(source: Data) -> list[str]:
    return sorted(part.where(i) for part in (source.train, source.val) for i in range(len(part)))


@pytest.fixture
def photos(make_folder: MakeFolder) -> Path:
    root = make_folder("photos", {"cat": 4, "dög 犬/deep": 3, "cat/.ipynb_checkpoints": 1, "__MACOSX": 1})
    (root / "readme.txt").write_text("hello")
    (root / "cat" / "notes.txt").write_text("hello")
    return root


def archived(root: Path, kind: str) -> str:
    path = root.with_name(f"photos.{kind}")
    if kind in ("stored.zip", "deflated.zip", "bzip2.zip"):
        method = {"s": zipfile.ZIP_STORED, "d": zipfile.ZIP_DEFLATED, "b": zipfile.ZIP_BZIP2}[kind[0]]
        with zipfile.ZipFile(path, "w", method) as z:
            for file in sorted(root.rglob("*")):
                z.write(file, file.relative_to(root.parent))
        return str(path)
    form = tarfile.GNU_FORMAT if "gnu" in kind else tarfile.USTAR_FORMAT if "ustar" in kind else tarfile.PAX_FORMAT
    plain = root.with_name("plain.tar")
    with tarfile.open(plain, "w", format=form) as t:
        t.add(root, "photos")
    squeeze = {"gz": gzip.compress, "tgz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    path.write_bytes(squeeze.get(kind.rpartition(".")[2], bytes)(plain.read_bytes()))
    return str(path)


KINDS = ["stored.zip", "deflated.zip", "bzip2.zip", "gnu.tar", "pax.tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_equals_the_folder_it_was_made_from(photos: Path, kind: str) -> None:
    folder, data = open_data(data_config("photos")), open_data(data_config(archived(photos, kind)))
    assert data.classes == folder.classes == ("cat", "dög 犬")
    assert data.fingerprint() == folder.fingerprint()
    assert data.rule == folder.rule
    np.testing.assert_array_equal(pixels(data), pixels(folder))
    np.testing.assert_array_equal(data.train.targets, folder.train.targets)
    assert "ignored 1 file that is not an image (.txt 1)" in data.notes
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(pixels(again), pixels(folder))


def test_member_paths_contain_the_archive(photos: Path) -> None:
    data = open_data(data_config(archived(photos, "stored.zip")))
    assert names(data)[0] == str(photos.with_name("photos.stored.zip") / "photos" / "cat" / "000.png")


def test_batches_do_not_depend_on_workers(photos: Path, preprocess: Preprocess) -> None:
    train = open_data(data_config(archived(photos, "deflated.zip"))).train
    found = []
    for workers in (0, 2):
        loader = make_loader(
            train, preprocess=preprocess, batch_size=2, train=True, augment=None, seed=0, workers=workers
        )
        found.append(np.concatenate([images.numpy() for images, _ in loader]))
    np.testing.assert_array_equal(*found)


def test_splits_in_the_archive_and_in_another_archive(tmp_path: Path) -> None:
    both = write_zip(tmp_path / "both.zip", {f"{p}/{n}": d for p in ("train", "val", "other") for n, d in GOOD.items()})
    data = open_data(data_config(both))
    assert len(data.train) == len(data.val) == 6
    assert data.notes == ("not used: other",)
    assert data.rule.endswith("both.zip/val")
    assert len(open_eval(data_config(both), ("a", "b"))[0]) == 6
    assert open_eval(data_config(both), ("a", "b"), split="other")[0].where(0).endswith("both.zip/other/a/0.png")
    apart = write_tar(tmp_path / "apart.tar", [(n, d) for n, d in GOOD.items() if n[0] == "a" or "0" in n])
    assert len(open_data(data_config(both, val=apart)).val) == 4


def test_archives_raise_the_errors_of_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"only one class in .*one\.zip: a"):
        open_data(data_config(write_zip(tmp_path / "one.zip", {n: d for n, d in GOOD.items() if n[0] == "a"})))
    with pytest.raises(DataError, match=r"2 images directly in .*loose\.zip"):
        open_data(data_config(write_zip(tmp_path / "loose.zip", {"1.png": png(), "2.png": png()})))
    with pytest.raises(DataError, match=r"no images in .*none\.zip"):
        open_data(data_config(write_zip(tmp_path / "none.zip", {"a/readme.txt": b""})))
    with pytest.raises(DataError, match="contains val but no train folder"):
        open_data(data_config(write_zip(tmp_path / "val.zip", {f"val/{n}": d for n, d in GOOD.items()})))


def test_unreadable_members_by_policy(tmp_path: Path) -> None:
    bad = {"a/page.jpg": b"<html></html>", "b/empty.png": b"", "b/h.png": png()[:40]}
    path = write_zip(tmp_path / "t.zip", GOOD | bad)
    with pytest.raises(DataError, match="3 unreadable files") as e:
        open_data(data_config(path))
    assert "t.zip/a/page.jpg: not an image: the file holds HTML" in str(e.value)
    data = open_data(data_config(path, unreadable="skip"))
    assert len(names(data)) == 6
    assert {os.path.basename(p.path) for p in data.problems} == {"page.jpg", "empty.png", "h.png"}


# What is wrong with members of a zip.


def test_encrypted_members(tmp_path: Path) -> None:
    path = Path(write_zip(tmp_path / "t.zip", GOOD))
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\1\2")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"1 unreadable file:\n.*a/0\.png: encrypted"):
        open_data(data_config(str(path)))
    while at >= 0:
        data[at + 8] |= 1
        at = data.find(b"PK\1\2", at + 1)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"t\.zip is encrypted"):
        open_data(data_config(str(path)))


def test_a_zip_bomb_is_unpacked_to_its_stated_size_only(tmp_path: Path) -> None:
    path = Path(write_zip(tmp_path / "t.zip", {**GOOD, "a/z.png": bytes(30_000_000)}, zipfile.ZIP_DEFLATED))
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\1\2" + bytes(1)[:0], data.rfind(b"PK\1\2"))
    struct.pack_into("<L", data, at + 24, 1000)  # the size that the directory states
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a/z\.png: damaged: it unpacks to more than the 1,000 bytes"):
        open_data(data_config(str(path)))
    struct.pack_into("<L", data, at + 24, (1 << 31))
    path.write_bytes(data)
    with pytest.raises(DataError, match="more than the maximum of 1,073,741,824 for an image"):
        open_data(data_config(str(path)))


def test_a_flipped_bit_fails_the_checksum(tmp_path: Path) -> None:
    bmp = io.BytesIO()
    Image.new("RGB", (9, 7), (1, 20, 30)).save(bmp, "BMP")
    path = Path(write_zip(tmp_path / "t.zip", {**GOOD, "b/x.bmp": bmp.getvalue()}))
    data = bytearray(path.read_bytes())
    data[data.find(bmp.getvalue()) + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"b/x\.bmp: damaged: its bytes do not have the checksum"):
        open_data(data_config(str(path)))


def test_unknown_compression_methods_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as z:
        for name, data in GOOD.items():
            z.writestr(name, data, zipfile.ZIP_LZMA if name == "a/0.png" else zipfile.ZIP_STORED)
    with pytest.raises(DataError, match=r"a/0\.png: compressed with LZMA"):
        open_data(data_config(str(path)))


def test_zip64_and_data_before_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as z:
        for name, data in GOOD.items():
            with z.open(name, "w", force_zip64=True) as f:
                f.write(data)
    many = tmp_path / "many.zip"  # more than 65,535 members have a zip64 record
    with zipfile.ZipFile(many, "w") as z:
        for i in range(66_000):
            z.writestr(f"{'ab'[i % 2]}/{i}.txt", b"")
        for name, data in GOOD.items():
            z.writestr(name, data)
    alone = names(open_data(data_config(str(path))))
    assert len(alone) == 6
    assert [n.replace("many.zip", "t.zip") for n in names(open_data(data_config(str(many))))] == alone
    path.write_bytes(b"#!/bin/sh\nexit\n" + path.read_bytes())
    assert names(open_data(data_config(str(path)))) == alone


def test_members_of_a_zip_made_on_windows_and_macos(tmp_path: Path) -> None:
    path = Path(write_zip(tmp_path / "t.zip", {n.replace("/", "_"): d for n, d in GOOD.items()}))
    data = path.read_bytes()
    for c in (b"a", b"b"):
        data = data.replace(c + b"_", c + b"\\")
    data = data.replace(b"PK\1\2\x14\x03", b"PK\1\2\x14\x00")  # made on DOS
    path.write_bytes(data)
    assert open_data(data_config(str(path))).classes == ("a", "b")
    members = {n.replace("a/", "ü/"): d for n, d in GOOD.items()}
    mac = write_zip(tmp_path / "mac.zip", members | {"__MACOSX/ü/._0.png": b"x"})
    raw = bytearray(Path(mac).read_bytes())
    at = raw.find(b"PK\1\2")
    while at >= 0:
        raw[at + 9] &= ~8  # UTF-8 without saying so
        at = raw.find(b"PK\1\2", at + 1)
    Path(mac).write_bytes(raw)
    assert open_data(data_config(mac)).classes == ("b", "ü")


def test_symbolic_links_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as z:
        for name, data in GOOD.items():
            z.writestr(name, data)
        for name, target in (("a/l.png", "../b/1.png"), ("b/out.png", "../../../etc/x.png"), ("b/gone.png", "no.png")):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            z.writestr(info, target)
    data = open_data(data_config(str(path)))
    assert len(names(data)) == 7
    assert sorted(os.path.basename(p.path) for p in data.problems) == ["gone.png", "out.png"]


# What is wrong with members of a tar.


def test_long_names_links_and_repeated_names(tmp_path: Path) -> None:
    deep = "a/" + "/".join(["x" * 60] * 6) + "/é.png"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = write_tar(
            tmp_path / f"{form}.tar",
            [
                *GOOD.items(),
                (deep, png(99)),
                link("a/hard.png", deep, tarfile.LNKTYPE),
                link("b/soft.png", "../a/hard.png", tarfile.SYMTYPE),
                link("b/gone.png", "nowhere.png", tarfile.SYMTYPE),
                link("b/out.png", "../../../../etc/x.png", tarfile.SYMTYPE),
                ("./a/0.png", png(200)),
            ],
            form,
        )
        data = open_data(data_config(path))
        found = {n.partition(".tar/")[2] for n in names(data)}
        assert found == {*GOOD, deep, "a/hard.png", "b/soft.png"}
        assert sorted(os.path.basename(p.path) for p in data.problems) == ["gone.png", "out.png"]
        intensity_range = {}
        for part in (data.train, data.val):
            intensity_range |= {
                part.where(i).partition(".tar/")[2]: int(part.read(i)[0, 0, 0]) for i in range(len(part))
            }
        assert intensity_range["a/0.png"] == 200  # the last of a name, as tar has it
        assert intensity_range["a/hard.png"] == intensity_range["b/soft.png"] == 99


def test_loops_devices_and_names_outside_the_archive(tmp_path: Path) -> None:
    fifo, device = tarfile.TarInfo("a/pipe.png"), tarfile.TarInfo("a/dev.png")
    fifo.type, device.type = tarfile.FIFOTYPE, tarfile.CHRTYPE
    members = [
        *GOOD.items(),
        (fifo, b""),
        (device, b""),
        link("a/one.png", "two.png", tarfile.SYMTYPE),
        link("a/two.png", "one.png", tarfile.SYMTYPE),
        ("../../evil.png", png()),
        ("/tmp/evil.png", png()),
        ("a/b.png/c.png", png()),
    ]
    path = write_tar(tmp_path / "t.tar", members)
    with pytest.raises(DataError, match="3 unreadable files") as e:
        open_data(data_config(path))
    for words in ("pipe.png: not a file but a FIFO", "dev.png: not a file but a device", "b.png: not a file but a dir"):
        assert words in str(e.value)
    data = open_data(data_config(path, unreadable="skip"))
    assert len(names(data)) == 6
    assert any("ignored 2 members with names that point outside the archive" in n for n in data.notes)
    assert sum("looping" in p.reason for p in data.problems) == 2


def test_sparse_members_are_named(tmp_path: Path) -> None:
    gnu = shutil.which("tar")
    with (tmp_path / "s.png").open("wb") as f:
        f.truncate(1 << 20)
        f.seek(1 << 19)
        f.write(b"x")
    for c in ("a", "b"):
        (tmp_path / c).mkdir()
        (tmp_path / c / "1.png").write_bytes(png())
        (tmp_path / c / "2.png").write_bytes(png())
    (tmp_path / "s.png").rename(tmp_path / "a" / "s.png")
    if gnu is None:
        pytest.skip("no tar here")
    for form in ("gnu", "posix"):
        os.system(f"cd {tmp_path} && tar --sparse --format={form} -cf {form}.tar a b")
        with pytest.raises(DataError, match=r"a/s\.png: a sparse file"):
            open_data(data_config(str(tmp_path / f"{form}.tar")))


def test_headers_agree_with_tarfile(tmp_path: Path, photos: Path) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form) as t:
            t.add(photos / "cat", "x" * 80 + "/" + "y" * 60)
        with tarfile.open(path) as t:
            expected = [(m.name, m.offset_data, m.size) for m in t if m.isreg()]
        entries = open_archive(str(path)).entries
        assert list(zip(entries.names, entries.offsets, entries.sizes, strict=True)) == expected


# Archives that are none.


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.zip", b"<html>404</html>", "not a zip file"),
        ("t.zip", b"", "zero bytes"),
        ("t.tar", b"<html>404</html>" * 100, "not a tar file"),
        ("t.tar", b"", "zero bytes"),
        ("t.tar", bytes(10240), "no images"),
        ("t.tar.gz", b"\x1f\x8b\x08nonsense", "damaged or truncated"),
        ("t.tar.bz2", b"BZh9nonsense", "damaged or truncated"),
        ("t.tar.xz", b"\xfd7zXZ\0nonsense", "damaged or truncated"),
        ("t.tgz", gzip.compress(b"<html>" * 200, mtime=0), "t.tgz does not contain a tar"),
    ],
)
def test_no_archive(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_data(data_config(name))


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    for name in ("t.zip", "t.tar", "t.tar.gz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=f"{name} is not a file but a FIFO"):
            open_data(data_config(name))


@pytest.mark.parametrize("kind", ["deflated.zip", "gnu.tar", "tar.gz"])
def test_an_archive_truncated_anywhere_gives_a_clear_error(photos: Path, kind: str) -> None:
    path = Path(archived(photos, kind))
    whole = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        try:
            data = open_data(data_config(str(path), unreadable="skip"))
        except DataError:
            continue
        assert kind == "gnu.tar"
        assert any("truncated" in n for n in data.notes)


def test_a_truncated_last_member_is_named(tmp_path: Path) -> None:
    path = Path(write_tar(tmp_path / "t.tar", list(GOOD.items())))
    last = open_archive(str(path)).entries
    path.write_bytes(path.read_bytes()[: last.offsets[-1] + 20])
    with pytest.raises(DataError, match=r"b/2\.png: truncated: the archive ends within it"):
        open_data(data_config(str(path)))


def test_damage_in_a_tar_is_reported_with_its_offset(tmp_path: Path) -> None:
    path = Path(write_tar(tmp_path / "t.tar", list(GOOD.items())))
    data = bytearray(path.read_bytes())
    data[1024:1536] = b"x" * 512
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged at byte 1,024"):
        open_data(data_config(str(path)))


def test_a_changed_archive_is_not_read_at_old_offsets(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip", GOOD)
    data = open_data(data_config(path))
    write_zip(tmp_path / "t.zip", {n: png(77) + b"longer" for n in GOOD})
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match=r"has changed since it was listed"):
        pickle.loads(pickle.dumps(data)).train.read(0)


# Unpacked once, listed once.


def test_a_compressed_tar_is_unpacked_once_and_again_when_it_changes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    path = archived(photos, "tar.gz")
    data = open_data(data_config(path))
    (unpacked,) = (tmp_path / "cache" / "unpacked").iterdir()
    assert "unpacking" in capsys.readouterr().err
    assert any(str(unpacked) in n for n in data.notes)
    before = unpacked.stat().st_mtime_ns
    open_data(data_config(path))
    assert unpacked.stat().st_mtime_ns == before
    assert "unpacking" not in capsys.readouterr().err
    shutil.copy(photos / "cat" / "000.png", photos / "cat" / "new.png")
    archived(photos, "tar.gz")
    assert len(names(open_data(data_config(path)))) == 8
    assert len(list((tmp_path / "cache" / "unpacked").iterdir())) == 1
    monkeypatch.setenv("ZOO_CACHE", str(photos / "readme.txt"))
    with pytest.raises(DataError, match="cannot unpack"):
        open_data(data_config(path))


def test_decompression_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("zoo.data.sources.tar._MIN_BOMB_BYTES", 1 << 20)
    head = tarfile.TarInfo("a/1.png").tobuf()
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(head + bytes(20 << 20)))
    with pytest.raises(DataError, match="more than 200 times its size"):
        open_data(data_config("bomb.tar.gz"))
    monkeypatch.setattr("zoo.data.sources.tar._MIN_FREE_BYTES", 1 << 60)
    (tmp_path / "full.tar.gz").write_bytes(gzip.compress(head, mtime=0))
    with pytest.raises(DataError, match="would be free on the disk"):
        open_data(data_config("full.tar.gz"))
    assert not list((tmp_path / "cache" / "unpacked").iterdir())


def test_the_member_list_is_cached_and_a_damaged_cache_is_ignored(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archive, "_MIN_CACHED_BYTES", 0)
    path = archived(photos, "pax.tar")
    first = open_data(data_config(path))
    (cached,) = (tmp_path / "cache" / "archives").iterdir()

    def never(archive: ArchiveFile) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(archive, "list_tar", never)
        again = open_data(data_config(path))
    assert again.fingerprint() == first.fingerprint()
    assert names(again) == names(first)
    for content in (b"", b"PK\3\4 nonsense", cached.read_bytes()[:-200]):
        cached.write_bytes(content)
        assert open_data(data_config(path)).fingerprint() == first.fingerprint()


def test_the_stem_of_an_archive() -> None:
    assert [stem(p) for p in ("x/a.zip", "a.tar", "a.tar.gz", "a.b.tgz")] == ["a", "a", "a", "a.b"]


def test_memory_per_member(tmp_path: Path) -> None:
    """A million members are 40 MB, not a gigabyte of objects."""
    path = write_tar(tmp_path / "t.tar", [(f"{'ab'[i % 2]}/{i}.png", GOOD["a/0.png"]) for i in range(2000)])
    assert len(pickle.dumps(open_data(data_config(path)).train)) < 2000 * 80
