// The reader's place in the page, kept in the fragment of the address.

/** Put the place into the address, so that a reload or a copied link returns to it. */
export function remember(place) {
  if (document.getElementById(`panel-${place.split("/")[0]}`).hidden) return;
  try {
    history.replaceState(null, "", `#${place}`);
  } catch {
    // Some browsers do not allow this for local files; the page works without it.
  }
}
