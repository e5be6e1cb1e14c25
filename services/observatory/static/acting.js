// Issue commands: ask for the entry, sign its bytes in this browser, send the signature. A halt is one key away on every
// page, and needs nothing of the page.
(() => {
  "use strict";

  const TRIES = 5;

  async function post(path, body) {
    const token = document.querySelector('meta[name="csrf-token"]').content;
    const response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json", "x-csrftoken": token },
      body: JSON.stringify(body),
    });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    throw Object.assign(new Error(answer.detail || `the server answered ${response.status}`), answer);
  }

  // The server writes the entry, so what is signed is compared with what was asked for.
  function check(entry, asked) {
    const read = JSON.parse(entry);
    const differs = [
      ["actor", read.actor, asked.actor],
      ["reason", read.reason, asked.reason],
      ["id", read.command_id, asked.command_id],
      ["command", JSON.stringify(read.command), asked.command],
    ].find(([, there, wanted]) => there !== wanted);
    if (differs) throw new Error(`nothing was signed: the ${differs[0]} differs from what was shown; look again`);
  }

  async function issue(name, asked) {
    const key = await conclaveKeys.load().catch(() => undefined);
    const { actor, command, ...sent } = asked;
    for (let tries = 1; ; tries += 1) {
      const drafted = await post(`/act/${name}/draft`, { ...sent, public_key: key ? key.publicKey : "" });
      if (drafted.done) return drafted;
      check(drafted.entry, asked);
      try {
        return await post("/act/submit", { entry: drafted.entry, signature: await conclaveKeys.sign(key, drafted.entry) });
      } catch (error) {
        // A halt goes on top of whatever came first; anything else is looked at again.
        if (!error.overtaken || name !== "halt" || tries >= TRIES) throw error;
      }
    }
  }

  function told(form, words, good) {
    const outcome = form.querySelector(".outcome");
    outcome.classList.toggle("passed", good);
    outcome.classList.toggle("failed", !good);
    outcome.textContent = words;
  }

  async function carryOut(form, name, asked) {
    const button = form.querySelector('[type="submit"]');
    button.disabled = true;
    told(form, "Issuing…", true);
    try {
      const { done } = await issue(name, asked);
      told(form, done, true);
      return true;
    } catch (error) {
      told(form, error.message, false);
      button.disabled = false;
      return false;
    }
  }

  const id = () => [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  function halting() {
    const dialog = document.getElementById("halt");
    const form = dialog.querySelector("form"), reason = form.elements.namedItem("reason");
    for (const link of document.querySelectorAll("[data-halt]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        if (dialog.open) return;
        form.querySelector('[type="submit"]').disabled = false;
        told(form, "", true);
        dialog.showModal();
        reason.focus();
        reason.select();
      });
    }
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const words = reason.value.trim();
      if (!words) return;
      await carryOut(form, "halt", {
        values: {}, reason: words, command_id: id(), actor: form.dataset.actor, command: '{"type":"halt"}',
      });
      dialog.querySelector("[data-close]").focus();
    });
  }

  function confirming(form) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const { _csrf_token: _, reason, command_id, expects, ...values } = Object.fromEntries(new FormData(form));
      const asked = { values, reason, command_id, actor: form.dataset.actor };
      if (expects !== undefined) asked.expects = Number(expects);
      asked.command = JSON.stringify(JSON.parse(form.dataset.command));
      await carryOut(form, form.dataset.act, asked);
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    halting();
    for (const form of document.querySelectorAll("form.confirm[data-act]")) confirming(form);
  });
})();
