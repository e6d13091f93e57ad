"""The peers, by name."""

from __future__ import annotations

from tests.mutation.peers import optax_, pytorch_optimizer_, timm_, torch_
from tests.mutation.peers.peer import Peer

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        torch_.PEER,
        pytorch_optimizer_.PEER,
        timm_.PEER,
        timm_.PEER_OF_TORCH,
        optax_.PEER,
    )
}
