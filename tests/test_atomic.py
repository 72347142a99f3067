import pytest

from pyg_bsl.atomic import atomic_path


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_the_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target) as part:
        part.write_text("whole")
        assert part.parent == tmp_path and not target.exists()
    assert target.read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_content_and_no_part(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_two_writers_do_not_share_a_part(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target) as one, atomic_path(target) as two:
        one.write_text("one")
        two.write_text("two")
    assert target.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]
