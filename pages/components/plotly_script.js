// plotly's script is handed out by app.py; once for the whole page.
function plotly() {
  if (!window.__plotlyScript) {
    window.__plotlyScript = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("plotly.min.js", document.baseURI).href;
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => { window.__plotlyScript = null; script.remove(); reject(new Error("plotly.min.js")); };
      document.head.append(script);
    });
  }
  return window.__plotlyScript;
}

