/* What stands in the compose form: kept at the server while it is written, filled from pictures and from the shelf, cleared
   and brought back; and the prompts that this member wrote before. Loaded where there is a form; without it the form is kept
   whenever it is sent. Sections: keeping, filling, clearing, earlier prompts, saving to the shelf. */
(() => {
  "use strict";
  const { $, $$, parse, ask, tell, say: put, renewTokens, SIGNED_OUT } = window.flux2web;
  if (!$("#compose")) return;
  const team = document.body.dataset.team;
  const compose = () => $("#compose");
  const token = () => $("[name=csrfmiddlewaretoken]", compose()).value;

  const HERE = `flux2web:draft:${document.body.dataset.user}:${team}`; // of this tab: what a picture is about to replace
  const SETTINGS = ["family", "aspect_ratio", "resolution", "provider", "output_format", "safety_tolerance"];
  const MATRIX = ["variable", "value", "also_ratio", "also_family", "ceiling", "stop_after"];
  const FIELDS = ["prompt", ...SETTINGS, "count", "seed", "private", "collection", "references", "parent", "saved", ...MATRIX];
  const MOST = 8;

  /** What was set and the provider lacks is kept for those that have it: fields switched off, ticks, choices taken back. */
  const extras = () => $$("[data-extra] :disabled", compose()).filter((input) => input.value);
  const ticks = () => $$("#variations :checked:disabled", compose());
  const isLacking = () => extras().length + ticks().length + window.flux2web.wishes.size > 0;

  function draft() {
    const data = new FormData(compose());
    for (const input of extras()) data.set(input.name, input.value);
    for (const input of ticks()) data.append(input.name, input.value);
    for (const [name, value] of window.flux2web.wishes) data.set(name, value);
    return new URLSearchParams(FIELDS.flatMap((name) => data.getAll(name).map((value) => [name, value.replace(/\r\n/g, "\n")])));
  }

  let withheld = []; // the inputs, as they stood when the form was sent

  function giveBack({ type, name, value }) {
    const input = $$(`[name="${name}"]`, compose()).find((one) => type !== "checkbox" || one.value === value);
    if (!input?.disabled) return;
    type === "checkbox" ? (input.checked = true) : (input.value = value);
  }

  const isWorth = (params) => Boolean(params.get("prompt")?.trim() || params.getAll("references").length);
  const plain = (params, name) => params.getAll(name).join("\n").replace(/\r/g, "").trim();
  const same = (one, other) => FIELDS.every((name) => plain(one, name) === plain(other, name));

  // --- keeping --------------------------------------------------------------------------------------------------------

  const KEEP_MS = 1000;
  let known = "", timer = 0, saving = null; // what the server has; the save that is on its way

  function keepSoon() {
    clearTimeout(timer);
    timer = setTimeout(() => keep(), KEEP_MS);
  }

  /** One after the other, so that the last is what stays. Where the server does not answer, the next change tries again. */
  async function keep(isSecond = false) {
    clearTimeout(timer);
    await saving;
    const now = draft().toString();
    if (now === known) return sayKept();
    saving = post(now).then(whyNot).catch(() => SILENT);
    const why = await saving;
    saving = null;
    if (why === STALE && !isSecond) return keep(true); // its tokens may be fresh now
    if (!why) known = now;
    sayKept(why);
  }

  function sayKept(why = "") {
    put("draft-said", why ? `Draft not kept: ${why}` : "Draft kept");
    $("#draft-said").classList.toggle("warn", Boolean(why));
    if (why) tell(`Draft not kept: ${why}`);
  }

  const post = (said, options = {}) =>
    ask(`/t/${team}/draft/`, { method: "POST", body: new URLSearchParams(said), headers: { "X-CSRFToken": token() }, ...options }).catch(() => null);

  const SILENT = "the server does not answer. The next change tries again.";
  const STALE = "this page is out of date. Reload it.";

  /** Why it was not kept and what to do; "" where it was. */
  async function whyNot(answer) {
    if (answer?.status === 204) return "";
    if (!answer || answer.status >= 500) return SILENT;
    const renewed = answer.status === 403 ? await renewTokens(await answer.text()) : "";
    if (answer.redirected || renewed === SIGNED_OUT) return "you are signed out. Sign in again in another tab.";
    return STALE;
  }

  /** This page may be gone in a moment: what is not kept yet goes without waiting, and is remembered here meanwhile. */
  function leave() {
    if (!compose()) return;
    const now = draft().toString();
    sessionStorage.setItem(HERE, now);
    if (now === known) return sessionStorage.removeItem(`${HERE}:late`);
    sessionStorage.setItem(`${HERE}:late`, "1");
    clearTimeout(timer);
    post(now, { keepalive: true });
  }

  function noteChange(event) {
    if (!event.target.closest?.("#compose")) return;
    if ($("#cleared")) $("#cleared").hidden = true;
    put("draft-said", "");
    keepSoon();
  }

  // --- filling --------------------------------------------------------------------------------------------------------

  const saved = () => new URLSearchParams(sessionStorage.getItem(HERE) || compose().dataset.draft || "");

  const draw = (url) => window.htmx.ajax("GET", url, { target: "#compose", select: "#compose", swap: "outerHTML" });

  /** The form filled with these, drawn by the server; long prompts are no part of an address. */
  async function refill(params) {
    const query = new URLSearchParams(params);
    query.delete("prompt");
    for (const name of ["variable", "value"]) query.delete(name);
    if (!query.has("parent")) query.set("parent", "");
    await draw(`/t/${team}/?${query}`);
    write(params.get("prompt") || "");
    const values = params.getAll("value");
    params.getAll("variable").forEach((name, place) => {
      const row = $$("#field-value .blank").find((one) => $("[name=variable]", one).value === name);
      if (row) $("[name=value]", row).value = values[place] || "";
    });
    compose().dispatchEvent(new Event("input", { bubbles: true }));
  }

  function write(text) {
    const prompt = $("#prompt");
    prompt.value = text;
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** What of the address goes into what was there; null where all of it is replaced. */
  function merged(was, now, what) {
    const parts = { prompt: ["prompt", "parent"], settings: SETTINGS }[what];
    if (!parts && what !== "image") return null;
    const mix = new URLSearchParams(was);
    for (const name of parts || []) { mix.delete(name); now.getAll(name).forEach((value) => mix.append(name, value)); }
    if (what === "image") now.getAll("references").filter((id) => !was.getAll("references").includes(id)).forEach((id) => mix.append("references", id));
    return mix;
  }

  async function fillFromAddress() {
    const was = saved(), now = draft(), address = new URLSearchParams(location.search);
    const isBack = performance.getEntriesByType("navigation")[0]?.type === "back_forward";
    const late = sessionStorage.getItem(`${HERE}:late`);
    sessionStorage.removeItem(`${HERE}:late`);
    if (!isWorth(was) || same(was, now)) return;
    const isFilled = ["like", "references", "prompt", "draft", "saved"].some((name) => address.has(name));
    if (isBack || (late && !isFilled)) return refill(was);
    if (!isFilled) return;
    const mix = merged(was, now, address.get("what"));
    if (mix?.getAll("references").length > MOST) {
      await refill(was);
      return notice(`${MOST} of ${MOST} images: remove one, then use the picture again.`);
    }
    if (mix && !same(mix, now)) await refill(mix);
    if (!same(was, mix || now)) notice(said(address), () => refill(was));
  }

  function said(address) {
    if (address.get("what") === "image") return "The picture is in the next free place.";
    return address.has("like") ? "The form was filled from a picture." : address.has("saved") ? "The form was filled from the shelf." : "The form was filled anew.";
  }

  function notice(text, undo = null) {
    const node = document.createElement("div");
    node.className = "notice";
    node.setAttribute("role", "status");
    node.innerHTML = '<p class="grow"></p><button class="btn s" type="button" data-undo>Undo</button><button class="icon-btn" type="button" data-dismiss aria-label="Dismiss">×</button>';
    $("p", node).textContent = text;
    const button = $("[data-undo]", node);
    if (undo) button.addEventListener("click", async () => { node.remove(); await undo(); $("#prompt").focus(); });
    else button.remove();
    $("#notices").append(node);
  }

  document.addEventListener("click", (event) => {
    const drop = event.target.closest?.("[data-drop]");
    if (!drop) return;
    event.preventDefault();
    $(`[name=${drop.dataset.drop}]`, compose()).value = "";
    drop.closest(".from-line").remove();
    keepSoon();
    $("#prompt").focus();
  });

  // --- clearing -------------------------------------------------------------------------------------------------------

  /** Clear, and Undo of it: the server keeps what was there. */
  document.addEventListener("submit", async (event) => {
    if (!event.target.matches("#draft-clear, #draft-back")) return;
    event.preventDefault();
    if (event.target.id === "draft-clear") await keep();
    const answer = await ask(event.target.action, { method: "POST", body: new FormData(event.target) }).catch(() => null);
    if (!answer?.ok) return window.flux2web.plainNotice("The server did not answer. Nothing was cleared; try again.");
    sessionStorage.removeItem(HERE);
    await draw(`/t/${team}/`);
    known = draft().toString();
    $("#prompt").focus();
    if ($("#cleared")) tell("Cleared. Undo is below the prompt.");
  });

  // --- earlier prompts ------------------------------------------------------------------------------------------------

  let earlier = null, place = -1, typed = ""; // their texts, newest first; where one stands among them; what was typed

  async function askEarlier(words = "") {
    const answer = await ask(`/t/${team}/prompts/mine/?${new URLSearchParams({ q: words })}`).catch(() => null);
    return (answer?.ok && !answer.redirected && $("#earlier", parse(await answer.text()))) || null;
  }

  /** Alt and an arrow: older, newer, and past the newest back to what was typed. */
  async function walk(step) {
    if (place < 0) typed = $("#prompt").value;
    if (!earlier) {
      const found = await askEarlier();
      if (!found) return;
      earlier = $$("[data-earlier]", found).map((link) => link.textContent);
    }
    const others = earlier.filter((text) => text !== typed.trim());
    const next = Math.max(-1, Math.min(others.length - 1, place + step));
    if (next === place) return;
    place = next;
    isWalking = true;
    write(place < 0 ? typed : others[place]);
    isWalking = false;
    tell(place < 0 ? "What you typed" : `Earlier prompt ${place + 1} of ${others.length}`);
  }

  let isWalking = false;

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "prompt" || !event.altKey || event.ctrlKey || event.metaKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    walk(event.key === "ArrowUp" ? 1 : -1);
  });
  document.addEventListener("input", (event) => { if (event.target.id === "prompt" && !isWalking) place = -1; });
  document.addEventListener("htmx:afterRequest", (event) => { if (event.target.id === "compose") { earlier = null; place = -1; } });

  let findTimer = 0, findTurn = 0;

  async function showEarlier() {
    const mine = ++findTurn;
    const found = await askEarlier($("#earlier-q").value);
    if (mine === findTurn) $("#own-prompts #earlier").replaceChildren(...(found ? found.childNodes : ["The server did not answer. Try again."]));
  }

  document.addEventListener("input", (event) => {
    if (event.target.id !== "earlier-q") return;
    clearTimeout(findTimer);
    findTimer = setTimeout(showEarlier, 250);
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("#own-prompts [data-earlier]");
    const opener = event.target.closest?.("[data-opens]");
    if (!link && !opener || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    if (opener) return open(opener.dataset.opens);
    const was = draft();
    $("#own-prompts").hidePopover();
    write(link.textContent);
    $("#prompt").focus();
    if (was.get("prompt")?.trim()) notice("The prompt was replaced.", () => write(was.get("prompt")));
  });

  function open(id) {
    const box = document.getElementById(id);
    box.showPopover();
    if (id === "own-prompts") showEarlier();
    else offerKeep(box);
    $("input:not([type=hidden])", box).focus();
  }

  // --- saving to the shelf --------------------------------------------------------------------------------------------

  const emptyKeep = $("#keep-body").cloneNode(true);

  /** Anew, where the last one was saved. The place of a prompt is taken only by what was begun from it. */
  function offerKeep(box) {
    if (!$("#keep-form", box)) $("#keep-body", box).replaceWith(emptyKeep.cloneNode(true));
    const fill = $("#fill-form", box);
    if (fill) fill.hidden = !fill.action.endsWith(`/${$("[name=saved]", compose()).value}/fill/`);
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-keep]")) return;
    event.preventDefault();
    const said = draft();
    said.set("text", said.get("prompt") || "");
    for (const [name, value] of new FormData(form)) said.set(name, value);
    const answer = await ask(form.action, { method: "POST", body: said }).catch(() => null);
    const fresh = answer && !answer.redirected && [200, 422].includes(answer.status) && $("#keep-body", parse(await answer.text()));
    if (!fresh) return window.flux2web.plainNotice("The server did not answer. Nothing was saved; try again.");
    $("#keep-body").replaceWith(fresh);
    const row = $("[data-saved]", fresh);
    if (!row) return $("input[aria-invalid], button", fresh)?.focus();
    $("[name=saved]", compose()).value = row.dataset.saved;
    keepSoon();
  });

  // --- start ----------------------------------------------------------------------------------------------------------

  for (const kind of ["input", "change"]) document.addEventListener(kind, noteChange);
  document.addEventListener("flux2web:slots", keepSoon);
  // Whatever was sent was kept with it, but for what the provider lacks.
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.target.id !== "compose") return;
    known = isLacking() ? "" : draft().toString();
    known ? sayKept() : keepSoon();
  });
  // Nor is that in a form that comes back refused.
  document.addEventListener("htmx:beforeRequest", (event) => { if (event.target.id === "compose") withheld = [...extras(), ...ticks()]; });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id === "compose" && event.detail.requestConfig?.verb === "post") withheld.forEach(giveBack);
  });
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && leave());
  addEventListener("DOMContentLoaded", async () => {
    known = draft().toString();
    await fillFromAddress();
  });
  window.flux2web.form = { draft, refill, write, keep };
})();
