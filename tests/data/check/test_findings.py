"""Each problem, added to a clean folder, is found with its severity, and nothing else."""

from __future__ import annotations

import io
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from zoo.data.check import Report
from zoo.errors import DataError

RunCheck = Callable[..., Report]


def kinds(report: Report) -> dict[str, str]:
    return {f.kind: f.severity for f in report.findings}


def names(report: Report, kind: str) -> list[list[str]]:
    (finding,) = [f for f in report.findings if f.kind == kind]
    return [[report.short(report.listing.where(int(i))) for i in group] for group in finding.groups]


def photo(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def test_clean_folders_have_no_findings(clean: Path, split_folder: Path, run_check: RunCheck) -> None:
    for folder in (clean, split_folder, "digits"):
        report = run_check(folder)
        assert kinds(report) == {}
        assert (report.ok, report.exit_code) == (True, 0)
    report = run_check(split_folder)
    assert [p.name for p in report.listing.splits] == ["training", "validation"]
    assert report.counts.tolist() == [[10, 2], [10, 2]]


def test_the_same_file_in_both_splits_is_leakage(split_folder: Path, run_check: RunCheck) -> None:
    shutil.copy(split_folder / "train/china/03.jpg", split_folder / "val/china/again.jpg")
    report = run_check(split_folder)
    assert kinds(report) == {"leakage": "error"}
    assert names(report, "leakage") == [["train/china/03.jpg", "val/china/again.jpg"]]
    assert report.exit_code == 3


def test_a_losslessly_saved_copy_is_a_duplicate(clean: Path, run_check: RunCheck) -> None:
    photo(clean / "china/03.jpg").save(clean / "china/again.png")
    report = run_check(clean)
    assert kinds(report) == {"duplicates": "warning"}  # not split yet: a split would separate them
    assert names(report, "duplicates") == [["china/03.jpg", "china/again.png"]]
    assert report.ok


def test_one_image_under_two_labels(clean: Path, run_check: RunCheck) -> None:
    shutil.copy(clean / "china/03.jpg", clean / "flower/wrong.jpg")
    assert kinds(run_check(clean)) == {"conflicting-labels": "error"}


@pytest.mark.parametrize("how", ["resized", "recoded", "brighter", "all three"])
def test_near_duplicates_across_splits_are_leakage(split_folder: Path, run_check: RunCheck, how: str) -> None:
    image = photo(split_folder / "train/china/04.jpg")
    if how in ("resized", "all three"):
        image = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.BICUBIC)
    if how in ("brighter", "all three"):
        image = ImageEnhance.Brightness(image).enhance(1.1)
    image.save(split_folder / "val/china/alike.jpg", quality=60 if how in ("recoded", "all three") else 95)
    report = run_check(split_folder)
    assert kinds(report) == {"near-leakage": "error"}
    assert names(report, "near-leakage") == [["train/china/04.jpg", "val/china/alike.jpg"]]
    assert "bits apart, correlation " in report.findings[0].details[4]


def test_near_duplicates_within_a_split(clean: Path, split_folder: Path, run_check: RunCheck) -> None:
    for folder, severity in ((clean, "warning"), (split_folder / "train", "warning"), (split_folder, "note")):
        at = folder / "train" if folder is split_folder else folder
        photo(at / "china/05.jpg").save(at / "china/alike.jpg", quality=60)
        assert kinds(run_check(folder)) == {"near-duplicates": severity}


def test_near_duplicates_under_different_labels(clean: Path, run_check: RunCheck) -> None:
    photo(clean / "china/05.jpg").save(clean / "flower/alike.jpg", quality=60)
    assert kinds(run_check(clean)) == {"near-conflicts": "warning"}


def test_a_duplicate_that_is_twice_in_training_leaks_once(split_folder: Path, run_check: RunCheck) -> None:
    for target in ("train/china/again.jpg", "val/china/again.jpg"):
        shutil.copy(split_folder / "train/china/03.jpg", split_folder / target)
    report = run_check(split_folder)
    assert kinds(report) == {"leakage": "error"}
    assert report.findings[0].title.startswith("1 validation image ")


def test_unreadable_files_by_policy(clean: Path, run_check: RunCheck) -> None:
    data = (clean / "china/02.jpg").read_bytes()
    (clean / "china/02.jpg").write_bytes(data[: len(data) * 2 // 3])
    report = run_check(clean)
    assert kinds(report) == {"unreadable": "error"}
    assert list(report.findings[0].details.values()) == ["truncated file"]
    assert report.counts.tolist() == [[11], [12]]
    assert kinds(run_check(clean, skip=True)) == {"unreadable": "warning"}


def test_a_damaged_png_fails_its_checksum(clean: Path, run_check: RunCheck) -> None:
    buffer = io.BytesIO()
    photo(clean / "china/02.jpg").save(buffer, "PNG", compress_level=0)
    data = bytearray(buffer.getvalue())
    data[len(data) // 2] ^= 1
    (clean / "china/02.jpg").unlink()
    (clean / "china/02.png").write_bytes(data)
    assert kinds(run_check(clean)) == {"unreadable": "error"}


def test_a_mostly_unreadable_class_folder(clean: Path, run_check: RunCheck) -> None:
    for number in range(7):
        (clean / f"china/{number:02d}.jpg").write_text("<html>not found")
    report = run_check(clean)
    assert kinds(report) == {"unreadable": "error", "folders-unreadable": "warning", "few-images": "warning"}
    assert report.findings[1].names == ("china (all: 7 of 12)",)


def test_sizes_and_shapes(clean: Path, run_check: RunCheck) -> None:
    image = photo(clean / "china/06.jpg")
    image.crop((0, 0, 20, 20)).save(clean / "china/icon.png")
    image.resize((900, 100)).save(clean / "china/banner.png")
    image.crop((10, 5, 60, 50)).resize((2400, 2200), Image.Resampling.BILINEAR).save(clean / "china/poster.jpg")
    report = run_check(clean)
    assert kinds(report) == {"tiny": "warning", "extreme-aspect-ratios": "note", "odd-sizes": "note"}
    assert names(report, "tiny") == [["china/icon.png"]]
    assert names(report, "extreme-aspect-ratios") == [["china/banner.png"]]
    assert names(report, "odd-sizes") == [["china/poster.jpg"]]


def test_unusual_modes(clean: Path, run_check: RunCheck) -> None:
    fine = [photo(clean / f"china/{n:02d}.jpg") for n in range(6)]
    for n in range(6):
        (clean / f"china/{n:02d}.jpg").unlink()
    fine[0].convert("L").convert("RGB").save(clean / "china/grey.png")  # colours that are none
    fine[1].convert("CMYK").save(clean / "china/cmyk.jpg")
    fine[2].putalpha(Image.new("L", fine[2].size, 200))
    fine[2].save(clean / "china/alpha.png")
    fine[3].save(clean / "china/lies.jpg", "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    fine[4].save(clean / "china/turned.jpg", exif=exif)
    Image.new("RGB", (100, 90), (3, 4, 5)).save(clean / "china/black.png")
    report = run_check(clean)
    assert kinds(report) == {
        "blank": "warning",
        "grey-among-colour": "note",
        "cmyk": "note",
        "transparent": "note",
        "wrong-extensions": "note",
        "exif-rotated": "note",
    }
    assert names(report, "grey-among-colour") == [["china/grey.png"]]
    assert names(report, "wrong-extensions") == [["china/lies.jpg"]]
    turned = next(i for i in range(24) if report.listing.where(i).endswith("turned.jpg"))
    assert (report.rows["width"][turned], report.rows["height"][turned]) == (fine[4].height, fine[4].width)


def test_fine_texture_is_not_blank(clean: Path, run_check: RunCheck) -> None:
    """Averages over a large image of noise are all alike; the image is not."""
    noise = np.random.default_rng(0).integers(0, 60, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(clean / "china/00.png")
    assert "blank" not in kinds(run_check(clean))


def test_class_sizes(clean: Path, run_check: RunCheck) -> None:
    for number in range(1, 12):
        (clean / f"flower/{number:02d}.jpg").unlink()
    report = run_check(clean)
    assert kinds(report) == {"one-image-classes": "error", "imbalance": "warning"}
    assert report.findings[1].names == ("china (12)", "flower (1)")
    shutil.rmtree(clean / "flower")
    assert kinds(run_check(clean)) == {"one-class": "error"}


def test_classes_in_one_split_only(split_folder: Path, run_check: RunCheck) -> None:
    shutil.move(split_folder / "val/flower", split_folder / "val/rose")
    assert kinds(run_check(split_folder)) == {"class-not-in-training": "error", "class-not-in-validation": "error"}


def test_folders(clean: Path, run_check: RunCheck) -> None:
    (clean / "tulip").mkdir()
    (clean / "china/.ipynb_checkpoints").mkdir()
    shutil.copy(clean / "china/01.jpg", clean / "china/.ipynb_checkpoints/01.jpg")
    (clean / "nowhere").symlink_to(clean / "gone")
    shutil.move(clean / "china/02.jpg", clean / "loose.jpg")
    assert kinds(run_check(clean)) == {
        "images-outside-classes": "error",
        "broken-links": "warning",
        "empty-folders": "warning",
        "checkpoints": "note",
    }


def test_names_of_folders(clean: Path, run_check: RunCheck) -> None:
    for index, name in enumerate(("China ", "Flowers", "New folder (2)", "copy of flower", "Tür")):
        (clean / name).mkdir()
        for n in (1, 2):
            shutil.move(clean / f"china/{index * 2 + n:02d}.jpg", clean / name / f"{n}.jpg")
    (clean / unicodedata.normalize("NFD", "Tür")).mkdir()
    shutil.move(clean / "china/11.jpg", clean / unicodedata.normalize("NFD", "Tür") / "3.jpg")
    report = run_check(clean)
    found = {f.kind: f.names for f in report.findings}
    assert found["similar-class-names"] == ("'China ' | 'china'", "'Flowers' | 'flower'")
    assert found["accidental-names"] == ("New folder (2)", "copy of flower")
    assert [Path(n).name for n in found["folders-merged"]] == ["Tür"]
    assert report.listing.classes.count("Tür") == 1


def test_split_folders_inside_class_folders(split_folder: Path, tmp_path: Path, run_check: RunCheck) -> None:
    """ROOT/<class>/train instead of ROOT/train/<class>."""
    for part in ("train", "val"):
        for name in ("china", "flower"):
            shutil.copytree(split_folder / part / name, tmp_path / "odd" / name / part)
    assert kinds(run_check(tmp_path / "odd")) == {"splits-inside-classes": "warning"}
    nested = tmp_path / "high-bit-depth"
    shutil.copytree(split_folder / "train", nested / "animals")
    shutil.copytree(split_folder / "val", nested / "plants")
    assert kinds(run_check(nested)) == {"nested-folders": "note", "few-images": "warning"}


def test_small_images_are_compared_for_equality_only(tmp_path: Path, run_check: RunCheck) -> None:
    from sklearn.datasets import load_digits

    digits, labels = load_digits(return_X_y=True)
    for i in range(300):
        folder = tmp_path / "digits" / str(labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits[i].reshape(8, 8) * 15).astype(np.uint8)).resize((28, 28)).save(folder / f"{i}.png")
    assert kinds(run_check(tmp_path / "digits")) == {}
    shutil.copy(tmp_path / "digits/3/3.png", tmp_path / "digits/3/again.png")
    assert kinds(run_check(tmp_path / "digits")) == {"duplicates": "warning"}


def test_hostile_files(clean: Path, hostile: object, run_check: RunCheck) -> None:
    hostile.make_hostile(clean / "flower")
    report = run_check(clean)
    (unreadable,) = [f for f in report.findings if f.kind == "unreadable"]
    reasons = {Path(f.path).name: f.reason for f in unreadable.files}
    reasons |= {Path(report.listing.where(i)).name: why for i, why in unreadable.details.items()}
    assert set(reasons) == set(hostile.UNREADABLE)
    for name, why in hostile.UNREADABLE.items():
        assert any(part in reasons[name] for part in why.split("|")), (name, reasons[name])
    (links,) = [f for f in report.findings if f.kind == "broken-links"]
    assert {Path(f.path).name for f in links.files} == set(hostile.LINKS)
    sizes = {Path(report.listing.where(i)).name: (int(r["height"]), int(r["width"])) for i, r in enumerate(report.rows)}
    assert {name: sizes[name] for name in hostile.READABLE} == hostile.READABLE
    assert report.exit_code == 3


def test_nothing_to_check_is_an_error(tmp_path: Path, run_check: RunCheck) -> None:
    (tmp_path / "empty/china").mkdir(parents=True)
    with pytest.raises(DataError, match="no images in class folders"):
        run_check(tmp_path / "empty")
    with pytest.raises(DataError, match="no such path"):
        run_check(tmp_path / "gone")


def test_a_table(clean: Path, run_check: RunCheck) -> None:
    lines = [f"china/{n:02d}.jpg,red round" if n % 2 else f"china/{n:02d}.jpg,round" for n in range(12)]
    shutil.copy(clean / "china/00.jpg", clean / "china/again.jpg")
    lines.append("china/again.jpg,red")
    (clean / "table.csv").write_text("image,label\n" + "\n".join(lines) + "\n")
    report = run_check(clean / "table.csv")
    assert kinds(report) == {"conflicting-labels": "error", "one-image-classes": "error", "few-images": "warning"}
    report = run_check(clean / "table.csv", task="single-label")
    assert report.to_dict()["classes"]["red"] == {"all": 1}


def test_numbers_that_differ_for_one_image(clean: Path, run_check: RunCheck) -> None:
    lines = [f"china/{n:02d}.jpg,{n + 0.5}" for n in range(12)]
    shutil.copy(clean / "china/00.jpg", clean / "china/again.jpg")
    (clean / "table.csv").write_text("image,age\n" + "\n".join([*lines, "china/again.jpg,7.25"]) + "\n")
    report = run_check(clean / "table.csv")
    assert report.listing.task == "regression"
    assert kinds(report) == {"conflicting-labels": "warning"}
    assert report.listing.label(12) == "age 7.25"
