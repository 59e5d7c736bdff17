"""Train from CSV tables: several labels per image, and regression. Needs no download.

python examples/table_targets.py
"""

import csv
import random
from pathlib import Path

from PIL import Image, ImageDraw

import zoo

COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}


def draw_images(folder: Path, images: int = 40) -> None:
    """Draw up to three colored bars per image; write labels.csv (the colors) and heights.csv (the mean height)."""
    generator = random.Random(0)
    folder.mkdir(exist_ok=True)
    labels, heights = [("image", "tags")], [("image", "height")]
    for number in range(images):
        name = f"{number:02d}.png"
        image = Image.new("RGB", (48, 48), tuple(generator.randrange(230, 256) for _ in range(3)))
        draw, tall = ImageDraw.Draw(image), generator.randrange(8, 44)
        present = [color for color in COLORS if generator.random() < 0.5]
        for position, color in enumerate(COLORS):
            if color in present:
                draw.rectangle((4 + 15 * position, 47 - tall, 14 + 15 * position, 47), fill=COLORS[color])
        image.save(folder / name)
        labels.append((name, "|".join(present)))
        heights.append((name, f"{tall / 47 if present else 0.0:.3f}"))
    for table, rows in (("labels.csv", labels), ("heights.csv", heights)):
        with (folder / table).open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def main() -> None:
    folder = Path("bars")
    draw_images(folder)
    images = [str(folder / "00.png"), str(folder / "01.png")]

    run = zoo.finetune("zoo_tiny", data=str(folder / "labels.csv"), label_separator="|", freeze="backbone")
    print(f"multi-label: average precision {zoo.evaluate(run).evaluation.summary()['average_precision']:.2f}")
    print([prediction.labels for prediction in zoo.predict(run, images)])

    run = zoo.finetune("zoo_tiny", data=str(folder / "heights.csv"), task="regression", freeze="backbone")
    print(f"regression: mean absolute error {zoo.evaluate(run).evaluation.summary()['mae']:.2f}")
    print([prediction.values for prediction in zoo.predict(run, images)])


if __name__ == "__main__":
    main()
