/* The compose form: what fits together, what it costs, what is wrong, and sending it. Loaded where there is one; without it
   the form is a plain POST. The images are slots.js's. */
(() => {
  "use strict";
  const { $, $$, parse, tell, say, plainNotice, mayRenew, SIGNED_OUT, apply, askBalance } = window.flux2web;
  if (!$("#compose")) return;
  const compose = () => $("#compose");
  const slots = () => $$(".slot:not(.add)", $("#slots"));
  const pending = () => $$('#slots .slot[data-state="uploading"]');
  const refused = () => $$('#slots .slot[data-state="refused"]');
  let sendsWhenReady = false;

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
    vary(can);
    for (const field of $$("[data-extra]", form)) lacks(field, !can("extras", field.dataset.extra), said);
    $("#more").hidden = $$("[data-extra]", form).every((field) => field.hidden);
    if (chosen && hasImages && Number(chosen.dataset.most) === 0) said.push(`${nameOf(chosen)} cannot fetch images from this site.`);
    say("fit-said", said.join(" "));
    const prompt = $("#prompt");
    prompt.placeholder = hasImages ? prompt.dataset.placeholderImages : prompt.dataset.placeholder;
    summarise();
  }

  const wishes = (window.flux2web.wishes = new Map()); // by field what somebody chose that is not offered just now
  const nameOf = (option) => option.textContent.split(" (")[0].trim();

  function choose(what, list, can, said, field = what) {
    const labels = $$(`label[data-${what}]`, compose());
    for (const label of labels) label.hidden = !can(list, label.dataset[what]);
    const now = labels.find((label) => $("input", label).checked);
    const wish = labels.find((label) => label.dataset[what] === wishes.get(field)) || now;
    const next = [wish, now, ...labels].find((label) => label && !label.hidden);
    if (!now || !next || next === now) return;
    $("input", next).checked = true;
    next === wish ? wishes.delete(field) : wishes.set(field, wish.dataset[what]);
    const words = { family: "Family", resolution: "Resolution", aspect_ratio: "Shape" }[field];
    const text = next.textContent.trim();
    said.push(next === wish ? `${words} is ${text} again.` : `${words} is now ${text}: ${now.textContent.trim()} is not offered here.`);
  }

  function lacks(field, isLacking, said) {
    const input = $("input, select", field);
    field.hidden = input.disabled = isLacking;
    if (isLacking && input.value) said.push(`${$("label", field).textContent.trim()} is kept for providers that use it.`);
  }

  // --- what the prompt says of the images -----------------------------------------------------------------------------

  const NAMED = /\bimages?\s+#?(\d{1,2}(?!\d)(?:\s*(?:,|and|&|or|to|-|–)+\s*\d{1,2}(?!\d))*)/gi, NUMBERS_MAX = 20;

  /** The numbers that a prompt names: "image 2", "images 1, 2 and 4", "images 1 to 3". */
  function named(text) {
    const found = new Set();
    for (const [, list] of text.matchAll(NAMED)) {
      for (const part of list.matchAll(/(\d+)(?:\s*(?:to|-|–)\s*(\d+))?/g)) {
        const [from, to] = [Number(part[1]), Number(part[2] || part[1])];
        for (let number = from; number <= Math.min(to, NUMBERS_MAX); number++) if (number) found.add(number);
      }
    }
    return found;
  }

  const listed = (numbers) => `${numbers.length === 1 ? "Image" : "Images"} ${numbers.join(", ").replace(/, (\d+)$/, " and $1")}`;

  /** A hint, never a refusal. One image alone needs no name. */
  function hintImages() {
    const names = named($("#prompt").value);
    const total = slots().filter((slot) => slot.dataset.state !== "refused").length;
    const missing = [...names].filter((number) => number > total).sort((one, other) => one - other);
    const unnamed = Array.from({ length: total }, (_, place) => place + 1).filter((number) => !names.has(number));
    const said = [];
    if (missing.length) said.push(`${listed(missing)} ${missing.length === 1 ? "is" : "are"} named but not there.`);
    if (unnamed.length && (total > 1 || missing.length) && $("#prompt").value.trim()) said.push(`${listed(unnamed)} ${unnamed.length === 1 ? "is" : "are"} never named.`);
    say("images-said", said.join(" "));
  }

  // --- the seed ------------------------------------------------------------------------------------------------------

  const SEED_MAX = 2 ** 32;

  function throwSeed() {
    $("#seed").value = String(Math.floor(Math.random() * SEED_MAX));
    $("#seed").dispatchEvent(new Event("change", { bubbles: true }));
    tell(`Seed ${$("#seed").value}`);
  }

  /** Locked, a seed stays; open, each press gets one of its own, which stays in sight. */
  const isLocked = () => $("#seed-lock").getAttribute("aria-pressed") === "true";
  let wasLocked = true;

  function dressSeed() {
    for (const id of ["#seed-throw", "#seed-lock"]) $(id).hidden = false;
    $("#seed-lock").setAttribute("aria-pressed", String(wasLocked));
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#seed-throw")) throwSeed();
    if (!event.target.closest?.("#seed-lock")) return;
    wasLocked = !isLocked();
    $("#seed-lock").setAttribute("aria-pressed", String(wasLocked));
    if (!wasLocked && !$("#seed").value) throwSeed();
  });

  // --- places to fill in: "a {animal} in {style}" ---------------------------------------------------------------------

  const VARIABLE = /\{(\p{L}[\p{L}\p{N}_ -]{0,29})\}/gu, VARIABLES_MAX = 8;
  const typed = new Map(); // what was typed for a name, also of one that is not in the prompt just now
  const names = () => [...new Set([...$("#prompt").value.matchAll(VARIABLE)].map((found) => found[1].trim()))].slice(0, VARIABLES_MAX + 1);

  /** A field for each name in the prompt, in its order; those that are there stay as they are. */
  function fillIn() {
    const box = $("#field-value");
    const here = new Map($$(".blank", box).map((row) => [$("[name=variable]", row).value, row]));
    for (const [name, row] of here) typed.set(name, $("[name=value]", row).value);
    const wanted = names();
    if (wanted.join("\n") === [...here.keys()].join("\n")) return;
    for (const [name, row] of here) if (!wanted.includes(name)) row.remove();
    for (const name of wanted) $("#value-hint").before(here.get(name) || blank(name));
    box.hidden = !wanted.length;
    htmx.trigger(compose(), "requote");
  }

  let blanks = 100; // ids of our own, beyond the server's

  function blank(name) {
    const row = Object.assign(document.createElement("div"), { className: "blank" });
    const id = `value-${++blanks}`;
    const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: name });
    const hidden = Object.assign(document.createElement("input"), { type: "hidden", name: "variable", value: name });
    const input = Object.assign(document.createElement("input"), { id, name: "value", autocomplete: "off", maxLength: 1000, value: typed.get(name) || "" });
    input.setAttribute("aria-describedby", "value-hint");
    row.append(label, hidden, input);
    return row;
  }

  /** Of the further shapes and families those that are not the first anyway, and that the provider can make. */
  function vary(can) {
    const data = new FormData(compose());
    for (const [field, list] of [["aspect_ratio", "ratios"], ["family", "families"]]) {
      for (const label of $$(`#field-also_${field.replace("aspect_", "")} [data-also]`)) {
        const value = label.dataset.also;
        label.hidden = value === data.get(field) || !can(list, value);
        $("input", label).disabled = !can(list, value);
      }
    }
    $("#field-also_family").hidden = $$("#field-also_family [data-also]").every((label) => label.hidden);
    const isMany = $$(".blank [name=value]").some((input) => input.value.includes("|")) || $$("#variations :checked:not(:disabled)").length > 0;
    compose().toggleAttribute("data-many", isMany);
  }

  function summarise() {
    const data = new FormData(compose());
    const images = slots().length;
    const parts = [data.get("family") === "flex" ? "Flex" : "Pro", data.get("resolution"), data.get("aspect_ratio")];
    if (images) parts.push(images === 1 ? "1 image" : `${images} images`);
    if (data.get("private") === "1") parts.push("only me");
    if (data.get("collection")) parts.push($("#collection").selectedOptions[0].textContent);
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

  let requoteTimer = 0;

  function requoteSoon() {
    clearTimeout(requoteTimer);
    requoteTimer = setTimeout(() => { fit(); htmx.trigger(compose(), "requote"); }, 300);
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
    (inputs.find((input) => input.matches("[aria-invalid]")) || inputs.find((input) => input.checked) || inputs[0])?.focus();
    field.scrollIntoView({ block: "nearest" });
  }

  /** After the form was drawn, first or again. */
  function startCompose() {
    if (!compose()) return;
    sendsWhenReady = false; // whoever pressed meant the form as it was
    window.flux2web.slots.renumber();
    fillIn();
    dressSeed();
    hintImages();
    fit();
    count();
    hold();
  }

  /** The server priced what the form was filled with, and not what is offered of it. */
  function requoteWithout() {
    if (wishes.size || $("#variations :checked:disabled")) htmx.trigger(compose(), "requote");
  }

  function listenToCompose() {
    document.addEventListener("click", (event) => {
      if (event.target.closest?.('[data-slot="remove"]')) sendsWhenReady = false; // without that image it is another form
    }, true);
    document.addEventListener("submit", beforeSending, true);
    document.addEventListener("change", (event) => {
      if (!event.target.closest("#compose-fields")) return;
      wishes.delete(event.target.name);
      fit();
    }, true); // never on leaving the prompt: the button must not move under the press
    document.addEventListener("flux2web:slots", () => { fit(); hintImages(); htmx.trigger(compose(), "requote"); hold(); });
    document.addEventListener("input", (event) => {
      if (event.target.id === "prompt") { count(); fillIn(); hintImages(); }
      if (event.target.name === "value" || event.target.closest("#variations")) requoteSoon();
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
      const fresh = !event.detail.isError && $("#quote", parse(event.detail.xhr.responseText));
      if (!fresh) return; // a page that says what is wrong is no price
      Idiomorph.morph($("#quote"), fresh, { callbacks: { beforeAttributeUpdated: mayRenew } });
      htmx.process($("#quote"));
      hold();
    });
    document.addEventListener("htmx:afterSettle", (event) => {
      if (event.target.id !== "compose") return;
      if (event.detail.requestConfig?.verb === "get") wishes.clear(); // filled with something else, not given back
      startCompose();
      requoteWithout();
      focusProblem();
      $("#asked")?.focus();
    });
  }

  function sent(xhr) {
    if (!$("article.card", parse(xhr.responseText))) return plainNotice(SIGNED_OUT);
    apply(xhr.responseText, { own: true });
    dropQuestion();
    openSheet(false);
    if (!isLocked() && $("#seed").value && !$("#seed").disabled) throwSeed();
    const total = $$("article.card", parse(xhr.responseText)).length;
    tell(total === 1 ? "Sent: 1 picture" : `Sent: ${total} pictures`);
    askBalance();
  }

  /** What was asked at the button is answered. */
  function dropQuestion() {
    const question = $("#twin, #confirm", compose());
    const hadFocus = question?.contains(document.activeElement);
    question?.remove();
    if (hadFocus) $("#go").focus();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-not-now]")) { event.preventDefault(); dropQuestion(); }
    const toggle = event.target.closest("#sheet-toggle");
    if (toggle) openSheet(toggle.getAttribute("aria-expanded") !== "true");
    const problem = event.target.closest(".problems a");
    if (problem) { event.preventDefault(); toField(problem.dataset.field); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || $(":popover-open") || !compose()?.hasAttribute("data-open")) return;
    openSheet(false);
    $("#sheet-toggle").focus();
  });
  listenToCompose();
  startCompose();
  addEventListener("DOMContentLoaded", requoteWithout);
  if ($("[data-problems]")) focusProblem();
  else if (matchMedia("(pointer: fine)").matches) $("#prompt").focus({ preventScroll: true });
})();
