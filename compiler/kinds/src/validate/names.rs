//! The syntax of names, as RFC 1123, RFC 1035 and Kubernetes define it.

/// At most this many characters in a DNS label (RFC 1123).
pub const LABEL_MAX: usize = 63;
/// At most this many characters in a DNS subdomain (RFC 1123).
pub const SUBDOMAIN_MAX: usize = 253;

fn alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| alnum(*byte) || *byte == b'-';
    !bytes.is_empty() && alnum(bytes[0]) && alnum(bytes[bytes.len() - 1]) && bytes.iter().all(inner)
}

/// A DNS label: `my-name`.
pub fn dns_label(text: &str) -> Result<(), String> {
    if text.len() > LABEL_MAX {
        return Err(format!("must be no more than {LABEL_MAX} characters"));
    }
    if is_label(text) {
        Ok(())
    } else {
        Err("must be lower-case letters, digits and '-', starting and ending with a letter or digit (RFC 1123 label)".to_owned())
    }
}

/// A DNS subdomain: labels with dots between them.
pub fn dns_subdomain(text: &str) -> Result<(), String> {
    if text.len() > SUBDOMAIN_MAX {
        return Err(format!("must be no more than {SUBDOMAIN_MAX} characters"));
    }
    if text.split('.').all(is_label) {
        Ok(())
    } else {
        Err("must be lower-case letters, digits, '-' and '.', each part starting and ending with a letter or digit (RFC 1123 subdomain)".to_owned())
    }
}

/// A DNS label that starts with a letter (RFC 1035), as Services must have.
pub fn dns_label_1035(text: &str) -> Result<(), String> {
    dns_label(text)?;
    if text.as_bytes()[0].is_ascii_lowercase() { Ok(()) } else { Err("must start with a letter (RFC 1035 label)".to_owned()) }
}

/// A port's name (RFC 6335): at most 15 characters with at least one letter.
pub fn port_name(text: &str) -> Result<(), String> {
    if text.len() > 15 {
        return Err("must be no more than 15 characters".to_owned());
    }
    if !is_label(text) || text.contains("--") {
        return Err("must be lower-case letters, digits and single '-' between them".to_owned());
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) { Ok(()) } else { Err("must have at least one letter".to_owned()) }
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_name(text: &str) -> Result<(), String> {
    let fine = !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    if fine { Ok(()) } else { Err("must be printable ASCII characters without '='".to_owned()) }
}

/// The name of an HTTP header, in the letters that Kubernetes takes.
pub fn header_name(text: &str) -> Result<(), String> {
    let fine = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fine { Ok(()) } else { Err("must be letters, digits and '-'".to_owned()) }
}

/// A key of a ConfigMap or Secret: a file name.
pub fn config_key(text: &str) -> Result<(), String> {
    if text.len() > SUBDOMAIN_MAX {
        return Err(format!("must be no more than {SUBDOMAIN_MAX} characters"));
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(inner) {
        return Err("must be letters, digits, '-', '_' and '.'".to_owned());
    }
    if text == "." || text.starts_with("..") { Err("must not be '.' or start with '..'".to_owned()) } else { Ok(()) }
}

/// The key of a label or annotation: a name of at most 63 characters, optionally after a DNS subdomain and `/`.
pub fn qualified(text: &str) -> Result<(), String> {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix {
        dns_subdomain(prefix).map_err(|problem| format!("the part before '/' {problem}"))?;
    }
    if name.is_empty() {
        return Err("must have a name".to_owned());
    }
    label_text(name).map_err(|problem| format!("the name {problem}"))
}

/// A finalizer: whose it is must be told by a domain, but for the three that Kubernetes has itself.
pub fn finalizer(text: &str) -> Result<(), String> {
    qualified(text)?;
    let own = ["kubernetes", "orphan", "foregroundDeletion"].contains(&text);
    if own || text.contains('/') { Ok(()) } else { Err("must be like example.org/name".to_owned()) }
}

/// The value of a label; empty is fine.
pub fn label_value(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { label_text(text) }
}

fn label_text(text: &str) -> Result<(), String> {
    if text.len() > LABEL_MAX {
        return Err(format!("must be no more than {LABEL_MAX} characters"));
    }
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if bytes[0].is_ascii_alphanumeric() && bytes[bytes.len() - 1].is_ascii_alphanumeric() && bytes.iter().all(inner) {
        Ok(())
    } else {
        Err("must be letters, digits, '-', '_' and '.', starting and ending with a letter or digit".to_owned())
    }
}
