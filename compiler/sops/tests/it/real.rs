//! The same files as the real `sops` makes and opens them. Skipped, loudly, where it is not installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use strake_sops::{Keys, open};

/// `SOPS_BIN`, or the one in PATH.
fn sops() -> Option<PathBuf> {
    let named = std::env::var_os("SOPS_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH")?;
    named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("sops")).find(|file| file.is_file()))
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

fn run(program: &Path, dir: &Path, args: &[&str], key: &Path) -> Vec<u8> {
    let output =
        Command::new(program).args(args).current_dir(dir).env("SOPS_AGE_KEY_FILE", key).env("SOPS_DISABLE_VERSION_CHECK", "1").output().expect("it runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

const YAML: &str = "# a comment\napiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n  annotations: {when: 2024-01-01, yes: \"no\", flag: yes}\nstringData:\n  user: ada\n  password: \"p:ss #w'\\\"rd\"\n  long: |\n    one\n    two\n  empty: \"\"\n  umlaut: Grüße\nnumbers:\n- 1\n- 1.50\n- 1e3\n- -7\n- true\n- null\n- [a, {b: c}]\nmode: 0644\n---\nkind: Other\nvalue: x\n";
const JSON: &str =
    "{\"a\": \"text\", \"n\": 5, \"big\": 12345678901234567, \"f\": 2.5, \"t\": true, \"z\": null, \"l\": [1, \"two\", {\"x\": \"y\"}], \"e\": {}}";
const ENV: &str = "# a comment\nUSER=ada\nPASSWORD=hunter2 with = and spaces\nEMPTY=\nLINES=one\\ntwo\n";

#[test]
fn the_real_sops_makes_files_that_are_opened() {
    let Some(sops) = sops() else { return skip("the_real_sops_makes_files_that_are_opened", "sops is not installed") };
    let dir = tempfile::tempdir().expect("a directory");
    let identity = age::x25519::Identity::generate();
    let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    let key = dir.path().join("key.txt");
    std::fs::write(&key, &secret).expect("written");
    let mut keys = Keys::default();
    keys.add("the test", &secret).expect("a key");
    let recipient = identity.to_public().to_string();
    let only = format!("creation_rules:\n- age: {recipient}\n  encrypted_regex: ^(stringData|l|USER)$\n  mac_only_encrypted: true\n");
    std::fs::write(dir.path().join("only.yaml"), only).expect("written");
    let rules: [&[&str]; 5] = [
        &[],
        &["--encrypted-regex", "^(data|stringData|a|l|PASSWORD|numbers)$"],
        &["--unencrypted-suffix", "name"],
        &["--encrypted-suffix", "word"],
        // This one has no flag.
        &["--config", "only.yaml"],
    ];
    for (name, text) in [("a.yaml", YAML), ("a.json", JSON), ("a.env", ENV), ("key.pem", "-----BEGIN X-----\nabc\n")] {
        for rule in rules {
            std::fs::write(dir.path().join(name), text).expect("written");
            let configured = rule.first() == Some(&"--config");
            let arguments: Vec<&str> = match configured {
                true => [rule, &["encrypt", name]].concat(),
                false => [&["encrypt", "--age", recipient.as_str()], rule, &[name]].concat(),
            };
            let sealed = String::from_utf8(run(&sops, dir.path(), &arguments, &key)).expect("text");
            std::fs::write(dir.path().join(format!("sealed-{name}")), &sealed).expect("written");
            let expected = String::from_utf8(run(&sops, dir.path(), &["decrypt", &format!("sealed-{name}")], &key)).expect("text");
            // Of a binary file all is one value.
            assert_eq!(configured && name != "key.pem", sealed.contains("mac_only_encrypted"), "{sealed}");
            let opened = open(name, &sealed, &keys).expect("it is encrypted");
            assert_eq!(opened.failure, None, "{name} {rule:?}\n{sealed}");
            let plain = String::from_utf8(opened.plain).expect("text");
            match name {
                "a.yaml" => assert_eq!(values(&plain), values(&expected), "{rule:?}\n{plain}\n{expected}"),
                "a.env" => {
                    let without_comments = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
                    assert_eq!(without_comments(&plain), without_comments(&expected), "{rule:?}");
                }
                _ => assert_eq!(plain.trim_end(), expected.trim_end(), "{name} {rule:?}"),
            }
        }
    }
}

fn values(text: &str) -> Vec<serde_json::Value> {
    let (documents, findings) = strake_yaml::parse(strake_source::FileId(0), text);
    assert!(findings.is_empty(), "{findings:?}\n{text}");
    documents.iter().map(|document| document.root.to_json()).collect()
}

#[test]
fn a_file_for_an_ssh_key_is_opened() {
    let Some(sops) = sops() else { return skip("a_file_for_an_ssh_key_is_opened", "sops is not installed") };
    let dir = tempfile::tempdir().expect("a directory");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", "id"]).current_dir(dir.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        return skip("a_file_for_an_ssh_key_is_opened", "ssh-keygen is not installed");
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
    std::fs::write(dir.path().join("a.yaml"), "a: b\n").expect("written");
    let sealed = String::from_utf8(run(&sops, dir.path(), &["encrypt", "--age", read("id.pub").trim(), "a.yaml"], Path::new(""))).expect("text");
    let mut keys = Keys::default();
    keys.add("id", &read("id")).expect("a key");
    assert_eq!(open("a.yaml", &sealed, &keys).expect("it is encrypted").plain, b"a: b\n");
}
