"""Parquet files with paths or images: equal to the folder of the same images, read by row group."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zoo.data import data_config, make_loader, open_data
from zoo.errors import DataError


@pytest.fixture
def stored(photos) -> list[dict]:
    """A row for each image: its bytes, its path and its label."""
    return [{"bytes": Path(p).read_bytes(), "path": Path(p).name, "label": c} for p, c in photos]


def test_parquet_of_paths_equals_the_folder(photos, same_as_folder, write_parquet):
    write_parquet(
        "t.parquet", {"image": [p for p, _ in photos], "label": [c for _, c in photos], "__index_level_0__": [7] * 12}
    )
    same_as_folder(open_data(data_config("t.parquet")))
    Path("t.csv").write_text("image,label\n" + "".join(f"{p},{c}\n" for p, c in photos))
    assert open_data(data_config("t.parquet")).fingerprint() == open_data(data_config("t.csv")).fingerprint()


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_parquet_of_images_equals_the_folder_and_is_read_by_row_group(
    stored, form, monkeypatch, same_as_folder, write_parquet
):
    from zoo.data.sources import parquet

    images = [r["bytes"] if form == "bytes" else {"bytes": r["bytes"], "path": r["path"]} for r in stored]
    write_parquet("t.parquet", {"label": [r["label"] for r in stored], "image": images}, row_group_size=5)
    data = open_data(data_config("t.parquet"))
    same_as_folder(data)
    assert data.train.where(0).startswith("./t.parquet/row ")
    whole = data.train.source
    assert whole.shards.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    assert whole.sizes.tolist() == [len(r["bytes"]) for r in stored]
    group = len(stored[0]["bytes"]) * 5
    monkeypatch.setattr(parquet, "_CACHE_BYTES", 2 * group)
    parquet._groups.clear()
    for i in (0, 11, 5, 1):
        assert whole.read_file_bytes(i) == stored[i]["bytes"]
        assert parquet._groups._bytes < 3 * group


def test_workers_read_parquet_like_the_main_process(stored, preprocess, write_parquet):
    write_parquet(
        "t.parquet", {"label": [r["label"] for r in stored], "image": [r["bytes"] for r in stored]}, row_group_size=4
    )
    data = open_data(data_config("t.parquet"))
    options = {"preprocess": preprocess, "batch_size": 3, "train": True, "augment": None, "seed": 1}
    alone = [i.numpy() for i, _ in make_loader(data.train, workers=0, **options)]
    several = [i.numpy() for i, _ in make_loader(data.train, workers=2, **options)]
    assert all((a == b).all() for a, b in zip(alone, several, strict=True))


def test_lists_nulls_and_damage_in_parquet(stored, write_parquet):
    tags = [["sea"], ["sea", "sand"], None, [], *[["sand"]] * 8]
    write_parquet("t.parquet", {"image": [r["bytes"] for r in stored], "tags": tags})
    assert open_data(data_config("t.parquet")).classes == ("sand", "sea")
    images = [None if i == 3 else r["bytes"][:200] if i == 5 else r["bytes"] for i, r in enumerate(stored)]
    write_parquet("t.parquet", {"image": images, "label": [r["label"] for r in stored]})
    with pytest.raises(DataError) as e:
        open_data(data_config("t.parquet"))
    assert "t.parquet/row 4: no image: the cell is null" in e.value.message
    assert "t.parquet/row 6: truncated file" in e.value.message
    data = open_data(data_config("t.parquet", unreadable="skip"))
    assert (len(data.train) + len(data.val), len(data.problems)) == (10, 2)
    write_parquet(
        "t.parquet", {"image": [r["bytes"] for r in stored], "label": [None, *(r["label"] for r in stored[1:])]}
    )
    with pytest.raises(DataError, match="no label in column 'label': row 1"):
        open_data(data_config("t.parquet"))
    Path("t.parquet").write_bytes(Path("t.parquet").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"t\.parquet is not a readable Parquet file"):
        open_data(data_config("t.parquet"))


def test_changed_files_and_large_row_groups_raise(stored, monkeypatch, write_parquet):
    from zoo.data.sources import parquet

    columns = {"image": [r["bytes"] for r in stored], "label": [r["label"] for r in stored]}
    write_parquet("t.parquet", columns)
    data = open_data(data_config("t.parquet"))
    parquet._groups.clear()
    write_parquet("t.parquet", columns, row_group_size=3)
    with pytest.raises(DataError, match="has changed since it was listed"):
        data.train.read(0)
    monkeypatch.setattr(parquet, "_MAX_GROUP_BYTES", 1000)
    with pytest.raises(DataError, match=r"row group 1 of t\.parquet has"):
        open_data(data_config("t.parquet"))


def test_a_folder_of_parquet_shards(tmp_path, stored, same_as_folder, write_parquet):
    (tmp_path / "set" / "data").mkdir(parents=True)
    for name, rows in (
        ("train-00000-of-00002", stored[:4]),
        ("train-00001-of-00002", stored[6:10]),
        ("validation-0", [*stored[4:6], *stored[10:]]),
    ):
        write_parquet(
            f"set/data/{name}.parquet", {"image": [r["bytes"] for r in rows], "label": [r["label"] for r in rows]}
        )
    data = open_data(data_config("set"))
    assert (data.name, len(data.train), len(data.val)) == ("set", 8, 4)
    same_as_folder(data)
    assert data.train.where(5) == "set/data/train-00001-of-00002.parquet/row 2"
    assert data.train.shards.tolist() == [0] * 4 + [1] * 4
    write_parquet("set/data/train-00001-of-00002.parquet", {"picture": [b""], "label": ["x"]})
    with pytest.raises(DataError, match="has other columns than"):
        open_data(data_config("set"))


def test_missing_pyarrow_or_datasets_names_the_package_to_install(photos, monkeypatch, write_parquet):
    write_parquet("t.parquet", {"image": [p for p, _ in photos], "label": [c for _, c in photos]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError) as e:
        open_data(data_config("t.parquet"))
    assert "pip install 'zoo[parquet]'" in e.value.hint
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError) as e:
        open_data(data_config("hf:beans"))
    assert "pip install 'zoo[hf]'" in e.value.hint
