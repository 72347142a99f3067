import pytest

from pyg_bsl.names import pick, suggest

CHOICES = {"SL": 1, "BSL": 2, "PSL": 3, "AdvInfoNCE": 4}


def test_pick_gives_what_stands_under_the_name():
    assert [pick("loss", name, CHOICES) for name in CHOICES] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("BLS", "BSL"), ("psl", "PSL"), ("adv-info-nce", "AdvInfoNCE"), ("advinfonce", "AdvInfoNCE")],
)
def test_an_unknown_name_gets_the_nearest_one_and_the_choices(wrong, near):
    with pytest.raises(ValueError) as caught:
        pick("loss", wrong, CHOICES)
    assert str(caught.value) == (
        f"Unknown loss '{wrong}'; did you mean '{near}'? Choices: AdvInfoNCE, BSL, PSL, SL"
    )


def test_a_name_like_no_other_gets_the_choices_alone():
    with pytest.raises(ValueError, match=r"^Unknown loss 'xyz'\. Choices: AdvInfoNCE, BSL"):
        pick("loss", "xyz", CHOICES)


def test_names_are_told_apart_by_case():
    with pytest.raises(ValueError, match="did you mean 'SL'"):
        pick("loss", "sl", CHOICES)


def test_suggest_among_nothing_is_a_full_stop():
    assert suggest("SL", {}) == "."
