/* The images of the compose form: dropped, pasted, chosen, picked from the library or from what the team made; uploaded some
   at a time; numbered, moved, named in the prompt. Tells by "flux2web:slots" that they changed.
   Sections: taking, uploading, one slot, moving, picking. */
(() => {
  "use strict";
  const { $, $$, parse, ask, tell, say } = window.flux2web;
  if (!$("#compose")) return;
  const compose = () => $("#compose");
  const slots = () => $$(".slot:not(.add)", $("#slots"));
  const token = () => $("[name=csrfmiddlewaretoken]", compose()).value;
  const MOST = 8, AT_ONCE = 3;

  /** The references have changed: what fits, what it costs, whether it may go. */
  const changed = () => document.dispatchEvent(new Event("flux2web:slots"));

  // --- taking -------------------------------------------------------------------------------------------------------

  const gone = () => $("#slots .slot[data-gone]"); // the next image takes its place
  const isFull = () => slots().length >= MOST && !gone();
  const full = (name) => say("slots-said", `${MOST} of ${MOST}: remove one to add “${name}”.`);

  function take(files) {
    say("slots-said", "");
    for (const file of files) {
      if (isFull()) return full(file.name);
      judge(place(blank(file.name)), file);
    }
    renumber();
    changed();
  }

  /** What is too large is known before a byte is sent. */
  function judge(slot, file) {
    const most = Number($("#slots").dataset.bytes), shrinkable = Number($("#slots").dataset.shrinkBytes);
    if (file.size <= most) return line(slot, file);
    const said = `${file.name}: ${megabytes(file.size)} is too large, ${megabytes(most)} at most.`;
    if (file.size <= shrinkable) refuse(slot, said, "Shrink it", () => line(slot, file, { shrink: true }));
    else refuse(slot, `${said} Make it smaller first.`);
  }

  const megabytes = (bytes) => (bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GB` : `${Math.ceil((10 * bytes) / 2 ** 20) / 10} MB`);

  // --- uploading ----------------------------------------------------------------------------------------------------

  const waiting = [];
  let running = 0;

  function line(slot, file, { shrink = false } = {}) {
    busy(slot, file.name, "Waiting");
    waiting.push({ slot, file, shrink });
    next();
  }

  function next() {
    while (running < AT_ONCE && waiting.length) {
      const { slot, file, shrink } = waiting.shift();
      if (!slot.dropped) send(slot, file, shrink);
    }
  }

  function send(slot, file, shrink) {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file);
    if (shrink) form.append("shrink", "1");
    slot.request = request;
    running += 1;
    step(slot, "0 %", 0);
    request.upload.onprogress = ({ lengthComputable, loaded, total }) => lengthComputable && step(slot, `${Math.round((100 * loaded) / total)} %`, (100 * loaded) / total);
    request.upload.onload = () => step(slot, "Checking", 100);
    request.onload = () => answered(slot, file.name, request.status, request.responseText, () => line(slot, file, { shrink }));
    request.onerror = () => refuse(slot, `${file.name}: the upload was cut off.`, "Try again", () => line(slot, file, { shrink }));
    request.onloadend = () => { running -= 1; next(); };
    request.open("POST", compose().dataset.upload);
    request.setRequestHeader("HX-Request", "true");
    request.setRequestHeader("X-CSRFToken", token());
    request.send(form);
  }

  /** The slot as the server draws it, ready or refused; or why there is none, and whether to try again. */
  function answered(slot, name, status, text, again) {
    const fresh = [200, 422].includes(status) && $(".slot", parse(`<ol>${text}</ol>`));
    if (!fresh) return refuse(slot, `${name}: ${reason(status)}`, status === 413 ? "" : "Try again", again);
    slot.isConnected ? slot.replaceWith(fresh) : $("#add-slot").before(fresh); // the form was drawn anew meanwhile
    renumber();
    changed();
    tell(fresh.dataset.state === "ready" ? `${name} is ready.` : $(".reason", fresh).textContent);
    return fresh;
  }

  function reason(status) {
    if (status === 413) return "too large for this site.";
    if (status === 408) return "it came too slowly. Take a smaller file or a faster connection.";
    if (status === 200) return "you are signed out. Sign in again in another tab, then try again.";
    if (status === 403) return "this page is out of date, or you may not bring images. Reload it, then try again.";
    return "the server could not take it.";
  }

  // --- one slot -----------------------------------------------------------------------------------------------------

  function blank() {
    const slot = document.createElement("li");
    slot.className = "slot";
    return slot;
  }

  function place(slot) {
    gone() ? gone().replaceWith(slot) : $("#add-slot").before(slot);
    return slot;
  }

  const icons = $("#field-references use").getAttribute("href").split("#")[0];
  const REMOVE = `<button type="button" data-slot="remove"><svg class="icon s" aria-hidden="true"><use href="${icons}#x"></use></svg></button>`;

  function busy(slot, name, words) {
    slot.dataset.state = "uploading";
    slot.innerHTML = `<span class="step num"></span><progress max="100" value="0"></progress><span class="called clip" aria-hidden="true"></span><span class="no" aria-hidden="true"></span>${REMOVE}`;
    slot.title = $(".called", slot).textContent = name;
    $("progress", slot).setAttribute("aria-label", `Uploading ${name}`);
    step(slot, words, 0);
    renumber();
    changed();
  }

  function step(slot, words, percent) {
    if (!$("progress", slot)) return;
    $("progress", slot).value = percent;
    $(".step", slot).textContent = words;
  }

  const remedies = new WeakMap(); // of a refused slot: what its button does

  function refuse(slot, words, label = "", remedy = null) {
    slot.dataset.state = "refused";
    slot.innerHTML = `<p class="reason"></p><span class="no" aria-hidden="true"></span>${REMOVE}`;
    $(".reason", slot).textContent = words;
    if (label) {
      remedies.set(slot, remedy);
      const button = Object.assign(document.createElement("button"), { type: "button", className: "remedy", textContent: label });
      button.dataset.slot = "remedy";
      $(".reason", slot).after(button);
    }
    renumber();
    changed();
    tell(words);
  }

  function renumber() {
    $$("#slots .place").forEach((input) => input.remove()); // numbers to type are for browsers without this script
    slots().forEach((slot, index) => {
      const number = index + 1;
      slot.draggable = slot.dataset.state === "ready";
      ($(".no span", slot) || $(".no", slot) || {}).textContent = number;
      for (const [verb, words] of [["remove", `Remove image ${number}`], ["left", `Move image ${number} left`], ["right", `Move image ${number} right`], ["name", `Write “image ${number}” into the prompt`]]) {
        $(`[data-slot="${verb}"]`, slot)?.setAttribute("aria-label", words);
      }
      $('[data-slot="name"]', slot)?.setAttribute("title", `Write “image ${number}” into the prompt`);
      const image = $("img", slot);
      if (image) image.alt = image.alt.replace(/^Image \d*:?/, `Image ${number}:`);
    });
    $("#slots").toggleAttribute("data-full", slots().length >= MOST);
  }

  function remove(slot) {
    const next = slot.nextElementSibling;
    slot.dropped = true;
    slot.request?.abort();
    slot.remove();
    say("slots-said", "");
    renumber();
    changed();
    return next;
  }

  const touched = new WeakSet(); // prompts in which somebody put the cursor: elsewhere words go to the end
  for (const kind of ["input", "keyup", "pointerup"]) document.addEventListener(kind, (event) => event.target.id === "prompt" && touched.add(event.target), true);

  function write(number) {
    const prompt = $("#prompt");
    const [from, to] = touched.has(prompt) ? [prompt.selectionStart, prompt.selectionEnd] : [prompt.value.length, prompt.value.length];
    const before = /\S$/.test(prompt.value.slice(0, from)) ? " " : "", after = /^[^\s.,;:!?)]/.test(prompt.value.slice(to)) ? " " : "";
    prompt.focus();
    prompt.setSelectionRange(from, to);
    if (document.execCommand("insertText", false, `${before}image ${number}${after}`)) return; // can be undone as if typed
    prompt.setRangeText(`${before}image ${number}${after}`, from, to, "end");
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // --- moving -------------------------------------------------------------------------------------------------------

  function press(button) {
    const slot = button.closest(".slot");
    const verb = button.dataset.slot;
    if (verb === "remedy") return remedies.get(slot)();
    if (verb === "name") return write(slots().indexOf(slot) + 1);
    if (verb === "remove") {
      const next = remove(slot);
      return void (next?.matches(".add") ? $("#files") : $('[data-slot="remove"]', next))?.focus();
    }
    const other = verb === "left" ? slot.previousElementSibling : slot.nextElementSibling;
    verb === "left" ? other.before(slot) : other.after(slot);
    renumber();
    changed();
    (button.checkVisibility?.() ? button : $('[data-slot="remove"]', slot)).focus();
  }

  let dragged = null, stood = null, picture = null; // a slot, what it stood before; a card's task

  function moveTo(slot) {
    const order = slots();
    order.indexOf(dragged) < order.indexOf(slot) ? slot.after(dragged) : slot.before(dragged);
    renumber();
  }

  document.addEventListener("dragstart", (event) => {
    const slot = event.target.closest?.("#slots .slot[draggable]"), card = event.target.closest?.('article.card[data-state="done"]');
    if (slot) {
      [dragged, stood] = [slot, slot.nextElementSibling];
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("application/x-flux2web-slot", "");
    } else if (card && event.target.closest("img, a")) picture = card.dataset.task;
  });
  document.addEventListener("dragend", (event) => {
    if (dragged) {
      if (event.dataTransfer.dropEffect === "none") stood.before(dragged); // let go elsewhere, or Escape
      renumber();
      changed();
    }
    dragged = picture = null;
    compose()?.toggleAttribute("data-dropping", false);
  });

  // --- files from outside: chosen, pasted, dropped anywhere --------------------------------------------------------------

  const looksRight = (file) => file.type.startsWith("image/") || /\.(heic|heif|avif|jpe?g|png|webp|gif|tiff?|bmp)$/i.test(file.name);

  document.addEventListener("change", (event) => {
    if (event.target.id !== "files") return;
    take([...event.target.files]);
    event.target.value = "";
    event.stopImmediatePropagation(); // the files go one by one, not with the form
  }, true);
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])];
    const isTyping = event.target.matches?.("textarea, input") && event.clipboardData.getData("text/plain");
    if (!files.length || isTyping || !compose()) return; // a table brings its picture along: into a field go its words
    event.preventDefault();
    const images = files.filter(looksRight);
    images.length ? take(images) : say("slots-said", `“${files[0].name}” is no picture, so nothing was added.`);
  });

  const brings = (event) => compose() && !dragged && (picture ? Boolean(event.target.closest?.("#compose")) : [...(event.dataTransfer?.types || [])].includes("Files"));
  document.addEventListener("dragover", (event) => {
    const over = dragged && event.target.closest?.("#slots .slot:not(.add)");
    if (dragged && event.target.closest?.("#slots")) event.preventDefault();
    if (over && over !== dragged) moveTo(over);
    if (dragged) return;
    if (brings(event)) event.preventDefault();
    compose()?.toggleAttribute("data-dropping", Boolean(brings(event)));
  });
  document.addEventListener("dragleave", (event) => !event.relatedTarget && compose()?.toggleAttribute("data-dropping", false));
  document.addEventListener("drop", (event) => {
    if (dragged) return void (event.target.closest?.("#slots") && event.preventDefault());
    if (!brings(event)) return;
    event.preventDefault();
    compose().toggleAttribute("data-dropping", false);
    if (picture) bring(`${compose().dataset.upload}from/${picture}/`, `Picture ${picture}`, "POST");
    else take([...event.dataTransfer.files]);
  });

  // --- picking ------------------------------------------------------------------------------------------------------

  /** One that the site has already. */
  async function bring(address, name, method = "GET") {
    if (isFull()) return void full(name);
    const slot = place(blank());
    busy(slot, name, "Fetching");
    const answer = await ask(address, { method, headers: { "X-CSRFToken": token() } }).catch(() => null);
    const text = answer ? await answer.text() : "";
    if (slot.dropped) return;
    if (answer) return answered(slot, name, answer.status, text, () => { remove(slot); bring(address, name, method); });
    refuse(slot, `${name}: the server did not answer.`, "Try again", () => { remove(slot); bring(address, name, method); });
  }

  let picker = null, asked = 0, typing = 0;
  const picked = new Map(); // address of what was picked: the id of the image it became
  const ids = () => $$("#slots [name=references]").map((input) => input.value);
  const idOf = (button) => button.dataset.id || picked.get(button.dataset.post);

  function makePicker() {
    const node = document.createElement("dialog");
    node.id = "picker";
    node.className = "picking";
    node.setAttribute("aria-labelledby", "picker-title");
    node.innerHTML = '<header><h2 id="picker-title">Add images</h2><button class="btn" data-kind="primary" type="button" data-picker="done">Done</button></header><p class="quiet small" id="picker-said" aria-live="polite"></p><div data-picker="found"></div>';
    node.addEventListener("click", (event) => event.target === node && node.close()); // beside it
    node.addEventListener("close", () => document.body.append($("#told")));
    node.addEventListener("input", (event) => {
      if (!event.target.matches("[type=search]")) return;
      clearTimeout(typing);
      typing = setTimeout(search, 250);
    });
    node.addEventListener("submit", (event) => { event.preventDefault(); search(); });
    document.body.append(node);
    return node;
  }

  function search() {
    const form = $("form", picker);
    look(`${form.getAttribute("action")}?${new URLSearchParams(new FormData(form))}`, { keepsField: true });
  }

  /** Later answers than the last question's are dropped; while one types, the field stays as it is. */
  async function look(address, { keepsField = false, isMore = false } = {}) {
    const turn = ++asked;
    const answer = await ask(address).catch(() => null);
    const fresh = answer?.ok && $("#picker-found", parse(await answer.text()));
    if (turn !== asked) return;
    if (!fresh) return say("picker-said", "The server did not answer. Try again.");
    const here = $("#picker-found", picker);
    if (isMore) {
      $(".picks", here).append(...$$(".picks > li", fresh));
      $(".pager", here).replaceWith(...$$(".pager", fresh));
    } else if (keepsField && here) {
      $$(".picks, .pager, .none", here).forEach((node) => node.remove());
      here.append(...$$(".picks, .pager, .none", fresh));
    } else $('[data-picker="found"]', picker).replaceChildren(fresh);
    mark();
  }

  function mark() {
    if (!picker?.open) return;
    const here = ids();
    for (const button of $$(".picks button", picker)) button.setAttribute("aria-pressed", String(here.includes(idOf(button))));
    say("picker-said", `${slots().length} of ${MOST} images`);
  }

  async function pick(button) {
    const { get, post, name } = button.dataset;
    const slot = slots().find((one) => $("[name=references]", one)?.value === idOf(button));
    if (slot) return void remove(slot);
    if (isFull()) return say("picker-said", `${MOST} of ${MOST}: take one out first.`);
    if (button.matches("[aria-busy]")) return;
    button.setAttribute("aria-busy", "true");
    const fresh = await bring(get || post, name, post ? "POST" : "GET");
    button.removeAttribute("aria-busy");
    const id = fresh && $("[name=references]", fresh)?.value;
    if (post && id) picked.set(post, id);
    mark();
  }

  document.addEventListener("flux2web:slots", mark);
  document.addEventListener("click", (event) => {
    const hit = (selector) => event.target.closest?.(selector);
    let found;
    if ((found = hit("[data-slot]"))) press(found);
    else if ((found = hit("[data-pick]")) && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      picker ||= makePicker();
      picker.showModal();
      picker.append($("#told")); // what is outside is not read out meanwhile
      look(`${compose().dataset.upload}pick/`);
    } else if (hit('[data-picker="done"]')) picker.close();
    else if ((found = hit("[data-pick-tab], [data-pick-more]"))) {
      event.preventDefault();
      look(found.getAttribute("href"), { isMore: found.matches("[data-pick-more]") });
    } else if ((found = hit(".picks button"))) pick(found);
  });

  window.flux2web.slots = { renumber };
})();
