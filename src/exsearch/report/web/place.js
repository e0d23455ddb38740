// The place in the page, as the fragment of its address.

/** Keep the place in the address, so that a reload or a copied link leads back to it. */
export function remember(place) {
  if (document.getElementById(`panel-${place.split("/")[0]}`).hidden) return;
  try {
    history.replaceState(null, "", `#${place}`);
  } catch {
    // Some browsers refuse it for local files; the page works without.
  }
}
