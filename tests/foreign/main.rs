//! strake's own API beside a real one: the same requests to both, and what they answer.
//!
//! `STRAKE_FOREIGN_KUBECONFIG` names the kubeconfig of a cluster that may be written to; without it the comparison is skipped, and says so.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::print_stderr, reason = "what was compared must be seen")]

mod accepted;
mod answer;
mod applied;
mod twist;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use answer::Answer;
use serde_json::{Value, json};
use strake_api::{ApiOptions, ApiServer, NoNode, router};
use strake_client::{Client, DeleteParams, Patch, Resource, WriteParams};
use strake_kinds::KindInfo;
use strake_state::Memory;
use twist::twists;

/// The variable that names the other cluster.
const KUBECONFIG: &str = "STRAKE_FOREIGN_KUBECONFIG";
/// Where it all happens; made and deleted here.
const NAMESPACE: &str = "strake-foreign";
/// Requests under way at once.
const AT_ONCE: usize = 8;
/// The release that strake's own API is modelled on: what others answer is shown and not held against it.
const RELEASE: (&str, &str) = ("1", "33");

/// How an object is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As a new one.
    Create,
    /// In the place of the one that is there.
    Replace,
    /// As the wish of the manager who has made it.
    Apply,
    /// As the wish of another manager, who takes nothing away.
    Other,
}

/// Both clusters, for one test at a time: they all write the same objects.
struct Pair {
    ours: Client,
    real: Client,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Pair {
    async fn new(kubeconfig: PathBuf) -> Pair {
        let server = Arc::new(ApiServer::new(Arc::new(Memory::new()), ApiOptions::default(), Arc::new(NoNode)));
        server.bootstrap().await.unwrap();
        let real = Client::from_kubeconfig(Some(&kubeconfig), None).await.unwrap();
        let pair = Pair { ours: Client::in_process(router(server)), real, _alone: ALONE.lock().await };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        for client in pair.both() {
            let _ = client.create(&Resource::NAMESPACES, None, &namespace, &WriteParams::default()).await;
            // A controller would make it soon.
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
            let _ = client.create(&Resource::SERVICE_ACCOUNTS, Some(NAMESPACE), &account, &WriteParams::default()).await;
        }
        pair
    }

    fn both(&self) -> [&Client; 2] {
        [&self.ours, &self.real]
    }

    async fn answers(&self, way: Way, object: &Value) -> (Answer, Answer) {
        let (ours, real) = tokio::join!(send(&self.ours, way, object, true), send(&self.real, way, object, true));
        let alone = way == Way::Create;
        (Answer::of(ours, object, alone), Answer::of(real, object, alone))
    }
}

/// The other cluster's kubeconfig, or a loud nothing.
fn kubeconfig(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os(KUBECONFIG).map(PathBuf::from);
    if path.is_none() {
        strake_tests::skip(test, &format!("{KUBECONFIG} names no cluster (tests/foreign/README.md says how to get one)"));
    }
    path
}

fn objects(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap()).collect()
}

fn kind(object: &Value) -> &'static KindInfo {
    strake_kinds::by_kind(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap()).unwrap()
}

fn resource(kind: &KindInfo) -> Resource {
    Resource::new(kind.group, kind.version, kind.plural, kind.kind, kind.namespaced)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

async fn send(client: &Client, way: Way, object: &Value, dry_run: bool) -> Result<Value, strake_client::ClientError> {
    let resource = resource(kind(object));
    let params = WriteParams { dry_run, strict: true, ..WriteParams::manager("base") };
    let apply = |manager: &str| Patch::Apply { object: object.clone(), manager: manager.to_owned(), force: false };
    match way {
        Way::Create => client.create(&resource, Some(NAMESPACE), object, &params).await,
        Way::Replace => client.replace(&resource, Some(NAMESPACE), object, None, &params).await,
        Way::Apply => client.patch(&resource, Some(NAMESPACE), name(object), &apply("base"), None, &params).await,
        Way::Other => client.patch(&resource, Some(NAMESPACE), name(object), &apply("other"), None, &params).await,
    }
}

/// What differs, by kind, way, field and twist.
#[derive(Default)]
struct Tally {
    asked: usize,
    accepted: BTreeMap<&'static str, usize>,
    /// Both refuse, with other codes or for reasons that are not told in the same fields.
    causes: Vec<String>,
    differences: Vec<String>,
}

impl Tally {
    fn add(&mut self, what: &str, answers: &(Answer, Answer)) {
        self.asked += 1;
        for difference in answers.0.differences(&answers.1) {
            let line = format!("{what}: {difference}");
            match accepted::why(&line) {
                Some(why) => *self.accepted.entry(why).or_default() += 1,
                None if difference.starts_with("causes") || difference.starts_with("refused") => self.causes.push(line),
                None => self.differences.push(line),
            }
        }
    }

    async fn end(self, test: &str, real: &Client) {
        let version = real.raw_get("/version").await.unwrap();
        eprintln!("{test}: {} requests to both, the other one is {}", self.asked, version["gitVersion"].as_str().unwrap_or("of no version"));
        for (why, count) in &self.accepted {
            eprintln!("  {count} differ as they may: {why}");
        }
        eprintln!("  {} are refused by both, with other codes or causes", self.causes.len());
        for line in self.causes.iter().filter(|_| std::env::var_os("STRAKE_FOREIGN_CAUSES").is_some()).chain(&self.differences) {
            eprintln!("  {line}");
        }
        let (major, minor) = (version["major"].as_str().unwrap_or_default(), version["minor"].as_str().unwrap_or_default());
        if (major, minor.trim_end_matches('+')) == RELEASE {
            assert!(self.differences.is_empty(), "{test}: {} differences", self.differences.len());
        } else {
            eprintln!("  not held against strake: its API is that of {}.{}", RELEASE.0, RELEASE.1);
        }
    }
}

/// Asks both for each twist of `object`, several at once.
async fn ask(pair: &Arc<Pair>, tally: &mut Tally, ways: &[Way], object: &Value) {
    let whole = [("".to_owned(), "as it is", object.clone())];
    let twisted = twists(object).into_iter().map(|twist| (twist.path, twist.how, twist.object));
    let cases: Vec<_> = whole.into_iter().chain(twisted).flat_map(|case| ways.iter().map(move |way| (*way, case.clone()))).collect();
    // A name in the path is the one that is there.
    let cases = cases.into_iter().filter(|(way, (.., object))| *way == Way::Create || !name(object).is_empty());
    let mut waiting = cases.collect::<std::collections::VecDeque<_>>();
    let mut running = tokio::task::JoinSet::new();
    let mut lines = Vec::new();
    let title = format!("{}/{}", object["kind"].as_str().unwrap(), name(object));
    loop {
        while running.len() < AT_ONCE
            && let Some((way, (path, how, object))) = waiting.pop_front()
        {
            let (pair, title) = (pair.clone(), title.clone());
            running.spawn(async move { (format!("{way:?} {title} {path} {how}"), pair.answers(way, &object).await) });
        }
        let Some(done) = running.join_next().await else { break };
        lines.push(done.unwrap());
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    for (what, answers) in &lines {
        tally.add(what, answers);
    }
}

fn chosen(object: &Value) -> bool {
    // Narrows a search by hand.
    std::env::var("STRAKE_FOREIGN_ONLY").is_ok_and(|only| !only.is_empty() && !format!("{}/{}", object["kind"].as_str().unwrap(), name(object)).contains(&only))
}

#[tokio::test(flavor = "multi_thread")]
async fn new_objects_are_answered_as_by_a_real_server() {
    let Some(path) = kubeconfig("new objects") else { return };
    let pair = Arc::new(Pair::new(path).await);
    let mut tally = Tally::default();
    for object in objects(include_str!("served.yaml")).iter().filter(|object| !chosen(object)) {
        ask(&pair, &mut tally, &[Way::Create], object).await;
    }
    tally.end("new objects", &pair.real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_objects_are_answered_as_by_a_real_server() {
    let Some(path) = kubeconfig("changed objects") else { return };
    let pair = Arc::new(Pair::new(path).await);
    let mut tally = Tally::default();
    for object in objects(include_str!("served.yaml")).iter().filter(|object| !chosen(object)) {
        let resource = resource(kind(object));
        for client in pair.both() {
            let _ = client.delete(&resource, Some(NAMESPACE), name(object), &DeleteParams { grace_seconds: Some(0), ..DeleteParams::default() }).await;
            send(client, Way::Apply, object, false).await.unwrap_or_else(|error| panic!("{object}: {error}"));
        }
        ask(&pair, &mut tally, &[Way::Replace, Way::Apply, Way::Other], object).await;
        for client in pair.both() {
            let unheld = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = client.patch(&resource, Some(NAMESPACE), name(object), &unheld, None, &WriteParams::default()).await;
            let at_once = DeleteParams { grace_seconds: Some(0), ..DeleteParams::default() };
            let _ = client.delete(&resource, Some(NAMESPACE), name(object), &at_once).await;
        }
    }
    tally.end("changed objects", &pair.real).await;
}

/// Of kinds that strake's own API does not serve, a manifest is still held against the schema, and never refused for what a server takes.
#[tokio::test(flavor = "multi_thread")]
async fn objects_of_every_kind_are_read_as_by_a_real_server() {
    let Some(path) = kubeconfig("every kind") else { return };
    let pair = Pair::new(path).await;
    let mut tally = Tally::default();
    let all = objects(include_str!("served.yaml")).into_iter().chain(objects(include_str!("other.yaml")));
    for object in all.filter(|object| !chosen(object)) {
        for (path, how, twisted) in
            std::iter::once((String::new(), "as it is", object.clone())).chain(twists(&object).into_iter().map(|t| (t.path, t.how, t.object)))
        {
            let real = send(&pair.real, Way::Create, &twisted, true).await;
            let elsewhere = |message: &str| message.starts_with("the namespace of the provided object");
            let unread = matches!(&real, Err(error) if error.status().is_some_and(|status| status.code == 400 && !elsewhere(&status.message)));
            let told = read(&twisted);
            tally.asked += 1;
            let line = match (&told, &real) {
                (Some(Told::Unread(why)), _) if !unread => format!("strake does not read it ({why}), the real one does"),
                (None | Some(Told::Invalid(_)), Err(error)) if unread => format!("strake reads it, the real one does not: {error}"),
                (Some(Told::Invalid(why)), Ok(_)) => format!("strake finds it invalid ({why}), the real one does not"),
                _ => continue,
            };
            let line = format!("Read {}/{} {path} {how}: {line}", object["kind"].as_str().unwrap(), name(&object));
            match accepted::why(&line) {
                Some(why) => *tally.accepted.entry(why).or_default() += 1,
                None => tally.differences.push(line),
            }
        }
    }
    tally.end("every kind", &pair.real).await;
}

/// What is said of a manifest without a cluster.
enum Told {
    Unread(String),
    Invalid(String),
}

fn read(object: &Value) -> Option<Told> {
    use strake_kinds::{decode, default, validate};
    let kind = kind(object);
    let unread = decode::check(object, kind.schema()).into_iter().find(|error| error.problem != decode::Problem::MissingRequired);
    if let Some(error) = unread {
        return Some(Told::Unread(error.to_string()));
    }
    let mut object = object.clone();
    if kind.namespaced && object["metadata"].is_object() && object["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    decode::settle_nulls(&mut object, kind.schema());
    default::fold_write_only(&mut object, kind);
    default::admit(kind, &mut object, None);
    default::apply(&mut object, kind);
    decode::canonical(&mut object, kind.schema());
    validate::object(&object, kind).first().map(|finding| Told::Invalid(finding.to_string()))
}
