"""Names as MLflow takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_MAX_KEY, _MAX_TAG = 250, 5000  # Characters; MLflow refuses more.


def key(name: str) -> str:
    """``name`` in the characters that MLflow allows.

    Example:
        >>> key("test/ndcg@20")
        'test/ndcg_20'
    """
    return re.sub(r"[^\w\-. /:]", "_", name)[:_MAX_KEY]


def clip_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {key(name): value[:_MAX_TAG] for name, value in tags.items()}


def metric_of(name: str) -> str:
    """The metric that MLflow knows by a :func:`key`.

    Example:
        >>> metric_of("test/ndcg_20")
        'test/ndcg@20'
    """
    return re.sub(r"_(\d+)$", r"@\1", name)
