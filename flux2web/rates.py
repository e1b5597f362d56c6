"""How often something was tried lately: counted in the cache, which is every process's where there are many."""

from __future__ import annotations

from django.core.cache import cache


def count(key: str, within_s: int) -> int:
    """This try and those before it, since the first of the last `within_s` seconds."""
    cache.add(key, 0, within_s)
    try:
        return cache.incr(key)
    except ValueError:  # it ran out just now
        cache.set(key, 1, within_s)
        return 1
