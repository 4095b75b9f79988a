//! What a registry wants before it answers: the `WWW-Authenticate` header (RFC 9110 section 11.6.1), and whom its logins may be sent to.

use reqwest::Url;

use crate::address::literal;

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Every challenge of a header's value. What cannot be read is left out.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    for part in split(value) {
        let part = part.trim();
        let (word, rest) = part.split_once([' ', '\t']).unwrap_or((part, ""));
        // A word before a space begins a challenge; otherwise it is one more parameter of the last.
        let parameter = if word.contains('=') {
            part
        } else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest.trim()
        };
        if let (Some((name, value)), Some(challenge)) = (parameter.split_once('='), challenges.last_mut()) {
            challenge.parameters.push((name.trim().to_ascii_lowercase(), unquoted(value.trim())));
        }
    }
    challenges.retain(|challenge| !challenge.scheme.is_empty());
    challenges
}

/// Splits at commas outside of quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for character in text.chars() {
        match character {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        escaped = quoted && character == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    parts
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.to_owned() };
    let (mut text, mut escaped) = (String::new(), false);
    for character in inner.chars() {
        if character == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        text.push(character);
    }
    text
}

/// Whether a registry's login may be sent to a token service: the same host, a host of the same owner, or one that the user has named.
pub(crate) fn is_own_realm(registry: &Url, realm: &Url, named: &[String]) -> bool {
    let (Some(own), Some(other)) = (registry.host_str(), realm.host_str()) else { return false };
    let with_port = realm.port().map_or_else(|| other.to_owned(), |port| format!("{other}:{port}"));
    if own == other || named.iter().any(|name| *name == other || *name == with_port) {
        return true;
    }
    let literal = literal(registry).is_some() || literal(realm).is_some();
    !literal && owner(own).is_some_and(|owner_of| Some(owner_of) == owner(other))
}

/// The part of a host's name that somebody registered, erring towards the longer: `auth.docker.io` is of `docker.io`, `a.b.co.uk` of `b.co.uk`. Nothing for
/// names below which everybody can have a host.
fn owner(host: &str) -> Option<&str> {
    /// Where people without a connection have neighbouring names (a part of the public suffix list's private section: where registries are run).
    const SHARED: [&str; 14] = [
        "amazonaws.com",
        "azurecr.io",
        "azurewebsites.net",
        "cloudfront.net",
        "core.windows.net",
        "fly.dev",
        "github.io",
        "gitlab.io",
        "googleapis.com",
        "herokuapp.com",
        "ngrok.io",
        "pkg.dev",
        "run.app",
        "scw.cloud",
    ];
    let host = host.trim_end_matches('.');
    if SHARED.iter().any(|shared| host == *shared || host.strip_suffix(shared).is_some_and(|rest| rest.ends_with('.'))) {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    // Below the top-level domains of countries, short second labels are mostly registries' own: co.uk, com.au, ne.jp.
    let wide = matches!(&labels[..], [.., second, top] if top.len() == 2 && second.len() <= 3);
    let count = if wide { 3 } else { 2 };
    let start = labels.len().checked_sub(count)?;
    let skipped: usize = labels[..start].iter().map(|label| label.len() + 1).sum();
    host.get(skipped..)
}

#[cfg(test)]
mod tests {
    use super::{is_own_realm, owner, parse};
    use reqwest::Url;

    #[test]
    fn challenges_are_read() {
        let found = parse(r#"Bearer realm="https://auth.docker.io/token",service="registry, \"x\"",scope="repository:a/b:pull,push", Basic realm=x"#);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(found[0].get("service"), Some("registry, \"x\""));
        assert_eq!(found[0].get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!((found[1].scheme.as_str(), found[1].get("realm"), found[1].get("scope")), ("basic", Some("x"), None));
        assert_eq!(parse("Negotiate").len(), 1);
        assert!(parse("").is_empty() && parse(",, ,").is_empty());
    }

    #[test]
    fn s18_logins_go_to_the_registrys_own_token_service_only() {
        let own = |registry: &str, realm: &str, named: &[&str]| {
            let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            is_own_realm(&Url::parse(registry).unwrap(), &Url::parse(realm).unwrap(), &named)
        };
        for (registry, realm) in [
            ("https://registry-1.docker.io", "https://auth.docker.io/token"),
            ("https://ghcr.io", "https://ghcr.io/token"),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
            ("https://registry.example.co.uk", "https://login.example.co.uk/"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
            ("https://me.azurecr.io", "https://me.azurecr.io/oauth2/token"),
        ] {
            assert!(own(registry, realm, &[]), "{registry} {realm}");
        }
        for (registry, realm) in [
            ("https://registry-1.docker.io", "https://auth.docker.io.evil.org/token"),
            ("https://ghcr.io", "https://evil.io/token"),
            ("https://registry.example.co.uk", "https://evil.co.uk/"),
            ("http://127.0.0.1:5000", "http://127.0.0.2:5000/token"),
            ("http://127.0.0.1:5000", "http://localhost:5000/token"),
            ("https://me.azurecr.io", "https://you.azurecr.io/oauth2/token"),
            ("https://me.github.io", "https://you.github.io/"),
            ("https://registry", "https://other/"),
        ] {
            assert!(!own(registry, realm, &[]), "{registry} {realm}");
        }
        assert!(own("https://r.example.org", "https://login.example.net/x", &["login.example.net"]));
        assert!(own("https://r.example.org", "https://login.example.net:8443/x", &["login.example.net:8443"]));
        assert!(!own("https://r.example.org", "https://a.login.example.net/x", &["login.example.net"]));
        assert_eq!(owner("localhost"), None);
    }
}
