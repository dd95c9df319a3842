"""Where sound and pictures come from and go to."""

from __future__ import annotations

import asyncio
import os
import pathlib
import struct
from collections.abc import AsyncIterator

import av
import pytest
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from telepathy_e2e.media import frames, programs, unix_frames
from telepathy_e2e.media.sinks import Sink, open_sink
from telepathy_e2e.media.sources import MediaUnavailable, Source, Tone, open_source
from telepathy_e2e.media.tracks import OutgoingTrack
from tests.support.media import Ears
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames go as fast as they are asked for."""

    async def at_once(self: frames.Pace) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(frames.Pace, "wait", at_once)


async def some(source: Source, count: int) -> bytes:
    pcm = b""
    for _ in range(count):
        frame = await source.recv()
        assert isinstance(frame, AudioFrame)
        assert (frame.samples, frame.sample_rate, frame.layout.name) == (960, 48000, "stereo")
        pcm += frames.pcm_of(frame)
    return pcm


@pytest.mark.parametrize(("spec", "hertz"), [("tone", 440), ("tone:1000", 1000), ("tone:20", 20)])
async def test_a_tone_is_a_sine_of_its_frequency(spec: str, hertz: int) -> None:
    source = await open_source(spec, "audio")
    ears = Ears()
    ears.pcm += await some(source, 50)
    assert ears.purity(hertz) > 0.99
    await source.close()


@pytest.mark.parametrize("spec", ["silence", "null"])
async def test_silence_is_silent(spec: str) -> None:
    source = await open_source(spec, "audio")
    assert await some(source, 2) == bytes(2 * frames.FRAME_BYTES)
    await source.close()


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("tone:19", "audio"),
        ("tone:20001", "audio"),
        ("tone:x", "audio"),
        ("tone:٤٤٠", "audio"),
        ("tone", "video"),
        ("test-pattern", "audio"),
        ("v4l2:/dev/nothing", "video"),
        ("nonsense", "audio"),
        ("", "audio"),
        ("file:", "audio"),
        ("file:/nothing/there.wav", "audio"),
        ("file:http://192.0.2.1/a.wav", "audio"),
        ("unix:/nothing/there", "audio"),
        ("unix:/nothing/there", "video"),
    ],
)
async def test_what_cannot_be_opened_says_so(spec: str, kind: frames.Kind) -> None:
    with pytest.raises(MediaUnavailable):
        await open_source(spec, kind)


@pytest.mark.parametrize("spec", ["", "x", "unix:/nothing/there", "file:/nothing/there.wav"])
async def test_sinks_that_cannot_be_opened_say_so(spec: str) -> None:
    with pytest.raises(MediaUnavailable):
        await open_sink(spec, "audio")
    with pytest.raises(MediaUnavailable):
        await open_sink("pulse", "video")


async def test_sound_is_written_to_a_file_and_played_from_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sound.wav"
    sink, tone = await open_sink(f"file:{path}", "audio"), Tone(440)
    for _ in range(60):
        await sink.write(await tone.recv())
    await sink.close()
    await sink.close()
    source = await open_source(f"file:{path}", "audio")
    ears = Ears()
    ears.pcm += await some(source, 55)
    assert ears.purity(440) > 0.99
    with pytest.raises(MediaUnavailable):
        await some(source, 20)
    await source.close()
    await source.close()


async def test_a_file_in_a_loop_never_ends(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sound.wav"
    sink, tone = await open_sink(f"file:{path}", "audio"), Tone(440)
    for _ in range(20):
        await sink.write(await tone.recv())
    await sink.close()
    source = await open_source(f"file:{path}?loop", "audio")
    assert len(await some(source, 70)) == 70 * frames.FRAME_BYTES
    await source.close()


async def test_a_file_without_sound_is_no_source_of_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "picture.mkv"
    sink = await open_sink(f"file:{path}", "video")
    pattern = await open_source("test-pattern", "video")
    for _ in range(3):
        frame = await pattern.recv()
        assert isinstance(frame, VideoFrame)
        await sink.write(frame)
        await asyncio.sleep(0.04)
    await sink.write(frames.black(320, 240))  # the peer turned his telephone
    await sink.close()
    with pytest.raises(MediaUnavailable):
        await open_source(f"file:{path}", "audio")
    source = await open_source(f"file:{path}", "video")
    shown = await source.recv()
    assert isinstance(shown, VideoFrame)
    assert (shown.width, shown.height) == (640, 480)
    await source.close()


async def test_pictures_do_not_go_into_a_file_for_sound(tmp_path: pathlib.Path) -> None:
    with pytest.raises(MediaUnavailable):
        await open_sink(f"file:{tmp_path}/a.wav", "video")


# -- sockets of other programs --------------------------------------------------------------------


async def write_until_it_ends(sink: Sink, frame: AudioFrame) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            await sink.write(frame)
            await asyncio.sleep(0.01)


async def read_all(reader: asyncio.StreamReader) -> None:
    for _ in range(10):
        await unix_frames.PictureReader(reader).read()


class Program:
    """Listens on a socket."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.there = asyncio.Event()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.there.set()


@pytest.fixture
async def program(tmp_path: pathlib.Path) -> AsyncIterator[tuple[str, Program]]:
    other = Program()
    server = await asyncio.start_unix_server(other.connected, str(tmp_path / "s"), limit=1 << 20)
    yield f"unix:{tmp_path}/s", other
    if other.there.is_set():
        other.writer.close()
        await other.writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_samples_come_from_a_socket_until_it_ends(program: tuple[str, Program]) -> None:
    spec, other = program
    source = await open_source(spec, "audio")
    await other.there.wait()
    data = bytes(range(256)) * 15
    other.writer.write(data[:1000])
    other.writer.write(data[1000:] + b"rest")
    assert await some(source, 1) == data
    other.writer.write_eof()
    with pytest.raises(MediaUnavailable):
        await source.recv()
    await source.close()


async def test_samples_go_to_a_socket_and_who_reads_slowly_misses_some(
    program: tuple[str, Program],
) -> None:
    spec, other = program
    sink = await open_sink(spec, "audio")
    await other.there.wait()
    frame = frames.audio_frame(b"\1\2" * (frames.FRAME_BYTES // 2), 0)
    await sink.write(frame)
    assert await other.reader.readexactly(frames.FRAME_BYTES) == frames.pcm_of(frame)
    other.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(2000):
        await sink.write(frame)
    stream = sink._stream  # type: ignore[attr-defined]
    waiting = stream.writer.transport.get_write_buffer_size()
    assert waiting <= programs.MAX_UNWRITTEN + frames.FRAME_BYTES
    other.writer.close()
    await other.writer.wait_closed()
    with pytest.raises(MediaUnavailable):
        await write_until_it_ends(sink, frame)
    await sink.close()


async def test_pictures_go_through_a_socket_as_they_are(program: tuple[str, Program]) -> None:
    spec, other = program
    source = await open_source(spec, "video")
    await other.there.wait()
    pattern = await open_source("test-pattern", "video")
    frame = await pattern.recv()
    assert isinstance(frame, VideoFrame)
    data = unix_frames.build(frame)
    assert len(data) == unix_frames.HEADER.size + 640 * 480 * 3 // 2
    other.writer.write(data)
    there = await source.recv()
    assert isinstance(there, VideoFrame)
    assert unix_frames.build(there)[20:] == data[20:]
    other.writer.write(b"nonsense" * 10)
    with pytest.raises(MediaUnavailable):
        await source.recv()
    await source.close()


@pytest.mark.parametrize(
    ("width", "height", "magic"),
    [(0, 2, b"I420"), (3, 2, b"I420"), (1 << 16, 1 << 16, b"I420"), (2, 2, b"I421")],
)
async def test_a_header_that_is_none_is_refused_before_room_is_made(
    width: int, height: int, magic: bytes
) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(struct.pack("!4sIIQ", magic, width, height, 0))
    with pytest.raises(ValueError, match="not a picture"):
        await unix_frames.PictureReader(reader).read()


@settings(max_examples=50)
@given(st.binary(max_size=80))
async def test_whatever_comes_from_a_socket_is_a_picture_or_an_end(data: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"I420" + data)
    reader.feed_eof()
    with pytest.raises((EOFError, ValueError)):
        await read_all(reader)


# -- programs for devices -------------------------------------------------------------------------


def test_devices_are_named_to_their_programs() -> None:
    assert programs.recording("pulse", "")[0] == "parec"
    assert "--device=mic" in programs.recording("pulse", "mic")
    assert programs.playing("pulse", "")[0] == "pacat"
    assert programs.recording("alsa", "hw:0")[-1] == "--device=hw:0"
    assert programs.playing("alsa", "")[0] == "aplay"
    assert not any("device=" in each for each in programs.playing("alsa", ""))


async def test_a_program_is_a_source_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("sh", "-c", f"head -c {3 * frames.FRAME_BYTES} /dev/zero")
    monkeypatch.setattr(programs, "recording", lambda system, device: command)
    source = await open_source("pulse", "audio")
    assert await some(source, 3) == bytes(3 * frames.FRAME_BYTES)
    with pytest.raises(MediaUnavailable):
        await source.recv()
    await source.close()


async def test_a_program_is_a_sink_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    command = ("sh", "-c", f"head -c {2 * frames.FRAME_BYTES} > {tmp_path}/out")
    monkeypatch.setattr(programs, "playing", lambda system, device: command)
    sink = await open_sink("alsa", "audio")
    frame = frames.audio_frame(b"\3\4" * (frames.FRAME_BYTES // 2), 0)
    with pytest.raises(MediaUnavailable):
        await write_until_it_ends(sink, frame)
    await sink.close()
    assert (tmp_path / "out").read_bytes() == frames.pcm_of(frame) * 2


async def test_a_program_that_goes_on_is_ended_with_the_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "recording", lambda system, device: ("cat", "/dev/zero"))
    source = await open_source("pulse", "audio")
    assert len(await some(source, 1)) == frames.FRAME_BYTES
    await source.close()
    assert source._stream.process.returncode is not None  # type: ignore[attr-defined]


async def test_a_program_without_a_clock_is_held_to_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[frames.Pace] = []

    async def counted(self: frames.Pace) -> None:
        waits.append(self)

    monkeypatch.setattr(frames.Pace, "wait", counted)
    monkeypatch.setattr(programs, "recording", lambda system, device: ("cat", "/dev/zero"))
    source = await open_source("alsa:null", "audio")
    await some(source, 10)
    assert len(waits) == 10
    assert len(set(waits)) == 1
    await source.close()


async def test_a_program_that_does_not_play_what_it_gets_is_given_little(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    command = ("sh", "-c", f"read x < {go}; exec cat > {tmp_path}/out")
    monkeypatch.setattr(programs, "playing", lambda system, device: command)
    sink = await open_sink("pulse", "audio")
    frame = frames.audio_frame(b"\3\4" * (frames.FRAME_BYTES // 2), 0)
    for _ in range(100):
        await sink.write(frame)
        await asyncio.sleep(0)
    go.write_text("go\n")
    process = sink._stream.process  # type: ignore[attr-defined]
    sink._stream.writer.close()  # type: ignore[attr-defined]
    await process.wait()
    late = (tmp_path / "out").stat().st_size / frames.FRAME_BYTES
    # A fifth of a second, where a pipe as it comes holds half of one.
    assert 5 <= late <= 10
    await sink.close()


async def test_a_program_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "recording", lambda system, device: ("no-such-program-here",))
    monkeypatch.setattr(programs, "playing", lambda system, device: ("no-such-program-here",))
    with pytest.raises(MediaUnavailable, match="no-such-program-here"):
        await open_source("pulse", "audio")
    with pytest.raises(MediaUnavailable):
        await open_sink("alsa", "audio")


# -- what is fed to an encoder --------------------------------------------------------------------


class Stalled(Source):
    """A device that gives nothing."""

    async def recv(self) -> AudioFrame:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_device_that_gives_nothing_is_stood_in_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telepathy_e2e.media.tracks.STALL", 0.01)
    lost: list[str] = []
    track = OutgoingTrack("audio", Stalled("audio"), lost.append)
    frame = await track.recv()
    assert isinstance(frame, AudioFrame)
    assert frames.pcm_of(frame) == frames.SILENCE
    assert lost == []
    await track.close()


async def test_times_go_on_evenly_over_mutes_and_other_sources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A busy machine may be taken for a device that gives nothing.
    monkeypatch.setattr("telepathy_e2e.media.tracks.STALL", PATIENCE)
    track = OutgoingTrack("audio", Tone(440), lambda text: None)
    times, loud = [], []
    for step in range(6):
        track.mute(step in (2, 3))
        if step == 4:
            await track.replace(Tone(880))
        frame = await track.recv()
        times.append(frame.pts)
        loud.append(isinstance(frame, AudioFrame) and any(frames.pcm_of(frame)))
    assert times == [0, 960, 1920, 2880, 3840, 4800]
    assert loud == [True, True, False, False, True, True]
    await track.close()
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_a_muted_picture_is_black_and_of_the_same_size() -> None:
    track = OutgoingTrack("video", await open_source("test-pattern", "video"), lambda text: None)
    bright = await track.recv()
    track.mute(True)
    dark = await track.recv()
    assert isinstance(bright, VideoFrame)
    assert isinstance(dark, VideoFrame)
    assert (dark.width, dark.height) == (bright.width, bright.height)
    assert set(bytes(dark.planes[0])) == {16}
    assert dark.pts is not None
    assert bright.pts is not None
    assert dark.pts > bright.pts
    await track.close()


async def test_nothing_is_heard_of_null() -> None:
    sink = await open_sink("null", "audio")
    assert type(sink) is Sink
    await sink.write(frames.audio_frame(frames.SILENCE, 0))
    await sink.close()


def test_no_network_is_reached_through_a_name_of_a_file() -> None:
    # FFmpeg takes URLs for files; "file:" before the name leaves it no choice.
    with pytest.raises(av.FFmpegError):
        av.open("file:http://192.0.2.1/a.wav")


@pytest.mark.parametrize("which", ["source", "sink"])
async def test_a_named_pipe_is_no_file_and_takes_no_thread(
    tmp_path: pathlib.Path, which: str
) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    opening = open_source if which == "source" else open_sink
    with pytest.raises(MediaUnavailable, match="not a file"):
        await asyncio.wait_for(opening(f"file:{tmp_path / 'pipe.wav'}", "audio"), PATIENCE)
