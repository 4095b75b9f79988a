//! A writer of SOPS files, by the description of the format, for tests.

use std::io::Write as _;
use std::iter;

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce};
use age::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

const MODIFIED: &str = "2026-11-21T18:00:00Z";
const KEY: [u8; 32] = [7; 32];

/// Whoever encrypts.
pub struct Encoder {
    identity: age::x25519::Identity,
}

/// What has been written into a file so far.
pub struct Values {
    counted: Vec<Vec<u8>>,
    encrypted: Vec<Vec<u8>>,
    rule: String,
    pub only_encrypted: bool,
}

impl Values {
    /// Only values below a key that fits are encrypted.
    pub fn only(pattern: &str) -> Values {
        Values { counted: Vec::new(), encrypted: Vec::new(), rule: format!("encrypted_regex: {pattern}"), only_encrypted: false }
    }

    /// A value that stays as it is.
    pub fn plain(&mut self, _path: &str, value: &str) {
        self.counted.push(value.as_bytes().to_vec());
    }
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder { identity: age::x25519::Identity::generate() }
    }

    pub fn secret_key(&self) -> String {
        self.identity.to_string().expose_secret().to_owned()
    }

    pub fn recipient(&self) -> String {
        self.identity.to_public().to_string()
    }

    /// A value, encrypted, bound to its path (with dots).
    pub fn value(&self, values: &mut Values, path: &str, value: &str, kind: &str) -> String {
        values.counted.push(value.as_bytes().to_vec());
        values.encrypted.push(value.as_bytes().to_vec());
        let bound: String = path.split('.').map(|key| format!("{key}:")).collect();
        encrypt(value, &bound, kind)
    }

    /// The block at the end.
    pub fn block(&self, values: &Values) -> String {
        let mut digest = Sha512::new();
        if values.only_encrypted {
            digest.update(Sha256::digest(b"sops"));
        }
        let counted = if values.only_encrypted { &values.encrypted } else { &values.counted };
        counted.iter().for_each(|value| digest.update(value));
        let mac: String = digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        let lines: String = self.wrapped().lines().map(|line| format!("            {line}\n")).collect();
        let only = if values.only_encrypted { "    mac_only_encrypted: true\n" } else { "" };
        format!(
            "sops:\n    age:\n        - recipient: {}\n          enc: |\n{lines}    lastmodified: \"{MODIFIED}\"\n    mac: {}\n    {}\n{only}    version: 3.11.0\n",
            self.recipient(),
            encrypt(&mac, MODIFIED, "str"),
            values.rule,
        )
    }

    fn wrapped(&self) -> String {
        let recipient = self.identity.to_public();
        let encryptor = age::Encryptor::with_recipients(iter::once(&recipient as &dyn age::Recipient)).expect("a recipient");
        let mut out = Vec::new();
        let armor = age::armor::ArmoredWriter::wrap_output(&mut out, age::armor::Format::AsciiArmor).expect("armour");
        let mut writer = encryptor.wrap_output(armor).expect("a stream");
        writer.write_all(&KEY).expect("written");
        writer.finish().and_then(age::armor::ArmoredWriter::finish).expect("finished");
        String::from_utf8(out).expect("text")
    }
}

fn encrypt(value: &str, bound: &str, kind: &str) -> String {
    // SOPS writes nothing for nothing.
    if value.is_empty() {
        return String::new();
    }
    let nonce: [u8; 32] = Sha256::digest(format!("{bound} {value}")).into();
    let cipher = AesGcm::<Aes256, U32>::new_from_slice(&KEY).expect("a key");
    let sealed = cipher.encrypt(Nonce::<U32>::from_slice(&nonce), Payload { msg: value.as_bytes(), aad: bound.as_bytes() }).expect("encrypted");
    let (data, tag) = sealed.split_at(sealed.len() - 16);
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    format!("ENC[AES256_GCM,data:{},iv:{},tag:{},type:{kind}]", text(data), text(&nonce), text(tag))
}
