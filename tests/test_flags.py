from collections.abc import Sequence
from typing import Literal

import pytest

from pyg_bsl.data import from_files
from pyg_bsl.flags import Parser, add_flags, argument_texts
from pyg_bsl.losses import LOSSES
from pyg_bsl.nn import BACKBONES
from pyg_bsl.sampling import SAMPLERS
from pyg_bsl.training import Trainer


class Oven:
    """Bakes at 100 % of its power.

    Args:
        heat: How hot; see :class:`Heat` and :obj:`None`, in ``"C"`` or
            :math:`\\tau`.
        mode: Which coils.
        fan: Whether it blows.
        racks: Which racks, from
            below.
        column: A name or
            a position.
        count: How many.
        rate: Per hour.
        door: Not for a command line.

    Raises:
        ValueError: If cold.
    """

    def __init__(
        self,
        heat: float,
        mode: Literal["top", "both"] = "both",
        *,
        fan: bool = False,
        racks: int | Sequence[int] = (1, 2),
        column: str | int | None = None,
        count: int | None = None,
        rate: float = 50.0,
        door: object = None,
        **rest: str,
    ) -> None:
        pass


def parser(prefix: str = "", **options: object) -> Parser:
    made = Parser(prog="bake")
    add_flags(made.add_argument_group("oven"), Oven, prefix, **options)  # type: ignore[arg-type]
    return made


def parse(line: str, prefix: str = "") -> dict[str, object]:
    return vars(parser(prefix).parse_all(line.split()))


def error_of(capsys: pytest.CaptureFixture[str], line: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(line)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("bake: error: ")
    return err.removeprefix("bake: error: ").removesuffix("(see bake --help)\n").strip()


def test_flags_that_are_not_given_leave_nothing_behind():
    assert parse("") == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--heat 180", {"heat": 180.0}),
        ("--heat -1", {"heat": -1.0}),
        ("--heat=1e-3", {"heat": 0.001}),
        ("--mode top", {"mode": "top"}),
        ("--fan", {"fan": True}),
        ("--no-fan", {"fan": False}),
        ("--racks 3", {"racks": [3]}),
        ("--racks 1,2,3", {"racks": [1, 2, 3]}),
        ("--count 4", {"count": 4}),
        ("--column 0", {"column": 0}),
        ("--column -1", {"column": -1}),
        ("--column name", {"column": "name"}),
        ("--column 3rd", {"column": "3rd"}),
        ("--rate 2 --count 3", {"rate": 2.0, "count": 3}),
    ],
)
def test_values_have_the_type_of_the_signature(line, expected):
    values = parse(line)
    assert values == expected
    assert [type(x) for x in values.values()] == [type(x) for x in expected.values()]


def test_a_prefix_stands_before_the_names():
    assert parse("--oven.heat 3 --no-oven.fan", "oven") == {"oven.heat": 3.0, "oven.fan": False}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--heat hot", "argument --heat: invalid float value: 'hot'"),
        ("--heat", "argument --heat: expected one argument"),
        ("--mode up", "argument --mode: invalid choice: 'up' (choose from "),
        ("--count 1.5", "argument --count: invalid int value: '1.5'"),
        ("--racks 1,x", "argument --racks: '1,x' is not whole numbers with commas"),
        ("--racks ,", "argument --racks: ',' is not whole numbers with commas"),
        ("--het 3", "Unknown flag '--het'; did you mean '--heat'? Choices: --column, "),
        ("--het=3", "Unknown flag '--het'; did you mean '--heat'?"),
        ("--hea 3", "Unknown flag '--hea'; did you mean '--heat'?"),
        ("--heat 3 --door x", "Unknown flag '--door'"),
        ("-x", "Unknown flag '-x'"),
        ("warm", "Unexpected argument 'warm'"),
    ],
)
def test_mistakes_get_one_clear_line(capsys, line, message):
    text = error_of(capsys, line)
    assert text.startswith(message)
    assert "\n" not in text


def test_help_tells_texts_and_defaults_without_markup():
    text = " ".join(parser(defaults={"rate": "as the last time"}).format_help().split())
    assert 'How hot; see Heat and None, in "C" or tau.' in text
    assert "Which coils. [both]" in text and "{top,both}" in text
    assert "Whether it blows. [False]" in text and "--no-fan" in text
    assert "Which racks, from below. [1,2]" in text
    assert "Per hour. [as the last time]" in text
    assert "INT|STR A name or a position. " in text
    assert "door" not in text and "rest" not in text and "cold" not in text


def test_arguments_can_be_left_out():
    assert "--heat" not in parser(skip=("heat",)).format_help()


def test_texts_of_a_docstring_without_arguments():
    assert argument_texts("Only a sentence.") == {}
    assert argument_texts("") == {}


@pytest.mark.parametrize(
    "part",
    [*BACKBONES.values(), *LOSSES.values(), *SAMPLERS.values(), Trainer, from_files],
    ids=lambda part: part.__name__,
)
def test_every_flag_of_the_library_has_a_text(part):
    made = Parser(prog="x")
    add_flags(made.add_argument_group("part"), part, "p", skip=("num_users", "num_items", "path"))
    actions = [action for action in made._actions if action.dest != "help"]
    assert all(action.help and action.help[0] not in " [" for action in actions)
    made.format_help()


def test_a_column_is_a_position_when_it_is_a_number():
    made = Parser(prog="x")
    add_flags(made.add_argument_group("data"), from_files, "files", skip=("path",))
    values = made.parse_all("--files.user 0 --files.item name".split())
    assert vars(values) == {"files.user": 0, "files.item": "name"}
    assert vars(made.parse_all(["--no-files.header"])) == {"files.header": False}


def test_dashes_and_underscores_are_the_same_in_a_flag():
    made = parser("my_oven")
    words = ["--my-oven.heat=5", "--no-my_oven.fan", "--my_oven.rate", "-3"]
    values = vars(made.parse_all(words))
    assert values == {"my_oven.heat": 5.0, "my_oven.fan": False, "my_oven.rate": -3.0}
    assert parse("--no_fan --heat 1") == {"heat": 1.0, "fan": False}


def test_a_bare_argument_is_told_its_whole_flag(capsys):
    with pytest.raises(SystemExit):
        parser("loss").parse_all(["--heat", "1"])
    assert "did you mean '--loss.heat'?" in capsys.readouterr().err
