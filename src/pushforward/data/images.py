"""A folder of images, optionally with one sub-folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .raw import Raw
from .text import natural_order

#: File names that are taken for images.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_folder(folder: Path) -> Raw:
    """Images of one size as ``(N, C, H, W)``: one channel where all are grey, else three.

    Images in sub-folders carry the sub-folder's name as ``label``.  Raises ValueError for a folder without
    images, for images both in it and in sub-folders, of different sizes, unreadable, or of 16 bits.
    """
    files = _files(folder)
    inner = [
        (file, child.name) for child in sorted(folder.iterdir()) if child.is_dir() for file in _files(child)
    ]
    if files and inner:
        raise ValueError(
            f"{folder}: images both in the folder and in sub-folders ({inner[0][1]}); expected one"
        )
    if not files and not inner:
        raise ValueError(f"{folder}: no images in the folder (looked for {', '.join(SUFFIXES)})")
    paths = files or [file for file, _ in inner]
    first = _read(paths[0])
    pixels = [first]
    for path in paths[1:]:
        image = _read(path)
        if image.shape[:2] != first.shape[:2]:
            sizes = [f"{i.shape[1]} x {i.shape[0]}" for i in (first, image)]
            raise ValueError(
                f"{folder}: images of different sizes: {paths[0].relative_to(folder)} is {sizes[0]}, "
                f"{path.relative_to(folder)} is {sizes[1]}"
            )
        pixels.append(image)
    channels = max(image.shape[2] for image in pixels)
    x = np.empty((len(pixels), channels, *first.shape[:2]), dtype=np.float32)
    for row, image in zip(x, pixels):
        row[:] = image.transpose(2, 0, 1)
    labels = np.array([name for _, name in inner], dtype=object)
    return Raw(
        name=folder.name,
        source=str(folder),
        kind="image",
        x=x,
        extra={"label": labels} if inner else {},
        levels=(0.0, 255.0, 1.0),
    )


def _files(folder: Path) -> list[Path]:
    """Images in ``folder`` itself, in natural order; hidden files do not count."""
    names = [
        f.name
        for f in folder.iterdir()
        if f.is_file() and f.suffix.lower() in SUFFIXES and not f.name.startswith(".")
    ]
    return [folder / name for name in natural_order(names)]


def _read(path: Path) -> np.ndarray:
    """Bytes ``(H, W, C)`` with C = 1 or 3; a camera's rotation is applied, transparency dropped."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path}: expected 8 bits per channel, got an image of mode {image.mode}")
            grey = image.mode in ("1", "L", "LA")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError(f"{path}: not a readable image") from None
    return pixels[:, :, None] if grey else pixels
