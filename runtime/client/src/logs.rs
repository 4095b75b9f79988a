//! What a container said.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::Method;
use http_body_util::BodyExt;

use crate::query::Query;
use crate::{Client, ClientError, Resource};

/// Which part of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogParams {
    /// The container; needed when the pod has several.
    pub container: Option<String>,
    /// Go on as lines come.
    pub follow: bool,
    /// The last so many lines.
    pub tail: Option<u64>,
    /// Lines of the last so many seconds.
    pub since_seconds: Option<i64>,
    /// The container's life before its last restart.
    pub previous: bool,
    /// Each line opens with its time.
    pub timestamps: bool,
}

/// The bytes of a log as they come; pieces need not end where lines do.
pub type LogStream = BoxStream<'static, Result<Bytes, ClientError>>;

impl Client {
    /// The log of a pod's container.
    pub async fn logs(&self, namespace: &str, pod: &str, params: &LogParams) -> Result<LogStream, ClientError> {
        let path = Resource::PODS.path(Some(namespace), Some(pod), Some("log"));
        let mut query = Query::new(path.clone());
        query.set_some("container", params.container.as_deref()).flag("follow", params.follow);
        query.set_some("tailLines", params.tail).set_some("sinceSeconds", params.since_seconds);
        query.flag("previous", params.previous).flag("timestamps", params.timestamps);
        let response = self.open(Method::GET, query.finish(), None).await?;
        Ok(response.into_body().into_data_stream().map_err(move |source| ClientError::Receive { path: path.clone(), source }).boxed())
    }
}
