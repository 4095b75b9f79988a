//! strake plan, compared with something: a cluster, another revision, nothing. And plans that are kept in a file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rayon::prelude::*;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde_json::Value;
use sha2::{Digest, Sha256};
use strake_apply::conceal::Key;
use strake_apply::review::{Action, Cluster, Consent, FORMAT_VERSION, Finding, GitState, Header, InventoryState, Review, Reviewed, Risk, review};
use strake_apply::{Applier, Options, predict};
use strake_client::{Client, Resource};
use strake_plan::{Change, DeployPlan, Plan};
use strake_source::{Diagnostic, Sources};

use crate::args::{Input, PlanConsent};
use crate::failure::Failure;
use crate::inputs;
use crate::output::{Paint, counted, without_secrets};

/// How long a plan that was kept may be applied.
const VALID: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// The exit code of a plan that no longer fits the cluster.
pub const STALE: u8 = 4;

/// What a review was made from.
pub fn header(input: &Input, plan: &Plan, target: &str) -> Header {
    let (digest, git) = rayon::join(|| input_digest(plan), || git_state(&input.dir));
    Header {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        input: digest,
        git,
        directory: place(&input.dir),
        more: input.more.iter().map(|word| place(word)).collect(),
        set: plan.deploy.set.clone(),
        namespace: plan.deploy.namespace.clone(),
        target: target.to_owned(),
        environment: input.env.clone(),
        values: input.values.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()).collect(),
        ..Header::default()
    }
}

/// What a plan that is kept calls an input: a path in full, a repository at its commit.
fn place(word: &Path) -> String {
    if let Some(commit) = inputs::commit_of(word) {
        return inputs::at_reference(word, &commit).unwrap_or_else(|_| word.to_owned()).display().to_string();
    }
    std::path::absolute(word).unwrap_or_else(|_| word.to_owned()).display().to_string()
}

/// The digest of a compiled plan. The values of Secrets are no part of it: who has the digest could try passwords.
fn input_digest(plan: &Plan) -> String {
    // Where files lie says nothing about what they mean.
    let placeless = |item: &mut Value| {
        item["origin"] = Value::Null;
        if let Some(item) = item.as_object_mut() {
            item.remove("places");
        }
    };
    // Objects make most of a plan: each is brought into its form by itself.
    let change = |change: &Change| {
        let mut change = serde_json::to_value(change).unwrap_or_default();
        crate::commands::plan::hide_secrets_of(&mut change);
        placeless(&mut change);
        change
    };
    let changes: Vec<Value> = plan.deploy.changes.par_iter().map(change).collect();
    let rest = Plan { format_version: plan.format_version, build: plan.build.clone(), deploy: plan.deploy.without_changes() };
    let mut text = serde_json::to_value(rest).unwrap_or_default();
    crate::commands::plan::changes(&mut text).for_each(|change| {
        crate::commands::plan::hide_secrets_of(change);
        placeless(change);
    });
    text["deploy"]["changes"] = Value::Array(changes);
    for part in ["steps", "images"] {
        text["build"][part].as_array_mut().into_iter().flatten().for_each(placeless);
    }
    text["build"]["contexts"] = Value::Null;
    // Not by its Display, which writes a mark at a time.
    let digest = Sha256::digest(serde_json::to_vec(&text).unwrap_or_default());
    format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The repository that a directory is in; nothing when there is none, or no git.
fn git_state(dir: &Path) -> Option<GitState> {
    // What a sync has fetched has no repository around it.
    if let Ok(revision) = std::env::var(crate::sync::deploy::REVISION) {
        return Some(GitState { revision, dirty: false });
    }
    if let Some(revision) = inputs::commit_of(dir) {
        return Some(GitState { revision, dirty: false });
    }
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(dir).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Some(GitState { revision: git(&["rev-parse", "HEAD"])?, dirty: !git(&["status", "--porcelain", "--", "."])?.is_empty() })
}

/// What the arguments of a plan or a diff agree to.
pub fn agreed(args: &PlanConsent) -> Consent {
    Consent {
        allow_mass_delete: args.allow_mass_delete,
        force_conflicts: args.force_conflicts,
        adopt: args.consent.adopt,
        confirmed: args.consent.confirm_delete.clone(),
        ..Consent::default()
    }
}

/// How to apply, or to find out what an apply would do, with this agreed to.
pub fn options(root: &Path, consent: &Consent) -> Options {
    Options {
        prune: !consent.no_prune,
        allow_mass_delete: consent.allow_mass_delete,
        force_conflicts: consent.force_conflicts,
        adopt: consent.adopt,
        replace: consent.replace,
        confirmed: consent.confirmed.clone(),
        key: key(root),
        ..Options::default()
    }
}

/// The state directory's key for hashes of secrets; made when there is none. Where none can be kept, hashes of two runs cannot be compared.
pub fn key(root: &Path) -> Key {
    let path = root.join("plan.key");
    let read = || fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok()).map(Key::of);
    if let Some(key) = read() {
        return key;
    }
    let key = Key::random();
    let keep = || -> std::io::Result<()> {
        fs::create_dir_all(root)?;
        // Whole or not at all, readable by its owner only; who comes second takes the first one's.
        let mut file = tempfile::NamedTempFile::new_in(root)?;
        std::io::Write::write_all(&mut file, key.bytes())?;
        file.persist_noclobber(&path).map(drop).map_err(|error| error.error)
    };
    match keep() {
        Ok(()) => key,
        Err(_) => read().unwrap_or(key),
    }
}

/// What applying would do in a cluster, by its own dry run. What would be refused is in the review.
pub async fn against_cluster(root: &Path, client: &Client, plan: &Plan, mut header: Header) -> Result<Review, Failure> {
    let now = jiff::Timestamp::now();
    header.created = Some(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    header.expires = now.checked_add(VALID).ok().map(|end| end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    header.cluster = Some(cluster(client, plan).await);
    let id = strake_apply::inventory::set_id(&plan.deploy.set, &plan.deploy.namespace);
    header.inventory = Some(InventoryState { id, generation: 0 });
    let options = options(root, &header.consent);
    let report = Applier::new(client, &plan.deploy, options, &|_| {}).diff().await.map_err(crate::commands::apply::explain)?;
    Ok(review(&plan.deploy, &report, header))
}

/// Which cluster it is. What may not be read is not told.
async fn cluster(client: &Client, plan: &Plan) -> Cluster {
    let system = client.get(&Resource::NAMESPACES, None, "kube-system").await.ok().flatten();
    let version = client.raw_get("/version").await.ok();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let versions: BTreeSet<String> = plan.deploy.changes.iter().map(|change| change.id.api_version()).collect();
    Cluster {
        uid: text(system.as_ref().map(|system| &system["metadata"]["uid"])),
        version: text(version.as_ref().map(|version| &version["gitVersion"])),
        api_versions: versions.into_iter().collect(),
    }
}

/// What is different from another plan, without any cluster. `before` is empty for `--empty`; `own` is whether it is for strake's own cluster.
pub fn against_plan(root: &Path, before: &DeployPlan, plan: &Plan, own: bool, header: Heading<'_>) -> Review {
    let (report, header) = rayon::join(|| predict::compare(before, &plan.deploy, &key(root), own), || header(plan));
    review(&plan.deploy, &report, header)
}

/// Makes a plan's header: beside the comparison, because git is asked for it.
pub type Heading<'a> = &'a (dyn Fn(&Plan) -> Header + Sync);

/// What the compiler says, as a plan keeps it.
pub fn finding(sources: &Sources, diagnostic: &Diagnostic) -> Finding {
    Finding {
        code: diagnostic.code.0.to_owned(),
        id: None,
        origin: diagnostic.span.map(|span| sources.place(span)).unwrap_or_default(),
        message: without_secrets(&diagnostic.message),
    }
}

/// What the files of a revision are put into. It goes when it is dropped; what a run has left that was killed goes with the next one.
pub struct Scratch {
    path: PathBuf,
    lock: PathBuf,
    /// Held as long as the folder is used.
    _held: fs::File,
}

impl Scratch {
    const NAME: &str = "strake-against-";

    fn new() -> std::io::Result<Scratch> {
        let folder = std::env::temp_dir();
        Scratch::clear(&folder);
        loop {
            // The lock is there before the folder: a folder without a holder is nobody's.
            let (file, lock) = tempfile::Builder::new().prefix(Scratch::NAME).suffix(".lock").tempfile_in(&folder)?.keep().map_err(|error| error.error)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            // Another run may have cleared it before it was held.
            if file.metadata()?.nlink() > 0 {
                let path = lock.with_extension("");
                fs::create_dir(&path)?;
                return Ok(Scratch { path, lock, _held: file });
            }
        }
    }

    /// Removes what nobody holds any more.
    fn clear(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(Scratch::NAME) || !name.ends_with(".lock") {
                continue;
            }
            let lock = entry.path();
            let open = rustix::fs::open(&lock, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            // What is somebody else's, or held, stays.
            let Ok(file) = open.map(fs::File::from) else { continue };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = fs::remove_dir_all(lock.with_extension(""));
                let _ = fs::remove_file(&lock);
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock);
    }
}

/// The files of a git revision below a directory, in a directory of their own that goes when the result is dropped.
pub fn at_revision(dir: &Path, revision: &str) -> Result<(Scratch, PathBuf), Failure> {
    let failed = |what: &str, said: &[u8]| Failure::text(format!("--against {revision}: {what}: {}", String::from_utf8_lossy(said).trim()));
    let git =
        |args: &[&str]| Command::new("git").arg("-C").arg(dir).args(args).output().map_err(|error| failed("cannot run git", error.to_string().as_bytes()));
    if revision.starts_with('-') {
        return Err(failed("not a revision", b"it starts with `-`").with_code(2));
    }
    let commit = git(&["rev-parse", "--verify", "--end-of-options", &format!("{revision}^{{commit}}")])?;
    if !commit.status.success() {
        return Err(failed("there is no such revision here", &commit.stderr));
    }
    let commit = String::from_utf8_lossy(&commit.stdout).trim().to_owned();
    let top = git(&["rev-parse", "--show-prefix"])?;
    let prefix = String::from_utf8_lossy(&top.stdout).trim().to_owned();
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let root = PathBuf::from(String::from_utf8_lossy(&root.stdout).trim());
    let folder = Scratch::new()?;
    // The same name at the end: a set is called like its directory.
    let name = root.file_name().map_or_else(|| "repository".into(), std::ffi::OsStr::to_os_string);
    let below = folder.path.join(name);
    fs::create_dir(&below)?;
    // Checked out with an index of its own, and not archived: with the modes that a checkout has, and all files, so that images come out the same.
    let mut prefix_words = std::ffi::OsString::from("--prefix=");
    prefix_words.push(below.join(""));
    let index = folder.path.join("index");
    let steps: [&[&std::ffi::OsStr]; 2] =
        [&["read-tree".as_ref(), commit.as_ref()], &["checkout-index".as_ref(), "--all".as_ref(), "--force".as_ref(), prefix_words.as_ref()]];
    for step in steps {
        let done = Command::new("git").arg("-C").arg(&root).args(step).env("GIT_INDEX_FILE", &index).output()?;
        if !done.status.success() {
            return Err(failed("cannot read it", &done.stderr));
        }
    }
    let place = below.join(prefix);
    if !place.is_dir() {
        fs::create_dir_all(&place)?;
    }
    Ok((folder, place))
}

/// Keeps a plan for later: the whole of it or none, and what was kept before until then. Readable by its owner only.
pub fn save(path: &Path, review: &Review) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(review)? + "\n";
    let failed = |source: std::io::Error| Failure::text(format!("cannot write {}: {source}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// A plan that was kept in a file; nothing when the file is something else.
///
/// # Errors
/// A plan of a later version.
pub fn saved(path: &Path) -> Result<Option<Review>, Failure> {
    if !path.is_file() {
        return Ok(None);
    }
    let Some(value) = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) else { return Ok(None) };
    let (Some(version), true) = (value["formatVersion"].as_u64(), value["header"].is_object()) else { return Ok(None) };
    if version > u64::from(FORMAT_VERSION) {
        return Err(Failure::text(format!("{} was made by a later strake (form {version}; this one reads {FORMAT_VERSION})", path.display())));
    }
    serde_json::from_value(value).map(Some).map_err(|error| Failure::text(format!("{} is not a plan: {error}", path.display())))
}

/// Checks that a plan that was kept is still what would happen.
pub fn check(saved: &Review, now: &Review) -> Result<(), Failure> {
    if saved.header.input != now.header.input {
        let text =
            format!("the plan is stale: {} is not as it was when the plan was made\n  make a new one: strake plan {0} --out FILE", saved.header.directory);
        return Err(Failure::text(text).with_code(STALE));
    }
    if saved.header.target != now.header.target {
        return Err(Failure::text(format!("the plan was made for {}, and this is {}", saved.header.target, now.header.target)).with_code(STALE));
    }
    let uid = |review: &Review| review.header.cluster.as_ref().map(|cluster| cluster.uid.clone()).filter(|uid| !uid.is_empty());
    if uid(saved).zip(uid(now)).is_some_and(|(made, here)| made != here) {
        return Err(Failure::text(format!("the plan was made for another cluster, which answered at {} too", saved.header.target)).with_code(STALE));
    }
    let ended = saved.header.expires.as_ref().zip(now.header.created.as_ref()).filter(|(end, now)| end < now);
    if let Some((end, _)) = ended {
        let text = format!("the plan is stale: it was good until {end}\n  make a new one: strake plan {} --out FILE", saved.header.directory);
        return Err(Failure::text(text).with_code(STALE));
    }
    if !saved.errors.is_empty() {
        let list: String = saved.errors.iter().map(|error| format!("\n  {}", error.message)).collect();
        return Err(Failure::text(format!("the plan cannot be applied:{list}")));
    }
    let drift = saved.stale(now);
    if drift.is_empty() {
        return Ok(());
    }
    let list: String = drift.iter().map(|line| format!("\n  {line}")).collect();
    Err(Failure::text(format!("the plan is stale: the cluster has changed since it was made{list}")).with_code(STALE))
}

fn sign(action: Action, paint: Paint) -> String {
    match action {
        Action::Create => paint.green("+ create "),
        Action::Update => paint.yellow("~ change "),
        Action::Replace => paint.red("± replace"),
        Action::Adopt => paint.yellow("> adopt  "),
        Action::Delete => paint.red("- delete "),
        Action::Forget => paint.dim("  keep   "),
        Action::Noop => paint.dim("  nothing"),
    }
}

fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::DataLoss => "data is lost",
        Risk::Downtime => "nothing answers for a while",
        Risk::RestartsPods => "pods are replaced",
        Risk::WidensAccess => "somebody may do more",
    }
}

fn totals(review: &Review) -> String {
    let words = [
        (Action::Create, "to create"),
        (Action::Update, "to change"),
        (Action::Replace, "to replace"),
        (Action::Adopt, "to adopt"),
        (Action::Delete, "to delete"),
        (Action::Forget, "to keep"),
        (Action::Noop, "as it is"),
    ];
    let parts = words.iter().filter_map(|(action, words)| review.summary.get(action).map(|count| format!("{count} {words}")));
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "(none)".to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), |text| format!("{text:?}")));
    if text.chars().count() > 120 { format!("{}…", text.chars().take(117).collect::<String>()) } else { text }
}

/// The review as a person reads it: what changes, field by field, and what to think of; what stays is only counted.
pub fn text(review: &Review, paint: Paint) -> String {
    let mut out = String::new();
    let header = &review.header;
    // Writing to a string does not fail.
    let _ = writeln!(out, "{} against {}", paint.bold(&format!("set {}", header.set)), header.target);
    for change in review.changes.iter().filter(|change| change.action != Action::Noop) {
        let origin = if change.origin.is_empty() { String::new() } else { format!("  {}", paint.dim(&change.origin)) };
        let _ = writeln!(out, "{} {}{origin}", sign(change.action, paint), change.id);
        if matches!(change.action, Action::Replace | Action::Forget | Action::Adopt) {
            let _ = writeln!(out, "      {}", paint.dim(&change.reason));
        }
        for field in change.fields.iter().filter(|_| change.action != Action::Create) {
            let (before, after) = (shown(field.before.as_ref()), shown(field.after.as_ref()));
            let mut notes: Vec<String> = field.owner.iter().map(|owner| format!("of {owner}")).collect();
            notes.extend(field.forces_replacement.then(|| "cannot be changed".to_owned()));
            let notes = if notes.is_empty() { String::new() } else { paint.dim(&format!("  ({})", notes.join("; "))) };
            let _ = writeln!(out, "      {}: {} -> {}{notes}", field.path, paint.red(&before), paint.green(&after));
        }
        for (path, reason) in &change.left {
            let _ = writeln!(out, "      {}", paint.dim(&format!("{path} is left as it is: {reason}")));
        }
        if let Some(rollout) = &change.rollout {
            let _ = writeln!(out, "      rolled out by {rollout}");
        }
        for found in &change.risks {
            let _ = writeln!(out, "      {}", paint.yellow(&format!("! {}", risk(*found))));
        }
    }
    for error in &review.errors {
        let _ = writeln!(out, "{} {}", paint.red("! refused"), error.message);
    }
    let _ = write!(out, "{}: {}", counted(review.changes.len(), "object"), totals(review));
    out
}

/// The review as Markdown, for a pull request.
pub fn markdown(review: &Review) -> String {
    let mut out = String::new();
    let header = &review.header;
    let git = header.git.as_ref().map_or_else(String::new, |git| {
        format!(" at `{}`{}", git.revision.chars().take(12).collect::<String>(), if git.dirty { " with other changes" } else { "" })
    });
    let _ = writeln!(out, "### Set `{}`{git} against {}\n\n**{}**\n", header.set, header.target, totals(review));
    for error in &review.errors {
        let _ = writeln!(out, "- **Refused**: {}", error.message.replace('\n', " "));
    }
    for warning in &review.warnings {
        let _ = writeln!(out, "- Warning: {}{}{}", warning.message.replace('\n', " "), if warning.origin.is_empty() { "" } else { " at " }, warning.origin);
    }
    if !review.errors.is_empty() || !review.warnings.is_empty() {
        out.push('\n');
    }
    let changes: Vec<&Reviewed> = review.changes.iter().filter(|change| change.action != Action::Noop).collect();
    if changes.is_empty() {
        return out;
    }
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let _ = writeln!(out, "| | object | why | to think of |\n|---|---|---|---|");
    for change in &changes {
        let risks: Vec<&str> = change.risks.iter().map(|found| risk(*found)).collect();
        let action = serde_json::to_value(change.action).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        let rollout = change.rollout.as_ref().map(|rollout| format!("; rolled out by {rollout}")).unwrap_or_default();
        let _ = writeln!(out, "| {action} | {} | {} | {} |", cell(&change.id.to_string()), cell(&format!("{}{rollout}", change.reason)), risks.join(", "));
    }
    let with_fields: Vec<&&Reviewed> = changes.iter().filter(|change| !change.fields.is_empty() && change.action != Action::Create).collect();
    if !with_fields.is_empty() {
        let _ = writeln!(out, "\n<details><summary>Fields</summary>\n");
        for change in with_fields {
            let _ = writeln!(out, "{}\n```diff", change.id);
            for field in &change.fields {
                if let Some(before) = &field.before {
                    let _ = writeln!(out, "- {}: {}", field.path, shown(Some(before)));
                }
                if let Some(after) = &field.after {
                    let _ = writeln!(out, "+ {}: {}", field.path, shown(Some(after)));
                }
            }
            let _ = writeln!(out, "```");
        }
        let _ = writeln!(out, "\n</details>");
    }
    out
}
