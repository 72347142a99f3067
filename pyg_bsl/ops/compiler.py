"""C code, compiled by the system's GCC at first use on much data, and kept for the next process."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import math
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from pyg_bsl.atomic import atomic_path
from pyg_bsl.names import pick

SETTING = "PYG_BSL_COMPILE"
"""Environment variable: ``auto`` (the default), ``always`` or ``never``."""

COMPILE_FROM = 1 << 22
"""Elements of one reduction, rows times keys, from which ``auto`` compiles: what it gains on a few
of them pays for the compiler. It looks at nothing else, so that equal runs take equal ways."""

FLAGS = "-O3 -march=native -fPIC -shared -fopenmp-simd -fno-math-errno -fno-trapping-math".split()


def pays(like: Tensor, size: int) -> bool:
    """Whether a reduction of ``size`` elements, in the type of a tensor, should be compiled.

    Raises:
        ValueError: If the setting is none that is known.
    """
    setting = os.environ.get(SETTING, "auto")
    least = pick(SETTING, setting, {"auto": COMPILE_FROM, "always": 0, "never": math.inf})
    usual = like.device.type == "cpu" and like.dtype in (torch.float32, torch.float64)
    return usual and size >= least


def compiled(source: str) -> Any:
    """The library made of C code, or None where that fails."""
    return _compiled(source, os.environ.get("CC") or _usual_compiler(os.environ.get("PATH")))


@cache
def _compiled(source: str, compiler: str | None) -> Any:
    """Not twice for the same source, failed or not."""
    if compiler is None:
        return _tell("no C compiler found")
    command = (*shlex.split(compiler), *FLAGS)
    try:
        kept = _kept(source, command)
        with suppress(OSError):  # It is not there yet, or was cut off.
            return ctypes.CDLL(str(kept))
        with TemporaryDirectory(prefix="pyg_bsl") as folder:
            code, made = Path(folder, "code.c"), Path(folder, "code.so")
            code.write_text(source)
            command = (*command, str(code), "-o", str(made), "-lmvec", "-lm")
            subprocess.run(command, check=True, capture_output=True)
            library = ctypes.CDLL(str(made))  # It stays when its file is gone.
            with suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(kept) as path:
                    shutil.copyfile(made, path)
            return library
    except (OSError, subprocess.SubprocessError) as error:
        return _tell(str(error))


def _kept(source: str, command: tuple[str, ...]) -> Path:
    """The file of compiled code in the user's cache: another for other code, compiler or processor.

    Raises:
        OSError: If there is no such compiler.
        subprocess.SubprocessError: If it fails.
    """
    # Without a home nothing is kept.
    roots = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"), os.devnull
    root = next(filter(os.path.isabs, roots))
    name = hashlib.sha256(f"{source}\0{command}\0{_says(command)!r}".encode()).hexdigest()
    return Path(root, "pyg_bsl", f"{name[:32]}.so")


@cache
def _says(command: tuple[str, ...]) -> bytes:
    """What the compiler says of itself and of what ``-march=native`` means here."""
    ask = (*command, "-E", "-v", "-x", "c", os.devnull)
    return subprocess.run(ask, check=True, capture_output=True).stderr


@cache
def _tell(error: str) -> None:
    """Say why there is no compiled code, once for each reason."""
    logging.getLogger(__name__).info("Some of the work runs uncompiled: %s", error)


def processor_has(*names: str) -> bool:
    """Whether PyTorch says that the processor has all of these, such as ``"avx512_f"``."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return all(bool(capabilities.get(name, False)) for name in names)


def call(function: Any, *args: Any) -> None:
    """Call a C function with numbers as ``int64_t`` and tensors as pointers, None as NULL.

    What is of C, such as another function, is passed on.
    """
    function(
        *(
            ctypes.c_int64(x)
            if isinstance(x, int)
            else _pointer(x)
            if x is None or isinstance(x, Tensor)
            else x
            for x in args
        )
    )


def pointers(tensors: Sequence[Tensor | None]) -> Any:
    """The array of pointers to tensors, which have to be kept as long as it is used."""
    return (ctypes.c_void_p * len(tensors))(*map(_pointer, tensors))


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


@cache
def _usual_compiler(path: str | None) -> str | None:
    """GCC, or else the system's compiler, on a search path."""
    return shutil.which("gcc", path=path) or shutil.which("cc", path=path)
