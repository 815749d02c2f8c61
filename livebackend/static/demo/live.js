// Going live: where a broadcaster's program publishes, as text and as a code to scan.

import qrcode from "../vendor/qrcode.js";

import { copy, element } from "../shared/dom.js";
import { both, follow, say } from "../shared/language.js";
import { button, field, form } from "./form.js";

/** Server and key as OBS asks for them. */
function publishing({ hosts, hub, title, publishKey }) {
  return { server: `rtmp://${hosts.publish.rtmp}/${hub}`, key: `${title}?key=${publishKey}` };
}

/** The same of a whole URL. */
function parted(url) {
  const [name] = url.split("?");
  const end = name.lastIndexOf("/");
  return { server: url.slice(0, end), key: url.slice(end + 1) };
}

function code(text) {
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
  follow(svg, "ariaLabel", "the publish address as a QR code", "推流地址二维码");
  return svg;
}

function copied(english, chinese, text) {
  const label = element("span", {}, both("Copy", "复制"));
  return element(
    "div",
    { class: "copied" },
    element("span", {}, both(english, chinese)),
    element("code", {}, text),
    button("link", label, async () => {
      await copy(text);
      label.replaceChildren(both("Copied", "已复制"));
      setTimeout(() => label.replaceChildren(both("Copy", "复制")), 1600);
    }),
  );
}

export function liveTab(phone) {
  const node = element("div", { class: "tab" });

  function off() {
    const title = field(both("Title", "标题"), {
      name: "title",
      maxlength: "100",
      value: say("An evening by the harbour", "港湾夜话"),
    });
    node.replaceChildren(
      element("h3", {}, both("Go live", "开播")),
      form([title.node], both("Go live", "开始直播"), async () => {
        const { result, message } = await phone.ask("/room", { live: "1", title: title.input.value });
        if (result !== "0000") return;
        // The document prints the stream's JSON inside a string.
        const known = publishing(JSON.parse(message));
        // Other kinds of publish security sign a URL for a while, which a heartbeat tells.
        const url = await phone.publishUrl();
        on(url ? parted(url) : known, title.input.value);
        await phone.happened();
      }),
    );
  }

  function on({ server, key }, title) {
    node.replaceChildren(
      element("p", { class: "on-air" }, element("i", {}), both("On air", "直播中")),
      element("h3", {}, title || both("Untitled", "无标题")),
      code(`${server}/${key}`),
      copied("Server", "服务器", server),
      copied("Stream key", "推流码", key),
      element(
        "p",
        { class: "hint" },
        both("For OBS: Settings, Stream, Custom. Keep the key to yourself.", "OBS：设置 → 直播 → 自定义。推流码请勿外泄。"),
      ),
      button("quiet-button", both("End", "结束直播"), async () => {
        const { result } = await phone.ask("/room", { leave: "1" });
        if (result !== "0000") return;
        off();
        await phone.happened();
      }),
    );
  }

  off();
  return { title: both("Live", "直播"), node };
}
