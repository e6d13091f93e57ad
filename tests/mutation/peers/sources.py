"""The sources of the peers and what their tests need, downloaded once into a folder outside of the repository."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from tests.mutation.peers.peer import Peer

CACHE = Path.home() / ".cache" / "radam-peers"


def source_folder(peer: Peer, cache: Path) -> Path:
    """Where the unpacked source distribution of a peer stands, or will stand."""
    return cache / peer.sdist.replace("==", "-") if peer.sdist else cache


def packages_folder(peer: Peer, cache: Path) -> Path:
    """Where the packages that its tests need stand."""
    return cache / f"with-{peer.needs[0]}" if peer.needs else cache / "nothing"


def fetch(peer: Peer, cache: Path) -> None:
    """Download what is not there yet. Dependencies are never followed: torch is this project's own."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = source_folder(peer, cache)
    if not folder.exists():
        _pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(cache), peer.sdist)
        archive = cache / f"{folder.name}.tar.gz"
        with tarfile.open(archive) as file:
            file.extractall(cache, filter="data")
    packages = packages_folder(peer, cache)
    if peer.needs and not packages.exists():
        # Under another name until it is complete.
        partial = packages.with_name(f"{packages.name}.partial")
        _pip("install", "--no-deps", "--upgrade", "--target", str(partial), *peer.needs)
        partial.rename(packages)


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, stdout=sys.stderr)
