// What is solved, between the session and this browser's own storage: {since, solved}. ``since`` (ms) is when someone last started anew:
// whoever has the older one, a session or another tab, gives up what it had.

const KEY = "rlhf-playground/solved"
const ID = /^[a-z0-9_/-]{1,60}$/
const MOST = 500

function read() {
  let stored
  try { stored = JSON.parse(localStorage.getItem(KEY)) } catch { /* unreadable or forbidden: as if empty */ }
  const since = Number.isSafeInteger(stored?.since) && stored.since >= 0 && stored.since < 1e14 ? stored.since : 0
  const solved = Array.isArray(stored?.solved) ? stored.solved.filter(id => typeof id === "string" && ID.test(id)).slice(0, MOST) : []
  return { since, solved }
}

export default function ({ data, setStateValue }) {
  function exchange() {
    const stored = read()
    const since = Math.max(stored.since, data.since)
    const lists = [stored, data].filter(one => one.since === since).map(one => one.solved)
    const solved = [...new Set(lists.flat())].sort().slice(0, MOST)
    const text = JSON.stringify({ since, solved })
    try { if (localStorage.getItem(KEY) !== text) localStorage.setItem(KEY, text) } catch { /* private window: the session alone keeps it */ }
    if (since !== data.since || solved.join() !== data.solved.join()) setStateValue("progress", { since, solved })
  }
  function changed(event) { if (event.key === KEY) exchange() }

  exchange()
  // One listener a window: this function runs anew at each redraw, and an older one would speak for a page that has been left.
  window.rlhfProgress?.abort()
  const listening = (window.rlhfProgress = new AbortController())
  window.addEventListener("storage", changed, { signal: listening.signal }) // another tab
  return () => listening.abort()
}
