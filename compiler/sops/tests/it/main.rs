//! Files that an encoder of the tests made by the format's description; and, where the real `sops` is installed, files that it made.

#![expect(clippy::disallowed_methods, reason = "tests write files for the real sops and ask it")]

mod encoder;
mod real;

use strake_sops::{Keys, Opened, SopsError, open};

use encoder::{Encoder, Values};

fn keys(encoder: &Encoder) -> Keys {
    let mut keys = Keys::default();
    keys.add("the test", &encoder.secret_key()).expect("a key");
    keys
}

fn texts(opened: &Opened) -> Vec<String> {
    opened.secrets.iter().map(|secret| secret.value.to_text()).collect()
}

fn failure(name: &str, text: &str, keys: &Keys) -> SopsError {
    let opened = open(name, text, keys).expect("it is encrypted");
    assert!(opened.plain.is_empty());
    opened.failure.expect("it cannot be opened").0
}

/// A Secret as most people encrypt it: only its data.
fn secret(encoder: &Encoder) -> String {
    let mut values = Values::only("^(data|stringData)$");
    let mut text = String::from("apiVersion: v1\nkind: Secret\nmetadata:\n    name: db\nstringData:\n");
    ["v1", "Secret", "db"].iter().zip(["apiVersion", "kind", "metadata.name"]).for_each(|(value, path)| values.plain(path, value));
    for (name, value) in [("user", "ada"), ("password", "hunter2hunter2"), ("empty", "")] {
        let encrypted = encoder.value(&mut values, &format!("stringData.{name}"), value, "str");
        text.push_str(&format!("    {name}: {encrypted}\n"));
    }
    text + &encoder.block(&values)
}

#[test]
fn values_are_opened_where_they_stand() {
    let encoder = Encoder::new();
    let text = secret(&encoder);
    let opened = open("db.yaml", &text, &keys(&encoder)).expect("it is encrypted");
    assert_eq!(opened.failure, None);
    assert_eq!(texts(&opened), ["ada", "hunter2hunter2"]);
    for secret in &opened.secrets {
        assert!(text[secret.start as usize..secret.end as usize].starts_with("ENC["));
    }
    let plain = "apiVersion: v1\nkind: Secret\nmetadata:\n    name: db\nstringData:\n    user: ada\n    password: hunter2hunter2\n    empty: \n";
    assert_eq!(String::from_utf8_lossy(&opened.plain), plain);
    assert!(!format!("{opened:?}").contains("hunter2"));
}

#[test]
fn what_was_never_encrypted_is_left_alone() {
    let keys = Keys::default();
    for text in ["kind: Secret\n", "sops: {age: []}\nmac: x\n", "# sops mac\na: b\n", "", "sops: x\nmac: [", "{\"sops\": 1, \"mac\": 2}"] {
        assert_eq!(open("a.yaml", text, &keys), None, "{text}");
    }
}

#[test]
fn a_change_by_hand_is_found() {
    let encoder = Encoder::new();
    let (text, keys) = (secret(&encoder), keys(&encoder));
    // A field outside the encrypted ones, one left out, two of them exchanged, one replaced by a plain one.
    assert_eq!(failure("a.yaml", &text.replace("name: db", "name: dc"), &keys), SopsError::Mac);
    let without: String = text.lines().filter(|line| !line.starts_with("    user:")).map(|line| format!("{line}\n")).collect();
    assert_eq!(failure("a.yaml", &without, &keys), SopsError::Mac);
    let swapped = text.replace("    user:", "    x:").replace("    password:", "    user:").replace("    x:", "    password:");
    assert_eq!(failure("a.yaml", &swapped, &keys), SopsError::Value { path: "stringData.password".to_owned() });
    let user = text.lines().find(|line| line.starts_with("    user:")).expect("a line");
    assert_eq!(failure("a.yaml", &text.replace(user, "    user: eve"), &keys), SopsError::Bare { path: "stringData.user".to_owned() });
    let error = failure("a.yaml", &text.replace("lastmodified: \"2026", "lastmodified: \"2027"), &keys);
    assert_eq!(error, SopsError::Mac);
    assert!(!error.to_string().contains("ada") && error.help().is_some());
}

#[test]
fn keys_that_do_not_fit_are_told() {
    let (encoder, other) = (Encoder::new(), Encoder::new());
    let text = secret(&encoder);
    let SopsError::WrongKey { sources, recipients } = failure("a.yaml", &text, &keys(&other)) else { panic!("another error") };
    assert_eq!((sources.as_str(), recipients), ("the test", encoder.recipient()));
    assert!(matches!(failure("a.yaml", &text, &Keys::default()), SopsError::NoKey { .. }));
    let pgp = text.replace("    age:\n", "    pgp:\n");
    assert_eq!(failure("a.yaml", &pgp, &keys(&encoder)), SopsError::Service { services: "pgp".to_owned() });
    let parts = text.replace("    age:\n", "    key_groups:\n");
    assert!(matches!(failure("a.yaml", &parts, &keys(&encoder)), SopsError::Unsupported { .. }));
    let ini = "[db]\npassword = ENC[AES256_GCM,data:x]\n\n[sops]\nmac = ENC[AES256_GCM,data:x]\n";
    assert!(matches!(failure("a.ini", ini, &keys(&encoder)), SopsError::Unsupported { .. }));
    let mut keys = Keys::default();
    for (text, expected) in [("AGE-SECRET-KEY-1XYZ", "line 1 is no key"), ("# nothing\n", "no key in it"), ("AGE-PLUGIN-YUBIKEY-1X", "plugin")] {
        let error = keys.add("here", text).expect_err("no key").to_string();
        assert!(error.starts_with("here: ") && error.contains(expected) && !error.contains("XYZ"), "{error}");
    }
    let broken = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n";
    assert!(keys.add("ssh", broken).expect_err("no key").to_string().contains("no private key of ssh"));
}

#[test]
fn after_a_failure_stand_ins_are_in_the_places() {
    let encoder = Encoder::new();
    let opened = open("a.yaml", &secret(&encoder), &Keys::default()).expect("it is encrypted");
    assert_eq!(opened.secrets.len(), 2);
    assert!(opened.failure.is_some_and(|(_, at)| at > 0));
}

#[test]
fn the_digest_of_encrypted_values_alone_is_another_one() {
    let encoder = Encoder::new();
    let mut values = Values::only("^data$");
    values.only_encrypted = true;
    values.plain("kind", "Secret");
    let encrypted = encoder.value(&mut values, "data.a", "b64=", "str");
    let text = format!("kind: Secret\ndata:\n    a: {encrypted}\n{}", encoder.block(&values));
    assert_eq!(texts(&open("a.yaml", &text, &keys(&encoder)).expect("encrypted")), ["b64="]);
    // So that others may edit the rest.
    assert_eq!(open("a.yaml", &text.replace("kind: Secret", "kind: Other"), &keys(&encoder)).expect("encrypted").failure, None);
    assert_eq!(failure("a.yaml", &text.replace("    mac_only_encrypted: true\n", ""), &keys(&encoder)), SopsError::Mac);
}

#[test]
fn no_text_makes_it_fall_over() {
    let encoder = Encoder::new();
    let (text, keys) = (secret(&encoder), keys(&encoder));
    let env = format!(
        "A=ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]\nsops_mac=x\nsops_lastmodified=y\nsops_age__list_0__map_enc=z\nsops_age__list_0__map_recipient={}\n",
        encoder.recipient()
    );
    for (name, text) in [
        ("a.yaml", text.as_str()),
        ("a.env", env.as_str()),
        ("a.json", "{\"a\": \"ENC[AES256_GCM,]\", \"sops\": {\"mac\": \"ENC[AES256_GCM,]\", \"lastmodified\": \"\", \"age\": [1]}}"),
    ] {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            if let Some(opened) = open(name, &text[..end], &keys) {
                assert!(opened.failure.is_some() || text[..end].contains("mac: ENC"), "{name} cut at {end}");
            }
        }
        for at in (0..text.len()).step_by(7).filter(|at| text.is_char_boundary(*at) && text.is_char_boundary(at + 1)) {
            let changed = format!("{}~{}", &text[..at], &text[at + 1..]);
            let _ = open(name, &changed, &keys);
        }
    }
}
