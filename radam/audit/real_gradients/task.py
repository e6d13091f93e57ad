"""What is trained: a small character-level transformer, on English text that every Python installation carries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

CONTEXT = 32
"""Characters that a prediction sees, at most."""
BATCH = 16
WIDTH = 24
HEADS = 4
BLOCKS = 2
RARE = 1e-4
"""Characters rarer than this share one symbol."""


def english() -> str:
    """Python's own help texts, in the order of their topics."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def encode(text: str) -> tuple[torch.Tensor, int]:
    """The text as symbols, and how many symbols there are.

    Example:
        >>> encode("abba")
        (tensor([0, 1, 1, 0]), 3)
    """
    counts = Counter(text)
    frequent = sorted(character for character, count in counts.items() if count >= RARE * len(text))
    symbols = {character: symbol for symbol, character in enumerate(frequent)}
    return torch.tensor([symbols.get(character, len(frequent)) for character in text]), len(frequent) + 1


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each on normalised input and added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(attended.transpose(1, 2).reshape(batch, length, WIDTH))
        changed: torch.Tensor = self.down(functional.gelu(self.up(self.norm2(x))))
        return x + changed


class Transformer(nn.Module):
    """Predicts each next symbol from those before it."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, symbols)

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        x = self.embedding(symbols) + self.position
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


class Task:
    """A model and its data, the same for every configuration that is given the same seed.

    Args:
        seed: draws the model's first weights and the batches.
        device: where they live.

    Example:
        >>> task = Task(seed=0)
        >>> inputs, targets = next(task.batches())
        >>> inputs.shape, bool((inputs[:, 1:] == targets[:, :-1]).all())
        (torch.Size([16, 32]), True)
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self.text, self.symbols = encode(english())

    def model(self) -> nn.Module:
        """A model with its first weights. torch's global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Transformer(self.symbols).to(self.device)

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pieces of the text and what follows each of their symbols, without end."""
        generator = torch.Generator().manual_seed(self.seed)
        places = torch.arange(CONTEXT + 1)
        while True:
            starts = torch.randint(len(self.text) - CONTEXT, (BATCH, 1), generator=generator)
            pieces = self.text[starts + places].to(self.device)
            yield pieces[:, :-1], pieces[:, 1:]

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross entropy, in nats per symbol."""
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
