"""Compiled code is kept, for the processor and the compiler it is made by."""

import os
import shutil
from pathlib import Path

import pytest

from pyg_bsl.ops import compiler
from tests.ops.cases import needs_compiler

pytestmark = needs_compiler

SOURCE = "int answer(void) { return 42; }"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own, and a file that gets a line a call of the compiler."""
    log, script = tmp_path / "calls", tmp_path / "cc"
    script.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {shutil.which("gcc")} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return log


def compile_anew(source: str = SOURCE) -> int:
    """What the code answers in a process that has not met it."""
    compiler._compiled.cache_clear()
    compiler._says.cache_clear()
    return compiler.compiled(source).answer()


def compilations(log: Path) -> int:
    return sum(" -o " in line for line in log.read_text().splitlines())


def kept() -> list[Path]:
    return sorted(Path(os.environ["XDG_CACHE_HOME"], "pyg_bsl").iterdir())


def test_code_is_compiled_once_and_kept(calls: Path) -> None:
    assert [compile_anew() for _ in range(3)] == [42, 42, 42]
    assert compilations(calls) == 1
    assert len(kept()) == 1
    assert compile_anew(SOURCE.replace("42", "43")) == 43
    assert compilations(calls) == len(kept()) == 2


def test_another_compiler_or_other_flags_compile_anew(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_anew()
    monkeypatch.setenv("CC", f"{os.environ['CC']} -DOTHER")
    compile_anew()
    script = Path(os.environ["CC"].split()[0])
    script.write_text(script.read_text().replace("exec", "echo version 2 >&2\nexec"))
    compile_anew()
    assert compilations(calls) == len(kept()) == 3


def test_a_file_that_was_cut_off_is_made_again(calls: Path) -> None:
    compile_anew()
    kept()[0].write_bytes(kept()[0].read_bytes()[:100])
    assert [compile_anew() for _ in range(2)] == [42, 42]
    assert compilations(calls) == 2


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(
    calls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compile_anew() == 42
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a home
    monkeypatch.chdir(tmp_path)
    assert compile_anew() == 42
    assert compilations(calls) == 2
    assert not {"relative", "~"} & {path.name for path in tmp_path.iterdir()}
