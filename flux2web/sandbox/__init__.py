"""Five pretend providers over real HTTP: for trying the app without a key, and for tests that want a real peer.

A plain WSGI app on the standard library and Pillow. It imports nothing of flux2web, and flux2web nothing of it but
`make_app`, in asgi.py: what the two know of each other is what goes over the wire.
"""

from .app import SandboxApp, make_app

__all__ = ["SandboxApp", "make_app"]
