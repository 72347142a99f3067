from pyg_bsl.sampling import AllItems
from tests.sampling.rows import NUM_ITEMS, SEEN, holes, pair_batch, train, user_batch


def test_all_items_less_the_seen_ones():
    users = [1, 0, 3]
    for batch in (user_batch(users), pair_batch([(user, min(SEEN[user])) for user in users])):
        negatives = AllItems().sample(batch, train())
        assert negatives.items is None and negatives.log_weight is None
        expected = [[item in SEEN[user] for item in range(NUM_ITEMS)] for user in users]
        assert holes(negatives.drop, 3, NUM_ITEMS) == expected


def test_all_items():
    assert AllItems(avoid_seen=False).sample(user_batch([0]), train()).drop is None
