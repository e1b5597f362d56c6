/* flux2web in the browser: live cards, a few manners. Every action also works without this file.
   No inline handlers, no eval, no style attributes (CSP). Sections: helpers, cards, hearts, left alone, batches, endings, buttons, live, manners. */
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
    if (region) region.textContent = region.textContent === text ? `${text}\u00a0` : text; // the same again is news too
  }

  function notice(html) {
    const node = $(".notice", parse(html));
    if (!node) return;
    if (node.id) document.getElementById(node.id)?.remove(); // the same, told before
    $("#notices").append(node);
    dress(node);
    window.htmx?.process(node);
    node.scrollIntoView({ block: "nearest" });
    if (node.matches("[data-asks]")) node.focus({ preventScroll: true });
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

  const NO_ANSWER = "The server did not answer. Check your connection and try again.";

  /** Why a press came to nothing: its answer says so, or is the page to sign in. */
  async function whyNot(answer, text) {
    if (answer.redirected) return SIGNED_OUT;
    return (await renewTokens(text)) || $("h1 + p", parse(text))?.textContent || "That did not work. Reload the page and try again.";
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
    if (node.matches("article.card")) $(".heart", node)?.setAttribute("aria-pressed", String(liked.has(node.dataset.task)));
    return node;
  }

  /** Put cards in: a newer version of one that is here, or one newer than all that are here. Never an older version. */
  function apply(html, { own = false } = {}) {
    const fresh = $$("article.card", parse(html)).sort((a, b) => a.dataset.task - b.dataset.task);
    fresh.forEach((card) => place(mark(card), own));
    if (fresh.length) settle();
  }

  function place(card, own) {
    const isAway = cards && isLeft(card.dataset.task);
    if (!isAway) bringBack(card.dataset.task);
    watch(card);
    if ($("#detail")?.dataset.task === card.dataset.task) refreshDetail(card);
    const here = document.getElementById(card.id);
    if (isAway) return;
    if (here) renew(here, card);
    else if (cards) insert(card, own);
    else noteElsewhere(card);
  }

  const held = new Map(); // id of a card whose details are being read: what it will be

  /** The answer to a press may come after what has happened since. What was looked at as often may say something else by
      now (a place in line). */
  function isOlder({ dataset: card }, { dataset: here }) {
    const moves = Number(card.version) - Number(here.version);
    return moves < 0 || (moves === 0 && Number(card.looks) < Number(here.looks));
  }

  /** An older card never replaces a newer. */
  function renew(here, card) {
    if (isOlder(card, here)) return;
    if ($("details[open]", here)) return void held.set(here.id, card);
    held.delete(here.id);
    if (here.dataset.state !== "done" && card.dataset.state === "done") arrive($(".picture img", card));
    const focus = here.contains(document.activeElement) ? document.activeElement : null;
    const meant = focus?.formAction;
    dress(card);
    Idiomorph.morph(here, card); // also the number in a heart that has the focus
    if (focus && (document.activeElement !== focus || focus.formAction !== meant)) toCard(here);
    askHead(here.dataset.batch);
  }

  /** Focus stays with the card where its button has gone, or has become another. */
  const toCard = (card) => $(".said a", card)?.focus({ preventScroll: true });

  document.addEventListener("toggle", (event) => {
    const card = event.target.closest?.("article.card");
    if (card && !event.target.open && held.has(card.id)) renew(card, held.get(card.id));
  }, true);

  function insert(card, own) {
    const shown = $$("article.card", cards);
    const isBelow = (other) => Number(other.dataset.task) < Number(card.dataset.task);
    const next = shown.find(isBelow);
    if (!next && shown.length >= 24) return; // older than this page
    card.dataset.fresh = "";
    dress(card);
    const group = groupOf(card);
    const before = group ? $$("article.card", group).find(isBelow) || $(".apart", group) : next?.closest(".batch") || next;
    (group || cards).insertBefore(document.adoptNode(card), before || null);
    askHead(card.dataset.batch);
    if (!own && window.scrollY > 400) showFresh(++unseen);
    else thin();
  }

  const CARDS_MAX = 400; // of a page that is open for days; the history has the others

  /** The oldest go where nobody is among them. */
  function thin() {
    const isNeeded = (card) => isLive(card) || card.contains(document.activeElement) || $("details[open]", card);
    $$("article.card", cards).slice(CARDS_MAX).forEach((card) => isNeeded(card) || card.remove());
    $$(".batch", cards).forEach((group) => $("article.card", group) || group.remove());
  }

  /** Pictures fade in once they are there. */
  function arrive(image) {
    image?.classList.add("arriving");
  }

  document.addEventListener("load", (event) => event.target.classList?.remove("arriving"), true);
  document.addEventListener("error", (event) => event.target.classList?.remove("arriving"), true);

  /** Pages without cards: the page of a task asks for itself anew, the history turns its tile, or says that there is something new. */
  function noteElsewhere(card) {
    document.dispatchEvent(new CustomEvent("flux2web:card", { detail: card }));
    const id = Number(card.dataset.task);
    if (!$("#found[data-newest]") || card.dataset.state !== "done" || counted.has(id) || !isNew(id) || !mayTell(card)) return;
    counted.add(id);
    showFresh(++unseen);
  }

  const counted = new Set(); // pictures that are new: each once, however often it changes

  /** False where the page itself puts it in (history.js). */
  const mayTell = (card) => document.dispatchEvent(new CustomEvent("flux2web:finished", { cancelable: true, detail: card }));

  /** Not one that is here, nor an older one that got a heart or a tag. */
  function isNew(id) {
    const tiles = $$(".tile[id]").map((node) => Number(node.id.slice(5)));
    return !tiles.includes(id) && id > Math.min(...tiles, id - 1);
  }

  /** What comes anew leaves alone what somebody has opened, typed or ticked there. */
  const mayRenew = (name, node) => !(name === "open" || (name === "value" && node.matches("input, textarea") && node.value !== node.defaultValue) || (name === "checked" && node.checked !== node.defaultChecked));

  async function refreshDetail(card) {
    const here = $("#detail");
    if (Number(card.dataset.version) < Number(here.dataset.version)) return;
    const answer = await ask(location.href, { headers: { "HX-Request": "false" } });
    const fresh = answer.ok && $("#detail", parse(await answer.text()));
    if (!fresh) return;
    mark(fresh);
    dress(fresh);
    local(fresh);
    Idiomorph.morph(here, fresh, { ignoreActiveValue: true, callbacks: { beforeAttributeUpdated: mayRenew } });
    window.htmx?.process(here);
    document.dispatchEvent(new Event("flux2web:detail"));
    settle();
  }

  const vanished = new Map(); // id: where its nodes were, for whoever undoes it

  /** In the trash now, or its author's only: off this page at once, wherever it is shown. */
  function vanish(ids) {
    for (const id of ids) {
      takeOff(id);
      const detail = $("#detail");
      if (detail?.dataset.task !== id || detail.hidden) continue;
      detail.hidden = true;
      document.dispatchEvent(new Event("flux2web:detail"));
      if (!pressed.includes(`/tasks/${id}/`)) plainNotice("This picture is not shown any more: it is in the trash, or its author keeps it private.");
    }
    settle();
  }

  function takeOff(id) {
    const nodes = [`task-${id}`, `tile-${id}`].map((name) => document.getElementById(name)).filter(Boolean);
    if (nodes.length) vanished.set(id, nodes.map((node) => ({ node, parent: node.parentNode, next: node.nextSibling })));
    for (const node of nodes) {
      node.remove();
      askHead(node.dataset.batch);
    }
  }

  document.addEventListener("flux2web:gone", (event) => vanish(event.detail));

  function bringBack(id) {
    for (const { node, parent, next } of vanished.get(id) || []) {
      if (parent.isConnected) parent.insertBefore(node, next?.parentNode === parent ? next : null);
    }
    vanished.delete(id);
    if ($("#detail")?.hidden && $("#detail").dataset.task === id) location.reload();
  }

  function showFresh(count) {
    const pill = $("#fresh");
    if (!pill) return;
    $("span", pill).textContent = `${count} new`;
    pill.hidden = false;
  }

  let submittedAt = 0;
  document.addEventListener("submit", ({ target, submitter }) => {
    if (/collect|bulk/.test(submitter?.formAction || target.action)) submittedAt = Date.now();
  }, true);

  /** The collection that this page shows, or names, is another now; whoever did it just here knows. */
  function showChanged(id) {
    if ($(`#detail .placed a[href$="/collections/${id}/"]`)) askDetail();
    const pill = $(`#changed[data-collection="${id}"]`);
    if (!pill?.hidden || Date.now() - submittedAt < 5000) return;
    pill.hidden = false;
    tell(pill.textContent);
  }

  function hideFresh() {
    unseen = 0;
    const pill = $("#fresh");
    if (pill && cards) pill.hidden = true;
  }

  const settle = () => tick();

  /** Clocks, rings and "slower than usual" go on between events. */
  function tick() {
    arrange();
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
      const said = seconds < 5 ? "just now" : `${Math.floor(seconds / by)} ${unit} ago`;
      if (time.textContent !== said) time.textContent = said;
    }
  }

  /** Times of day as this reader's clock shows them; the server says UTC. */
  function local(root) {
    for (const time of $$("time[data-clock]", root)) time.textContent = new Date(time.dateTime).toLocaleTimeString("en-GB");
  }

  // --- hearts: cards are everyone's, a heart is this person's ------------------------------------------------------------

  const liked = new Set($$("article.card .heart[aria-pressed=true]").map((heart) => heart.closest("article").dataset.task));

  /** The server's answer to a press. */
  function hearted(heart) {
    const said = { id: heart.id.slice(6), isLiked: heart.getAttribute("aria-pressed") === "true", count: $(".num", heart)?.textContent || "" };
    document.getElementById(heart.id)?.replaceWith(heart);
    spreadHeart(said);
    tell(said.isLiked ? "Favourite" : "No longer a favourite");
  }

  /** Here, and in this person's other tabs. */
  function spreadHeart(said) {
    beat(said);
    channel?.postMessage({ kind: "heart", data: said });
  }

  /** Of another tab. On the picture's own page it also says who likes it, which the stream brings where there is one. */
  function hearHeart(said) {
    beat(said);
    if ($("#detail")?.dataset.task === said.id && !isStreaming()) askDetail();
  }

  document.addEventListener("flux2web:heart", (event) => spreadHeart(event.detail));

  /** Without a `count`, what is shown stays: whoever knows of the heart may not know that. */
  function beat({ id, isLiked, count }) {
    isLiked ? liked.add(id) : liked.delete(id);
    for (const heart of $$(`#task-${id} .heart, #tile-${id} > .heart, #heart-${id}`)) {
      heart.setAttribute("aria-pressed", String(isLiked));
      heart.closest(".tile")?.toggleAttribute("data-liked", isLiked);
      if (count !== undefined) $(".num", heart).textContent = count;
    }
  }

  // --- left alone: tasks that go on and are not watched on this person's pages -------------------------------------------

  const LEFT = `flux2web:left:${team}:${body.dataset.user}`, LEFT_MS = 3 * 86400e3; // by then the longest task has ended
  const isLeft = (id) => id in left;
  let left = leftAlone();

  function leftAlone() {
    let kept = {};
    try { kept = JSON.parse(localStorage.getItem(LEFT)) || {}; } catch { /* switched off, or not ours */ }
    return Object.fromEntries(Object.entries(kept).filter(([id, at]) => /^\d+$/.test(id) && Date.now() - at < LEFT_MS));
  }

  function keepLeft() {
    try { localStorage.setItem(LEFT, JSON.stringify(left)); } catch { /* until the page goes */ }
  }

  function leave(card) {
    const id = card.dataset.task;
    left = { ...left, ...leftAlone(), [id]: Date.now() };
    keepLeft();
    takeOff(id);
    notice(`<div class="notice" data-kind="info" role="status"><p class="grow">You do not watch task ${Number(id)} any more. It goes on, and its picture will be in the history.</p><button class="text-btn" type="button" data-watch="${Number(id)}">Undo</button><button class="icon-btn" type="button" data-dismiss aria-label="Dismiss">×</button></div>`);
    $(`#notices [data-watch="${Number(id)}"]`).focus({ preventScroll: true });
  }

  function watchAgain(button) {
    const id = button.dataset.watch;
    delete left[id];
    keepLeft();
    button.closest(".notice").remove();
    bringBack(id);
    $(`#task-${id} .said a`)?.focus({ preventScroll: true });
    catchUp(); // with what happened meanwhile
  }

  /** The same in the other tabs of this browser. */
  window.addEventListener("storage", ({ key }) => {
    if (key !== LEFT || !cards) return;
    const was = left;
    left = leftAlone();
    Object.keys(left).forEach(takeOff);
    Object.keys(was).filter((id) => !isLeft(id)).forEach(bringBack);
    catchUp();
  });

  // --- batches --------------------------------------------------------------------------------------------------------

  /** The group that a card belongs into; made once a second one of its batch is here. null: it stands alone. */
  function groupOf(card) {
    const id = card.dataset.batch;
    const mate = $(`#cards > article.card[data-batch="${id}"]`);
    return document.getElementById(`batch-${id}`) || (mate && makeGroup(id, mate));
  }

  function makeGroup(id, mate) {
    const group = parse(`<div class="batch" role="group" id="batch-${Number(id)}"><header class="batch-head" id="batch-${Number(id)}-head"></header><h3 class="apart">Failed</h3></div>`).body.firstElementChild;
    mate.before(document.adoptNode(group));
    moveInto(group, mate, $(".apart", group));
    return group;
  }

  /** Keeps the focus where the browser can. */
  const moveInto = (parent, node, before = null) => (parent.moveBefore || parent.insertBefore).call(parent, node, before);

  const headsWanted = new Set();
  let headTimer = 0, isAskingHeads = false;

  /** A head says what this person sees of a batch: it is asked for, once for many changes, while somebody looks. */
  function askHead(id) {
    if (!id || !document.getElementById(`batch-${id}`)) return;
    headsWanted.add(id);
    headTimer ||= setTimeout(askHeads, jitter(400));
  }

  async function askHeads() {
    headTimer = 0;
    if (isAskingHeads || !headsWanted.size || document.visibilityState !== "visible") return;
    isAskingHeads = true;
    const ids = [...headsWanted].slice(0, 64);
    ids.forEach((id) => headsWanted.delete(id));
    const answer = await ask(`/t/${team}/batches/?${new URLSearchParams({ ids })}`).catch(() => null);
    const fresh = answer?.ok && !answer.redirected && parse(await answer.text());
    if (fresh) ids.forEach((id) => putHead(id, $(`#batch-${id}-head`, fresh)));
    else ids.forEach((id) => headsWanted.add(id)); // asked again when the page catches up
    isAskingHeads = false;
    if (fresh && headsWanted.size) headTimer ||= setTimeout(askHeads, jitter(400));
  }

  function putHead(id, head) {
    const group = document.getElementById(`batch-${id}`);
    const here = document.getElementById(`batch-${id}-head`);
    if (!head) return here?.remove();
    const hadFocus = here?.contains(document.activeElement);
    if (here) Idiomorph.morph(here, head);
    else group?.prepend(document.adoptNode(head));
    if (hadFocus && !here.contains(document.activeElement)) toCard($("article.card", group));
    group?.setAttribute("aria-labelledby", `batch-${id}-title`);
    arrange();
  }

  /** Once a batch rests, what failed stands apart; never under somebody's hand. */
  function arrange() {
    for (const apart of $$(".batch:has(> [data-resting]) > .apart")) {
      const group = apart.parentNode;
      const early = $$("article.card[data-state=failed]", group).filter((card) => card.compareDocumentPosition(apart) & Node.DOCUMENT_POSITION_FOLLOWING);
      if (!early.length || group.matches(":hover") || group.contains(document.activeElement)) continue;
      early.forEach((card) => moveInto(group, card));
    }
  }

  // --- endings: told, counted, heard ------------------------------------------------------------------------------------

  const standing = new Map(); // task: how it stood when it was last seen
  const ENDINGS = { done: "Finished", failed: "Failed", uncertain: "No answer yet", cancelled: "Cancelled" };
  let endings = [], missed = 0;

  /** Each change of a picture of one's own, whatever page this is. */
  function watch(node) {
    const { task, state, version, author, prompt } = node.dataset;
    if (isLeft(task)) return;
    const was = standing.get(task);
    if (was && Number(was.version) > Number(version)) return;
    standing.set(task, { state, version });
    if (!was || was.state === state || author !== body.dataset.user || !ENDINGS[state]) return;
    const name = prompt || $(".said", node)?.textContent.slice(0, 80) || "";
    if (!endings.length) setTimeout(tellEndings, 300);
    endings.push({ said: ENDINGS[state], name });
    if (["done", "failed"].includes(state)) ended(task, state, name);
  }

  const pictures = (count) => (count === 1 ? "1 picture" : `${count} pictures`);

  /** One by its name, several at once by their number. */
  function tellEndings() {
    const all = endings;
    endings = [];
    if (all.length === 1) return tell(`${all[0].said}: ${all[0].name}`);
    const words = [...new Set(all.map((one) => one.said))];
    tell(words.map((word) => `${word}: ${pictures(all.filter((one) => one.said === word).length)}`).join(". "));
  }

  function ended(task, state, name) {
    if (document.visibilityState === "hidden") badge(missed + 1);
    if (!isLeader && navigator.locks) return; // one of a browser's tabs rings, not each
    chime();
    notify(task, state, name);
  }

  /** How much ended while nobody looked: in the title, and a dot on the icon. */
  function badge(count) {
    missed = count;
    const plain = document.title.replace(/^\(\d+\) /, "");
    document.title = missed ? `(${missed}) ${plain}` : plain;
    const icon = $("link[rel=icon]");
    icon.dataset.plain ||= icon.getAttribute("href");
    icon.href = missed ? icon.dataset.news : icon.dataset.plain;
  }

  /** Switches of this browser, off until switched on. */
  const isOn = (name) => { try { return localStorage.getItem(`flux2web:${name}`) === "on"; } catch { return false; } };
  const ALLOWED = { sound: async () => (sounding().resume(), true), notice: async () => (await window.Notification?.requestPermission()) === "granted" };
  const BLOCKED = "This browser shows no notices of this site. Allow them in its settings for this address, then switch them on here.";

  async function turn(button) {
    const name = button.dataset.switch;
    const on = !isOn(name);
    if (on && !(await ALLOWED[name]())) return plainNotice(BLOCKED);
    try { localStorage.setItem(`flux2web:${name}`, on ? "on" : "off"); } catch { /* forgotten with the page */ }
    showSwitches();
    if (on) chime();
  }

  function showSwitches() {
    for (const button of $$("[data-switch]")) {
      const on = isOn(button.dataset.switch) && (button.dataset.switch !== "notice" || window.Notification?.permission === "granted");
      button.hidden = false;
      button.setAttribute("aria-checked", String(on));
      $("[data-state-word]", button).textContent = on ? "On" : "Off";
    }
  }

  let audio = null, chimedAt = 0;
  const sounding = () => (audio ||= new AudioContext());

  /** Two soft notes, however many end at once. */
  function chime() {
    if (!isOn("sound") || Date.now() - chimedAt < 2000) return;
    chimedAt = Date.now();
    const context = sounding();
    context.resume();
    [659, 880].forEach((pitch, number) => {
      const [note, loudness, from] = [context.createOscillator(), context.createGain(), context.currentTime + 0.13 * number];
      note.frequency.value = pitch;
      loudness.gain.setValueAtTime(0.0001, from);
      loudness.gain.exponentialRampToValueAtTime(0.1, from + 0.02);
      loudness.gain.exponentialRampToValueAtTime(0.0001, from + 0.4);
      note.connect(loudness).connect(context.destination);
      note.start(from);
      note.stop(from + 0.45);
    });
  }

  function notify(task, state, name) {
    if (!isOn("notice") || document.visibilityState !== "hidden" || window.Notification?.permission !== "granted") return;
    try {
      const shown = new Notification(`${ENDINGS[state]} · flux2web`, { body: name, tag: `flux2web-${task}`, icon: $("link[rel=icon]").href });
      shown.onclick = () => { window.focus(); shown.close(); };
    } catch { /* some phones show none from a page */ }
  }

  // --- buttons ----------------------------------------------------------------------------------------------------------

  let pressed = ""; // the address of the last button: what came of it is no news

  /** The buttons on cards: one form for all, outside of them. */
  async function act(event) {
    const form = event.target;
    const button = event.submitter;
    if (form.id !== "card-action" || !button?.formAction || button.matches("[data-plain]") || leavesPage(button)) return;
    event.preventDefault();
    const hadFocus = document.activeElement === button;
    const home = button.closest("article.card, .batch");
    const said = bodyOf(form, button); // before it is disabled: what is disabled says nothing
    button.disabled = true;
    pressed = button.formAction;
    try {
      const answer = await ask(button.formAction, { method: "POST", body: said });
      const text = await answer.text();
      if (answer.ok && !answer.redirected) acted(text, button);
      else if (answer.status === 422) notice(text), catchUp(); // it may have been pressed on what has changed
      else plainNotice(await whyNot(answer, text));
    } catch {
      plainNotice(NO_ANSWER);
    }
    button.disabled = false;
    const menu = button.closest("article.card details.menu");
    if (menu) shut(menu, hadFocus);
    if (hadFocus && document.activeElement === body && home) refocus(button, home);
  }

  /** A heart does what it shows: another device may have turned it. */
  function bodyOf(form, button) {
    const data = new FormData(form, button);
    if (button.matches(".heart")) data.set("liked", button.getAttribute("aria-pressed") === "true" ? "0" : "1");
    return data;
  }

  /** To what was pressed, else to its card; to Undo where the card has gone. */
  function refocus(button, home) {
    if (button.isConnected && button.formAction === pressed) button.focus({ preventScroll: true });
    else if (home.isConnected) toCard(home);
    else $("#notices .notice:last-child form button")?.focus({ preventScroll: true });
  }

  function shut(menu, hadFocus) {
    menu.removeAttribute("open");
    if (hadFocus) $("summary", menu).focus({ preventScroll: true });
  }

  /** Deleting what a page is about: the server says where to go, and offers Undo there. */
  function leavesPage(button) {
    const detail = $("#detail");
    return Boolean(detail && !detail.closest("dialog") && button.formAction.endsWith(`/tasks/${detail.dataset.task}/delete/`));
  }

  function acted(html, button) {
    if (button.closest("#notices")) button.closest(".notice").remove(); // it asked, and was answered
    askHead(pressed.match(/\/batches\/(\d+)\//)?.[1]);
    const said = $(".notice", parse(html));
    if (said) {
      notice(html);
      return said.dataset.gone ? vanish(said.dataset.gone.split(",")) : askDetail();
    }
    const heart = $(".heart[id]", parse(html));
    if (heart) return hearted(heart), askDetail();
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

  const STEPS_MS = [2000, 5000, 15000], HEARTBEAT_MS = 10000, SILENCE_MS = 25000;
  const DEAD_MS = 40000, NAP_MS = 15000; // the server says something every 15 s; timers that stood still for so long mean sleep
  const HAVE_MAX = 200, LEFT_MAX = 50, NEVER_OLD = 999999999; // as many as the server looks at; of a tile, which has no version
  const ours = `flux2web:${team}:${body.dataset.user}`; // this person's tabs: another account may be signed in elsewhere in this browser
  const channel = team && "BroadcastChannel" in window ? new BroadcastChannel(ours) : null;
  let source = null, failures = 0, steps = 0, pollTimer = 0, balanceTimer = 0;
  // When the stream last said something, here or in the tab that leads; when our own stream did; when that tab did.
  let heardAt = 0, beatAt = 0, ledAt = Date.now(), tickedAt = Date.now(), retryAt = 0;

  const isBeating = () => source?.readyState === EventSource.OPEN && Date.now() - beatAt < DEAD_MS;
  const isStreaming = () => isBeating() || Date.now() - heardAt < SILENCE_MS;

  function receive({ kind, data }) {
    heardAt = Date.now();
    if (kind === "card") apply(data);
    else if (kind === "balance") askBalance();
    else if (kind === "gone") vanish(data.split(","));
    else if (kind === "filed") showChanged(data);
    else if (kind === "catch-up") catchUpAll();
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
    beatAt = Date.now();
    source = new EventSource(`/t/${team}/live/`);
    source.onopen = () => {
      openedAt = beatAt = Date.now();
      spread("catch-up"); // whatever happened while there was no stream
    };
    for (const kind of ["card", "balance", "gone", "filed", "ping", "hello"]) source.addEventListener(kind, () => (beatAt = Date.now()));
    for (const kind of ["card", "balance", "gone", "filed"]) source.addEventListener(kind, (event) => spread(kind, event.data));
    source.addEventListener("resync", () => spread("catch-up"));
    source.addEventListener("bye", () => reopen(openedAt));
    source.onerror = () => reopen(openedAt);
  }

  /** Never in a tight loop: 1 s, 2 s, 4 s ... 60 s, each with jitter; a stream that lasted begins anew. */
  function reopen(openedAt) {
    closeStream();
    failures = openedAt && Date.now() - openedAt > 10000 ? 0 : failures + 1;
    spread("silence");
    const wait = jitter(Math.min(60000, 1000 * 2 ** failures));
    retryAt = Date.now() + wait;
    setTimeout(() => mayStream() && openStream(), wait);
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
    navigator.locks.request(ours, () => {
      isLeader = true;
      openStream();
      setInterval(() => isBeating() && channel.postMessage({ kind: "alive" }), HEARTBEAT_MS);
      return new Promise(() => {}); // held until this tab goes
    });
  }

  function wanted() {
    const shown = $$("[data-task]");
    const alone = cards ? Object.keys(left).slice(-LEFT_MAX).map((id) => `${id}:${NEVER_OLD}`) : []; // nothing of them is news
    const some = [...shown.filter(isLive), ...shown.filter((node) => !isLive(node))].slice(0, HAVE_MAX - alone.length);
    const have = [...alone, ...some.map((node) => `${node.dataset.task}:${node.dataset.version || NEVER_OLD}`)];
    const newest = cards && ($("article.card", cards)?.dataset.created || "1970-01-01T00:00:00+00:00,0");
    return { have: have.join(","), after: newest || "" };
  }

  /** After a time in which nothing was heard. */
  function catchUpAll() {
    document.dispatchEvent(new Event("flux2web:catch-up"));
    $$("[data-head]").forEach((head) => askHead(head.dataset.head));
    catchUp();
  }

  async function catchUp() {
    const { have, after } = wanted();
    if (!have && !after) return;
    const answer = await ask(`/t/${team}/cards/?${new URLSearchParams({ have, after })}`).catch(() => null);
    if (answer?.status === 200 && !answer.redirected) caughtUp(await answer.text(), answer.headers.get("X-Liked") || "");
    const gone = answer?.headers.get("X-Gone");
    if (gone) vanish(gone.split(","));
    $$("[data-head]:not([data-resting])").forEach((head) => askHead(head.dataset.head));
    if (answer) askBalance();
  }

  /** Of the cards that come, the server says which this person likes. */
  function caughtUp(html, likes) {
    for (const [, id] of html.matchAll(/ data-task="(\d+)"/g)) liked.delete(id);
    for (const id of likes.split(",")) liked.add(id);
    apply(html);
  }

  /** Where there is no stream: 2 s, then 5 s, then 15 s; only while something is live and somebody looks. */
  function poll() {
    clearTimeout(pollTimer);
    pollTimer = setTimeout(async () => {
      const alone = !isStreaming();
      if (alone && document.visibilityState === "visible" && $$("[data-task]").some(isLive)) await catchUp();
      steps = alone ? steps + 1 : 0;
      poll();
    }, jitter(STEPS_MS[Math.min(STEPS_MS.length - 1, Math.floor(steps / 5))]));
  }

  /** Somebody looks again, the machine woke up, the network is back: whatever happened meanwhile is caught up with. */
  function wake() {
    [failures, steps] = [0, 0];
    if (mayStream()) openStream();
    catchUpAll();
    poll();
    age();
  }

  /** Every second: what no event tells. A stream that has said nothing for long is dead, whatever the browser believes; a
      tab that leads may be frozen, and then whoever is looked at listens for itself. */
  function watchStream() {
    const now = Date.now();
    const slept = now - tickedAt > NAP_MS;
    tickedAt = now;
    if (source && now - beatAt > DEAD_MS) reopen(beatAt);
    if (document.visibilityState !== "visible") return;
    if (slept) wake();
    if (channel && navigator.locks && !isLeader && now > retryAt && now - ledAt > SILENCE_MS) openStream();
  }

  function hearTab({ data }) {
    if (data.kind === "heart") return hearHeart(data.data);
    ledAt = Date.now();
    if (data.kind === "alive" && !isLeader && navigator.locks) closeStream();
    receive(data);
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

  const FOLLOW_MS = 500;

  /** A tab that another one leads was told nothing while it loaded. */
  function follow() {
    if (!isLeader && navigator.locks && channel && ($("#detail") || $$("[data-task]").some(isLive))) catchUp();
  }

  function startLive() {
    if (channel) channel.onmessage = hearTab;
    lead();
    setTimeout(follow, FOLLOW_MS);
    poll();
    setInterval(watchStream, 1000);
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState !== "visible") return void (!isLeader && closeStream());
      badge(0);
      wake();
    });
    document.addEventListener("resume", wake);
    window.addEventListener("pageshow", (event) => event.persisted && wake());
    window.addEventListener("online", wake);
    window.addEventListener("offline", () => { closeStream(); spread("silence"); });
  }

  // --- manners --------------------------------------------------------------------------------------------------------

  /** What works only with this script is shown only with it. */
  function dress(root) {
    $$("[data-dismiss], [data-copy], [data-take], [data-leave]", root).forEach((node) => (node.hidden = false));
  }

  /** What a card's buttons copy. */
  const TAKEN = {
    id: (card) => card.dataset.task,
    link: (card) => $(".said a", card).href,
    prompt: (card) => wholePrompt($(".said a", card)),
    error: (card) => {
      const said = [".what", ".detail", ".print"].map((part) => $(part, card)?.textContent.trim()).filter(Boolean);
      return `Task ${TAKEN.id(card)}: ${said.map((text) => text.replace(/\.?$/, ".")).join(" ")}`;
    },
  };

  /** A card has the beginning of a long one; the picture's page has all of it. */
  async function wholePrompt(link) {
    const shown = link.textContent;
    if (!shown.endsWith("…")) return shown;
    const answer = await ask(`${link.href}?overlay=1`).catch(() => null);
    return (answer?.ok && $(".asked", parse(await answer.text()))?.textContent.trim()) || shown;
  }

  /** Also where the page is not on a secure address, which has no clipboard. */
  async function copyText(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const field = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
    body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }

  async function copy(button) {
    const from = button.dataset.copy && $(button.dataset.copy);
    await copyText(from ? (from.value ?? from.textContent) : await TAKEN[button.dataset.take](button.closest("[data-task]")));
    button.focus({ preventScroll: true });
    const label = $("span", button) || button;
    const was = label.textContent;
    label.textContent = "Copied";
    setTimeout(() => (label.textContent = was), 1500);
  }

  function onClick(event) {
    const hit = (selector) => event.target.closest(selector);
    let found;
    if ((found = hit("[data-dismiss]"))) found.closest(".notice").remove();
    else if ((found = hit("[data-copy], [data-take]"))) copy(found);
    else if ((found = hit("[data-leave]"))) leave(found.closest("article.card"));
    else if ((found = hit("[data-watch]"))) watchAgain(found);
    else if ((found = hit("[data-switch]"))) turn(found);
    else if (event.detail > 1 && hit("[form=card-action]")) event.preventDefault(); // a double click: by now it may be another button
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
  window.flux2web = { $, $$, parse, ask, tell, say, plainNotice, renewTokens, whyNot, mayRenew, NO_ANSWER, SIGNED_OUT, apply, askBalance };

  // A part of a page was asked for, and the page to sign in came: it is not put in that part's place.
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    if (!new URL(event.detail.xhr.responseURL || location.href).pathname.startsWith("/accounts/login/")) return;
    event.preventDefault();
    if (!$("#notices").textContent.includes(SIGNED_OUT)) plainNotice(SIGNED_OUT);
  });

  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("submit", act);
  document.addEventListener("scroll", () => window.scrollY < 100 && unseen && hideFresh(), { passive: true });
  for (const kind of ["htmx:responseError", "htmx:sendError"]) document.addEventListener(kind, broken);
  $(".slides [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  dress(document);
  local(document);
  $$("[data-task]").forEach(mark);
  if (cards) Object.keys(left).forEach(takeOff);
  $$("[data-task][data-version]").forEach((node) => watch(node));
  showSwitches();
  if (team) startLive();
  settle();
  setInterval(tick, 1000);
  setInterval(age, 5000);
})();
