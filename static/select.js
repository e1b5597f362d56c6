/* Choosing many pictures of the history: boxes, Shift, Ctrl or Cmd, a long press; and the bar that acts on them.
   Without this file the boxes are ticked one by one and the bar stays in sight. Choosing changes one tile's box and
   nothing else of the grid. Sections: helpers, what is chosen, choosing, touch, keys, acting. */
(() => {
  "use strict";

  const bar = document.getElementById("bulk");
  if (!bar) return;

  // --- helpers ------------------------------------------------------------------------------------------------------

  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const parse = (html) => new DOMParser().parseFromString(html, "text/html");
  const number = (count) => count.toLocaleString("en");
  const boxes = () => $$("#found .pick");
  const boxOf = (node) => $(".pick", node.closest(".tile"));
  const tell = (text) => { const region = $("#told"); if (region) region.textContent = text; };
  const isTyping = (node) => node.closest?.("textarea, select, [contenteditable], input:not([type=checkbox], [type=radio])");
  const home = location.pathname;

  /** What the address bar says is shown, without the place in it; on the page of a collection, what the bar says. */
  function query() {
    const said = new URLSearchParams(bar.dataset.query ?? location.search);
    for (const name of ["cursor", "day", "many", "grid", "go", "on"]) said.delete(name);
    return said.toString();
  }

  // --- what is chosen -----------------------------------------------------------------------------------------------

  const MOST = 10000;
  const chosen = new Set();
  let all = null; // how many match, where all of them are chosen
  let allBytes = 0; // and how much they weigh together
  let mode = false; // touch: a tap chooses
  let anchor = null;
  let shown = query();

  const isSelecting = () => mode || chosen.size > 0;

  function set(box, isOn) {
    box.checked = isOn;
    if (isOn) chosen.add(box.value);
    else chosen.delete(box.value);
    if (isOn) weights.set(box.value, Number(box.closest(".tile").dataset.bytes ?? NaN));
    if (!isOn) all = null;
  }

  let drawn = 0;
  function draw() {
    cancelAnimationFrame(drawn);
    drawn = requestAnimationFrame(() => {
      document.body.toggleAttribute("data-selecting", isSelecting());
      bar.toggleAttribute("data-on", isSelecting());
      $("#bulk-many").textContent = all ? `All ${number(all)} selected` : `${number(chosen.size)} selected`;
      $("#bulk-all").hidden = Boolean(all) || !chosen.size;
      $("#bulk-every").checked = Boolean(all);
      if ($("#bulk-size")) $("#bulk-size").textContent = size();
      $("#select-mode")?.setAttribute("aria-pressed", String(isSelecting()));
      const like = $("#bulk-like");
      if (like) {
        const liked = chosen.size > 0 && !all && boxes().every((box) => !box.checked || box.closest(".tile").hasAttribute("data-liked"));
        like.value = liked ? "unlike" : "like";
        like.setAttribute("aria-pressed", String(liked));
      }
      for (const button of $$("button[name=verb], summary", bar)) button.toggleAttribute("data-idle", !chosen.size);
    });
  }

  const weights = new Map(); // of each picture that was chosen while it was on the page

  /** What the zip will weigh; "" where nobody here knows. */
  function size() {
    let bytes = all ? allBytes : 0;
    if (!all) for (const id of chosen) bytes += weights.get(id) ?? NaN;
    if (!(bytes > 0)) return "";
    return bytes < 2 ** 20 ? `${Math.max(1, Math.floor(bytes / 1024))} KB` : `${(bytes / 2 ** 20).toFixed(1)} MB`;
  }

  function none() {
    for (const box of boxes()) if (box.checked) box.checked = false;
    chosen.clear();
    [all, anchor, mode] = [null, null, false];
    $$("details[open]", bar).forEach((menu) => (menu.open = false));
    draw();
  }

  /** Tiles that came: with the scrolling, or anew. Another list than before begins with nothing chosen. */
  function fresh() {
    if (location.pathname === home && query() !== shown) {
      shown = query();
      none();
    }
    for (const box of boxes()) {
      if (all) chosen.add(box.value);
      if (chosen.has(box.value) !== box.checked) box.checked = chosen.has(box.value);
    }
    draw();
  }

  for (const kind of ["htmx:afterSettle", "htmx:pushedIntoHistory", "htmx:replacedInHistory"]) document.addEventListener(kind, fresh);
  window.addEventListener("pageshow", () => {
    for (const box of boxes()) if (box.checked) chosen.add(box.value); // the browser kept the ticks, going back
    draw();
  });

  async function everything() {
    const answer = await fetch(`${bar.dataset.count}?${query()}`).catch(() => null);
    const found = answer?.ok && !answer.redirected && (await answer.json().catch(() => null));
    if (!found) return say(plain("The server did not say how many there are. Try again."));
    if (found.more) return say(plain(`${found.said} pictures match, and at most ${number(MOST)} can be chosen at once. Narrow the search.`));
    [all, allBytes] = [found.count, found.bytes];
    for (const box of boxes()) set(box, true);
    tell(`All ${found.said} selected`);
    draw();
  }

  // --- choosing -----------------------------------------------------------------------------------------------------

  function range(to, isOn) {
    const list = boxes();
    const [from, end] = [list.findIndex((box) => box.value === anchor), list.indexOf(to)];
    if (from < 0) return set(to, isOn);
    for (const box of list.slice(Math.min(from, end), Math.max(from, end) + 1)) set(box, isOn);
  }

  function choose(box, isOn, isRange) {
    if (isRange && anchor) range(box, isOn);
    else set(box, isOn);
    anchor = box.value;
    draw();
  }

  /** On the box itself; with Ctrl, Cmd or Shift on the picture; and on the picture while some are chosen. */
  function onClick(event) {
    const tile = event.target.closest?.("#found .tile");
    const box = tile && $(".pick", tile);
    if (!box) return;
    if (event.target === box) return choose(box, box.checked, event.shiftKey);
    if (pressed) {
      pressed = false;
      return stop(event);
    }
    if (event.target.closest("button, .act")) return;
    const isByHand = event.detail > 0; // not by Enter, which opens
    if (event.ctrlKey || event.metaKey || (isSelecting() && isByHand)) {
      stop(event);
      choose(box, event.shiftKey || !box.checked, event.shiftKey);
    }
  }

  function stop(event) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  document.addEventListener("click", onClick, true);

  // --- touch: a long press, then taps ------------------------------------------------------------------------------

  const PRESS_MS = 450, SLIP_PX = 10;
  let pressTimer = 0, pressed = false, start = null;

  document.addEventListener("pointerdown", (event) => {
    pressed = false;
    const tile = event.pointerType !== "mouse" && event.target.closest?.("#found .tile");
    if (!tile || !$(".pick", tile) || event.target.closest("button, input, .act")) return;
    start = [event.clientX, event.clientY];
    pressTimer = setTimeout(() => {
      pressed = true; // the click that ends it is none
      const box = boxOf(tile);
      choose(box, !box.checked, false);
      navigator.vibrate?.(12);
    }, PRESS_MS);
  }, true);
  const letGo = () => clearTimeout(pressTimer);
  document.addEventListener("pointermove", (event) => {
    if (start && Math.hypot(event.clientX - start[0], event.clientY - start[1]) > SLIP_PX) letGo();
  }, { passive: true });
  for (const kind of ["pointerup", "pointercancel", "scroll"]) document.addEventListener(kind, letGo, { passive: true, capture: true });
  document.addEventListener("contextmenu", (event) => pressed && event.target.closest?.("#found .tile") && event.preventDefault());

  // --- keys ---------------------------------------------------------------------------------------------------------

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || isTyping(event.target) || $("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "a" && boxes().length) {
      event.preventDefault();
      for (const box of boxes()) set(box, true);
      tell(`${number(chosen.size)} selected`);
      draw();
    } else if (event.key === "Escape" && isSelecting() && !$("details.menu[open]")) {
      event.preventDefault();
      none();
      tell("None selected");
    } else if (event.key === "Delete" && chosen.size && $("[value=delete]", bar)) {
      stop(event);
      act("delete");
    }
  }, true);

  // --- acting -------------------------------------------------------------------------------------------------------

  const SHOWN_MS = 20000;
  const ENDS = ["delete", "restore"];

  function plain(text) {
    const notice = parse('<div class="notice" data-kind="warn" role="alert"><p class="grow"></p><button class="icon-btn" type="button" data-dismiss aria-label="Dismiss">×</button></div>').body.firstChild;
    $("p", notice).textContent = text;
    return notice;
  }

  /** In the place of what was said before; good news goes by itself, unless somebody is at it. */
  function say(notice) {
    $$("#notices [data-bulk]").forEach((old) => old.remove());
    notice.dataset.bulk = "";
    $$("[data-dismiss]", notice).forEach((button) => (button.hidden = false));
    $("#notices").append(notice);
    window.htmx?.process(notice);
    if (notice.dataset.kind === "good") setTimeout(() => notice.matches(":hover, :focus-within") || notice.remove(), SHOWN_MS);
  }

  function formOf(verb) {
    const form = new FormData(bar);
    form.delete("ids");
    form.delete("all");
    form.set("verb", verb);
    form.set("filters", query());
    form.set("next", `${home}${query() ? `?${query()}` : ""}`);
    if (all) form.set("all", "1");
    else form.set("ids", [...chosen].join(",")); // one field: ten thousand would be too many
    return form;
  }

  async function act(verb, form = formOf(verb)) {
    if (bar.hasAttribute("aria-busy")) return;
    bar.setAttribute("aria-busy", "true");
    const answer = await fetch(bar.action, { method: "POST", body: form, headers: { "HX-Request": "true" } }).catch(() => null);
    const html = answer && !answer.redirected && [200, 422].includes(answer.status) ? parse(await answer.text()) : null;
    bar.removeAttribute("aria-busy");
    const asking = html && $("form.asking", html), notice = html && $(".notice", html);
    if (asking) return ask(asking);
    closeAsking();
    if (!notice) return refused(answer);
    if (answer.ok) done(verb, form.has("all"), notice);
    say(notice);
  }

  function refused(answer) {
    if (answer?.redirected) return say(plain("You are signed out, so nothing was done. Sign in again in another tab, then press once more."));
    say(plain(answer?.status === 403 ? "This page is out of date, so nothing was done. Reload it and choose again." : "The server did not answer as it should. Try again in a moment."));
  }

  function done(verb, isAll, notice) {
    const ids = [...chosen];
    const gone = notice.dataset.gone;
    if (verb === "like" || verb === "unlike") ids.forEach((id) => beat(id, verb === "like"));
    if (verb === "private" || verb === "team") ids.forEach((id) => lock(id, verb === "private"));
    if (ENDS.includes(verb)) {
      none();
      // Out of the trash, a tile is gone for good: its card, coming alive, must not bring it back here.
      if (verb === "restore") gone?.split(",").forEach((id) => document.getElementById(`tile-${id}`)?.remove());
      else if (gone) document.dispatchEvent(new CustomEvent("flux2web:gone", { detail: gone.split(",") }));
      if (isAll) $("#main").focus({ preventScroll: true });
    }
    $$("details[open]", bar).forEach((menu) => (menu.open = false));
    draw();
  }

  /** On this page, and in this person's other tabs. */
  function beat(id, isLiked) {
    const heart = $(`#tile-${CSS.escape(id)} > .heart`);
    const isNews = heart && (heart.getAttribute("aria-pressed") === "true") !== isLiked;
    const count = isNews ? Math.max(0, Number($(".num", heart).textContent) + (isLiked ? 1 : -1)) || "" : undefined;
    document.dispatchEvent(new CustomEvent("flux2web:heart", { detail: { id, isLiked, count } }));
  }

  /** One's own alone: nobody else's was changed. */
  function lock(id, isPrivate) {
    const tile = document.getElementById(`tile-${id}`), by = tile && $(".by", tile);
    if (!by || tile.dataset.author !== document.body.dataset.user) return;
    $(".lock", by)?.remove();
    if (!isPrivate) return;
    const mark = Object.assign(document.createElement("span"), { className: "lock", title: "Only you see this" });
    const words = Object.assign(document.createElement("span"), { className: "visually-hidden", textContent: mark.title });
    const picture = $("button[value=private] svg", bar).cloneNode(true);
    picture.classList.add("s");
    mark.append(picture, words);
    by.append(mark);
  }

  /** A verb that needs a word more asks for it here; the same form comes back while it does not do. */
  function ask(form) {
    const dialog = $("#asking") || makeAsking();
    dialog.replaceChildren(document.adoptNode(form), $("#told")); // what is outside is not read out meanwhile
    dialog.setAttribute("aria-labelledby", "asking-title");
    if (!dialog.open) dialog.showModal();
    ($("[aria-invalid=true]", dialog) || $("select, input:not([type=hidden])", dialog))?.focus();
  }

  function makeAsking() {
    const dialog = Object.assign(document.createElement("dialog"), { id: "asking", className: "asks" });
    dialog.addEventListener("close", () => document.body.append($("#told")));
    return document.body.appendChild(dialog);
  }

  function closeAsking() {
    $("#asking")?.close();
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form === bar && event.submitter?.hasAttribute("formaction") && chosen.size) return; // has an address of its own
    if (form === bar) {
      event.preventDefault();
      if (!event.submitter?.value && !event.submitter?.hasAttribute("formaction")) return;
      if (!chosen.size) return say(plain("Nothing was chosen. Tick some pictures first."));
      act(event.submitter.value);
    } else if (form.closest("#asking")) {
      event.preventDefault();
      act(form.elements.verb.value, new FormData(form));
    }
  });
  document.addEventListener("click", (event) => {
    const hit = (selector) => event.target.closest?.(selector);
    if (hit("#bulk-all")) everything();
    else if (hit("#bulk-none")) { none(); tell("None selected"); }
    else if (hit("#select-mode")) { if (isSelecting()) none(); else { mode = true; draw(); } }
    else if (hit("#asking [data-cancel]") || event.target.id === "asking") { event.preventDefault(); closeAsking(); }
  });
  /** Off the page: no longer chosen. */
  document.addEventListener("flux2web:gone", (event) => {
    for (const id of event.detail) chosen.delete(id);
    draw();
  });

  bar.toggleAttribute("data-scripted", true);
  for (const id of ["bulk-none", "select-mode"]) document.getElementById(id)?.removeAttribute("hidden");
  draw();
})();
