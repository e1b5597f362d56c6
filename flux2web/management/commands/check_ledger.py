"""The audit, from the command line."""

import json
import sys
from dataclasses import asdict

from django.core.management import BaseCommand, CommandError

from flux2web import audit
from flux2web.audit import Finding

CLEAN, FINDINGS, COULD_NOT_RUN = 0, 1, 2


class Command(BaseCommand):
    help = (
        "Re-add everything from the ledger's entries and say what does not fit; repair nothing. "
        "Exit code: 0 clean, 1 findings, 2 could not run."
    )

    def add_arguments(self, parser):
        said = "also read every stored picture (slow), and mark those whose file is missing"
        parser.add_argument("--storage", action="store_true", help=said)
        parser.add_argument("--json", action="store_true", help="print a JSON list of findings")

    def handle(self, *, storage: bool, json: bool, **_):
        try:
            findings = [*audit.ledger(), *(audit.files() if storage else ())]
        except Exception as error:  # whichever it was: an audit that did not run must never look like one that did
            raise CommandError(f"The audit could not run: {error}", returncode=COULD_NOT_RUN) from error
        self.stdout.write(as_json(findings) if json else as_text(findings))
        if findings:
            sys.exit(FINDINGS)


def as_json(findings: list[Finding]) -> str:
    shown = ("invariant", "team", "task", "message")
    rows = [asdict(finding) for finding in findings]
    return json.dumps([{name: row[name] for name in shown} for row in rows], indent=1)


def as_text(findings: list[Finding]) -> str:
    if not findings:
        return "Clean: every credit is where the entries say."
    count = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}. Nothing was repaired."
    return "\n".join([*map(_line, findings), count])


def _line(finding: Finding) -> str:
    places = [f"team {finding.team}"] if finding.team else []
    places += [f"task {finding.task}"] if finding.task else []
    return f"{finding.invariant}: {', '.join(places) or 'everywhere'}: {finding.message}"
