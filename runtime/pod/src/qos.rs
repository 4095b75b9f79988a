//! The quality-of-service class that a pod's requests and limits give it.

use std::collections::BTreeMap;

use strake_kinds::Quantity;
use strake_kinds::core::{Container, PodSpec};

type Amounts = BTreeMap<String, Quantity>;

/// The class of a pod: `Guaranteed`, `Burstable` or `BestEffort`. Only cpu and memory count.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    if containers().all(is_guaranteed) && containers().next().is_some() {
        "Guaranteed"
    } else if containers().any(has_amounts) {
        "Burstable"
    } else {
        "BestEffort"
    }
}

fn has_amounts(container: &Container) -> bool {
    let Some(resources) = &container.resources else { return false };
    [&resources.requests, &resources.limits].into_iter().flatten().any(|amounts| ["cpu", "memory"].iter().any(|name| positive(amounts, name).is_some()))
}

/// Both limits are set, and the requests are the same or left to follow from them.
fn is_guaranteed(container: &Container) -> bool {
    let Some(resources) = &container.resources else { return false };
    ["cpu", "memory"].iter().all(|name| {
        let limit = resources.limits.as_ref().and_then(|limits| positive(limits, name));
        let request = resources.requests.as_ref().and_then(|requests| positive(requests, name));
        limit.is_some() && (request.is_none() || request == limit)
    })
}

/// The amount in thousandths, if it is there, readable and not zero.
fn positive(amounts: &Amounts, name: &str) -> Option<i128> {
    let amount = strake_words::Quantity::parse(&amounts.get(name)?.0).ok()?.as_milli();
    (amount > 0).then_some(amount)
}
