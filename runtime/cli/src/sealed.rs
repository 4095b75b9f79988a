//! Files that are encrypted with SOPS: opened in memory, with the keys of whoever runs this.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use strake_sops::{Keys, Opened};

use crate::failure::Failure;
use crate::output;

static KEYS: OnceLock<Keys> = OnceLock::new();

/// What stands in a file; `None` when it is not encrypted. `path` tells how it is written.
///
/// # Errors
/// A key that was given and is none. That no key fits is told by the compiler, with the place.
pub fn open(path: &Path, text: &str) -> Result<Option<Opened>, Failure> {
    let name = path.to_string_lossy();
    let none = Keys::default();
    // Whoever has no encrypted files needs no keys, and hears nothing about them.
    if strake_sops::open(&name, text, &none).is_none() {
        return Ok(None);
    }
    let keys = match KEYS.get() {
        Some(keys) => keys,
        None => {
            let found = keys()?;
            KEYS.get_or_init(|| found)
        }
    };
    let opened = strake_sops::open(&name, text, keys);
    if let Some(opened) = opened.as_ref().filter(|opened| opened.failure.is_none()) {
        output::conceal(opened.secrets.iter().map(|secret| secret.value.to_text()));
    }
    Ok(opened)
}

/// Where SOPS looks for keys, too: SOPS_AGE_KEY, what SOPS_AGE_KEY_CMD prints, SOPS_AGE_KEY_FILE, its own file below the configuration directory; then keys of ssh.
fn keys() -> Result<Keys, Failure> {
    let mut keys = Keys::default();
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(text) = variable("SOPS_AGE_KEY") {
        keys.add("SOPS_AGE_KEY", &text.to_string_lossy())?;
    }
    if let Some(line) = variable("SOPS_AGE_KEY_CMD") {
        let output = std::process::Command::new("sh").arg("-c").arg(&line).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::inherit()).output();
        let output = output.map_err(|error| Failure::text(format!("SOPS_AGE_KEY_CMD cannot be run: {error}")))?;
        if !output.status.success() {
            return Err(Failure::text(format!("SOPS_AGE_KEY_CMD failed: {}", output.status)));
        }
        keys.add("SOPS_AGE_KEY_CMD", &String::from_utf8_lossy(&output.stdout))?;
    }
    let home = variable("HOME").map(PathBuf::from);
    let configuration = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".config")));
    let usual = configuration.map(|dir| dir.join("sops/age/keys.txt")).filter(|path| path.is_file());
    let named = ["SOPS_AGE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"].map(|name| variable(name).map(PathBuf::from));
    for path in named.into_iter().flatten().chain(usual) {
        let text = std::fs::read_to_string(&path).map_err(|source| Failure::read(&path, source))?;
        keys.add(&path.display().to_string(), &text)?;
    }
    let ssh = home.filter(|_| variable("SOPS_AGE_SSH_PRIVATE_KEY_FILE").is_none()).into_iter();
    for path in ssh.flat_map(|home| [".ssh/id_ed25519", ".ssh/id_rsa"].map(|name| home.join(name))).filter(|path| path.is_file()) {
        // One with a passphrase is for other things.
        if let Ok(text) = std::fs::read_to_string(&path) {
            let _ = keys.add(&path.display().to_string(), &text);
        }
    }
    Ok(keys)
}
