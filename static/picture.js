/* Pictures in the browser: the picture's page as an overlay and walked by arrows, size and full screen, comparing.
   Every action also works without this file.
   No inline handlers, no eval (CSP). Sections: helpers, overlay, the picture, keys, compare. */
(() => {
  "use strict";

  // --- helpers ------------------------------------------------------------------------------------------------------

  const $ = (selector, root = document) => root?.querySelector(selector) ?? null;
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const body = document.body;
  const page = document.documentElement;
  const team = body.dataset.team;
  const parse = (html) => new DOMParser().parseFromString(html, "text/html");
  const isPicture = (url) => url.origin === location.origin && new RegExp(`^/t/${team}/tasks/\\d+/$`).test(url.pathname);
  const ask = (url, options = {}) => fetch(url, { credentials: "same-origin", ...options, headers: { "HX-Request": "true" } });

  // --- overlay ------------------------------------------------------------------------------------------------------

  const HERE = location.pathname;
  const isOwnPage = Boolean($("main #detail"));
  let dialog = null, frame = null, opener = null, turn = 0, title = "", isLeaving = false;
  const isOpen = () => Boolean(dialog?.open);

  function makeDialog() {
    dialog = document.createElement("dialog");
    dialog.id = "picture";
    dialog.className = "overlay";
    dialog.setAttribute("aria-label", "Picture");
    frame = document.createElement("div");
    frame.className = "frame detail";
    frame.tabIndex = -1;
    dialog.append(frame);
    body.append(dialog);
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); back(); }); // a phone's way back; Esc is a key, below
    dialog.addEventListener("close", tidy);
  }

  const back = () => (history.state?.picture ? history.back() : shut());

  /** Somebody is writing: Esc leaves the field, not the picture. */
  function isBusyTyping() {
    const field = document.activeElement;
    if (!field?.matches("textarea, input") || field.value === field.defaultValue) return false;
    field.blur();
    return true;
  }

  /** The content for this address, here in the overlay or in the page's own place; the last one asked for wins. */
  async function show(url, how = "") {
    const mine = ++turn;
    const address = new URL(url, location.href);
    const inner = new URL(address);
    inner.searchParams.set("overlay", "1");
    const answer = await ask(inner).catch(() => null);
    const detail = answer?.ok && !answer.redirected && $("#detail", parse(await answer.text()));
    if (mine !== turn) return;
    if (!detail) return void (location.href = address.href);
    const state = isOwnPage ? null : { picture: address.href };
    if (how === "push") history.pushState(state, "", address);
    if (how === "replace") history.replaceState(state, "", address);
    put(detail);
    if (address.hash) document.getElementById(address.hash.slice(1))?.scrollIntoView({ block: "start" });
  }

  function put(detail) {
    const walked = document.activeElement?.dataset?.walk;
    const isOther = $("#detail")?.dataset.task !== detail.dataset.task;
    if (isOther) delete page.dataset.zoom;
    dress(detail);
    if (isOwnPage) $("#detail").replaceWith(detail);
    else {
      if (!dialog) makeDialog();
      frame.replaceChildren(detail);
      if (!isOpen()) open();
      if (isOther) dialog.scrollTop = 0;
    }
    document.title = detail.dataset.title;
    window.htmx?.process(detail);
    if (walked) ($(`[data-walk="${walked}"]`, detail) || frame || $("#main")).focus();
    fit();
  }

  function open() {
    title = document.title;
    dialog.showModal();
    frame.focus({ preventScroll: true });
    dialog.prepend($("#notices"), $("#told")); // what is told stays in sight, and heard
    if (!$("#card-action")) body.append(actionForm());
  }

  /** The one form that the buttons of pictures belong to, where this page has none. */
  function actionForm() {
    const form = Object.assign(document.createElement("form"), { id: "card-action", method: "post", hidden: true });
    form.append($("[name=csrfmiddlewaretoken]").cloneNode());
    return form;
  }

  function shut() {
    turn += 1;
    dialog.close();
  }

  /** Once it is closed, whoever closed it: some browsers do so by themselves at a second Esc. */
  function tidy() {
    if (history.state?.picture) {
      isLeaving = true;
      history.back();
    }
    const seen = $("#detail", dialog)?.dataset.task;
    body.querySelector("#main")?.before($("#notices"));
    body.append($("#told"));
    frame.replaceChildren();
    delete page.dataset.zoom;
    document.title = title;
    const tile = document.getElementById(`tile-${seen}`) || document.getElementById(`task-${seen}`);
    const target = $("a", tile) || (opener?.isConnected ? opener : null);
    target?.focus({ preventScroll: true });
    target?.scrollIntoView({ block: "nearest" });
    if (tile) flash(tile);
  }

  function flash(tile) {
    tile.setAttribute("data-back", "");
    setTimeout(() => tile.removeAttribute("data-back"), 2000);
  }

  // Before htmx, which would fetch the whole list again.
  window.addEventListener("popstate", (event) => {
    const url = event.state?.picture;
    if (url && !isOwnPage) show(url);
    else if (isOpen()) shut();
    else if (isLeaving) isLeaving = false;
    else if (isOwnPage && location.pathname !== HERE && !isPicture(new URL(location.href))) location.reload();
    else return;
    event.stopImmediatePropagation();
  }, true);

  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest?.("a[href]");
    if (!link || link.target || link.hasAttribute("download")) return;
    const detail = link.closest("#detail");
    if (detail && link.hasAttribute("data-close") && isOpen()) {
      event.preventDefault();
      back();
    } else if (detail && link.matches("[data-walk], [data-inside]")) {
      event.preventDefault();
      show(link.href, "replace");
    } else if (!detail && !isOwnPage && link.closest("main") && isPicture(new URL(link.href))) {
      event.preventDefault();
      opener = link;
      show(link.href, "push");
    }
  });

  /** Forms of the picture: their answer is the content as it is now, or with what is wrong. */
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("#detail form[data-inside]")) return;
    event.preventDefault();
    const button = event.submitter;
    if (button) button.disabled = true;
    const answer = await ask(form.action, { method: "POST", body: new FormData(form) }).catch(() => null);
    const text = answer ? await answer.text().catch(() => "") : "";
    const detail = answer && !answer.redirected && [200, 422].includes(answer.status) && $("#detail", parse(text));
    if (!detail) return failed(button, answer, text);
    const place = form.closest("section")?.getAttribute("aria-labelledby");
    put(detail);
    ($("[aria-invalid]", detail) || $(`[aria-labelledby="${place}"] textarea`, detail) || frame)?.focus({ preventScroll: true });
  });

  /** What was typed stays where it is. */
  async function failed(button, answer, text) {
    const { plainNotice, whyNot, NO_ANSWER } = window.flux2web;
    if (button) button.disabled = false;
    plainNotice(answer ? await whyNot(answer, text) : NO_ANSWER);
  }

  document.addEventListener("flux2web:detail", () => ($("#detail")?.hidden && isOpen() ? back() : fit()));

  // --- the picture --------------------------------------------------------------------------------------------------

  function dress(detail) {
    detail.toggleAttribute("data-other", detail.dataset.author !== body.dataset.user);
    for (const node of $$("[data-copy]", detail)) node.hidden = false;
    for (const time of $$("time[data-clock]", detail)) time.textContent = new Date(time.dateTime).toLocaleTimeString("en-GB");
  }

  /** The buttons as things stand, and the neighbours' pictures on their way. */
  function fit() {
    const detail = $("#detail");
    if (!detail) return;
    const isFull = page.dataset.zoom === "full";
    for (const button of $$("[data-zoom]", detail)) button.setAttribute("aria-pressed", String((button.dataset.zoom === "full") === isFull));
    $("[data-info]", detail)?.setAttribute("aria-pressed", String(!page.hasAttribute("data-bare")));
    const ground = $(".ground", detail);
    isFull ? ground.setAttribute("tabindex", "0") : ground.removeAttribute("tabindex");
    for (const link of $$("[data-ahead]", detail)) new Image().src = link.dataset.ahead;
  }

  function zoom(how) {
    page.dataset.zoom = how;
    fit();
    const ground = $("#detail .ground");
    ground.scrollTo((ground.scrollWidth - ground.clientWidth) / 2, (ground.scrollHeight - ground.clientHeight) / 2);
  }

  async function fullScreen() {
    if (document.fullscreenElement) return document.exitFullscreen();
    return (frame && isOpen() ? frame : $("main")).requestFullscreen?.().catch(() => {});
  }

  let dragged = false;

  document.addEventListener("click", (event) => {
    const hit = (selector) => event.target.closest?.(selector);
    let found;
    if ((found = hit("#detail button[data-zoom]"))) zoom(found.dataset.zoom);
    else if (hit("#detail [data-full]")) fullScreen();
    else if (hit("#detail [data-info]")) { page.toggleAttribute("data-bare"); fit(); }
    else if (hit("#detail .ground > a") && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
      event.preventDefault();
      if (!dragged) zoom(page.dataset.zoom === "full" ? "fit" : "full");
    }
  });

  document.addEventListener("pointerdown", (event) => {
    dragged = false;
    const ground = event.target.closest?.("#detail .ground");
    if (!ground || page.dataset.zoom !== "full" || event.pointerType !== "mouse" || event.button) return;
    const from = { x: event.clientX, y: event.clientY, left: ground.scrollLeft, top: ground.scrollTop };
    const move = (now) => {
      dragged = dragged || Math.hypot(now.clientX - from.x, now.clientY - from.y) > 4;
      ground.scrollTo(from.left + from.x - now.clientX, from.top + from.y - now.clientY);
    };
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", () => document.removeEventListener("pointermove", move), { once: true });
  });
  document.addEventListener("dragstart", (event) => event.target.closest?.("#detail .ground, .compare[data-see='slider']") && event.preventDefault());

  // --- keys ---------------------------------------------------------------------------------------------------------

  const lettersWork = () => localStorage.getItem("flux2web:letters") !== "off";

  document.addEventListener("keydown", (event) => {
    const detail = $("#detail");
    if (event.key === "Escape" && isOpen() && !$("dialog[open]:not(#picture)") && !$("details.menu[open]", dialog)) {
      event.preventDefault();
      if (!isBusyTyping()) back();
      return;
    }
    if (!detail || event.metaKey || event.ctrlKey || event.altKey || $("dialog[open]:not(#picture)")) return;
    if (event.target.matches?.("input, textarea, select, [contenteditable]")) return;
    const arrow = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
    const target = arrow ? page.dataset.zoom !== "full" && $(`[data-walk="${arrow}"]`, detail) : $(selectorOf(event), detail);
    if (!target && !(arrow && isOpen())) return;
    event.stopImmediatePropagation();
    if (!target || target.disabled) return;
    event.preventDefault();
    target.click();
  }, true);

  function selectorOf({ key }) {
    if (key === "Delete") return '[data-key="Delete"]';
    if (!lettersWork() || !/^[a-z]$/i.test(key)) return "nothing";
    return key.toLowerCase() === "l" ? ".acts .heart" : `[data-key="${key.toLowerCase()}"]`;
  }

  // --- compare ------------------------------------------------------------------------------------------------------

  const table = $("#compare");

  function see(how) {
    table.dataset.see = how;
    for (const button of $$("[data-see]")) if (button !== table) button.setAttribute("aria-pressed", String(button.dataset.see === how));
    const divide = $(".divide", table);
    divide.hidden = how !== "slider";
    if (how === "flicker") flip(Number(table.dataset.shown));
  }

  function flip(number) {
    table.dataset.shown = number;
    for (const figure of $$("figure", table)) figure.toggleAttribute("data-on", Number(figure.dataset.number) === number);
    $("#compare-said").textContent = `Picture ${number}: ${$(`figure[data-number="${number}"] img`, table).alt}`;
  }

  function showOne(number) {
    if (number < 1 || number > $$("figure", table).length) return;
    table.dataset.shown = number;
    see("flicker");
  }

  function slide(percent) {
    const most = Math.max(0, Math.min(100, percent));
    $("input", table).value = most;
    table.style.setProperty("--at", `${most}%`);
  }

  function startCompare() {
    flip(1);
    document.addEventListener("click", (event) => {
      const hit = (selector) => event.target.closest(selector);
      let found;
      if ((found = hit("button[data-see]"))) see(found.dataset.see);
      else if ((found = hit("[data-flip]"))) showOne(Number(found.dataset.flip));
      else if (hit(".print") && table.dataset.see !== "beside") {
        event.preventDefault();
        if (table.dataset.see === "flicker") flip((Number(table.dataset.shown) % $$("figure", table).length) + 1);
      }
    });
    document.addEventListener("keydown", (event) => {
      if (event.metaKey || event.ctrlKey || event.altKey || event.target.matches("input:not([type=range]), textarea, select")) return;
      if (/^[1-4]$/.test(event.key)) showOne(Number(event.key));
      else if (!lettersWork()) return;
      else {
        const how = { s: "slider", b: "beside", f: "flicker" }[event.key.toLowerCase()];
        if (how && $(`button[data-see="${how}"]`)) see(how);
      }
    });
    const range = $("input", table);
    range.addEventListener("input", () => slide(Number(range.value)));
    const follow = (event) => {
      const box = $(".print", table).getBoundingClientRect();
      slide((100 * (event.clientX - box.left)) / box.width);
    };
    table.addEventListener("pointerdown", (event) => {
      if (table.dataset.see !== "slider" || !event.target.closest(".print")) return;
      follow(event);
      document.addEventListener("pointermove", follow);
      for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => document.removeEventListener("pointermove", follow), { once: true });
    });
    slide(50);
  }

  // --- start --------------------------------------------------------------------------------------------------------

  if (isOwnPage) fit();
  if (table) startCompare();
})();
