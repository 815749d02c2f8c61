// What a reload keeps: both phones and the shown part of the page, until the tab is closed.

const KEY = "livebackend.demo";
const TABS = ["friends", "messages", "live", "coins"];
const VIEWS = ["a", "b", "log"];

export function storeSession(session) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(session));
  } catch {
    // Storage is disabled or full: a reload starts over.
  }
}

export function forgetSession() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Storage is disabled: nothing is stored.
  }
}

/** The stored session; a value that is missing or invalid is empty. */
export function storedSession() {
  const { view, phones } = object(read());
  const { a, b } = object(phones);
  return { view: VIEWS.includes(view) ? view : "a", phones: { a: storedPhone(a), b: storedPhone(b) } };
}

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null; // storage is disabled, or the value is not JSON
  }
}

function storedPhone(stored) {
  const { number, token, nickname, headImage, tab, live } = object(stored);
  const validNumber = text(number, /^[0-9]{11}$/);
  return {
    number: validNumber,
    token: validNumber && text(token, /^[\x21-\x7e]{1,1000}$/),
    nickname: text(nickname, /^.{1,100}$/u),
    headImage: text(headImage, /^.{1,1000}$/u),
    tab: TABS.includes(tab) ? tab : "friends",
    live: storedStream(live),
  };
}

function storedStream(stored) {
  const { server, key, title } = object(stored);
  const stream = {
    server: text(server, /^rtmp:.{1,500}$/),
    key: text(key, /^.{1,500}$/),
    title: text(title, /^.{1,100}$/u),
  };
  return stream.server && stream.key ? stream : null;
}

const object = (value) => (value !== null && typeof value === "object" ? value : {});
const text = (value, pattern) => (typeof value === "string" && pattern.test(value) ? value : "");
