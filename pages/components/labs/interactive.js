// What the components that are dragged or painted share: elements of SVG, and messages to the server.

function make(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  if (text !== undefined) element.textContent = text
  return element
}

// At most one message each PAUSE ms. `seq` counts them: an answer to an older one is not drawn, or what is held would jump back under
// the pointer. `stamp` is the server's: another one means that it began anew (a preset, a reset), and whatever is under way is over.
class Messages {
  static PAUSE = 120
  seq = 0
  sent = 0
  timer = null

  begunAnew(data) {
    if (data.stamp === this.stamp) return false
    clearTimeout(this.timer)
    Object.assign(this, { stamp: data.stamp, seq: data.seq, timer: null })
    return true
  }

  // Whether `data` knows of all that was done here.
  answered(data) {
    if (this.timer !== null || data.seq < this.seq) return false
    this.seq = data.seq
    return true
  }

  send(write) { // write({seq, stamp}) when its time has come
    clearTimeout(this.timer)
    const now = () => {
      this.timer = null
      this.sent = performance.now()
      this.seq += 1
      write({ seq: this.seq, stamp: this.stamp })
    }
    const rest = Messages.PAUSE - (performance.now() - this.sent)
    if (rest <= 0) now()
    else this.timer = setTimeout(now, rest)
  }
}

