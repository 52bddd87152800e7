"""Bytes from strangers: the types of media fields in requests, and decoders with limits.

A request field typed `ImageBytes` or `AudioBytes` takes base64 in JSON and raw bytes in Python; the
endpoint also fills it from a raw body of that media type.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MIB = 1024 * 1024


@dataclass(frozen=True)
class Media:
    """What a bytes field holds: its media types, and the most bytes it may have."""

    types: tuple[str, ...]
    limit: int


def _decode_base64(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not valid base64") from None


_IN_JSON = (
    BeforeValidator(_decode_base64),
    PlainSerializer(lambda raw: base64.b64encode(raw).decode("ascii"), return_type=str, when_used="json"),
)
IMAGE = Media(("image/jpeg", "image/png"), 8 * MIB)
AUDIO = Media(("audio/wav",), 16 * MIB)
ImageBytes = Annotated[
    bytes,
    *_IN_JSON,
    IMAGE,
    Field(json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/jpeg"}),
]
AudioBytes = Annotated[
    bytes,
    *_IN_JSON,
    AUDIO,
    Field(json_schema_extra={"contentEncoding": "base64", "contentMediaType": "audio/wav"}),
]


def example_png(lines: Sequence[bytes]) -> str:
    """Lines of red, green and blue bytes as a PNG in base64: the example of a request, without Pillow."""
    parts = {
        b"IHDR": struct.pack(">2I5B", len(lines[0]) // 3, len(lines), 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + line for line in lines)),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode("ascii")


@dataclass(frozen=True)
class PictureFlag:
    """Marks the field of a request that asks for a picture in the answer."""


WantsPicture = Annotated[bool, PictureFlag()]
"""Type such a field so, and give the answer a field `ImageBytes | None`: `Accept: image/png` then sets it."""


def picture_flag(request: type[BaseModel]) -> str | None:
    """The name of the request's WantsPicture field, None where there is none."""
    for name, info in request.model_fields.items():
        if any(isinstance(mark, PictureFlag) for mark in info.metadata):
            return name
    return None


def media_fields(request: type[BaseModel]) -> dict[str, Media]:
    """Field name -> Media of every media field, optional ones (`ImageBytes | None`) too, in declaration
    order."""
    return {
        name: mark
        for name, info in request.model_fields.items()
        for mark in (*info.metadata, *_marks(info.annotation))
        if isinstance(mark, Media)
    }


def _marks(kind: Any) -> list[Any]:
    # pydantic lifts the marks out of Annotated[…], but not out of a union's members
    inner = [mark for one in get_args(kind) for mark in _marks(one)]
    return [*getattr(kind, "__metadata__", ()), *inner]


class Refused(ValueError):
    """Media that is not taken; the message is for whoever sent it."""


SENT = ("JPEG", "PNG")
"""The formats of pictures that an endpoint takes."""
FILED = (*SENT, "GIF", "WEBP", "BMP", "TIFF")
"""The formats of picture files that a source may read; `still` makes them ones that an endpoint takes."""


def still(raw: bytes, max_pixels: int = 16_000_000) -> bytes:
    """A picture file as JPEG or PNG bytes that an endpoint takes: as it is, or where it is animated or of
    another format (FILED) its first frame as PNG. ValueError says what is wrong."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw), formats=SENT) as picture:
            if getattr(picture, "n_frames", 1) == 1 or picture.format == "MPO":
                return raw
    except Exception:  # another format, or damaged: decode_image says which
        pass
    file = io.BytesIO()
    decode_image(raw, max_pixels, first_frame=True, formats=FILED).save(file, "PNG")
    return file.getvalue()


def decode_image(
    raw: bytes,
    max_pixels: int = 16_000_000,
    first_frame: bool = False,
    formats: tuple[str, ...] = SENT,
) -> Image.Image:
    """An RGB picture, upright (EXIF applied), from JPEG or PNG (or `formats`); CMYK, palette and 16-bit are
    converted. ValueError says what is wrong, without a path and without the input."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(raw), formats=formats)
            width, height = picture.size
            if width * height > max_pixels:
                raise Refused(f"{width} x {height} pixels; at most {max_pixels:,} are allowed")
            if width == 0 or height == 0:
                raise Refused("the picture has no pixels")
            # an MPO is what many phones call a JPEG: its second picture is a preview or the other eye
            moving = getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO"
            if moving and not first_frame:
                raise Refused("the picture is animated; send one frame")
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16") or upright.mode == "I":
                # 16 bits a channel: keep the high byte (PIL's own convert clips at 255)
                upright = upright.convert("I").point(lambda value: value / 256).convert("L")
            return upright.convert("RGB")
    except Refused:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Refused("the picture has too many pixels") from None
    except Exception as error:
        # Pillow's decoders raise nearly anything on damaged bytes: OSError, SyntaxError, struct.error, …
        kind = (
            "truncated"
            if "truncated" in str(error).lower()
            else f"damaged, or neither {' nor '.join(formats)}"
        )
        raise Refused(f"the picture is {kind}") from None


def decode_wav(raw: bytes, max_seconds: float = 60.0) -> tuple[np.ndarray[Any, Any], int]:
    """(mono wave float32 [samples] in -1..1, sampling rate in Hz) from WAV at 8 to 48 kHz with one or
    two channels (averaged). ValueError says what is wrong."""
    import numpy as np
    import soundfile

    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        raise Refused("not a WAV file")
    if _ends_early(raw):
        # libsndfile would quietly read what there is
        raise Refused("the WAV file is truncated")
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            rate, channels, frames = int(file.samplerate), int(file.channels), int(file.frames)
            if not 8_000 <= rate <= 48_000:
                raise Refused(f"{rate} Hz; 8000 to 48000 are allowed")
            if channels not in (1, 2):
                raise Refused(f"{channels} channels; one or two are allowed")
            if frames == 0:
                raise Refused("the sound has no samples")
            if frames > max_seconds * rate:
                raise Refused(f"{frames / rate:.1f} s long; at most {max_seconds:.0f} s are allowed")
            wave = file.read(dtype="float32", always_2d=True)
    except soundfile.SoundFileError:
        raise Refused("the WAV file is damaged") from None
    if len(wave) != frames:
        raise Refused("the WAV file is truncated")
    mono = wave.mean(axis=1)
    if not np.isfinite(mono).all():
        raise Refused("the sound has samples that are not finite")
    return np.ascontiguousarray(mono, dtype=np.float32), rate


def _ends_early(raw: bytes) -> bool:
    """Whether the samples are said to go on beyond the end of the bytes."""
    at = 12
    while at + 8 <= len(raw):
        name, size = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], "little")
        if name == b"data":
            return at + 8 + size > len(raw)
        at += 8 + size + size % 2
    return False
