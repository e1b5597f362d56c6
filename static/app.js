/* flux2web in the browser: live cards, a few manners. Every action also works without this file.
   No inline handlers, no eval, no style attributes (CSP). Sections: helpers, cards, live, manners. */
(() => {
  "use strict";

  // --- helpers ------------------------------------------------------------------------------------------------------

  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const body = document.body;
  const team = body.dataset.team;
  const LIVE = ["queued", "submitting", "uncertain", "running", "saving"];
  const isLive = (node) => LIVE.includes(node.dataset.state);
  const parse = (html) => new DOMParser().parseFromString(html, "text/html");
  const jitter = (ms) => ms * (0.6 + Math.random() * 0.8);
  const minutes = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  const secondsSince = (iso) => Math.max(0, (Date.now() - new Date(iso)) / 1000);

  function ask(url, options = {}) {
    return fetch(url, { credentials: "same-origin", ...options, headers: { "HX-Request": "true", ...options.headers } });
  }

  function tell(text) {
    const region = $("#told");
    if (region) region.textContent = text;
  }

  function notice(html) {
    const node = $(".notice", parse(html));
    if (!node) return;
    $("#notices").append(node);
    dress(node);
    window.htmx?.process(node);
    node.scrollIntoView({ block: "nearest" });
  }

  const say = (id, text) => { const node = document.getElementById(id); if (node && node.textContent !== text) node.textContent = text; };

  const SIGNED_OUT = "You are signed out, so nothing was sent. Sign in again in another tab, then press once more: what you typed stays here.";
  const STALE = "This page was out of date and nothing was sent. It is fresh again: press once more.";

  /** After signing in anew this page's tokens are old: take fresh ones. What to say about a refusal; "" where it is another. */
  async function renewTokens(refusal) {
    if (!parse(refusal).body.hasAttribute("data-stale")) return "";
    const answer = await fetch(location.href).catch(() => null);
    const fresh = answer?.ok && $("[name=csrfmiddlewaretoken]", parse(await answer.text()))?.value;
    if (!fresh) return "";
    $$("[name=csrfmiddlewaretoken]").forEach((input) => (input.value = fresh));
    return answer.redirected ? SIGNED_OUT : STALE;
  }

  function plainNotice(text) {
    $$("#notices .notice").forEach((node) => node.innerText.trim().startsWith(text) && node.remove());
    notice('<div class="notice" data-kind="warn" role="alert"><p class="grow"></p><button class="icon-btn" type="button" data-dismiss aria-label="Dismiss">×</button></div>');
    $("#notices .notice:last-child p").textContent = text;
  }

  // --- cards --------------------------------------------------------------------------------------------------------

  const cards = $("#cards");
  let unseen = 0;

  function mark(node) {
    node.toggleAttribute("data-other", node.dataset.author !== body.dataset.user);
    return node;
  }

  /** Put cards in: a newer version of one that is here, or one newer than all that are here. Never an older version. */
  function apply(html, { own = false } = {}) {
    const fresh = $$("article.card", parse(html)).sort((a, b) => a.dataset.task - b.dataset.task);
    fresh.forEach((card) => place(mark(card), own));
    if (fresh.length) settle();
  }

  function place(card, own) {
    bringBack(card.dataset.task);
    if ($("#detail")?.dataset.task === card.dataset.task) refreshDetail(card);
    const here = document.getElementById(card.id);
    if (here) renew(here, card);
    else if (cards) insert(card, own);
    else noteElsewhere(card);
  }

  function renew(here, card) {
    if (Number(card.dataset.version) <= Number(here.dataset.version)) return;
    const was = here.dataset.state;
    if (was !== "done" && card.dataset.state === "done") arrive($(".picture img", card));
    Idiomorph.morph(here, card, { ignoreActiveValue: true, callbacks: { beforeAttributeUpdated: (name) => name !== "open" } });
    if (was !== card.dataset.state) announce(here);
  }

  function insert(card, own) {
    const shown = $$("article.card", cards);
    const next = shown.find((other) => Number(other.dataset.task) < Number(card.dataset.task));
    if (!next && shown.length >= 24) return; // older than this page
    card.dataset.fresh = "";
    cards.insertBefore(document.adoptNode(card), next || null);
    if (!own && window.scrollY > 400) showFresh(++unseen);
  }

  /** Pictures fade in once they are there. */
  function arrive(image) {
    image?.classList.add("arriving");
  }

  document.addEventListener("load", (event) => event.target.classList?.remove("arriving"), true);
  document.addEventListener("error", (event) => event.target.classList?.remove("arriving"), true);

  /** Pages without cards: the page of a task asks for itself anew, the history says that there is something new. */
  function noteElsewhere(card) {
    if ($(".history") && card.dataset.state === "done" && isNew(Number(card.dataset.task)) && mayTell(card)) showFresh(++unseen);
  }

  /** False where the page itself puts it in (history.js). */
  const mayTell = (card) => document.dispatchEvent(new CustomEvent("flux2web:finished", { cancelable: true, detail: card }));

  /** Not one that is here, nor an older one that got a heart or a tag. */
  function isNew(id) {
    const tiles = $$(".tile[id]").map((node) => Number(node.id.slice(5)));
    return !tiles.includes(id) && id > Math.min(...tiles, id - 1);
  }

  async function refreshDetail(card) {
    const here = $("#detail");
    if (Number(card.dataset.version) <= Number(here.dataset.version)) return;
    const was = here.dataset.state;
    const answer = await ask(location.href, { headers: { "HX-Request": "false" } });
    const fresh = answer.ok && $("#detail", parse(await answer.text()));
    if (!fresh) return;
    mark(fresh);
    dress(fresh);
    local(fresh);
    Idiomorph.morph(here, fresh, { ignoreActiveValue: true, callbacks: { beforeAttributeUpdated: (name) => name !== "open" } });
    window.htmx?.process(here);
    document.dispatchEvent(new Event("flux2web:detail"));
    if (was !== here.dataset.state) announce(here);
    settle();
  }

  const vanished = new Map(); // id: where its nodes were, for whoever undoes it

  /** In the trash now, or its author's only: off this page at once, wherever it is shown. */
  function vanish(ids) {
    for (const id of ids) {
      const nodes = [`task-${id}`, `tile-${id}`].map((name) => document.getElementById(name)).filter(Boolean);
      if (nodes.length) vanished.set(id, nodes.map((node) => ({ node, parent: node.parentNode, next: node.nextSibling })));
      for (const node of nodes) node.remove();
      const detail = $("#detail");
      if (detail?.dataset.task !== id || detail.hidden) continue;
      detail.hidden = true;
      document.dispatchEvent(new Event("flux2web:detail"));
      if (!pressed.includes(`/tasks/${id}/`)) plainNotice("This picture is not shown any more: it is in the trash, or its author keeps it private.");
    }
    settle();
  }

  document.addEventListener("flux2web:gone", (event) => vanish(event.detail));

  function bringBack(id) {
    for (const { node, parent, next } of vanished.get(id) || []) {
      if (parent.isConnected) parent.insertBefore(node, next?.parentNode === parent ? next : null);
    }
    vanished.delete(id);
    if ($("#detail")?.hidden && $("#detail").dataset.task === id) location.reload();
  }

  function announce(card) {
    if (card.dataset.author !== body.dataset.user) return;
    const name = card.dataset.prompt || $(".said", card)?.textContent.slice(0, 80) || "";
    const said = { done: "Finished", failed: "Failed", uncertain: "No answer yet", cancelled: "Cancelled" }[card.dataset.state];
    if (said) tell(`${said}: ${name}`);
  }

  function showFresh(count) {
    const pill = $("#fresh");
    if (!pill) return;
    $("span", pill).textContent = `${count} new`;
    pill.hidden = false;
  }

  function hideFresh() {
    unseen = 0;
    const pill = $("#fresh");
    if (pill && cards) pill.hidden = true;
  }

  const title = document.title;
  function settle() {
    const live = $$("[data-task]").filter(isLive).length;
    document.title = live ? `(${live}) ${title}` : title;
    tick();
  }

  /** Clocks, rings and "slower than usual" go on between events. */
  function tick() {
    for (const clock of $$("[data-since]")) {
      const seconds = secondsSince(clock.dataset.since);
      clock.textContent = minutes(seconds);
      const card = clock.closest("[data-task]");
      card?.toggleAttribute("data-slow", seconds > Number(clock.dataset.slowAfter));
      const ring = card && $("[data-ring]", card);
      if (ring) fill(ring, (100 * seconds) / Math.max(1, Number(ring.dataset.ring)));
    }
    for (const until of $$("[data-until]")) {
      const seconds = Math.round((new Date(until.dataset.until) - Date.now()) / 1000);
      until.textContent = seconds > 0 ? `next look in ${seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`}` : "looking";
    }
  }

  function fill(ring, percent) {
    ring.setAttribute("stroke-dasharray", `${Math.max(2, Math.min(100, percent)).toFixed(1)} 100`);
    ring.toggleAttribute("data-full", percent >= 100);
  }

  function age() {
    for (const time of $$("time[data-ago]")) {
      const seconds = secondsSince(time.dateTime);
      if (seconds >= 7 * 86400) continue;
      const [by, unit] = seconds < 60 ? [1, "s"] : seconds < 3600 ? [60, "min"] : seconds < 86400 ? [3600, "h"] : [86400, "d"];
      time.textContent = seconds < 5 ? "just now" : `${Math.floor(seconds / by)} ${unit} ago`;
    }
  }

  /** Times of day as this reader's clock shows them; the server says UTC. */
  function local(root) {
    for (const time of $$("time[data-clock]", root)) time.textContent = new Date(time.dateTime).toLocaleTimeString("en-GB");
  }

  let pressed = ""; // the address of the last button: what came of it is no news

  /** The buttons on cards: one form for all, outside of them. */
  async function act(event) {
    const form = event.target;
    const button = event.submitter;
    if (form.id !== "card-action" || !button?.formAction || button.matches("[data-plain]") || leavesPage(button)) return;
    event.preventDefault();
    button.disabled = true;
    pressed = button.formAction;
    try {
      const answer = await ask(button.formAction, { method: "POST", body: new FormData(form, button) });
      const text = await answer.text();
      if (answer.redirected) plainNotice(SIGNED_OUT);
      else if (answer.ok) acted(text);
      else if (answer.status === 422) notice(text);
      else plainNotice((await renewTokens(text)) || $("h1 + p", parse(text))?.textContent || "That did not work. Reload the page and try again.");
    } catch {
      plainNotice("The server did not answer. Check your connection and try again.");
    }
    button.disabled = false;
  }

  /** Deleting what a page is about: the server says where to go, and offers Undo there. */
  function leavesPage(button) {
    const detail = $("#detail");
    return Boolean(detail && !detail.closest("dialog") && button.formAction.endsWith(`/tasks/${detail.dataset.task}/delete/`));
  }

  function acted(html) {
    const said = $(".notice", parse(html));
    if (said) {
      notice(html);
      return said.dataset.gone ? vanish(said.dataset.gone.split(",")) : askDetail();
    }
    const heart = $(".heart[id]", parse(html));
    if (heart) return document.getElementById(heart.id)?.replaceWith(heart), askDetail();
    const card = $("article.card", parse(html));
    const detail = $("#detail");
    if (detail && card && detail.dataset.task !== card.dataset.task) location.href = `/t/${team}/tasks/${card.dataset.task}/`;
    else if (card) apply(html, { own: true });
    else askDetail();
  }

  /** What was done to the picture on its page shows there, stream or no stream. */
  function askDetail() {
    if ($("#detail")) refreshDetail({ dataset: { version: Infinity } });
  }

  // --- live: one stream for all tabs of a team, catching up where there was none -------------------------------------

  const QUICK_MS = 2000, STEPS_MS = [2000, 5000, 15000], HEARTBEAT_MS = 10000, SILENCE_MS = 25000;
  const HAVE_MAX = 200, NEVER_OLD = 999999999; // as many as the server looks at; of a tile, which has no version
  const channel = team && "BroadcastChannel" in window ? new BroadcastChannel(`flux2web:${team}`) : null;
  let source = null, failures = 0, heardAt = 0, steps = 0, pollTimer = 0, balanceTimer = 0;

  const isStreaming = () => source?.readyState === EventSource.OPEN || Date.now() - heardAt < SILENCE_MS;

  function receive({ kind, data }) {
    heardAt = Date.now();
    if (kind === "card") apply(data);
    else if (kind === "balance") askBalance();
    else if (kind === "gone") vanish(data.split(","));
    else if (kind === "catch-up") catchUp();
    else if (kind === "silence") heardAt = 0;
  }

  /** For this tab and for those that listen to it. */
  function spread(kind, data = "") {
    receive({ kind, data });
    channel?.postMessage({ kind, data });
  }

  function openStream() {
    if (source) return;
    let openedAt = 0;
    source = new EventSource(`/t/${team}/live/`);
    source.onopen = () => {
      openedAt = Date.now();
      spread("catch-up"); // whatever happened while there was no stream
    };
    for (const kind of ["card", "balance", "gone"]) source.addEventListener(kind, (event) => spread(kind, event.data));
    source.addEventListener("resync", () => spread("catch-up"));
    source.addEventListener("bye", () => reopen(openedAt));
    source.onerror = () => reopen(openedAt);
  }

  /** Never in a tight loop: 1 s, 2 s, 4 s ... 60 s, each with jitter; a stream that lasted begins anew. */
  function reopen(openedAt) {
    closeStream();
    failures = openedAt && Date.now() - openedAt > 10000 ? 0 : failures + 1;
    spread("silence");
    setTimeout(() => mayStream() && openStream(), jitter(Math.min(60000, 1000 * 2 ** failures)));
    poll();
  }

  function closeStream() {
    source?.close();
    source = null;
  }

  let isLeader = false;
  const mayStream = () => isLeader || (!navigator.locks && document.visibilityState === "visible");

  function lead() {
    if (!navigator.locks || !channel) return mayStream() && openStream();
    navigator.locks.request(`flux2web:${team}`, () => {
      isLeader = true;
      openStream();
      setInterval(() => source?.readyState === EventSource.OPEN && channel.postMessage({ kind: "alive" }), HEARTBEAT_MS);
      return new Promise(() => {}); // held until this tab goes
    });
  }

  function wanted() {
    const shown = $$("[data-task]");
    const some = [...shown.filter(isLive), ...shown.filter((node) => !isLive(node))].slice(0, HAVE_MAX);
    const have = some.map((node) => `${node.dataset.task}:${node.dataset.version || NEVER_OLD}`);
    const newest = cards && ($("article.card", cards)?.dataset.created || "1970-01-01T00:00:00+00:00,0");
    return { have: have.join(","), after: newest || "" };
  }

  async function catchUp() {
    const { have, after } = wanted();
    if (!have && !after) return;
    const answer = await ask(`/t/${team}/cards/?${new URLSearchParams({ have, after })}`).catch(() => null);
    if (answer?.status === 200 && !answer.redirected) apply(await answer.text());
    const gone = answer?.headers.get("X-Gone");
    if (gone) vanish(gone.split(","));
    if (answer) askBalance();
  }

  /** Where there is no stream: 2 s, then 5 s, then 15 s; only while something is live and somebody looks. */
  function poll() {
    clearTimeout(pollTimer);
    pollTimer = setTimeout(async () => {
      if (isStreaming()) return void (steps = 0);
      if (document.visibilityState === "visible" && $$("[data-task]").some(isLive)) await catchUp();
      steps += 1;
      poll();
    }, jitter(STEPS_MS[Math.min(STEPS_MS.length - 1, Math.floor(steps / 5))]));
  }

  function askBalance() {
    clearTimeout(balanceTimer);
    balanceTimer = setTimeout(async () => {
      const chip = $("#balance");
      askStrip();
      const answer = chip && (await ask(`/t/${team}/balance/`).catch(() => null));
      const fresh = answer?.ok && $("#balance", parse(await answer.text()));
      if (!fresh || fresh.isEqualNode(chip)) return;
      Idiomorph.morph(chip, fresh);
      if ($("#compose")) htmx.trigger($("#compose"), "requote");
    }, 150 + Math.random() * 250);
  }

  const STRIP_MS = 5000; // a busy team's balance changes all the time, what a person is told does not
  let stripTimer = 0, strippedAt = 0;

  /** What this person is told at the top of the page. Whoever is reading or about to press there is not disturbed. */
  function askStrip() {
    if (stripTimer || !$("#strip")) return;
    stripTimer = setTimeout(async () => {
      [stripTimer, strippedAt] = [0, Date.now()];
      const answer = await ask("/notices/strip/").catch(() => null);
      const fresh = answer?.ok && !answer.redirected && $("#strip", parse(await answer.text()));
      if (fresh) renewStrip(fresh);
    }, Math.max(0, strippedAt + STRIP_MS - Date.now()));
  }

  function renewStrip(fresh) {
    const here = $("#strip");
    if (!here || here.dataset.strip === fresh.dataset.strip) return;
    const known = $$(".notice", here).map((node) => node.id);
    const added = $$(".notice", fresh).filter((node) => Number(node.id.slice(7)) > Math.max(0, ...known.map((id) => Number(id.slice(7)))));
    Idiomorph.morph(here, fresh);
    htmx.process($("#strip"));
    if (added.length) tell(added.map((node) => $("p", node).firstChild.textContent.trim()).join(" "));
  }

  /** Undone: back where it was, also where no stream tells so. */
  document.addEventListener("htmx:afterSwap", () => $$("#notices [data-back]").forEach((node) => {
    const ids = node.dataset.back.split(",");
    ids.forEach(bringBack);
    delete node.dataset.back;
    if (document.activeElement === body) ($(`#tile-${ids[0]} a, #task-${ids[0]} a`) || $("#main")).focus({ preventScroll: true });
  }));

  /** Put away by key: the next one, or the page. */
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id === "strip" && document.activeElement === body) ($("#strip button") || $("#main")).focus({ preventScroll: true });
  });

  function startLive() {
    if (channel) channel.onmessage = (event) => receive(event.data);
    lead();
    poll();
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState !== "visible") return void (!isLeader && !navigator.locks && closeStream());
      steps = 0;
      if (mayStream()) openStream();
      catchUp();
      poll();
    });
    window.addEventListener("pageshow", (event) => event.persisted && catchUp());
    window.addEventListener("online", () => { failures = 0; catchUp(); });
  }

  // --- manners --------------------------------------------------------------------------------------------------------

  /** What works only with this script is shown only with it. */
  function dress(root) {
    $$("[data-dismiss], [data-copy]", root).forEach((node) => (node.hidden = false));
  }

  async function copy(button) {
    const from = $(button.dataset.copy);
    await navigator.clipboard?.writeText(from.value ?? from.textContent);
    const label = $("span", button) || button;
    const was = label.textContent;
    label.textContent = "Copied";
    setTimeout(() => (label.textContent = was), 1500);
  }

  function onClick(event) {
    const hit = (selector) => event.target.closest(selector);
    let found;
    if ((found = hit("[data-dismiss]"))) found.closest(".notice").remove();
    else if ((found = hit("[data-copy]"))) copy(found);
    else if ((found = hit("button#fresh"))) { window.scrollTo({ top: 0 }); hideFresh(); }
    $$("details.menu[open]").forEach((menu) => !menu.contains(event.target) && menu.removeAttribute("open"));
  }

  function onKey(event) {
    if (event.key !== "Escape") return;
    const menu = $("details.menu[open]");
    if (menu) { event.preventDefault(); menu.removeAttribute("open"); $("summary", menu).focus(); }
  }

  async function broken(event) {
    const why = await renewTokens(event.detail.xhr?.responseText || "");
    plainNotice(why || "The server did not answer as it should. What you typed is still here; try again in a moment.");
  }

  // What the pages' own scripts share: slots.js, compose.js.
  window.flux2web = { $, $$, parse, ask, tell, say, plainNotice, SIGNED_OUT, apply, askBalance };

  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("submit", act);
  document.addEventListener("scroll", () => window.scrollY < 100 && unseen && hideFresh(), { passive: true });
  for (const kind of ["htmx:responseError", "htmx:sendError"]) document.addEventListener(kind, broken);
  dress(document);
  local(document);
  $$("[data-task]").forEach(mark);
  if (team) startLive();
  settle();
  setInterval(tick, 1000);
  setInterval(age, 5000);
})();
