// The key of the person at this browser: an Ed25519 key of WebCrypto, kept in IndexedDB, which cannot be taken out again.
const conclaveKeys = (() => {
  "use strict";

  const STORE = "keys", MINE = "mine";
  const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  function opened() {
    return new Promise((resolve, reject) => {
      const asked = indexedDB.open("conclave", 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
  }

  async function within(mode, act) {
    const database = await opened();
    try {
      return await new Promise((resolve, reject) => {
        const turn = database.transaction(STORE, mode);
        const asked = act(turn.objectStore(STORE));
        turn.oncomplete = () => resolve(asked.result);
        turn.onerror = turn.onabort = () => reject(turn.error);
      });
    } finally {
      database.close();
    }
  }

  function usable() {
    if (!window.isSecureContext || !crypto.subtle) {
      throw new Error("this browser signs only on https or on this machine (127.0.0.1)");
    }
  }

  const load = () => within("readonly", (store) => store.get(MINE));
  const forget = () => within("readwrite", (store) => store.delete(MINE));

  async function keep(privateKey, publicKey) {
    await within("readwrite", (store) => store.put({ privateKey, publicKey }, MINE));
    return publicKey;
  }

  async function make() {
    usable();
    const pair = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
    return keep(pair.privateKey, hex(await crypto.subtle.exportKey("raw", pair.publicKey)));
  }

  // The public half of a key file is found while it may be taken out; what is kept may not.
  async function read(text) {
    usable();
    const found = /-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----/.exec(text);
    if (!found) throw new Error("expected a private key in PEM, as `conclave keys new` writes it");
    const bytes = Uint8Array.from(atob(found[1].replace(/\s/g, "")), (each) => each.charCodeAt(0));
    const open = await crypto.subtle.importKey("pkcs8", bytes, "Ed25519", true, ["sign"]);
    const { x } = await crypto.subtle.exportKey("jwk", open);
    const half = atob(x.replace(/-/g, "+").replace(/_/g, "/"));
    const shut = await crypto.subtle.importKey("pkcs8", bytes, "Ed25519", false, ["sign"]);
    return keep(shut, hex(Uint8Array.from(half, (each) => each.charCodeAt(0))));
  }

  async function sign(key, text) {
    return hex(await crypto.subtle.sign("Ed25519", key.privateKey, new TextEncoder().encode(text)));
  }

  return { load, forget, make, read, sign };
})();

(() => {
  "use strict";

  const state = document.getElementById("key-state");
  if (!state) return;
  const trust = document.getElementById("key-trust"), forget = document.getElementById("key-forget");

  async function show() {
    const key = await conclaveKeys.load();
    forget.disabled = !key;
    trust.hidden = true;
    if (!key) { state.textContent = "There is no key in this browser."; return; }
    const trusted = document.querySelector(`[data-public="${CSS.escape(key.publicKey)}"]`);
    state.textContent = `Public key ${key.publicKey}${trusted ? ", trusted by control." : ", not trusted by control."}`;
    trust.hidden = Boolean(trusted);
    trust.querySelector("code").textContent =
      `conclave keys trust ${state.dataset.name} ${key.publicKey} --holder ${state.dataset.name} --reason "…"`;
  }

  const attempt = (act) => async (event) => {
    try {
      await act(event);
      await show();
    } catch (error) {
      state.textContent = `That failed: ${error.message}`;
    }
  };

  document.getElementById("key-new").addEventListener("click", attempt(conclaveKeys.make));
  forget.addEventListener("click", attempt(conclaveKeys.forget));
  document.getElementById("key-file").addEventListener("change", attempt(async (event) => {
    await conclaveKeys.read(await event.target.files[0].text());
    event.target.value = "";
  }));
  attempt(async () => {})();
})();
