"""C code, compiled by the system's GCC at first use on much data, in a fraction of a second."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

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
    return _compiled(source, os.environ.get("CC") or _first_of("gcc", "cc"))


@cache
def _compiled(source: str, compiler: str | None) -> Any:
    """Not twice for the same source, failed or not."""
    error: object = "no C compiler found"
    if compiler is not None:
        with TemporaryDirectory(prefix="pyg_bsl") as folder:
            code, library = Path(folder, "code.c"), Path(folder, "code.so")
            code.write_text(source)
            command = [*shlex.split(compiler), *FLAGS, str(code), "-o", str(library)]
            try:
                subprocess.run([*command, "-lmvec", "-lm"], check=True, capture_output=True)
                return ctypes.CDLL(str(library))  # it stays when its file is gone
            except (OSError, subprocess.SubprocessError) as failure:
                error = failure
    _tell(str(error))
    return None


@cache
def _tell(error: str) -> None:
    """Once for each reason."""
    logging.getLogger(__name__).info("Some of the work runs uncompiled: %s", error)


def processor_has(*names: str) -> bool:
    """Whether PyTorch says that the processor has all of these, such as ``"avx512_f"``."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return all(bool(capabilities.get(name, False)) for name in names)


def call(function: Any, *args: int | Tensor | None) -> None:
    """Call a C function with numbers as ``int64_t`` and tensors as pointers, None as NULL."""
    function(
        *(
            ctypes.c_int64(x)
            if isinstance(x, int)
            else ctypes.c_void_p(None if x is None else x.data_ptr())
            for x in args
        )
    )


def _first_of(*names: str) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)
