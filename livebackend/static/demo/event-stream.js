// The event stream of a user: one connection at a time, and the detection of missed events.

import { untilLoginEnds } from "./login.js";

// The pause before a connection is random, so that not all clients connect at once.
const MAX_PAUSE_MS = 5000;
// The maximum doubles with each failed connection, up to this one.
const MAX_FAILURE_PAUSE_MS = 60_000;
// A browser opens few connections to a server, and lets others wait without an error.
const MAX_OPENING_MS = 15_000;
// The server ends a connection after 10 minutes, so an older one is broken.
const MAX_CONNECTION_MS = 660_000;

export class EventStream {
  #types;
  #requestTicket;
  #onEvent;
  #onMissed;
  #onConnection;
  #source = null;
  #timer = 0;
  #failures = 0;
  #isClosed = false;
  #lastEventId = "";
  /** By channel: the number of the last received event, and the last number that the lists include. */
  #numbers = new Map();

  /**
   * `requestTicket` resolves to `{ ticket }`; without a ticket, to `{ isFinal, retryAfterMs }`.
   * `onMissed` gets the operations that return the current state, or no argument for all.
   */
  constructor({ types, requestTicket, onEvent, onMissed, onConnection }) {
    this.#types = types;
    this.#requestTicket = requestTicket;
    this.#onEvent = onEvent;
    this.#onMissed = onMissed;
    this.#onConnection = onConnection;
  }

  /** Connects with a first ticket. The lists must be read afterwards, so that no event is missed. */
  async start() {
    await this.#connect(() => {});
  }

  close() {
    this.#isClosed = true;
    this.#disconnect();
  }

  async #connect(onMissed) {
    const { ticket, isFinal, retryAfterMs } = await this.#requestTicket();
    if (this.#isClosed) return;
    if (isFinal) {
      this.#onConnection(false);
    } else if (ticket) {
      if (this.#learnNumbers(ticket.channels)) onMissed();
      this.#open(ticket.url);
    } else {
      this.#connectLater(retryAfterMs);
    }
  }

  #open(url) {
    const streamUrl = new URL(url, document.baseURI);
    // A browser sends the header Last-Event-ID only when it uses the same URL again.
    if (this.#lastEventId) streamUrl.searchParams.set("last", this.#lastEventId);
    const source = new EventSource(streamUrl);
    source.addEventListener("open", () => {
      this.#failures = 0;
      this.#setTimer(() => this.#connectLater(), MAX_CONNECTION_MS);
      this.#onConnection(true);
    });
    // The browser would connect again with the same ticket, which expires.
    source.addEventListener("error", () => this.#connectLater());
    source.addEventListener("reset", (message) => this.#reset(message));
    for (const type of this.#types) source.addEventListener(type, (message) => this.#receive(message));
    this.#source = source;
    this.#setTimer(() => this.#connectLater(), MAX_OPENING_MS);
  }

  #connectLater(minPauseMs = 0) {
    this.#disconnect();
    this.#onConnection(false);
    const maxPauseMs = Math.min(MAX_PAUSE_MS * 2 ** this.#failures, MAX_FAILURE_PAUSE_MS);
    this.#failures += 1;
    const connect = () => untilLoginEnds(() => this.#connect(this.#onMissed));
    this.#setTimer(connect, minPauseMs + Math.random() * maxPauseMs);
  }

  #disconnect() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #setTimer(action, ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, ms);
  }

  /** Stores the numbers of a ticket; returns whether the client has missed events. */
  #learnNumbers(channels) {
    let hasMissed = false;
    for (const { channel, seq } of channels) {
      const known = this.#numbers.get(channel);
      if (known && seq === Math.max(known.received, known.read)) continue;
      hasMissed = true;
      // The number is lower than before if the server's database was restored from an older copy.
      this.#numbers.set(channel, { received: Math.min(known?.received ?? seq, seq), read: seq });
    }
    return hasMissed;
  }

  #reset(message) {
    this.#lastEventId = message.lastEventId;
    this.#onMissed(JSON.parse(message.data).data.operations);
  }

  #receive(message) {
    this.#lastEventId = message.lastEventId;
    const event = JSON.parse(message.data);
    const { channel, seq } = event;
    const { received, read } = this.#numbers.get(channel) ?? { received: seq - 1, read: 0 };
    if (seq <= received) return;
    if (seq > Math.max(received, read) + 1) this.#onMissed();
    this.#numbers.set(channel, { received: seq, read });
    this.#onEvent(event);
  }
}
