"""Alive, and of use."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.utils import timezone

from flux2web.models import Audit, Heartbeat
from flux2web.views import health

from . import factories


@pytest.fixture(autouse=True)
def forgetful():
    health._migrated.clear()


@pytest.fixture
def ticking(db) -> None:
    Heartbeat.objects.create(name="clock", at=timezone.now())


def test_live_answers_without_a_database(client):
    answer = client.get("/health/live")
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert "no-store" in answer.headers["Cache-Control"]


def test_ready_when_everything_is_there(client, ticking):
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["ready"] is True
    assert answer.json()["overdue_s"] == 0.0
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.django_db
def test_not_ready_without_a_clock(client):
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["clock"] is False


def test_not_ready_when_the_clock_stands_still(client, ticking):
    Heartbeat.objects.update(at=timezone.now() - timedelta(seconds=121))
    assert client.get("/health/ready").status_code == 503


def test_it_says_how_long_the_oldest_task_has_been_due(client, ticking, north):
    factories.make_task(north, due_at=timezone.now() - timedelta(seconds=90))
    factories.make_task(north, due_at=timezone.now() + timedelta(seconds=90))
    assert 89 < client.get("/health/ready").json()["overdue_s"] < 100


def test_not_ready_before_migrating(client, ticking):
    with patch("flux2web.views.health.MigrationExecutor") as executor:
        executor.return_value.migration_plan.return_value = ["0002"]
        answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["migrations"]) == (503, False)
    assert client.get("/health/ready").status_code == 200


def test_not_ready_without_a_broker_and_nothing_secret_is_said(client, ticking):
    with patch("flux2web.views.health.broker_answers", side_effect=ConnectionError("redis://:secret@host")):
        answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert "secret" not in answer.content.decode()


def test_not_ready_without_a_database(client, ticking):
    with patch("flux2web.views.health.database_answers", side_effect=OperationalError("password=secret")):
        answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["database"]) == (503, False)
    assert "secret" not in answer.content.decode()


@pytest.mark.django_db
def test_a_ledger_that_does_not_add_up_is_told(client):
    Audit.objects.create(took_s=0.1, findings=["I2 north: drift +10"])
    assert client.get("/health/ready").json()["ledger_findings"] == 1
