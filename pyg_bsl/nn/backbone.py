"""What every backbone is: a module that turns a graph into embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pyg_bsl.checks import check_count, check_positive
from pyg_bsl.names import pick
from pyg_bsl.nn.svd import svd_vectors
from pyg_bsl.space import Space
from pyg_bsl.types import Batch, BipartiteGraph, Embeddings

Init = Literal["xavier", "normal", "svd"]


class Backbone(nn.Module, ABC):
    """A module that gives one vector for every user and every item of a graph.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
    """

    search_space: ClassVar[dict[str, Space]] = {}
    """Constructor arguments worth tuning."""

    unit_norm: ClassVar[bool] = False
    """Whether training on cosines should put the learned vectors back to length 1 after each step.
    Where vectors are propagated before they are compared, their lengths are weights to be learned.
    """

    similarity: Literal["cosine", "dot"] | None = None
    """Scores the embeddings are meant to be ranked by; :obj:`None`: those the loss trains on.

    A class may say it. In a trained backbone it is what the trainer ranked by."""

    def __init__(self, num_users: int, num_items: int, *, embedding_dim: int) -> None:
        super().__init__()
        self.num_users = check_count("num_users", num_users)
        self.num_items = check_count("num_items", num_items)
        self.embedding_dim = check_count("embedding_dim", embedding_dim)

    @abstractmethod
    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """Embeddings of all users and items of ``graph``."""

    def __call__(self, graph: BipartiteGraph) -> Embeddings:
        """:meth:`forward` on a graph of the right size; the embeddings know how to be ranked."""
        self.check_size(graph)
        emb: Embeddings = super().__call__(graph)
        return replace(emb, similarity=self.similarity)

    def check_size(self, graph: BipartiteGraph) -> None:
        """Check that the graph has as many users and items as the backbone.

        Raises:
            ValueError: If it has not.
        """
        if (graph.num_users, graph.num_items) != (self.num_users, self.num_items):
            raise ValueError(
                f"The backbone has {self.num_users} users and {self.num_items} items, but "
                f"'{graph.name}' has {graph.num_users} and {graph.num_items}: build it with "
                f"{type(self).__name__}(graph.num_users, graph.num_items, ...)"
            )

    @abstractmethod
    def reset_parameters(self) -> None:
        """Start anew."""

    def setup(self, graph: BipartiteGraph) -> None:
        """Make what depends on the data; a trainer calls it before the first step.

        What is there already is kept.
        """

    def tables(self) -> tuple[nn.Parameter, ...]:
        """Learned tables whose rows are the vectors of users or items."""
        return ()

    def auxiliary_loss(self, emb: Embeddings, batch: Batch) -> Tensor | None:
        """A term of the backbone's own to add to the loss, or :obj:`None`.

        Args:
            emb: What :meth:`forward` gave in this step.
            batch: The positive pairs of this step.
        """
        return None

    def __repr__(self) -> str:
        options = f", {self.extra_repr()}" if self.extra_repr() else ""
        return f"{type(self).__name__}({self.num_users}, {self.num_items}{options})"


class EmbeddingBackbone(Backbone):
    """A backbone that starts from one learned vector for every user and every item.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of the learned vectors.
        init: How they start: ``"xavier"`` (uniform, Glorot), ``"normal"``, or ``"svd"``: at length
            1 along singular vectors of the training interactions
            (:func:`~pyg_bsl.nn.svd.svd_vectors`), which are found when training starts.
        init_std: Standard deviation of ``"normal"``.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        init: Init = "xavier",
        init_std: float = 0.1,
    ) -> None:
        super().__init__(num_users, num_items, embedding_dim=embedding_dim)
        pick("init", init, {"xavier": None, "normal": None, "svd": None})
        self.init = init
        self.init_std = check_positive("init_std", init_std)
        self.user_embedding = nn.Parameter(torch.empty(self.num_users, self.embedding_dim))
        self.item_embedding = nn.Parameter(torch.empty(self.num_items, self.embedding_dim))
        self.reset_embeddings()

    def tables(self) -> tuple[nn.Parameter, ...]:
        """The learned vectors of users, ``[num_users, D]``, and items, ``[num_items, D]``."""
        return self.user_embedding, self.item_embedding

    def reset_embeddings(self) -> None:
        """Draw the learned vectors anew."""
        for table in self.tables():
            if self.init == "normal":
                nn.init.normal_(table, std=self.init_std)
            else:
                nn.init.xavier_uniform_(table)
        self._waits_for_data = self.init == "svd"

    @torch.no_grad()
    def setup(self, graph: BipartiteGraph) -> None:
        """Place vectors that start along singular vectors, unless they were placed or loaded."""
        if not self._waits_for_data:
            return
        self.check_size(graph)
        for table, start in zip(
            self.tables(), svd_vectors(graph.train, self.embedding_dim), strict=True
        ):
            met = start.any(dim=1, keepdim=True)  # who has no interactions keeps a random vector
            table.copy_(torch.where(met, start.to(table.dtype), table))
        self._waits_for_data = False

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._waits_for_data = False
        super()._load_from_state_dict(*args, **kwargs)

    def reset_parameters(self) -> None:
        """Draw everything that is learned anew."""
        self.reset_embeddings()

    def nodes(self) -> Tensor:
        """The learned vectors of users followed by items, ``[num_users + num_items, D]``."""
        return torch.cat(self.tables())

    def split(self, nodes: Tensor) -> Embeddings:
        """Rows of users followed by items, ``[num_users + num_items, D]``, taken apart."""
        return Embeddings(*nodes.split([self.num_users, self.num_items]))
