from __future__ import annotations

import sys

from . import added, calls, depth, files, holds, pages, rung, scroll, streams, waiting

BENCHES = {
    "added": added.main,
    "rung": rung.main,
    "streams": streams.main,
    "pages": pages.main,
    "holds": holds.main,
    "books": lambda: depth.compare("Money pages by ledger lines", "books", (1_000, 1_000_000), 1.5),
    "files": files.main,
    "scroll": scroll.main,
    "calls": calls.main,
    "waiting": waiting.main,
    "history": lambda: depth.compare("History by pictures", "history", (1_000, 1_000_000), 1.2),
}

if __name__ == "__main__":
    names = sys.argv[1:] or list(BENCHES)
    if not set(names) <= set(BENCHES):
        sys.exit(f"Which of {', '.join(BENCHES)}?")
    for name in names:
        BENCHES[name]()
