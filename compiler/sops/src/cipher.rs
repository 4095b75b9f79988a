//! One encrypted value: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use strake_source::Plain;

/// SOPS takes 32 random bytes, not 12.
type Cipher = AesGcm<Aes256, U32>;

const OPEN: &str = "ENC[AES256_GCM,";

/// Whether a text has the form of an encrypted value.
pub(crate) fn is_encrypted(text: &str) -> bool {
    text.starts_with(OPEN) && text.ends_with(']')
}

/// A value, opened: its bytes, and what they stand for. `path` is what it is bound to. `None` when it is not what was encrypted there.
pub(crate) fn decrypt(text: &str, key: &[u8; 32], path: &str) -> Option<(Vec<u8>, Plain)> {
    let mut fields = text.strip_prefix(OPEN)?.strip_suffix(']')?.split(',').map(|field| field.split_once(':'));
    let mut field = |name: &str| fields.next().flatten().filter(|(found, _)| *found == name).map(|(_, value)| value);
    let mut bytes = |name: &str| STANDARD.decode(field(name)?).ok();
    let (mut message, nonce, tag) = (bytes("data")?, bytes("iv")?, bytes("tag")?);
    let kind = field("type")?;
    if nonce.len() != 32 || tag.len() != 16 {
        return None;
    }
    message.extend(tag);
    let cipher = Cipher::new_from_slice(key).ok()?;
    let opened = cipher.decrypt(Nonce::<U32>::from_slice(&nonce), Payload { msg: &message, aad: path.as_bytes() }).ok()?;
    let plain = plain(kind, &opened)?;
    Some((opened, plain))
}

fn plain(kind: &str, bytes: &[u8]) -> Option<Plain> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    Some(match kind {
        "int" => Plain::Int(text.parse().ok()?),
        "float" => Plain::Float(text.parse().ok().filter(|number: &f64| number.is_finite())?),
        "bool" => Plain::Bool(text.eq_ignore_ascii_case("true")),
        "str" | "bytes" | "time" | "comment" => Plain::Text(text),
        _ => return None,
    })
}
