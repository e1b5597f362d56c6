"""The house rules as code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "flux2web"

# A module imports from rungs below its own, and from its own only where it says so here.
LADDER: list[set[str]] = [
    {"charts", "faults", "hands", "money", "orders", "periods", "rates", "prompts", "settings", "sheets"},
    {"http", "brokers", "apps", "fields"},
    {"providers", "models", "bus"},
    {
        "pricing",
        "imaging",
        "storage",
        "queries",
        "access",
        "ledger",
        "accounts",
        "notices",
        "spend",
        "search",
        "history",
        "health",
        "turns",
        "inserts",
    },
    {"routing", "cards", "caps", "drafts", "promptbook", "shelf", "teams", "trash", "cleaning", "lost"},
    {"collecting", "kinds"},
    {"lifecycle", "audit", "files", "lineage", "twins"},
    {"requests", "statements", "exports", "alerts", "overview", "references"},
    {
        "live",
        "actors",
        "forms",
        "forms_people",
        "forms_prompts",
        "forms_usage",
        "forms_budget",
        "forms_bulk",
        "forms_collections",
        "forms_history",
        "forms_console",
        "forms_prices",
        "forms_references",
        "templatetags",
        "traces",
    },
    {"clock", "views", "demo"},
    {"urls", "asgi", "serve"},
    {"management"},
]
SAME_RUNG = {
    ("alerts", "overview"),  # what is told of an account is what its page says
    ("cards", "routing"),  # who could take a task that waits is decided by routing alone
    ("charts", "money"),  # how credits are written
    ("storage", "imaging"),  # bytes are made safe before they are stored
    ("history", "access"),  # what a member may see is decided by access alone
    ("history", "queries"),  # a place in a list is written in one way
    ("history", "search"),  # which finds words, and knows nobody
    ("queries", "access"),  # what a member may see is decided by access alone
}
# The sandbox imports nothing of the house; asgi serves it, and the demo borrows its brush.
SANDBOX_GUESTS = {"asgi", "demo"}


def rung(module: str) -> int:
    return next(number for number, names in enumerate(LADDER) if module in names)


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        if parts[0] not in ("migrations", "__init__"):
            yield parts[0], path


def imports(path: Path) -> set[str]:
    """The top names inside flux2web that this file imports."""
    package = ["flux2web", *path.relative_to(HOUSE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, node.module] if node.module else base)
            found |= {f"{name}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("flux2web.") and name.count(".")}


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value).replace(str(ROOT), ""))
def test_imports_go_one_way_down_the_ladder(module, path):
    for name in imports(path) - {module}:
        if module == "sandbox" or name == "sandbox":
            assert name == "sandbox", f"the sandbox imports {name}"
            assert module in SANDBOX_GUESTS, f"{path} imports the sandbox"
            continue
        below = rung(name) < rung(module) or (module, name) in SAME_RUNG
        assert below, f"{module} (rung {rung(module)}) imports {name} (rung {rung(name)})"


def test_every_module_has_its_rung():
    known = set().union(*LADDER) | {"sandbox"}
    assert {module for module, _ in modules()} <= known


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value).replace(str(ROOT), ""))
def test_nothing_is_imported_inside_a_function(module, path):
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
            assert not inside, f"{path}:{function.lineno} imports inside {function.name}"


def test_httpx_is_imported_in_one_module_only():
    users = [path.name for _, path in modules() if re.search(r"^\s*(import|from) httpx", path.read_text(), re.M)]
    assert users == ["http.py"]


def test_providers_never_see_a_row():
    for path in (HOUSE / "providers").glob("*.py"):
        assert not re.search(r"^\s*(import|from) django", path.read_text(), re.M), path


def test_booleans_are_named_where_they_are_passed():
    """f(x, True) says nothing. Sanctioned: calls of other people's functions that only take them so."""
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                positional = node.args.args[len(node.args.args) - len(node.args.defaults) :]
                for argument, default in zip(positional, node.args.defaults, strict=True):
                    is_bool = isinstance(default, ast.Constant) and isinstance(default.value, bool)
                    assert not is_bool, f"{path}:{node.lineno} {node.name}({argument.arg}=…) wants a *"


# --- Addresses --------------------------------------------------------------------------------------------------------


def views(patterns=None) -> Iterator[tuple[str, object]]:
    for pattern in patterns or get_resolver().url_patterns:
        if isinstance(pattern, URLResolver):
            yield from views(pattern.url_patterns)
        elif isinstance(pattern, URLPattern):
            yield str(pattern.pattern), pattern.callback


def test_every_address_of_ours_carries_an_access_marker():
    ours = [(address, view) for address, view in views() if view.__module__.startswith("flux2web")]
    assert len(ours) > 30
    assert not [address for address, view in ours if not getattr(view, "access", "")]


# --- Templates --------------------------------------------------------------------------------------------------------

FRAGMENTS = [path for path in sorted((ROOT / "templates").rglob("_*.html")) if "allauth" not in path.parts]
SANCTIONED_SAFE = {"mfa/totp/activate_form.html"}  # the QR code is SVG of allauth's own making, from a secret of ours
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_fragment_begins_with_the_context_it_needs(path):
    assert re.match(r"\{# context:", path.read_text()), "the first line says: {# context: … #}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_has_no_inline_style_or_script(path):
    text = path.read_text()
    assert not re.search(r"\sstyle=", text)
    assert "<style" not in text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"\son[a-z]+=", text)
    assert "|safe" not in text or path.relative_to(ROOT / "templates").as_posix() in SANCTIONED_SAFE


def test_a_card_holds_no_form_and_no_token():
    for path in (ROOT / "templates" / "tasks").glob("_*.html"):
        if "card" in path.name:
            assert "<form" not in path.read_text()
            assert "csrf" not in path.read_text()


# --- Words ------------------------------------------------------------------------------------------------------------


def test_the_tree_names_nothing_that_is_not_in_it():
    """A reader has this repository and the vendors' public pages, nothing else."""
    outside = re.compile(r"\b(reliability|upstreams|performance|libraries|peers|design|ui|style)\.md\b|\bseed 00\d")
    for path in [*HOUSE.rglob("*.py"), *TEMPLATES, *(ROOT / "static").glob("*"), *(ROOT / "tests").rglob("*.py")]:
        if path.is_file() and path != Path(__file__):
            found = outside.search(path.read_text(errors="ignore"))
            assert not found, f"{path} speaks of {found[0]}"
