"""The cast and how they sign in. Everyone plays in a real database; rows come from tests/factories.py."""

from __future__ import annotations

import pytest
from django.core.cache import cache, caches
from django.db import connection
from django.test import Client

from flux2web.models import Membership, Role, Team, User
from flux2web.views import context

from . import factories


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Threads of a test may leave connections behind; PostgreSQL would refuse to drop the test database under them."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


@pytest.fixture(autouse=True)
def fresh_spool(settings, tmp_path):
    """Spooled results are named after task ids, which begin at 1 again: no test inherits another's bytes."""
    settings.SPOOL_DIR = tmp_path / "spool"


@pytest.fixture(autouse=True)
def fresh_cache(monkeypatch):
    """Rate limits count in the cache: no test inherits another's failures. What pages may remember for some seconds they
    remember for a whole test, however slow the machine: their queries are counted."""
    monkeypatch.setattr(context, "SANDBOX_CACHE_S", 3600)
    for each in (cache, caches["process"]):
        each.clear()
    yield
    cache.clear()


@pytest.fixture
def north(db) -> Team:
    """The team of ana, ben, cleo, dan and eve: 1,000 credits."""
    return factories.make_team(name="North", slug="north", credits=1000)


@pytest.fixture
def south(db) -> Team:
    """Another team, zoe's: 500 credits. Nobody of north is in it."""
    return factories.make_team(name="South", slug="south", credits=500)


def person(name: str, team: Team, role: Role) -> User:
    return factories.make_member(team, factories.make_user(name=name), role=role).user


@pytest.fixture
def ana(north) -> User:
    """Owner of north."""
    return person("Ana", north, Role.OWNER)


@pytest.fixture
def ben(north) -> User:
    """Admin of north."""
    return person("Ben", north, Role.ADMIN)


@pytest.fixture
def cleo(north) -> User:
    """Member of north."""
    return person("Cleo", north, Role.MEMBER)


@pytest.fixture
def dan(north) -> User:
    """The other member of north."""
    return person("Dan", north, Role.MEMBER)


@pytest.fixture
def eve(north) -> User:
    """Viewer in north."""
    return person("Eve", north, Role.VIEWER)


@pytest.fixture
def zoe(south) -> User:
    """Owner of south, a stranger to north."""
    return person("Zoe", south, Role.OWNER)


@pytest.fixture
def sam(db) -> User:
    """Site admin, in no team."""
    return factories.make_user(name="Sam", is_site_admin=True)


@pytest.fixture
def cast(ana, ben, cleo, dan, eve, zoe, sam) -> dict[str, User]:
    """Everyone at once, by first name in small letters."""
    return {"ana": ana, "ben": ben, "cleo": cleo, "dan": dan, "eve": eve, "zoe": zoe, "sam": sam}


@pytest.fixture
def client_for():
    """client_for(ana) is a browser in which ana is signed in; client_for(None) one in which nobody is."""

    def make(user: User | None, **kwargs) -> Client:
        client = Client(**kwargs)
        if user is not None:
            client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
        return client

    return make


@pytest.fixture
def membership():
    """membership(ana, north) is her row there."""

    def find(user: User, team: Team) -> Membership:
        return Membership.objects.get(user=user, team=team)

    return find
