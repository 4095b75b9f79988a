//! Starts the process that builds and applies a commit, and reads how it ended.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use strake_sync::{AppliedSet, Head, Reason, Spec, Trouble};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::source::tree;
use super::{Context, Key};

/// The hidden command.
pub const COMMAND: &str = "sync-worker";
/// The commit, for the set's history.
pub const REVISION: &str = "STRAKE_GIT_REVISION";
/// The most that is kept of what it says, in bytes.
const MOST_SAID: u64 = 256 * 1024;

/// What the process is told on its standard input, in one line. When that input ends, so does the process.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// The repository's files.
    pub tree: PathBuf,
    /// The directory to apply.
    pub dir: PathBuf,
    /// The set's name, where strake.yaml has none.
    pub name: String,
    /// The namespace, where neither the Sync nor strake.yaml names one.
    pub namespace: String,
    /// What stands behind `strake apply DIR`.
    pub words: Vec<String>,
    /// The kubeconfig of the cluster that is deployed to, when it is from a Secret.
    #[serde(default)]
    pub kubeconfig: Option<String>,
}

/// How it ended.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    /// As it should.
    Done {
        /// What was done.
        message: String,
        /// Whether that was anything.
        changed: bool,
        /// As what.
        set: AppliedSet,
    },
    /// It did not.
    Wrong(Trouble),
}

/// What would be typed after `strake apply DIR`.
fn words(context: &Context, spec: &Spec) -> Vec<String> {
    let mut words = Vec::new();
    let mut pair = |name: &str, value: &Option<String>| words.extend(value.iter().flat_map(|value| [name.to_owned(), value.clone()]));
    pair("--env", &spec.environment);
    pair("--set", &spec.set);
    pair("--namespace", &spec.target_namespace);
    pair("--push-to", &spec.push_to);
    pair("--context", &context.target.context);
    pair("--kubeconfig", &context.target.kubeconfig.as_ref().map(|path| path.display().to_string()));
    pair("--timeout", &Some(spec.timeout.as_secs().max(1).to_string()));
    let flags = [
        (!spec.prune, "--no-prune"),
        (spec.allow_mass_delete, "--allow-mass-delete"),
        (spec.force_conflicts, "--force-conflicts"),
        (spec.replace, "--replace"),
    ];
    let flags = flags.into_iter().chain([(spec.locked, "--locked")]);
    words.extend(flags.filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()));
    words
}

/// Builds and applies the commit whose files are in `dir`.
pub async fn deploy(
    context: &Context,
    key: &Key,
    spec: &Spec,
    head: &Head,
    dir: &Path,
    kubeconfig: Option<String>,
) -> Result<(String, bool, AppliedSet), Trouble> {
    let lost = |error: std::io::Error| Trouble::new(Reason::Interrupted, format!("cannot start the deployment: {error}"));
    let job = Job {
        tree: tree(dir),
        dir: tree(dir).join(&spec.path),
        name: key.name.clone(),
        namespace: key.namespace.clone(),
        words: words(context, spec),
        kubeconfig,
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg0("strake").arg("--root").arg(&context.root).arg(COMMAND).env(REVISION, &head.commit).current_dir(tree(dir));
    // It is not killed: it ends by itself when its input does, and takes back what it has half done.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().map_err(lost)?;
    let (Some(mut input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err(lost(std::io::Error::other("no pipe")));
    };
    let mut line = serde_json::to_string(&job).unwrap_or_default();
    line.push('\n');
    input.write_all(line.as_bytes()).await.map_err(lost)?;
    let mut said = Vec::new();
    let mut output = output.take(MOST_SAID);
    let (read, told, status) = tokio::join!(output.read_to_end(&mut said), relay(errors, key), child.wait());
    drop(input);
    read.map_err(lost)?;
    let ended = String::from_utf8_lossy(&said).lines().rev().find_map(|line| serde_json::from_str::<Ended>(line).ok());
    match (ended, status) {
        (Some(Ended::Done { message, changed, set }), _) => Ok((message, changed, set)),
        (Some(Ended::Wrong(trouble)), _) => Err(trouble),
        (None, status) => {
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let mut trouble = Trouble::new(Reason::Interrupted, format!("the deployment ended without a word ({how})"));
            trouble.detail = told;
            Err(trouble)
        }
    }
}

/// Passes on what it says to the log; gives the last lines.
async fn relay(errors: tokio::process::ChildStderr, key: &Key) -> String {
    let mut lines = BufReader::new(errors).lines();
    let mut last = std::collections::VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::debug!("sync {key}: {line}");
        last.push_back(line);
        if last.len() > 20 {
            last.pop_front();
        }
    }
    last.into_iter().collect::<Vec<_>>().join("\n")
}
