from __future__ import annotations

import sys

from . import added, pages, rung

BENCHES = {"added": added.main, "rung": rung.main, "pages": pages.main}

if __name__ == "__main__":
    names = sys.argv[1:] or list(BENCHES)
    if not set(names) <= set(BENCHES):
        sys.exit(f"Which of {', '.join(BENCHES)}?")
    for name in names:
        BENCHES[name]()
