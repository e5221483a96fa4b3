"""Files of many frames: each frame as it is stored, or one line that says why not."""

import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from crossband.errors import CrossbandError, OptionError, PairError
from crossband.pairs.check import check_source
from crossband.pairs.export import export_folder
from crossband.pairs.frames import FramePairs, open_frames
from crossband.pairs.opening import list_splits, open_pairs
from crossband.pairs.radiometric import Conditions
from mutations import damaged
from radiometric_files import PARAMETERS, flir_block
from stored_images import counts, noise, png_bytes

DEEP = np.random.default_rng(2).integers(5000, 12000, (5, 6, 8)).astype(np.uint16)
COLOUR = noise(5, 6, 8, 3)


def pages(path: Path, frames: np.ndarray, **options: object) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for frame in frames:
            tiff.write(frame, contiguous=False, metadata=None, **options)
    return path


def sequence(path: Path, frames: np.ndarray) -> Path:
    path.write_bytes(b"".join(flir_block(frame, png=False, parameters=PARAMETERS) for frame in frames))
    return path


def video(path: Path, frames: np.ndarray, codec: str, pixels: str, array: str | None = None) -> Path:
    av = pytest.importorskip("av", reason="video is read by PyAV: pip install 'crossband[video]'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for frame in frames:
            made = av.VideoFrame.from_ndarray(frame, format=array or pixels)
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    return path


def png_in_matroska(path: Path, frames: np.ndarray) -> Path:
    """Frames as 16-bit PNG in Matroska, by hand (RFC 9559): PyAV reads it, and does not write it."""

    def element(number: str, content: bytes | int) -> bytes:
        data = content.to_bytes(4, "big") if isinstance(content, int) else content
        return bytes.fromhex(number) + (1 << 56 | len(data)).to_bytes(8, "big") + data

    height, width = frames.shape[1:]
    bitmap = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 16, b"MPNG", 0, 0, 0, 0, 0)
    picture = element("e0", element("b0", width) + element("ba", height))
    track = [element("d7", 1), element("73c5", 1), element("83", 1), element("86", b"V_MS/VFW/FOURCC")]
    tracks = element("1654ae6b", element("ae", b"".join(track) + element("63a2", bitmap) + picture))
    blocks = b""
    for index, frame in enumerate(frames):
        head = b"\x81" + struct.pack(">hB", 40 * index, 0x80)
        blocks += element("a3", head + png_bytes(frame, colour_type=0, depth=16))
    information = element("1549a966", element("2ad7b1", 1_000_000))
    segment = element("18538067", information + tracks + element("1f43b675", element("e7", 0) + blocks))
    path.write_bytes(element("1a45dfa3", element("4282", b"matroska")) + segment)
    return path


def stored(path: Path) -> np.ndarray:
    frames = open_frames(path, "infrared")
    return np.stack([frames[index].samples for index in range(len(frames))])


def refusal(path: Path) -> str:
    """Why the frames of a damaged file cannot be read, in one line that names it; "" if they can."""
    try:
        stored(path)
    except CrossbandError as error:
        message = str(error)
    else:
        return ""
    assert message.count(str(path)) == 1
    assert "\n" not in message
    return message


class TestTiff:
    @pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
    def test_pages(self, tmp_path: Path, compression: str | None) -> None:
        image = DEEP if compression != "packbits" else DEEP.astype(np.uint8)
        if compression == "packbits":
            Image.fromarray(image[0]).save(
                tmp_path / "a.tif",
                save_all=True,
                append_images=[Image.fromarray(frame) for frame in image[1:]],
                compression=compression,
            )
        else:
            pages(tmp_path / "a.tif", image, compression=compression)
        np.testing.assert_array_equal(stored(tmp_path / "a.tif")[..., 0], image)

    def test_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        with tifffile.TiffWriter(path) as tiff:
            for frame in (DEEP[0], DEEP[1, :4]):
                tiff.write(frame, contiguous=False, metadata=None)
        frames = open_frames(path, "infrared")
        with pytest.raises(PairError, match=r"frame 1 is 4 x 8 pixels, the first 6 x 8"):
            frames[1]
        with pytest.raises(IndexError):
            frames[2]
        with pytest.raises(PairError, match="holds no temperatures"):
            open_frames(path, "infrared", Conditions())
        Image.fromarray(DEEP[0]).save(tmp_path / "a.png")
        with pytest.raises(PairError, match="one PNG image and no file of frames"):
            open_frames(tmp_path / "a.png", "infrared")

    def test_floats_are_degrees_where_degrees_are_asked_for(self, tmp_path: Path) -> None:
        path = pages(tmp_path / "a.tif", np.full((2, 3, 4), 30, np.float32))
        pairs = FramePairs(path, infrared_scaling="celsius(20, 40)")
        np.testing.assert_allclose(pairs[1].infrared, 0.5)


class TestSequence:
    def test_counts_and_degrees(self, tmp_path: Path) -> None:
        path = sequence(tmp_path / "a.seq", DEEP)
        np.testing.assert_array_equal(stored(path)[..., 0], DEEP)
        degrees = open_frames(path, "infrared", Conditions(distance=0))[0].samples
        assert degrees.dtype == np.float32
        assert -80 < degrees.min() < degrees.max() < 80

    def test_refused(self, tmp_path: Path) -> None:
        path = sequence(tmp_path / "a.seq", DEEP)
        whole = path.read_bytes()
        for data, why in (
            (whole[:-3], "its frame 4 is cut off"),
            (whole + b"more", "what follows its 5 frames is none"),
            (whole[:70], "directory"),
        ):
            path.write_bytes(data)
            with pytest.raises(PairError, match=why) as caught:
                open_frames(path, "infrared")
            assert str(caught.value).startswith(f"{path}: ")

    def test_a_real_one(self, shared_data: Path) -> None:
        path = shared_data / "rig" / "flir_video" / "SampleSEQ.seq"
        if not path.is_file():
            pytest.skip(f"no {path}")
        pairs = FramePairs(path, infrared_scaling="celsius(15, 45)")
        assert len(pairs) == 2
        infrared = pairs[0].infrared
        assert infrared is not None
        # Nothing in the picture is colder than the room or warmer than skin.
        assert infrared.shape == (480, 640)
        assert 0.05 < infrared.min() < infrared.max() < 0.9
        with pytest.raises(PairError, match="JPEG-LS"):
            FramePairs(path.with_name("SampleCSQ.csq"))


class TestVideo:
    @pytest.mark.parametrize(
        ("name", "codec", "pixels"),
        [("a.mkv", "ffv1", "gray16le"), ("b.mov", "png", "gray16be"), ("a.avi", "ffv1", "gray16le")],
    )
    def test_16_bits_come_back(self, tmp_path: Path, name: str, codec: str, pixels: str) -> None:
        path = video(tmp_path / name, DEEP, codec, pixels)
        np.testing.assert_array_equal(stored(path)[..., 0], DEEP)
        frames = open_frames(path, "infrared")
        # In any order, though it is decoded from the start.
        for index in (3, 0, 4, 1):
            np.testing.assert_array_equal(frames[index].samples[..., 0], DEEP[index])

    def test_png_in_matroska_comes_back(self, tmp_path: Path) -> None:
        pytest.importorskip("av", reason="video is read by PyAV: pip install 'crossband[video]'")
        np.testing.assert_array_equal(stored(png_in_matroska(tmp_path / "a.mkv", DEEP))[..., 0], DEEP)

    def test_8_bits_come_back(self, tmp_path: Path) -> None:
        grey = noise(5, 6, 8)
        np.testing.assert_array_equal(stored(video(tmp_path / "g.mkv", grey, "ffv1", "gray"))[..., 0], grey)
        path = video(tmp_path / "c.mov", COLOUR, "png", "rgb24")
        np.testing.assert_array_equal(stored(path), COLOUR)

    @pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "yuv420p10le"), ("ffv1", "gbrp16le")])
    def test_what_would_lose_depth_is_refused(self, tmp_path: Path, codec: str, pixels: str) -> None:
        path = video(tmp_path / "a.mkv", np.repeat(DEEP[..., None], 3, 3), codec, pixels, "rgb48le")
        with pytest.raises(PairError, match=f"a video of {pixels}, which could only be read as 8 bits"):
            open_frames(path, "infrared")

    def test_playlists_lead_nowhere(self, tmp_path: Path) -> None:
        pytest.importorskip("av", reason="video is read by PyAV: pip install 'crossband[video]'")
        video(tmp_path / "a.mkv", DEEP, "ffv1", "gray16le")
        for name, text in (
            ("a.m3u8", "#EXTM3U\n#EXTINF:1,\na.mkv\n#EXT-X-ENDLIST\n"),
            ("a.ffconcat", "ffconcat version 1.0\nfile a.mkv\n"),
        ):
            (tmp_path / name).write_text(text)
            with pytest.raises(PairError):
                open_frames(tmp_path / name, "infrared")

    def test_damage(self, tmp_path: Path) -> None:
        path = video(tmp_path / "a.mkv", DEEP, "ffv1", "gray16le")
        whole, refused = path.read_bytes(), 0
        for seed in range(40):
            path.write_bytes(damaged(whole, seed))
            refused += bool(refusal(path))
        assert refused > 0

    def test_without_pyav(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "av", None)
        (tmp_path / "a.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
        with pytest.raises(OptionError, match=r"pip install 'crossband\[video\]'"):
            open_frames(tmp_path / "a.mkv", "infrared")


@pytest.mark.parametrize("name", ["a.tif", "a.seq"])
def test_damaged_sequences(tmp_path: Path, name: str) -> None:
    make = pages if name == "a.tif" else sequence
    path = make(tmp_path / name, DEEP[:2])
    whole, refused = path.read_bytes(), 0
    for seed in range(120):
        path.write_bytes(damaged(whole, seed))
        refused += bool(refusal(path))
    assert refused > 0


def test_claims_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = flir_block(DEEP[0], png=False)
    size = struct.pack("<HHH", 2, 8, 6)
    (tmp_path / "a.seq").write_bytes(block.replace(size, struct.pack("<HHH", 2, 60000, 60000)))
    with pytest.raises(PairError, match="more than the limit"):
        open_frames(tmp_path / "a.seq", "infrared")


class TestPairs:
    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        visible = pages(tmp_path / "v.tif", COLOUR, photometric="rgb")
        return f"frames:{pages(tmp_path / 'i.tif', DEEP)},visible={visible}"

    def test_both_bands(self, source: str) -> None:
        pairs = open_pairs(source, "all")
        assert (len(pairs), pairs.bands, pairs.name(3)) == (5, ("visible", "infrared"), "000003")
        assert list_splits(source) == ["all"]
        for index, pair in enumerate(pairs):
            assert pair.visible is not None
            assert pair.infrared is not None
            np.testing.assert_array_equal(counts(pair.visible, 255), COLOUR[index])
            np.testing.assert_array_equal(counts(pair.infrared, 65535), DEEP[index])
        again = pickle.loads(pickle.dumps(pairs))
        np.testing.assert_array_equal(again[2].infrared, pairs[2].infrared)

    def test_from_several_threads(self, source: str) -> None:
        pairs = open_pairs(source, "all")
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda index: pairs[index % 5].infrared, range(40)))
        for index, infrared in enumerate(read):
            assert infrared is not None
            np.testing.assert_array_equal(counts(infrared, 65535), DEEP[index % 5])

    def test_automatic_scaling_is_one_rule_for_all_frames(self, source: str) -> None:
        rule = open_pairs(source, "all", infrared_scaling="auto").scaling
        assert rule.rule == "fixed"
        assert rule.limits is not None
        assert DEEP.min() <= rule.limits[0] < 5400
        assert 11600 < rule.limits[1] <= DEEP.max()

    def test_export_and_check(self, source: str, tmp_path: Path) -> None:
        report = check_source(source)
        assert report.ok, report.to_text()
        assert "frame, 16-bit, 1 channel" in report.to_text()
        assert "infrared is uint16 from" in report.to_text()
        export_folder(source, tmp_path / "out")
        for index in range(5):
            name = f"{index:06d}.png"
            infrared = np.asarray(Image.open(tmp_path / "out" / "all" / "infrared" / name))
            np.testing.assert_array_equal(infrared, DEEP[index])
            visible = np.asarray(Image.open(tmp_path / "out" / "all" / "visible" / name))
            np.testing.assert_array_equal(visible, COLOUR[index])

    def test_a_damaged_frame_is_one_of_the_problems(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
            for frame in (DEEP[0], DEEP[1, :4], DEEP[2]):
                tiff.write(frame, contiguous=False, metadata=None)
        text = check_source(f"frames:{tmp_path / 'a.tif'}").to_text()
        assert "frame 1 is 4 x 8 pixels" in text

    def test_refused(self, tmp_path: Path, source: str) -> None:
        one = pages(tmp_path / "one.tif", COLOUR[:2], photometric="rgb")
        with pytest.raises(PairError, match=r"has 2 frames .* has 5 frames: frames are paired by number"):
            open_pairs(f"frames:{tmp_path / 'i.tif'},visible={one}", "all")
        with pytest.raises(OptionError, match="no option 'colour'"):
            open_pairs(f"{source},colour=x", "all")
        with pytest.raises(OptionError, match="no split 'train'"):
            open_pairs(source, "train")
        with pytest.raises(PairError, match="there is no such file"):
            open_pairs(f"frames:{tmp_path / 'none.tif'}", "all")


def levels_of(path: Path) -> list[int]:
    """What each frame of a video shows, where frame n of the original has level 10 + 6 n."""
    frames = open_frames(path, "visible")
    shown = [frames[number].samples.mean() for number in range(len(frames))]
    # Going back gives the same frames.
    assert [frames[number].samples.mean() for number in (len(frames) - 1, 0)] == [shown[-1], shown[0]]
    return [round((level - 10) / 6) for level in shown]


@pytest.mark.parametrize("name", ["cut.mp4", "late.ts", "late.mkv"])
def test_a_video_that_was_cut_gives_each_frame_at_its_time(tmp_path: Path, name: str) -> None:
    """Cut as programs do that copy the packets: what is too early is hidden, or builds on what is gone."""
    av = pytest.importorskip("av")
    if "libx264" not in av.codecs_available:
        pytest.skip("this PyAV writes no H.264")
    grey = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None] * 6 + 10, (40, 32, 48, 3))
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.options = {"g": "12", "bf": "2", "sc_threshold": "0", "crf": "5"}
        for frame in grey:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.array(frame), format="rgb24")))
        container.mux(stream.encode(None))
    assert levels_of(whole) == [*range(40)]
    with av.open(str(whole)) as container, av.open(str(tmp_path / name), "w") as cut:
        stream = cut.add_stream_from_template(container.streams.video[0])
        for number, packet in enumerate(container.demux(container.streams.video[0])):
            if packet.dts is None or (name.startswith("late") and number < 5):
                continue
            if name.startswith("cut"):
                back = round(0.5 / packet.time_base)
                packet.pts, packet.dts = packet.pts - back, packet.dts - back
            packet.stream = stream
            cut.mux(packet)
    expected = [*range(5, 40)] if name.startswith("cut") else [*range(12, 40)]
    assert levels_of(tmp_path / name) == expected
    times = open_frames(tmp_path / name, "visible").times
    assert times is not None
    np.testing.assert_allclose(np.array(times) / 1e9, np.arange(len(expected)) / 10, atol=2e-3)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_video_is_turned_as_it_is_shown(tmp_path: Path, quarters: int) -> None:
    """As phones keep it: the matrix of the MP4's track says how, counted against the clock by np.rot90."""
    flat = np.zeros((3, 32, 64, 3), np.uint8)
    flat[:, :16, :32] = 255
    upright = video(tmp_path / "upright.mp4", flat, "mpeg4", "yuv420p", "rgb24")
    content = bytearray(upright.read_bytes())
    cosine, sine = {1: (0, -1), 2: (-1, 0), 3: (0, 1)}[quarters]
    matrix = content.find(b"tkhd") + 4 + 4 + 36
    one = 1 << 16
    assert struct.unpack_from(">9i", content, matrix) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    turned = (cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", content, matrix, *turned)
    path = tmp_path / "turned.mp4"
    path.write_bytes(content)
    frames = open_frames(path, "visible")
    first = np.rot90(open_frames(upright, "visible")[0].samples, quarters)
    assert frames.size == first.shape[:2]
    for number in range(3):
        np.testing.assert_allclose(frames[number].samples.astype(int), first.astype(int), atol=4)
