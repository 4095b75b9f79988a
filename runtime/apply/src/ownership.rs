//! Whose an object is, and whose its fields are.

use std::collections::BTreeSet;

use serde_json::Value;
use strake_client::{ClientError, ListParams, Resource};

use crate::{Applier, ApplyError, inventory};

/// The managers that a conflict names, when all of them are what people do by hand: the directory is the truth then, and taking the fields back is what
/// the user means. Controllers (an autoscaler, an injector) are never overruled without being told to.
pub(crate) fn overruled(error: &ClientError) -> Option<Vec<String>> {
    let details = error.status().filter(|_| error.is_conflict())?.details.as_ref()?;
    let manager = |message: &str| message.split('"').nth(1).map(str::to_owned);
    let managers: Option<BTreeSet<String>> = details.causes.iter().map(|cause| manager(&cause.message)).collect();
    let managers = managers.filter(|managers| !managers.is_empty() && managers.iter().all(|name| is_human(name)))?;
    Some(managers.into_iter().collect())
}

/// Tools that people drive by hand.
fn is_human(manager: &str) -> bool {
    ["kubectl", "strake-cli", "k9s", "rancher"].iter().any(|tool| manager == *tool || manager.strip_prefix(tool).is_some_and(|rest| rest.starts_with('-')))
}

impl Applier<'_> {
    /// The set that has the object, when it is another one that still exists: applying would take the object out of it in silence.
    pub(crate) async fn other_owner(&self, live: Option<&Value>) -> Result<Option<String>, ApplyError> {
        let own = self.set_id();
        let Some(other) = live.and_then(inventory::set_of).filter(|set| *set != own && !self.options.force_conflicts) else { return Ok(None) };
        let parents = self.client.list(&Resource::SECRETS, None, &ListParams::labels(inventory::parent_selector(other))).await;
        let parents = parents.map_err(|source| ApplyError::Read { what: "inventories".to_owned(), source })?;
        Ok(parents.items.iter().find_map(|parent| inventory::set_name(parent).map(str::to_owned)))
    }
}

#[cfg(test)]
mod tests {
    use super::is_human;

    #[test]
    fn people_are_overruled_and_controllers_are_not() {
        for human in ["kubectl", "kubectl-client-side-apply", "kubectl-edit", "strake-cli", "k9s"] {
            assert!(is_human(human), "{human}");
        }
        for controller in ["kube-controller-manager", "horizontal-pod-autoscaler", "strake", "strake-controller-manager", "kubectlish"] {
            assert!(!is_human(controller), "{controller}");
        }
    }
}
