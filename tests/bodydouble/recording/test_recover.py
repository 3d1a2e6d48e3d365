import pytest

from bodydouble.cli import main
from bodydouble.errors import RecordingError
from bodydouble.recording import RecordingReader, RecordingWriter, recover

STRING = "std_msgs/msg/String"


@pytest.fixture
def recording(tmp_path):
    """Ten chunks of one message each, metadata after the fifth."""
    path = tmp_path / "r.mcap"
    with RecordingWriter(path) as writer:
        for i in range(10):
            writer.write(f"/t{i % 2}", STRING, {"data": str(i)}, i)
            writer.flush()
            if i == 4:
                writer.write_metadata("half", {"way": "yes"})
    return path


def values(path):
    with RecordingReader(path) as reader:
        return [int(m.message.data) for m in reader.messages()]


def test_every_truncation_keeps_every_complete_chunk(tmp_path, recording):
    content = recording.read_bytes()
    cut, out = tmp_path / "cut.mcap", tmp_path / "out.mcap"
    kept = []
    for size in range(8, len(content), 7):
        cut.write_bytes(content[:size])
        try:
            recover(cut, out)
            kept.append(len(values(out)))
            assert values(out) == list(range(kept[-1]))
        except RecordingError as error:
            assert "holds no complete chunk" in str(error)
            kept.append(0)
            assert not out.exists()
    assert kept == sorted(kept)
    assert set(kept) == set(range(11))
    with RecordingReader(out) as reader:
        assert reader.metadata == {"half": {"way": "yes"}}
        assert reader.topics == {"/t0": STRING, "/t1": STRING}


def test_a_damaged_chunk_is_left_out(tmp_path, recording):
    content = bytearray(recording.read_bytes())
    with RecordingReader(recording) as reader:
        chunk = reader._container.index.chunks[6]
    content[chunk.offset + chunk.length - 3] ^= 0xFF
    damaged, out = tmp_path / "damaged.mcap", tmp_path / "out.mcap"
    damaged.write_bytes(bytes(content))
    with pytest.raises(RecordingError, match="bodydouble recover"):
        values(damaged)
    found = recover(damaged, out)
    assert values(out) == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert (found.messages, found.chunks, found.lost_bytes) == (9, 9, chunk.length)
    assert found.damage


def test_a_whole_file_stays_whole_and_the_command_says_so(tmp_path, recording, capsys):
    out = tmp_path / "out.mcap"
    assert main(["recover", str(recording), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 10 messages of 10 complete chunks\n"
    assert values(out) == list(range(10))
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(recording.read_bytes()[: recording.stat().st_size // 2])
    assert main(["recover", str(cut), str(out)]) == 0
    assert "lost:" in capsys.readouterr().out
    assert main(["recover", str(tmp_path / "none.mcap"), str(out)]) == 2
    assert "cannot be opened" in capsys.readouterr().err


def test_what_cannot_be_recovered(tmp_path, recording):
    with pytest.raises(RecordingError, match="overwritten"):
        recover(recording, recording)
    text = tmp_path / "text.mcap"
    text.write_text("no MCAP at all")
    with pytest.raises(RecordingError, match="wrong magic"):
        recover(text, tmp_path / "out.mcap")
