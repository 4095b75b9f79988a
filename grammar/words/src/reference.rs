//! Image references: `nginx`, `ghcr.io/owner/app:1.2`, `app@sha256:…`, with Docker's short forms made long.

use std::fmt;
use std::str::FromStr;

use pest::Parser as _;

use crate::WordError;

const LANGUAGE: &str = "an image reference";
const SHAPE: &str = "[registry[:port]/]name[:tag][@digest], the name in lower case";
/// The registry that short references mean.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The longest name (domain and path) that registries take.
const LONGEST_NAME: usize = 255;

#[derive(pest_derive::Parser)]
#[grammar = "reference.pest"]
struct Grammar;

/// A reference with registry and path in their long form: `nginx` is `docker.io/library/nginx`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Registry host with its port.
    pub domain: String,
    /// Repository path within the registry.
    pub path: String,
    /// Tag, when written.
    pub tag: Option<String>,
    /// `algorithm:hex`, when written.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads and normalises a reference.
    ///
    /// # Errors
    /// When the text does not have the shape, has capitals in the name, is 64 hexadecimal characters (an image id), or is longer than 255 characters.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let mut pairs = Grammar::parse(Rule::reference, text).map_err(|error| WordError::from_pest(LANGUAGE, text, &error, SHAPE))?;
        let (mut domain, mut path, mut tag, mut digest) = (None, String::new(), None, None);
        for pair in pairs.next().into_iter().flat_map(pest::iterators::Pair::into_inner) {
            let value = pair.as_str().to_owned();
            match pair.as_rule() {
                Rule::domain => domain = Some(value),
                Rule::path => path = value,
                Rule::tag => tag = Some(value),
                Rule::digest => digest = Some(value),
                _ => {}
            }
        }
        if domain.is_none() && path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WordError::new(LANGUAGE, text, 0, "64 hexadecimal characters are an image id, not a name"));
        }
        check_digest(text, digest.as_deref())?;
        let domain = match domain.as_deref() {
            None | Some("index.docker.io") => DEFAULT_DOMAIN.to_owned(),
            Some(domain) => domain.to_owned(),
        };
        if domain == DEFAULT_DOMAIN && !path.contains('/') {
            path = format!("library/{path}");
        }
        if domain.len() + 1 + path.len() > LONGEST_NAME {
            return Err(WordError::new(LANGUAGE, text, LONGEST_NAME, format!("the name is longer than {LONGEST_NAME} characters")));
        }
        Ok(Reference { domain, path, tag, digest })
    }

    /// Registry and path: `docker.io/library/nginx`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same reference with `:latest` when it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// As people write it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let mut text = match (self.domain.as_str(), self.path.strip_prefix("library/")) {
            (DEFAULT_DOMAIN, Some(short)) if !short.contains('/') => short.to_owned(),
            // Without its registry, `docker.io/quay.io/a` would be an image of quay.io.
            (DEFAULT_DOMAIN, _) if !self.begins_like_a_domain() => self.path.clone(),
            _ => self.repository(),
        };
        self.push_suffix(&mut text);
        text
    }

    fn begins_like_a_domain(&self) -> bool {
        self.path.split_once('/').is_some_and(|(first, _)| first.contains('.') || first == "localhost")
    }

    fn push_suffix(&self, text: &mut String) {
        for (mark, part) in [(':', &self.tag), ('@', &self.digest)] {
            if let Some(part) = part {
                text.push(mark);
                text.push_str(part);
            }
        }
    }
}

fn check_digest(text: &str, digest: Option<&str>) -> Result<(), WordError> {
    let Some((algorithm, hex)) = digest.and_then(|digest| digest.split_once(':')) else { return Ok(()) };
    let at = text.len() - hex.len();
    let expected = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(WordError::new(LANGUAGE, text, at, format!("digest algorithm `{algorithm}` is not known; expected sha256"))),
    };
    if hex.len() != expected || hex.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(WordError::new(LANGUAGE, text, at, format!("a {algorithm} digest has {expected} lower-case hexadecimal characters")));
    }
    Ok(())
}

/// The long form, with the tag and digest as written.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.repository();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        Reference::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;

    fn forms(text: &str) -> Option<(String, String)> {
        Reference::parse(text).ok().map(|reference| (reference.to_string(), reference.familiar()))
    }

    #[test]
    fn short_forms_become_long_and_short_again() {
        let hex = "0123456789abcdef".repeat(4);
        let cases = [
            ("nginx", "docker.io/library/nginx", "nginx"),
            ("nginx:1.2", "docker.io/library/nginx:1.2", "nginx:1.2"),
            ("owner/app", "docker.io/owner/app", "owner/app"),
            ("index.docker.io/nginx", "docker.io/library/nginx", "nginx"),
            ("docker.io/library/nginx", "docker.io/library/nginx", "nginx"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("ghcr.io/o/a__b/c-d.e", "ghcr.io/o/a__b/c-d.e", "ghcr.io/o/a__b/c-d.e"),
            ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
            ("HOST/app", "HOST/app", "HOST/app"),
            ("registry:5000", "docker.io/library/registry:5000", "registry:5000"),
            ("a/b/c/d", "docker.io/a/b/c/d", "a/b/c/d"),
            ("docker.io/quay.io/a", "docker.io/quay.io/a", "docker.io/quay.io/a"),
            ("docker.io/localhost/a", "docker.io/localhost/a", "docker.io/localhost/a"),
        ];
        for (text, long, short) in cases {
            assert_eq!(forms(text), Some((long.to_owned(), short.to_owned())), "{text}");
        }
        let digest = format!("app:1@sha256:{hex}");
        assert_eq!(forms(&digest).map(|forms| forms.1), Some(digest));
        assert_eq!(Reference::parse("nginx").map(|r| r.with_default_tag().to_string()).ok().as_deref(), Some("docker.io/library/nginx:latest"));
    }

    #[test]
    fn wrong_references_say_why() {
        let hex = "0123456789abcdef".repeat(4);
        let long = "a/".repeat(130) + "b";
        let wrong = [
            "",
            "Nginx",
            "nginx:",
            "a//b",
            "a/",
            "-a",
            "nginx@sha256:12",
            "nginx:a b",
            "a___b",
            "a..b",
            &hex,
            &long,
            "a:1:2",
            "nginx@md5:0123456789abcdef0123456789abcdef",
        ];
        for text in wrong {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        let error = Reference::parse("Nginx").expect_err("capitals are refused").to_string();
        assert!(error.starts_with("`Nginx` is not an image reference: unexpected `N` at position 1; expected"), "{error}");
    }
}
