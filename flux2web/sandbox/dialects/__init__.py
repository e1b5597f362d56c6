"""The five vendors, each speaking its own language."""

from .apikley import Apikley
from .apixo import Apixo
from .flux2api import Flux2Api
from .revid import Revid
from .vtrix import Vtrix

ALL = (Revid, Apikley, Apixo, Flux2Api, Vtrix)
