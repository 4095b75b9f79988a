//! The objects that a line of arguments means.

use std::path::Path;

use base64::Engine;
use serde_json::{Map, Value, json};
use strake_sync::Spec;
use strake_words::GitReference;

use crate::args::Follow;
use crate::failure::Failure;

/// A Sync, and the Secrets that it needs.
pub struct Wanted {
    /// The Sync.
    pub sync: Value,
    /// Its Secrets.
    pub secrets: Vec<Value>,
}

/// What the arguments mean.
///
/// # Errors
/// Everything that the API would refuse.
pub fn of(args: &Follow) -> Result<Wanted, Failure> {
    let usage = |text: String| Failure::text(text).with_code(2);
    let repo = args.repo.as_deref().ok_or_else(|| usage("which repository? `strake sync REPO --path FOLDER`, or `strake sync list`".to_owned()))?;
    let parsed = GitReference::parse(repo).map_err(|error| usage(error.to_string()))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&parsed.remote).ok_or_else(|| usage(format!("{} does not say what to call it: give --name", parsed.shown())))?,
    };
    let mut secrets = Vec::new();
    let mut spec = plain(args, repo);
    let secret = |suffix: &str, entries: Vec<(&str, &Path)>| -> Result<Value, Failure> {
        let mut data = Map::new();
        for (key, path) in entries {
            let bytes = std::fs::read(path).map_err(|source| Failure::read(path, source))?;
            data.insert(key.to_owned(), base64::engine::general_purpose::STANDARD.encode(bytes).into());
        }
        let metadata = json!({"name": format!("{name}-{suffix}"), "namespace": args.namespace});
        Ok(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}))
    };
    let logins = &args.logins;
    let files = [("token", &logins.token_file), ("ssh-privatekey", &logins.ssh_key), ("known_hosts", &logins.known_hosts)];
    let files: Vec<(&str, &Path)> = files.iter().filter_map(|(key, path)| Some((*key, path.as_deref()?))).collect();
    let refer = |name: &str| json!({ "name": name });
    if !files.is_empty() {
        secrets.push(secret("git", files)?);
        spec["secretRef"] = refer(&format!("{name}-git"));
    } else if let Some(given) = &logins.secret {
        spec["secretRef"] = refer(given);
    }
    if let Some(given) = &logins.kubeconfig_secret {
        spec["kubeConfig"] = json!({"secretRef": refer(given)});
    }
    if let Some(file) = &logins.webhook_secret_file {
        secrets.push(secret("webhook", vec![("token", file)])?);
        spec["webhook"] = json!({"secretRef": refer(&format!("{name}-webhook"))});
    } else if let Some(given) = &logins.webhook_secret {
        spec["webhook"] = json!({"secretRef": refer(given)});
    }
    if let Some(forge) = args.report {
        let mut report = json!({"provider": forge.as_str()});
        for (field, value) in [("url", &args.report_url), ("project", &args.report_project)] {
            value.iter().for_each(|value| report[field] = value.as_str().into());
        }
        report["secretRef"] = match (&logins.report_token_file, &logins.report_secret) {
            (Some(file), _) => {
                secrets.push(secret("report", vec![("token", file)])?);
                refer(&format!("{name}-report"))
            }
            (None, Some(given)) => refer(given),
            (None, None) if spec.get("secretRef").is_some() => spec["secretRef"].clone(),
            (None, None) => return Err(usage("--report needs a token: give --report-token-file or --report-secret".to_owned())),
        };
        spec["report"] = report;
    }
    let metadata = json!({"name": name, "namespace": args.namespace});
    let sync = json!({"apiVersion": strake_sync::API_VERSION, "kind": strake_sync::KIND, "metadata": metadata, "spec": spec});
    Spec::read(&sync).map_err(|trouble| usage(trouble.message))?;
    Ok(Wanted { sync, secrets })
}

/// Everything but logins.
fn plain(args: &Follow, repo: &str) -> Value {
    let mut spec = json!({"url": repo, "path": args.path, "interval": args.interval, "timeout": args.timeout});
    if let Some(range) = &args.semver {
        spec["ref"] = json!({ "semver": range });
    } else if let Some(name) = &args.reference {
        let is_commit = matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        spec["ref"] = match (name.strip_prefix("refs/heads/"), name.strip_prefix("refs/tags/")) {
            (Some(branch), _) => json!({ "branch": branch }),
            (_, Some(tag)) => json!({ "tag": tag }),
            _ if is_commit => json!({ "commit": name }),
            _ => json!({ "name": name }),
        };
    }
    for (field, value) in [("environment", &args.env), ("targetNamespace", &args.target_namespace), ("set", &args.set), ("pushTo", &args.push_to)] {
        value.iter().for_each(|value| spec[field] = value.as_str().into());
    }
    let flags = [
        ("allowMassDelete", args.allow_mass_delete),
        ("forceConflicts", args.force_conflicts),
        ("replace", args.replace),
        ("locked", args.locked),
        ("selfHeal", args.self_heal),
    ];
    flags.iter().filter(|(_, set)| *set).for_each(|(field, _)| spec[*field] = true.into());
    if args.no_prune {
        spec["prune"] = false.into();
    }
    spec
}

/// The repository's own name, as an object can be called.
fn name_of(remote: &str) -> Option<String> {
    let last = remote.trim_end_matches('/').rsplit(['/', ':']).next()?;
    let name: String = last.trim_end_matches(".git").to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Some(name.trim_matches('-').to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::{name_of, of};
    use crate::args::{Cli, Command};

    fn read(words: &[&str]) -> Result<super::Wanted, String> {
        let words = ["strake", "sync"].iter().chain(words);
        match Cli::try_parse_from(words).expect("arguments").command {
            Command::Sync(args) => of(&args.follow).map_err(|failure| failure.to_string()),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn what_is_typed_becomes_an_object() {
        let wanted = read(&["https://git.example/Shop_Web.git", "--ref", "main", "--path", "deploy/", "--no-prune"]).expect("valid");
        assert_eq!(wanted.sync["metadata"], json!({"name": "shop-web", "namespace": "default"}));
        let spec =
            json!({"url": "https://git.example/Shop_Web.git", "path": "deploy/", "interval": "1m", "timeout": "5m", "ref": {"name": "main"}, "prune": false});
        assert_eq!(wanted.sync["spec"], spec);
        assert_eq!(read(&["git@h:a.git", "--ref", "refs/tags/v1"]).expect("valid").sync["spec"]["ref"], json!({"tag": "v1"}));
        assert_eq!(read(&["git@h:a.git", "--semver", "1.x", "--secret", "key"]).expect("valid").sync["spec"]["secretRef"], json!({"name": "key"}));
    }

    #[test]
    fn mistakes_are_told_before_anything_is_made() {
        let wrong = |words: &[&str]| read(words).map(|_| ()).expect_err("it is wrong");
        assert!(wrong(&[]).contains("which repository?"));
        assert!(wrong(&["shop"]).contains("address of a git repository"));
        assert!(wrong(&["https://me:s3cret@h/a.git"]).contains("put the token into a Secret"));
        assert!(wrong(&["https://h/a.git", "--interval", "5"]).contains("5s"));
        assert!(wrong(&["https://h/a.git", "--report", "gitea"]).contains("--report needs a token"));
        assert_eq!(name_of("https://h/"), Some("h".to_owned()));
    }
}
