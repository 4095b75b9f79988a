//! The deploy half: objects in the order they may be applied.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A change's place in [`DeployPlan::changes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(pub usize);

/// What names an object in any cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId {
    /// API group; empty is the core group.
    pub group: String,
    /// Version of the group.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Plural resource name, as in the URL.
    pub resource: String,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectId {
    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.to_lowercase();
        if self.namespace.is_empty() { write!(f, "{kind}/{}", self.name) } else { write!(f, "{kind}/{} in {}", self.name, self.namespace) }
    }
}

/// What is to be applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeployPlan {
    /// The name of the set whose objects these are: the inventory's name.
    pub set: String,
    /// The namespace of the inventory and of objects that name none.
    pub namespace: String,
    /// How many revisions stay in the set's history, when the project says it; 0 keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_revisions: Option<usize>,
    /// The objects, each after everything it depends on.
    pub changes: Vec<Change>,
    /// Containers that run an image of the build half.
    pub images: Vec<ImageEdge>,
    /// Hooks that run at other occasions than an apply, in the order in which those of one occasion run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub occasions: Vec<OccasionalHook>,
}

impl DeployPlan {
    /// The same without its objects: copying those is most of the work of copying a plan.
    #[must_use]
    pub fn without_changes(&self) -> DeployPlan {
        DeployPlan {
            set: self.set.clone(),
            namespace: self.namespace.clone(),
            keep_revisions: self.keep_revisions,
            changes: Vec::new(),
            images: self.images.clone(),
            occasions: self.occasions.clone(),
        }
    }
}

/// When a hook runs that is not for an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// Before the set is deleted.
    PreDelete,
    /// After the set was deleted.
    PostDelete,
    /// Before an older revision is applied again.
    PreRollback,
    /// After that one is healthy.
    PostRollback,
    /// After an apply has failed.
    SyncFail,
    /// When somebody asks for it.
    Test,
}

impl Occasion {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Occasion::PreDelete => "pre-delete",
            Occasion::PostDelete => "post-delete",
            Occasion::PreRollback => "pre-rollback",
            Occasion::PostRollback => "post-rollback",
            Occasion::SyncFail => "sync-fail",
            Occasion::Test => "test",
        }
    }
}

/// A hook that runs at another occasion than an apply. It is no member of the set: no apply makes it, and none deletes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OccasionalHook {
    /// When it runs.
    pub when: Occasion,
    /// Those with a lower one run before it.
    pub weight: i64,
    /// The object, with its delete policies.
    pub change: Change,
    /// Its containers that run an image of the build half: JSON pointer, and place in [`crate::BuildPlan::images`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<(String, usize)>,
}

/// One object to apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What it is.
    pub id: ObjectId,
    /// The object as the user wrote it, with namespace and image digests filled in; nothing defaulted.
    pub object: Value,
    /// What must be there before it.
    pub after: Vec<Edge>,
    /// What must be there before it and is not a part of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<External>,
    /// It begins when everything of a lower stage is as it should be. Without waves and hooks all is one stage.
    #[serde(default, skip_serializing_if = "is_first")]
    pub stage: usize,
    /// It is run to its end before or after the rest, and not kept running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// Its pods are replaced step by step, or beside the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<crate::Rollout>,
    /// `file:line` it was written at.
    pub origin: String,
    /// `file:line` of the fields that are most often at fault when its pods do not run, by JSON pointer.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub places: std::collections::BTreeMap<String, String>,
    /// JSON pointers of fields that come from encrypted files: shown nowhere, like the values of Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_first(stage: &usize) -> bool {
    *stage == 0
}

/// How far something must have come before what needs it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It exists.
    #[default]
    Present,
    /// It is healthy.
    Ready,
    /// It has run to its end.
    Complete,
}

impl Wanted {
    /// As it is written in `strake.dev/depends-on`.
    pub fn word(self) -> &'static str {
        match self {
            Wanted::Present => "present",
            Wanted::Ready => "ready",
            Wanted::Complete => "complete",
        }
    }
}

/// A change that comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Edge {
    /// What comes before.
    pub change: ChangeId,
    /// How far it must have come.
    #[serde(default)]
    pub state: Wanted,
}

/// An object of the cluster that is not a part of the plan and must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// The object.
    pub id: ObjectId,
    /// How far it must have come.
    pub state: Wanted,
}

/// What makes an object a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// When it runs in an apply.
    pub phase: Phase,
    /// In which applies it runs.
    pub run: HookRun,
    /// It is deleted once it has succeeded.
    #[serde(default)]
    pub delete_succeeded: bool,
    /// It is deleted once it has failed.
    #[serde(default)]
    pub delete_failed: bool,
}

/// The part of an apply in which a change is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before everything else.
    Before,
    /// With everything else.
    #[default]
    Main,
    /// After everything else is healthy.
    After,
}

/// In which applies a hook runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookRun {
    /// When its definition is not the one that ran to its end last.
    #[default]
    Changed,
    /// Whenever the apply changes something.
    Each,
    /// In the set's first apply.
    Install,
    /// In an apply that changes something, but not in the first.
    Upgrade,
}

/// A container's image that a build produces: the digest is filled in once it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEdge {
    /// The change whose object holds the container.
    pub change: ChangeId,
    /// JSON pointer to the image field.
    pub pointer: String,
    /// Place in [`crate::BuildPlan::images`].
    pub image: usize,
}

impl DeployPlan {
    /// Fills in what the builds gave: `images[n]` is the full reference, with digest, of [`crate::BuildPlan::images`]`[n]`.
    pub fn fill_images(&mut self, images: &[String]) {
        for edge in &self.images {
            let field = self.changes.get_mut(edge.change.0).and_then(|change| change.object.pointer_mut(&edge.pointer));
            if let (Some(field), Some(image)) = (field, images.get(edge.image)) {
                *field = Value::String(image.clone());
            }
        }
        for hook in &mut self.occasions {
            for (pointer, image) in &hook.images {
                if let (Some(field), Some(image)) = (hook.change.object.pointer_mut(pointer), images.get(*image)) {
                    *field = Value::String(image.clone());
                }
            }
        }
    }

    /// Every image of the build half that a container runs, as its place in [`crate::BuildPlan::images`], with the object.
    pub fn runs(&self) -> impl Iterator<Item = (usize, &Change)> {
        let always = self.images.iter().filter_map(|edge| Some((edge.image, self.changes.get(edge.change.0)?)));
        always.chain(self.occasions.iter().flat_map(|hook| hook.images.iter().map(|(_, image)| (*image, &hook.change))))
    }

    /// The objects of the set, and those of hooks for other occasions.
    pub fn all(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().chain(self.occasions.iter().map(|hook| &hook.change))
    }

    /// The same, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Change> {
        self.changes.iter_mut().chain(self.occasions.iter_mut().map(|hook| &mut hook.change))
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, ChangeId, DeployPlan, ImageEdge, ObjectId};
    use serde_json::json;

    #[test]
    fn digests_go_where_the_edges_point() {
        let id = ObjectId { group: String::new(), version: "v1".into(), kind: "Pod".into(), resource: "pods".into(), namespace: "a".into(), name: "b".into() };
        let object = json!({"spec": {"containers": [{"image": "web"}, {"image": "other"}]}});
        let change = Change { id, object, ..Change::default() };
        let edge = ImageEdge { change: ChangeId(0), pointer: "/spec/containers/0/image".into(), image: 0 };
        let mut plan = DeployPlan { changes: vec![change], images: vec![edge], ..DeployPlan::default() };
        plan.fill_images(&["web:latest@sha256:1".to_owned()]);
        assert_eq!(plan.changes[0].object["spec"]["containers"], json!([{"image": "web:latest@sha256:1"}, {"image": "other"}]));
    }
}
