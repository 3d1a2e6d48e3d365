import pytest

from bodydouble import artifacts
from bodydouble.errors import InputError


def test_atomic_dir_leaves_nothing_when_the_work_fails(tmp_path):
    with pytest.raises(RuntimeError), artifacts.atomic_dir(tmp_path / "out") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_atomic_dir_replaces_an_older_artifact_whole(tmp_path):
    out = tmp_path / "out"
    for name in ("first", "second"):
        with artifacts.atomic_dir(out) as folder:
            (folder / name).write_text(name)
    assert [path.name for path in out.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_atomic_file_keeps_the_previous_one_when_writing_fails(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        artifacts.write_json(path, {"a": float("nan")})
    assert artifacts.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_stage_is_current_until_an_input_or_an_option_changes(tmp_path):
    source, manifest = tmp_path / "source.txt", tmp_path / "out.json"
    source.write_text("one")
    config, inputs = {"size": 1}, {"source": source}
    assert not artifacts.is_current(manifest, artifacts.inputs_hash(config, inputs))
    artifacts.write_json(manifest, {"provenance": artifacts.provenance(config, inputs)})
    assert artifacts.is_current(manifest, artifacts.inputs_hash(config, inputs))
    assert not artifacts.is_current(manifest, artifacts.inputs_hash({"size": 2}, inputs))
    source.write_text("two")
    assert not artifacts.is_current(manifest, artifacts.inputs_hash(config, inputs))


def test_unreadable_json_names_file_and_fix(tmp_path):
    with pytest.raises(InputError, match=r"absent\.json: cannot be read .* run the stage"):
        artifacts.read_json(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad\.json: is no JSON"):
        artifacts.read_json(tmp_path / "bad.json")
