"""A folder of images, optionally with one sub-folder per class."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from .raw import Raw
from .text import natural_order

#: File names that are taken for images.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_folder(folder: Path, resize: int | None = None) -> Raw:
    """Images of one size as ``(N, C, H, W)``: one channel where all are grey, else three.

    resize: scale the shorter side of every image to so many pixels and cut out the central square.
    Images in sub-folders carry the sub-folder's name as ``label``.  Warns of images that are read as others:
    without their transparency, or with colours that are no red, green and blue in the file.

    Raises ValueError for a folder without images, for images both in it and in sub-folders, of different
    sizes, unreadable, or of 16 bits.
    """
    if resize is not None and (isinstance(resize, bool) or not isinstance(resize, int) or resize < 1):
        raise ValueError(f"resize: expected a positive number of pixels, got {resize!r}")
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
    pixels: list[np.ndarray] = []
    changes: Counter[str] = Counter()
    for path in paths:
        image, changed = _read(path, resize)
        if pixels and image.shape[:2] != pixels[0].shape[:2]:
            sizes = [f"{i.shape[1]} x {i.shape[0]}" for i in (pixels[0], image)]
            raise ValueError(
                f"{folder}: images of different sizes: {paths[0].relative_to(folder)} is {sizes[0]}, "
                f"{path.relative_to(folder)} is {sizes[1]}; bring all to one size with --resize, "
                "such as --resize 32"
            )
        pixels.append(image)
        changes.update(changed)
    channels = max(image.shape[2] for image in pixels)
    grey = sum(image.shape[2] == 1 for image in pixels)
    if channels > 1 and grey:
        changes["grey among colour ones, read as colour"] = grey
    if changes:
        said = "; ".join(f"{count} of {len(pixels)} images are {what}" for what, count in changes.items())
        warnings.warn(f"{folder}: {said}", UserWarning, stacklevel=2)
    x = np.empty((len(pixels), channels, *pixels[0].shape[:2]), dtype=np.float32)
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


def _read(path: Path, resize: int | None) -> tuple[np.ndarray, list[str]]:
    """Bytes ``(H, W, C)`` with C = 1 or 3, a camera's rotation applied, and what else was changed."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path}: expected 8 bits per channel, got an image of mode {image.mode}")
            grey = image.mode in ("1", "L", "LA", "La")
            changed = []
            if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
                changed.append("partly transparent, read without that")
            if image.mode in ("P", "PA"):
                changed.append("of a palette, read as colour")
            elif not grey and not image.mode.startswith("RGB"):
                changed.append(f"in {image.mode}, read as RGB")
            image = image.convert("L" if grey else "RGB")
            if resize is not None:
                image = ImageOps.fit(image, (resize, resize), Image.Resampling.BICUBIC)
            pixels = np.asarray(image)
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError(f"{path}: not a readable image") from None
    return pixels[:, :, None] if grey else pixels, changed
