"""The providers there are. A sixth is one file and one line here: see README.md."""

from flux2web.providers.apikley import Apikley
from flux2web.providers.apixo import Apixo
from flux2web.providers.base import Provider
from flux2web.providers.flux2api import Flux2API
from flux2web.providers.revid import Revid
from flux2web.providers.vtrix import Vtrix

_PROVIDERS: tuple[Provider, ...] = (Revid(), Apikley(), Apixo(), Flux2API(), Vtrix())

ALL: dict[str, Provider] = {provider.slug: provider for provider in _PROVIDERS}


def get(slug: str) -> Provider:
    """The provider of this name; KeyError where there is none."""
    return ALL[slug]
