/* Runs before the page is painted, so that what is to stay shut is never seen open.
   Without scripts nothing of this happens: all is open. */
(function () {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripts");
  const lesson = /\/lessons\/([^/]+)\/(index\.html)?$/.exec(location.pathname);
  try {
    const kept = JSON.parse(localStorage.getItem("pruning-course") || "{}");
    if (lesson && kept.opened && kept.opened[lesson[1]]) root.classList.add("opened");
  } catch {
    // nothing can be kept here, or what is kept is damaged: the page starts shut
  }
})();
