// Puts the parts together: tabs, and the place in the page as the address's fragment.

const TABS = ["figures", "trajectories", "e-step", "setup"].filter(
  (tab) => tab !== "e-step" || data.kind === "run",
);

/** Keep the place in the address, so that a reload or a copied link leads back to it. */
function remember(place) {
  if (document.getElementById(`panel-${place.split("/")[0]}`).hidden) return;
  try {
    history.replaceState(null, "", `#${place}`);
  } catch {
    // Some browsers refuse it for local files; the page works without.
  }
}

function showTab(name) {
  for (const tab of TABS) {
    document.getElementById(`panel-${tab}`).hidden = tab !== name;
    const button = document.getElementById(`tab-${tab}`);
    button.setAttribute("aria-selected", String(tab === name));
    button.tabIndex = tab === name ? 0 : -1;
  }
}

function tabKeys(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const at = TABS.indexOf(event.currentTarget.id.replace("tab-", ""));
  const next = document.getElementById(`tab-${TABS[(at + step + TABS.length) % TABS.length]}`);
  next.focus();
  next.click();
}

function start() {
  headline();
  figuresTab();
  const list = trajectoriesTab();
  if (data.kind === "run") exploreTab();
  else document.getElementById("tab-e-step").hidden = true;
  setupTab();
  for (const tab of TABS) {
    const button = document.getElementById(`tab-${tab}`);
    button.addEventListener("click", () => {
      showTab(tab);
      remember(tab);
    });
    button.addEventListener("keydown", tabKeys);
  }
  const follow = () => {
    const [place, key] = location.hash.slice(1).split("/");
    showTab(TABS.includes(place) ? place : "figures");
    if (key && list && place === "trajectories") list.choose(decodeURIComponent(key));
  };
  window.addEventListener("hashchange", follow);
  follow();
}

start();
