//! Webhooks of GitHub, GitLab and Gitea: who sent a delivery is proved before anything in it is read. Proofs are compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// What a delivery means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Something was pushed: to this reference, when the delivery says so.
    Push(Option<String>),
    /// Sent to see whether somebody answers, or about something else.
    Other,
}

/// Why a delivery is not heeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No header tells whose delivery it is.
    Unknown,
    /// Nothing proves who sent it.
    Unsigned,
    /// The proof is wrong.
    Signature,
    /// What was sent cannot be read.
    Body,
}

impl Refused {
    /// For whoever set the webhook up. It says nothing that the sender does not know.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Unknown => "no webhook of GitHub, GitLab or Gitea: there is no header X-GitHub-Event, X-Gitlab-Event or X-Gitea-Event",
            Refused::Unsigned => "the delivery is not signed: give the webhook a secret",
            Refused::Signature => "the signature is wrong: the webhook's secret is not the one of this sync",
            Refused::Body => "the body is no JSON object",
        }
    }
}

/// A delivery as it arrived. Header names are in lower case.
pub struct Hook<'a> {
    /// Finds a header's value.
    pub header: &'a dyn Fn(&str) -> Option<String>,
    /// The body.
    pub body: &'a [u8],
}

/// Checks who sent a delivery, then reads it.
///
/// # Errors
/// The first reason not to heed it; an empty `secret` refuses everything.
pub fn read_hook(hook: &Hook<'_>, secret: &[u8]) -> Result<Delivery, Refused> {
    let header = |name: &str| (hook.header)(name);
    // Gitea also sends GitHub's headers, so it comes first.
    if let Some(event) = header("x-gitea-event").or_else(|| header("x-forgejo-event")) {
        let proof = header("x-gitea-signature").or_else(|| header("x-forgejo-signature")).ok_or(Refused::Unsigned)?;
        check_digest(&proof, hook.body, secret)?;
        return delivery(matches!(event.as_str(), "push" | "create"), hook, &header);
    }
    if let Some(event) = header("x-github-event") {
        let proof = header("x-hub-signature-256").ok_or(Refused::Unsigned)?;
        check_digest(proof.strip_prefix("sha256=").ok_or(Refused::Unsigned)?, hook.body, secret)?;
        return delivery(matches!(event.as_str(), "push" | "create"), hook, &header);
    }
    if let Some(event) = header("x-gitlab-event") {
        let token = header("x-gitlab-token").ok_or(Refused::Unsigned)?;
        check_token(token.as_bytes(), secret)?;
        return delivery(matches!(event.as_str(), "Push Hook" | "Tag Push Hook" | "System Hook"), hook, &header);
    }
    Err(Refused::Unknown)
}

fn keyed(secret: &[u8], data: &[u8]) -> Result<Hmac<Sha256>, Refused> {
    if secret.is_empty() {
        return Err(Refused::Signature);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| Refused::Signature)?;
    mac.update(data);
    Ok(mac)
}

/// HMAC-SHA256 of the body in hexadecimal digits.
fn check_digest(given: &str, body: &[u8], secret: &[u8]) -> Result<(), Refused> {
    let bytes = hex(given).ok_or(Refused::Signature)?;
    keyed(secret, body)?.verify_slice(&bytes).map_err(|_| Refused::Signature)
}

/// The secret itself, compared by its HMAC: how long that takes tells neither its length nor where it differs.
fn check_token(given: &[u8], secret: &[u8]) -> Result<(), Refused> {
    let expected = keyed(secret, secret)?.finalize().into_bytes();
    keyed(secret, given)?.verify_slice(&expected).map_err(|_| Refused::Signature)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if text.len() != 64 {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| Some((digit(*pair.first()?)? << 4) | digit(*pair.get(1)?)?)).collect()
}

/// What a delivery says, as JSON or in a form's field `payload`.
fn delivery(push: bool, hook: &Hook<'_>, header: &dyn Fn(&str) -> Option<String>) -> Result<Delivery, Refused> {
    if !push {
        return Ok(Delivery::Other);
    }
    let form = header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let value: Value = if form {
        let payload = form_urlencoded::parse(hook.body).find(|(name, _)| name == "payload").ok_or(Refused::Body)?.1;
        serde_json::from_str(&payload).map_err(|_| Refused::Body)?
    } else {
        serde_json::from_slice(hook.body).map_err(|_| Refused::Body)?
    };
    let body = value.as_object().ok_or(Refused::Body)?;
    Ok(Delivery::Push(body.get("ref").and_then(Value::as_str).map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use hmac::Mac;

    use super::{Delivery, Hook, Refused, keyed, read_hook};

    const BODY: &[u8] = br#"{"ref": "refs/heads/main"}"#;

    fn signature(secret: &str, body: &[u8]) -> String {
        keyed(secret.as_bytes(), body).expect("a key").finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn read(headers: &[(&str, &str)], body: &[u8]) -> Result<Delivery, Refused> {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        read_hook(&Hook { header: &header, body }, b"s3cret")
    }

    #[test]
    fn a_known_signature() {
        // The example of GitHub's documentation.
        let expected = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(signature("It's a Secret to Everybody", b"Hello, World!"), expected);
    }

    #[test]
    fn each_forge_proves_itself_in_its_way() {
        let push = Ok(Delivery::Push(Some("refs/heads/main".to_owned())));
        let good = signature("s3cret", BODY);
        let hub = format!("sha256={good}");
        assert_eq!(read(&[("x-github-event", "push"), ("x-hub-signature-256", &hub)], BODY), push);
        assert_eq!(read(&[("x-gitea-event", "push"), ("x-gitea-signature", &good), ("x-github-event", "push")], BODY), push);
        assert_eq!(read(&[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", "s3cret")], BODY), push);
        assert_eq!(read(&[("x-github-event", "ping"), ("x-hub-signature-256", &hub)], BODY), Ok(Delivery::Other));
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("payload", std::str::from_utf8(BODY).expect("text")).finish();
        let hub = format!("sha256={}", signature("s3cret", form.as_bytes()));
        let headers = [("x-github-event", "push"), ("x-hub-signature-256", hub.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(read(&headers, form.as_bytes()), push);
    }

    #[test]
    fn others_are_refused_before_they_are_read() {
        let wrong = format!("sha256={}", signature("other", BODY));
        assert_eq!(read(&[("x-github-event", "push"), ("x-hub-signature-256", &wrong)], BODY), Err(Refused::Signature));
        assert_eq!(read(&[("x-github-event", "push"), ("x-hub-signature-256", "sha256=zz")], BODY), Err(Refused::Signature));
        assert_eq!(read(&[("x-github-event", "push")], BODY), Err(Refused::Unsigned));
        assert_eq!(read(&[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", "s3cre")], BODY), Err(Refused::Signature));
        assert_eq!(read(&[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", "")], BODY), Err(Refused::Signature));
        assert_eq!(read(&[], BODY), Err(Refused::Unknown));
        let header = |name: &str| (name == "x-gitlab-event" || name == "x-gitlab-token").then(String::new);
        assert_eq!(read_hook(&Hook { header: &header, body: BODY }, b""), Err(Refused::Signature), "no secret is no secret that fits");
        let hub = format!("sha256={}", signature("s3cret", b"nonsense"));
        assert_eq!(read(&[("x-github-event", "push"), ("x-hub-signature-256", &hub)], b"nonsense"), Err(Refused::Body));
    }
}
