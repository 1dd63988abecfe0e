// One plotly figure that is kept: new data and layout go to Plotly.react, which redraws a fraction of what a new plot costs.
// data (bytes of JSON): {figure: {data, layout}, clicks, missing}.

const CONFIG = { displayModeBar: false, responsive: false, doubleClick: "reset", showTips: false }

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lab-figure")
  if (!root || !data) return
  const state = (root.state ??= { next: null, busy: false, drawn: "" })
  const text = typeof data === "string" ? data : new TextDecoder().decode(data)
  state.click = x => setTriggerValue("clicked", x)
  if (text === state.drawn) return
  state.next = text
  if (!state.busy) draw()

  // One drawing at a time; of what arrives meanwhile only the newest is drawn.
  async function draw() {
    state.busy = true
    try {
      const Plotly = await plotly()
      while (state.next !== null) {
        const newest = state.next
        state.next = null
        const { figure, clicks } = JSON.parse(newest)
        // A finger should scroll the page, not draw a box.
        const dragmode = window.matchMedia("(pointer: coarse)").matches ? false : (figure.layout.dragmode ?? "zoom")
        root.style.minHeight = `${figure.layout.height ?? 450}px`
        state.width = root.clientWidth
        await Plotly.react(root, figure.data, { ...figure.layout, dragmode, width: state.width }, CONFIG)
        if (!state.drawn) {
          if (clicks) root.on("plotly_click", event => state.click(Number(event.points[0].x)))
          new ResizeObserver(() => {
            if (!root.clientWidth || root.clientWidth === state.width) return
            state.width = root.clientWidth
            Plotly.relayout(root, { width: state.width })
          }).observe(root)
        }
        state.drawn = newest
      }
    } catch {
      root.textContent = JSON.parse(text).missing
    } finally {
      state.busy = false
    }
  }
}
