//! Encodings, digests and identifiers.

use std::fmt::Write as _;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::Digest as _;

use super::{Arguments, Function, Host, row, with_nulls};
use crate::value::Value;

type Answer = Result<Value, String>;

pub(super) const TABLE: &[Function] = &[
    row("base64decode", 1, 1, base64_decode),
    row("base64encode", 1, 1, |a, _| Ok(BASE64_STANDARD.encode(a.text(0)?).into())),
    row("bcrypt", 1, 2, |_, _| Err("not supported: its result differs each time, so that nothing built with it is found again".to_owned())),
    row("csvdecode", 1, 1, csv_decode),
    row("jsondecode", 1, 1, json_decode),
    with_nulls("jsonencode", 1, 1, |a, _| Ok(go_json(&a.value(0).to_json()).into())),
    row("md5", 1, 1, |a, _| Ok(hex(&md5::Md5::digest(a.text(0)?)).into())),
    row("rsadecrypt", 2, 2, |_, _| Err("not supported: give secrets to a build with the attribute secret".to_owned())),
    row("sha1", 1, 1, |a, _| Ok(hex(&sha1::Sha1::digest(a.text(0)?)).into())),
    row("sha256", 1, 1, |a, _| Ok(hex(&sha2::Sha256::digest(a.text(0)?)).into())),
    row("sha512", 1, 1, |a, _| Ok(hex(&sha2::Sha512::digest(a.text(0)?)).into())),
    row("urlencode", 1, 1, |a, _| Ok(url_encode(&a.text(0)?).into())),
    row("uuidv4", 0, 0, |_, host| Ok(uuid_v4(host).into())),
    row("uuidv5", 2, 2, uuid_v5),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn base64_decode(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let bytes = BASE64_STANDARD.decode(arguments.text(0)?).map_err(|error| format!("this is no base64: {error}"))?;
    String::from_utf8(bytes).map(Value::from).map_err(|_| "what it decodes to is not text".to_owned())
}

fn json_decode(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let value: serde_json::Value = serde_json::from_str(&arguments.text(0)?).map_err(|error| format!("this is no JSON: {error}"))?;
    Ok(Value::from_json(&value))
}

/// JSON as Go writes it: `<`, `>` and `&` as escapes.
fn go_json(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn csv_decode(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let text = arguments.text(0)?;
    let mut rows = text.lines().filter(|line| !line.is_empty());
    let read = |line: &str| crate::entry::fields(line).ok_or_else(|| format!("`{line}`: a quote is not closed in its line"));
    let Some(names) = rows.next().map(read).transpose()? else { return Err("the line with the names is missing".to_owned()) };
    let each = |line: &str| {
        let fields = read(line)?;
        if fields.len() != names.len() {
            return Err(format!("`{line}` has {} fields, expected {}", fields.len(), names.len()));
        }
        Ok(Value::Object(names.iter().cloned().zip(fields.into_iter().map(Value::from)).collect()))
    };
    Ok(Value::List(rows.map(each).collect::<Result<_, String>>()?))
}

fn url_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b' ' => encoded.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => encoded.push(char::from(byte)),
            byte => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = (bytes[6] & 0x0f) | (version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

fn first_16(bytes: &[u8]) -> [u8; 16] {
    let mut first = [0; 16];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    first
}

/// Each call draws another from the caller's seed.
fn uuid_v4(host: &Host) -> String {
    host.drawn.set(host.drawn.get() + 1);
    let mut hasher = sha2::Sha256::new();
    hasher.update(host.seed);
    hasher.update(host.drawn.get().to_be_bytes());
    uuid(first_16(&hasher.finalize()), 4)
}

fn uuid_v5(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let space = match arguments.text(0)?.as_str() {
        "dns" | "DNS" => "6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned(),
        "url" | "URL" => "6ba7b811-9dad-11d1-80b4-00c04fd430c8".to_owned(),
        "oid" | "OID" => "6ba7b812-9dad-11d1-80b4-00c04fd430c8".to_owned(),
        "x500" | "X500" => "6ba7b814-9dad-11d1-80b4-00c04fd430c8".to_owned(),
        other => other.to_owned(),
    };
    let digits = space.replace('-', "");
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let number = number.ok_or_else(|| format!("`{space}` is no namespace: expected dns, url, oid, x500 or a UUID"))?;
    let mut hasher = sha1::Sha1::new();
    hasher.update(number.to_be_bytes());
    hasher.update(arguments.text(1)?);
    Ok(uuid(first_16(&hasher.finalize()), 5).into())
}
