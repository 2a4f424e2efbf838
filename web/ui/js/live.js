// The stream of changes: small deltas, and a visible state while the connection is lost.

/**
 * Listens until the page goes. The browser reconnects by itself and sends the last event's id, so nothing is missed;
 * a stream that the server refuses is opened anew after a pause.
 * @param {string} path
 * @param {Record<string, (data: any) => void>} handlers by event name
 * @param {(connected: boolean) => void} onState
 */
export function listen(path, handlers, onState) {
  let pause = 1000;
  /** @type {EventSource | null} */
  let source = null;
  const open = () => {
    source = new EventSource(`/api/v1${path}`);
    source.onopen = () => {
      pause = 1000;
      onState(true);
    };
    source.onerror = () => {
      onState(false);
      if (source?.readyState === EventSource.CLOSED) {
        setTimeout(open, pause);
        pause = Math.min(pause * 2, 30_000);
      }
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        handle(JSON.parse(/** @type {MessageEvent<string>} */ (event).data));
      });
    }
  };
  open();
  // a page kept for the back button must not hold its connection
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) open();
  });
}

/**
 * Shows and hides the page's "connection lost" line.
 * @param {boolean} connected
 */
export function showConnection(connected) {
  const line = document.getElementById("connection");
  if (line) line.hidden = connected;
}
