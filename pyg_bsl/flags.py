"""Command-line flags read off constructor signatures."""

from __future__ import annotations

import argparse
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Literal, NoReturn

from pyg_bsl.names import suggest


class Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest flag when one is unknown."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def parse_all(self, argv: list[str]) -> argparse.Namespace:
        """Parse ``argv``; an unknown flag ends the program with the nearest right one.

        Dashes and underscores are the same in a flag: ``--batch_size`` is ``--batch-size``.
        """
        spelling = {flag.replace("-", "_"): flag for flag in self._option_string_actions}

        def spelled(word: str) -> str:
            flag, equals, value = word.partition("=")
            return spelling.get(flag.replace("-", "_"), flag) + equals + value

        argv = [spelled(word) if word.startswith("--") else word for word in argv]
        values, unknown = self.parse_known_args(argv)
        if unknown:
            flags = {flag: None for flag in self._option_string_actions if flag.startswith("--")}
            first = next((word for word in unknown if word.startswith("-")), unknown[0])
            flag = first.split("=")[0]
            if flag.startswith("-"):
                choices = ", ".join(sorted(flags))
                ending = "." + flag.lstrip("-").replace("-", "_")  # --tau is meant for --loss.tau
                whole = [known for known in flags if known.endswith(ending)]
                hint = f"; did you mean '{whole[0]}'?" if whole else suggest(flag, flags)
                self.error(f"Unknown flag '{flag}'{hint} Choices: {choices}")
            self.error(f"Unexpected argument '{first}'")
        return values

    def error(self, message: str) -> NoReturn:
        """Print the message without the long usage, and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n(see {self.prog} --help)\n")


def add_flags(
    group: argparse._ArgumentGroup,
    part: Callable[..., Any],
    prefix: str = "",
    skip: Collection[str] = (),
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add a flag for every argument of ``part`` with a type that a command line can give.

    A flag that is not given leaves no value behind, so that defaults stand in one place only.

    Args:
        group: Where to add them.
        part: A class or function whose arguments become ``--prefix.argument``.
        prefix: Put before the names with a full stop; without it, ``--the-argument``.
        skip: Arguments to leave out.
        defaults: What the help says of the default, where it is not that of the signature.
    """
    signature = inspect.signature(part)
    init = part.__init__ if inspect.isclass(part) else part
    hints = typing.get_type_hints(init)
    texts = argument_texts(part.__doc__ or "")
    for name, parameter in signature.parameters.items():
        if name in skip or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        how = _how_to_parse(hints.get(name, str))
        if how is None:
            continue
        flag = f"--{prefix}.{name}" if prefix else "--" + name.replace("_", "-")
        text = texts.get(name, "") + _shown(defaults.get(name, parameter.default))
        dest = f"{prefix}.{name}" if prefix else name
        group.add_argument(
            flag, dest=dest, default=argparse.SUPPRESS, help=text.replace("%", "%%"), **how
        )


def argument_texts(doc: str) -> dict[str, str]:
    r"""Text of each entry of a docstring's ``Args:`` section, on one line, without markup.

    Example:
        >>> argument_texts("What it is.\n\nArgs:\n    tau: The\n        temperature.\n")
        {'tau': 'The temperature.'}
    """
    lines = inspect.cleandoc(doc).splitlines()
    if "Args:" not in lines:
        return {}
    texts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines[lines.index("Args:") + 1 :]:
        if line and not line.startswith(" "):
            break
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            current = texts.setdefault(entry[1], [entry[2]])
        else:
            current.append(line.strip())
    return {name: _plain(" ".join(words).strip()) for name, words in texts.items()}


def _plain(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]*)`", lambda m: m[1].replace("\\", ""), text)
    return text.replace("``", "")


def _shown(default: Any) -> str:
    if default in (None, inspect.Parameter.empty):
        return ""
    return f" [{','.join(map(str, default)) if isinstance(default, tuple) else default}]"


def _how_to_parse(hint: Any) -> Mapping[str, Any] | None:
    """How argparse takes a value of this type; None where a command line cannot give one."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if {int, str} <= {*args}:
            return {"type": _number_or_text, "metavar": "INT|STR"}
        options = [how for a in args if (how := _how_to_parse(a)) is not None]
        # Several numbers before one: a single number is a list too.
        options.sort(key=lambda how: how.get("type") is not _whole_numbers)
        return options[0] if options else None
    if origin is Literal:
        return {"choices": args}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if hint in (int, float, str):
        return {"type": hint, "metavar": hint.__name__.upper()}
    if args == (int,):
        return {"type": _whole_numbers, "metavar": "INT,INT,..."}
    if args == (float,):
        return {"type": _numbers, "metavar": "FLOAT,FLOAT,..."}
    return None


def _number_or_text(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else text


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not whole numbers with commas") from None


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not numbers with commas") from None
