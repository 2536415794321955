// Passkeys: hands the form of the page to allauth's own script, and says why a passkey could not be used.

const SENTENCES = {
  NotAllowedError: "The browser did not offer a passkey, or you left its window. Try again or sign in another way.",
  InvalidStateError: "This device has a passkey for you already.",
  SecurityError: "Passkeys need HTTPS and a host name; they can't be used at this address.",
};

function explain(error) {
  if (!window.PublicKeyCredential) return SENTENCES.SecurityError;
  return SENTENCES[error?.name] ?? "That did not work. Try again or sign in another way.";
}

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const place = document.querySelector("[data-passkey-fault]");
  if (!place) return;
  place.textContent = explain(event.detail.exception);
  place.hidden = false;
});

const ids = { credential: "passkey-credential", data: "passkey-data", passwordless: "id_passwordless" };
for (const name of ["login", "authenticate", "add"]) ids[name] = "passkey-use";
const form = document.querySelector("[data-passkey]");
if (form) window.allauth.webauthn.forms[`${form.dataset.passkey}Form`]({ ids });
