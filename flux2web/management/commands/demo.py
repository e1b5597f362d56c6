"""A team to look around in."""

import secrets
from datetime import datetime

from django.core.management import BaseCommand, CommandError, call_command
from django.db import connection
from django.utils import timezone

from flux2web import demo
from flux2web.models import Budget, Membership, Task
from flux2web.money import CREDITS_MAX, format_credits

TELL_EVERY = 10_000


class Command(BaseCommand):
    help = "Make the team `demo`: people, pictures and weeks of history. Run again, it adds nothing."

    def add_arguments(self, parser):
        parser.add_argument("--members", type=int, default=4, help="people who make pictures; a viewer comes on top")
        parser.add_argument("--tasks", type=int, default=200, help="tasks in the history, all of them ended")
        parser.add_argument("--credits", type=int, default=100_000, help="the budget; granted again whenever used up")
        parser.add_argument("--password", help="everyone's password (default: a new one, printed once)")

    def handle(self, *, members: int, tasks: int, credits: int, password: str | None, **_):
        if members < 1 or tasks < 0 or not 1 <= credits <= CREDITS_MAX:
            raise CommandError("At least 1 member, 0 tasks and 1 credit.")
        if Task._meta.db_table not in connection.introspection.table_names():  # before the first start
            call_command("migrate", verbosity=0, interactive=False)
        if demo.exists():
            there = Task.objects.filter(team__slug=demo.SLUG).count()
            self.stdout.write(f"The team `demo` is here already, with {there:,} tasks. Nothing was added.")
            return
        began, password = timezone.now(), password or secrets.token_urlsafe(9)
        people = demo.make(members=members, tasks=tasks, credits=credits, password=password, tell=self._tell)
        self.stdout.write(_summary(people, began, password))

    def _tell(self, written: int) -> None:
        if written % TELL_EVERY < demo.ROWS_AT_ONCE and written >= TELL_EVERY:
            self.stdout.write(f"{written:,} tasks ...")


def _summary(people: list[Membership], began: datetime, password: str) -> str:
    team = people[0].team
    budget, tasks = Budget.objects.get(team=team), Task.objects.filter(team=team).count()
    left = format_credits(budget.available)
    lines = [f"Team demo: {tasks:,} tasks, {left} of {format_credits(budget.granted)} credits left. Sign in as"]
    lines += [_who(member, password if member.user.created >= began else "the password they had") for member in people]
    return "\n".join(lines)


def _who(member: Membership, password: str) -> str:
    role = f"{member.role}, site admin" if member.user.is_site_admin else member.role
    return f"  {member.user.email:24} {password}  ({role})"
