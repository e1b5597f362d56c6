"""Ledger entries are never edited: the database itself refuses, whoever asks.

Only the link to a person may be cleared, when that person is deleted; `actor_label` stays. PostgreSQL refuses deletion
too; SQLite cannot, because emptying a test database is deletion there. SQLite drops triggers when a later migration has
to build the table anew: such a migration must end with these operations again (a test sees to it).
"""

from django.db import migrations

FIXED = "team_id, task_id, kind, amount, available_after, actor_label, reason, key, created"
WHY = "ledger entries are never edited: write another one"
SQLITE = f"""
    CREATE TRIGGER entry_never_edited BEFORE UPDATE OF {FIXED} ON flux2web_entry
    BEGIN SELECT RAISE(ABORT, '{WHY}'); END
"""
POSTGRESQL = f"""
    CREATE FUNCTION entry_never_edited() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{WHY}' USING ERRCODE = 'integrity_constraint_violation'; END $$;
    CREATE TRIGGER entry_never_edited BEFORE UPDATE OF {FIXED} OR DELETE ON flux2web_entry
    FOR EACH ROW EXECUTE FUNCTION entry_never_edited()
"""
UNDO = {
    "sqlite": "DROP TRIGGER entry_never_edited",
    "postgresql": "DROP TRIGGER entry_never_edited ON flux2web_entry; DROP FUNCTION entry_never_edited()",
}


def forbid(apps, schema_editor):
    schema_editor.execute({"sqlite": SQLITE, "postgresql": POSTGRESQL}[schema_editor.connection.vendor])


def allow(apps, schema_editor):
    schema_editor.execute(UNDO[schema_editor.connection.vendor])


class Migration(migrations.Migration):
    dependencies = [("flux2web", "0003_audits")]
    operations = [migrations.RunPython(forbid, allow)]
