//! `pods/log`: asked of the node, passed on as it comes.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use serde_json::Value;

use crate::meta;
use crate::node::{LogOptions, NodeError};
use crate::server::{ApiServer, Call};
use crate::status::{Answer, Refusal};

/// The container that is meant: the one named, the pod's default one, or its only one.
pub(crate) fn container(pod: &Value, named: Option<&str>) -> Answer<String> {
    let list = |field: &str| pod["spec"][field].as_array().map(Vec::as_slice).unwrap_or_default().to_vec();
    let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
    let regular: Vec<String> = list("containers").iter().map(name).collect();
    let other: Vec<String> = [list("initContainers"), list("ephemeralContainers")].concat().iter().map(name).collect();
    let pod_name = meta::text(pod, "name");
    if let Some(named) = named {
        let known = regular.iter().chain(&other).any(|known| known == named);
        return if known { Ok(named.to_owned()) } else { Err(Refusal::bad_request(format!("container {named} is not valid for pod {pod_name}"))) };
    }
    let preferred = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(preferred) = preferred.filter(|preferred| regular.iter().any(|known| known == preferred)) {
        return Ok(preferred.to_owned());
    }
    match &regular[..] {
        [only] => Ok(only.clone()),
        all => {
            let mut message = format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", all.join(" "));
            if !other.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", other.join(" ")));
            }
            Err(Refusal::bad_request(message))
        }
    }
}

/// Pods that nobody runs yet have neither logs nor processes.
pub(crate) fn placed(pod: &Value) -> Answer<()> {
    match pod["spec"]["nodeName"].as_str() {
        Some(node) if !node.is_empty() => Ok(()),
        _ => Err(Refusal::bad_request(format!("pod {} does not have a host assigned", meta::text(pod, "name")))),
    }
}

/// What a node's refusal means to a client.
pub(crate) fn refusal(error: &NodeError) -> Refusal {
    match error {
        NodeError::NotAvailable { pod, container, reason } => Refusal::bad_request(format!("container {container:?} in pod {pod:?} is {reason}")),
        NodeError::NoPrevious { .. } => Refusal::bad_request(error.to_string()),
        NodeError::CannotRun { .. } | NodeError::Connect { .. } => Refusal::internal(error.to_string()),
        NodeError::UnknownPod { .. } | NodeError::Unreachable { .. } => Refusal::unavailable(error.to_string()),
        NodeError::Stream { source, .. } => Refusal::internal(format!("{error}: {source}")),
    }
}

/// `GET` of a log.
pub(crate) async fn answer(server: &ApiServer, call: &Call) -> Answer {
    let pod = meta::parse(&server.entry(&call.target)?)?;
    let container = container(&pod, call.query.get("container"))?;
    placed(&pod)?;
    let since_time =
        call.query.get("sinceTime").map(|text| text.parse().map_err(|_| Refusal::bad_request(format!("sinceTime: {text:?} is not an RFC 3339 time"))));
    let options = LogOptions {
        container,
        follow: call.query.flag("follow"),
        tail_lines: call.query.number("tailLines")?,
        since_seconds: call.query.number("sinceSeconds")?,
        since_time: since_time.transpose()?,
        previous: call.query.flag("previous"),
        timestamps: call.query.flag("timestamps"),
        limit_bytes: call.query.number("limitBytes")?,
    };
    let stream = server.nodes.logs(&call.target.namespace, &call.target.name, options).await.map_err(|error| refusal(&error))?;
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
