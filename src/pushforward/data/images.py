"""A folder of images, optionally with one sub-folder per class."""

from __future__ import annotations

import contextlib
import logging
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .limits import MAX_SIZE, check_size
from .raw import Raw
from .text import natural_order

#: File names that are taken for images.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
#: What these files may hold; their names are not believed.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
#: Bytes of memory that decoding takes for a pixel, and for a byte of a file, at most.
PIXEL, BYTE = 32, 8
#: Bytes that a pixel of one channel takes: as it is read, and in float32.
KEPT = 5


def read_folder(folder: Path, resize: int | None = None, max_size: float = MAX_SIZE) -> Raw:
    """Images of one size as ``(N, C, H, W)``: one channel where all are grey, else three.

    resize: scale the shorter side of every image to so many pixels and cut out the central square.
    Images in sub-folders carry the sub-folder's name as ``label``.  Warns of images that are converted:
    without their transparency, or from other colours than red, green and blue.

    Raises ValueError for a folder without images, for images both in it and in sub-folders, of different
    sizes, unreadable, of 16 bits, or of more than ``max_size`` gigabytes, one decoded or all together.
    """
    if resize is not None and (isinstance(resize, bool) or not isinstance(resize, int) or resize < 1):
        raise ValueError(f"resize: expected a positive number of pixels, got {resize!r}")
    if resize is not None:
        check_size(f"--resize {resize}", PIXEL * resize**2, max_size, "an image")
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
    channels = 1
    changes: Counter[str] = Counter()
    for path in paths:
        image, changed = _read(path, resize, max_size)
        if pixels and image.shape[:2] != pixels[0].shape[:2]:
            sizes = [f"{i.shape[1]} x {i.shape[0]}" for i in (pixels[0], image)]
            raise ValueError(
                f"{folder}: images of different sizes: {paths[0].relative_to(folder)} is {sizes[0]}, "
                f"{path.relative_to(folder)} is {sizes[1]}; bring all to one size with --resize, "
                "such as --resize 32"
            )
        if not pixels or image.shape[2] > channels:
            channels = image.shape[2]
            check_size(str(folder), KEPT * channels * image[:, :, 0].size * len(paths), max_size, "images")
        pixels.append(image)
        changes.update(changed)
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


def _read(path: Path, resize: int | None, max_size: float) -> tuple[np.ndarray, list[str]]:
    """Bytes ``(H, W, C)`` with C = 1 or 3, a camera's rotation applied, and what else was changed."""
    from PIL import Image, ImageOps

    try:
        check_size(str(path), BYTE * path.stat().st_size, max_size, "an image file")
        with _quiet(), Image.open(path, formats=FORMATS) as file:
            what = f"memory for an image of {file.width:,} x {file.height:,} pixels"
            check_size(str(path), PIXEL * file.width * file.height, max_size, what)
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
    except (OSError, SyntaxError, EOFError, TypeError, IndexError, KeyError, struct.error, zlib.error):
        raise ValueError(f"{path}: not a readable image") from None
    except ValueError as error:
        ours = str(error).startswith(f"{path}: ")
        raise error if ours else ValueError(f"{path}: not a readable image") from None
    return pixels[:, :, None] if grey else pixels, changed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's own limit of pixels is for the moment none, since ours is looked at first, and it logs to
    handlers of the user alone."""
    from PIL import Image

    before, logger, nowhere = Image.MAX_IMAGE_PIXELS, logging.getLogger("PIL"), logging.NullHandler()
    Image.MAX_IMAGE_PIXELS = None
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
        logger.removeHandler(nowhere)
