// Builds the page from its parts, and switches between tabs.

import { data } from "./data.js";
import { eStepTab } from "./e-step.js";
import { figuresTab } from "./figures.js";
import { headline } from "./headline.js";
import { remember } from "./place.js";
import { setupTab } from "./setup.js";
import { trajectoriesTab } from "./trajectories.js";

const TABS = ["figures", "trajectories", "e-step", "setup"].filter(
  (tab) => tab !== "e-step" || data.kind === "run",
);

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
  if (data.kind === "run") eStepTab();
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
