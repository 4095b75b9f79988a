//! The deploy half: objects in the order they may be applied.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A change's place in [`DeployPlan::changes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(pub usize);

/// What names an object in any cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The objects, each after everything it depends on.
    pub changes: Vec<Change>,
    /// Containers that run an image of the build half.
    pub images: Vec<ImageEdge>,
}

/// One object to apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What it is.
    pub id: ObjectId,
    /// The object as the user wrote it, with namespace and image digests filled in; nothing defaulted.
    pub object: Value,
    /// Changes that must be applied before: places in [`DeployPlan::changes`].
    pub after: Vec<ChangeId>,
    /// `file:line` it was written at.
    pub origin: String,
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
        let change = Change { id, object, after: Vec::new(), origin: String::new() };
        let edge = ImageEdge { change: ChangeId(0), pointer: "/spec/containers/0/image".into(), image: 0 };
        let mut plan = DeployPlan { changes: vec![change], images: vec![edge], ..DeployPlan::default() };
        plan.fill_images(&["web:latest@sha256:1".to_owned()]);
        assert_eq!(plan.changes[0].object["spec"]["containers"], json!([{"image": "web:latest@sha256:1"}, {"image": "other"}]));
    }
}
