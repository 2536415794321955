// Sets the colours before anything is painted; hence a plain script in the head and not a module.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem("corral-theme");
    } catch {
      return null; // storage is switched off
    }
  };
  const apply = () => {
    document.documentElement.dataset.bsTheme = chosen() || (dark.matches ? "dark" : "light");
  };
  apply();
  dark.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-toggle-theme]")) return;
    const next = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
    try {
      // Choosing what the system wants anyway means following it again.
      if ((next === "dark") === dark.matches) localStorage.removeItem("corral-theme");
      else localStorage.setItem("corral-theme", next);
    } catch {
      document.documentElement.dataset.bsTheme = next;
      return;
    }
    apply();
  });
})();
