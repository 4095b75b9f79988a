//! Encrypted files as strangers change them: places lie in the file, and whatever was changed, a value that is opened is one that was encrypted.
#![no_main]

#[path = "../../../compiler/sops/tests/it/encoder.rs"]
mod encoder;

use std::sync::LazyLock;

use encoder::{Encoder, Values};
use libfuzzer_sys::fuzz_target;
use strake_sops::{Keys, open};

const NAMES: [&str; 5] = ["a.yaml", "a.json", "a.env", "a.ini", "key.pem"];
const SECRETS: [(&str, &str, &str); 3] = [("user", "ada", "str"), ("password", "hunter2hunter2", "str"), ("port", "5432", "int")];

struct Known {
    text: String,
    keys: Keys,
}

/// A file that opens, for edits.
static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let encoder = Encoder::new();
    let mut values = Values::only("^(data|stringData)$");
    let mut text = String::from("kind: Secret\nstringData:\n");
    values.plain("kind", "Secret");
    for (name, value, kind) in SECRETS {
        let sealed = encoder.value(&mut values, &format!("stringData.{name}"), value, kind);
        text.push_str(&format!("    {name}: {sealed}\n"));
    }
    values.only_encrypted = text.is_empty();
    text.push_str(&encoder.block(&values));
    let mut keys = Keys::default();
    keys.add("the target", &encoder.secret_key()).expect("a key");
    let opened = open("a.yaml", &text, &keys).expect("it is encrypted");
    assert_eq!((opened.failure, opened.secrets.len()), (None, SECRETS.len()));
    Known { text, keys }
});

/// Opens and checks what every opened file is.
fn opened(name: &str, text: &str) {
    let Some(opened) = open(name, text, &KNOWN.keys) else { return };
    for secret in &opened.secrets {
        assert!(text.get(secret.start as usize..secret.end as usize).is_some(), "{secret:?} is no part of the file");
    }
    match opened.failure {
        Some((error, at)) => {
            assert!(text.is_char_boundary(at), "{at} is no place of the file");
            assert!(opened.plain.is_empty(), "a file that does not open shows nothing");
            let _ = (error.to_string(), error.help());
        }
        None => {
            for secret in &opened.secrets {
                let value = secret.value.to_text();
                assert!(SECRETS.iter().any(|(_, known, _)| *known == value), "{value:?} was never encrypted");
            }
        }
    }
}

/// The known file with pieces replaced: a place (two bytes), how much of it goes, what comes, up to a zero byte.
fn edited(bytes: &[u8]) -> String {
    let mut text = KNOWN.text.clone().into_bytes();
    for edit in bytes.split(|byte| *byte == 0).take(16) {
        let [high, low, gone, new @ ..] = edit else { continue };
        let start = usize::from(u16::from_be_bytes([*high, *low])) % text.len().max(1);
        let end = (start + usize::from(*gone)).min(text.len());
        text.splice(start.min(end)..end, new.iter().copied());
    }
    String::from_utf8_lossy(&text).into_owned()
}

fuzz_target!(|bytes: &[u8]| {
    let [choice, rest @ ..] = bytes else { return };
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    if choice & 0x80 != 0 {
        opened(if choice & 0x40 != 0 { "a.yaml" } else { name }, &edited(rest));
    } else if let Ok(text) = std::str::from_utf8(rest) {
        opened(name, text);
        // Keys are read from files of people too.
        let _ = Keys::default().add("a file", text);
    }
});
