//! `git` with nothing of this machine's configuration, and nothing of a repository's.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Output, Stdio};

use strake_words::{GitReference, GitScheme};
use tokio::process::Command;

use super::{GitError, GitOptions};
use crate::address::is_refused;
use crate::fetch::FetchError;

/// Variables that say how to reach the network, and where programs are.
const KEPT: [&str; 15] = [
    "PATH",
    "GIT_EXEC_PATH",
    "TMPDIR",
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "USER",
];

/// What git must not take from anywhere, and what it must not do.
const SETTINGS: [&str; 16] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    // Its entries would carry the time and this machine's name.
    "core.logAllRefUpdates=false",
    "core.attributesFile=/dev/null",
    "core.askPass=/bin/false",
    "credential.helper=",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "protocol.version=2",
    "transfer.bundleURI=false",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "tar.umask=0022",
];

/// One repository's `git`.
pub(super) struct Git<'a> {
    /// For messages: the address without a login.
    pub url: String,
    options: &'a GitOptions,
    /// `host:port:address,…`, for http and https.
    pinned: Option<String>,
    /// `http.URL.extraHeader=Authorization: …`.
    header: Option<(String, String)>,
    /// The repository is of this machine.
    local: bool,
}

impl<'a> Git<'a> {
    /// Looks the machine up, and refuses those that builds may not reach. For http and https, git then connects to these very addresses.
    pub async fn reach(reference: &GitReference, options: &'a GitOptions) -> Result<Self, GitError> {
        let url = reference.shown();
        let default_port = match reference.scheme {
            GitScheme::Http => 80,
            GitScheme::Https => 443,
            GitScheme::Ssh => 22,
            GitScheme::Git => 9418,
            GitScheme::File => return Ok(Git { url, options, pinned: None, header: None, local: true }),
        };
        let (host, port) = (reference.host.trim_start_matches('[').trim_end_matches(']'), reference.port.unwrap_or(default_port));
        // A name that only the configuration of ssh, or a proxy, knows.
        let found: Vec<IpAddr> = match tokio::net::lookup_host((host, port)).await {
            Ok(found) => found.map(|address: SocketAddr| address.ip()).collect(),
            Err(_) => Vec::new(),
        };
        if let Some(address) = found.iter().copied().find(|address| is_refused(*address)) {
            return Err(GitError::Refused { source: FetchError::Refused { url: url.clone(), address }, url });
        }
        let web = matches!(reference.scheme, GitScheme::Http | GitScheme::Https);
        let addresses: Vec<String> = found.iter().map(|address| if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }).collect();
        let pinned = (web && !addresses.is_empty() && host.parse::<IpAddr>().is_err()).then(|| format!("{host}:{port}:{}", addresses.join(",")));
        let header = options.authorization.as_ref().filter(|_| web).map(|value| {
            let scheme = if reference.scheme == GitScheme::Https { "https" } else { "http" };
            (format!("http.{scheme}://{}:{port}/.extraHeader", reference.host), format!("Authorization: {value}"))
        });
        if reference.scheme == GitScheme::Ssh && !options.ssh {
            return Err(GitError::SshNotAllowed { url });
        }
        Ok(Git { url, options, pinned, header, local: false })
    }

    /// A command on the repository at `dir`, not started.
    pub fn command(&self, dir: Option<&Path>) -> Command {
        let mut command = Command::new("git");
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        let none = [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null"), ("HOME", "/nonexistent"), ("LC_ALL", "C")];
        let off = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
        ];
        let rules = [("GIT_ASKPASS", "/bin/false"), ("SSH_ASKPASS", "/bin/false"), ("GIT_PROTOCOL_FROM_USER", "0")];
        command.envs(none).envs(off).envs(rules);
        let protocols = match (self.local, self.options.ssh) {
            (true, _) => "file",
            (false, true) => "http:https:git:ssh",
            (false, false) => "http:https:git",
        };
        command.env("GIT_ALLOW_PROTOCOL", protocols);
        if self.options.ssh {
            command.env("GIT_SSH_COMMAND", self.ssh()).env("GIT_SSH_VARIANT", "ssh");
            command.envs(self.options.agent.as_ref().filter(|_| self.options.identity.is_none()).map(|socket| ("SSH_AUTH_SOCK", socket)));
        }
        // Headers in the environment: other users see a process's arguments.
        if let Some((name, value)) = &self.header {
            command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", name).env("GIT_CONFIG_VALUE_0", value);
        }
        let pinned = self.pinned.iter().map(|pinned| format!("http.curloptResolve={pinned}"));
        for setting in SETTINGS.iter().map(|setting| (*setting).to_owned()).chain(pinned) {
            command.arg("-c").arg(setting);
        }
        if let Some(dir) = dir {
            let mut argument = std::ffi::OsString::from("--git-dir=");
            argument.push(dir);
            command.arg(argument);
        }
        command
    }

    /// ssh with the keys that it was given, else with those of whoever runs this.
    fn ssh(&self) -> String {
        let mut words = "ssh -o BatchMode=yes -o ConnectTimeout=30".to_owned();
        if let Some(path) = &self.options.identity {
            words.push_str(&format!(" -i {} -o IdentitiesOnly=yes", path.display()));
        }
        if let Some(path) = &self.options.known_hosts {
            words.push_str(&format!(" -o UserKnownHostsFile={} -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes", path.display()));
        }
        words
    }

    /// Runs a command to its end.
    pub async fn output<S: AsRef<OsStr>>(&self, dir: Option<&Path>, arguments: &[S]) -> Result<Output, GitError> {
        let output = self.command(dir).args(arguments).output();
        let timeout = self.options.timeout;
        let ended = tokio::time::timeout(timeout, output).await.map_err(|_| GitError::Timeout { url: self.url.clone(), timeout })?;
        ended.map_err(|source| self.not_run(source))
    }

    /// Runs a command that must end well, and gives what it printed.
    pub async fn run<S: AsRef<OsStr>>(&self, what: &'static str, dir: Option<&Path>, arguments: &[S]) -> Result<Vec<u8>, GitError> {
        let output = self.output(dir, arguments).await?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(what, &output)) }
    }

    /// The error for a program that could not be started.
    pub fn not_run(&self, source: std::io::Error) -> GitError {
        let url = self.url.clone();
        if source.kind() == ErrorKind::NotFound { GitError::Missing { url } } else { GitError::Run { url, source } }
    }

    /// The error for a command that failed.
    pub fn failed(&self, what: &'static str, output: &Output) -> GitError {
        GitError::Failed { what, url: self.url.clone(), reason: said(&output.stderr), status: output.status }
    }
}

/// The lines in which git says what is wrong, without control characters (a server sends some of them) and without logins.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let telling = |line: &&str| ["fatal:", "error:", "remote:", "ssh:"].iter().any(|start| line.starts_with(start)) || line.contains("denied");
    let lines: Vec<&str> = text.lines().filter(telling).collect();
    let kept = if lines.is_empty() { text.lines().rev().take(1).collect() } else { lines };
    let clean: String = kept.join("; ").chars().filter(|c| !c.is_control()).take(600).collect();
    let words = clean.split(' ').map(|word| match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://{}", &word[..scheme], &word[at + 1..]),
        _ => word.to_owned(),
    });
    let mut reason = words.collect::<Vec<_>>().join(" ");
    if reason.contains("redirect") {
        reason.push_str(" (the address leads elsewhere: name the one that it leads to)");
    }
    if reason.is_empty() { "it does not say why".to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn what_git_says_is_told_without_logins_and_escapes() {
        let text = b"Cloning\nremote: \x1b[2Jno\nfatal: unable to access 'https://me:token@h/x.git/': 404\n";
        assert_eq!(said(text), "remote: [2Jno; fatal: unable to access 'https://h/x.git/': 404");
        assert_eq!(said(b""), "it does not say why");
    }
}
