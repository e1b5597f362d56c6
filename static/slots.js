/* The compose form's numbered images: uploading, checking, refused, moved, removed. Loaded where there is a form.
   Says "flux2web:slots" when they have changed; compose.js listens. */
(() => {
  "use strict";
  const { $, $$, parse, say } = window.flux2web;
  if (!$("#compose")) return;
  const compose = () => $("#compose");
  const slots = () => $$(".slot:not(.add)", $("#slots"));
  const MOST = 8;

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
  const changed = () => document.dispatchEvent(new Event("flux2web:slots"));

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

  document.addEventListener("change", (event) => {
    if (event.target.id !== "files") return;
    upload([...event.target.files]);
    event.target.value = "";
    event.stopImmediatePropagation(); // the files go one by one, not with the form
  }, true);
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])].filter((file) => file.type.startsWith("image/"));
    if (files.length) { event.preventDefault(); upload(files); }
  });
  const dragging = (event) => compose() && [...(event.dataTransfer?.types || [])].includes("Files");
  document.addEventListener("dragover", (event) => dragging(event) && (event.preventDefault(), compose().toggleAttribute("data-dropping", true)));
  document.addEventListener("dragleave", (event) => !event.relatedTarget && compose()?.toggleAttribute("data-dropping", false));
  document.addEventListener("drop", (event) => {
    if (!dragging(event)) return;
    event.preventDefault();
    compose().toggleAttribute("data-dropping", false);
    upload([...event.dataTransfer.files]);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-slot]");
    if (button) move(button);
  });

  window.flux2web.slots = { renumber };
})();
