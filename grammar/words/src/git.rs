//! Addresses of git repositories as Docker writes them: `https://host/path.git#ref:subdir`, or with a query, `?ref=v1&subdir=app`.

use pest::Parser as _;
use pest::iterators::Pairs;

use crate::WordError;

const LANGUAGE: &str = "the address of a git repository";
const SHAPE: &str = "https://HOST/PATH.git, ssh://HOST/PATH, git://HOST/PATH or git@HOST:PATH, with #REF:SUBDIR behind it";

#[derive(pest_derive::Parser)]
#[grammar = "git.pest"]
struct Grammar;

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GitScheme {
    /// Smart or dumb HTTP.
    Http,
    /// The same over TLS.
    Https,
    /// A shell of another machine.
    Ssh,
    /// git's own, without encryption.
    Git,
    /// A repository of this machine: only by [`GitReference::parse_local`].
    File,
}

/// A repository, and what of it is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GitReference {
    /// What git is told: the address without query and fragment.
    pub remote: String,
    /// How it is reached.
    pub scheme: GitScheme,
    /// The machine, without login and port.
    pub host: String,
    /// The port, when the address names one.
    pub port: Option<u16>,
    /// Branch, tag, full reference or commit; the remote's HEAD without.
    pub reference: Option<String>,
    /// The folder that is meant, relative to the repository's root, without `..`.
    pub subdir: Option<String>,
    /// What the commit's id begins with, in lower case.
    pub checksum: Option<String>,
    /// `keep-git-dir=`.
    pub keep_git_dir: Option<bool>,
    /// Whether repositories inside it are taken too.
    pub submodules: bool,
    /// Ask for the commit of `checksum` and not for the reference.
    pub fetch_by_commit: bool,
}

impl GitReference {
    /// Whether a text is meant as the address of a repository. `github.com/OWNER/NAME` is, though a folder can be called so.
    pub fn looks_like(text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        let path = lower.split(['#', '?']).next().unwrap_or_default();
        let web = lower.starts_with("http://") || lower.starts_with("https://");
        ["git://", "ssh://", "git@", "github.com/"].iter().any(|start| lower.starts_with(start)) || (web && path.trim_end_matches('/').ends_with(".git"))
    }

    /// Whether a file or folder of a context could be called so.
    pub fn is_path_too(text: &str) -> bool {
        text.starts_with("github.com/")
    }

    /// Reads an address.
    ///
    /// # Errors
    /// When the text does not have the shape, names a key that is not known or what git would take for an option.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let tree = Grammar::parse(Rule::reference, text).map_err(|error| WordError::from_pest(LANGUAGE, text, &error, SHAPE))?;
        let wrong = |reason: String| WordError::new(LANGUAGE, text, 0, reason);
        let (mut parsed, query, fragment) = address(text, tree).map_err(wrong)?;
        if let Some(query) = query {
            parsed.apply_query(&query).map_err(wrong)?;
        }
        if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty()) {
            let (reference, subdir) = fragment.split_once(':').map_or((fragment.as_str(), ""), |(reference, subdir)| (reference, subdir));
            parsed.set_reference(reference).map_err(wrong)?;
            parsed.set_subdir(subdir).map_err(wrong)?;
        }
        if parsed.fetch_by_commit && !parsed.checksum.as_deref().is_some_and(is_commit) {
            return Err(wrong("fetch-by-commit needs the whole id of the commit in checksum".to_owned()));
        }
        Ok(parsed)
    }

    /// The same for an address that a person gives: `file:///PATH` is a repository of this machine. What others write, such as a Dockerfile, is never read so.
    ///
    /// # Errors
    /// As [`GitReference::parse`].
    pub fn parse_local(text: &str) -> Result<Self, WordError> {
        let Some(path) = text.strip_prefix("file://").filter(|path| path.starts_with('/')) else { return Self::parse(text) };
        let mut parsed = Self::parse(&format!("git://localhost{path}"))?;
        parsed.remote = format!("file://{}", parsed.remote.trim_start_matches("git://localhost"));
        parsed.host = String::new();
        parsed.scheme = GitScheme::File;
        Ok(parsed)
    }

    /// The whole id of the commit, when the address itself says it.
    pub fn commit(&self) -> Option<&str> {
        let by_checksum = || self.checksum.as_deref().filter(|_| self.fetch_by_commit);
        self.reference.as_deref().filter(|reference| is_commit(reference)).or_else(by_checksum)
    }

    /// The address without a login, for people.
    pub fn shown(&self) -> String {
        match (self.remote.split_once("://"), self.scheme) {
            (Some((scheme, rest)), GitScheme::Http | GitScheme::Https) => {
                let bare = rest.split_once('/').and_then(|(machine, path)| Some(format!("{}/{path}", machine.rsplit_once('@')?.1)));
                format!("{scheme}://{}", bare.unwrap_or_else(|| rest.to_owned()))
            }
            _ => self.remote.clone(),
        }
    }

    /// Sets what the commit's id begins with.
    ///
    /// # Errors
    /// When it is not 7 to 64 hexadecimal digits.
    pub fn set_checksum(&mut self, text: &str) -> Result<(), String> {
        let lower = text.to_ascii_lowercase();
        if !(7..=64).contains(&lower.len()) || !lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("`{text}` is not the id of a commit: expected at least 7 hexadecimal digits"));
        }
        self.checksum = Some(lower);
        Ok(())
    }

    fn apply_query(&mut self, query: &str) -> Result<(), String> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| format!("the value of `{key}` is not UTF-8"))?;
            match key {
                "ref" => self.set_reference(&value)?,
                "tag" => self.set_reference(&format!("refs/tags/{value}"))?,
                "branch" => self.set_reference(&format!("refs/heads/{value}"))?,
                "subdir" => self.set_subdir(&value)?,
                "checksum" | "commit" => self.set_checksum(&value)?,
                "keep-git-dir" => self.keep_git_dir = Some(boolean(key, &value)?),
                "submodules" => self.submodules = boolean(key, &value)?,
                "fetch-by-commit" => self.fetch_by_commit = boolean(key, &value)?,
                // Every time of a layer is the build's: both give the same.
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => {}
                "mtime" => return Err(format!("`mtime={value}`: expected checkout or commit")),
                other => {
                    return Err(format!(
                        "`{other}` is not known: expected ref, tag, branch, subdir, checksum, commit, keep-git-dir, submodules, mtime or fetch-by-commit"
                    ));
                }
            }
        }
        Ok(())
    }

    fn set_reference(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        if self.reference.as_deref().is_some_and(|known| known != text) {
            return Err(format!("it names two references, `{}` and `{text}`", self.reference.as_deref().unwrap_or_default()));
        }
        // The rules of git-check-ref-format(1), and nothing that git could take for an option or a pattern.
        let bad = text.starts_with(['-', '/', '.']) || text.ends_with(['/', '.']) || text.ends_with(".lock") || text.contains("..") || text.contains("//");
        if bad || text.contains("@{") || text.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c)) {
            return Err(format!("`{text}` cannot be a branch, a tag or a commit"));
        }
        self.reference = Some(text.to_owned());
        Ok(())
    }

    fn set_subdir(&mut self, text: &str) -> Result<(), String> {
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part if part.contains('\0') => return Err("a folder has no NUL in its name".to_owned()),
                part => parts.push(part),
            }
        }
        let subdir = parts.join("/");
        if subdir.is_empty() {
            return Ok(());
        }
        if self.subdir.as_ref().is_some_and(|known| *known != subdir) {
            return Err("it names two folders".to_owned());
        }
        self.subdir = Some(subdir);
        Ok(())
    }
}

/// The address itself, and what stands behind `?` and `#`.
fn address(text: &str, tree: Pairs<'_, Rule>) -> Result<(GitReference, Option<String>, Option<String>), String> {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let mut parsed = GitReference {
        remote: text[..end].to_owned(),
        scheme: GitScheme::Ssh,
        host: String::new(),
        port: None,
        reference: None,
        subdir: None,
        checksum: None,
        keep_git_dir: None,
        submodules: true,
        fetch_by_commit: false,
    };
    let (mut query, mut fragment) = (None, None);
    for pair in tree.flatten() {
        let part = pair.as_str();
        match pair.as_rule() {
            Rule::scheme => {
                parsed.scheme = match part.to_ascii_lowercase().as_str() {
                    "http" => GitScheme::Http,
                    "https" => GitScheme::Https,
                    "git" => GitScheme::Git,
                    _ => GitScheme::Ssh,
                }
            }
            Rule::host => part.clone_into(&mut parsed.host),
            Rule::port => parsed.port = Some(part.parse().map_err(|_| format!("there is no port {part}"))?),
            Rule::github => {
                parsed.scheme = GitScheme::Https;
                "github.com".clone_into(&mut parsed.host);
                parsed.remote = format!("https://{}", &text[..end]);
            }
            Rule::query => query = Some(part[1..].to_owned()),
            Rule::fragment => fragment = Some(part[1..].to_owned()),
            _ => {}
        }
    }
    Ok((parsed, query, fragment))
}

/// A whole id, of SHA-1 or SHA-256.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("`{key}={value}`: expected true or false")),
    }
}

/// `%2F` and its like; a `+` stays one.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).0,
            None => (bytes.push(*first), rest = tail).0,
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{GitReference, GitScheme};

    fn read(text: &str) -> GitReference {
        GitReference::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_form_is_read() {
        let whole = read("https://h.example:8443/a/b.git#v1.2:sub/./x/../dir");
        assert_eq!((whole.remote.as_str(), whole.host.as_str(), whole.port), ("https://h.example:8443/a/b.git", "h.example", Some(8443)));
        assert_eq!((whole.reference.as_deref(), whole.subdir.as_deref()), (Some("v1.2"), Some("sub/dir")));
        assert_eq!(whole.scheme, GitScheme::Https);
        let scp = read("git@h:a/b.git#:x");
        assert_eq!((scp.remote.as_str(), scp.host.as_str(), scp.reference, scp.subdir.as_deref()), ("git@h:a/b.git", "h", None, Some("x")));
        assert_eq!((read("git://h/b").scheme, read("ssh://me@h:22/~/b").scheme), (GitScheme::Git, GitScheme::Ssh));
        assert_eq!(read("github.com/a/b#main").remote, "https://github.com/a/b");
        assert_eq!(read("git://[::1]:9418/b").host, "[::1]");
        assert_eq!(read("https://h/b.git#").reference, None);
    }

    #[test]
    fn a_query_says_the_same() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let all = read(&format!("https://h/b.git?tag=v1&subdir=a%2Fb&checksum={id}&keep-git-dir=1&submodules=false&mtime=commit&fetch-by-commit=true"));
        assert_eq!((all.reference.as_deref(), all.subdir.as_deref(), all.keep_git_dir, all.submodules), (Some("refs/tags/v1"), Some("a/b"), Some(true), false));
        assert_eq!((all.commit(), all.checksum.as_deref()), (Some(id), Some(id)));
        assert_eq!(read("https://h/b.git?branch=main").reference.as_deref(), Some("refs/heads/main"));
        assert_eq!(read(&format!("https://h/b.git#{id}")).commit(), Some(id));
        assert_eq!(read("https://h/b.git?ref=main#main").reference.as_deref(), Some("main"));
        assert_eq!(read("https://h/b.git?commit=0123456").commit(), None);
    }

    #[test]
    fn what_could_mislead_git_is_refused() {
        for text in [
            "https://h/b.git#--upload-pack=x",
            "https://h/b.git#-x",
            "https://h/b.git?ref=a..b",
            "https://h/b.git?ref=a^",
            "https://h/b.git?ref=a b",
            "https://h/b.git?ref=a&branch=b",
            "https://h/b.git?ref=a#b",
            "https://h/b.git?subdir=a#:b",
            "https://h/b.git?odd=1",
            "https://h/b.git?mtime=never",
            "https://h/b.git?checksum=xyz",
            "https://h/b.git?fetch-by-commit=1",
            "https://h/b.git?submodules=maybe",
            "ssh://-oProxyCommand=x/b",
            "git@-oProxyCommand=x:b",
            "git@h:-x",
            "ext::sh -c x",
            "file:///etc",
            "https://h:99999/b.git",
            "https://h/a b.git",
            "https:///b.git",
            "/a/b.git",
            "",
        ] {
            assert!(GitReference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_are_not_taken_for_repositories() {
        for text in ["https://h/b.git", "HTTPS://h/b.git#x", "http://h/b.git?ref=x", "git@h:b", "git://h/b", "ssh://h/b", "github.com/a/b"] {
            assert!(GitReference::looks_like(text), "{text}");
        }
        for text in ["https://h/b.tar.gz", "https://h/x?y=b.git", "a.git", "./github.com/a", "file:///b.git"] {
            assert!(!GitReference::looks_like(text), "{text}");
        }
    }

    #[test]
    fn a_repository_of_this_machine_is_for_people() {
        let local = GitReference::parse_local("file:///srv/shop.git#main:deploy").expect("read");
        assert_eq!((local.remote.as_str(), local.scheme, local.host.as_str()), ("file:///srv/shop.git", GitScheme::File, ""));
        assert_eq!((local.reference.as_deref(), local.subdir.as_deref()), (Some("main"), Some("deploy")));
        assert_eq!(GitReference::parse_local("https://h/b.git#x").expect("read"), read("https://h/b.git#x"));
        for text in ["file://host/a.git", "file:///a b.git", "file:///a.git#--x"] {
            assert!(GitReference::parse_local(text).is_err(), "{text}");
        }
    }

    #[test]
    fn logins_are_not_shown() {
        assert_eq!(read("https://me:token@h/b.git").shown(), "https://h/b.git");
        assert_eq!(read("ssh://git@h/b.git").shown(), "ssh://git@h/b.git");
    }
}
