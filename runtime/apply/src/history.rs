//! The history of a set: what each apply sent and how it ended, as revisions that are kept in the cluster beside the inventory. Pure: how a revision is
//! written as Secrets and read back, what its status is, which ones go, which one a rollback goes to.
//!
//! A revision is a Secret of type `strake.dev/revision`. Its annotation says what is shown of it; its data is the plan that was sent, as compressed JSON,
//! in further Secrets where one is too small. The values of Secrets of *other* namespaces are not in it: they are kept in a Secret of their own namespace,
//! so that whoever may read them there, and nobody else, may read them in the history.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strake_plan::{DeployPlan, ObjectId};

use crate::inventory;
use crate::review::GitState;

/// The type of the Secrets that hold revisions.
pub const TYPE: &str = "strake.dev/revision";
/// The version of the form; a reader refuses a greater one.
pub const FORMAT_VERSION: u32 = 1;
/// How many revisions are kept when nothing else is said.
pub const KEEP: usize = 10;
/// The label with the set's id, on everything that belongs to the history.
const SET: &str = "strake.dev/history-of";
/// The label with the revision's number, on everything that belongs to it.
const NUMBER: &str = "strake.dev/revision";
/// The label that tells the Secret with the annotation (`head`) from those with more data (`part`) and with values of another namespace (`values`).
const ROLE: &str = "strake.dev/revision-part";
/// The annotation with the [`Entry`].
const ABOUT: &str = "strake.dev/about";
/// The key of the data.
const DATA: &str = "plan.json.gz";
/// Bytes of one Secret's data. A server takes 1 MiB.
const PART_BYTES: usize = 700 * 1024;
/// A plan that unpacks to more is not read.
const MOST_BYTES: u64 = 256 << 20;

/// What is shown of a revision without reading its plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// 1 for the first, then counted up.
    pub number: u64,
    /// The set's name.
    pub set: String,
    /// When the apply began.
    pub started: Timestamp,
    /// When it ended; none while it is applied, and when it was interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub end: End,
    /// Why it failed, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The git revision of the directory, with whether it had other changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitState>,
    /// The digest of everything that was compiled, without the values of Secrets.
    pub input: String,
    /// Who applied: `user@host`, or the actor of a CI.
    pub who: String,
    /// strake's version.
    pub tool: String,
    /// The environment of the project's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The revision that a rollback went back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// Whether health was waited for.
    pub waited: bool,
    /// How many objects it has.
    pub objects: usize,
    /// What its containers run.
    pub images: Vec<ImageUse>,
    /// How many objects were created, changed, unchanged and deleted.
    pub summary: BTreeMap<String, usize>,
    /// How many Secrets its plan takes.
    pub parts: usize,
    /// Other namespaces with values of its Secrets.
    pub values_in: BTreeSet<String>,
}

/// How an apply ended, as far as it was written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It has not said so: it is applied just now, or was interrupted.
    #[default]
    Open,
    /// Everything was applied.
    Deployed,
    /// It failed.
    Failed,
}

/// An image of a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageUse {
    /// As the container names it.
    pub reference: String,
    /// The digest that it was pinned to, or that ran when the apply ended; none when nothing told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// It was built from a Dockerfile of the directory: no registry need have it.
    #[serde(default)]
    pub built: bool,
}

/// What a revision's status is, seen beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// An apply of it runs.
    Applying,
    /// It is what the cluster was told last.
    Deployed,
    /// It was deployed, and a later one was too.
    Superseded,
    /// It failed.
    Failed,
    /// Its apply ended without a word: it was killed, or lost the cluster.
    Interrupted,
}

impl Status {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Applying => "applying",
            Status::Deployed => "deployed",
            Status::Superseded => "superseded",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
        }
    }
}

/// What is wrong with a revision that is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// A later strake wrote it.
    #[error("revision {number} was written by a later strake (form {found}; this one reads {FORMAT_VERSION})")]
    Later { number: u64, found: u32 },
    /// A Secret of it is gone.
    #[error("revision {number} is not complete: its part {part} is missing")]
    Part { number: u64, part: usize },
    /// The values of a namespace's Secrets are gone.
    #[error("revision {number} cannot be used: the values of its Secrets in namespace {namespace} are gone with it")]
    Values { number: u64, namespace: String },
    /// It is damaged.
    #[error("revision {number} cannot be read: {reason}")]
    Damaged { number: u64, reason: String },
}

/// What chooses everything of a set's history.
pub fn selector(set_id: &str) -> String {
    format!("{SET}={set_id}")
}

/// What chooses everything of one revision.
pub fn selector_of(set_id: &str, number: u64) -> String {
    format!("{SET}={set_id},{NUMBER}={number}")
}

/// The name of the Secret that a revision is known by.
pub fn name(set: &str, number: u64) -> String {
    format!("strake-rev-{set}-{number}")
}

/// Whether an object belongs to the history of the set with this id.
pub fn is_of(object: &Value, set_id: &str) -> bool {
    object["metadata"]["labels"][SET] == set_id
}

/// The number of the revision that a Secret belongs to.
pub fn number_of(secret: &Value) -> Option<u64> {
    secret["metadata"]["labels"][NUMBER].as_str()?.parse().ok()
}

/// The revisions among a set's Secrets, oldest first. What cannot be read as one is left out.
pub fn entries(secrets: &[Value]) -> Vec<Entry> {
    let read = |secret: &Value| serde_json::from_str::<Entry>(secret["metadata"]["annotations"][ABOUT].as_str()?).ok();
    let mut found: Vec<Entry> = secrets.iter().filter(|secret| is_role(secret, "head")).filter_map(read).collect();
    found.sort_by_key(|entry| entry.number);
    found
}

fn is_role(secret: &Value, role: &str) -> bool {
    secret["metadata"]["labels"][ROLE] == role
}

/// The statuses of a set's revisions, in their order. `running` says that an apply of the set runs just now.
pub fn statuses(entries: &[Entry], running: bool) -> Vec<Status> {
    let deployed = entries.iter().rposition(|entry| entry.end == End::Deployed);
    let each = entries.iter().enumerate().map(|(place, entry)| match entry.end {
        End::Open if running && place + 1 == entries.len() => Status::Applying,
        End::Open => Status::Interrupted,
        End::Failed => Status::Failed,
        End::Deployed if deployed == Some(place) => Status::Deployed,
        End::Deployed => Status::Superseded,
    });
    each.collect()
}

/// The newest revision that was deployed.
pub fn deployed(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().rfind(|entry| entry.end == End::Deployed)
}

/// The revision that a rollback without a number goes to: what was deployed last when the newest one did not get that far, else what was deployed before it. One that was
/// interrupted on its way back is gone on with.
pub fn back(entries: &[Entry]) -> Option<&Entry> {
    let newest = entries.last()?;
    let meant = newest.back_to.filter(|_| newest.end == End::Open);
    if let Some(meant) = entries.iter().find(|entry| entry.end == End::Deployed && Some(entry.number) == meant) {
        return Some(meant);
    }
    entries.iter().rfind(|entry| entry.end == End::Deployed && entry.number < newest.number)
}

/// The revisions that are too many: all but the newest `keep`; what was deployed last stays in any case.
pub fn outdated(entries: &[Entry], keep: usize) -> Vec<u64> {
    let last = deployed(entries).map(|entry| entry.number);
    let old = &entries[..entries.len().saturating_sub(keep)];
    old.iter().map(|entry| entry.number).filter(|number| Some(*number) != last).collect()
}

/// Whether two plans send the same objects. Where they were written does not count.
pub fn same(one: &DeployPlan, other: &DeployPlan) -> bool {
    let objects = |plan: &DeployPlan| plan.changes.iter().map(|change| (change.id.clone(), change.object.clone())).collect::<BTreeMap<ObjectId, Value>>();
    let hooks = |plan: &DeployPlan| plan.occasions.iter().map(|hook| (hook.when, hook.weight, hook.change.object.clone())).collect::<Vec<_>>();
    one.namespace == other.namespace && objects(one) == objects(other) && hooks(one) == hooks(other)
}

/// What a plan's containers run, with the digests that are known: those in the references, else those that `ran` (reference to digest).
pub fn images(plan: &DeployPlan, ran: &BTreeMap<String, String>) -> Vec<ImageUse> {
    let edges: BTreeSet<(usize, &str)> = plan.images.iter().map(|edge| (edge.change.0, edge.pointer.as_str())).collect();
    let mut found: BTreeMap<String, ImageUse> = BTreeMap::new();
    let hooks = plan.occasions.iter().map(|hook| (None, &hook.change, hook.images.as_slice()));
    let each = plan.changes.iter().enumerate().map(|(place, change)| (Some(place), change, [].as_slice()));
    for (place, change, own) in each.chain(hooks) {
        for (pointer, reference) in references(&change.object) {
            let digest = reference.split_once('@').map(|(_, digest)| digest.to_owned()).or_else(|| ran.get(&reference).cloned());
            let built = place.is_some_and(|place| edges.contains(&(place, pointer.as_str()))) || own.iter().any(|(other, _)| *other == pointer);
            let known = found.entry(reference.clone()).or_insert(ImageUse { reference, digest, built });
            known.built |= built;
        }
    }
    found.into_values().collect()
}

/// What tags meant to these pods: references without a digest, with the digest of what runs. Of several pods the newest counts.
pub fn ran(pods: &[Value]) -> BTreeMap<String, String> {
    let mut pods: Vec<&Value> = pods.iter().collect();
    pods.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default());
    let mut found = BTreeMap::new();
    for pod in pods {
        let statuses = ["initContainerStatuses", "containerStatuses"].into_iter().filter_map(|list| pod["status"][list].as_array()).flatten();
        let ids: BTreeMap<&str, &str> =
            statuses.filter_map(|status| Some((status["name"].as_str()?, status["imageID"].as_str()?.split_once('@')?.1))).collect();
        let containers = ["initContainers", "containers"].into_iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
        for container in containers {
            let (Some(name), Some(image)) = (container["name"].as_str(), container["image"].as_str()) else { continue };
            if let Some(digest) = ids.get(name).filter(|digest| !image.contains('@') && digest.starts_with("sha256:")) {
                found.insert(image.to_owned(), (*digest).to_owned());
            }
        }
    }
    found
}

/// The images that an object's containers name, with the JSON pointers to them.
pub fn references(object: &Value) -> Vec<(String, String)> {
    let spec = match object["kind"].as_str().unwrap_or_default() {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    let mut found = Vec::new();
    for list in ["initContainers", "containers"] {
        let containers = object.pointer(&format!("{spec}/{list}")).and_then(Value::as_array).into_iter().flatten();
        for (place, container) in containers.enumerate() {
            if let Some(image) = container["image"].as_str() {
                found.push((format!("{spec}/{list}/{place}/image"), image.to_owned()));
            }
        }
    }
    found
}

/// Pins what a tag meant then, where it is known to mean another thing since. `then` are the images of the plan's revision, `now` those of the newest.
pub fn pin(plan: &mut DeployPlan, then: &[ImageUse], now: &[ImageUse]) {
    let digest = |images: &[ImageUse], reference: &str| images.iter().find(|image| image.reference == reference).and_then(|image| image.digest.clone());
    for change in plan.all_mut() {
        for (pointer, reference) in references(&change.object) {
            if reference.contains('@') {
                continue;
            }
            let (Some(meant), Some(means)) = (digest(then, &reference), digest(now, &reference)) else { continue };
            if meant != means
                && let Some(field) = change.object.pointer_mut(&pointer)
            {
                *field = Value::String(format!("{reference}@{meant}"));
            }
        }
    }
}

/// A revision as Secrets: the one that it is known by first, then those with the rest of its plan.
///
/// # Errors
/// The plan cannot be written as JSON.
pub fn encode(entry: &Entry, plan: &DeployPlan) -> Result<Vec<Value>, HistoryError> {
    let (bare, values) = without_foreign_values(plan);
    let bytes = pack(&bare, entry.number)?;
    let chunks: Vec<&[u8]> = bytes.chunks(PART_BYTES).collect();
    let entry = Entry { parts: chunks.len(), values_in: values.into_keys().collect(), ..entry.clone() };
    let id = inventory::set_id(&entry.set, &plan.namespace);
    let each = chunks.iter().enumerate().map(|(place, chunk)| {
        let own = name(&entry.set, entry.number);
        let (name, role) = if place == 0 { (own, "head") } else { (format!("{own}.{}", place + 1), "part") };
        let mut secret = secret(&name, &plan.namespace, &id, entry.number, role, chunk);
        if place == 0 {
            secret["metadata"]["annotations"] = json!({ABOUT: about(&entry)});
        }
        secret
    });
    Ok(each.collect())
}

/// The Secrets with the values of a revision's Secrets that are in other namespaces, each in its namespace.
///
/// # Errors
/// The values cannot be written as JSON.
pub fn encode_values(entry: &Entry, plan: &DeployPlan) -> Result<Vec<Value>, HistoryError> {
    let id = inventory::set_id(&entry.set, &plan.namespace);
    let (_, values) = without_foreign_values(plan);
    let mut secrets = Vec::new();
    for (namespace, values) in values {
        let bytes = pack(&values, entry.number)?;
        for (place, chunk) in bytes.chunks(PART_BYTES).enumerate() {
            let name = format!("strake-values-{}-{}.{}", short(&id), entry.number, place + 1);
            secrets.push(secret(&name, &namespace, &id, entry.number, "values", chunk));
        }
    }
    Ok(secrets)
}

/// The annotation of an entry, for changing how it ended.
pub fn annotations(entry: &Entry) -> Value {
    json!({ABOUT: about(entry)})
}

fn about(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap_or_default()
}

fn secret(name: &str, namespace: &str, id: &str, number: u64, role: &str, bytes: &[u8]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": TYPE,
        "metadata": {"name": name, "namespace": namespace, "labels": {SET: id, NUMBER: number.to_string(), ROLE: role}},
        "data": {DATA: BASE64_STANDARD.encode(bytes)},
    })
}

/// A short name for a set's id, for names of objects: lower case only.
fn short(id: &str) -> String {
    Sha256::digest(id.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The plan of a revision, from all Secrets of it.
///
/// # Errors
/// A Secret of it is missing or damaged; a later strake wrote it.
pub fn decode(entry: &Entry, namespace: &str, secrets: &[Value]) -> Result<DeployPlan, HistoryError> {
    let number = entry.number;
    if entry.format_version > FORMAT_VERSION {
        return Err(HistoryError::Later { number, found: entry.format_version });
    }
    let own = name(&entry.set, number);
    let wanted = (0..entry.parts).map(|place| if place == 0 { own.clone() } else { format!("{own}.{}", place + 1) });
    let mut bytes = Vec::new();
    for (place, name) in wanted.enumerate() {
        let found = secrets.iter().find(|secret| secret["metadata"]["name"] == name.as_str() && secret["metadata"]["namespace"] == namespace);
        let chunk = found.and_then(data).ok_or(HistoryError::Part { number, part: place + 1 })?;
        bytes.extend(chunk);
    }
    let mut plan: DeployPlan = unpack(&bytes, number)?;
    for space in &entry.values_in {
        let mut parts: Vec<&Value> = secrets
            .iter()
            .filter(|secret| is_role(secret, "values") && number_of(secret) == Some(number) && secret["metadata"]["namespace"] == space.as_str())
            .collect();
        parts.sort_by_key(|secret| secret["metadata"]["name"].as_str().and_then(|name| name.rsplit('.').next()?.parse::<usize>().ok()));
        let bytes: Vec<u8> = parts.iter().filter_map(|secret| data(secret)).flatten().collect();
        if bytes.is_empty() {
            return Err(HistoryError::Values { number, namespace: space.clone() });
        }
        let values: Values = unpack(&bytes, number)?;
        for change in plan.all_mut().filter(|change| change.id.namespace == *space) {
            let Some(kept) = values.get(&change.id.name).filter(|_| is_secret(&change.id)) else { continue };
            kept.iter().for_each(|(field, value)| change.object[field] = value.clone());
        }
    }
    Ok(plan)
}

/// Fields with values, by the Secret's name.
type Values = BTreeMap<String, BTreeMap<String, Value>>;

fn is_secret(id: &ObjectId) -> bool {
    id.kind == "Secret" && id.group.is_empty()
}

/// The plan without the values of Secrets that are in another namespace than the history, and those values by namespace.
fn without_foreign_values(plan: &DeployPlan) -> (DeployPlan, BTreeMap<String, Values>) {
    let mut plan = plan.clone();
    let mut values: BTreeMap<String, Values> = BTreeMap::new();
    let home = plan.namespace.clone();
    for change in plan.all_mut().filter(|change| is_secret(&change.id) && change.id.namespace != home) {
        let Some(object) = change.object.as_object_mut() else { continue };
        let taken: BTreeMap<String, Value> = ["data", "stringData"].iter().filter_map(|field| Some(((*field).to_owned(), object.remove(*field)?))).collect();
        if !taken.is_empty() {
            values.entry(change.id.namespace.clone()).or_default().insert(change.id.name.clone(), taken);
        }
    }
    (plan, values)
}

fn pack(value: &impl Serialize, number: u64) -> Result<Vec<u8>, HistoryError> {
    let damaged = |reason: String| HistoryError::Damaged { number, reason };
    let text = serde_json::to_vec(value).map_err(|error| damaged(error.to_string()))?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&text).and_then(|()| encoder.finish()).map_err(|error| damaged(error.to_string()))
}

fn unpack<T: serde::de::DeserializeOwned>(bytes: &[u8], number: u64) -> Result<T, HistoryError> {
    let damaged = |reason: String| HistoryError::Damaged { number, reason };
    let mut text = Vec::new();
    GzDecoder::new(bytes).take(MOST_BYTES).read_to_end(&mut text).map_err(|error| damaged(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))
}

/// The bytes of a Secret's data.
fn data(secret: &Value) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(secret["data"][DATA].as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use strake_plan::{Change, ChangeId, ImageEdge};

    use super::*;

    fn change(kind: &str, namespace: &str, name: &str, object: Value) -> Change {
        let id =
            ObjectId { group: String::new(), version: "v1".into(), kind: kind.into(), resource: String::new(), namespace: namespace.into(), name: name.into() };
        Change { id, object, origin: "a.yaml:1".into(), ..Change::default() }
    }

    fn plan(changes: Vec<Change>) -> DeployPlan {
        DeployPlan { set: "shop".into(), namespace: "default".into(), changes, ..DeployPlan::default() }
    }

    fn entry(number: u64, end: End) -> Entry {
        Entry { format_version: FORMAT_VERSION, number, set: "shop".into(), end, ..Entry::default() }
    }

    fn revisions(ends: &[End]) -> Vec<Entry> {
        ends.iter().zip(1..).map(|(end, number)| entry(number, *end)).collect()
    }

    #[test]
    fn a_revision_is_read_as_it_was_written() {
        let plan = plan(vec![
            change("ConfigMap", "default", "a", json!({"kind": "ConfigMap", "data": {"a": "1"}})),
            change("Secret", "default", "own", json!({"kind": "Secret", "data": {"password": "b3du"}})),
            change("Secret", "pay", "card", json!({"kind": "Secret", "stringData": {"number": "hunter2"}})),
        ]);
        let entry = entry(7, End::Deployed);
        let mut secrets = encode(&entry, &plan).expect("written");
        assert_eq!(secrets.len(), 1);
        secrets.extend(encode_values(&entry, &plan).expect("written"));
        assert_eq!(secrets[1]["metadata"]["namespace"], "pay");
        assert!(secrets.iter().all(|secret| secret["type"] == TYPE && number_of(secret) == Some(7)));
        let found = entries(&secrets);
        assert_eq!((found.len(), found[0].number, found[0].parts), (1, 7, 1));
        assert_eq!(decode(&found[0], "default", &secrets), Ok(plan));
        let lost = decode(&found[0], "default", &secrets[..1]);
        assert_eq!(lost, Err(HistoryError::Values { number: 7, namespace: "pay".into() }));
    }

    #[test]
    fn values_of_another_namespace_are_not_in_the_set_s_own() {
        let plan = plan(vec![change("Secret", "pay", "card", json!({"kind": "Secret", "data": {"number": "aHVudGVyMg=="}}))]);
        let (bare, values) = without_foreign_values(&plan);
        assert!(!serde_json::to_string(&bare).expect("JSON").contains("aHVudGVyMg"));
        assert_eq!(values["pay"]["card"]["data"], json!({"number": "aHVudGVyMg=="}));
        let unpacked: Value = unpack(&data(&encode(&entry(1, End::Open), &plan).expect("written")[0]).expect("data"), 1).expect("JSON");
        assert!(!unpacked.to_string().contains("aHVudGVyMg"), "{unpacked}");
    }

    #[test]
    fn a_large_plan_is_split_and_put_together_again() {
        // Text that does not compress: digests of digests.
        let mut text = String::new();
        let mut digest = Sha256::digest(b"seed");
        while text.len() < 2 * PART_BYTES {
            digest = Sha256::digest(digest);
            text.push_str(&BASE64_STANDARD.encode(digest));
        }
        let plan = plan(vec![change("ConfigMap", "default", "big", json!({"data": {"text": text}}))]);
        let secrets = encode(&entry(2, End::Open), &plan).expect("written");
        assert!(secrets.len() > 1, "{}", secrets.len());
        assert!(secrets.iter().all(|secret| data(secret).is_some_and(|bytes| bytes.len() <= PART_BYTES)));
        let found = entries(&secrets).remove(0);
        assert_eq!(decode(&found, "default", &secrets), Ok(plan));
        assert_eq!(decode(&found, "default", &secrets[..1]), Err(HistoryError::Part { number: 2, part: 2 }));
        let later = Entry { format_version: 9, ..found };
        assert!(matches!(decode(&later, "default", &secrets), Err(HistoryError::Later { found: 9, .. })));
    }

    #[test]
    fn statuses_follow_from_how_revisions_ended() {
        use End::{Deployed, Failed, Open};
        let rows: [(&[End], bool, &[Status]); 5] = [
            (&[Deployed], false, &[Status::Deployed]),
            (&[Deployed, Deployed], false, &[Status::Superseded, Status::Deployed]),
            (&[Deployed, Failed], false, &[Status::Deployed, Status::Failed]),
            (&[Open, Deployed, Open], false, &[Status::Interrupted, Status::Deployed, Status::Interrupted]),
            (&[Open, Deployed, Open], true, &[Status::Interrupted, Status::Deployed, Status::Applying]),
        ];
        for (ends, running, expected) in rows {
            assert_eq!(statuses(&revisions(ends), running), expected, "{ends:?}");
        }
    }

    #[test]
    fn a_rollback_goes_to_what_was_deployed_before() {
        use End::{Deployed, Failed, Open};
        let rows: [(&[End], Option<u64>); 6] = [
            (&[], None),
            (&[Deployed], None),
            (&[Deployed, Deployed], Some(1)),
            (&[Deployed, Deployed, Failed], Some(2)),
            (&[Deployed, Failed, Deployed], Some(1)),
            (&[Deployed, Open, Failed], Some(1)),
        ];
        for (ends, expected) in rows {
            assert_eq!(back(&revisions(ends)).map(|entry| entry.number), expected, "{ends:?}");
        }
        let to_first = |end| {
            let mut revisions = revisions(&[Deployed, Deployed, Deployed, end]);
            revisions[3].back_to = Some(1);
            back(&revisions).map(|entry| entry.number)
        };
        assert_eq!(to_first(Open), Some(1), "one that was interrupted is gone on with");
        assert_eq!((to_first(Failed), to_first(Deployed)), (Some(3), Some(3)));
    }

    #[test]
    fn what_was_deployed_last_is_never_too_old() {
        use End::{Deployed, Failed};
        assert_eq!(outdated(&revisions(&[Deployed; 4]), 3), [1]);
        assert_eq!(outdated(&revisions(&[Deployed, Deployed, Failed, Failed, Failed]), 2), [1, 3]);
        assert_eq!(outdated(&revisions(&[Deployed; 2]), 10), Vec::<u64>::new());
        // Again and again gives the same: what stays is not too old.
        let left: Vec<Entry> = revisions(&[Deployed, Deployed, Failed, Failed, Failed]).into_iter().filter(|entry| [2, 4, 5].contains(&entry.number)).collect();
        assert_eq!(outdated(&left, 2), Vec::<u64>::new());
    }

    #[test]
    fn images_come_with_the_digests_that_ran_and_a_moved_tag_is_pinned() {
        let pod = |image: &str| json!({"kind": "Pod", "spec": {"containers": [{"image": image}], "initContainers": [{"image": "web:1@sha256:aa"}]}});
        let mut plan = plan(vec![change("Pod", "default", "p", pod("nginx:1"))]);
        plan.images.push(ImageEdge { change: ChangeId(0), pointer: "/spec/initContainers/0/image".into(), image: 0 });
        let then = images(&plan, &BTreeMap::from([("nginx:1".to_owned(), "sha256:11".to_owned())]));
        let expected = |reference: &str, digest: &str, built| ImageUse { reference: reference.into(), digest: Some(digest.into()), built };
        assert_eq!(then, [expected("nginx:1", "sha256:11", false), expected("web:1@sha256:aa", "sha256:aa", true)]);
        let mut still = plan.clone();
        pin(&mut still, &then, &then);
        assert_eq!(still, plan, "a tag that means the same stays as it was written");
        pin(&mut plan, &then, &[expected("nginx:1", "sha256:22", false)]);
        assert_eq!(plan.changes[0].object["spec"]["containers"][0]["image"], "nginx:1@sha256:11");
    }

    #[test]
    fn what_a_tag_meant_is_read_from_the_newest_pod() {
        let pod = |time: &str, image: &str, id: &str| {
            json!({
                "metadata": {"creationTimestamp": time},
                "spec": {"containers": [{"name": "a", "image": image}]},
                "status": {"containerStatuses": [{"name": "a", "imageID": id}]},
            })
        };
        let pods = [
            pod("2026-01-02T00:00:00Z", "nginx:1", "docker.io/library/nginx@sha256:22"),
            pod("2026-01-01T00:00:00Z", "nginx:1", "docker.io/library/nginx@sha256:11"),
            pod("2026-01-01T00:00:00Z", "web@sha256:33", "docker.io/library/web@sha256:33"),
            pod("2026-01-01T00:00:00Z", "late:1", ""),
        ];
        assert_eq!(ran(&pods), BTreeMap::from([("nginx:1".to_owned(), "sha256:22".to_owned())]));
    }

    #[test]
    fn the_same_objects_are_the_same_wherever_they_were_written() {
        let one = plan(vec![change("ConfigMap", "default", "a", json!({"a": 1}))]);
        let mut other = one.clone();
        other.changes[0].origin = "b.yaml:9".into();
        assert!(same(&one, &other));
        other.changes[0].object = json!({"a": 2});
        assert!(!same(&one, &other));
    }
}
