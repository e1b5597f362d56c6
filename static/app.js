/* flux2web in the browser: live cards, the compose form, a few manners. Every action also works without this file.
   No inline handlers, no eval, no style attributes (CSP). Sections: helpers, cards, live, compose, manners. */
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
      if (compose()) htmx.trigger(compose(), "requote");
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

  // --- compose --------------------------------------------------------------------------------------------------------

  const MOST = 8;
  const compose = () => $("#compose");
  const slots = () => $$(".slot:not(.add)", $("#slots"));
  const pending = () => $$('#slots .slot[data-state="uploading"]');
  const refused = () => $$('#slots .slot[data-state="refused"]');
  const say = (id, text) => { const node = document.getElementById(id); if (node && node.textContent !== text) node.textContent = text; };
  let sendsWhenReady = false;

  const gone = () => $("#slots .slot[data-gone]"); // the next upload takes its place

  function upload(files) {
    for (const file of files) {
      if (slots().length >= MOST && !gone()) return say("slots-said", `${MOST} of ${MOST}: remove one to add “${file.name}”.`);
      send(file);
    }
  }

  function send(file) {
    const slot = document.createElement("li");
    slot.className = "slot";
    slot.dataset.state = "uploading";
    slot.innerHTML = '<span class="num">0 %</span><progress max="100" value="0"></progress><span class="no" aria-hidden="true"></span><button type="button" data-slot="remove"><span class="icon">×</span></button>';
    $("progress", slot).setAttribute("aria-label", `Uploading ${file.name}`);
    gone() ? gone().replaceWith(slot) : $("#add-slot").before(slot);
    const request = new XMLHttpRequest();
    slot.request = request;
    request.upload.onprogress = (event) => event.lengthComputable && progress(slot, Math.round((100 * event.loaded) / event.total));
    request.onload = () => uploaded(slot, file, request);
    request.onerror = () => refuse(slot, `${file.name}: the upload was cut off. Remove it and try again.`);
    request.open("POST", compose().dataset.upload);
    request.setRequestHeader("HX-Request", "true");
    request.setRequestHeader("X-CSRFToken", $("[name=csrfmiddlewaretoken]", compose()).value);
    const form = new FormData();
    form.append("file", file);
    request.send(form);
    renumber();
  }

  function progress(slot, percent) {
    $("progress", slot).value = percent;
    $(".num", slot).textContent = percent < 100 ? `${percent} %` : "Checking";
  }

  function uploaded(slot, file, request) {
    const fresh = [200, 422].includes(request.status) && $(".slot", parse(`<ol>${request.responseText}</ol>`));
    if (!fresh) return refuse(slot, `${file.name}: ${request.status === 413 ? "too large. 10 MB at most." : "the server could not take it. Try again."}`);
    slot.replaceWith(fresh);
    renumber();
    changed();
  }

  function refuse(slot, reason) {
    slot.dataset.state = "refused";
    slot.replaceChildren(...$$("button, .no", slot));
    slot.prepend(Object.assign(document.createElement("p"), { className: "reason", textContent: reason }));
    renumber();
    changed();
  }

  function renumber() {
    $$("#slots .place").forEach((input) => input.remove()); // numbers to type are for browsers without this script
    slots().forEach((slot, index) => {
      const number = index + 1;
      $(".no", slot).textContent = number;
      for (const [verb, words] of [["remove", `Remove image ${number}`], ["left", `Move image ${number} left`], ["right", `Move image ${number} right`]]) {
        $(`[data-slot="${verb}"]`, slot)?.setAttribute("aria-label", words);
      }
      const image = $("img", slot);
      if (image) image.alt = image.alt.replace(/^Image \d*:?/, `Image ${number}:`);
    });
    $("#slots").toggleAttribute("data-full", slots().length >= MOST);
  }

  /** The references have changed: what fits, what it costs, whether it may go. */
  function changed() {
    fit();
    htmx.trigger(compose(), "requote");
    hold();
  }

  function move(button) {
    const slot = button.closest(".slot");
    const verb = button.dataset.slot;
    if (verb === "remove") {
      slot.request?.abort();
      const next = slot.nextElementSibling;
      slot.remove();
      say("slots-said", "");
      (next?.matches(".add") ? $("#files") : $("button", next))?.focus();
    } else {
      const other = verb === "left" ? slot.previousElementSibling : slot.nextElementSibling;
      verb === "left" ? other.before(slot) : other.after(slot);
      (button.checkVisibility?.() ? button : $('[data-slot="remove"]', slot)).focus();
    }
    renumber();
    changed();
  }

  /** Say why the button would not send yet, and send by itself if it was pressed meanwhile. */
  function hold() {
    const waiting = pending().length;
    const bad = refused().length;
    if (sendsWhenReady && !waiting) {
      sendsWhenReady = false;
      if (!bad) compose().requestSubmit();
    }
    const uploads = waiting === 1 ? "1 upload" : `${waiting} uploads`;
    const why = bad ? "Remove the refused image first." : waiting ? (sendsWhenReady ? `Sends by itself after ${uploads}.` : `Waiting for ${uploads}.`) : "";
    say("go-said", why);
  }

  function beforeSending(event) {
    if (event.target !== compose()) return;
    if (pending().length || refused().length) {
      event.preventDefault();
      event.stopImmediatePropagation();
      sendsWhenReady = pending().length > 0 && !refused().length;
      if (refused().length) openSheet(true);
      return hold();
    }
    clearProblems();
  }

  function clearProblems() {
    $("#compose-problems").replaceChildren();
    $$(".error", compose()).forEach((node) => node.remove());
    $$("[aria-invalid]", compose()).forEach((node) => node.removeAttribute("aria-invalid"));
  }

  /** What the chosen provider lacks is hidden; what was chosen there is changed, and that is said. */
  function fit() {
    const form = compose();
    const options = $$("#provider option", form);
    const chosen = options.find((option) => option.selected && option.value);
    const able = chosen ? [chosen] : options.filter((option) => option.value);
    const can = (name, value) => !able.length || able.some((option) => option.dataset[name].split(" ").includes(value));
    const hasImages = slots().some((slot) => slot.dataset.state !== "refused");
    const said = [];
    choose("family", "families", can, said);
    choose("resolution", "resolutions", can, said);
    choose("ratio", "ratios", (name, value) => can(name, value) && (value !== "auto" || hasImages), said, "aspect_ratio");
    for (const field of $$("[data-extra]", form)) lacks(field, !can("extras", field.dataset.extra), said);
    $("#more").hidden = $$("[data-extra]", form).every((field) => field.hidden);
    if (chosen && hasImages && Number(chosen.dataset.most) === 0) said.push(`${nameOf(chosen)} cannot fetch images from this site.`);
    say("fit-said", said.join(" "));
    const prompt = $("#prompt");
    prompt.placeholder = hasImages ? prompt.dataset.placeholderImages : prompt.dataset.placeholder;
    summarise();
  }

  const nameOf = (option) => option.textContent.split(" (")[0].trim();

  function choose(what, list, can, said, field = what) {
    const labels = $$(`label[data-${what}]`, compose());
    for (const label of labels) label.hidden = !can(list, label.dataset[what]);
    const gone = labels.find((label) => label.hidden && $("input", label).checked);
    const first = gone && labels.find((label) => !label.hidden);
    if (!first) return;
    $("input", first).checked = true;
    const words = { family: "Family", resolution: "Resolution", aspect_ratio: "Shape" }[field];
    said.push(`${words} is now ${first.textContent.trim()}: ${gone.textContent.trim()} is not offered here.`);
  }

  function lacks(field, isLacking, said) {
    const input = $("input, select", field);
    field.hidden = input.disabled = isLacking;
    if (isLacking && input.value) said.push(`${$("label", field).textContent.trim()} is kept for providers that use it.`);
  }

  function summarise() {
    const data = new FormData(compose());
    const images = slots().length;
    const parts = [data.get("family") === "flex" ? "Flex" : "Pro", data.get("resolution"), data.get("aspect_ratio")];
    if (images) parts.push(images === 1 ? "1 image" : `${images} images`);
    say("sheet-said", parts.filter(Boolean).join(" · "));
  }

  function count() {
    const prompt = $("#prompt");
    const length = [...prompt.value.trim()].length;
    const most = Number(prompt.dataset.most);
    const node = $("#prompt-count");
    node.toggleAttribute("data-over", length > most);
    node.textContent = length >= 4000 ? `${length.toLocaleString("en")} of ${most.toLocaleString("en")}` : "";
  }

  function openSheet(open) {
    const form = compose();
    form.toggleAttribute("data-open", open);
    $("#sheet-toggle").setAttribute("aria-expanded", String(open));
  }

  function focusProblem() {
    const form = compose();
    const first = $("[data-problems] a[data-field]", form);
    if (!first) return void $("[data-problems]", form)?.focus();
    toField(first.dataset.field);
  }

  function toField(name) {
    const field = document.getElementById(`field-${name === "files" ? "references" : name}`);
    if (!field) return;
    if (field.closest(".fields")) openSheet(true);
    if (field.closest("details")) field.closest("details").open = true;
    const inputs = $$("textarea, select, input:not([type=hidden])", field);
    (inputs.find((input) => input.checked) || inputs[0])?.focus();
    field.scrollIntoView({ block: "nearest" });
  }

  /** After the form was drawn, first or again. */
  function startCompose() {
    if (!compose()) return;
    renumber();
    fit();
    count();
    hold();
  }

  function listenToCompose() {
    document.addEventListener("submit", beforeSending, true);
    document.addEventListener("change", (event) => {
      if (event.target.id === "files") {
        upload([...event.target.files]);
        event.target.value = "";
        event.stopPropagation();
      } else if (event.target.closest("#compose-fields")) fit(); // never on leaving the prompt: the button must not move under the press
    }, true);
    document.addEventListener("input", (event) => event.target.id === "prompt" && count());
    document.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files || [])].filter((file) => file.type.startsWith("image/"));
      if (files.length) { event.preventDefault(); upload(files); }
    });
    document.addEventListener("dragover", (event) => dragging(event) && (event.preventDefault(), compose().toggleAttribute("data-dropping", true)));
    document.addEventListener("dragleave", (event) => !event.relatedTarget && compose().toggleAttribute("data-dropping", false));
    document.addEventListener("drop", (event) => {
      if (!dragging(event)) return;
      event.preventDefault();
      compose().toggleAttribute("data-dropping", false);
      upload([...event.dataTransfer.files]);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest("#compose")) {
        event.preventDefault();
        compose().requestSubmit();
      }
    });
    document.addEventListener("click", (event) => {
      if (!event.target.closest?.("#ask-go") || !(pending().length + refused().length)) return;
      event.preventDefault(); // the images belong to what is asked for
      event.stopPropagation();
      hold();
    }, true);
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.target.matches?.("#asking input")) return;
      event.preventDefault(); // or the form would be sent by its first button
      $("#ask-go").click();
    });
    document.addEventListener("htmx:afterRequest", (event) => {
      if (event.target.id === "compose" && event.detail.successful) sent(event.detail.xhr);
      if (event.target.id === "ask-go" && event.detail.successful) plainNotice(SIGNED_OUT); // an answer takes the button's place
    });
    // The price changes in place: a button that is just being pressed must stay the same button.
    document.addEventListener("htmx:beforeSwap", (event) => {
      if (event.target.id !== "quote") return;
      event.detail.shouldSwap = false;
      Idiomorph.morph($("#quote"), parse(event.detail.xhr.responseText).body.firstElementChild, { callbacks: { beforeAttributeUpdated: mayRenew } });
      htmx.process($("#quote"));
      hold();
    });
    document.addEventListener("htmx:afterSettle", (event) => {
      if (event.target.id === "compose") { startCompose(); focusProblem(); $("#asked")?.focus(); }
    });
  }

  /** A new price leaves alone what somebody has opened, typed or ticked beside the button. */
  const mayRenew = (name, node) => !(name === "open" || (name === "value" && node.value !== node.defaultValue) || (name === "checked" && node.checked !== node.defaultChecked));

  const dragging = (event) => compose() && [...(event.dataTransfer?.types || [])].includes("Files");

  function sent(xhr) {
    if (!$("article.card", parse(xhr.responseText))) return plainNotice(SIGNED_OUT);
    apply(xhr.responseText, { own: true });
    openSheet(false);
    const total = $$("article.card", parse(xhr.responseText)).length;
    tell(total === 1 ? "Sent: 1 picture" : `Sent: ${total} pictures`);
    askBalance();
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
    else if ((found = hit("[data-slot]"))) move(found);
    else if ((found = hit("#sheet-toggle"))) openSheet(found.getAttribute("aria-expanded") !== "true");
    else if ((found = hit(".problems a"))) { event.preventDefault(); toField(found.dataset.field); }
    else if ((found = hit("button#fresh"))) { window.scrollTo({ top: 0 }); hideFresh(); }
    $$("details.menu[open]").forEach((menu) => !menu.contains(event.target) && menu.removeAttribute("open"));
  }

  function onKey(event) {
    if (event.key !== "Escape") return;
    const menu = $("details.menu[open]");
    if (menu) { menu.removeAttribute("open"); $("summary", menu).focus(); }
    else if (compose()?.hasAttribute("data-open")) { openSheet(false); $("#sheet-toggle").focus(); }
  }

  async function broken(event) {
    const why = await renewTokens(event.detail.xhr?.responseText || "");
    plainNotice(why || "The server did not answer as it should. What you typed is still here; try again in a moment.");
  }

  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("submit", act);
  document.addEventListener("scroll", () => window.scrollY < 100 && unseen && hideFresh(), { passive: true });
  for (const kind of ["htmx:responseError", "htmx:sendError"]) document.addEventListener(kind, broken);
  dress(document);
  local(document);
  $$("[data-task]").forEach(mark);
  if (compose()) {
    listenToCompose();
    startCompose();
    if ($("[data-problems]")) focusProblem();
    else if (matchMedia("(pointer: fine)").matches) $("#prompt").focus({ preventScroll: true });
  }
  if (team) startLive();
  settle();
  setInterval(tick, 1000);
  setInterval(age, 5000);
})();
