"""Fine-tune on a folder with one subfolder per class, evaluate, and predict. Needs no download.

python examples/finetune_folder.py            # images of circles and squares, drawn here
python examples/finetune_folder.py photos     # your own folder
"""

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

import zoo


def draw_images(folder: Path, images_per_class: int = 20) -> None:
    """Draw circles and squares of random size, position and color into folder/circle and folder/square."""
    generator = random.Random(0)
    for name in ("circle", "square"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(images_per_class):
            image = Image.new("RGB", (48, 48), "white")
            x, y, size = generator.randrange(4, 16), generator.randrange(4, 16), generator.randrange(14, 28)
            draw = ImageDraw.Draw(image)
            shape = draw.ellipse if name == "circle" else draw.rectangle
            shape((x, y, x + size, y + size), fill=tuple(generator.randrange(200) for _ in range(3)))
            image.save(folder / name / f"{number:02d}.png")


def main(folder: Path | None = None) -> None:
    if folder is None:
        folder = Path("shapes")
        draw_images(folder)

    report = zoo.check(str(folder))
    print(f"{folder}: {'no errors' if report.ok else 'errors found, see `zoo check`'}")

    run = zoo.finetune("zoo_tiny", data=str(folder), freeze="backbone")
    print(f"top-1 {zoo.evaluate(run).evaluation.summary()['top1']:.1%}")

    paths = [str(path) for path in sorted(folder.rglob("*.png"))[:3]]
    for prediction in zoo.predict(run, paths):
        print(prediction.path, prediction.label, f"{prediction.probability:.2f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
