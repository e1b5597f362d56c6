/* The history in the browser: the grid's look and keys, hearts, coming back to one's place, new pictures at the top.
   Everything also works without this file. Sections: helpers, look, hearts, keys, place, fresh, lost, finding. */
(() => {
  "use strict";

  // --- helpers ------------------------------------------------------------------------------------------------------

  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const parse = (html) => new DOMParser().parseFromString(html, "text/html");
  const found = () => $("#found");
  const tiles = () => $$("#found .tile[data-task]");
  const ask = (url, options = {}) => fetch(url, { credentials: "same-origin", ...options, headers: { "HX-Request": "true" } });
  function post(url, more = {}) {
    const body = new FormData($("#card-action"));
    for (const [name, value] of Object.entries(more)) body.set(name, value);
    return ask(url, { method: "POST", body });
  }

  const keep = (store, key, value) => { try { store.setItem(key, value); } catch { /* full, or switched off */ } };
  const kept = (store, key) => { try { return store.getItem(key); } catch { return null; } };
  const tell = (text) => { const region = $("#told"); if (region) region.textContent = text; };

  function say(html) {
    const node = $(".notice", parse(html));
    if (!node) return;
    $("#notices").append(node);
    $$("[data-dismiss]", node).forEach((button) => (button.hidden = false));
    window.htmx?.process(node);
    node.scrollIntoView({ block: "nearest" });
  }

  /** A press that did not work goes the way it goes without this script: the server then says why, on a page. */
  function plainly(button) {
    button.dataset.plain = "";
    $("#card-action").requestSubmit(button);
    delete button.dataset.plain;
  }

  // --- look: rows or squares, how large ---------------------------------------------------------------------------------

  const LOOK = /^(rows|squares)-(s|m|l)$/;
  const look = () => `${found().dataset.shape}-${found().dataset.size}`;

  function show(wanted) {
    const [, shape, size] = wanted.match(LOOK);
    Object.assign(found().dataset, { shape, size });
    for (const button of $$(".looks button")) {
      const { shape: ofShape, size: ofSize } = button.dataset;
      button.setAttribute("aria-pressed", String(ofShape ? ofShape === shape : ofSize === size));
      button.value = ofShape ? `${ofShape}-${size}` : `${shape}-${ofSize}`;
    }
  }

  function remember(wanted) {
    keep(localStorage, "flux2web:grid", wanted);
    document.cookie = `grid=${wanted}; path=/; max-age=31536000; samesite=lax`;
  }

  /** Another look keeps the picture that one looks at in sight. */
  function choose(wanted) {
    const middle = document.elementFromPoint(innerWidth / 2, innerHeight / 2)?.closest(".tile");
    show(wanted);
    remember(wanted);
    middle?.scrollIntoView({ block: "center" });
  }

  function startLook() {
    const mine = kept(localStorage, "flux2web:grid");
    if (mine && LOOK.test(mine) && !document.cookie.includes("grid=")) choose(mine); // the cookie is gone, the wish is not
    else keep(localStorage, "flux2web:grid", look());
  }

  // --- hearts, and the way out of the trash ----------------------------------------------------------------------------

  function beat(heart, isLiked, count) {
    heart.setAttribute("aria-pressed", String(isLiked));
    heart.closest(".tile").toggleAttribute("data-liked", isLiked);
    $(".num", heart).textContent = count || "";
  }

  /** At once, and as it was where the server does not agree. In the tab of favourites a ghost stays for a while. */
  async function like(heart) {
    const was = [heart.getAttribute("aria-pressed") === "true", Number($(".num", heart).textContent)];
    beat(heart, !was[0], was[1] + (was[0] ? -1 : 1));
    const answer = await post(heart.formAction, { liked: was[0] ? "0" : "1" }).catch(() => null);
    const fresh = answer?.ok && !answer.redirected && $(".heart", parse(await answer.text()));
    if (!fresh) {
      beat(heart, ...was);
      return plainly(heart);
    }
    const isLiked = fresh.getAttribute("aria-pressed") === "true";
    const said = { id: heart.closest(".tile").dataset.task, isLiked, count: $(".num", fresh)?.textContent || "" };
    document.dispatchEvent(new CustomEvent("flux2web:heart", { detail: said })); // on this page, and in the other tabs
    tell(isLiked ? "Favourite" : "No longer a favourite");
    if (new URLSearchParams(location.search).get("tab") === "favourites") haunt(heart.closest(".tile"), isLiked);
  }

  const GHOST_MS = 5000;

  /** No favourite any more, it does not belong here; for a while it can be brought back where it was. */
  function haunt(tile, isLiked) {
    clearTimeout(tile.leaving);
    tile.toggleAttribute("data-ghost", !isLiked);
    $(".undo", tile)?.remove();
    if (isLiked) return;
    const undo = Object.assign(document.createElement("button"), { type: "button", className: "btn s undo", textContent: "Undo" });
    undo.addEventListener("click", () => { like($(".heart", tile)); $("a", tile).focus({ preventScroll: true }); });
    tile.append(undo);
    tile.leaving = setTimeout(() => vanish(tile), GHOST_MS);
  }

  function vanish(tile) {
    if (document.activeElement?.matches(".undo") && tile.contains(document.activeElement)) return (tile.leaving = setTimeout(() => vanish(tile), 1000));
    const all = tiles(), next = all[all.indexOf(tile) + 1] || all[all.indexOf(tile) - 1];
    if (next && tile.contains(document.activeElement)) go(next);
    document.dispatchEvent(new CustomEvent("flux2web:gone", { detail: [tile.dataset.task] }));
    tile.remove();
    rove(document);
  }

  async function restore(button) {
    const answer = await post(button.formAction).catch(() => null);
    if (!answer?.ok || answer.redirected) return plainly(button);
    say(await answer.text());
    button.closest("li").remove();
  }

  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (event.target.id !== "card-action" || !button || "plain" in button.dataset) return;
    const verb = button.matches(".tile > .heart") ? like : button.matches("[data-restore]") ? restore : null;
    if (!verb) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    verb(button);
  }, true);

  // --- keys: the grid is one stop, arrows move in it -------------------------------------------------------------------

  let current = null; // the tile that Tab leads to

  function rove(root) {
    for (const node of $$(".tile[data-task] > :is(a, button, input)", root)) if (node.parentNode !== current) node.tabIndex = -1;
    if (!current?.isConnected) makeCurrent(tiles()[0]);
  }

  function makeCurrent(tile) {
    const link = (node) => node && $("a", node);
    if (link(current)) link(current).tabIndex = -1;
    current = tile || null;
    if (link(current)) link(current).tabIndex = 0;
  }

  function go(tile) {
    if (!tile) return;
    makeCurrent(tile);
    const link = $("a", tile);
    link.focus({ preventScroll: true });
    tile.scrollIntoView({ block: "nearest" });
  }

  /** The nearest in the next row with pictures, up or down. Looks at no more than it needs. */
  function beyond(tile, step) {
    const all = tiles(), from = tile.getBoundingClientRect(), middle = from.left + from.width / 2;
    let row = null, best = null, least = Infinity;
    for (let at = all.indexOf(tile) + step; at >= 0 && at < all.length; at += step) {
      const box = all[at].getBoundingClientRect();
      if (Math.abs(box.top - from.top) < 4) continue;
      if (row !== null && Math.abs(box.top - row) > 4) break;
      row = box.top;
      const far = Math.abs(box.left + box.width / 2 - middle);
      if (far < least) [best, least] = [all[at], far];
    }
    return best;
  }

  const MOVES = {
    ArrowRight: (tile, all) => all[all.indexOf(tile) + 1],
    ArrowLeft: (tile, all) => all[all.indexOf(tile) - 1],
    ArrowDown: (tile) => beyond(tile, 1),
    ArrowUp: (tile) => beyond(tile, -1),
    Home: (tile, all) => all[0],
    End: (tile, all) => all.at(-1),
  };

  const lettersOn = () => kept(localStorage, "flux2web:letters") !== "off";
  const isTyping = (node) => node.closest?.("textarea, select, [contenteditable], input:not([type=checkbox], [type=radio])");

  /** Press a button that the tile has no room for. `plain`: its answer is another page. */
  function press(tile, verb, { plain = false } = {}) {
    const button = Object.assign(document.createElement("button"), { hidden: true });
    button.setAttribute("form", "card-action");
    button.setAttribute("formaction", `/t/${document.body.dataset.team}/tasks/${tile.dataset.task}/${verb}/`);
    button.toggleAttribute("data-plain", plain);
    tile.append(button);
    $("#card-action").requestSubmit(button);
    button.remove();
  }

  const mayMake = () => document.body.dataset.role !== "viewer";

  function throwAway(tile) {
    if (!mayMake()) return;
    const all = tiles(), at = all.indexOf(tile);
    press(tile, "delete");
    if (all.length > 1) go(all[at + 1] || all[at - 1]);
  }

  const ON_TILE = {
    " ": (tile) => $(".pick", tile).click(),
    l: (tile) => $(".heart", tile).click(),
    d: (tile) => tile.matches("[data-lost]") || $(".act", tile).click(),
    u: (tile) => mayMake() && press(tile, "use", { plain: true }),
    Delete: throwAway,
  };
  const ANYWHERE = {
    "/": () => { $("#q").focus(); $("#q").select(); },
    c: () => { location.href = `/t/${document.body.dataset.team}/`; },
    n: () => { location.href = `/t/${document.body.dataset.team}/`; },
    "?": () => openKeys(),
  };

  function onKey(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || $("dialog[open]")) return;
    const tile = event.target.closest?.(".tile[data-task]");
    const move = tile && !event.shiftKey && MOVES[event.key];
    if (move) {
      event.preventDefault();
      return go(move(tile, tiles()));
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const isLetter = key.length === 1 && key !== " ";
    if (isLetter && !lettersOn()) return;
    const act = (tile && !(key === " " && event.target.matches("input, button")) && ON_TILE[key]) || ANYWHERE[key];
    if (!act) return;
    event.preventDefault();
    act(tile);
  }

  function openKeys() {
    const sheet = $("#keys");
    if (!sheet) return;
    $("#letters").checked = lettersOn();
    sheet.showModal();
  }

  document.addEventListener("keydown", onKey);
  document.addEventListener("focusin", (event) => {
    const tile = event.target.closest?.(".tile[data-task]");
    if (tile && tile !== current) makeCurrent(tile);
  });
  document.addEventListener("change", (event) => event.target.id === "letters" && keep(localStorage, "flux2web:letters", event.target.checked ? "on" : "off"));

  // --- place: back from a picture to where one was ---------------------------------------------------------------------

  const PAGES_MAX = 1000; // pictures that coming back loads at most
  const here = () => `flux2web:place:${location.pathname}${location.search}`;

  function leave() {
    if (!found()) return;
    const opened = tiles().find((tile) => tile.dataset.task === opening) || null;
    const at = opened || tiles().find((tile) => tile.getBoundingClientRect().bottom > 80);
    const place = at && { id: at.dataset.task, top: Math.round(at.getBoundingClientRect().top), opened: Boolean(opened), many: tiles().length };
    if (place && scrollY + Number(place.opened) > 0) keep(sessionStorage, here(), JSON.stringify(place));
    else try { sessionStorage.removeItem(here()); } catch { /* switched off */ }
  }

  let opening = "";

  /** A day that goes on is one day: the same rows however many pictures came at a time, with none half empty between. */
  function join(more) {
    const days = $$("#found .day"), first = $(":scope > .day", more), before = days[days.indexOf(first) - 1];
    if (!first || !before || first.dataset.day !== before.dataset.day) return;
    for (const list of [".others", ".rows"]) {
      const [mine, further] = [before, first].map((day) => $(`:scope > ${list}`, day));
      if (mine && further) mine.append(...further.children);
      else if (further) before.insertBefore(further, list === ".others" ? $(":scope > .rows", before) : null);
    }
    first.remove();
  }

  /** As many as there were, in few requests, until the picture is there. */
  async function loadUpTo(place) {
    for (let asked = 0; asked < PAGES_MAX && !document.getElementById(`tile-${place.id}`); asked += 400) {
      const link = $("#found .pager a");
      if (!link) return;
      const many = Math.max(40, Math.min(400, Math.ceil((place.many - tiles().length) / 40) * 40 || 40));
      const answer = await ask(`${location.pathname}${link.getAttribute("hx-get")}&many=${many}`).catch(() => null);
      const more = answer?.ok && !answer.redirected && $(".days", parse(await answer.text()));
      if (!more) return;
      link.closest(".pager").replaceWith(more);
      htmx.process(more);
      join(more);
      rove(more);
    }
  }

  function highlight(tile) {
    tile.toggleAttribute("data-back", true);
    setTimeout(() => tile.removeAttribute("data-back"), 2600);
    makeCurrent(tile);
    if (document.activeElement === document.body) $("a", tile).focus({ preventScroll: true });
  }

  /** Whether this page was come back to: by the browser's button, or by the link on a picture's page. */
  function isReturn() {
    const [how] = performance.getEntriesByType("navigation");
    if (how?.type === "back_forward") return true;
    return how?.type === "navigate" && document.referrer.startsWith(`${location.origin}/t/${document.body.dataset.team}/tasks/`);
  }

  async function comeBack() {
    const place = JSON.parse(kept(sessionStorage, here()) || "null");
    if (!place || !found()) return;
    history.scrollRestoration = "manual";
    await loadUpTo(place);
    const tile = document.getElementById(`tile-${place.id}`);
    if (tile?.matches(".tile")) {
      scrollBy(0, tile.getBoundingClientRect().top - place.top);
      if (place.opened) highlight(tile);
    }
    history.scrollRestoration = "auto";
  }

  document.addEventListener("click", (event) => {
    const tile = event.target.closest?.(".tile > a:not([download])")?.parentNode;
    if (!tile) return;
    opening = tile.dataset.task;
    setTimeout(() => (opening = ""), 4000); // it opened over this page, which stays
  }, true);
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", (event) => {
    found()?.removeAttribute("data-waiting");
    if (event.persisted) {
      const tile = opening && document.getElementById(`tile-${opening}`);
      if (tile) highlight(tile);
    } else if (isReturn()) comeBack();
    opening = "";
  });

  // --- fresh: new pictures slip in at the top while one is there -------------------------------------------------------

  let freshTimer = 0, isBehind = false;
  const openedAt = Date.now();

  const mayslip = () => found()?.hasAttribute("data-newest") && scrollY < 60 && !$("dialog[open]") && !$(".pick:checked") && !document.activeElement?.closest(".tile, .other");

  document.addEventListener("flux2web:finished", (event) => {
    if (!mayslip()) return;
    event.preventDefault(); // no "1 new": it comes
    soon();
  });

  // What was missed while there was no stream, and what ended as no picture: as soon as one is where it may come.
  document.addEventListener("flux2web:catch-up", () => Date.now() - openedAt > 5000 && soon());
  document.addEventListener("flux2web:card", ({ detail: card }) => {
    const line = document.getElementById(`tile-${card.dataset.task}`);
    if (line?.matches(".other") && line.dataset.state !== card.dataset.state) soon();
  });
  document.addEventListener("scroll", () => isBehind && soon(), { passive: true });

  function soon() {
    isBehind = true;
    clearTimeout(freshTimer);
    freshTimer = setTimeout(() => mayslip() && slipIn(), 300 + Math.random() * 900);
  }

  async function slipIn() {
    const answer = await ask(location.pathname).catch(() => null);
    const fresh = answer?.ok && !answer.redirected && parse(await answer.text());
    if (!fresh || !mayslip() || !$("#found .days")) return;
    isBehind = false;
    if (!$$(":is(.tile, .other)[id]", fresh).some((item) => document.getElementById(item.id))) return startAnew(fresh);
    for (const day of $$(".day", fresh).reverse()) mergeDay(day);
    rove(document);
    htmx.process(found());
  }

  /** So much is new that the first page knows none of what is here: in between there would be a gap. */
  function startAnew(fresh) {
    $("#found .days").replaceWith(document.adoptNode($(".days", fresh)));
    rove(document);
    htmx.process(found());
  }

  function mergeDay(day) {
    const mine = $(`#found .day[data-day="${day.dataset.day}"]`);
    if (!mine) {
      const newest = $("#found .day");
      if (newest && newest.dataset.day < day.dataset.day) newest.before(document.adoptNode(day));
      return;
    }
    for (const list of ["others", "rows"]) mergeList(mine, $(`.${list}`, day), list);
  }

  /** What is not here yet goes before the first after it that is; a line gives way to its picture. */
  function mergeList(mine, fresh, kind) {
    if (!fresh) return;
    let list = $(`.${kind}`, mine);
    if (!list) {
      list = document.createElement(kind === "rows" ? "ol" : "ul");
      list.className = kind;
      kind === "rows" ? mine.append(list) : ($("h2", mine)?.after(list) ?? mine.prepend(list));
    }
    let next = null;
    for (const item of [...fresh.children].reverse()) {
      const known = document.getElementById(item.id);
      if (known && known.parentNode === list) {
        next = known.dataset.state === item.dataset.state ? known : document.adoptNode(item);
        if (next !== known) known.replaceWith(next);
        continue;
      }
      known?.remove();
      if (!next && list.children.length) { if (kind === "rows" && Number(item.dataset.task) < Number(list.firstElementChild.dataset.task)) continue; next = list.firstElementChild; }
      list.insertBefore(document.adoptNode(item), next);
      next = item;
    }
  }

  // --- lost: a picture whose original is missing from storage, or is there again ------------------------------------------

  document.addEventListener("flux2web:card", ({ detail: card }) => {
    const tile = document.getElementById(`tile-${card.dataset.task}`);
    if (tile?.matches(".tile[data-task]") && tile.hasAttribute("data-lost") !== card.hasAttribute("data-lost")) turn(tile, card);
  });

  function turn(tile, card) {
    const isLost = tile.toggleAttribute("data-lost"), image = $("img", tile);
    const files = `/t/${document.body.dataset.team}/results/${tile.dataset.task}/`;
    image.srcset = isLost ? "" : `${files}320 320w, ${files}640 640w`;
    image.src = `${files}${isLost ? "left" : "320"}`;
    $(".lost", tile)?.remove();
    if (isLost) $(".by", tile).before(Object.assign(document.createElement("span"), { className: "lost", textContent: $(".what", card).textContent }));
  }

  // --- finding -----------------------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const hit = (selector) => event.target.closest?.(selector);
    const button = hit(".looks button");
    if (button) {
      event.preventDefault();
      choose(button.value);
    } else if (hit("#open-keys")) openKeys();
    else if (hit("[data-close]")) hit("dialog").close();
    else if (event.target.matches?.("dialog.keys")) event.target.close();
    else if (hit(".set a, #tabs a, .saved a") && !event.ctrlKey && !event.metaKey) found()?.toggleAttribute("data-waiting", true);
  });

  /** What is saved is what the address bar holds now. */
  document.addEventListener("submit", (event) => {
    if (event.target.id === "save-search" && $("#found")) $("[name=query]", event.target).value = location.search.slice(1);
  });

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id === "search") found()?.setAttribute("aria-busy", "true");
  });
  document.addEventListener("htmx:load", (event) => {
    if (event.target.id === "found") {
      show($(".looks [data-shape][aria-pressed=true]").value);
      scrollTo({ top: Math.min(scrollY, event.target.offsetTop) });
      const count = tiles().length;
      tell($(".empty h2")?.textContent || (count === 1 ? "1 picture" : `${$("#found .pager") ? "The first " : ""}${count} pictures`));
    }
    if (event.target.matches?.("#found .days .days")) join(event.target);
    rove(event.target);
  });

  if (found()) {
    startLook();
    rove(document);
    if ($("#open-keys")) $("#open-keys").hidden = false;
  }
})();
