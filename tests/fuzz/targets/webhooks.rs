//! Deliveries of webhooks: headers and a body of anybody. Without the proof none is heeded, whatever else it says; with it, what is heeded is a JSON object.
#![no_main]

use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sha2::Sha256;
use strake_sync::{Delivery, Hook, Refused, read_hook};

const SECRET: &[u8] = b"what only the forge knows";
const NAMES: [&str; 10] = [
    "x-github-event",
    "x-gitlab-event",
    "x-gitea-event",
    "x-forgejo-event",
    "x-hub-signature-256",
    "x-gitlab-token",
    "x-gitea-signature",
    "x-forgejo-signature",
    "content-type",
    "x-other",
];

fn proof(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("a key");
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a delivery without JSON in it, plain or in a form, is refused for.
fn is_object(body: &[u8]) -> bool {
    let object = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.is_object());
    let form = form_urlencoded::parse(body).any(|(name, value)| name == "payload" && object(value.as_bytes()));
    object(body) || form
}

fn heeded(read: &Result<Delivery, Refused>, body: &[u8]) {
    match read {
        Ok(Delivery::Push(_)) => assert!(is_object(body), "{:?}", String::from_utf8_lossy(body)),
        Ok(Delivery::Other) | Err(_) => {}
    }
}

// `how`, headers as lines (a byte for the name, then the value), an empty line, the body.
fuzz_target!(|bytes: &[u8]| {
    let mut headers: Vec<(&str, String)> = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        let [name, value @ ..] = line else { break };
        headers.push((NAMES[usize::from(*name) % NAMES.len()], String::from_utf8_lossy(value).into_owned()));
    }
    let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    assert!(matches!(read_hook(&Hook { header: &find, body: rest }, b""), Err(_)), "no secret is no secret that fits");
    let guessed = read_hook(&Hook { header: &find, body: rest }, SECRET);
    let knows = headers.iter().any(|(_, value)| value.contains(&proof(rest)) || value.as_bytes() == SECRET);
    assert!(guessed.is_err() || knows, "heeded without a proof: {headers:?}");
    heeded(&guessed, rest);

    // The same from somebody who knows the secret.
    let good = proof(rest);
    let signed = |name: &str| match name {
        "x-hub-signature-256" => Some(format!("sha256={good}")),
        "x-gitea-signature" | "x-forgejo-signature" => Some(good.clone()),
        "x-gitlab-token" => Some(String::from_utf8_lossy(SECRET).into_owned()),
        _ => find(name),
    };
    let read = read_hook(&Hook { header: &signed, body: rest }, SECRET);
    assert!(!matches!(read, Err(Refused::Unsigned | Refused::Signature)), "{headers:?}");
    heeded(&read, rest);
});
