//! Objects as rows: the server knows which columns a kind has.

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{bare, collect};
use crate::query::Query;
use crate::{Client, ClientError, ListParams, Resource};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Rows with their columns.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// Name and priority of each column; 0 is always shown, more only when asked for.
    pub column_definitions: Vec<Column>,
    /// One an object.
    pub rows: Vec<Row>,
    /// `resourceVersion` of the list.
    pub metadata: Value,
}

/// One column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Column {
    /// Its title.
    pub name: String,
    /// 0, or more for wide output.
    pub priority: i32,
}

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Row {
    /// One a column.
    pub cells: Vec<Value>,
    /// The object's metadata.
    pub object: Value,
}

impl Client {
    /// The objects of a namespace (or of all), or one of them, as rows.
    pub async fn table(&self, resource: &Resource, namespace: Option<&str>, name: Option<&str>, params: &ListParams) -> Result<Table, ClientError> {
        let mut query = Query::new(resource.path(namespace, name, None));
        params.fill(&mut query);
        let path = query.finish();
        let plain = bare(&path);
        let response = self.open_as(TABLE, Method::GET, path, None).await?;
        let bytes = collect(plain.clone(), response.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Decode { path: plain, source })
    }
}
