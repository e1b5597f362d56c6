"""The product's settings, but for looks that follow each other at once: as many calls are open as there are threads."""

from flux2web.settings import *  # noqa: F403

LOOK_SCALE = 0.05
