//! Creating, replacing, patching, deleting.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::query::Query;
use crate::{Client, ClientError, Resource};

const JSON: &str = "application/json";

/// How a write is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteParams {
    /// Validate and answer, but change nothing.
    pub dry_run: bool,
    /// Fields that the server does not know, and fields given twice, are refused instead of dropped. Servers before 1.25 do not know how.
    pub strict: bool,
    /// Who writes; kept in `managedFields`. [`Patch::Apply`] brings its own.
    pub field_manager: Option<String>,
}

impl WriteParams {
    /// A write under this name.
    pub fn manager(name: impl Into<String>) -> WriteParams {
        WriteParams { field_manager: Some(name.into()), ..WriteParams::default() }
    }

    fn fill(&self, query: &mut Query) {
        query.set_some("dryRun", self.dry_run.then_some("All"));
        query.set_some("fieldValidation", self.strict.then_some("Strict"));
        query.set_some("fieldManager", self.field_manager.as_deref());
    }
}

/// A change of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// RFC 6902: an array of operations.
    Json(Value),
    /// RFC 7386: a partial object, null removes.
    Merge(Value),
    /// Kubernetes' own: lists merge by their keys.
    Strategic(Value),
    /// Server-side apply: the object as this manager wants it. Creates it where it is missing.
    Apply {
        /// The complete intent, with apiVersion, kind and name.
        object: Value,
        /// The field manager.
        manager: String,
        /// Take fields that other managers own instead of failing with a conflict.
        force: bool,
    },
}

/// What becomes of the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay.
    Orphan,
}

/// How a delete is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteParams {
    /// What becomes of owned objects; `None` leaves it to the server (Background).
    pub propagation: Option<Propagation>,
    /// Seconds that a pod may take to stop; 0 removes it at once.
    pub grace_seconds: Option<i64>,
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Validate and answer, but change nothing.
    pub dry_run: bool,
}

impl DeleteParams {
    fn body(&self) -> Value {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(propagation) = self.propagation {
            options["propagationPolicy"] = format!("{propagation:?}").into();
        }
        if let Some(seconds) = self.grace_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(uid) = &self.uid {
            options["preconditions"] = json!({ "uid": uid });
        }
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options
    }
}

fn encode(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

impl Client {
    /// Creates an object and gives what the server made of it.
    pub async fn create(&self, resource: &Resource, namespace: Option<&str>, object: &Value, params: &WriteParams) -> Result<Value, ClientError> {
        let mut query = Query::new(resource.path(namespace, None, None));
        params.fill(&mut query);
        self.json(Method::POST, query.finish(), Some((JSON, encode(object)))).await
    }

    /// Creates a subresource of `name`: `binding`, `eviction`, `token`.
    pub async fn create_subresource(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, ClientError> {
        let path = resource.path(namespace, Some(name), Some(subresource));
        self.json(Method::POST, path, Some((JSON, encode(object)))).await
    }

    /// Replaces the object of the same name, or its `subresource`. If it carries a resourceVersion, only that version is replaced.
    pub async fn replace(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
        subresource: Option<&str>,
        params: &WriteParams,
    ) -> Result<Value, ClientError> {
        let mut query = Query::new(resource.path(namespace, Some(name_of(object)), subresource));
        params.fill(&mut query);
        self.json(Method::PUT, query.finish(), Some((JSON, encode(object)))).await
    }

    /// Changes an object, or its `subresource`.
    pub async fn patch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        patch: &Patch,
        subresource: Option<&str>,
        params: &WriteParams,
    ) -> Result<Value, ClientError> {
        let mut query = Query::new(resource.path(namespace, Some(name), subresource));
        let (kind, body) = match patch {
            Patch::Json(operations) => ("application/json-patch+json", operations),
            Patch::Merge(partial) => ("application/merge-patch+json", partial),
            Patch::Strategic(partial) => ("application/strategic-merge-patch+json", partial),
            Patch::Apply { object, manager, force } => {
                let params = WriteParams { field_manager: Some(manager.clone()), ..params.clone() };
                params.fill(&mut query);
                query.set("force", if *force { "true" } else { "false" });
                ("application/apply-patch+yaml", object)
            }
        };
        if !matches!(patch, Patch::Apply { .. }) {
            params.fill(&mut query);
        }
        self.json(Method::PATCH, query.finish(), Some((kind, encode(body)))).await
    }

    /// Deletes an object. Gives the object while it is still there (it has finalizers or a grace period), or a Status.
    pub async fn delete(&self, resource: &Resource, namespace: Option<&str>, name: &str, params: &DeleteParams) -> Result<Value, ClientError> {
        let path = resource.path(namespace, Some(name), None);
        self.json(Method::DELETE, path, Some((JSON, encode(&params.body())))).await
    }
}
