// The live tab: opens the room and shows the publish URL as text and as a QR code.

import qrcode from "../vendor/qrcode.js";

import { copyText, element } from "../shared/dom.js";
import { bilingual, localize, localized } from "../shared/language.js";
import { focusHeading, heading } from "./focus.js";
import { button, field, form } from "./form.js";

/** Server and stream key, as OBS needs them, from the stream's JSON. */
function fromStream({ hosts, hub, title, publishKey }) {
  return { server: `rtmp://${hosts.publish.rtmp}/${hub}`, key: `${title}?key=${publishKey}` };
}

/** Server and stream key from a publish URL. */
function fromUrl(url) {
  const [name] = url.split("?");
  const end = name.lastIndexOf("/");
  return { server: url.slice(0, end), key: url.slice(end + 1) };
}

function qrCode(text) {
  const qr = qrcode(0, "M");
  qr.addData(text);
  qr.make();
  const size = qr.getModuleCount();
  let path = "";
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      if (qr.isDark(row, column)) path += `M${column + 2} ${row + 2}h1v1h-1z`;
    }
  }
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${size + 4} ${size + 4}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("class", "qr");
  const modules = document.createElementNS(svg.namespaceURI, "path");
  modules.setAttribute("d", path);
  svg.append(modules);
  localize(svg, "ariaLabel", "QR code of the publish URL", "推流地址二维码");
  return svg;
}

function copyRow(english, chinese, text) {
  const label = element("span", {}, bilingual("Copy", "复制"));
  return element(
    "div",
    { class: "copied" },
    element("span", {}, bilingual(english, chinese)),
    element("code", {}, text),
    button("link", label, async () => {
      await copyText(text);
      label.replaceChildren(bilingual("Copied", "已复制"));
      setTimeout(() => label.replaceChildren(bilingual("Copy", "复制")), 1600);
    }),
  );
}

export function liveTab(phone) {
  const node = element("div", { class: "tab" });
  const balance = element("output", {}, String(phone.coins));

  function showCoins(coins) {
    balance.textContent = String(coins);
  }

  function showScreen(...children) {
    node.replaceChildren(...children);
    if (node.isConnected) focusHeading(phone.node);
  }

  function showOffline() {
    const title = field(bilingual("Title", "标题"), {
      name: "title",
      maxlength: "100",
      value: localized("An evening by the harbour", "港湾夜话"),
    });
    showScreen(
      heading(bilingual("Go live", "开播")),
      form([title.node], bilingual("Go live", "开始直播"), async () => {
        const { result, message } = await phone.request("/room", { live: "1", title: title.input.value });
        if (result !== "0000") return;
        // The API document specifies the stream as JSON inside a string.
        const target = fromStream(JSON.parse(message));
        // With signed publish URLs, the heartbeat returns the URL, which expires.
        const url = await phone.publishUrl();
        phone.live = { ...(url ? fromUrl(url) : target), title: title.input.value };
        phone.save();
        showLive(phone.live);
      }),
    );
  }

  function showLive({ server, key, title }) {
    showScreen(
      element("p", { class: "on-air" }, element("i", {}), bilingual("Live", "直播中")),
      heading(title || bilingual("Untitled", "无标题")),
      element("p", { class: "hint" }, bilingual("Balance: ", "余额："), balance, bilingual(" coins", " 金币")),
      qrCode(`${server}/${key}`),
      copyRow("Server", "服务器", server),
      copyRow("Stream key", "推流码", key),
      element(
        "p",
        { class: "hint" },
        bilingual("In OBS: Settings, Stream, Custom. Keep the stream key secret.", "OBS：设置 → 直播 → 自定义。请勿泄露推流码。"),
      ),
      button("quiet-button", bilingual("End", "结束直播"), async () => {
        const { result, reason } = await phone.request("/room", { leave: "1" });
        // The server closes a room whose stream has ended.
        if (result !== "0000" && reason !== "room_not_open") return;
        phone.live = null;
        phone.save();
        showOffline();
      }),
    );
  }

  if (phone.live) showLive(phone.live);
  else showOffline();
  return { title: bilingual("Live", "直播"), node, showCoins };
}
