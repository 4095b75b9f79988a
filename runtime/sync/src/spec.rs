//! What a Sync wants, read from its object. The API has validated it; a file of the foreground has not, so what is wrong is said here again.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use strake_kinds::validate::{self, sync::range};
use strake_words::GoDuration;

use crate::forge::{Forge, Provider};
use crate::{Reason, Trouble};

/// Which commit of a repository is meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// What the repository calls HEAD.
    Head,
    /// A branch or a tag, as git finds it.
    Name(String),
    /// A branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// The highest version among the tags that is in the range.
    Semver(String),
    /// A commit.
    Commit(String),
}

impl Reference {
    /// As a person writes it.
    pub fn shown(&self) -> &str {
        match self {
            Reference::Head => "HEAD",
            Reference::Name(text) | Reference::Branch(text) | Reference::Tag(text) | Reference::Semver(text) | Reference::Commit(text) => text,
        }
    }
}

/// Whom to tell how a commit fared.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Where, and in which form.
    pub forge: Forge,
    /// The Secret that has the token.
    pub secret: String,
}

/// The Secret that has a kubeconfig.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeSecret {
    /// Its name.
    pub name: String,
    /// The key in it, when it is none of the usual ones.
    pub key: Option<String>,
}

/// What a Sync wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The repository's address.
    pub url: String,
    /// Which commit.
    pub reference: Reference,
    /// The folder in it.
    pub path: String,
    /// How long until the repository is asked again.
    pub interval: Duration,
    /// An environment of strake.yaml.
    pub environment: Option<String>,
    /// Where objects without a namespace go; strake.yaml's or the Sync's own without.
    pub target_namespace: Option<String>,
    /// The set's name; strake.yaml's or the Sync's without.
    pub set: Option<String>,
    /// Where images are pushed that another cluster is to run: `HOST[/PATH]`.
    pub push_to: Option<String>,
    /// Nothing is done while it is set.
    pub suspend: bool,
    /// Delete what left the repository.
    pub prune: bool,
    /// Delete even most of it.
    pub allow_mass_delete: bool,
    /// Take fields over that others own.
    pub force_conflicts: bool,
    /// Make anew what cannot be changed.
    pub replace: bool,
    /// Only what the repository's strake.lock says may run.
    pub locked: bool,
    /// Put back what somebody else has changed.
    pub self_heal: bool,
    /// How long to wait for health.
    pub timeout: Duration,
    /// The Secret with the login for the repository.
    pub secret: Option<String>,
    /// The login for another cluster, which is deployed to.
    pub kubeconfig: Option<KubeSecret>,
    /// The Secret with the token that deliveries of a webhook are signed with.
    pub webhook: Option<String>,
    /// Whom to tell.
    pub report: Option<Report>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    url: String,
    r#ref: WireRef,
    path: String,
    interval: String,
    timeout: String,
    environment: Option<String>,
    target_namespace: Option<String>,
    set: Option<String>,
    push_to: Option<String>,
    suspend: bool,
    prune: Option<bool>,
    allow_mass_delete: bool,
    force_conflicts: bool,
    replace: bool,
    locked: bool,
    self_heal: bool,
    secret_ref: Option<WireSecret>,
    kube_config: Option<WireKubeConfig>,
    webhook: Option<WireWebhook>,
    report: Option<WireReport>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireRef {
    name: String,
    branch: String,
    tag: String,
    semver: String,
    commit: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireSecret {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireKubeConfig {
    secret_ref: WireSecretKey,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireSecretKey {
    name: String,
    key: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireWebhook {
    secret_ref: WireSecret,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireReport {
    provider: String,
    url: String,
    project: String,
    context: String,
    secret_ref: WireSecret,
}

impl WireRef {
    fn read(self) -> Reference {
        let given = |text: &String| !text.is_empty();
        match self {
            WireRef { commit, .. } if given(&commit) => Reference::Commit(commit),
            WireRef { semver, .. } if given(&semver) => Reference::Semver(semver),
            WireRef { tag, .. } if given(&tag) => Reference::Tag(tag),
            WireRef { branch, .. } if given(&branch) => Reference::Branch(branch),
            WireRef { name, .. } if given(&name) => Reference::Name(name),
            WireRef { .. } => Reference::Head,
        }
    }
}

fn duration(text: &str, otherwise: u64) -> Duration {
    GoDuration::parse(text).map_or(Duration::from_secs(otherwise), GoDuration::to_std)
}

impl Spec {
    /// Reads the object.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`] with everything that an API server would refuse.
    pub fn read(object: &Value) -> Result<Spec, Trouble> {
        let kind = strake_kinds::by_kind(crate::API_VERSION, crate::KIND);
        let wrong: Vec<String> = kind.map(|kind| validate::object(object, kind)).unwrap_or_default().iter().map(ToString::to_string).collect();
        if !wrong.is_empty() {
            return Err(Trouble::new(Reason::InvalidSpec, wrong.join("; ")));
        }
        let wire: Wire = serde_json::from_value(object["spec"].clone()).map_err(|error| Trouble::new(Reason::InvalidSpec, format!("spec: {error}")))?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let report = wire.report.map(|report| report.read(&wire.url, name)).transpose()?;
        let reference = wire.r#ref.read();
        if let Reference::Semver(text) = &reference {
            range(text).map_err(|error| Trouble::new(Reason::InvalidSpec, format!("spec.ref.semver: {error}")))?;
        }
        let named = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Spec {
            url: wire.url,
            reference,
            path: wire.path.trim_matches('/').trim_start_matches("./").to_owned(),
            interval: duration(&wire.interval, 60),
            timeout: duration(&wire.timeout, 300),
            environment: named(wire.environment),
            target_namespace: named(wire.target_namespace),
            set: named(wire.set),
            push_to: named(wire.push_to),
            suspend: wire.suspend,
            prune: wire.prune.unwrap_or(true),
            allow_mass_delete: wire.allow_mass_delete,
            force_conflicts: wire.force_conflicts,
            replace: wire.replace,
            locked: wire.locked,
            self_heal: wire.self_heal,
            secret: wire.secret_ref.map(|secret| secret.name),
            kubeconfig: wire.kube_config.map(|kubeconfig| KubeSecret { name: kubeconfig.secret_ref.name, key: named(kubeconfig.secret_ref.key) }),
            webhook: wire.webhook.map(|webhook| webhook.secret_ref.name),
            report,
        })
    }
}

impl WireReport {
    fn read(self, repository: &str, name: &str) -> Result<Report, Trouble> {
        let context = if self.context.is_empty() { format!("strake/{name}") } else { self.context };
        let provider = match self.provider.as_str() {
            "" => None,
            word => Provider::parse(word),
        };
        let forge = Forge::of(repository, provider, &self.url, &self.project, &context);
        let forge = forge.map_err(|message| Trouble::new(Reason::InvalidSpec, format!("spec.report: {message}")))?;
        Ok(Report { forge, secret: self.secret_ref.name })
    }
}
