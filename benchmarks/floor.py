"""The floor for building an index: walks the trees, stats every file, decodes every JSON file, keeps nothing.

    python floor.py SOURCE PROCESSES [whole|walk]

It decodes sidecars like omidbfs, to two dozen tags, or whole. It decodes NBSS and ImageDB as plain dictionaries.
With ``walk`` it decodes nothing, and is the floor for finding out that nothing has changed.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import msgspec

from omidbfs.database.sidecar import _decoder as sidecars

_CLIENTS = 256


def read(source: str, clients: Sequence[str], *, whole: bool = False) -> int:
    """Return the number of sidecars of the clients."""
    documents, found = msgspec.json.Decoder(), 0
    decode = documents.decode if whole else sidecars.decode
    for tree in ("images", "data"):
        for client in clients:
            for study in os.scandir(f"{source}/{tree}/{client}"):
                if not study.is_dir():
                    study.stat()
                    with open(study.path, "rb") as stream:
                        documents.decode(stream.read())
                    continue
                for file in os.scandir(study.path):
                    file.stat()
                    if tree == "data":
                        with open(file.path, "rb") as stream:
                            decode(stream.read())
                        found += 1
    return found


def walk(source: str, clients: Sequence[str]) -> int:
    """Return the number of files of the clients."""
    found = 0
    for tree in ("images", "data"):
        for client in clients:
            for study in os.scandir(f"{source}/{tree}/{client}"):
                if not study.is_dir():
                    study.stat()
                    continue
                for file in os.scandir(study.path):
                    file.stat()
                    found += 1
    return found


def _runs(source: str) -> Iterator[Sequence[str]]:
    clients = sorted(os.listdir(f"{source}/data"))
    for start in range(0, len(clients), _CLIENTS):
        yield clients[start : start + _CLIENTS]


def main(source: str, processes: str, how: str = "") -> None:
    """Print the number of sidecars, or of files."""
    work = partial(walk, source) if how == "walk" else partial(read, source, whole=how == "whole")
    with ProcessPoolExecutor(int(processes), mp_context=get_context("spawn")) as pool:
        print(sum(pool.map(work, _runs(source))))


if __name__ == "__main__":
    main(*sys.argv[1:])
