// Keeps the page fresh: fetches it again every few seconds and puts in what changed. Without this script everything
// works, one reload at a time.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const PATIENCE_MS = 10000;
  const said = document.getElementById("live");
  let timer = 0;
  let running = false;
  let lostSince = null;

  // A notice belongs to the moment: a reload of the page should not say it again.
  const address = new URL(location.href);
  if (address.searchParams.has("notice")) {
    address.searchParams.delete("notice");
    address.searchParams.delete("seal");
    history.replaceState(null, "", address);
  }

  const say = (text, kind) => {
    if (said.textContent !== text) {
      said.textContent = text;
      said.className = kind ? `live ${kind}` : "live";
    }
  };

  // Whoever types, chooses or has something open is left in peace.
  const isBusy = (part) =>
    part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea") ||
    part.querySelector("details[open]") !== null;

  // What had the focus keeps it: the control at the same place within its part.
  const CONTROLS = "a, button, summary, input, select, pre";
  const put = (old, fresh) => {
    const place = [...old.querySelectorAll(CONTROLS)].indexOf(document.activeElement);
    const node = document.importNode(fresh, true);
    old.replaceWith(node);
    if (place >= 0) {
      node.querySelectorAll(CONTROLS)[place]?.focus({ preventScroll: true });
    }
  };

  const refresh = async () => {
    const stop = AbortSignal.timeout(PATIENCE_MS);
    const answer = await fetch(location.href, { cache: "no-store", redirect: "error", signal: stop });
    if (answer.status === 401 || answer.status === 403) {
      say("Signed out: reload the page to log in again.", "lost");
      return false;
    }
    if (!answer.ok) {
      throw new Error(String(answer.status));
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const parts = [...document.querySelectorAll("[data-live]")];
    // Another set of parts is another page: destinations came or went.
    const names = (list) => [...list].map((part) => part.id).join(" ");
    if (names(parts) !== names(page.querySelectorAll("[data-live]"))) {
      if (!parts.some(isBusy)) {
        put(document.getElementById("main"), page.getElementById("main"));
      }
    } else {
      for (const part of parts) {
        const fresh = page.getElementById(part.id);
        if (fresh.outerHTML !== part.outerHTML && !isBusy(part)) {
          put(part, fresh);
        }
      }
    }
    document.title = page.title;
    lostSince = null;
    say("live", "");
    return true;
  };

  const tick = async () => {
    clearTimeout(timer);
    if (running || document.hidden) {
      return;
    }
    running = true;
    let goOn = true;
    try {
      goOn = await refresh();
    } catch {
      lostSince ??= new Date();
      say(`No answer since ${lostSince.toLocaleTimeString()}: what you see is from before.`, "lost");
    }
    running = false;
    if (goOn) {
      timer = setTimeout(tick, EVERY_MS);
    }
  };

  if (document.querySelector("[data-live]")) {
    document.addEventListener("visibilitychange", tick);
    timer = setTimeout(tick, EVERY_MS);
    say("live", "");
  }
})();
