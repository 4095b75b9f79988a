//! Questions about oneself: who am I, what may I do. Whoever passed the door of this cluster is its administrator.

use axum::body::Body;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};
use strake_kinds::KindInfo;

use crate::body;
use crate::server::Identity;
use crate::status::{Answer, Refusal, json_response};

const KINDS: [(&str, &str); 3] =
    [("authentication.k8s.io", "SelfSubjectReview"), ("authorization.k8s.io", "SelfSubjectAccessReview"), ("authorization.k8s.io", "SelfSubjectRulesReview")];

/// The kinds that can only be asked, for discovery.
pub(crate) fn kinds() -> impl Iterator<Item = &'static KindInfo> {
    strake_kinds::table().iter().filter(|kind| KINDS.contains(&(kind.group, kind.kind)) && kind.version == "v1")
}

/// Answers a `POST` to a path that names no kept resource.
pub(crate) async fn answer(path: &str, parts: &Parts, body: Body) -> Answer {
    let kind = kinds().find(|kind| path == format!("/apis/{}/{}/{}", kind.group, kind.version, kind.plural)).ok_or_else(Refusal::no_route)?;
    let bytes = body::bytes(body).await?;
    let (mut review, _) = body::any(&parts.headers, &bytes)?;
    body::identify(kind, &mut review)?;
    let identity = parts.extensions.get::<Identity>().cloned().unwrap_or_default();
    review["status"] = match kind.kind {
        "SelfSubjectReview" => json!({"userInfo": {"username": identity.name, "groups": identity.groups}}),
        "SelfSubjectAccessReview" => json!({"allowed": true, "reason": "the client is an administrator of this cluster"}),
        _ => rules(),
    };
    Ok(json_response(StatusCode::CREATED, &review))
}

fn rules() -> Value {
    json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": false,
    })
}
