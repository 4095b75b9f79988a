//! `registries.yaml`: mirrors, plain HTTP, certificates and token services, registry by registry.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use strake_source::{Diagnostic, FileId, Sources, Style, nearest, render};
use strake_yaml::{Kind, Node};

use crate::error::RegistryError;

/// Where the file is looked for when the state directory has none.
pub const SYSTEM_FILE: &str = "/etc/strake/registries.yaml";
/// Its name in the state directory.
pub const FILE_NAME: &str = "registries.yaml";
/// What a diagnostic of the file is known by.
const CODE: &str = "registries-file";
const FIELDS: [&str; 5] = ["mirrors", "insecure", "ca", "skipVerify", "auth"];

/// What is set for registries; empty when there is no file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    hosts: BTreeMap<String, HostSettings>,
}

/// What is set for one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// Asked before the registry itself, in this order.
    pub mirrors: Vec<Mirror>,
    /// Spoken to in plain HTTP.
    pub insecure: bool,
    /// A PEM file of authorities trusted for this host, besides the system's.
    pub ca: Option<PathBuf>,
    /// Its certificate is not checked.
    pub skip_verify: bool,
    /// Other hosts that may be sent this registry's login, because they are its token service.
    pub auth: Vec<String>,
}

/// A mirror: another registry that has the same repositories, perhaps below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Host with its port.
    pub host: String,
    /// Before every repository, without slashes at its ends; mostly empty.
    pub path: String,
    /// Said by `http://` in its address.
    pub plain: bool,
}

impl Registries {
    /// Reads `registries.yaml` of a state directory, else the system's; none is fine.
    ///
    /// # Errors
    /// A file that cannot be read, or that has anything wrong in it: every mistake is told with its place.
    pub fn load(root: &Path) -> Result<Self, RegistryError> {
        for path in [root.join(FILE_NAME), PathBuf::from(SYSTEM_FILE)] {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&path, &text),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(RegistryError::RegistriesRead { path, source }),
            }
        }
        Ok(Self::default())
    }

    /// Reads the text of a file; relative paths in it are relative to the file.
    ///
    /// # Errors
    /// [`RegistryError::Registries`] with every mistake.
    pub fn parse(path: &Path, text: &str) -> Result<Self, RegistryError> {
        let mut sources = Sources::default();
        let file = sources.add(path.display().to_string(), text);
        let (registries, mut findings) = read(file, text, path.parent().unwrap_or(Path::new(".")));
        findings.sort_by_key(|finding| finding.span.map_or(0, |span| span.start));
        if findings.is_empty() {
            return Ok(registries);
        }
        Err(RegistryError::Registries { path: path.to_owned(), findings: render(&sources, &findings, Style::Plain).trim_end().to_owned() })
    }

    /// What is set for a host (with its port), under the name by which images call it.
    pub fn of(&self, host: &str) -> HostSettings {
        self.hosts.get(host).cloned().unwrap_or_default()
    }

    /// Sets something for a host, for callers that have no file.
    pub fn set(&mut self, host: impl Into<String>, settings: HostSettings) {
        self.hosts.insert(host.into(), settings);
    }
}

fn read(file: FileId, text: &str, dir: &Path) -> (Registries, Vec<Diagnostic>) {
    let (documents, mut findings) = strake_yaml::parse(file, text);
    let mut registries = Registries::default();
    findings.retain(Diagnostic::is_error);
    let Some(document) = documents.first() else { return (registries, findings) };
    if let Some(second) = documents.get(1) {
        findings.push(wrong(&second.root, "a second document", "expected one document only"));
    }
    fields(&document.root, "the file", &["registries"], &mut findings);
    let Some(hosts) = document.root.get("registries") else { return (registries, findings) };
    if !matches!(hosts.kind, Kind::Mapping(_) | Kind::Null) {
        findings.push(wrong(hosts, format!("`registries` is {}", hosts.kind_name()), "expected a mapping from a registry's host to its settings"));
    }
    for (name, settings) in hosts.entries() {
        match host_of(&name.value) {
            Ok(host) => {
                registries.hosts.insert(host, host_settings(settings, dir, &mut findings));
            }
            Err(why) => findings.push(Diagnostic::error(CODE, format!("`{}` is no registry", name.value)).at(name.span).label(why)),
        }
    }
    (registries, findings)
}

fn host_settings(node: &Node, dir: &Path, findings: &mut Vec<Diagnostic>) -> HostSettings {
    fields(node, "a registry", &FIELDS, findings);
    let mut settings = HostSettings { insecure: flag(node, "insecure", findings), skip_verify: flag(node, "skipVerify", findings), ..HostSettings::default() };
    for mirror in list(node, "mirrors", findings) {
        match mirror_of(mirror.1) {
            Ok(mirror) => settings.mirrors.push(mirror),
            Err(why) => findings.push(wrong(mirror.0, format!("`{}` is no mirror", mirror.1), why)),
        }
    }
    for (at, host) in list(node, "auth", findings) {
        match host_of(host) {
            Ok(host) => settings.auth.push(host),
            Err(why) => findings.push(wrong(at, format!("`{host}` is no host"), why)),
        }
    }
    if let Some(ca) = node.get("ca") {
        match ca.as_str().filter(|text| !text.is_empty()) {
            Some(path) => settings.ca = Some(dir.join(path)),
            None => findings.push(wrong(ca, format!("`ca` is {}", ca.kind_name()), "expected the path of a PEM file")),
        }
    }
    if settings.insecure && (settings.ca.is_some() || settings.skip_verify) {
        findings.push(wrong(node, "`insecure` together with `ca` or `skipVerify`", "plain HTTP has no certificates: leave one of them out"));
    }
    settings
}

/// Refuses what is no mapping, and names in it that mean nothing.
fn fields(node: &Node, what: &str, known: &[&str], findings: &mut Vec<Diagnostic>) {
    if !matches!(node.kind, Kind::Mapping(_) | Kind::Null) {
        findings.push(wrong(node, format!("{what} is {}", node.kind_name()), format!("expected a mapping with {}", known.join(", "))));
    }
    for (name, _) in node.entries().iter().filter(|(name, _)| !known.contains(&name.value.as_str())) {
        let finding = Diagnostic::error(CODE, format!("unknown field `{}`", name.value)).at(name.span);
        findings.push(match nearest(&name.value, known.iter().copied()) {
            Some(near) => finding.label("unknown field").help(format!("did you mean `{near}`?")),
            None => finding.label(format!("expected {}", known.join(", "))),
        });
    }
}

fn flag(node: &Node, name: &str, findings: &mut Vec<Diagnostic>) -> bool {
    match node.get(name).map(|value| (value, &value.kind)) {
        None | Some((_, Kind::Null)) => false,
        Some((_, Kind::Bool(value))) => *value,
        Some((value, _)) => {
            findings.push(wrong(value, format!("`{name}` is {}", value.kind_name()), "expected true or false"));
            false
        }
    }
}

fn list<'n>(node: &'n Node, name: &str, findings: &mut Vec<Diagnostic>) -> Vec<(&'n Node, &'n str)> {
    let Some(value) = node.get(name) else { return Vec::new() };
    if !matches!(value.kind, Kind::Sequence(_) | Kind::Null) {
        findings.push(wrong(value, format!("`{name}` is {}", value.kind_name()), "expected a list of texts"));
    }
    let mut texts = Vec::new();
    for item in value.items() {
        match item.as_str() {
            Some(text) => texts.push((item, text)),
            None => findings.push(wrong(item, format!("an entry of `{name}` is {}", item.kind_name()), "expected a text")),
        }
    }
    texts
}

fn wrong(node: &Node, message: impl Into<String>, label: impl Into<String>) -> Diagnostic {
    Diagnostic::error(CODE, message).at(node.span).label(label)
}

/// A host with its port, as images name it.
fn host_of(text: &str) -> Result<String, String> {
    let wanted = "expected a host, perhaps with a port, such as registry.example.org:5000";
    if text.contains("://") || text.contains('/') {
        return Err(format!("{wanted}; without scheme and path"));
    }
    let url = reqwest::Url::parse(&format!("https://{text}/")).map_err(|_| wanted.to_owned())?;
    if text.is_empty() || url.host_str().is_none() || text.contains('@') {
        return Err(wanted.to_owned());
    }
    Ok(if matches!(text, "index.docker.io" | "registry-1.docker.io") { "docker.io".to_owned() } else { text.to_owned() })
}

fn mirror_of(text: &str) -> Result<Mirror, String> {
    let (plain, rest) = match text.split_once("://") {
        None => (false, text),
        Some(("https", rest)) => (false, rest),
        Some(("http", rest)) => (true, rest),
        Some((scheme, _)) => return Err(format!("expected http:// or https://, not {scheme}://")),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/').trim_start_matches("v2/").to_owned();
    if path.contains(['?', '#']) || path == "v2" {
        return Err("expected a host and perhaps a path, such as https://mirror.example.org/hub".to_owned());
    }
    Ok(Mirror { host: host_of(host)?, path, plain })
}

#[cfg(test)]
mod tests {
    use super::{Mirror, Registries};
    use std::path::{Path, PathBuf};

    fn parse(text: &str) -> Result<Registries, String> {
        Registries::parse(Path::new("/etc/strake/registries.yaml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_read() {
        let text = "registries:\n  docker.io:\n    mirrors: [https://mirror.example.org/hub/, 'http://10.0.0.5:5000']\n  r.example.org:5000:\n    ca: certs/ca.pem\n    auth: [login.example.net]\n  plain.example.org: {insecure: true}\n  odd.example.org:\n";
        let registries = parse(text).unwrap();
        let mirror = |host: &str, path: &str, plain| Mirror { host: host.to_owned(), path: path.to_owned(), plain };
        assert_eq!(registries.of("docker.io").mirrors, [mirror("mirror.example.org", "hub", false), mirror("10.0.0.5:5000", "", true)]);
        let own = registries.of("r.example.org:5000");
        assert_eq!((own.ca, own.auth, own.insecure), (Some(PathBuf::from("/etc/strake/certs/ca.pem")), vec!["login.example.net".to_owned()], false));
        assert!(registries.of("plain.example.org").insecure && !registries.of("unknown").insecure);
        assert_eq!(parse("").unwrap(), Registries::default());
        assert_eq!(parse("registries:\n").unwrap(), Registries::default());
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "registries:\n  docker.io:\n    mirror: [x]\n    insecure: maybe\n  https://a.b/: {}\n  b.c: {mirrors: x.y}\n  c.d: {mirrors: ['ftp://x'], insecure: true, skipVerify: true}\nother: 1\n";
        let told = parse(text).unwrap_err();
        for part in [
            "registries.yaml:3:5",
            "unknown field `mirror`",
            "did you mean `mirrors`?",
            "`insecure` is",
            "expected true or false",
            "`https://a.b/` is no registry",
            "expected a list of texts",
            "not ftp://",
            "plain HTTP has no certificates",
            "unknown field `other`",
        ] {
            assert!(told.contains(part), "{part}:\n{told}");
        }
        assert!(parse("registries: [a]\n").unwrap_err().contains("expected a mapping"));
        assert!(parse("a: [\n").is_err());
    }
}
