// Avatars: the uploaded picture, or the first letter of the nickname.

import { element } from "../shared/dom.js";

/** The URL of a picture; `headImage` can be a path on the server's disk (API document). */
function pictureUrl(headImage) {
  if (/^https?:/.test(headImage)) return headImage;
  const match = headImage.match(/pictures\/[0-9a-f]{32}\/[^/]+$/);
  return match ? match[0] : "";
}

export function avatar({ nickname, userId, headImage }) {
  const name = nickname ?? userId ?? "?";
  const url = headImage ? pictureUrl(headImage) : "";
  if (url) return element("img", { class: "avatar", src: url, alt: "" });
  return element("span", { class: "avatar", "aria-hidden": "true" }, [...name][0]);
}

const COLOURS = { a: ["#f2b8a2", "#c02d1b"], b: ["#a8c7e8", "#1e4f8f"] };

/** Draws a default avatar: a letter inside rings, as a PNG file. */
export async function drawAvatar(letter, side) {
  const canvas = element("canvas", { width: 256, height: 256 });
  const pen = canvas.getContext("2d");
  const [light, dark] = COLOURS[side];
  pen.fillStyle = light;
  pen.fillRect(0, 0, 256, 256);
  pen.strokeStyle = dark;
  pen.globalAlpha = 0.25;
  pen.lineWidth = 10;
  for (const radius of [92, 122, 152]) {
    pen.beginPath();
    pen.arc(128, 128, radius, 0, 2 * Math.PI);
    pen.stroke();
  }
  pen.globalAlpha = 1;
  pen.fillStyle = dark;
  pen.font = "700 132px 'Schibsted Grotesk', 'PingFang SC', 'Noto Sans CJK SC', sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(letter, 128, 136);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return new File([blob], "avatar.png", { type: "image/png" });
}
