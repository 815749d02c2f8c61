// The watch screen: plays a friend's stream and sends gifts.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { avatar } from "./avatar.js";
import { heading } from "./focus.js";
import { button } from "./form.js";

const GIFTS = [
  ["rose", "玫瑰", 1],
  ["cake", "蛋糕", 10],
  ["rocket", "火箭", 30],
];
const RETRY_MS = 2000;

/** Whether a URL has a real host: the development gateway uses `.example` (RFC 2606). */
function isReal(url) {
  return Boolean(url) && !new URL(url).hostname.endsWith(".example");
}

/** Plays the stream as soon as it is available, until the video is removed from the page. */
async function play(url, video, setCaption) {
  while (video.isConnected) {
    const playlist = await fetch(url).catch(() => null);
    if (playlist?.ok || !video.isConnected) break;
    setCaption(bilingual("Waiting for the video.", "等待视频画面。"));
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
  if (!video.isConnected) return;
  setCaption(null);
  const { default: Hls } = await import("../vendor/hls.js");
  if (Hls.isSupported()) {
    // A web worker would need worker-src in the Content-Security-Policy.
    const player = new Hls({ enableWorker: false });
    player.loadSource(url);
    player.attachMedia(video);
    const cleanup = setInterval(() => {
      if (video.isConnected) return;
      clearInterval(cleanup);
      player.destroy();
    }, RETRY_MS);
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
  const giftStatus = element("p", { class: "gift-status", role: "status" });
  const giftButton = ([english, chinese, value]) =>
    button(
      "gift",
      element("span", {}, bilingual(english, chinese), element("b", {}, String(value))),
      async () => {
        giftStatus.replaceChildren();
        const { result } = await phone.request("/golden", {
          send_gift: "1",
          object: friend.userId,
          value: String(value),
          description: english,
          requestId: crypto.randomUUID?.() ?? "",
        });
        if (result !== "0000") return;
        await phone.refreshCoins();
        giftStatus.replaceChildren(
          bilingual(`Sent a ${english} for ${value} coins.`, `已送出${chinese}，${value} 金币。`),
        );
      },
    );
  const card = element("div", { class: "card", hidden: isReal(url) }, avatar(friend));
  const onAir = element("p", { class: "on-air" }, element("i", {}), bilingual("Live", "直播中"));
  const node = element(
    "div",
    { class: "tab watch" },
    element("div", { class: "player" }, video, card, onAir, caption),
    heading(friend.title ?? friend.nickname ?? friend.userId),
    element("div", { class: "gifts" }, ...GIFTS.map(giftButton)),
    element("p", { class: "hint" }, bilingual("Balance: ", "余额："), balance, bilingual(" coins", " 金币")),
    giftStatus,
    button("link", bilingual("Back to friends", "返回好友"), async () => phone.show("friends")),
  );
  const setCaption = (content) => caption.replaceChildren(...(content ? [content] : []));
  if (isReal(url)) {
    queueMicrotask(() => play(url, video, setCaption));
  } else {
    setCaption(bilingual("Placeholder: no media server is configured.", "占位画面：未配置流媒体服务器。"));
  }

  function showCoins(coins) {
    balance.textContent = String(coins);
  }

  /** Replaces the video if the host is no longer a friend who is live. */
  function showFriends(friends) {
    if (friends.some(({ userId, liveStatus }) => userId === friend.userId && liveStatus === "on")) return;
    video.remove();
    onAir.remove();
    card.hidden = false;
    setCaption(bilingual("The host has ended the live stream.", "主播已下播。"));
  }

  return { node, showCoins, showFriends };
}
