// The console's only script: live parts, actions, local times, keyboard. Pages are whole without it but for the actions.
"use strict";
(() => {
  const main = document.getElementById("content");
  const words = document.getElementById("words").dataset;
  const lang = document.documentElement.lang;
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  // `text` may have two lines: the first is for one, the second for any other number `n`
  const fill = (text, values) => text.split("\n").at(values.n === 1 ? 0 : -1).replace(/\{(\w+)\}/g, (whole, name) => values[name]?.toLocaleString(lang) ?? whole);

  // ---- Replace HTML so that focus, selection, scroll and what somebody has typed stay
  const keyOf = (node) => (node.nodeType === 1 && (node.id || node.dataset.key)) || null;
  const sent = new WeakMap();  // of each live part its contents as they came: here times and ticks have changed them
  const asSent = (root) => [...root.childNodes].map((one) => one.outerHTML ?? one.data).join("");
  function morph(old, fresh) {
    if ("live" in old.dataset) sent.set(old, asSent(fresh));
    const keyed = new Map(all(":scope > [id], :scope > [data-key]", old).map((one) => [keyOf(one), one]));
    const kept = new Set([...fresh.childNodes].map(keyOf));
    for (const [key, one] of keyed) if (!kept.has(key)) one.remove();  // before others move: what moves loses the focus
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const key = keyOf(next);
      let here = key ? keyed.get(key) : at;
      while (!key && here && keyOf(here)) here = here.nextSibling;
      if (here && here.nodeType === next.nodeType && here.nodeName === next.nodeName) {
        if (here === at) at = at.nextSibling;
        else old.insertBefore(here, at);
        same(here, next);
      } else old.insertBefore(next, at);
    }
    while (at) { const after = at.nextSibling; at.remove(); at = after; }
  }
  function same(here, next) {
    if (here.nodeType !== 1) { if (here.data !== next.data) here.data = next.data; return; }
    if (here.nodeName === "TIME" && here.dateTime === next.dateTime) return;
    const kept = here.nodeName === "INPUT" || here.nodeName === "TEXTAREA" || here.nodeName === "SELECT";
    for (const { name } of [...here.attributes])
      if (!next.hasAttribute(name) && !["open", "aria-busy", "tabindex"].includes(name) && !(kept && name === "checked")) here.removeAttribute(name);
    for (const { name, value } of [...next.attributes])
      if (here.getAttribute(name) !== value && !(kept && (name === "value" || name === "checked"))) here.setAttribute(name, value);
    if (!kept && !hold(here, next)) morph(here, next);
  }
  function put(element, fresh) {
    const focused = document.activeElement;
    morph(element, fresh);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    settle(element);
  }
  function take(element, html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    if (hold(element, template.content)) tellTicked(); else put(element, template.content);
  }

  // ---- A list stands still while something in it is ticked: what comes meanwhile is held back, until it is asked for
  const held = new Map();  // the newest contents of live parts, by id
  const ticked = () => all("input.pick[value]:checked", main);
  let everything = false;  // whether all that match are meant, and not the ticked rows
  function hold(here, next) {
    if (!("live" in here.dataset)) return false;
    const holds = $("input.pick", here) !== null && (everything || ticked().length > 0);
    if (holds && asSent(next) !== sent.get(here)) held.set(here.id, next); else held.delete(here.id);
    return holds;
  }
  function show() {
    const waiting = [...held];
    held.clear();
    for (const [id, fresh] of waiting) { const part = document.getElementById(id); if (part) put(part, fresh); }
  }

  // ---- Times: short and local, the exact one on hover
  const ago = new Intl.RelativeTimeFormat(lang, { numeric: "auto", style: "short" });
  const exact = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "long", hourCycle: "h23" });
  const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(lang, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  function shown(time, now) {
    const s = (now - time) / 1000;
    if (Math.abs(s) < 5) return ago.format(0, "second");
    if (Math.abs(s) < 60) return ago.format(-Math.floor(s / 5) * 5, "second");
    if (Math.abs(s) < 3600) return ago.format(-Math.trunc(s / 60), "minute");
    return (time.toDateString() === now.toDateString() ? clock : day).format(time);
  }
  function tellTimes(root) {
    const now = new Date();
    for (const one of all("time", root)) {
      const time = new Date(one.dateTime), text = shown(time, now);
      if (one.textContent !== text) one.textContent = text;
      if (!one.title) one.title = exact.format(time);
    }
    for (const one of all("[data-clock]", root)) { const text = fill(one.dataset.text || "{time}", { time: clock.format(new Date(one.dataset.clock)) }); if (one.textContent !== text) one.textContent = text; }
  }
  setInterval(() => tellTimes(document), 5000);

  // ---- Live: parts that have changed come by an event stream
  const SILENT_MS = 40_000, READ_MS = 10_000;  // a stream says something every 15 s
  let source = null, timer = 0, watchdog = 0, wait = 500, last = new Date(), away = document.hidden;
  const stale = document.getElementById("stale");
  function isStale(it) {
    stale.hidden = !it;
    if (it) { const span = $("span", stale); span.textContent = fill(span.dataset.text, { time: last.toLocaleTimeString(lang, { hourCycle: "h23" }) }); }
  }
  let queue = Promise.resolve();  // of what is put into the page: one after the other, so that nothing older comes last
  const inTurn = (work) => (queue = queue.then(work, work));
  function isNewer(version) {
    const [screen, number] = version.split("."), [here, at] = main.dataset.version.split(".");
    return screen !== here || Number(number) > Number(at);
  }
  function heard() { last = new Date(); clearTimeout(watchdog); watchdog = setTimeout(later, SILENT_MS); }
  function stop() { source?.close(); clearTimeout(timer); clearTimeout(watchdog); }
  function follow() {
    stop();
    if (!main.dataset.version || away) return;
    const of = location.pathname + location.search;
    const mine = source = new EventSource(`/console/live?of=${encodeURIComponent(of)}&version=${main.dataset.version}`);
    heard();
    source.onopen = () => { wait = 500; heard(); isStale(false); };
    source.addEventListener("ping", heard);
    source.addEventListener("update", heard);
    source.addEventListener("update", (event) => inTurn(async () => {
      const { version, parts } = JSON.parse(event.data);
      if (mine !== source || !isNewer(version)) return;
      if (!parts) { if (!await read()) later(); return; }
      for (const [id, html] of Object.entries(parts)) { const part = document.getElementById(id); if (part) take(part, html); }
      main.dataset.version = version;
    }));
    source.onerror = () => { if (mine === source) later(); };
  }
  function later() {
    stop();
    if (away) return;
    isStale(true);
    timer = setTimeout(again, wait);
    wait = Math.min(wait * 2, 5000);
  }
  async function again() {
    clearTimeout(timer);
    if (await whole()) { isStale(false); follow(); } else later();
  }
  const whole = () => inTurn(read);
  async function read() {
    let answer, html;
    try { answer = await fetch(location.href, { headers: { "X-Part": "1" }, signal: AbortSignal.timeout(READ_MS) }); html = await answer.text(); } catch { return false; }
    if (answer.status === 401) { location.reload(); return false; }
    if (answer.status === 429 || answer.status >= 500 || !answer.headers.get("Content-Type")?.startsWith("text/html")) return false;
    take(main, answer.ok ? html : new DOMParser().parseFromString(html, "text/html").getElementById("content").innerHTML);
    main.dataset.version = answer.headers.get("X-Version") || "";
    if (!main.dataset.version) stop();
    last = new Date();
    return true;
  }
  function leave() { away = true; stop(); }  // a browser has few connections for all its tabs
  function comeBack() { if (away && !document.hidden) { away = false; if (main.dataset.version) again(); } }
  addEventListener("pagehide", leave);
  addEventListener("pageshow", comeBack);
  document.addEventListener("visibilitychange", () => document.hidden ? leave() : comeBack());

  // ---- Toasts: beside the page, or in the dialog that covers it
  function toast(text, { bad = false, undo = null, label = null, undone = null, stays = false } = {}) {
    const box = document.createElement("div"), span = document.createElement("span"), open = $("dialog[open]");
    const say = (words, isBad) => { if (span.textContent !== words) span.textContent = words; box.className = isBad ? "toast bad" : "toast"; };
    const fade = () => setTimeout(() => box.remove(), box.matches(".bad") || undo ? 12000 : 6000);
    say(text, bad);
    box.append(span);
    if (undo) {
      const button = document.createElement("button");
      button.className = "btn small"; button.textContent = label || words.undo;
      button.onclick = async () => { box.remove(); const { failed } = await send(undo, null); toast(failed ?? undone ?? words.undone, { bad: Boolean(failed) }); await whole(); };
      box.append(button);
    }
    if (open) box.setAttribute("role", "alert");
    (open ?? document.getElementById("toasts")).append(box);
    if (!stays) fade();
    return { box, say, fade };
  }

  // ---- Actions: each is a call of the API with the person's session
  const CALL_MS = 35_000;  // longer than the database may take for a statement
  async function send(what, body) {  // what came of it: words of a failure, or data
    const [method, path] = what.split(" ");
    const headers = body === null ? {} : { "Content-Type": "application/json" };
    let answer, said = {};
    try { answer = await fetch(path, { method, headers, body: body === null ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(CALL_MS) }); }
    catch (error) { return { failed: error.name === "TimeoutError" ? words.late : words.away }; }
    try { said = await answer.json(); } catch (error) { if (error.name === "TimeoutError") return { failed: words.late }; }
    if (answer.ok) return { failed: null, data: said.data ?? {} };
    if (answer.status === 401) return { failed: words.signedOut };
    return { failed: fill(words.failed, { message: why(answer.status, said.message) }) };
  }
  function why(status, message) {  // a refusal in the page's language: the API's own words are Chinese
    const ours = { 403: words.denied, 404: words.gone, 429: words.busy }[status];
    if (ours || lang !== "en" && message) return ours || message;
    if (status >= 500) return status === 503 ? words.unavailable : fill(words.broken, { status });
    const field = /: ([\w.[\]]+)/.exec(message)?.[1];
    return field ? fill(words.invalid, { field }) : words.conflict;
  }
  const dotsOf = (button) => button.closest(".sheet")?.previousElementSibling;  // the button that opens its sheet
  async function busy(button, work) {
    if (button.getAttribute("aria-busy") === "true") return;
    const both = [button, dotsOf(button)].filter(Boolean);
    for (const one of both) one.setAttribute("aria-busy", "true");
    try { await work(button); } finally { for (const one of both) one.removeAttribute("aria-busy"); }
  }
  function focusAgain(button, at) {  // `at`: the place of its row, where the next row is if it is gone
    const shown = [button, dotsOf(button)].find((one) => one?.checkVisibility());
    if (shown) shown.focus();
    else if (at >= 0 && rows().length) focusRow(at);
    else main.focus();
  }
  const dialog = document.getElementById("ask");
  function ask(button, count) {
    const { ask: title, text = "", verb, reason, number } = button.dataset;
    $("#ask-title").textContent = fill(title, { n: count });
    $("#ask-text").textContent = fill(text, { n: count });
    $("#ask-text").hidden = !text;
    $("#ask-verb").textContent = fill(verb, { n: count });
    $("#ask-verb").classList.toggle("danger", button.classList.contains("danger"));
    const field = $("#ask-reason");
    field.hidden = !reason;
    $("input", field).required = Boolean(reason);
    $("input", field).value = "";
    const digits = $("#ask-number");
    digits.hidden = !number;
    $("input", digits).required = Boolean(number);
    $("input", digits).value = button.dataset.value ?? "";
    dialog.returnValue = "no";
    dialog.showModal();
    if (number) $("input", digits).select();
    else if (!reason) $("#ask-verb").focus();
    const given = () => number ? $("input", digits).valueAsNumber : $("input", field).value.trim();
    return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes" ? given() : null), { once: true }));
  }
  async function act(button) {
    const rows = "each" in button.dataset ? ticked() : [null];
    if (!rows.length) return;
    const at = placeOf(rows[0] ?? button);
    let reason = null, data = {}, body = button.dataset.body ? JSON.parse(button.dataset.body) : null, what = button.dataset.call;
    if (button.dataset.ask && (reason = await ask(button, rows.length)) === null) return button.focus();
    if (button.dataset.reason === "body") body = { ...body, reason };
    if (button.dataset.number) body = { ...body, [button.dataset.number]: reason };
    if (button.dataset.reason === "query") what += (what.includes("?") ? "&" : "?") + "reason=" + encodeURIComponent(reason);
    const failures = [];
    for (const row of rows) {
      const said = await send(fill(what, { id: encodeURIComponent(row?.value ?? "") }), body);
      if (said.failed) { failures.push(said.failed); continue; }
      data = said.data;
      if (row) row.checked = false;
    }
    if (failures.length) toast(rows.length > 1 ? fill(words.some, { done: rows.length - failures.length, all: rows.length, message: failures[0] }) : failures[0], { bad: true });
    else {
      toast(fill(button.dataset.done, { n: data.matched ?? rows.length, ...data }), { undo: button.dataset.undo, label: button.dataset.undoLabel, undone: button.dataset.undone });
      if (button.dataset.secretTitle) await reveal(button.dataset.secretTitle, data.secret);
      if (button.dataset.go) { location.assign(fill(button.dataset.go, data)); return; }
    }
    if (await whole()) show();
    tellTicked();
    focusAgain(button, at);
  }

  // ---- Many tasks at once: those that are ticked, or all that match; their number is shown before anything is done
  async function bulk(button) {
    const what = button.dataset.bulk, bar = button.closest("[data-bar]"), at = placeOf(ticked()[0] ?? button);
    const ids = button.dataset.ids ? JSON.parse(button.dataset.ids) : ticked().map((one) => one.value);
    const body = bar && everything ? JSON.parse($("[data-filter-body]", bar).dataset.filterBody) : { ids };
    let { failed, data } = await send(what, { ...body, dryRun: true });
    const n = data?.matched ?? 0;
    if (!failed && !n) failed = button.dataset.none;
    if (!failed && (await ask(button, n)) !== null) {
      ({ failed, data } = await send(what, body));
      if (!failed) {
        reportOperation(data, fill(button.dataset.done, { n: data.matched }));
        everything = false;
        ticked().forEach((one) => { one.checked = false; });
      }
    }
    if (failed) toast(failed, { bad: true });
    await whole();
    tellTicked();
    focusAgain(button, at);
  }
  async function reportOperation({ operationId, matched }, text) {
    const { box, say, fade } = toast(text, { stays: true });
    box.setAttribute("aria-busy", "true");  // a screen reader reads the end alone
    for (let seconds = 0; seconds < 600; seconds++) {
      await new Promise((done) => setTimeout(done, 1000));
      if (away) continue;
      const { failed, data } = await send(`GET /api/v2/operations/${operationId}`, null);
      if (failed) break;
      const isOver = data.state === "DONE", isBad = isOver && data.failed > 0;
      say(fill(isBad ? words.outcome : words.progress, { done: data.done, all: matched, failed: data.failed }), isBad);
      if (isOver) break;
    }
    box.removeAttribute("aria-busy");
    fade();
  }

  // ---- Secrets: shown once
  function reveal(title, secret) {
    const box = document.getElementById("secret");
    $("h2", box).textContent = title;
    $("code", box).textContent = secret;
    $("[data-copy]", box).dataset.copy = secret;
    box.showModal();
    return new Promise((done) => box.addEventListener("close", () => { $("code", box).textContent = ""; $("[data-copy]", box).dataset.copy = ""; done(); }, { once: true }));
  }
  async function make(form) {
    const fields = new FormData(form), body = {};
    for (const [name, value] of fields) {
      if (form.elements[name] instanceof RadioNodeList || form.elements[name].type === "checkbox") body[name] = fields.getAll(name);
      else if (value) body[name] = value;
    }
    const { failed, data } = await send(form.dataset.send, body);
    if (failed) { toast(failed, { bad: true }); return; }
    toast(form.dataset.done);
    form.reset();
    if (data.secret) await reveal(form.dataset.secretTitle, data.secret);
    await whole();
  }

  // ---- Copying: what is shortened is copied whole, and also where a page has no clipboard, over plain http
  function copyBySelection(text, beside) {
    const field = document.createElement("textarea"), focused = document.activeElement;
    field.className = "sr";
    field.value = text;
    (beside.closest("dialog") ?? document.body).append(field);  // outside of an open dialog nothing can be selected
    field.select();
    const isDone = document.execCommand("copy");
    field.remove();
    focused?.focus({ preventScroll: true });
    return isDone;
  }
  async function copy(text, button) {
    const isDone = await (navigator.clipboard?.writeText(text) ?? Promise.reject()).then(() => true, () => copyBySelection(text, button));
    toast(isDone ? words.copied : words.notCopied, { bad: !isDone });
  }
  document.addEventListener("copy", (event) => {
    const chosen = getSelection(), text = String(chosen), ids = all(".id[data-copy]").filter((one) => chosen.containsNode(one, true));
    const full = ids.reduce((said, one) => said.replace(one.textContent, () => one.dataset.copy), text);
    if (full === text) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", full);
  });

  // ---- Ticked rows, forms, menus
  function tellTicked() {
    const count = ticked().length;
    if (!count && !everything) show();
    const news = [...held.values()].flatMap((fresh) => all("[data-row]", fresh)).filter((one) => !document.getElementById(one.id)).length;
    for (const bar of all("[data-bar]", main)) {
      bar.hidden = !count && !everything;
      for (const one of all("[data-count]", bar)) one.textContent = everything ? fill(one.dataset.countAll, { n: Number(one.dataset.total) }) : fill(one.dataset.count, { n: count });
      for (const one of all("[data-show]", bar)) { one.hidden = !held.size; one.textContent = news ? fill(one.dataset.new, { n: news }) : one.dataset.show; }
    }
    for (const one of all("[data-everything]", main)) one.setAttribute("aria-pressed", String(everything));
    const every = $("input.every", main), picks = all("input.pick[value]", main);
    if (every) { every.checked = count > 0 && count === picks.length; every.indeterminate = count > 0 && count < picks.length; }
  }
  function settle(root) { tellTimes(root); tellTicked(); settleLanes(); }
  document.addEventListener("change", (event) => {
    const it = event.target;
    if (it.matches("input.every")) all("input.pick[value]", main).forEach((one) => { one.checked = it.checked; });
    if (it.matches(".pick, .every")) { everything = false; tellTicked(); }
    if (it.closest("form[data-filter]") && !it.matches("input[type=text], input[type=search], input:not([type])")) it.form.requestSubmit();
  });
  document.addEventListener("submit", (event) => {
    if (event.target.matches("form[data-send]")) { event.preventDefault(); busy(event.submitter ?? event.target, () => make(event.target)); return; }
    if (event.target.matches("form[method=post]")) {  // what is sent twice may be refused the second time: a link works once
      if (event.target.hasAttribute("aria-busy")) event.preventDefault();
      event.target.setAttribute("aria-busy", "true");
    }
    if (!event.target.matches("form[data-filter]")) return;
    for (const one of event.target.elements) if (one.name && one.value === "") one.disabled = true;
    setTimeout(() => { for (const one of event.target.elements) one.disabled = false; });
  });
  addEventListener("pageshow", () => all("form[method=post]").forEach((one) => one.removeAttribute("aria-busy")));
  document.addEventListener("click", (event) => {
    const it = event.target.closest("button[data-call], button[data-bulk], [data-everything], [data-show], [data-copy], [data-open], [data-close], .rail .menu");
    if (!it) return;
    if (it.dataset.call || it.dataset.bulk) it.closest(":popover-open")?.hidePopover();  // the sheet of a row's actions
    if (it.dataset.call) busy(it, act);
    else if (it.dataset.bulk) busy(it, bulk);
    else if ("everything" in it.dataset) { everything = !everything; tellTicked(); }
    else if ("show" in it.dataset) show();
    else if (it.dataset.open) document.getElementById(it.dataset.open).showModal();
    else if ("close" in it.dataset) it.closest("dialog").close("no");
    else if (it.matches(".menu")) it.setAttribute("aria-expanded", String(document.getElementById("rail").classList.toggle("open")));
    else if (!it.closest("a") && String(getSelection()) === "") copy(it.dataset.copy, it);
  });

  // ---- A timeline is dragged to the right to go back; where a drag ends on a bar, its link is not followed
  let from = null, panned = false;
  document.addEventListener("pointerdown", (event) => { panned = false; from = event.target.closest("[data-pan]") && event.clientX; });
  document.addEventListener("click", (event) => { if (panned) event.preventDefault(); panned = false; }, true);
  document.addEventListener("pointerup", (event) => {
    const dragged = from !== null && event.clientX - from, picture = dragged && $("[data-pan]", main);
    if (picture && Math.abs(dragged) > 60) $(`[data-step=${dragged > 0 ? "ArrowLeft" : "ArrowRight"}]`, main)?.click();
    panned = Boolean(picture) && Math.abs(dragged) > 8;
    from = null;
  });

  // ---- Each lane of a timeline is one Tab stop, arrow keys go along it, and the words of the bar in focus are shown
  const barOf = (it) => it.closest("[data-lane] a");
  function settleLanes() {
    for (const lane of all("[data-lane]", main)) { const bars = all("a", lane); rove(bars, bars.find((one) => one.getAttribute("tabindex") === "0") ?? bars.at(-1)); }
    captionBar();
  }
  function rove(bars, here) { for (const one of bars) one.setAttribute("tabindex", one === here ? "0" : "-1"); }
  function captionBar() {
    const bar = barOf(document.activeElement), caption = $("[data-caption]", main);
    if (caption) caption.textContent = bar ? $("title", bar).textContent : "";
  }
  function alongLane(bar, by) {
    const bars = all("a", bar.parentNode), next = bars[within(bars, bars.indexOf(bar) + by)];
    rove(bars, next);
    next.focus();
  }
  document.addEventListener("focusin", captionBar);
  document.addEventListener("focusout", captionBar);

  // ---- Keyboard
  let prefix = 0, row = null, place = 0;
  const within = (list, at) => Math.max(0, Math.min(list.length - 1, at));
  const rows = () => all("[data-row]", main).filter((one) => one.offsetParent);
  const placeOf = (it) => rows().indexOf(it.closest("[data-row]"));
  function step(by) {
    const at = rows().findIndex((one) => one === row || one.id && one.id === row?.id);
    focusRow(at >= 0 ? at + by : by > 0 ? place : place - 1);  // where the last row is gone, the next one is in its place
  }
  function focusRow(at) {
    const list = rows();
    place = within(list, at);
    row = list[place];
    if (row) { row.tabIndex = -1; row.focus(); row.scrollIntoView({ block: "nearest" }); }
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open], :popover-open")) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, select")) { if (event.key === "Escape") event.target.blur(); return; }
    const key = event.key, follows = Date.now() - prefix < 1500;
    prefix = 0;
    if (follows) { const link = all(".rail nav a").find((one) => one.dataset.key === key); if (link) { event.preventDefault(); link.click(); return; } }
    const bar = barOf(event.target), by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[key];
    if (bar && by) { event.preventDefault(); alongLane(bar, by); return; }
    const goes = $(`[data-step="${CSS.escape(key)}"]`, main);
    if (goes) goes.click();
    else if (key === "g") prefix = Date.now();
    else if (key === "?") document.getElementById("keys").showModal();
    else if (key === "/") { const field = $("[data-search], nav a.chip", main); if (field) { event.preventDefault(); field.focus(); field.select?.(); } }
    else if (key === "j") step(1);
    else if (key === "k") step(-1);
    else if (key === "x" && row?.isConnected) $("input.pick", row)?.click();
    else if (key === "Enter" && event.target === row) $("a[href]", row)?.click();
    else if (key === "Escape") { const rail = document.getElementById("rail"); if (rail?.classList.contains("open")) $(".menu", rail).click(); }
  });

  for (const one of all("[data-live]", main)) sent.set(one, asSent(one));
  settle(document);
  follow();
})();
