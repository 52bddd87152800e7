"""Bytes from strangers: what the decoders make of them, and what they say when they make nothing."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ValidationError

from penstock.media import (
    AUDIO,
    FILED,
    IMAGE,
    AudioBytes,
    ImageBytes,
    WantsPicture,
    decode_image,
    decode_wav,
    media_fields,
    picture_flag,
    still,
)


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def photo(mode: str = "RGB", size: tuple[int, int] = (32, 24)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def sound(samples: np.ndarray | None = None, rate: int = 8_000, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    wave_form = np.sin(np.arange(800) / 5) * 0.5 if samples is None else samples
    soundfile.write(file, wave_form, rate, format="WAV", subtype=subtype)
    return file.getvalue()


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_a_file_that_moves_is_taken_by_its_first_frame(kind: str) -> None:
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 255))
    moving = encode(first, kind, save_all=True, append_images=[second], duration=100)
    with pytest.raises(ValueError, match=r"animated|neither JPEG nor PNG"):
        decode_image(moving)
    taken = decode_image(still(moving))
    assert taken.size == (8, 6) and taken.getpixel((3, 3))[0] > 200  # type: ignore[index]


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF", "WEBP"])
def test_a_file_of_another_format_becomes_one_that_an_endpoint_takes(kind: str) -> None:
    assert kind in FILED
    np.testing.assert_allclose(
        np.asarray(
            decode_image(still(encode(photo(), kind, **({"lossless": True} if kind == "WEBP" else {}))))
        ),
        np.asarray(photo().convert("P").convert("RGB") if kind == "GIF" else photo()),
        atol=255 if kind == "GIF" else 0,
    )


def test_a_still_picture_keeps_its_bytes_and_a_damaged_file_is_refused() -> None:
    for kind in ("JPEG", "PNG"):
        raw = encode(photo(), kind)
        assert still(raw) == raw
    with pytest.raises(ValueError, match="damaged, or neither JPEG nor PNG nor GIF"):
        still(b"no picture")


def test_the_field_that_asks_for_a_picture_is_found() -> None:
    class Asking(BaseModel):
        count: int = 1
        drawn: WantsPicture = False

    class Silent(BaseModel):
        count: bool = False

    assert picture_flag(Asking) == "drawn" and picture_flag(Silent) is None
    assert Asking.model_validate({"drawn": "true"}).drawn is True


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_of_any_colours_becomes_rgb(mode: str) -> None:
    picture = decode_image(encode(photo(mode), "JPEG"))
    assert picture.mode == "RGB" and picture.size == (32, 24)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_png_of_any_colours_becomes_rgb(mode: str) -> None:
    picture = decode_image(encode(photo().convert(mode), "PNG"))
    assert picture.mode == "RGB" and picture.size == (32, 24)


def test_sixteen_bits_keep_their_high_byte() -> None:
    deep = Image.fromarray(np.array([[0, 256 * 100, 65_535]], np.uint16))
    assert np.asarray(decode_image(encode(deep, "PNG")))[0, :, 0].tolist() == [0, 100, 255]


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    assert decode_image(encode(photo(), "JPEG", exif=exif)).size == (24, 32)


def test_a_truncated_picture_is_called_that() -> None:
    raw = encode(photo(), "JPEG", quality=95)
    with pytest.raises(ValueError, match="truncated"):
        decode_image(raw[: len(raw) // 2])


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(b"", "neither JPEG nor PNG", id="empty"),
        pytest.param(b"hello" * 100, "neither JPEG nor PNG", id="text"),
        pytest.param(encode(photo(), "GIF"), "neither JPEG nor PNG", id="gif"),
        pytest.param(encode(photo(), "BMP"), "neither JPEG nor PNG", id="bmp"),
        pytest.param(encode(photo(), "TIFF"), "neither JPEG nor PNG", id="tiff"),
        pytest.param(encode(photo(), "PNG")[:40], "picture is", id="half a header"),
        pytest.param(png_header(0, 10), "picture is", id="no pixels"),
        pytest.param(png_header(50_000, 50_000), "pixels", id="bomb"),
        pytest.param(png_header(4_001, 4_000), "at most 16,000,000", id="just too large"),
        pytest.param(png_header(8_000, 2_000), "picture is", id="claims much, holds nothing"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        decode_image(raw)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 120


def test_an_animated_picture_is_refused_unless_its_first_frame_is_asked_for() -> None:
    raw = encode(photo(), "PNG", save_all=True, append_images=[photo().rotate(90)])
    with pytest.raises(ValueError, match="animated"):
        decode_image(raw)
    assert decode_image(raw, first_frame=True).size == (32, 24)


def test_a_phone_s_jpeg_with_a_preview_behind_it_is_a_picture() -> None:
    raw = encode(photo(), "MPO", save_all=True, append_images=[photo(size=(8, 8))])
    assert raw[:3] == b"\xff\xd8\xff" and decode_image(raw).size == (32, 24)


def test_a_text_chunk_that_unpacks_to_much_is_refused() -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", "a" * 100_000_000, zip=True)
    with pytest.raises(ValueError, match="picture is"):
        decode_image(encode(photo(), "PNG", pnginfo=notes))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 600), st.binary(max_size=8), st.sampled_from(["JPEG", "PNG"]))
def test_no_damage_to_a_picture_does_more_than_refuse_it(place: int, patch: bytes, kind: str) -> None:
    raw = bytearray(encode(photo(size=(16, 16)), kind))
    raw[place : place + len(patch)] = patch
    try:
        assert decode_image(bytes(raw)).mode == "RGB"
    except ValueError as refusal:
        assert len(str(refusal)) < 120


# ---------------------------------------------------------------- sounds


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_a_wav_of_any_depth_becomes_float(subtype: str) -> None:
    samples, rate = decode_wav(sound(subtype=subtype))
    assert samples.dtype == np.float32 and samples.shape == (800,) and rate == 8_000
    assert 0.45 < np.abs(samples).max() < 0.55


def test_two_channels_are_averaged() -> None:
    both = np.stack([np.full(100, 0.5), np.full(100, -0.5)], axis=1)
    assert np.abs(decode_wav(sound(both))[0]).max() < 1e-4


def longer_than_it_is() -> bytes:
    """Claims 4 GiB of samples."""
    raw = bytearray(sound())
    raw[40:44] = b"\xff\xff\xff\xff"
    return bytes(raw)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda: b"", "not a WAV", id="empty"),
        pytest.param(lambda: b"ID3" + bytes(100), "not a WAV", id="mp3"),
        pytest.param(lambda: sound()[:20], "damaged", id="half a header"),
        pytest.param(lambda: sound(np.zeros(0)), "no samples", id="no samples"),
        pytest.param(lambda: sound(np.zeros((100, 3))), "3 channels", id="three channels"),
        pytest.param(lambda: sound(rate=4_000), "4000 Hz", id="slow"),
        pytest.param(lambda: sound(rate=96_000), "96000 Hz", id="fast"),
        pytest.param(lambda: sound(np.zeros(8_000 * 61)), "61.0 s long", id="long"),
        pytest.param(lambda: sound(np.full(100, np.nan), subtype="FLOAT"), "not finite", id="nan"),
        pytest.param(lambda: sound(np.full(100, np.inf), subtype="FLOAT"), "not finite", id="infinite"),
    ],
)
def test_what_is_no_sound_we_take_is_refused_in_one_line(make: Callable[[], bytes], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode_wav(make())


def test_a_data_chunk_past_the_end_of_the_file_is_refused() -> None:
    with pytest.raises(ValueError, match="truncated"):
        decode_wav(longer_than_it_is())
    with pytest.raises(ValueError, match="truncated"):
        decode_wav(sound()[:-400])


def test_a_wav_without_channels_is_refused() -> None:
    raw = bytearray(sound())
    raw[22:24] = b"\0\0"
    with pytest.raises(ValueError, match=r"damaged|channels"):
        decode_wav(bytes(raw))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 120), st.binary(max_size=8))
def test_no_damage_to_a_sound_does_more_than_refuse_it(place: int, patch: bytes) -> None:
    raw = bytearray(sound())
    raw[place : place + len(patch)] = patch
    try:
        samples, rate = decode_wav(bytes(raw))
        assert np.isfinite(samples).all() and 8_000 <= rate <= 48_000
    except ValueError as refusal:
        assert len(str(refusal)) < 120


# ---------------------------------------------------------------- fields


class Request(BaseModel):
    before: str = ""
    image: ImageBytes
    audio: AudioBytes | None = None


def test_media_fields_are_found_optional_ones_too() -> None:
    assert media_fields(Request) == {"image": IMAGE, "audio": AUDIO}


def test_media_is_base64_in_json_and_bytes_in_python() -> None:
    request = Request(image=b"\x00\xff", audio=b"abc")
    assert request.image == b"\x00\xff"
    assert Request.model_validate_json(request.model_dump_json()) == request
    assert base64.b64encode(b"\x00\xff").decode() in request.model_dump_json()


def test_what_is_not_base64_is_named_without_being_repeated() -> None:
    with pytest.raises(ValidationError, match="not valid base64") as refusal:
        Request.model_validate({"image": "%%%"})
    assert refusal.value.errors()[0]["loc"] == ("image",)


def test_the_standard_library_s_wav_is_read() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((2, 2, 16_000, 0, "NONE", ""))
        out.writeframes(bytes(400))
    samples, rate = decode_wav(file.getvalue())
    assert len(samples) == 100 and rate == 16_000
