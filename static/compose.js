/* The compose form: what fits together, what it costs, what is wrong, and sending it. Loaded where there is one; without it
   the form is a plain POST. The images are slots.js's. */
(() => {
  "use strict";
  const { $, $$, parse, tell, say, plainNotice, SIGNED_OUT, apply, askBalance } = window.flux2web;
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
    window.flux2web.slots.renumber();
    fit();
    count();
    hold();
  }

  function listenToCompose() {
    document.addEventListener("submit", beforeSending, true);
    document.addEventListener("change", (event) => event.target.closest("#compose-fields") && fit(), true); // never on leaving the prompt: the button must not move under the press
    document.addEventListener("flux2web:slots", () => { fit(); htmx.trigger(compose(), "requote"); hold(); });
    document.addEventListener("input", (event) => event.target.id === "prompt" && count());
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

  function sent(xhr) {
    if (!$("article.card", parse(xhr.responseText))) return plainNotice(SIGNED_OUT);
    apply(xhr.responseText, { own: true });
    openSheet(false);
    const total = $$("article.card", parse(xhr.responseText)).length;
    tell(total === 1 ? "Sent: 1 picture" : `Sent: ${total} pictures`);
    askBalance();
  }

  document.addEventListener("click", (event) => {
    const toggle = event.target.closest("#sheet-toggle");
    if (toggle) openSheet(toggle.getAttribute("aria-expanded") !== "true");
    const problem = event.target.closest(".problems a");
    if (problem) { event.preventDefault(); toField(problem.dataset.field); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || !compose()?.hasAttribute("data-open")) return;
    openSheet(false);
    $("#sheet-toggle").focus();
  });
  listenToCompose();
  startCompose();
  if ($("[data-problems]")) focusProblem();
  else if (matchMedia("(pointer: fine)").matches) $("#prompt").focus({ preventScroll: true });
})();
