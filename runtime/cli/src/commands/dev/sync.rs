//! Files that go straight into running containers: which ones may, where they belong there, and how they get there.
//!
//! Containers that have got some are marked until they are replaced: what runs in them is not what any image says. The next `strake up` replaces them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
pub use strake_apply::tree::SYNCED;
use strake_client::{Client, DeleteParams, ExecInput, ExecParams, ListParams, Patch, Resource, WriteParams};
use strake_compile::config::SyncRule;
use strake_dockerfile::{Ignore, has_wildcard};
use strake_plan::{BuildPlan, Change, ContextKind, Copy, CopySource, DeployPlan, Op, Plan};

use crate::commands::forward::{is_taking, selector};
use crate::failure::{Failure, chain};

/// The annotation of a workload that allows it.
const ALLOWED: &str = "strake.dev/sync";
const MANAGER: &str = "strake-dev";
/// Most that is put at once: more is a rebuild's business.
const MOST_BYTES: u64 = 64 << 20;
/// How long pods in the place of deleted ones are waited for.
const REPLACED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// Where files of a place belong in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The image's place in the plan.
    image: usize,
    /// A file, or a directory with all that is in it.
    from: PathBuf,
    to: String,
    /// A command to run afterwards.
    run: Vec<String>,
    /// The project says so; otherwise the workload or the user has to allow it.
    declared: bool,
}

impl Rule {
    fn place(&self, file: &Path) -> Option<String> {
        let inside = file.strip_prefix(&self.from).ok()?.to_str()?;
        Some(if inside.is_empty() { self.to.clone() } else { format!("{}/{inside}", self.to.trim_end_matches('/')) })
    }
}

/// What the project and the user say.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Rules of the project's file.
    pub declared: Vec<SyncRule>,
    /// The project's directory.
    pub project: PathBuf,
    /// `--sync`.
    pub all: bool,
}

/// Files for one container of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The workload's place in the plan.
    change: usize,
    container: String,
    /// From here to there.
    files: BTreeMap<PathBuf, String>,
    run: Vec<String>,
}

/// What goes to the containers of one image.
#[derive(Default)]
struct Load {
    files: BTreeMap<PathBuf, String>,
    run: Vec<String>,
    /// Some of it is not what the project says, but what its Dockerfile does.
    inferred: bool,
}

/// A plan's rules: those of the project, and what its Dockerfiles do nothing else with than copy it.
pub fn rules(plan: &BuildPlan, wishes: &Wishes) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (image, built) in plan.images.iter().enumerate() {
        let is_named = |rule: &&SyncRule| built.tags.iter().any(|tag| is_tag(tag, &rule.image));
        for rule in wishes.declared.iter().filter(is_named) {
            let from = wishes.project.join(&rule.from);
            rules.push(Rule { image, from: from.canonicalize().unwrap_or(from), to: rule.to.clone(), run: rule.run.clone(), declared: true });
        }
        rules.extend(inferred(plan, image));
    }
    rules
}

/// `web` names `docker.io/library/web:latest`.
fn is_tag(tag: &str, name: &str) -> bool {
    let bare = |text: &str| {
        let cut = text.rfind(':').filter(|at| !text[*at..].contains('/')).unwrap_or(text.len());
        text[..cut].trim_start_matches("docker.io/").trim_start_matches("library/").to_owned()
    };
    bare(tag) == bare(name)
}

fn context<'a>(plan: &'a BuildPlan, name: &str) -> Option<(&'a Path, &'a [String])> {
    let context = plan.contexts.get(name)?;
    let ContextKind::Directory { path } = &context.kind;
    Some((Path::new(path), &context.ignore))
}

/// From the image's end back to the first step that may do something with what was copied before it.
fn inferred(plan: &BuildPlan, image: usize) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut next = Some(plan.images[image].step);
    while let Some(index) = next {
        let op = &plan.step(index).op;
        match op {
            Op::Copy(copy) => match &copy.from {
                CopySource::Context { name } if is_plain(copy) => {
                    if let Some((root, _)) = context(plan, name) {
                        rules.extend(copied(copy, root).into_iter().map(|(from, to)| Rule { image, from, to, run: Vec::new(), declared: false }));
                    }
                }
                CopySource::Step { .. } => {}
                CopySource::Context { .. } | CopySource::Inline => break,
            },
            Op::Mkdir(_) => {}
            Op::Run(_) | Op::Base { .. } | Op::Scratch => break,
        }
        next = op.parent();
    }
    rules
}

/// A COPY that changes nothing about its files.
fn is_plain(copy: &Copy) -> bool {
    copy.chown.is_none()
        && copy.chmod.is_none()
        && copy.exclude.is_empty()
        && !copy.parents
        && copy.add.is_none()
        && copy.inline.is_empty()
        && copy.also.is_empty()
}

fn copied(copy: &Copy, root: &Path) -> Vec<(PathBuf, String)> {
    let into = copy.dest.ends_with('/') || copy.sources.len() > 1;
    let each = |source: &String| {
        let from = if matches!(source.as_str(), "" | "." | "/") { root.to_owned() } else { root.join(source.trim_start_matches('/')) };
        if has_wildcard(source) {
            return None;
        }
        if from.is_dir() {
            return Some((from, copy.dest.clone()));
        }
        let name = from.file_name()?.to_str()?.to_owned();
        if into {
            return Some((from, format!("{}/{name}", copy.dest.trim_end_matches('/'))));
        }
        // Without a slash it may be a directory that is there already.
        (copy.dest.rsplit('/').next() == Some(&name)).then(|| (from, copy.dest.clone()))
    };
    copy.sources.iter().filter_map(each).collect()
}

/// The images that read a file from a context.
fn readers(plan: &BuildPlan, file: &Path) -> Vec<usize> {
    let reads = |name: &str| {
        let Some((root, ignore)) = context(plan, name) else { return false };
        let inside = file.strip_prefix(root).ok().and_then(Path::to_str);
        inside.is_some_and(|inside| !Ignore::from_patterns(ignore).is_ok_and(|ignore| ignore.excluded(inside)))
    };
    let mut found = Vec::new();
    for (image, built) in plan.images.iter().enumerate() {
        let (mut todo, mut seen) = (vec![built.step], BTreeSet::new());
        while let Some(index) = todo.pop() {
            let op = &plan.step(index).op;
            if !seen.insert(index) {
                continue;
            }
            let sources: Vec<&CopySource> = match op {
                Op::Copy(copy) => std::iter::once(&copy.from).chain(copy.also.iter().map(|further| &further.from)).collect(),
                Op::Run(run) => run
                    .mounts
                    .iter()
                    .filter_map(|mount| match &mount.kind {
                        strake_plan::MountKind::Bind { from, .. } => Some(from),
                        _ => None,
                    })
                    .collect(),
                Op::Scratch | Op::Base { .. } | Op::Mkdir(_) => Vec::new(),
            };
            if sources.iter().any(|source| matches!(source, CopySource::Context { name } if reads(name))) {
                found.push(image);
                break;
            }
            todo.extend(op.inputs());
        }
    }
    found
}

/// Where each of the files goes; `None` when only new images will do.
pub fn deliveries(plan: &Plan, files: &BTreeSet<PathBuf>, wishes: &Wishes) -> Option<Vec<Delivery>> {
    let rules = rules(&plan.build, wishes);
    let mut found: BTreeMap<usize, Load> = BTreeMap::new();
    for file in files {
        let images = readers(&plan.build, file);
        if images.is_empty() {
            return None;
        }
        for image in images {
            let (rule, to) = rules.iter().filter(|rule| rule.image == image).find_map(|rule| Some((rule, rule.place(file)?)))?;
            // All of it is gone: that is more than a file.
            if *file == rule.from && !file.exists() {
                return None;
            }
            let load = found.entry(image).or_default();
            load.files.insert(file.clone(), to);
            load.inferred |= !rule.declared;
            if load.run.is_empty() {
                load.run.clone_from(&rule.run);
            }
        }
    }
    let mut deliveries = Vec::new();
    for (image, load) in found {
        let edges: Vec<_> = plan.deploy.images.iter().filter(|edge| edge.image == image).collect();
        if edges.is_empty() {
            return None;
        }
        for edge in edges {
            let change = plan.deploy.changes.get(edge.change.0)?;
            let allowed = !load.inferred || wishes.all || change.object["metadata"]["annotations"][ALLOWED] == "true";
            let container = edge.pointer.contains("/containers/").then(|| change.object.pointer(edge.pointer.strip_suffix("/image")?)).flatten()?;
            if !allowed || selector(&change.object["spec"]["selector"]["matchLabels"]).is_none() {
                return None;
            }
            deliveries.push(Delivery {
                change: edge.change.0,
                container: container["name"].as_str()?.to_owned(),
                files: load.files.clone(),
                run: load.run.clone(),
            });
        }
    }
    Some(deliveries)
}

/// An archive of the files as they are, and what is no more.
fn archive(files: &BTreeMap<PathBuf, String>) -> Result<(Vec<u8>, Vec<String>), String> {
    let (mut builder, mut gone, mut bytes) = (tar::Builder::new(Vec::new()), Vec::new(), 0);
    builder.mode(tar::HeaderMode::Deterministic);
    let mut todo: Vec<(PathBuf, String)> = files.iter().map(|(from, to)| (from.clone(), to.clone())).collect();
    while let Some((from, to)) = todo.pop() {
        let failed = |error: std::io::Error| format!("{}: {error}", from.display());
        let metadata = match std::fs::symlink_metadata(&from) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                gone.push(to);
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&from).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_str().ok_or_else(|| format!("{}: a name that is not UTF-8", from.display()))?.to_owned();
                todo.push((entry.path(), format!("{to}/{name}")));
            }
            continue;
        }
        bytes += metadata.len();
        if !metadata.is_file() || bytes > MOST_BYTES {
            return Err(format!("{} is not an ordinary file, or too large", from.display()));
        }
        let content = std::fs::read(&from).map_err(failed)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o7777);
        header.set_mtime(u64::try_from(std::os::unix::fs::MetadataExt::mtime(&metadata)).unwrap_or(0));
        builder.append_data(&mut header, to.trim_start_matches('/'), &content[..]).map_err(failed)?;
    }
    Ok((builder.into_inner().map_err(|error| error.to_string())?, gone))
}

/// What was put where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// Files, each counted once.
    pub files: usize,
    /// The pods.
    pub pods: BTreeSet<String>,
}

/// Puts the files into every running container that they are for.
///
/// # Errors
/// Why that cannot be done, in words: then new images have to be made. Pods that have got some of it are marked.
pub async fn put(client: &Client, plan: &DeployPlan, deliveries: &[Delivery]) -> Result<Put, String> {
    let mut put = Put::default();
    for delivery in deliveries {
        let change = &plan.changes[delivery.change];
        let (archive, gone) = archive(&delivery.files)?;
        let pods = pods(client, change).await?;
        if pods.is_empty() {
            return Err(format!("{} has no pod that is ready", change.id));
        }
        for pod in pods {
            mark(client, &change.id.namespace, &pod).await?;
            let place = Place { client, namespace: &change.id.namespace, pod: &pod, container: &delivery.container };
            place.run(&["tar", "-x", "-f", "-", "-C", "/"], &archive).await?;
            if !gone.is_empty() {
                let words: Vec<&str> = ["rm", "-rf", "--"].into_iter().chain(gone.iter().map(String::as_str)).collect();
                place.run(&words, &[]).await?;
            }
            if !delivery.run.is_empty() {
                place.run(&delivery.run.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await?;
            }
            put.pods.insert(pod);
        }
    }
    put.files = deliveries.iter().flat_map(|delivery| delivery.files.keys()).collect::<BTreeSet<_>>().len();
    Ok(put)
}

async fn pods(client: &Client, change: &Change) -> Result<Vec<String>, String> {
    let labels = selector(&change.object["spec"]["selector"]["matchLabels"]).unwrap_or_default();
    let found = client.list(&Resource::PODS, Some(&change.id.namespace), &ListParams::labels(labels)).await.map_err(|error| chain(&error))?;
    let living = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    // One that is only coming would have the old file.
    if let Some(pod) = found.items.iter().filter(living).find(|pod| !is_taking(pod)) {
        return Err(format!("pod {} is not ready", pod["metadata"]["name"].as_str().unwrap_or_default()));
    }
    Ok(found.items.iter().filter(living).filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// Before anything is put: whoever looks at the pod from now on knows.
async fn mark(client: &Client, namespace: &str, pod: &str) -> Result<(), String> {
    let patch = Patch::Merge(json!({"metadata": {"labels": {SYNCED: "true"}}}));
    client.patch(&Resource::PODS, Some(namespace), pod, &patch, None, &WriteParams::manager(MANAGER)).await.map(|_| ()).map_err(|error| chain(&error))
}

struct Place<'a> {
    client: &'a Client,
    namespace: &'a str,
    pod: &'a str,
    container: &'a str,
}

impl Place<'_> {
    async fn run(&self, command: &[&str], input: &[u8]) -> Result<(), String> {
        let failed = |why: String| format!("`{}` in container {} of pod {}: {why}", command.join(" "), self.container, self.pod);
        let params = ExecParams {
            container: Some(self.container.to_owned()),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            stdin: !input.is_empty(),
            tty: false,
        };
        let process = self.client.exec(self.namespace, self.pod, &params).await.map_err(|error| failed(chain(&error)))?;
        let sender = process.input();
        let pieces: Vec<Bytes> = input.chunks(64 << 10).map(Bytes::copy_from_slice).collect();
        let feed = async move {
            for piece in pieces {
                // A process that has ended says why by its exit code.
                if sender.send(ExecInput::Stdin(piece)).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(ExecInput::CloseStdin).await;
        };
        let ((), ended) = tokio::join!(feed, process.collect());
        match ended.map_err(|error| failed(chain(&error)))? {
            (0, ..) => Ok(()),
            (code, _, err) => Err(failed(format!("exit code {code}: {}", String::from_utf8_lossy(&err).trim()))),
        }
    }
}

/// Deletes the pods of a plan that have files which no image has: what makes them makes new ones. How many there were.
///
/// # Errors
/// The cluster cannot be asked, or refuses.
pub async fn replace_synced(client: &Client, plan: &DeployPlan) -> Result<usize, Failure> {
    let mut count = 0;
    let owner = |change: &Change| Some((change.id.namespace.clone(), selector(&change.object["spec"]["selector"]["matchLabels"])?));
    for (namespace, labels) in plan.changes.iter().filter_map(owner) {
        let found = client.list(&Resource::PODS, Some(&namespace), &ListParams::labels(format!("{labels},{SYNCED}=true"))).await?;
        for pod in found.items.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            match client.delete(&Resource::PODS, Some(&namespace), name, &DeleteParams::default()).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => count += 1,
            }
        }
        wait_for_pods(client, &namespace, &labels, count).await?;
    }
    Ok(count)
}

/// Waits until as many pods are ready as were replaced: the health of what owns them may still be that of before. One that does not get ready is the
/// apply's to blame.
async fn wait_for_pods(client: &Client, namespace: &str, labels: &str, count: usize) -> Result<(), Failure> {
    let end = std::time::Instant::now() + REPLACED;
    while count > 0 && std::time::Instant::now() < end {
        let found = client.list(&Resource::PODS, Some(namespace), &ListParams::labels(labels.to_owned())).await?;
        if found.items.iter().filter(|pod| is_taking(pod)).count() >= count {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::json;
    use strake_compile::config::SyncRule;
    use strake_oci::ImageConfig;
    use strake_plan::{BuildPlan, Change, ChangeId, Context, ContextKind, Copy, CopySource, DeployPlan, Image, ImageEdge, Op, Origin, Plan, Run, StepIndex};

    use super::{Wishes, archive, deliveries, is_tag};

    fn copy(parent: StepIndex, source: &str, dest: &str) -> Op {
        Op::Copy(Copy {
            parent,
            from: CopySource::Context { name: "c".to_owned() },
            sources: vec![source.to_owned()],
            inline: Vec::new(),
            dest: dest.to_owned(),
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            add: None,
            also: Vec::new(),
        })
    }

    fn run(parent: StepIndex) -> Op {
        let text = json!({"parent": parent, "args": ["true"], "env": [], "cwd": "/", "user": ""});
        Op::Run(serde_json::from_value::<Run>(text).expect("a RUN"))
    }

    /// scratch, COPY early, RUN, COPY static, COPY one file.
    fn plan(root: &Path, annotated: bool) -> Plan {
        let mut build = BuildPlan::default();
        build.contexts.insert("c".to_owned(), Context { kind: ContextKind::Directory { path: root.display().to_string() }, ignore: vec!["*.log".to_owned()] });
        let mut step = build.push(Op::Scratch, Origin::default(), "0");
        step = build.push(copy(step, "early", "/early/"), Origin::default(), "0");
        step = build.push(run(step), Origin::default(), "0");
        step = build.push(copy(step, "static", "/srv/static"), Origin::default(), "0");
        step = build.push(copy(step, "conf.txt", "/etc/conf.txt"), Origin::default(), "0");
        let config = ImageConfig::default();
        build.images.push(Image { tags: vec!["docker.io/library/web:latest".to_owned()], step, config, history: Vec::new(), origin: Origin::default() });
        let mut object =
            json!({"metadata": {}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "web", "image": "web"}]}}}});
        if annotated {
            object["metadata"]["annotations"] = json!({"strake.dev/sync": "true"});
        }
        let edge = ImageEdge { change: ChangeId(0), pointer: "/spec/template/spec/containers/0/image".to_owned(), image: 0 };
        let deploy = DeployPlan { changes: vec![Change { object, ..Change::default() }], images: vec![edge], ..DeployPlan::default() };
        Plan { build, deploy, ..Plan::default() }
    }

    #[test]
    fn what_is_only_copied_goes_where_it_is_copied_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        std::fs::create_dir_all(root.join("static/deep")).expect("made");
        for file in ["early", "static/deep/a", "conf.txt", "other"] {
            std::fs::write(root.join(file), "x").expect("written");
        }
        let files = |names: &[&str]| names.iter().map(|name| root.join(name)).collect::<BTreeSet<_>>();
        let allowed = plan(root, true);
        let found = deliveries(&allowed, &files(&["static/deep/a", "conf.txt"]), &Wishes::default()).expect("all can be put");
        let targets: Vec<&str> = found[0].files.values().map(String::as_str).collect();
        assert_eq!((found.len(), found[0].container.as_str(), targets), (1, "web", vec!["/etc/conf.txt", "/srv/static/deep/a"]));
        let none = |plan: &Plan, names: &[&str]| deliveries(plan, &files(names), &Wishes::default()).is_none();
        assert!(none(&allowed, &["early"]), "a RUN may have used it");
        assert!(none(&allowed, &["static/deep/a", "other"]), "one that cannot be put decides");
        assert!(none(&plan(root, false), &["conf.txt"]), "nobody allowed it");
        assert!(deliveries(&plan(root, false), &files(&["conf.txt"]), &Wishes { all: true, ..Wishes::default() }).is_some());
        let rule = SyncRule { image: "web".to_owned(), from: "early".to_owned(), to: "/early/early".to_owned(), run: vec!["reload".to_owned()] };
        let declared = Wishes { declared: vec![rule], project: root.to_owned(), all: false };
        let found = deliveries(&plan(root, false), &files(&["early"]), &declared).expect("the project says so");
        assert_eq!(found[0].run, ["reload"]);
    }

    #[test]
    fn an_archive_has_what_is_there_and_names_what_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("d")).expect("made");
        std::fs::write(dir.path().join("d/f"), "hello").expect("written");
        let files = [(dir.path().join("d"), "/srv".to_owned()), (dir.path().join("gone"), "/srv/gone".to_owned())].into();
        let (bytes, gone) = archive(&files).expect("packed");
        assert_eq!(gone, ["/srv/gone"]);
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<String> = archive.entries().expect("entries").map(|entry| entry.expect("one").path().expect("a path").display().to_string()).collect();
        assert_eq!(names, ["srv/f"]);
    }

    #[test]
    fn images_are_named_as_manifests_name_them() {
        assert!(is_tag("docker.io/library/web:latest", "web"));
        assert!(is_tag("registry:5000/a/web:1", "registry:5000/a/web"));
        assert!(!is_tag("docker.io/library/web2:latest", "web"));
    }
}
