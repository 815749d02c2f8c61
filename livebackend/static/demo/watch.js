// Watching a friend's stream, and giving something.

import { element } from "../shared/dom.js";
import { both } from "../shared/language.js";
import { avatar } from "./avatar.js";
import { button } from "./form.js";

const GIFTS = [
  ["rose", "玫瑰", 1],
  ["cake", "蛋糕", 10],
  ["rocket", "火箭", 30],
];
const AGAIN_MS = 2000;

/** Whether anybody could be there: RFC 2606 keeps `.example` free, and the stand-in uses it. */
function isReal(url) {
  return Boolean(url) && !new URL(url).hostname.endsWith(".example");
}

/** Plays the stream once it comes; the video leaves the page when one stops watching. */
async function play(url, video, tell) {
  while (video.isConnected) {
    const there = await fetch(url).catch(() => null);
    if (there?.ok) break;
    tell(both("Waiting for the picture.", "等待画面。"));
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  if (!video.isConnected) return;
  tell(null);
  const { default: Hls } = await import("../vendor/hls.js");
  if (Hls.isSupported()) {
    // A worker would need a policy of its own.
    const player = new Hls({ enableWorker: false });
    player.loadSource(url);
    player.attachMedia(video);
    const gone = setInterval(() => {
      if (video.isConnected) return;
      clearInterval(gone);
      player.destroy();
    }, AGAIN_MS);
  } else {
    video.src = url;
  }
  await video.play().catch(() => {});
}

export function watchScreen(phone, friend) {
  const url = friend.playUrl?.hls;
  const caption = element("p", {});
  const video = element("video", { playsinline: true, hidden: !isReal(url) });
  video.muted = true;
  const balance = element("output", {}, String(phone.coins));
  const given = element("p", { class: "given", role: "status" });
  const give = ([english, chinese, value]) =>
    button(
      "gift",
      element("span", {}, both(english, chinese), element("b", {}, String(value))),
      async () => {
        const { result } = await phone.ask("/golden", {
          send_gift: "1",
          object: friend.userId,
          value: String(value),
          description: english,
          requestId: crypto.randomUUID?.() ?? "",
        });
        if (result !== "0000") return;
        phone.coins -= value;
        if (phone.other.number === friend.userId) phone.other.received(value, english, chinese);
        await phone.happened();
        balance.textContent = String(phone.coins);
        given.replaceChildren(both(`A ${english} for ${value}.`, `送出${chinese}，${value} 金币。`));
      },
    );
  const node = element(
    "div",
    { class: "tab watch" },
    element(
      "div",
      { class: "player" },
      video,
      element("div", { class: "card", hidden: isReal(url) }, avatar(friend)),
      element("p", { class: "on-air" }, element("i", {}), both("Live", "直播中")),
      caption,
    ),
    element("h3", {}, friend.title ?? friend.nickname ?? friend.userId),
    element("div", { class: "gifts" }, ...GIFTS.map(give)),
    element("p", { class: "hint" }, both("You have ", "余额 "), balance, both(" coins", " 金币")),
    given,
    button("link", both("Back to friends", "返回好友"), async () => phone.show("friends")),
  );
  const tell = (content) => caption.replaceChildren(...(content ? [content] : []));
  if (isReal(url)) {
    queueMicrotask(() => play(url, video, tell));
  } else {
    tell(both("No media server here: this is a stand-in.", "此处没有流媒体服务器，仅为占位画面。"));
  }
  return node;
}
