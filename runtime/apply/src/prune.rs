//! Takes away what left the set.

use std::collections::BTreeSet;

use serde_json::Value;
use strake_client::{DeleteParams, ListParams, Resource};
use strake_kinds::KindInfo;
use strake_plan::ObjectId;

use crate::applier::{namespace, resource};
use crate::inventory::{self, Scope};
use crate::{Applier, ApplyError, Event, Report};

/// Deletions beyond this share of the set (and more than [`FREE_DELETIONS`]) need consent.
const MASS_DELETE_PERCENT: usize = 30;
const FREE_DELETIONS: usize = 5;

/// The resource of `Kind.group`, among the kinds strake knows.
fn resource_of_group_kind(text: &str) -> Option<Resource> {
    let (kind, group) = text.split_once('.').unwrap_or((text, ""));
    let found: &KindInfo = strake_kinds::table().iter().find(|row| row.kind == kind && row.group == group)?;
    Some(Resource::new(found.group, found.version, found.plural, found.kind, found.namespaced))
}

impl Applier<'_> {
    /// Members of the set that are no longer in the plan.
    pub(crate) async fn orphans(&self, scope: &Scope, report: &Report) -> Result<Vec<(ObjectId, Value, Resource)>, ApplyError> {
        let applied: BTreeSet<&str> = report.applied.iter().filter_map(|applied| applied.object["metadata"]["uid"].as_str()).collect();
        let planned: BTreeSet<(String, &str, &str)> =
            self.plan.changes.iter().map(|change| (inventory::group_kind(&change.id), change.id.namespace.as_str(), change.id.name.as_str())).collect();
        let members = self.members(scope).await?;
        let gone = |(id, member, _): &(ObjectId, Value, Resource)| {
            let uid = member["metadata"]["uid"].as_str().unwrap_or_default();
            !applied.contains(uid) && !planned.contains(&(inventory::group_kind(id), id.namespace.as_str(), id.name.as_str()))
        };
        Ok(members.into_iter().filter(gone).collect())
    }

    /// Everything that carries the set's label.
    pub(crate) async fn members(&self, scope: &Scope) -> Result<Vec<(ObjectId, Value, Resource)>, ApplyError> {
        let params = ListParams { label_selector: Some(format!("{}={}", inventory::PART_OF, self.set_id())), ..ListParams::default() };
        let mut members = Vec::new();
        for group_kind in &scope.group_kinds {
            let planned = || self.plan.changes.iter().map(|change| &change.id).find(|id| inventory::group_kind(id) == *group_kind).map(resource);
            let Some(resource) = resource_of_group_kind(group_kind).or_else(planned) else {
                // What such a kind's resource is called only its definition says.
                tracing::warn!("objects of kind {group_kind} that left the set are not looked for: strake does not know this kind; delete them by hand");
                continue;
            };
            let listed = self.client.list(&resource, None, &params).await;
            let items = match listed {
                Ok(list) => list.items,
                Err(error) if error.is_not_found() => continue,
                Err(source) => return Err(ApplyError::Read { what: group_kind.clone(), source }),
            };
            for item in items {
                let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
                let id = ObjectId {
                    group: resource.group.to_string(),
                    version: resource.version.to_string(),
                    kind: resource.kind.to_string(),
                    resource: resource.plural.to_string(),
                    namespace: if resource.namespaced { text("namespace") } else { String::new() },
                    name: text("name"),
                };
                members.push((id, item, resource.clone()));
            }
        }
        Ok(members)
    }

    pub(crate) async fn prune(&self, orphans: Vec<(ObjectId, Value, Resource)>, report: &mut Report) -> Result<(), ApplyError> {
        let mut doomed = Vec::new();
        for (id, member, resource) in orphans {
            match inventory::protected(&member) {
                Some(reason) => report.kept.push((id, reason.to_owned())),
                None => doomed.push((id, member, resource)),
            }
        }
        let total = doomed.len() + self.plan.changes.len();
        if doomed.len() > FREE_DELETIONS && doomed.len() * 100 > total * MASS_DELETE_PERCENT && !self.options.allow_mass_delete {
            return Err(ApplyError::MassDelete { pruned: doomed.len(), total });
        }
        for (id, member, resource) in doomed {
            self.delete(&id, &member, &resource).await?;
            (self.events)(Event::Pruned { id: id.clone() });
            report.pruned.push(id);
        }
        Ok(())
    }

    /// Deletes exactly this object, not one of the same name made since.
    pub(crate) async fn delete(&self, id: &ObjectId, member: &Value, resource: &Resource) -> Result<(), ApplyError> {
        let params = DeleteParams { uid: member["metadata"]["uid"].as_str().map(str::to_owned), ..Default::default() };
        match self.client.delete(resource, namespace(id), &id.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(source) => Err(ApplyError::Delete { object: id.to_string(), source }),
        }
    }
}
