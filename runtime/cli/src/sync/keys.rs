//! Logins: from Secrets in the cluster, or from files. They are read anew each time, and live in memory only: ssh gets its key as a file without a name.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use strake_client::{Client, Resource};
use strake_registry::GitOptions;
use strake_sync::{KubeSecret, Reason, Trouble};

/// How long one command of git may take: what hangs must not keep a repository from being asked again.
const GIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(600);

/// Where a kubeconfig is in a Secret that does not say it.
const KUBECONFIG: [&str; 3] = ["kubeconfig", "value", "value.yaml"];

/// Where logins are found.
#[derive(Clone)]
pub enum Keys {
    /// In Secrets of a namespace.
    Cluster(Client, String),
    /// In files of this machine.
    Files(KeyFiles),
}

/// Files with logins, for the foreground.
#[derive(Clone, Debug, Default)]
pub struct KeyFiles {
    /// A token for http and https.
    pub token: Option<PathBuf>,
    /// A private key for ssh.
    pub ssh_key: Option<PathBuf>,
    /// The machines that ssh trusts.
    pub known_hosts: Option<PathBuf>,
    /// The secret of the webhook.
    pub webhook: Option<PathBuf>,
    /// The token for commit statuses.
    pub report: Option<PathBuf>,
}

/// A login, with what keeps its files open.
pub struct Login {
    /// For git.
    pub options: GitOptions,
    _open: Vec<File>,
}

fn missing(message: String) -> Trouble {
    Trouble::new(Reason::CredentialsMissing, message)
}

/// A Secret's values as text, read anew.
struct Found {
    name: String,
    data: Value,
}

impl Found {
    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        STANDARD.decode(self.data[key].as_str()?).ok().filter(|bytes| !bytes.is_empty())
    }

    fn text(&self, keys: &[&str]) -> Result<Option<String>, Trouble> {
        let Some((key, bytes)) = keys.iter().find_map(|key| Some((key, self.bytes(key)?))) else { return Ok(None) };
        let text = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty() && !text.contains(char::is_control));
        text.map(Some).ok_or_else(|| missing(format!("Secret {}: `{key}` is not one line of text", self.name)))
    }
}

impl Keys {
    async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Found, Trouble> {
        let found = client.get(&Resource::SECRETS, Some(namespace), name).await;
        let found = found.map_err(|error| Trouble::new(Reason::ClusterUnreachable, format!("cannot read Secret {namespace}/{name}: {error}")))?;
        let object = found.ok_or_else(|| missing(format!("there is no Secret {namespace}/{name}")))?;
        Ok(Found { name: format!("{namespace}/{name}"), data: object["data"].clone() })
    }

    /// The login for the repository. Keys of the Secret: `token`, or `username` and `password`, or `ssh-privatekey` (also `identity`) with `known_hosts`.
    pub async fn git(&self, secret: Option<&str>) -> Result<Login, Trouble> {
        match (self, secret) {
            (Keys::Cluster(client, namespace), Some(name)) => {
                let found = Keys::secret(client, namespace, name).await?;
                let user = found.text(&["username"])?;
                let password = found.text(&["token", "password"])?;
                let key = found.bytes("ssh-privatekey").or_else(|| found.bytes("identity"));
                if password.is_none() && key.is_none() {
                    return Err(missing(format!("Secret {} has none of the keys token, password, ssh-privatekey", found.name)));
                }
                login(password, user, key, found.bytes("known_hosts"))
            }
            (Keys::Cluster(..), None) => login(None, None, None, None),
            (Keys::Files(files), _) => {
                let bytes = |path: &Option<PathBuf>| path.as_ref().map(read).transpose();
                let token = files.token.as_ref().map(line).transpose()?;
                login(token, None, bytes(&files.ssh_key)?, bytes(&files.known_hosts)?)
            }
        }
    }

    /// The kubeconfig of the cluster that is deployed to: what it names is in it, and nothing is run for it.
    pub async fn kubeconfig(&self, secret: &KubeSecret) -> Result<String, Trouble> {
        let Keys::Cluster(client, namespace) = self else {
            return Err(missing("in the foreground the cluster is named with --context or --kubeconfig".to_owned()));
        };
        let found = Keys::secret(client, namespace, &secret.name).await?;
        let keys: Vec<&str> = secret.key.as_deref().map_or_else(|| KUBECONFIG.to_vec(), |key| vec![key]);
        let none = || missing(format!("Secret {} has no key {}", found.name, keys.join(", ")));
        let bytes = keys.iter().find_map(|key| found.bytes(key)).ok_or_else(none)?;
        let text = String::from_utf8(bytes).map_err(|_| missing(format!("Secret {}: the kubeconfig is not text", found.name)))?;
        strake_client::stands_alone(&text).map_err(|why| missing(format!("Secret {}: the kubeconfig cannot be used: {why}", found.name)))?;
        Ok(text)
    }

    /// The secret that deliveries of a webhook are signed with: `token` or `secret`.
    pub async fn webhook(&self, secret: &str) -> Result<String, Trouble> {
        match self {
            Keys::Cluster(client, namespace) => {
                let found = Keys::secret(client, namespace, secret).await?;
                found.text(&["token", "secret"])?.ok_or_else(|| missing(format!("Secret {} has no key token", found.name)))
            }
            Keys::Files(files) => line(files.webhook.as_ref().ok_or_else(|| missing("no file with the webhook's secret was given".to_owned()))?),
        }
    }

    /// The token for commit statuses: `token`.
    pub async fn report(&self, secret: &str) -> Result<String, Trouble> {
        match self {
            Keys::Cluster(client, namespace) => {
                let found = Keys::secret(client, namespace, secret).await?;
                found.text(&["token", "password"])?.ok_or_else(|| missing(format!("Secret {} has no key token", found.name)))
            }
            Keys::Files(files) => line(files.report.as_ref().ok_or_else(|| missing("no file with the forge's token was given".to_owned()))?),
        }
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Trouble> {
    std::fs::read(path).map_err(|error| missing(format!("cannot read {}: {error}", path.display())))
}

fn line(path: &PathBuf) -> Result<String, Trouble> {
    let text = String::from_utf8(read(path)?).ok().map(|text| text.trim().to_owned());
    text.filter(|text| !text.is_empty() && !text.contains(char::is_control)).ok_or_else(|| missing(format!("{} is not one line of text", path.display())))
}

fn login(password: Option<String>, user: Option<String>, key: Option<Vec<u8>>, known_hosts: Option<Vec<u8>>) -> Result<Login, Trouble> {
    let mut options = GitOptions { ssh: true, timeout: GIT_TIMEOUT, ..GitOptions::default() };
    let mut open = Vec::new();
    let mut unnamed = |bytes: Option<Vec<u8>>| -> Result<Option<PathBuf>, Trouble> {
        let Some(bytes) = bytes else { return Ok(None) };
        let (file, path) = unnamed(&bytes)?;
        open.push(file);
        Ok(Some(path))
    };
    options.identity = unnamed(key)?;
    options.known_hosts = unnamed(known_hosts)?;
    if let Some(password) = password {
        let user = user.unwrap_or_else(|| "x-access-token".to_owned());
        options.authorization = Some(Arc::from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))));
    }
    if options.identity.is_none() {
        options.agent = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    Ok(Login { options, _open: open })
}

/// A file in memory, and the path by which it is there while it is open.
pub fn unnamed(bytes: &[u8]) -> Result<(File, PathBuf), Trouble> {
    let file = in_memory(bytes).map_err(|error| missing(format!("cannot keep a key in memory: {error}")))?;
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    Ok((file, path))
}

/// A file that is nowhere, for the owner only: ssh wants its key so.
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
    let mut file = File::from(memfd_create("strake-key", MemfdFlags::CLOEXEC)?);
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    file.write_all(bytes)?;
    // A key's last line must end.
    if !bytes.ends_with(b"\n") {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::login;

    #[test]
    fn a_login_is_in_memory_and_for_its_owner_only() {
        let login = login(Some("t".to_owned()), None, Some(b"key".to_vec()), None).expect("a login");
        let path = login.options.identity.clone().expect("a key");
        assert_eq!(std::fs::read(&path).expect("readable"), b"key\n");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(login.options.authorization.as_deref(), Some("Basic eC1hY2Nlc3MtdG9rZW46dA=="));
        assert_eq!(login.options.known_hosts, None);
    }
}
