//! Listing a collection.

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::query::Query;
use crate::{Client, ClientError, Resource};

/// Which objects a list or a watch is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListParams {
    /// `app=web,tier in (a,b)`.
    pub label_selector: Option<String>,
    /// `spec.nodeName=n,status.phase!=Failed`.
    pub field_selector: Option<String>,
    /// At most so many objects a request; [`Client::list`] goes on until it has all.
    pub limit: Option<u32>,
}

impl ListParams {
    /// Everything.
    pub fn all() -> ListParams {
        ListParams::default()
    }

    /// Objects with these labels.
    pub fn labels(selector: impl Into<String>) -> ListParams {
        ListParams { label_selector: Some(selector.into()), ..ListParams::default() }
    }

    /// Objects with these fields.
    pub fn fields(selector: impl Into<String>) -> ListParams {
        ListParams { field_selector: Some(selector.into()), ..ListParams::default() }
    }

    pub(crate) fn fill(&self, query: &mut Query) {
        query.set_some("labelSelector", self.label_selector.as_deref());
        query.set_some("fieldSelector", self.field_selector.as_deref());
    }
}

/// A collection at a revision.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Its objects, each with `apiVersion` and `kind`.
    pub items: Vec<Value>,
    /// Where a watch may begin.
    pub resource_version: String,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    // An empty Go slice may arrive as null.
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

impl Client {
    /// The objects of a namespace, or of all of them.
    ///
    /// # Errors
    /// [`ClientError::Api`] with code 410 when the collection changed too much between two pages: list again.
    pub async fn list(&self, resource: &Resource, namespace: Option<&str>, params: &ListParams) -> Result<List, ClientError> {
        let mut list = List::default();
        let mut next = None::<String>;
        loop {
            let mut query = Query::new(resource.path(namespace, None, None));
            params.fill(&mut query);
            query.set_some("limit", params.limit).set_some("continue", next.take());
            let page: Page = self.json(Method::GET, query.finish(), None).await?;
            list.items.extend(page.items.unwrap_or_default());
            list.resource_version = page.metadata.resource_version;
            if page.metadata.next.is_empty() {
                break;
            }
            next = Some(page.metadata.next);
        }
        // Items of a typed list do not repeat what they are.
        for object in list.items.iter_mut().filter_map(Value::as_object_mut) {
            object.entry("apiVersion").or_insert_with(|| resource.api_version().into());
            object.entry("kind").or_insert_with(|| resource.kind.to_string().into());
        }
        Ok(list)
    }
}
