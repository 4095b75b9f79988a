//! Amounts of resources: what a node has and what a pod asks for.

use std::collections::BTreeMap;

use strake_kinds::Quantity;
use strake_kinds::core::{Container, PodSpec};

/// What a container without a request is taken to need when nodes are compared (never when they are filtered).
const UNASKED_CPU_MILLI: i64 = 100;
const UNASKED_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts by resource. The two that every pod has stand apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    /// Others in whole units: `ephemeral-storage`, `hugepages-2Mi`, `example.com/gpu`.
    pub others: BTreeMap<String, i64>,
}

impl Amounts {
    /// Reads a resource list. What cannot be read counts as nothing: the API refuses it.
    pub fn read(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let Ok(quantity) = strake_words::Quantity::parse(&quantity.0) else { continue };
            let whole = |amount: i128| i64::try_from(amount).unwrap_or(i64::MAX);
            match name.as_str() {
                "cpu" => amounts.cpu_milli = whole(quantity.as_milli()),
                "memory" => amounts.memory_bytes = whole(quantity.as_units()),
                "pods" => {}
                _ => drop(amounts.others.insert(name.clone(), whole(quantity.as_units()))),
            }
        }
        amounts
    }

    /// What a pod asks for: the sum over its containers and side containers or, if more, what its init containers need while
    /// they run, and its overhead.
    pub fn of_pod(spec: &PodSpec) -> Self {
        total(spec, Self::of_container)
    }

    /// As [`Amounts::of_pod`], with a small amount for containers that ask for nothing, so that they too are spread.
    pub fn of_pod_for_comparison(spec: &PodSpec) -> Self {
        total(spec, |container| {
            let mut asked = Self::of_container(container);
            if asked.cpu_milli == 0 {
                asked.cpu_milli = UNASKED_CPU_MILLI;
            }
            if asked.memory_bytes == 0 {
                asked.memory_bytes = UNASKED_MEMORY_BYTES;
            }
            asked
        })
    }

    fn of_container(container: &Container) -> Self {
        let Some(resources) = &container.resources else { return Self::default() };
        let mut asked = Self::read(resources.limits.as_ref());
        let requests = Self::read(resources.requests.as_ref());
        let has = |name: &str| resources.requests.as_ref().is_some_and(|requests| requests.contains_key(name));
        if has("cpu") {
            asked.cpu_milli = requests.cpu_milli;
        }
        if has("memory") {
            asked.memory_bytes = requests.memory_bytes;
        }
        asked.others.extend(requests.others);
        asked
    }

    /// Adds the other amounts.
    pub fn add(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        for (name, amount) in &other.others {
            let sum = self.others.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes the other amounts away.
    pub fn subtract(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_sub(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
        for (name, amount) in &other.others {
            if let Some(sum) = self.others.get_mut(name) {
                *sum = sum.saturating_sub(*amount);
            }
        }
    }

    /// The greater of both, resource by resource.
    fn raise_to(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.max(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        for (name, amount) in &other.others {
            let most = self.others.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }

    /// The names of the resources of which `self` asks for more than `free` has.
    pub(crate) fn exceeding<'a>(&'a self, free: &Self) -> impl Iterator<Item = &'a str> {
        let cpu = (self.cpu_milli > free.cpu_milli && self.cpu_milli > 0).then_some("cpu");
        let memory = (self.memory_bytes > free.memory_bytes && self.memory_bytes > 0).then_some("memory");
        let missing = |name: &str| free.others.get(name).copied().unwrap_or(0);
        let others = self.others.iter().map(move |(name, amount)| (name, *amount, missing(name)));
        let others = others.filter(|(_, amount, free)| *amount > 0 && amount > free).map(|(name, _, _)| name.as_str());
        cpu.into_iter().chain(memory).chain(others.collect::<Vec<_>>())
    }
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let mut side = Amounts::default();
    let mut starting = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        let mut asked = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            side.add(&asked);
            starting.raise_to(&side);
        } else {
            asked.add(&side);
            starting.raise_to(&asked);
        }
    }
    running.add(&side);
    running.raise_to(&starting);
    running.add(&Amounts::read(spec.overhead.as_ref()));
    running
}
