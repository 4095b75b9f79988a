//! Which resource a path names.

use std::borrow::Cow;

use strake_kinds::KindInfo;

/// A path below `/api` or `/apis`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: &'static KindInfo,
    /// Empty for cluster-scoped objects and for "all namespaces".
    pub(crate) namespace: String,
    /// Empty for the collection.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

/// Whether this server serves objects of the kind. Events are kept in the core group's form only.
pub(crate) fn served(kind: &KindInfo) -> bool {
    kind.supported && kind.group != "events.k8s.io" && kind.verbs.contains(&"get")
}

/// The kinds that this server serves.
pub(crate) fn served_kinds() -> impl Iterator<Item = &'static KindInfo> {
    strake_kinds::table().iter().filter(|kind| served(kind))
}

/// A kind that this program cannot be without.
pub(crate) fn builtin(kind: &str) -> &'static KindInfo {
    served_kinds().find(|info| info.kind == kind).expect("the kinds that this server names itself are in the table")
}

fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    // A plus is itself in a path, unlike in a form.
    let escaped = format!("x={}", segment.replace('+', "%2B"));
    let value = form_urlencoded::parse(escaped.as_bytes()).next().map(|(_, value)| value.into_owned());
    Cow::Owned(value.unwrap_or_default())
}

impl Target {
    /// Takes a path apart. `None` when no resource of ours is named.
    pub(crate) fn parse(path: &str) -> Option<Target> {
        let mut segments = path.strip_prefix('/')?.trim_end_matches('/').split('/');
        let (group, version) = match segments.next()? {
            "api" => ("", segments.next()?),
            "apis" => (segments.next()?, segments.next()?),
            _ => return None,
        };
        let rest: Vec<Cow<'_, str>> = segments.map(decoded).collect();
        let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
        let find = |plural: &str| strake_kinds::by_resource(group, version, plural).filter(|kind| served(kind));
        let own = |kind, namespace: &str, name: &str, subresource: &str| {
            Some(Target { kind, namespace: namespace.to_owned(), name: name.to_owned(), subresource: subresource.to_owned() })
        };
        match rest[..] {
            ["namespaces", namespace, plural] if find(plural).is_some_and(|kind| kind.namespaced) => own(find(plural)?, namespace, "", ""),
            ["namespaces", namespace, plural, name] if find(plural).is_some_and(|kind| kind.namespaced) => own(find(plural)?, namespace, name, ""),
            ["namespaces", namespace, plural, name, subresource] => own(find(plural).filter(|kind| kind.namespaced)?, namespace, name, subresource),
            [plural] => own(find(plural)?, "", "", ""),
            [plural, name] => own(find(plural).filter(|kind| !kind.namespaced)?, "", name, ""),
            [plural, name, subresource] => own(find(plural).filter(|kind| !kind.namespaced)?, "", name, subresource),
            _ => None,
        }
    }

    /// Where the state keeps the object.
    pub(crate) fn key(&self) -> String {
        key(self.kind, &self.namespace, &self.name)
    }

    /// The prefix of everything the target may mean.
    pub(crate) fn prefix(&self) -> String {
        prefix(self.kind, &self.namespace)
    }
}

/// The state's key of an object: `group/resource/namespace/name`, with `core` for the core group and no namespace where there is none.
pub(crate) fn key(kind: &KindInfo, namespace: &str, name: &str) -> String {
    let mut key = prefix(kind, namespace);
    key.push_str(name);
    key
}

/// The prefix of the keys of a kind, in a namespace or in all.
pub(crate) fn prefix(kind: &KindInfo, namespace: &str) -> String {
    let group = if kind.group.is_empty() { "core" } else { kind.group };
    if namespace.is_empty() || !kind.namespaced { format!("{group}/{}/", kind.plural) } else { format!("{group}/{}/{namespace}/", kind.plural) }
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn show(path: &str) -> String {
        match Target::parse(path) {
            Some(target) => format!("{} ns={} name={} sub={} key={}", target.kind.kind, target.namespace, target.name, target.subresource, target.key()),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn paths() {
        assert_eq!(show("/api/v1/pods"), "Pod ns= name= sub= key=core/pods/");
        assert_eq!(show("/api/v1/namespaces"), "Namespace ns= name= sub= key=core/namespaces/");
        assert_eq!(show("/api/v1/namespaces/a"), "Namespace ns= name=a sub= key=core/namespaces/a");
        assert_eq!(show("/api/v1/namespaces/a/status"), "Namespace ns= name=a sub=status key=core/namespaces/a");
        assert_eq!(show("/api/v1/namespaces/a/finalize"), "Namespace ns= name=a sub=finalize key=core/namespaces/a");
        assert_eq!(show("/api/v1/namespaces/a/pods"), "Pod ns=a name= sub= key=core/pods/a/");
        assert_eq!(show("/api/v1/namespaces/a/pods/b/log"), "Pod ns=a name=b sub=log key=core/pods/a/b");
        assert_eq!(show("/apis/apps/v1/namespaces/a/deployments/b/scale"), "Deployment ns=a name=b sub=scale key=apps/deployments/a/b");
        assert_eq!(show("/api/v1/nodes/n%2D1/status"), "Node ns= name=n-1 sub=status key=core/nodes/n-1");
        for path in ["/api/v1/pods/b", "/api/v1/unknowns", "/apis/apps/v2/deployments", "/api/v1/namespaces/a/nodes/b", "/version", "/api/v1"] {
            assert_eq!(show(path), "none", "{path}");
        }
    }
}
